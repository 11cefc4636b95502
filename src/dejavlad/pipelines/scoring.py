"""A ranking scored against the truth, and the files of its results.

Legend: Q queries, K depth of the ranking.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

import numpy as np

from dejavlad.datasets.audit.near_duplicates import find_near_duplicates, summarize_near_duplicates
from dejavlad.errors import InputError
from dejavlad.evaluation import Result, evaluate, filter_ranking, write_predictions
from dejavlad.evaluation.average_precision import measured
from dejavlad.evaluation.predictions import write_patch_netvlad
from dejavlad.evaluation.reliability import Reliability
from dejavlad.ground_truth import PlaceDataset
from dejavlad.ground_truth.truth import Truth
from dejavlad.pipelines.keywords import check_keywords
from dejavlad.places.filters import Filter
from dejavlad.places.preset import Preset
from dejavlad.places.reranking import Reranked
from dejavlad.places.verification.points import PointSetting
from dejavlad.ranking import Ranking
from dejavlad.versions import versions

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


class RankingFacts(TypedDict, total=False):
    """How a ranking came about, as far as it is known."""

    model: Mapping[str, Any]
    """Name, fingerprint and dims of what described the photos."""
    seconds: Mapping[str, float]
    """What took how long."""
    dims: Mapping[int, Mapping[int, float]]
    """Recalls with fewer dimensions, from `sweep`."""
    reranked: Reranked
    """What the ranking was before it was re-ranked, and how that went."""
    preset: Preset | PointSetting
    """How it was re-ranked."""
    unread: Mapping[str, Mapping[str, str]]
    """The photos that could not be described, from `unread_of`."""
    reliability: Reliability | None
    """How far the answers' confidence can be trusted."""
    only: Filter | None
    """Which database photos could be answers; a part of the protocol."""
    made_with: Mapping[str, Any]
    """What it takes to do it again, beside the versions of the programs."""


def score(
    ranking: Ranking,
    dataset: PlaceDataset,
    out: Path,
    scoring: Scoring = SCORING,
    **facts: Unpack[RankingFacts],
) -> Result | None:
    """Write ``ranking.npz`` and ``predictions.txt``, and ``result.json`` where the truth is known.

    Args:
        ranking: rows of `dataset.database` for each of `dataset.queries`.
        dataset: the lists, and the truth.
        out: the results' folder.
        scoring: at which N, and what a query without a right answer counts for.
        facts: how the ranking came about.

    Raises:
        InputError: the ranking is for other lists.
    """
    check_keywords(facts, RankingFacts)
    if misfit := ranking.misfit(len(dataset.queries), len(dataset.database)):
        raise InputError(misfit)
    out.mkdir(parents=True, exist_ok=True)
    ranking.save(out / "ranking.npz")
    write_predictions(out / "predictions.txt", ranking, dataset.database, dataset.queries, top=scoring.k)
    reranked, result, description = facts.get("reranked"), None, None
    if reranked is not None:
        description = _reranking(reranked, facts.get("preset"), dataset, scoring)
    if dataset.truth is not None:
        result = _evaluated(ranking, dataset, dataset.truth, scoring, facts)
        result = replace(result, reranking=description)
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
    ranking: Ranking, dataset: PlaceDataset, truth: Truth, scoring: Scoring, facts: RankingFacts
) -> Result:
    """The figures of a ranking, with what they were measured by."""
    only = facts.get("only")
    result = evaluate(
        ranking,
        truth,
        recall_at=scoring.recall_at,
        misses=scoring.misses,
        protocol=scoring.protocol,
        database=dataset.database,
        queries=dataset.queries,
        model=facts.get("model"),
        rerank=None if facts.get("reranked") is None else str(facts.get("preset")),
        seconds=facts.get("seconds"),
        metrics=measured(ranking, truth),
        unread=facts.get("unread"),
    )
    return replace(
        result,
        protocol=result.protocol if only is None else {**result.protocol, "filter": only.to_dict()},
        dims=facts.get("dims") or {},
        reliability=facts.get("reliability"),
        twins=_twins(ranking, dataset, truth),
        made_with={**facts.get("made_with", {}), "versions": versions()},
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
