"""Queries with their best answers, failures first, as many as a budget of bytes allows.

Legend: Q queries, K depth of the ranking.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from dejavlad.evaluation import Result
from dejavlad.evaluation.breakdown import apart
from dejavlad.ground_truth import PlaceDataset
from dejavlad.photo import Photo
from dejavlad.ranking import Ranking
from dejavlad.report.charts.axes import spread
from dejavlad.report.lists import Tile, filter_choices
from dejavlad.report.page import Section
from dejavlad.report.text import metres
from dejavlad.report.thumbnails import Thumbnails

ANSWERS = 5
"""Best answers shown of each query."""
MOST_QUERIES = 200
"""Queries shown, at most."""
STATES = ("wrong", "right", "none", "open")
"""What a query can be, in the order in which they are shown: its first answer is wrong, or right; the
database has no right answer; nothing says what is right."""
BUTTONS = {"wrong": "Failures", "right": "Right", "none": "Without a right answer", "open": "Not judged"}
MEANINGS = {
    "wrong": "whose first answer is wrong",
    "right": "whose first answer is right",
    "none": "without a right answer in the database",
    "open": "",
}


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
class Card:
    """A query with its best answers."""

    row: int
    """Row of the query."""
    photo: Photo
    state: str
    """One of `STATES`."""
    hit: int
    """Rank of its first right answer, from 1; 0 where the ranking holds none."""
    answers: list[Tile]


def queries_section(
    ranking: Ranking,
    places: PlaceDataset,
    judged: Judged,
    thumbnails: Thumbnails,
    *,
    most: int = MOST_QUERIES,
) -> tuple[Section, list[int]]:
    """The section of queries with their best answers, and which queries are in it.

    Args:
        ranking: rows of the database for each query, those alone that count.
        places: the photos, and what is right.
        judged: how the queries were answered.
        thumbnails: takes the photos in, and says when the budget is spent.
        most: queries shown, at most.
    """
    by_state = {state: judged.rows(state) for state in STATES}
    shown: dict[int, Card] = {}
    for row in _by_turns(by_state, most):
        photo, tiles = places.queries[row], _answers(row, ranking, places, judged)
        if not thumbnails.admit([photo, *(tile.photo for tile in tiles)]):
            break
        shown[row] = Card(row, photo, judged.states[row], judged.hits[row], tiles)
    cards = [shown[row] for rows in by_state.values() for row in rows if row in shown]
    states = [card.state for card in cards]
    totals = {state: total for state in STATES if (total := judged.states.count(state))}
    section = Section.of(
        "queries",
        "Queries and their best answers" if cards else "Queries",
        "evaluate",
        cards=cards,
        choices=filter_choices(states, BUTTONS),
        scored=bool(set(totals) - {"open"}),
        parts=[(states.count(state), total, MEANINGS[state]) for state, total in totals.items()],
        n_queries=len(places.queries),
        depth=ranking.depth,
        thumbnails=thumbnails,
    )
    return section, [card.row for card in cards]


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


def _answers(query: int, ranking: Ranking, places: PlaceDataset, judged: Judged) -> list[Tile]:
    """The best answers, then the first right one if it is not among them."""
    truth, state, hit = places.truth, judged.states[query], judged.hits[query]
    right = set(truth.positives[query].tolist()) if truth is not None else set()
    here = places.queries[query].position

    def tile(row: int, tag: str, kind: str, score: float = np.inf) -> Tile:
        photo = places.database[row]
        facts = [f"{judged.measure} {score:.3f}"] if np.isfinite(score) else []
        if (metres_off := apart(here, photo.position)) is not None:
            facts.append(f"{metres(metres_off)} away")
        what = "right answer" if kind else "answer" if state == "open" else "wrong answer"
        return Tile(photo, tag, facts, kind, f"{what} {photo.key}")

    tiles: list[Tile] = []
    ranked = zip(ranking.indices[query].tolist(), ranking.distances[query].tolist(), strict=True)
    for rank, (row, score) in enumerate(ranked, 1):
        if row < 0:
            continue
        if rank <= ANSWERS:
            good = row in right and state != "open"
            tiles.append(tile(row, f"{rank} ✓" if good else str(rank), "good" if good else "", score))
        elif rank == hit:
            tiles.append(tile(row, f"{rank} ✓", "good", score))
            break
        elif hit <= ANSWERS:
            break
    if state == "wrong" and not hit and right:
        tiles.append(tile(_nearest(query, sorted(right), places), "not found", "missed"))
    return tiles


def _nearest(query: int, rows: list[int], places: PlaceDataset) -> int:
    """Of right rows the one taken nearest to the query; the middle one where positions are not known."""
    here = places.queries[query].position
    far = [apart(here, places.database[row].position) for row in rows]
    known = [(d, row) for d, row in zip(far, rows, strict=True) if d is not None]
    return min(known)[1] if known else rows[len(rows) // 2]
