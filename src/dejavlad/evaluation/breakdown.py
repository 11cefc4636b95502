"""Where recall comes from: its parts by day and night, city or task, and how near the answers are.

Legend: Q queries, N of recall@N.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dejavlad.evaluation.recall import recall_at
from dejavlad.geo import Position, distance
from dejavlad.photo import PhotoList
from dejavlad.ranking import Ranking

METRES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100)
"""Distances in metres that recall is given for."""
MOST_PARTS = 24
"""How many tags are listed at most: those of the most queries."""


@dataclass(frozen=True, slots=True)
class TagRecall:
    """The recall of the queries that have one tag."""

    queries: int
    """How many of them count."""
    recall: Mapping[int, float]
    """N -> recall@N of these queries, 0 to 1."""


def parts(
    hits: NDArray[np.int64], counts: NDArray[np.bool_], queries: PhotoList, ns: Sequence[int]
) -> dict[str, TagRecall]:
    """Recall by the queries' tags; a tag that all or none of them have is no part.

    Args:
        hits: int64 [Q], the rank of each query's first right answer from 1; 0 for none.
        counts: bool [Q], which queries count.
        queries: their photos.
        ns: the Ns.

    Returns:
        Tag -> its part, in the order in which they first occur.
    """
    rows: dict[str, list[int]] = {}
    for row, photo in enumerate(queries):
        if counts[row]:
            for tag in dict.fromkeys(photo.tags):
                rows.setdefault(tag, []).append(row)
    largest = sorted(rows, key=lambda tag: -len(rows[tag]))[:MOST_PARTS]
    total = int(counts.sum())
    return {
        tag: TagRecall(len(tag_rows), recall_at(hits[tag_rows], ns))
        for tag, tag_rows in rows.items()
        if tag in largest and len(tag_rows) < total
    }


def by_distance(
    ranking: Ranking,
    kept: NDArray[np.bool_],
    database: PhotoList,
    queries: PhotoList,
    ns: Sequence[int],
    metres: Sequence[float] = METRES,
) -> dict[int, dict[float, float]]:
    """The share of queries with one of their first N answers so near, for each distance.

    Whatever the protocol takes for right, of the queries whose position is known; an answer without a
    position is near to nothing.

    Args:
        ranking: the database's rows for each query.
        kept: bool [Q, K], which entries are answers, from `valid_mask`.
        database: its photos.
        queries: the queries' photos.
        ns: the Ns.
        metres: the distances, ascending.

    Returns:
        N -> metres -> share; empty where one list has no positions.
    """
    database_positions, query_positions = database.positions, queries.positions
    if not any(database_positions) or not any(query_positions) or not ranking.depth:
        return {}
    depth = max(ns)
    nearest = np.full((len(query_positions), depth), np.inf)
    order = np.argsort(~kept, axis=1, kind="stable")[:, :depth]
    rows = np.where(np.take_along_axis(kept, order, 1), np.take_along_axis(ranking.indices, order, 1), -1)
    for query, (at, answers) in enumerate(zip(query_positions, rows.tolist(), strict=True)):
        if at is not None:
            nearest[query, : len(answers)] = [
                _metres(at, database_positions[row] if row >= 0 else None) for row in answers
            ]
    nearest = np.minimum.accumulate(nearest, axis=1)[[at is not None for at in query_positions]]
    return {
        int(n): {float(m): float((nearest[:, n - 1] <= m).mean()) for m in metres} for n in sorted(set(ns))
    }


def apart(a: Position | None, b: Position | None) -> float | None:
    """Metres between two positions; None where one is not known, or they are on different planes."""
    if a is None or b is None or (a.zone is None) != (b.zone is None):
        return None
    metres = distance(a, b)
    return metres if np.isfinite(metres) else None


def _metres(a: Position, b: Position | None) -> float:
    metres = apart(a, b)
    return np.inf if metres is None else metres
