"""Mining by parts: for some queries at a time, only they, their positives and some negatives are described.

So a dataset of any size can be mined. Equivalent to ``update_subcache`` of Mapillary's ``msls.py``
(Warburg et al., CVPR 2020).

Legend: q queries of the part, n database photos of the part, D numbers of a descriptor, P some of the n.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dejavlad.errors import StoreError
from dejavlad.files import replacing
from dejavlad.guarded.npy_file import read_npy
from dejavlad.guarded.plain_file import read_utf8
from dejavlad.training.config.options import TrainConfig
from dejavlad.training.losses.ranking_loss import TupleLoss
from dejavlad.training.sampling.mining import (
    Descriptors,
    Floats,
    Mined,
    looked_at,
    nearest,
)
from dejavlad.training.sampling.tuples import (
    Candidates,
    Rows,
)


@dataclass(frozen=True, slots=True, eq=False)
class Subcache(Descriptors):
    """What the network said of a part of the photos; ``queries_QD`` is [q, D], ``database_ND`` [n, D]."""

    queries: Rows
    """int64 [q], which queries, ascending."""
    database: Rows
    """int64 [n], which rows of the database, ascending."""
    negatives: Rows
    """Which of the n are negatives of all of the q, ascending."""


class SubcacheMiner:
    """Chooses tuples within a subcache.

    Args:
        candidates: who may be what.
        loss: which negatives violate.
        config: how many of which.
        n_queries: of the whole dataset.
    """

    def __init__(self, candidates: Candidates, loss: TupleLoss, config: TrainConfig, n_queries: int) -> None:
        self.candidates, self._loss, self._config, self._n_queries = candidates, loss, config, n_queries
        self.memory: list[Rows] = [np.empty(0, np.int64)] * n_queries
        """Empty for each query: a subcache's negatives are drawn anew, and none are remembered."""

    def wanted(self, queries: Rows, epoch: int, batch: int) -> Rows:
        """Numbers of the photos that a subcache needs, ascending; depends on seed and place alone.

        Args:
            queries: those of the part, in any order, doubles allowed.
            epoch: from 1.
            batch: the first that it serves.
        """
        queries = np.unique(queries)
        positives = [self.candidates.positives(int(query)) for query in queries]
        random = np.random.default_rng([self._config.seed, epoch, batch, 0, 0, 2])
        drawn = self.candidates.draw(self._config.cached_negatives, random)
        for query in queries:
            drawn = drawn[self.candidates.are_negatives(int(query), drawn)]
        return np.concatenate([queries, self._n_queries + np.unique(np.concatenate([*positives, drawn]))])

    def choose(self, query: int, descriptors: Descriptors, epoch: int, batch: int) -> Mined | None:
        """The tuple of a query; None where it has no positive, or no descriptor."""
        assert isinstance(descriptors, Subcache)
        cache, config = descriptors, self._config
        positives = np.searchsorted(cache.database, self.candidates.positives(query))
        if not len(positives):
            return None
        query_D = cache.queries_QD[int(np.searchsorted(cache.queries, query))]
        best, best_squared = nearest(query_D, cache.database_ND, positives, 1)
        if not len(best) or not query_D.any():
            return None
        squared, positive = float(best_squared[0]), int(cache.database[best[0]])
        known = self.candidates.are_negatives(query, cache.database[cache.negatives])  # they may have failed
        pool = cache.negatives[known]
        near, near_squared = nearest(query_D, cache.database_ND, pool, looked_at(config))
        if config.quirk("inverted_violation"):
            likeness_P = cache.database_ND[pool] @ query_D
            # For descriptors of length 1, likeness = 1 - squared / 2. The original compares likenesses as if
            # they were distances, so that nearly all negatives pass; it then takes the nearest of all.
            violating = (1 - squared / 2) - likeness_P + config.margin > 0
            chosen = near if int(violating.sum()) > config.negatives_used else near[:0]
        else:
            chosen = near[self._loss.violates(squared, near_squared)]
        return Mined(query, positive, cache.database[chosen[: config.negatives_used]])


def subcache_of(numbers: Rows, rows_MD: Floats, candidates: Candidates, n_queries: int) -> Subcache:
    """A subcache of the descriptors [M, D] of what was `wanted`."""
    n = int(np.searchsorted(numbers, n_queries))
    queries, database = numbers[:n], numbers[n:] - n_queries
    far = np.ones(len(database), np.bool_)
    for query in queries:
        far &= candidates.are_negatives(int(query), database)
    return Subcache(rows_MD[:n], rows_MD[n:], queries, database, np.flatnonzero(far))


def rows_file(path: Path) -> Path:
    """Beside a file of descriptors, which photos they are of."""
    return path.with_name(f"{path.name}.rows")


def sum_file(path: Path) -> Path:
    """Beside a file of descriptors, the checksum of them all."""
    return path.with_name(f"{path.name}.sum")


def row_sum(number: int, row_D: Floats) -> int:
    """What a row adds to the checksum, whenever it is written; rows of zeros add nothing."""
    return zlib.crc32(row_D.astype("<f4").tobytes(), number & 0xFFFFFFFF) if row_D.any() else 0


def check_sum(path: Path, rows_MD: Floats) -> None:
    """Compare descriptors with their checksum, where they have one.

    Raises:
        ValueError: they are no float32 [M, D], or were changed since they were written.
    """
    if rows_MD.ndim != 2 or rows_MD.dtype != np.float32:
        raise ValueError(f"they are {rows_MD.dtype} {list(rows_MD.shape)}")
    if sum_file(path).is_file():
        total = sum(row_sum(number, row_D) for number, row_D in enumerate(rows_MD))
        if read_utf8(sum_file(path), 1 << 10) != f"{total}\n":
            raise ValueError("they were changed since they were written; delete the run's cache folder")


def write_rows(path: Path, numbers: Rows) -> None:
    """Write which photos the descriptors in a file are of, before these.

    Raises:
        StoreError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(rows_file(path)) as file:
            np.save(file, numbers)
    except OSError as error:
        raise StoreError(f"descriptors cannot be written to {str(path)!r}: {error}") from None


def read_rows(path: Path) -> tuple[Rows, Floats]:
    """Numbers of photos [M], and their descriptors float32 [M, D].

    Raises:
        StoreError: it is not there, or damaged.
    """
    try:
        numbers, rows_MD = read_npy(rows_file(path)), read_npy(path)
        check_sum(path, rows_MD)
    except (OSError, ValueError) as error:
        raise StoreError(f"descriptors cannot be read from {str(path)!r}: {error}") from None
    if len(numbers) != len(rows_MD):
        raise StoreError(f"{str(path)!r} holds {len(rows_MD)} descriptors, not {len(numbers)}")
    return numbers, rows_MD
