"""Patches or points that match, on a page: a query and an answer side by side, with lines between them.

Legend: L lines, S patch sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import PhotoError
from dejavlad.images import read_size
from dejavlad.photo import Photo
from dejavlad.report.figures.lines import COLOURS, shown_matches
from dejavlad.report.lists import filter_choices, shown_part
from dejavlad.report.page import Section
from dejavlad.report.thumbnails import TALLEST, WIDEST, Thumbnails
from dejavlad.rerank import PatchMatch

MOST_PAIRS = 80
"""Pairs shown, at most."""
LINES = 36
"""Lines drawn between two photos, at most."""
HEIGHT, GAP = 300, 14
"""Of the drawing, in its own units."""
STATES = {"wrong": "Wrong answers", "right": "Right answers", "open": "Not judged"}
"""What a pair can be, in the order in which they are shown."""


@dataclass(frozen=True, slots=True, eq=False)
class ShownMatch:
    """A query and one of its answers, and how their patches match."""

    query: Photo
    answer: Photo
    right: bool | None
    """Whether the answer is right; None where that is not known."""
    matches: Sequence[PatchMatch]
    """[S], the query's points and the answer's in pixels of the prepared photos."""
    prepared_query: tuple[int, int]
    """Height and width of the query, prepared."""
    prepared_answer: tuple[int, int]
    """Height and width of the answer, prepared."""
    score: float
    """By which the answers were ordered; smaller is better."""
    sizes: Sequence[int] = ()
    """[S] sides of the patches, in cells; empty where not known."""
    counts: Sequence[int] = ()
    """[S] patches of the query; empty where not known."""
    rank: int | None = None
    """Of the answer, from 1; None where not known."""
    noun: str = "patch"
    """What matches: ``patch`` or ``point``, all of it in the one entry of `matches`."""

    @property
    def state(self) -> str:
        """One of `STATES`."""
        return "open" if self.right is None else "right" if self.right else "wrong"


@dataclass(frozen=True, slots=True)
class Card:
    """A pair as it is drawn: both photos at one height, with lines between matching patches of one size."""

    pair: ShownMatch
    width: int
    """Of the drawing, in its own units."""
    photos: list[tuple[int, int, Photo]]
    """Left edge and width of the query and of the answer."""
    n_lines: int
    """Lines that lie within what is shown of both photos."""
    n_drawn: int
    """Lines chosen."""
    paths: list[tuple[str, str]]
    """Class and path of what is drawn over the photos."""
    sizes: list[tuple[str, bool]]
    """How many patches of each size match, in words, and which size is drawn; empty where nothing matches."""
    height: int = HEIGHT


def matches_section(
    pairs: Sequence[ShownMatch], thumbnails: Thumbnails, *, most: int = MOST_PAIRS
) -> Section | None:
    """The pairs, wrong ones first, as many as the budget of thumbnails allows; None where there are none.

    Args:
        pairs: of each state the first ones are shown if not all can be.
        thumbnails: takes the photos in, and says when the budget is spent.
        most: pairs shown, at most.
    """
    by_state = {state: [pair for pair in pairs if pair.state == state] for state in STATES}
    shown: dict[str, list[ShownMatch]] = {state: [] for state in STATES}
    for turn in range(max(map(len, by_state.values()))):
        for state, alike in by_state.items():
            room = sum(map(len, shown.values())) < most
            if room and turn < len(alike) and thumbnails.admit([alike[turn].query, alike[turn].answer]):
                shown[state].append(alike[turn])
    cards = [_card(pair) for alike in shown.values() for pair in alike]
    if not cards:
        return None
    states = [card.pair.state for card in cards]
    return Section.of(
        "matches",
        "Patch matches" if cards[0].pair.noun == "patch" else "Points that match",
        "shared",
        cards=cards,
        noun=cards[0].pair.noun,
        nouns="patches" if cards[0].pair.noun == "patch" else "points",
        choices=filter_choices(states, STATES),
        judged=set(states) != {"open"},
        part=shown_part(len(cards), len(pairs), "pair"),
        thumbnails=thumbnails,
    )


def _card(pair: ShownMatch) -> Card:
    first, second = _Shape.of(pair.query), _Shape.of(pair.answer)
    left, drawn = first.width + GAP, _drawn_size(pair)
    paths: list[tuple[str, str]] = []
    n_lines, sizes = 0, []
    if drawn is not None:
        shares_L4, colours_L = shown_matches(
            pair.matches[drawn], pair.prepared_query, pair.prepared_answer, LINES
        )
        ends_L4 = np.concatenate([first.place(shares_L4[:, :2]), second.place(shares_L4[:, 2:])], axis=1)
        ends_L4[:, 2] += left
        seen_L = first.seen(ends_L4[:, :2]) & second.seen(ends_L4[:, 2:] - [left, 0])
        paths, n_lines = _paths(ends_L4[seen_L], colours_L[seen_L]), int(seen_L.sum())
        sizes = [(_size_text(pair, i), i == drawn) for i in range(len(pair.matches))]
    return Card(
        pair,
        left + second.width,
        [(0, first.width, pair.query), (left, second.width, pair.answer)],
        n_lines,
        0 if drawn is None else min(LINES, len(pair.matches[drawn].query_points)),
        paths,
        sizes,
    )


@dataclass(frozen=True, slots=True)
class _Shape:
    """The shape of a thumbnail in the drawing: of a very wide or high photo the middle is shown."""

    aspect: float
    """Width over height of the photo."""

    @classmethod
    def of(cls, photo: Photo) -> _Shape:
        try:
            height, width = read_size(photo)
        except PhotoError:
            return cls(1.5)  # the empty tile's
        return cls(width / height)

    @property
    def width(self) -> int:
        return round(HEIGHT * min(max(self.aspect, TALLEST), WIDEST))

    def place(self, shares_L2: NDArray[np.float64]) -> NDArray[np.float64]:
        """[L, 2] shares of the photo's sides as x and y of the drawing."""
        shown = np.array([min(1.0, WIDEST / self.aspect), min(1.0, self.aspect / TALLEST)])
        placed: NDArray[np.float64] = ((shares_L2 - 0.5) / shown + 0.5) * [self.width, HEIGHT]
        return placed

    def seen(self, placed_L2: NDArray[np.float64]) -> NDArray[np.bool_]:
        """[L] whether that is within what is shown."""
        inside_L2 = (placed_L2 >= 0) & (placed_L2 <= np.array([self.width, HEIGHT]))
        return np.asarray(inside_L2.all(axis=1))


