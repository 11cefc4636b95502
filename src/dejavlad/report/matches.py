"""Patches that match, on a page: a query and an answer side by side, with lines between them.

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
from dejavlad.report.gallery import filter_tools
from dejavlad.report.match_lines import COLOURS, shown_matches
from dejavlad.report.page import Section
from dejavlad.report.text import count, escape, label
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
    """[S] sides of the patches, in cells; told where given."""
    counts: Sequence[int] = ()
    """[S] patches of the query; told where given."""
    rank: int | None = None
    """Of the answer, from 1; told where given."""

    @property
    def state(self) -> str:
        """One of `STATES`."""
        return "open" if self.right is None else "right" if self.right else "wrong"


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
        for state, held in by_state.items():
            room = sum(map(len, shown.values())) < most
            if room and turn < len(held) and thumbnails.admit([held[turn].query, held[turn].answer]):
                shown[state].append(held[turn])
    drawn = [pair for held in shown.values() for pair in held]
    if not drawn:
        return None
    cards = "\n".join(_card(pair, f"m{i}", thumbnails) for i, pair in enumerate(drawn))
    choices = [("", f"All {len(drawn)}")]
    there = {state: len(held) for state, held in shown.items() if held}
    if len(there) > 1:
        choices += [(state, f"{STATES[state]} {held}") for state, held in there.items()]
    tools = filter_tools("matches-tools", choices, "pairs") if len(drawn) > 3 else ""
    listed = ' data-list="matches-tools"' if tools else ""
    lead = (
        "Each line joins a patch of the query, on the left, to the patch of the answer that it matches; "
        "re-ranking counts how many of them agree on where the camera stood."
    )
    if not set(there) <= {"open"}:
        lead += " The frame of the answer is green where it is right, red where it is wrong."
    if len(drawn) < len(pairs):
        lead += f" To keep this file small it shows {len(drawn):,} of {len(pairs):,} pairs."
    return Section("matches", "Patch matches", f'{tools}<div class="twins"{listed}>\n{cards}\n</div>', lead)


def match_svg(pair: ShownMatch, thumbnails: Thumbnails, at: int) -> str:
    """Both photos at one height, with lines between the matching patches of one size.

    Args:
        pair: its photos are admitted to `thumbnails`.
        thumbnails: hold the photos.
        at: which of ``pair.matches``; -1 draws no lines.
    """
    first, second = _Look.of(pair.query), _Look.of(pair.answer)
    left = first.width + GAP
    width = left + second.width
    lines, drawn = "", 0
    if at >= 0:
        shares_L4, colours_L = shown_matches(
            pair.matches[at], pair.prepared_query, pair.prepared_answer, LINES
        )
        ends_L4 = np.concatenate([first.place(shares_L4[:, :2]), second.place(shares_L4[:, 2:])], axis=1)
        ends_L4[:, 2] += left
        seen_L = first.seen(ends_L4[:, :2]) & second.seen(ends_L4[:, 2:] - [left, 0])
        lines, drawn = _lines(ends_L4[seen_L], colours_L[seen_L]), int(seen_L.sum())
    frame = {"right": "f-good", "wrong": "f-bad", "open": ""}[pair.state]
    framed = (
        f'<rect class="frame-of {frame}" x="{left + 2}" y="2" width="{second.width - 4}" '
        f'height="{HEIGHT - 4}" rx="9"/>'
        if frame
        else ""
    )
    names = f"{pair.query.key[:100]} and {pair.answer.key[:100]}"
    told = escape(f"{count(drawn, 'line')} between matching patches of {names}")
    photos = "".join(
        f'<foreignObject x="{x}" width="{look.width}" height="{HEIGHT}">{thumbnails.show(of)}</foreignObject>'
        for x, look, of in ((0, first, pair.query), (left, second, pair.answer))
    )
    return (
        f'<svg class="twin" viewBox="0 0 {width} {HEIGHT}" role="img" aria-label="{told}">'
        f"{photos}{framed}{lines}</svg>"
    )


@dataclass(frozen=True, slots=True)
class _Look:
    """How a thumbnail stands in the drawing: of a very wide or high photo the middle is shown."""

    aspect: float
    """Width over height of the photo."""

    @classmethod
    def of(cls, photo: Photo) -> _Look:
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


def _lines(ends_L4: NDArray[np.float64], colours_L: NDArray[np.int64]) -> str:
    """One path a colour: lines over a soft dark edge, and a dot at each end."""
    if not len(ends_L4):
        return ""
    segment = [f"M{a:.1f} {b:.1f}L{c:.1f} {d:.1f}" for a, b, c, d in ends_L4.tolist()]
    dots = [f"M{a:.1f} {b:.1f}h0M{c:.1f} {d:.1f}h0" for a, b, c, d in ends_L4.tolist()]
    parts = [f'<path class="l-edge" d="{"".join(segment)}"/>']
    held = [(colour, np.flatnonzero(colours_L == colour).tolist()) for colour in range(len(COLOURS))]
    for colour, rows in held:
        if rows:
            parts.append(f'<path class="l-line c{colour}" d="{"".join(segment[row] for row in rows)}"/>')
    parts.append(f'<path class="l-ring" d="{"".join(dots)}"/>')
    for colour, rows in held:
        if rows:
            parts.append(f'<path class="l-dot c{colour}" d="{"".join(dots[row] for row in rows)}"/>')
    return "".join(parts)


def _card(pair: ShownMatch, id_: str, thumbnails: Thumbnails) -> str:
    at = _best(pair)
    verdict = {
        "right": '<span class="chip good">✓ Right answer</span>',
        "wrong": '<span class="chip bad">✗ Wrong answer</span>',
        "open": '<span class="chip">Answer</span>',
    }[pair.state]
    rank = f'<span class="note">rank {pair.rank}</span>' if pair.rank is not None else ""
    query, answer = label(pair.query.key, 80), label(pair.answer.key, 80)
    return (
        f'<article class="card" id="{id_}" data-state="{pair.state}" data-name="{query} {answer}">'
        f'<div class="head">{verdict}<span class="note">score {pair.score:.4g}</span>{rank}</div>'
        f"{match_svg(pair, thumbnails, at)}"
        f'<p class="name">{query} <span class="to">and</span> {answer}</p>'
        f'<p class="note">{_told(pair, at)}</p></article>'
    )


def _best(pair: ShownMatch) -> int:
    """The size to draw: that with the largest share of matching patches; -1 where nothing matches."""
    found = [
        len(match.query_points) / (pair.counts[i] if i < len(pair.counts) else 1)
        for i, match in enumerate(pair.matches)
    ]
    return int(np.argmax(found)) if any(found) else -1


def _told(pair: ShownMatch, at: int) -> str:
    if at < 0:
        return "Nothing matches: no patch of one is found in the other."
    parts = []
    for i, match in enumerate(pair.matches):
        found = f"{len(match.query_points):,}"
        if i < len(pair.counts):
            found += f" of {pair.counts[i]:,}"
        size = f"size {pair.sizes[i]}: " if i < len(pair.sizes) else ""
        parts.append(f"<b>{size}{found}</b>" if i == at else f"{size}{found}")
    shown = min(LINES, len(pair.matches[at].query_points))
    drawn = f"; {count(shown, 'line')} drawn" + (" of the size in bold" if len(parts) > 1 else "")
    return f"Matching patches: {', '.join(parts)}{drawn}."
