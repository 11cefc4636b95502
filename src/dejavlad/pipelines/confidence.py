"""How sure each answer of an evaluation is, and whether that can be trusted: what `locate` would say of it.

The confidence is `locate`'s: how far the best place stands out in the first ranking, and what the local
features of the answer and of photos of other places have in common with the query's.

Legend: Q queries, K depth of the ranking.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from dejavlad.evaluation.reliability import Reliability, reliability
from dejavlad.extraction import DescriptorStore
from dejavlad.geo import Positions, distance
from dejavlad.ground_truth import PlaceDataset
from dejavlad.local_features import LocalFeatures
from dejavlad.pipelines.reranking import rerank
from dejavlad.places.candidates import Candidates, VerifiedPlace
from dejavlad.places.confidence import same_place
from dejavlad.places.locating import CANDIDATES
from dejavlad.places.reranking import Reranked
from dejavlad.places.verification.points import RIVALS, STEP, PointSetting, PointSource
from dejavlad.progress import OnProgress, Progress, silent
from dejavlad.ranking import Ranking
from dejavlad.rerank import PointReranker, Verified

JUDGING: Final = "judging confidence"
"""The task that `OnProgress` is told of."""
REMEMBERED: Final = 10_000
"""Pairs of photos kept from re-ranking, of 2 to 20 kB; those before them are verified again."""

Features = Callable[[int], LocalFeatures]


def rerank_points(
    ranking: Ranking,
    dataset: PlaceDataset,
    database: DescriptorStore,
    points: PointSetting,
    out: Path,
    *,
    setting: Mapping[str, Any] | None = None,
    budget_ms: float | None = None,
    on_progress: OnProgress = silent,
    **options: Any,
) -> tuple[Reranked, Reliability | None]:
    """A ranking re-ranked by verified local features, and its confidence; no pair is verified twice.

    Args:
        ranking: rows of the database for each query.
        dataset: the photos, and what is right.
        database: descriptors of the database.
        points: how.
        out: the results' folder; what is finished is kept in ``out/reranking``.
        setting: what the ranking was made by.
        budget_ms: milliseconds a query, as a mean; see `rerank_all`.
        on_progress: told of each query.
        options: of `dejavlad.local.create`, e.g. ``device``.
    """
    extractor = points.extractor(on_progress=on_progress, **options)
    sources = PointSource(extractor, dataset.queries), PointSource(extractor, dataset.database)
    reranker = points.reranker(remembered=REMEMBERED)
    reranked = rerank(
        ranking,
        *sources,
        points,
        out,
        reranker=reranker,
        setting=setting,
        budget_ms=budget_ms,
        on_progress=on_progress,
    )
    return reranked, answer_reliability(
        reranked, dataset, database, reranker, *sources, on_progress=on_progress
    )


def answer_reliability(
    reranked: Reranked,
    dataset: PlaceDataset,
    database: DescriptorStore,
    reranker: PointReranker,
    of_query: Features,
    of_database: Features,
    *,
    on_progress: OnProgress = silent,
) -> Reliability | None:
    """Confidence against truth, for the first answer of each query that was compared.

    Args:
        reranked: the ranking before and after.
        dataset: the photos, and what is right.
        database: descriptors of the database.
        reranker: what compares local features.
        of_query: local features by query.
        of_database: local features by row of the database.
        on_progress: told of each query.

    Returns:
        None where the truth is not known, or no query was compared.
    """
    if dataset.truth is None:
        return None
    after_Q = reranked.ranking.indices[:, 0]
    right_Q = dataset.truth.positives.contains(after_Q[:, None])[:, 0]
    right, places, errors = [], [], []
    for q in np.flatnonzero(reranked.done & (after_Q >= 0)).tolist():
        place = _verified_place(q, reranked, dataset, database, reranker, of_query(q), of_database)
        if place is None:
            continue
        places.append(place)
        right.append(bool(right_Q[q]))
        agreed, true = place.agreed, dataset.queries[q].position
        errors.append(np.nan if agreed is None or true is None else distance(agreed, true))
        on_progress(Progress(JUDGING, len(places), len(right_Q)))
    stated = [np.nan if place.uncertainty_m is None else place.uncertainty_m for place in places]
    return reliability([place.confidence for place in places], right, errors, stated) if places else None


def _verified_place(
    q: int,
    reranked: Reranked,
    dataset: PlaceDataset,
    database: DescriptorStore,
    reranker: PointReranker,
    query: LocalFeatures,
    of_database: Features,
) -> VerifiedPlace | None:
    """How sure `locate` would be of a query's first answer; None where it is none of the candidates."""
    near = _candidates(q, reranked.first, dataset, database)
    rows_K, after = near.photos_K, reranked.ranking.indices[q]
    at = {int(row): k for k, row in enumerate(rows_K)}
    best = at.get(int(after[0]))
    if best is None or not len(query):
        return None
    looked_at = {best, *near.others(best)[:RIVALS], *(at[row] for row in after[:STEP].tolist() if row in at)}
    compared = {k: reranker.verified(query, of_database(int(rows_K[k]))) for k in looked_at}

    def between(k: int, other: int) -> Verified:
        return reranker.verified(of_database(int(rows_K[k])), of_database(int(rows_K[other])))

    positions = {k: dataset.database[int(rows_K[k])].position for k in compared}
    return near.verified(best, compared, between, positions)


def _candidates(q: int, ranking: Ranking, dataset: PlaceDataset, database: DescriptorStore) -> Candidates:
    """The first answers of a query, as `locate` looks at them."""
    listed = ranking.indices[q, :CANDIDATES] >= 0
    rows_K = ranking.indices[q, :CANDIDATES][listed]
    positions = Positions.from_list([dataset.database[int(row)].position for row in rows_K])
    same_KK = same_place(rows_K, positions.distances(), len(dataset.database))
    descriptors_KD = database.float32(rows_K)
    descriptors_KD /= np.maximum(np.linalg.norm(descriptors_KD, axis=1, keepdims=True), 1e-12)
    return Candidates.of(rows_K, ranking.distances[q, :CANDIDATES][listed], same_KK, descriptors_KD)
