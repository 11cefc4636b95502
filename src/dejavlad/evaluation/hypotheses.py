"""Ways in which a ranking may be meant, and in which it may be measured: what `explain` tries.

Legend: Q queries, N database photos, K depth of a ranking.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError
from dejavlad.evaluation.evaluate import Misses
from dejavlad.evaluation.protocols import PROTOCOLS, Protocol
from dejavlad.ground_truth import (
    PlaceDataset,
    RowSets,
    SameName,
    Truth,
    TruthRule,
    WithinFrames,
    WithinMetres,
    groups_of,
    leave_one_out,
    truth_frames,
    truth_positions,
    truth_same_name,
)
from dejavlad.ground_truth.frames import FrameRule
from dejavlad.ground_truth.refine import facing
from dejavlad.ground_truth.rules import Refinement
from dejavlad.ground_truth.truth import truth_frames_of
from dejavlad.photo import PhotoList
from dejavlad.ranking import Ranking

RADII = (5.0, 10.0, 25.0, 50.0)
"""Metres that are tried."""
TOLERANCES = (0, 1, 2, 5, 7, 10)
"""Frames that are tried."""
DEGREES = 40.0
"""Angle between headings that is tried."""
AS_IT_IS = "as it is"
AS_GIVEN = "as given"


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A ranking as it may have been meant."""

    name: str
    """What would then be the mistake; `AS_IT_IS` for none."""
    ranking: Ranking
    """Rows of the database for each query (turned: rows of the queries for each database photo)."""
    advice: str = ""
    """What to do about it."""
    turned: bool = False
    """The database's photos were sought among the queries."""


@dataclass(frozen=True, slots=True)
class Measure:
    """What counts as right, and what is left out."""

    truth: Truth
    """The right answers of each query, and what is left out of rankings."""
    ways: tuple[str, ...]
    """What it is called in words; several, where they come to the same."""
    protocols: tuple[Protocol, ...] = ()
    """The protocols that measure so."""

    def named(self, misses: Misses) -> tuple[tuple[str, ...], bool]:
        """What it is called with misses counted or dropped, and whether that is a protocol.

        Which of them makes no difference where every query has a right answer.
        """
        fits = [
            protocol.name
            for protocol in self.protocols
            if protocol.misses == misses or not self.truth.n_without_truth
        ]
        ways = (AS_GIVEN,) if AS_GIVEN in self.ways else self.ways
        return (*ways, *fits) or tuple(
            f"{protocol.name} but for misses" for protocol in self.protocols
        ), bool(fits)


def hypotheses(ranking: Ranking, places: PlaceDataset) -> Iterator[Hypothesis]:
    """The ranking as it is, and with each known mistake undone; what cannot be so, does not fit the lists."""
    database, queries = places.database, places.queries
    indices, distances = ranking.indices, ranking.distances
    q, n = len(queries), len(database)
    yield Hypothesis(AS_IT_IS, ranking)
    yield Hypothesis(
        "rows counted from 1",
        Ranking(np.maximum(indices - 1, -1), np.where(indices < 1, np.inf, distances)),
        "subtract 1 from the rows: the first photo is row 0",
    )
    yield Hypothesis(
        "the first photo of the database's list left out",
        Ranking(np.where(indices >= 0, indices + 1, -1), distances),
        "was the list's first line taken for a header? Add 1 to the rows",
    )
    for step, mistake, advice in (
        (
            1,
            "answers of the query before",
            "the rows are one query late: is a line too many at the beginning?",
        ),
        (-1, "answers of the query after", "the rows are one query early: is the first query missing?"),
    ):
        yield Hypothesis(mistake, _moved(ranking, step), advice)
    for what, by_database, by_queries in (
        ("the database", True, False),
        ("the queries", False, True),
        ("both lists", True, True),
    ):
        both = queries if by_database and by_queries else None
        for order, rows in _orders(database if by_database else queries, both):
            database_order = rows[0] if by_database else None
            query_order = rows[-1] if by_queries else None
            if (database_order is None or len(database_order) == n) and (
                query_order is None or len(query_order) == len(indices)
            ):
                yield Hypothesis(
                    f"{what} in {order} order",
                    _reordered(ranking, database_order, query_order),
                    "rank with the lists in the order given here (dejavlad dataset list writes them)",
                )
    yield Hypothesis(
        "database and queries swapped",
        ranking,
        "the database's photos were sought among the queries: swap the two lists",
        turned=True,
    )
    if len(indices) != q and ranking.depth == q:
        yield Hypothesis(
            "rows and columns swapped",
            _by_rank(indices.T),
            "turn the array: one row a query",
        )
    if ranking.depth >= n and n > 1:
        yield Hypothesis(
            "worst answers first",
            _by_rank(indices[:, ::-1]),
            "sort similarities downwards, distances upwards",
        )


