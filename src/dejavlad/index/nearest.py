"""The nearest rows, exactly: screened by one matrix product a chunk, then measured one by one.

|q - r|^2 = |q|^2 + |r|^2 - 2 q.r costs one product but loses digits where q and r are close. So it only
screens. Whatever could still be among the best k, allowing for the rounding of the product, is measured
directly: the differences are squared and summed in float64, and rounded once to float32. Distances are right
to the last float32 digit, 0 for identical rows, and equal distances are ordered by id.

Brute-force searches of libraries stop at the product, which puts a photo at up to 1e-3 of itself and leaves
the order of equals open; trees (SciPy's) are slower than a scan beyond some twenty dimensions. faiss, which
is another kind of index here, only proposes rows: its candidates are measured in the same way.

Legend: B queries, C rows of a chunk, D dimensions, K answers, P pairs of a query and a row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dejavlad.index.base import Floats, Ids

NO_ID = np.iinfo(np.int64).max
PAIRS = 1 << 20
"""Pairs listed at once, at most (all may qualify where rows are alike)."""
CACHED_VALUES = 1 << 18
"""Values measured at once: few enough to stay in the processor's cache, four times as fast as more."""


class Nearest:
    """The best K rows found so far for B queries; feed it the database chunk by chunk, in any order.

    Args:
        queries_BD: float32, finite.
        square_B: their squared lengths.
        k: K.
    """

    def __init__(self, queries_BD: Floats, square_B: Floats, k: int) -> None:
        self._queries, self._square, self._k = queries_BD, square_B, k
        self._ids = np.full((len(queries_BD), k), NO_ID, dtype=np.int64)
        self._distances = np.full((len(queries_BD), k), np.inf, dtype=np.float32)

    def feed(self, rows_CD: Floats, square_C: Floats, ids_C: Ids, alive_C: NDArray[np.bool_]) -> None:
        """Look at a chunk of rows; those that are not alive are passed over."""
        if not alive_C.any() or not len(self._queries):
            return
        screen_BC = self._queries @ rows_CD.T
        screen_BC *= -2.0
        screen_BC += square_C
        screen_BC += self._square[:, None]
        screen_BC[:, ~alive_C] = np.nan
        longest = np.sqrt(self._square.astype(np.float64)) + np.sqrt(float(square_C[alive_C].max()))
        rounding_B = 2.0**-22 * (np.sqrt(rows_CD.shape[1]) + 4) * longest**2
        step = max(1, PAIRS // len(ids_C))
        for first in range(0, len(screen_BC), step):
            block = slice(first, first + step)
            self._measure(first, screen_BC[block], rounding_B[block], rows_CD, ids_C)

    def _measure(
        self, first: int, screen_bC: Floats, rounding_b: NDArray[np.float64], rows_CD: Floats, ids_C: Ids
    ) -> None:
        """Measure what may be among the best of the queries from `first` on, and keep the best."""
        worst_b = self._distances[first : first + len(screen_bC), -1].astype(np.float64)
        limit_b = worst_b**2 * (1 + 1e-6) + rounding_b
        near_bC = screen_bC <= limit_b[:, None]
        if self._k < screen_bC.shape[1] and near_bC.sum() > 2 * self._k * len(screen_bC):
            kth_b = np.partition(screen_bC, self._k - 1, axis=1)[:, self._k - 1].astype(np.float64)
            limit_b = np.fmin(
                limit_b, kth_b * (1 + 1e-6) + 2 * rounding_b
            )  # fmin: fewer than k alive gives NaN
            near_bC = screen_bC <= limit_b[:, None]
        query_P, row_P = np.nonzero(near_bC)
        if not len(query_P):
            return
        query_P += first
        distance_P = distances(self._queries, query_P, rows_CD, row_P)
        touched = np.unique(query_P)
        query = np.concatenate([np.repeat(touched, self._k), query_P])
        distance = np.concatenate([self._distances[touched].ravel(), distance_P])
        ids = np.concatenate([self._ids[touched].ravel(), ids_C[row_P]])
        order = np.lexsort((ids, distance, query))
        starts = np.searchsorted(query[order], touched)
        best = order[starts[:, None] + np.arange(self._k)]
        self._ids[touched], self._distances[touched] = ids[best], distance[best]

    def result(self) -> tuple[Ids, Floats]:
        """Ids [B, K], -1 where there are fewer; distances [B, K], +inf there."""
        return np.where(self._ids == NO_ID, -1, self._ids), self._distances


def distances(queries_BD: Floats, query_P: Ids, rows_CD: Floats, row_P: Ids) -> Floats:
    """Euclidean distance of each pair of a query and a row [P], measured in float64 and rounded once."""
    distance_P = np.empty(len(query_P), dtype=np.float32)
    step = max(1, CACHED_VALUES // rows_CD.shape[1])
    for first in range(0, len(query_P), step):
        part = slice(first, first + step)
        gap_pD = queries_BD[query_P[part]].astype(np.float64)
        gap_pD -= rows_CD[row_P[part]]
        distance_P[part] = np.sqrt(np.vecdot(gap_pD, gap_pD))
    return distance_P
