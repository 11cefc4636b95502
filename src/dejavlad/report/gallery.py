"""Queries with their best answers, failures first, as many as a budget of bytes allows.

Legend: Q queries, K depth of the ranking.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from dejavlad.datasets import PlaceDataset
from dejavlad.errors import InputError
from dejavlad.evaluation import Result
from dejavlad.geo import Position, distance
from dejavlad.photo import Photo
from dejavlad.ranking import Ranking
from dejavlad.report.place_plot import spread
from dejavlad.report.text import count, label, metres
from dejavlad.report.thumbnails import Thumbnails

ANSWERS = 5
"""Best answers shown of each query."""
MOST_QUERIES = 200
"""Queries shown, at most."""
STATES = {
    "wrong": "First answer wrong",
    "right": "First answer right",
    "none": "No right answer in the database",
    "open": "Not judged",
}
"""What a query can be, in the order in which they are shown."""


@dataclass(frozen=True, slots=True)
class Judged:
    """How the queries were answered."""

    states: list[str]
    """[Q], each one of `STATES`."""
    hits: list[int]
    """[Q] rank of the first right answer, from 1; 0 where the ranking holds none."""
    measure: str = "distance"
    """What the answers are ordered by."""

    @classmethod
    def of(cls, result: Result | None, places: PlaceDataset, n_queries: int) -> Judged:
        """From a result, if it has the ranks and the dataset its truth."""
        measure = "score" if result is not None and result.rerank else "distance"
        if result is None or result.hits_at is None or len(result.hits_at) != n_queries:
            return cls(["open"] * n_queries, [0] * n_queries, measure)
        hits = result.hits_at.tolist()
        answerable = places.truth.answerable.tolist() if places.truth is not None else [True] * n_queries
        states = [
            "right" if hit == 1 else "wrong" if can else "none"
            for hit, can in zip(hits, answerable, strict=True)
        ]
        return cls(states, hits, measure)

    def rows(self, state: str) -> list[int]:
        """The queries of one state; of the wrong ones the worst first."""
        rows = [i for i, given in enumerate(self.states) if given == state]
        if state == "wrong":
            rows.sort(key=lambda i: (-(self.hits[i] or np.inf), i))
        return rows


@dataclass(frozen=True, slots=True)
class Shown:
    """An answer of the gallery."""

    row: int
    """Row of the database."""
    tag: str
    """What stands on the photo."""
    distance: float | None
    """Of the descriptors."""
    kind: str
    """``good``, ``missed`` (right, but not among the answers) or nothing."""


@dataclass(frozen=True, slots=True)
class Gallery:
    """The queries that are shown, chosen within the budget."""

    queries: list[int]
    """Rows of the queries, in the order shown."""
    html: str
    lead: str
    """Which are shown, in words."""


def gallery(
    ranking: Ranking,
    places: PlaceDataset,
    judged: Judged,
    thumbnails: Thumbnails,
    *,
    most: int = MOST_QUERIES,
) -> Gallery:
    """Choose queries and draw them.

    Args:
        ranking: rows of the database for each query.
        places: the photos, and what is right.
        judged: how the queries were answered.
        thumbnails: takes the photos in, and says when the budget is spent.
        most: queries shown, at most.
    """
    by_state = {state: judged.rows(state) for state in STATES}
    chosen: list[int] = []
    answers: dict[int, list[Shown]] = {}
    for query in _by_turns(by_state, most):
        shown = _answers(query, ranking, places, judged)
        if not thumbnails.admit([places.queries[query], *(places.database[s.row] for s in shown)]):
            break
        answers[query] = shown
        chosen.append(query)
    picked = set(chosen)
    rows = [query for state in STATES for query in by_state[state] if query in picked]
    cards = "\n".join(_card(query, answers[query], places, judged, ranking, thumbnails) for query in rows)
    there = {state: len(held) for state, held in by_state.items() if held}
    tools = _tools({state: sum(judged.states[q] == state for q in rows) for state in there})
    return Gallery(
        rows,
        f'{tools}<div class="cards" data-list="queries-tools">\n{cards}\n</div>',
        _told(rows, judged, there),
    )


def filter_tools(id_: str, choices: Sequence[tuple[str, str]], what: str) -> str:
    """Buttons and a search field for the list whose ``data-list`` is `id_`; hidden until the script runs.

    Args:
        id_: of the tools.
        choices: state and label of each button; an empty state shows all.
        what: what is searched by name.
    """
    buttons = "".join(
        f'<button type="button" value="{state}" aria-pressed="{"false" if state else "true"}">{told}</button>'
        for state, told in choices
    )
    return (
        f'<div class="tools" id="{id_}" hidden role="group" aria-label="Filter">{buttons}'
        f'<span class="found" aria-live="polite"></span>'
        f'<input type="search" placeholder="Search by name" aria-label="Search {what} by name"></div>\n'
    )


def apart(a: Position | None, b: Position | None) -> float | None:
    """Metres between two positions, where both are known and comparable."""
    if a is None or b is None:
        return None
    try:
        metres_apart = distance(a, b)
    except InputError:
        return None
    return metres_apart if np.isfinite(metres_apart) else None


def _by_turns(by_state: dict[str, list[int]], most: int) -> list[int]:
    """At most so many queries: two wrong ones, then one of each other state, in turn."""
    wrong = by_state["wrong"]
    others = [
        [by_state[state][i] for i in spread(len(by_state[state]), most)]
        for state in ("right", "none", "open")
    ]
    lanes = [wrong[0::2], wrong[1::2], *others]
    turns = (query for turn in zip_longest(*lanes) for query in turn if query is not None)
    return [query for query, _ in zip(turns, range(most), strict=False)]


def _answers(query: int, ranking: Ranking, places: PlaceDataset, judged: Judged) -> list[Shown]:
    """The best answers, then the first right one if it is not among them."""
    truth = places.truth
    ignored = set(truth.ignored[query].tolist()) if truth is not None and truth.ignored is not None else set()
    right = set(truth.positives[query].tolist()) if truth is not None else set()
    shown: list[Shown] = []
    rank = 0
    for row, far in zip(ranking.indices[query].tolist(), ranking.distances[query].tolist(), strict=True):
        if row < 0 or row in ignored or row >= len(places.database):
            continue
        rank += 1
        if rank <= ANSWERS:
            good = row in right and judged.states[query] != "open"
            shown.append(Shown(row, f"{rank} ✓" if good else str(rank), far, "good" if good else ""))
        elif rank == judged.hits[query]:
            shown.append(Shown(row, f"{rank} ✓", far, "good"))
            break
        elif judged.hits[query] <= ANSWERS:
            break
    if judged.states[query] == "wrong" and not judged.hits[query] and right:
        shown.append(Shown(_nearest(query, sorted(right), places), "not found", None, "missed"))
    return shown


def _nearest(query: int, rows: list[int], places: PlaceDataset) -> int:
    """Of right rows the one taken nearest to the query; the middle one where positions are not known."""
    here = places.queries[query].position
    far = [apart(here, places.database[row].position) for row in rows]
    known = [(d, row) for d, row in zip(far, rows, strict=True) if d is not None]
    return min(known)[1] if known else rows[len(rows) // 2]


def _card(
    query: int,
    shown: list[Shown],
    places: PlaceDataset,
    judged: Judged,
    ranking: Ranking,
    thumbnails: Thumbnails,
) -> str:
    photo, state = places.queries[query], judged.states[query]
    tiles = "".join(
        _tile(answer, photo, places.database[answer.row], thumbnails, judged.measure, judged=state != "open")
        for answer in shown
    )
    answers = (
        f'<ol class="answers">{tiles}</ol>' if shown else '<p class="note">The ranking holds no answer.</p>'
    )
    verdict = _verdict(state, judged.hits[query], ranking.depth)
    return card(f"q{query}", state, photo, thumbnails, f'<div class="head">{verdict}</div>{answers}')


def card(id_: str, state: str, photo: Photo, thumbnails: Thumbnails, beside: str) -> str:
    """A photo with its name, and beside it what is known of it."""
    name = label(photo.key)
    return (
        f'<article class="card ask" id="{id_}" data-state="{state}" data-name="{name}">'
        f'<div>{thumbnails.show(photo)}<p class="name">{name}</p></div><div>{beside}</div></article>'
    )


def label_text(photo: Photo) -> str:
    """A photo's key, not escaped, short."""
    return photo.key if len(photo.key) <= 100 else photo.key[:99] + "…"


