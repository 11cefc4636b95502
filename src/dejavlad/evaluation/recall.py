"""recall@N: the share of queries with a right answer among their first N.

Equivalent to ``recallAtN.m`` of NetVLAD (its ignored queries and rows are data of the truth here).

Legend: Q queries, K depth of the ranking.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dejavlad.datasets.relevance import Truth
from dejavlad.errors import InputError
from dejavlad.ranking import Ranking


def first_hits(ranking: Ranking, truth: Truth) -> NDArray[np.int64]:
    """The rank of each query's first right answer, from 1; 0 where the ranking holds none.

    Ignored rows are taken out of the ranking before counting; an entry of -1 is a wrong answer.

    Returns:
        int64 [Q].

    Raises:
        InputError: ranking and truth are of other numbers of queries, or a row is outside of the database.
    """
    indices = ranking.indices
    if len(indices) != truth.n_queries:
        raise InputError(f"the ranking is of {len(indices)} queries, the truth of {truth.n_queries}")
    if not indices.size:
        return np.zeros(len(indices), np.int64)
    if indices.max() >= truth.n_database:
        raise InputError(
            f"the ranking holds row {indices.max()}; the truth is of a database of {truth.n_database}"
        )
    right = truth.positives.contains(indices)  # never an ignored row: Truth sees to it
    first = right.argmax(axis=1)
    ranks = first + 1
    if truth.ignored is not None:
        left_out = np.cumsum(truth.ignored.contains(indices), axis=1)
        ranks -= left_out[np.arange(len(indices)), first]
    return np.where(right.any(axis=1), ranks, 0).astype(np.int64)


def recall_at(hits: NDArray[np.int64], ns: Sequence[int]) -> dict[int, float]:
    """N -> the share of queries whose first right answer is among their first N.

    Args:
        hits: int64 [Q] from `first_hits`, of the queries that count.
        ns: each 1 or more.

    Raises:
        InputError: no query, no N, or an N below 1.
    """
    if not len(hits):
        raise InputError("recall needs at least one query that counts; there is none")
    if not ns or min(ns) < 1:
        raise InputError(f"recall is taken at N of 1 or more; given {list(ns)}")
    ranks = np.sort(hits[hits > 0])
    return {int(n): float(np.searchsorted(ranks, n, side="right") / len(hits)) for n in sorted(set(ns))}
