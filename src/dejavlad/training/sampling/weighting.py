"""Which queries an epoch goes through, and in which order; rare conditions may be drawn the oftener."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dejavlad.photo import Photo
from dejavlad.training.config.options import TrainConfig
from dejavlad.training.sampling.tuples import Candidates, Rows


def query_weights(
    queries: Sequence[Photo], candidates: Candidates, config: TrainConfig
) -> NDArray[np.float64] | None:
    """How often each query is drawn, float64 [Q]; None where they are not drawn with replacement.

    1, and for each tag that it has the number of all queries over that of those tagged so; 0 without a
    positive. Equivalent to ``calcSamplingWeights`` of Mapillary's ``msls.py``.
    """
    if config.query_order != "weighted":
        return None
    answerable = candidates.answerable
    weights = answerable.astype(np.float64)
    for tag in config.weigh_tags:
        tagged = answerable & np.array([tag in photo.tags for photo in queries])
        if tagged.any():
            weights[tagged] += answerable.sum() / tagged.sum()
    return weights


def query_order(
    n_queries: int, config: TrainConfig, epoch: int, weights: NDArray[np.float64] | None = None
) -> Rows:
    """The queries in the order of an epoch, which depends on seed and epoch alone.

    Args:
        n_queries: Q.
        config: see its ``query_order``.
        epoch: from 1.
        weights: float64 [Q], see `query_weights`.
    """
    if config.query_order == "given":
        return np.arange(n_queries)
    random = np.random.default_rng([config.seed, epoch])
    if weights is None:
        return random.permutation(n_queries)
    return random.choice(n_queries, n_queries, p=weights / weights.sum())