def _paths(ends_L4: NDArray[np.float64], colours_L: NDArray[np.int64]) -> list[tuple[str, str]]:
    """One path a colour: lines over a soft dark edge, and a dot at each end."""
    if not len(ends_L4):
        return []
    lines = [f"M{a:.1f} {b:.1f}L{c:.1f} {d:.1f}" for a, b, c, d in ends_L4.tolist()]
    dots = [f"M{a:.1f} {b:.1f}h0M{c:.1f} {d:.1f}h0" for a, b, c, d in ends_L4.tolist()]

    def coloured(style: str, parts: list[str]) -> list[tuple[str, str]]:
        rows = [(colour, np.flatnonzero(colours_L == colour).tolist()) for colour in range(len(COLOURS))]
        return [(f"{style} c{colour}", "".join(parts[i] for i in alike)) for colour, alike in rows if alike]

    return [
        ("l-edge", "".join(lines)),
        *coloured("l-line", lines),
        ("l-ring", "".join(dots)),
        *coloured("l-dot", dots),
    ]


def _drawn_size(pair: ShownMatch) -> int | None:
    """The size to draw: that with the largest share of matching patches; None where nothing matches."""
    shares = [
        len(match.query_points) / (pair.counts[i] if i < len(pair.counts) else 1)
        for i, match in enumerate(pair.matches)
    ]
    return int(np.argmax(shares)) if any(shares) else None


def _size_text(pair: ShownMatch, i: int) -> str:
    size = f"size {pair.sizes[i]}: " if i < len(pair.sizes) else ""
    total = f" of {pair.counts[i]:,}" if i < len(pair.counts) else ""
    return f"{size}{len(pair.matches[i].query_points):,}{total}"
