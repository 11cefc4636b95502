"""Mining by parts: for some queries at a time, only they, their positives and some negatives are described.

So a dataset of any size can be mined. Equivalent to ``update_subcache`` of Mapillary's ``msls.py``
(Warburg et al., CVPR 2020).

Legend: q queries of the part, n database photos of the part, D numbers of a descriptor, P some of the n.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dejavlad.training.sampling.mining import Descriptors, Floats, Mined, Miner, n_examined, nearest
from dejavlad.training.sampling.tuples import Candidates, Rows


@dataclass(frozen=True, slots=True, eq=False)
class Subcache(Descriptors):
    """What the network said of a part of the photos; ``queries_QD`` is [q, D], ``database_ND`` [n, D]."""

    queries: Rows
    """int64 [q], which queries, ascending."""
    database: Rows
    """int64 [n], which rows of the database, ascending."""
    negatives: Rows
    """Which of the n are negatives of all of the q, ascending."""


class SubcacheMiner(Miner):
    """Chooses tuples within a subcache; arguments as of `Miner`.

    Its negatives are drawn anew each time, so that none are remembered.
    """

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
        return np.concatenate([queries, len(self.memory) + np.unique(np.concatenate([*positives, drawn]))])

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
        near, near_squared = nearest(query_D, cache.database_ND, pool, n_examined(config))
        if config.quirk("inverted_violation"):
            similarity_P = cache.database_ND[pool] @ query_D
            # For descriptors of length 1, similarity = 1 - squared / 2. The original compares similarities as
            # if they were distances, so that nearly all negatives pass; it then takes the nearest of all.
            violating = (1 - squared / 2) - similarity_P + config.margin > 0
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
