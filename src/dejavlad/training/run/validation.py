"""How good the descriptors are: recall@N, and the ranking loss of random negatives.

Legend: Q queries, N database photos, P rows of the database, D numbers of a descriptor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dejavlad.evaluation import answers_of, evaluate
from dejavlad.ground_truth import Truth
from dejavlad.ground_truth.refine import of_queries
from dejavlad.index import build_index
from dejavlad.training.config.options import TrainConfig
from dejavlad.training.sampling.mining import Descriptors
from dejavlad.training.sampling.tuples import Candidates, Rows


@dataclass(frozen=True, slots=True)
class Scores:
    """How good descriptors are on one dataset."""

    recall: dict[int, float]
    """N -> share of the queries with a right answer among their first N."""
    rank_loss: float | None
    """Mean over queries of the mean hinge of random negatives; None where no query has a positive."""


def score(
    descriptors: Descriptors, truth: Truth, candidates: Candidates, failed: Sequence[int], config: TrainConfig
) -> Scores:
    """Equivalent to ``testNet.m``.

    Args:
        descriptors: of all photos.
        truth: what counts as right.
        candidates: positives and negatives, for the ranking loss.
        failed: numbers of photos that could not be described (queries first): such a query is a miss, such a
            photo of the database is no answer.
        config: how many queries, which N, how many negatives.
    """
    return Scores(
        _recall(descriptors, truth, failed, config), rank_loss(descriptors, candidates, failed, config)
    )


def _recall(
    descriptors: Descriptors, truth: Truth, failed: Sequence[int], config: TrainConfig
) -> dict[int, float]:
    queries = _sample(truth.n_queries, config.test_queries, config.seed)
    sampled_truth = truth if len(queries) == truth.n_queries else of_queries(truth, queries)
    described = np.ones(truth.n_database, np.bool_)
    described[[number - truth.n_queries for number in failed if number >= truth.n_queries]] = False
    rows = np.flatnonzero(described)
    database_ND = descriptors.database_ND if described.all() else descriptors.database_ND[rows]
    index = build_index("flat", database_ND, ids=rows)
    ranking = answers_of(
        lambda rows, depth: index.search(descriptors.queries_QD[queries[rows]], depth),
        sampled_truth,
        max(config.recall_at),
    )
    unseen = np.isin(queries, list(failed))
    ranking.indices[unseen] = -1
    ranking.distances[unseen] = np.inf
    return dict(evaluate(ranking, sampled_truth, recall_at=config.recall_at).recall)


def rank_loss(
    descriptors: Descriptors, candidates: Candidates, failed: Sequence[int], config: TrainConfig
) -> float | None:
    """Mean over queries of the mean over negatives of ``max(0, |q-p|^2 + margin - |q-n|^2)``.

    p is the nearest potential positive; the negatives are drawn, the same at every test. Equivalent to
    ``testCoreRank.m``.
    """
    losses = []
    n_queries = len(descriptors.queries_QD)
    unseen = set(failed)
    for query in _sample(n_queries, config.rank_queries, config.seed).tolist():
        positives = candidates.positives(query)
        if query in unseen or not len(positives):
            continue
        if config.negatives == "all":
            negatives = candidates.negatives(query)
        else:
            random = np.random.default_rng([config.seed, 0, query])
            negatives = candidates.draw_negatives(query, int(config.negatives), random)
        if not len(negatives):
            continue
        query_D = descriptors.queries_QD[query]
        best = _squared(query_D, descriptors, positives).min()
        hinges = np.maximum(0, best + config.margin - _squared(query_D, descriptors, negatives))
        losses.append(float(hinges.mean()))
    return float(np.mean(losses)) if losses else None


def _squared(query_D: np.ndarray, descriptors: Descriptors, rows: Rows) -> np.ndarray:
    """Squared distances [P] from a query to rows of the database, in float64 but for a float32 product."""
    squared_P = np.empty(len(rows))
    step = max(1, (1 << 24) // len(query_D))
    for first in range(0, len(rows), step):
        part_PD = descriptors.database_ND[np.sort(rows)[first : first + step]]
        gap = np.vecdot(part_PD, part_PD).astype(np.float64) - 2.0 * (part_PD @ query_D)
        squared_P[first : first + step] = gap
    return np.maximum(0, squared_P + float(np.vecdot(query_D, query_D)))


def _sample(n: int, most: int, seed: int) -> Rows:
    """So many of n, ascending, drawn once; all where that is 0."""
    if not most or n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng([seed, 0]).choice(n, most, replace=False))
