"""The nearest rows, exactly: screened by one product a chunk, then measured one by one.

|q - r|^2 = |q|^2 + |r|^2 - 2 q.r costs one product but loses digits where q and r are close. So it only
screens. Whatever could still be among the best k, allowing for the error of the product, is measured
directly: the differences are squared and summed in float64, and rounded once to float32. Distances are right
to the last float32 digit, 0 for identical rows, and equal distances are ordered by id. The product may be of
8-bit or 16-bit numbers, where its error is bounded: the answer is the same.

Brute-force searches of libraries stop at the product, which puts a photo at up to 1e-3 of itself and leaves
the order of equals open; trees (SciPy's) are slower than a scan beyond some twenty dimensions. faiss, which
is another kind of index here, only proposes rows: its candidates are measured in the same way.

Legend: B queries, C rows of a chunk, D dimensions, K answers, P pairs of a query and a row.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dejavlad.index.base import Floats, Ids
from dejavlad.index.products import float_products

NO_ID = np.iinfo(np.int64).max
PAIRS = 1 << 20
"""Pairs listed at once, at most (all may qualify where rows are alike)."""
GROUPS = 4
"""Times K, groups of rows whose smallest tell about the K-th of all."""
CACHED_VALUES = 1 << 18
"""Values measured at once: few enough to stay in the processor's cache, four times as fast as more."""

Take = Callable[[Ids], Floats]
"""Rows of a chunk as float32 [n, D], by their places in it (ascending, each once)."""


class Nearest:
    """The best K rows found so far for B queries; feed it the database chunk by chunk, in any order.

    Args:
        queries_BD: float32, finite.
        square_B: their squared lengths.
        k: K.
    """

    def __init__(self, queries_BD: Floats, square_B: Floats, k: int) -> None:
        self._queries, self._square, self._k = queries_BD, square_B, k
        self.in_question = 0
        """Pairs of the last chunk that were measured."""
        self._ids = np.full((len(queries_BD), k), NO_ID, dtype=np.int64)
        self._distances = np.full((len(queries_BD), k), np.inf, dtype=np.float32)

    def feed(self, rows_CD: Floats, square_C: Floats, ids_C: Ids, alive_C: NDArray[np.bool_]) -> None:
        """Look at a chunk of rows; those that are not alive are passed over."""
        if alive_C.any() and len(self._queries):
            products_BC = float_products(self._queries, rows_CD)
            self.screen(products_BC, np.zeros(len(self._queries)), rows_CD, square_C, ids_C, alive_C)

    def screen(
        self,
        products_BC: Floats,
        error_B: NDArray[np.float64],
        rows: Floats | Take,
        square_C: Floats,
        ids_C: Ids,
        alive_C: NDArray[np.bool_],
    ) -> None:
        """Look at a chunk of rows, whose products with the queries are known.

        Args:
            products_BC: float32, about q.r; overwritten.
            error_B: how far off they may be, at most, beside the rounding of float32 sums.
            rows: float32 [C, D], or what gives some of them.
            square_C: squared lengths of the rows that are measured.
            ids_C: their ids.
            alive_C: those that are not alive are passed over.
        """
        screen_BC = np.subtract(np.float32(0.5) * square_C, products_BC, out=products_BC)
        if not alive_C.all():
            screen_BC[:, ~alive_C] = np.nan
        longest = np.sqrt(self._square.astype(np.float64)) + np.sqrt(float(square_C[alive_C].max(initial=0)))
        dims = self._queries.shape[1]
        slack_B = 2.0**-23 * (np.sqrt(dims) + 4) * longest**2 + error_B
        near_BC = self._near(screen_BC, slack_B)
        by_rows = near_BC.flags.f_contiguous
        near, width = near_BC.ravel(order="K"), near_BC.shape[0 if by_rows else 1]
        self.in_question = int(np.count_nonzero(near))
        for first in range(0, near.size, PAIRS):
            outer_P, inner_P = np.divmod(np.flatnonzero(near[first : first + PAIRS]) + first, width)
            if len(outer_P):
                self._measure(*((inner_P, outer_P) if by_rows else (outer_P, inner_P)), rows, ids_C)

    def _near(self, screen_BC: Floats, slack_B: NDArray[np.float64]) -> NDArray[np.bool_]:
        """[B, C] whether a row may be among a query's best K: of `screen_BC`'s order in memory."""
        worst_B = self._distances[:, -1].astype(np.float64)
        limit_B = (worst_B**2 * (1 + 1e-6) - self._square) / 2 + slack_B
        near_BC = screen_BC <= _upwards(limit_B)[:, None]
        if self._k < screen_BC.shape[1] and np.count_nonzero(near_BC) > 2 * self._k * len(screen_BC):
            limit_B = np.fmin(limit_B, _kth(screen_BC, self._k) + 2 * slack_B)  # fmin: too few alive: NaN
            near_BC = screen_BC <= _upwards(limit_B)[:, None]
        return near_BC

    def _measure(self, query_P: Ids, row_P: Ids, rows: Floats | Take, ids_C: Ids) -> None:
        """Measure pairs of a query and a row, and keep the best."""
        if callable(rows):
            chosen, places_P = np.unique(row_P, return_inverse=True)
            distance_P = distances(self._queries, query_P, rows(chosen), places_P)
        else:
            distance_P = distances(self._queries, query_P, rows, row_P)
        touched = np.unique(query_P)
        query = np.concatenate([np.repeat(touched, self._k), query_P])
        distance = np.concatenate([self._distances[touched].ravel(), distance_P])
        ids = np.concatenate([self._ids[touched].ravel(), ids_C[row_P]])
        order = _order(query, distance, ids)
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


def _kth(screen_BC: Floats, k: int) -> NDArray[np.float64]:
    """At least the k-th smallest of each query [B]; of long rows, the k-th of the smallest of each group."""
    n_queries, count = screen_BC.shape
    groups = GROUPS * k
    if 2 * groups <= count:
        size = count // groups
        kept_BGn = screen_BC[:, : groups * size].reshape(n_queries, groups, size, order="A")
        screen_BC = np.fmin.reduce(kept_BGn, axis=2)  # rows that are not alive are NaN
    return np.partition(screen_BC, k - 1, axis=1)[:, k - 1].astype(np.float64)


def _order(query_P: Ids, distance_P: Floats, ids_P: Ids) -> Ids:
    """Pairs by query, distance, id."""
    # Numbers that are not negative are ordered as their bits are.
    key_P = query_P.astype(np.uint64) << np.uint64(32) | (distance_P + np.float32(0)).view(np.uint32)
    order: Ids = np.argsort(key_P)
    key_P = key_P[order]
    ties = np.flatnonzero(key_P[1:] == key_P[:-1])
    if len(ties):
        places = np.union1d(ties, ties + 1)
        tied = order[places]
        order[places] = tied[np.lexsort((ids_P[tied], key_P[places]))]
    return order


def _upwards(limit_b: NDArray[np.float64]) -> Floats:
    """The next float32 number, so that comparing in float32 leaves nothing out."""
    return np.nextafter(limit_b.astype(np.float32), np.float32(np.inf))
