"""recall@N: the share of queries with a right answer among their first N.

Equivalent to ``recallAtN.m`` of NetVLAD. What its datasets take out of a ranking is data of the truth here:
ignored rows, and groups of rows that count as one answer.

Legend: Q queries, K depth of the ranking.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError
from dejavlad.ground_truth.refine import of_queries
from dejavlad.ground_truth.row_sets import Rows
from dejavlad.ground_truth.truth import Truth
from dejavlad.ranking import Ranking

_BLOCK = 1 << 20
"""Ranking entries sorted by their groups at once."""
ENTRIES = 1 << 24
"""Ranking entries held at once while what does not count is taken out."""


def check_fits(ranking: Ranking, truth: Truth) -> None:
    """Whether a ranking may be of these queries and this database.

    Raises:
        InputError: it is of another number of queries, or holds a row outside of the database.
    """
    if ranking.n_queries != truth.n_queries:
        raise InputError(f"the ranking is of {ranking.n_queries} queries, the truth of {truth.n_queries}")
    most = ranking.indices.max(initial=-1)
    if most >= truth.n_database:
        raise InputError(f"the ranking holds row {most}; the truth is of a database of {truth.n_database}")


def valid_mask(ranking: Ranking, truth: Truth) -> NDArray[np.bool_]:
    """Which entries of a ranking are answers: not the ignored ones, and of each group the best ranked one.

    Equivalent to ``nnSearchPostprocess`` of NetVLAD's ``dbTokyo247.m`` (panoramas as groups) and
    ``dbTokyoTimeMachine.m`` (photos of the query's own month ignored). An entry of -1 is a (wrong) answer.

    Returns:
        bool [Q, K].

    Raises:
        InputError: ranking and truth are of other numbers of queries, or a row is outside of the database.
    """
    check_fits(ranking, truth)
    indices = ranking.indices
    kept = np.ones(indices.shape, np.bool_)
    if not indices.size:
        return kept
    if truth.ignored is not None:
        kept &= ~truth.ignored.contains(indices)
    if truth.groups is not None:
        step = max(1, _BLOCK // indices.shape[1])
        for start in range(0, len(indices), step):
            rows = indices[start : start + step]
            block = kept[start : start + step]
            block &= _best_of_groups(np.where(block & (rows >= 0), truth.groups[rows], -1))
    return kept


def depth_needed(truth: Truth, k: int) -> int:
    """How deep a ranking must be to hold k answers of every query, at most the size of the database."""
    of_group = 1
    if truth.groups is not None and (truth.groups >= 0).any():
        of_group = int(np.bincount(truth.groups[truth.groups >= 0]).max())
    left_out = int(truth.ignored.counts.max(initial=0)) if truth.ignored is not None else 0
    return min(k * of_group + left_out, truth.n_database)


def filter_ranking(ranking: Ranking, truth: Truth, k: int) -> Ranking:
    """A ranking of the first k answers alone, what does not count taken out; -1 where there are fewer.

    Raises:
        InputError: as of `valid_mask`.
    """
    kept = valid_mask(ranking, truth)
    first = np.argsort(~kept, axis=1, kind="stable")[:, :k]
    is_answer = np.take_along_axis(kept, first, 1)
    indices = np.where(is_answer, np.take_along_axis(ranking.indices, first, 1), -1)
    distances = np.where(indices >= 0, np.take_along_axis(ranking.distances, first, 1), np.inf)
    return Ranking(indices, distances.astype(np.float32))


def answers_of(search: Callable[[Rows, int], Ranking], truth: Truth, k: int) -> Ranking:
    """The first k answers of every query, without what does not count.

    A ranking must be far deeper than k where much is left out, so that some queries are searched at a time.

    Args:
        search: ranks the database for some queries, by their rows int64 [n], so deep.
        truth: what is left out.
        k: answers of each query.
    """
    queries = np.arange(truth.n_queries)
    if truth.groups is None and truth.ignored is None:
        return search(queries, min(k, truth.n_database))
    depth = depth_needed(truth, k)
    step = max(1, ENTRIES // max(1, depth))
    rankings = [
        filter_ranking(search(rows, depth), of_queries(truth, rows), k)
        for rows in (queries[start : start + step] for start in range(0, len(queries), step))
    ]
    if not rankings:
        return search(queries, k)
    return Ranking(
        np.concatenate([part.indices for part in rankings]),
        np.concatenate([part.distances for part in rankings]),
    )


def first_hits(ranking: Ranking, truth: Truth) -> NDArray[np.int64]:
    """The rank of each query's first right answer, from 1; 0 where the ranking holds none.

    Ignored rows, and all but the best ranked one of each group, are taken out of the ranking before counting;
    an entry of -1 is a wrong answer.

    Returns:
        int64 [Q].

    Raises:
        InputError: ranking and truth are of other numbers of queries, or a row is outside of the database.
    """
    kept = valid_mask(ranking, truth)
    return first_hit_ranks(truth.positives.contains(ranking.indices), kept)


def first_hit_ranks(right: NDArray[np.bool_], kept: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The rank, from 1, of the first right answer among those kept; 0 where there is none.

    Args:
        right: bool [Q, K], which entries of a ranking are right.
        kept: bool [Q, K], which count, from `valid_mask`.

    Returns:
        int64 [Q].
    """
    if not right.size:
        return np.zeros(len(right), np.int64)
    hit = right & kept
    first = hit.argmax(axis=1)
    ranks = np.cumsum(kept, axis=1)[np.arange(len(hit)), first]
    return np.where(hit.any(axis=1), ranks, 0).astype(np.int64)


def _best_of_groups(groups_QK: NDArray[np.int64]) -> NDArray[np.bool_]:
    """bool [Q, K]: False where the same group stood before in the row; -1 is no group."""
    order = np.argsort(groups_QK, axis=1, kind="stable")
    ordered = np.take_along_axis(groups_QK, order, 1)
    again = np.zeros(groups_QK.shape, np.bool_)
    again[:, 1:] = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    best = np.empty_like(again)
    np.put_along_axis(best, order, ~again, 1)
    return best


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
