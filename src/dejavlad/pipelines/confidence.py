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
from numpy.typing import NDArray

from dejavlad.evaluation.reliability import Reliability, reliability
from dejavlad.extraction import DescriptorStore
from dejavlad.geo import Positions, distance
from dejavlad.ground_truth import PlaceDataset
from dejavlad.local_features import LocalFeatures
from dejavlad.pipelines.reranking import rerank
from dejavlad.places.confidence import distinct_places, same_place, stand_out
from dejavlad.places.located_position import located_position
from dejavlad.places.locating import CANDIDATES
from dejavlad.places.reranking import Reranked
from dejavlad.places.verification.confidence import CHANCE, Evidence, verified_confidence
from dejavlad.places.verification.points import RIVALS, STEP, PointSetting, PointSource
from dejavlad.places.verification.rivals import rivals
from dejavlad.progress import OnProgress, Progress, silent
from dejavlad.ranking import Ranking
from dejavlad.rerank import PointReranker, Verified

JUDGING: Final = "judging confidence"
"""The task that `OnProgress` is told of."""
REMEMBERED: Final = 10_000
"""Pairs of photos kept from re-ranking, of 2 to 20 kB; those before them are verified again."""

Features = Callable[[int], LocalFeatures]
Rows = NDArray[np.int64]


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
    first, after = reranked.first, reranked.ranking
    right_Q = dataset.truth.positives.contains(after.indices[:, :1])[:, 0]
    sure, right, errors, stated = [], [], [], []
    for q in np.flatnonzero(reranked.done & (after.indices[:, 0] >= 0)).tolist():
        listed = first.indices[q, :CANDIDATES] >= 0
        rows_K, far_K = first.indices[q, :CANDIDATES][listed], first.distances[q, :CANDIDATES][listed]
        at = np.flatnonzero(rows_K == after.indices[q, 0])
        query = of_query(q)
        if not len(at) or not len(query):
            continue
        listed_at = [dataset.database[int(row)].position for row in rows_K]
        same_KK = same_place(rows_K, Positions.from_list(listed_at).distances(), len(dataset.database))
        best = int(at[0])
        other = np.flatnonzero(~same_KK[best])[:RIVALS].tolist()
        order = [int(np.flatnonzero(rows_K == row)[0]) for row in after.indices[q, :STEP] if row in rows_K]
        verified = {k: reranker.verified(query, of_database(int(rows_K[k]))) for k in {best, *other, *order}}
        descriptors = database.float32(rows_K)
        descriptors /= np.maximum(np.linalg.norm(descriptors, axis=1, keepdims=True), 1e-12)
        places = distinct_places(far_K, same_KK, descriptors)

        def between(a: int, b: int, rows_K: Rows = rows_K) -> Verified:
            return reranker.verified(of_database(int(rows_K[a])), of_database(int(rows_K[b])))

        def elsewhere(k: int, same_K: NDArray[np.bool_] = same_KK[best]) -> bool:
            return not same_K[k]

        others = rivals(best, verified, elsewhere, between, least=CHANCE)
        evidence = Evidence(stand_out(far_K[places]), len(places)).verified(verified[best], others)
        sure.append(verified_confidence(evidence))
        right.append(bool(right_Q[q]))
        agreed, within = located_position(best, verified, {k: listed_at[k] for k in verified})
        true = dataset.queries[q].position
        errors.append(np.nan if agreed is None or true is None else distance(agreed, true))
        stated.append(np.nan if within is None else within)
        on_progress(Progress(JUDGING, len(sure), len(right_Q)))
    return reliability(sure, right, errors, stated) if sure else None