def _verdict(state: str, hit: int, depth: int) -> str:
    if state == "right":
        return '<span class="chip good">✓ Right at once</span>'
    if state == "none":
        return '<span class="chip none">No right answer in the database</span>'
    if state == "open":
        return '<span class="chip">Best answers</span>'
    if hit:
        return f'<span class="chip bad">✗ First right answer at rank {hit}</span>'
    return f'<span class="chip bad">✗ No right answer among the first {depth}</span>'


def _tile(
    answer: Shown, query: Photo, photo: Photo, thumbnails: Thumbnails, measure: str, *, judged: bool
) -> str:
    facts = []
    if answer.distance is not None and np.isfinite(answer.distance):
        facts.append(f"{measure} {answer.distance:.3f}")
    off = apart(query.position, photo.position)
    if off is not None:
        facts.append(f"{metres(off)} away")
    alt = "right answer" if answer.kind else "wrong answer" if judged else "answer"
    return (
        f'<li class="{answer.kind}"><div class="frame">{thumbnails.show(photo, f"{alt} {label_text(photo)}")}'
        f'<span class="tag">{answer.tag}</span></div><div class="who" title="{label(photo.key)}">'
        f"{label(photo.key)}</div>{'<br>'.join(facts)}</li>"
    )


def _tools(there: dict[str, int]) -> str:
    names = {"wrong": "Failures", "right": "Right", "none": "Without truth", "open": "Not judged"}
    choices = [("", f"All {sum(there.values())}")]
    if len(there) > 1:
        choices += [(state, f"{names[state]} {held}") for state, held in there.items()]
    return filter_tools("queries-tools", choices, "queries")


def _told(rows: list[int], judged: Judged, there: dict[str, int]) -> str:
    """Which queries are shown."""
    total = sum(there.values())
    names = {
        "wrong": "whose first answer is wrong",
        "right": "whose first answer is right",
        "none": "without a right answer in the database",
        "open": "not judged",
    }
    if len(rows) == total:
        return "" if total == 0 else f"All {count(total, 'query', 'queries')}." if total > 1 else ""
    parts = [
        f"{sum(judged.states[q] == state for q in rows):,} of the {held:,}"
        + (f" {names[state]}" if state != "open" or len(there) > 1 else "")
        for state, held in there.items()
    ]
    return f"To keep this file small it shows {len(rows):,} of {total:,} queries: {', '.join(parts)}."
