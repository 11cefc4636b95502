"""A ranking scored against the truth, and the files of its results.

Legend: Q queries, K depth of the ranking.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dejavlad.datasets.audit.near_duplicates import find_near_duplicates, summarize_near_duplicates
from dejavlad.errors import InputError
from dejavlad.evaluation import Result, evaluate, filter_ranking, write_predictions
from dejavlad.evaluation.average_precision import measured
from dejavlad.evaluation.predictions import write_patch_netvlad
from dejavlad.evaluation.reliability import Reliability
from dejavlad.ground_truth import PlaceDataset
from dejavlad.ground_truth.truth import Truth
from dejavlad.places.filters import Filter
from dejavlad.places.preset import Preset
from dejavlad.places.reranking import Reranked
from dejavlad.places.verification.points import PointSetting
from dejavlad.ranking import Ranking

LOOKED_AT = 500
"""Queries whose first answer is compared with them for being the same picture, those nearest to theirs."""
STEPS = 11
"""Points of the curve of recall against time."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """How rankings are made and scored."""

    recall_at: tuple[int, ...] = (1, 5, 10)
    "N of recall@N."
    k: int = 100
    "Depth of the ranking, at most the size of the database."
    misses: Literal["count", "drop"] = "count"
    "Queries without a right answer count as misses, or are left out."
    index: str = "flat"
    "Kind of index: flat is exact."
    protocol: str | None = None
    "Name of the protocol that the truth and misses are of."

    def __post_init__(self) -> None:
        if not self.recall_at or min(self.recall_at) < 1:
            raise InputError(f"recall is taken at N of 1 or more; given {list(self.recall_at)}")
        if self.k < max(self.recall_at):
            raise InputError(
                f"recall@{max(self.recall_at)} needs a ranking at least that deep; given -k {self.k}"
            )


SCORING = Scoring()


def score(
    ranking: Ranking,
    dataset: PlaceDataset,
    out: Path,
    scoring: Scoring = SCORING,
    *,
    model: Mapping[str, Any] | None = None,
    seconds: Mapping[str, float] | None = None,
    dims: Mapping[int, Mapping[int, float]] | None = None,
    reranked: Reranked | None = None,
    preset: Preset | PointSetting | None = None,
    unread: Mapping[str, Mapping[str, str]] | None = None,
    reliability: Reliability | None = None,
    only: Filter | None = None,
) -> Result | None:
    """Write ``ranking.npz`` and ``predictions.txt``, and ``result.json`` where the truth is known.

    Args:
        ranking: rows of `dataset.database` for each of `dataset.queries`.
        dataset: the lists, and the truth.
        out: the results' folder.
        scoring: at which N, and what a query without a right answer counts for.
        model: name, fingerprint and dims of what made the ranking.
        seconds: what took how long.
        dims: recalls with fewer dimensions, from `sweep`.
        reranked: what `ranking` was before it was re-ranked, and how that went.
        preset: how it was re-ranked.
        unread: the photos that could not be described, from `unread_of`.
        reliability: how far the answers' confidence can be trusted.
        only: which database photos could be answers; a part of the protocol.

    Raises:
        InputError: the ranking is for other lists.
    """
    _refuse_other_lists(ranking, dataset)
    out.mkdir(parents=True, exist_ok=True)
    ranking.save(out / "ranking.npz")
    write_predictions(out / "predictions.txt", ranking, dataset.database, dataset.queries, top=scoring.k)
    description = None if reranked is None else _reranking(reranked, preset, dataset, scoring)
    result = None
    if dataset.truth is not None:
        rerank = None if reranked is None else str(preset)
        result = _evaluated(ranking, dataset, dataset.truth, scoring, only, model, rerank, seconds, unread)
        result = replace(result, dims=dims or {}, reranking=description, reliability=reliability)
    if reranked is not None:
        reranked.first.save(out / "first_ranking.npz")
        write_patch_netvlad(
            out,
            reranked.first,
            ranking,
            dataset.database,
            dataset.queries,
            first_recall=None if description is None else description.get("recall_before"),
            reranked_recall=None if result is None else result.recall,
        )
    if result is not None:
        result.save(out / "result.json")  # the last one: who sees it has the others
    return result


def _evaluated(
    ranking: Ranking,
    dataset: PlaceDataset,
    truth: Truth,
    scoring: Scoring,
    only: Filter | None,
    model: Mapping[str, Any] | None,
    rerank: str | None,
    seconds: Mapping[str, float] | None,
    unread: Mapping[str, Mapping[str, str]] | None,
) -> Result:
    """The figures of a ranking, with what they were measured by."""
    result = evaluate(
        ranking,
        truth,
        recall_at=scoring.recall_at,
        misses=scoring.misses,
        protocol=scoring.protocol,
        database=dataset.database,
        queries=dataset.queries,
        model=model,
        rerank=rerank,
        seconds=seconds,
        metrics=measured(ranking, truth),
        unread=unread,
    )
    protocol = result.protocol if only is None else {**result.protocol, "filter": only.to_dict()}
    return replace(result, twins=_twins(ranking, dataset, truth), protocol=protocol)


def _refuse_other_lists(ranking: Ranking, dataset: PlaceDataset) -> None:
    n_queries, n_database = len(dataset.queries), len(dataset.database)
    if ranking.n_queries != n_queries or ranking.indices.max(initial=-1) >= n_database:
        raise InputError(
            f"the ranking is of {ranking.n_queries} queries and rows to {ranking.indices.max(initial=-1)}, "
            f"the lists have {n_queries} queries and {n_database} database photos"
        )


def _twins(ranking: Ranking, dataset: PlaceDataset, truth: Truth) -> dict[str, Any]:
    """Queries that the database holds too, but for what the truth leaves out; empty where there are none.

    The same bytes are sought everywhere, the same picture among the nearest first answers.
    """
    database, queries = dataset.database, dataset.queries
    first = filter_ranking(ranking, truth, 1)
    if not first.depth:
        return {}
    near = np.argsort(first.distances[:, 0], kind="stable")[:LOOKED_AT]
    pairs = np.stack([near, first.indices[near, 0]], axis=1).tolist()
    duplicates = find_near_duplicates(database, queries, pairs=((query, row) for query, row in pairs))
    if truth.ignored is not None:
        duplicates = [twin for twin in duplicates if twin.row not in truth.ignored[twin.query]]
    return summarize_near_duplicates(duplicates, database, queries) if duplicates else {}


def _reranking(
    reranked: Reranked, preset: Preset | PointSetting | None, dataset: PlaceDataset, scoring: Scoring
) -> dict[str, Any]:
    """How it was re-ranked, the recall before, and recall against time, for ``result.json``."""
    done = int(reranked.done.sum())
    description: dict[str, Any] = {
        "preset": None if preset is None else preset.to_dict(),
        "queries": done,
        "ms_per_query": reranked.milliseconds(len(reranked.order)),
    }
    if dataset.truth is not None:
        counts = np.unique(np.linspace(0, done, STEPS).round().astype(int)).tolist()
        description["curve"] = [
            {
                "queries": n,
                "ms_per_query": reranked.milliseconds(n),
                "recall": _recall(reranked.after(n), dataset.truth, scoring),
            }
            for n in counts
        ]
        description["recall_before"] = description["curve"][0]["recall"]
    return description


def _recall(ranking: Ranking, truth: Truth, scoring: Scoring) -> dict[str, float]:
    """recall@N by N, as ``result.json`` has it."""
    result = evaluate(ranking, truth, recall_at=scoring.recall_at, misses=scoring.misses)
    return {str(n): share for n, share in result.recall.items()}
