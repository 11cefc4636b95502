"""Choosing tuples by what the network said last: the best positive, and the hardest negatives.

Legend: Q queries, N database photos, D numbers of a descriptor, P rows that are compared with one query.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dejavlad.index.products import float_products
from dejavlad.training.config.options import TrainConfig
from dejavlad.training.losses.ranking_loss import TupleLoss
from dejavlad.training.sampling.tuples import Candidates, Rows

Floats = NDArray[np.float32]

WORK_VALUES = 1 << 24
"""Values of rows that are compared at once."""
NONE = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Descriptors:
    """What the network said of the training photos when they were last described."""

    queries_QD: Floats
    """float32 [Q, D], of length 1, or zeros where a photo could not be described."""
    database_ND: Floats
    """float32 [N, D], as the queries'; memory-mapped where large."""


@dataclass(frozen=True, slots=True, eq=False)
class Mined:
    """A query with its best positive, and the negatives that violate the margin."""

    query: int
    """Row of the query among the Q queries."""
    positive: int
    """Row of its best positive among the N photos of the database."""
    negatives: Rows = field(default_factory=lambda: NONE)
    """Rows of the database, nearest first; none: there is nothing to learn, and its loss is 0."""


class Miner:
    """Chooses tuples, and remembers each query's hardest negatives.

    What it draws depends on seed, epoch, batch and query alone.
    """

    def __init__(self, candidates: Candidates, loss: TupleLoss, config: TrainConfig, n_queries: int) -> None:
        self.candidates, self._loss, self._config = candidates, loss, config
        self.memory: list[Rows] = [NONE] * n_queries
        """Of each query, the negatives that were nearest the last time, nearest first."""

    def choose(self, query: int, descriptors: Descriptors, epoch: int, batch: int) -> Mined | None:
        """The tuple of a query; None where it has no positive, or no descriptor.

        Equivalent to the inner loop of ``trainWeakly.m``.
        """
        positives = self.candidates.positives(query)
        if not len(positives):
            return None
        query_D = descriptors.queries_QD[query]
        best, squared = nearest(query_D, descriptors.database_ND, positives, 1)
        if not len(best) or not query_D.any():
            return None
        pool = self._pool(query, epoch, batch)
        config = self._config
        deep = n_examined(config)
        near, near_squared = nearest(
            query_D, descriptors.database_ND, pool, max(deep, config.negatives_remembered)
        )
        self.memory[query] = near[: config.negatives_remembered]
        violating = self._loss.violates(float(squared[0]), near_squared[:deep])
        return Mined(query, int(best[0]), near[:deep][violating][: config.negatives_used])

    def _pool(self, query: int, epoch: int, batch: int) -> Rows:
        """Rows of the negatives to choose from, int64, ascending: those drawn now, and those remembered."""
        if self._config.negatives == "all":
            return self.candidates.negatives(query)
        random = np.random.default_rng([self._config.seed, epoch, batch, query])
        drawn = self.candidates.draw_negatives(query, int(self._config.negatives), random)
        remembered = self.memory[query]
        return np.union1d(drawn, remembered[self.candidates.are_negatives(query, remembered)])


def n_examined(config: TrainConfig) -> int:
    """How many of the nearest negatives are looked at: violators come first, but for very hard ones."""
    return 10 * config.negatives_used if config.exclude_very_hard else config.negatives_used


def nearest(query_D: Floats, rows_ND: Floats, among: Rows, count: int) -> tuple[Rows, NDArray[np.float64]]:
    """The rows nearest to a query, of some.

    A product screens them; those that may be the nearest, by how far it is off at most, are measured in
    float64, equal distances ordered by row. Rows of zeros are left out: these photos could not be described,
    or the network sees nothing in them.

    Args:
        query_D: float32 [D].
        rows_ND: float32 [N, D].
        among: int64 [P] which of them, ascending.
        count: how many at most.

    Returns:
        Rows, nearest first, and their squared distances float64; fewer than `count` where there are no more.
    """
    step = max(1, WORK_VALUES // rows_ND.shape[1])
    if len(among) > count:
        if len(among) > len(rows_ND) // 2:  # a slice is no copy
            parts = [_screen(query_D, rows_ND[i : i + step]) for i in range(0, len(rows_ND), step)]
            least_P, most_P = np.concatenate(parts, axis=1)[:, among]
        else:
            parts = [_screen(query_D, rows_ND[among[i : i + step]]) for i in range(0, len(among), step)]
            least_P, most_P = np.concatenate(parts, axis=1)
        among = among[least_P <= np.partition(most_P, count - 1)[count - 1]]
    measured = [_squared(query_D, rows_ND[among[i : i + step]]) for i in range(0, len(among), step)]
    squared_P = np.concatenate([np.empty(0), *measured])
    order = np.lexsort((among, squared_P))[:count]  # by distance, then by row: the same on every machine
    order = order[np.isfinite(squared_P[order])]
    return among[order], squared_P[order]


def _squared(query_D: Floats, part_PD: Floats) -> NDArray[np.float64]:
    """Squared distances [P] in float64; +inf to zeros."""
    gap_PD = part_PD.astype(np.float64) - query_D
    return np.where(part_PD.any(axis=1), np.einsum("pd,pd->p", gap_PD, gap_PD), np.inf)


def _screen(query_D: Floats, part_PD: Floats) -> Floats:
    """Squared distances but for the query's own length, at least and at most [2, P], as a product of float32
    rounds; +inf to zeros."""
    square_P = np.vecdot(part_PD, part_PD)
    (product_P,) = float_products(query_D[None], part_PD)  # as every index multiplies
    screen_P = np.where(square_P > 0, square_P - 2 * product_P, np.float32(np.inf))
    rounding = 2.0**-22 * (np.sqrt(len(query_D)) + 4)
    error_P = np.float32(rounding) * (np.sqrt(square_P) + np.linalg.norm(query_D)) ** 2
    return np.stack([screen_P - error_P, screen_P + error_P])