def measures(places: PlaceDataset) -> list[Measure]:
    """The dataset's own truth, other ways to measure, and all known protocols that fit; each once."""
    by_hash: dict[str, tuple[Truth, list[str], list[Protocol]]] = {}
    for name, truth in _variations(places):
        by_hash.setdefault(truth.hash, (truth, [], []))[1].append(name)
    counts = (len(places.database), len(places.queries))
    for protocol in PROTOCOLS.values():
        if protocol.dataset == places.name or (protocol.n_database, protocol.n_queries) == counts:
            try:
                measured = protocol.under(places).truth
            except InputError:
                continue
            if measured is not None:
                by_hash.setdefault(measured.hash, (measured, [], []))[2].append(protocol)
    return [Measure(truth, tuple(names), tuple(known)) for truth, names, known in by_hash.values()]


def turned(truth: Truth) -> Truth:
    """The same with the lists swapped: the queries that are right for each database photo."""
    back: list[RowSets | None] = []
    for sets in (truth.positives, truth.ignored):
        if sets is None:
            back.append(None)
            continue
        query_rows = np.repeat(np.arange(len(sets)), sets.counts)
        order = np.argsort(sets.rows, kind="stable")
        starts = np.concatenate(
            [np.zeros(1, np.int64), np.cumsum(np.bincount(sets.rows, minlength=truth.n_database))]
        )
        back.append(RowSets(starts, query_rows[order], truth.n_queries))
    refinements = (*truth.refinements, Refinement("turned", True))
    return Truth(back[0] or [], truth.n_queries, truth.rule, back[1], refinements=refinements)


def _variations(places: PlaceDataset) -> Iterator[tuple[str, Truth]]:
    database, queries = places.database, places.queries
    own = places.truth
    plain = None if own is None else _plain(own, places)
    if own is not None:
        yield AS_GIVEN, own
    located = any(database.positions) and any(queries.positions)
    if located:
        for metres in RADII:
            yield f"within {metres:g} m", truth_positions(database, queries, metres)
    counts = (len(database), len(queries))
    rule = None if own is None else _frame_rule(own.rule)
    if rule is not None:
        for frames in TOLERANCES:
            with suppress(InputError):  # too few: no query has a frame as near as that
                yield (
                    f"within {frames} frames",
                    truth_frames_of(database, queries, replace(rule, tolerance=frames)),
                )
    elif (own is not None and isinstance(own.rule, WithinFrames)) or not located:
        every = 10 if abs(counts[0] - 10 * counts[1]) < 10 else 1
        if counts[0] == counts[1] or every == 10:
            for frames in TOLERANCES:
                yield f"within {frames} frames", truth_frames(*counts, frames, every=every)
    if plain is None:
        return
    groups = groups_of(database)
    grouped = groups[groups >= 0]
    if len(np.unique(grouped)) < len(grouped):
        left_out = None if own is None else own.ignored
        refinements = plain.refinements
        by_panorama = Truth(plain.positives, plain.n_database, plain.rule, left_out, groups, refinements)
        yield "one answer a panorama", by_panorama
    if own is not None and own.groups is not None:
        yield "every photo an answer", own.grouped(None)
    alone = leave_one_out(plain, database, queries)
    if alone.ignored is not None and alone.ignored.counts.any():
        yield "a query's own photo left out", alone
        yield "a query's own photo among the answers", plain
    if _headed(database) and _headed(queries):
        yield f"also at most {DEGREES:g}° aside", facing(plain, database, queries, DEGREES)


