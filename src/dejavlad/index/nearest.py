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

from collections.abc import Callable, Iterator
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True, eq=False)
class Doubtful:
    """Pairs of a chunk that seem too far to be among the best, but may be by the error of the products."""

    query_P: Ids
    row_P: Ids
    screen_P: Floats
    slack_B: NDArray[np.float64]
    rows: Take
    ids_P: Ids


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
        self._doubtful: list[Doubtful] = []

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
        near_BC = screen_BC <= _upwards(self._limits(slack_B))[:, None]
        if self._k < screen_BC.shape[1] and np.count_nonzero(near_BC) > 2 * self._k * len(screen_BC):
            likely_B = np.fmin(_kth(screen_BC, self._k), self._limits(0.0))  # NaN where too few are alive
            first_BC = screen_BC <= _upwards(likely_B)[:, None]
            for query_P, row_P, _ in _pairs(first_BC, screen_BC):
                self._measure(query_P, row_P, rows, ids_C[row_P])
            near_BC = (screen_BC <= _upwards(self._limits(slack_B))[:, None]) & ~first_BC
        for query_P, row_P, screen_P in _pairs(near_BC, screen_BC):
            if callable(rows):
                doubtful = screen_P > self._limits(0.0)[query_P]
                pairs = query_P[doubtful], row_P[doubtful], screen_P[doubtful]
                if len(pairs[0]):
                    self._doubtful.append(Doubtful(*pairs, slack_B, rows, ids_C[pairs[1]]))
                query_P, row_P = query_P[~doubtful], row_P[~doubtful]
            self._measure(query_P, row_P, rows, ids_C[row_P])
        if sum(len(part.query_P) for part in self._doubtful) > PAIRS:
            self._decide()

    def _limits(self, slack_B: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Half the squared distance, less the query's own length, up to which a row may be among the best K
        [B], and so much more."""
        worst_B = self._distances[:, -1].astype(np.float64)
        return (worst_B**2 * (1 + 1e-6) - self._square) / 2 + slack_B

    def _decide(self) -> None:
        """Measure what is still in doubt, now that the best are better known."""
        doubtful, self._doubtful = self._doubtful, []
        for part in doubtful:
            near = part.screen_P <= _upwards(self._limits(part.slack_B))[part.query_P]
            self._measure(part.query_P[near], part.row_P[near], part.rows, part.ids_P[near])

    def _measure(self, query_P: Ids, row_P: Ids, rows: Floats | Take, ids_P: Ids) -> None:
        """Measure pairs of a query and a row, and keep the best."""
        if not len(query_P):
            return
        if callable(rows):
            wanted_C = np.zeros(int(row_P.max()) + 1, np.bool_)
            wanted_C[row_P] = True
            place_C = np.cumsum(wanted_C) - 1
            distance_P = distances(self._queries, query_P, rows(np.flatnonzero(wanted_C)), place_C[row_P])
        else:
            distance_P = distances(self._queries, query_P, rows, row_P)
        touched = np.unique(query_P)
        query = np.concatenate([np.repeat(touched, self._k), query_P])
        distance = np.concatenate([self._distances[touched].ravel(), distance_P])
        ids = np.concatenate([self._ids[touched].ravel(), ids_P])
        order = _order(query, distance, ids)
        starts = np.searchsorted(query[order], touched)
        best = order[starts[:, None] + np.arange(self._k)]
        self._ids[touched], self._distances[touched] = ids[best], distance[best]

    def result(self) -> tuple[Ids, Floats]:
        """Ids [B, K], -1 where there are fewer; distances [B, K], +inf there."""
        self._decide()
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


def _pairs(near_BC: NDArray[np.bool_], screen_BC: Floats) -> Iterator[tuple[Ids, Ids, Floats]]:
    """Query, row and screen of the pairs that are near, some at a time."""
    by_rows = near_BC.flags.f_contiguous
    near, screen = near_BC.ravel(order="K"), screen_BC.ravel(order="K")
    width = near_BC.shape[0 if by_rows else 1]
    for first in range(0, near.size, PAIRS):
        at_P = np.flatnonzero(near[first : first + PAIRS]) + first
        if len(at_P):
            outer_P, inner_P = np.divmod(at_P, width)
            yield *((inner_P, outer_P) if by_rows else (outer_P, inner_P)), screen[at_P]


def _kth(screen_BC: Floats, k: int) -> NDArray[np.float64]:
    """At least the k-th smallest of each query [B]; of long rows, the k-th of the smallest of each group.

    A group's rows lie apart, as photos that were taken one after another are alike.
    """
    n_queries, count = screen_BC.shape
    groups = GROUPS * k
    if (size := count // groups) >= 2:
        if screen_BC.flags.f_contiguous:
            groups_nGB = screen_BC.T[: size * groups].reshape(size, groups, n_queries)
            screen_BC = np.fmin.reduce(groups_nGB, axis=0).T  # rows that are not alive are NaN
        else:
            groups_BnG = screen_BC[:, : size * groups].reshape(n_queries, size, groups)
            screen_BC = np.fmin.reduce(groups_BnG, axis=1)
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