def _frame_rule(rule: TruthRule) -> FrameRule | None:
    """The rule of a truth by frame numbers that are not rows; None for any other truth."""
    if not isinstance(rule, WithinFrames) or not (rule.by_names or rule.shift):
        return None
    return FrameRule(rule.tolerance, not rule.by_names, rule.shift)


def _plain(truth: Truth, places: PlaceDataset) -> Truth:
    """The truth with nothing left out of rankings, found again where that is needed."""
    if truth.ignored is None:
        return truth.grouped(None)
    located = any(places.database.positions) and any(places.queries.positions)
    match truth.rule:
        case WithinFrames(tolerance=tolerance, every=every) as rule:
            if (by_numbers := _frame_rule(rule)) is not None:
                return truth_frames_of(places.database, places.queries, by_numbers)
            return truth_frames(truth.n_database, truth.n_queries, tolerance, every=every)
        case SameName():
            return truth_same_name(places.database, places.queries)
        case WithinMetres(radius_m=radius) if located:
            return truth_positions(places.database, places.queries, radius)
    return Truth(truth.positives, truth.n_database, truth.rule, refinements=truth.refinements)


def _orders(photos: PhotoList, also: PhotoList | None) -> Iterator[tuple[str, tuple[NDArray[np.int64], ...]]]:
    """Other orders of a list (or of two): name, and the row here of each row there."""
    lists = [photos] if also is None else [photos, also]
    known = [tuple(np.arange(len(photos)) for photos in lists)]
    for name in ("alphabetic", "natural", "basenames'", "reverse"):
        rows = tuple(_order(name, photos.keys) for photos in lists)
        if any(np.array_equal(order, old) for order, old in zip(rows, known[0], strict=True)):
            continue  # one of the lists is in that order
        if not any(all(map(np.array_equal, rows, others)) for others in known):
            known.append(rows)
            yield name, rows


def _order(name: str, keys: Sequence[str]) -> NDArray[np.int64]:
    rows = range(len(keys))
    match name:
        case "alphabetic":
            order = sorted(rows, key=lambda i: keys[i])
        case "natural":
            from natsort import natsorted  # loads slowly

            order = natsorted(rows, key=lambda i: keys[i])
        case "basenames'":
            order = sorted(rows, key=lambda i: keys[i].rpartition("/")[2])
        case _:
            order = list(reversed(rows))
    return np.array(order, np.int64)


def _reordered(
    ranking: Ranking, database_order: NDArray[np.int64] | None, query_order: NDArray[np.int64] | None
) -> Ranking:
    indices, distances = ranking.indices, ranking.distances
    if database_order is not None:
        inside = (indices >= 0) & (indices < len(database_order))
        indices = np.where(inside, database_order[np.where(inside, indices, 0)], indices)
    if query_order is not None:
        back = np.argsort(query_order)
        indices, distances = indices[back], distances[back]
    return Ranking(indices, distances)


def _by_rank(indices: NDArray[np.int64]) -> Ranking:
    """Rows with their ranks for distances."""
    return Ranking(indices, np.broadcast_to(np.arange(indices.shape[1], dtype=np.float32), indices.shape))


def _moved(ranking: Ranking, step: int) -> Ranking:
    """Row i + step where row i was; none (-1) where there is no such row."""
    indices = np.full_like(ranking.indices, -1)
    distances = np.full_like(ranking.distances, np.inf)
    if step > 0:
        indices[:-step], distances[:-step] = ranking.indices[step:], ranking.distances[step:]
    else:
        indices[-step:], distances[-step:] = ranking.indices[:step], ranking.distances[:step]
    return Ranking(indices, distances)


def _headed(photos: PhotoList) -> bool:
    return any(photo.heading is not None for photo in photos)
