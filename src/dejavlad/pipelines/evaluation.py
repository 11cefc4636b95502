"""A model on a dataset: descriptors, ranking, result and page, in one folder that resumes.

The folder::

    RESULTS/model/             the model, where it learnt from the database photos
    RESULTS/database/          their descriptors (a DescriptorStore)
    RESULTS/queries/           the queries' descriptors
    RESULTS/ranking.npz        the nearest database photos of each query, re-ranked where that was asked for
    RESULTS/predictions.txt    the same by name, in kapture's form
    RESULTS/first_ranking.npz  the ranking before it was re-ranked; its scores are in RESULTS/reranking/
    RESULTS/NetVLAD_predictions.txt, PatchNetVLAD_predictions.txt, recalls.txt  as Patch-NetVLAD writes them
    RESULTS/result.json        the figures, and all that they depend on

Legend: Q queries, K depth of the ranking, D descriptor size.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dejavlad.datasets.audit.near_duplicates import (
    find_near_duplicates,
    told_twins,
)
from dejavlad.errors import InputError
from dejavlad.evaluation import (
    Result,
    answers_of,
    evaluate,
    filter_ranking,
    write_predictions,
)
from dejavlad.evaluation.average_precision import measured, needs_whole
from dejavlad.evaluation.predictions import write_patch_netvlad
from dejavlad.evaluation.reliability import Reliability
from dejavlad.extraction import DescriptorStore, Shard, extract
from dejavlad.extraction.merge import extract_share, gather_shares
from dejavlad.extraction.patches import Cached, FreshPatches, PatchStore
from dejavlad.ground_truth import PlaceDataset
from dejavlad.ground_truth.truth import Truth
from dejavlad.index import Index, RowSource, build_index, checked_rows
from dejavlad.model import PlaceModel
from dejavlad.photo import PhotoList
from dejavlad.places.filters import Facts, Filter
from dejavlad.places.fitted_model import (
    fit_cached,
    for_patches,
)
from dejavlad.places.in_memory_rows import InMemoryRows
from dejavlad.places.points import (
    PointSetting,
)
from dejavlad.places.preset import (
    FRESH,
    Preset,
)
from dejavlad.places.reranking import (
    Reranked,
    Source,
    rerank_all,
)
from dejavlad.progress import OnProgress, silent
from dejavlad.ranking import Ranking
from dejavlad.storage import one_writer

LOOKED_AT = 500
"""Queries whose first answer is compared with them for being the same picture, those nearest to theirs."""
STEPS = 11
"""Points of the curve of recall against time."""

PARTS = ("database", "queries")
PACKED = ("int8", "pq")
"""Forms that are for the patches of a map, which are kept: those of the queries are then float16."""


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


def describe_dataset(
    model: PlaceModel,
    dataset: PlaceDataset,
    out: Path,
    *,
    batch_size: int = 8,
    workers: int = 0,
    seed: int = 0,
    preset: Preset | None = None,
    shard: Shard | None = None,
    ray: str | None = None,
    on_progress: OnProgress = silent,
) -> tuple[PlaceModel, DescriptorStore, DescriptorStore]:
    """The (fitted) model, and the descriptors of the database and of the queries, kept in `out`.

    Args:
        model: any model; one that learns from photos learns from the database, never from the queries.
        dataset: what to describe.
        out: the results' folder.
        batch_size: photos described at once.
        workers: threads that decode photos.
        seed: of what is learnt.
        preset: how it will be re-ranked: its patches are made and stored in the same pass.
        shard: describe this share of both alone, and return the stores of these; once all shares are there,
            a call without it makes the whole stores of them.
        ray: describe on the machines of a Ray cluster, as `extract` does.
        on_progress: called with each step.
    """
    with contextlib.nullcontext() if shard is None else _one_learns(out):
        if not model.fitted:
            model = fit_cached(
                model, dataset.database, out / "model", seed=seed, workers=workers, on_progress=on_progress
            )
        if preset is not None:
            model = for_patches(
                model, dataset.database, out / "model", preset.patches, on_progress=on_progress
            )
    stored = None if preset is None or preset.patch_dtype == FRESH else preset.patches_of(model)
    dtype = "float16" if preset is None else preset.patch_dtype
    if shard is None:
        for name in PARTS:
            gather_shares(out / name, on_progress=on_progress)
    database, queries = (
        (extract if shard is None else partial(extract_share, shard=shard))(
            model,
            part,
            out / name,
            batch_size=batch_size,
            workers=workers,
            patches=stored,
            patch_dtype="float16" if name == "queries" and dtype in PACKED else dtype,
            ray=ray,
            on_progress=on_progress,
        )
        for name, part in zip(PARTS, (dataset.database, dataset.queries), strict=True)
    )
    return model, database, queries


@contextlib.contextmanager
def _one_learns(out: Path) -> Iterator[None]:
    """Of the processes that describe shares of one dataset, one learns what the model learns from photos."""
    out.mkdir(parents=True, exist_ok=True)
    with one_writer(out, wait=True):
        yield


def rank(
    database: DescriptorStore,
    queries: DescriptorStore,
    scoring: Scoring = SCORING,
    truth: Truth | None = None,
    only: Filter | None = None,
    lists: PlaceDataset | None = None,
) -> Ranking:
    """The nearest database photos of each query; photos that failed are no one's answer.

    Nor are those that the truth leaves out: ignored ones, and all but the nearest of each group. Where it is
    measured by mean average precision, the whole database is ranked.

    Args:
        database: descriptors of the map's photos.
        queries: descriptors of the queries.
        scoring: which index, and how deep.
        truth: what is left out.
        only: which database photos may be answers, by place, time and heading.
        lists: where these are known from; the stores' own lists unless given.

    Raises:
        StoreMismatchError: the two stores were made by different models.
    """
    database.manifest.setting.check_comparable(queries.manifest.setting, database.path)
    k = len(database) if needs_whole(truth) else min(scoring.k, len(database))
    index = build_index(scoring.index, database)
    photos = database.photos if lists is None else lists.database
    query_photos = queries.photos if lists is None else lists.queries
    return _search(_filtered(index, only, photos, query_photos), queries, k, truth)


def unread_of(database: DescriptorStore, queries: DescriptorStore) -> dict[str, dict[str, str]]:
    """The photos of both that could not be described, as `Result.unread` holds them."""
    return {"database": dict(database.failed), "queries": dict(queries.failed)}


def patch_sources(
    preset: Preset, database: DescriptorStore, queries: DescriptorStore, model: PlaceModel | None = None
) -> tuple[Preset, Source, Source]:
    """Where the patches of queries and of database photos come from, by row, and the preset that fits them.

    Args:
        preset: which patches, and whether they are stored.
        database: descriptors with their patches, unless those are made when they are compared.
        queries: likewise.
        model: what makes patches that are not stored.

    Raises:
        StoreError: patches are to be read that are not there, or those of the two were made otherwise.
        InputError: those that are there are not those that the preset needs.
    """
    if preset.patch_dtype == FRESH and model is not None:
        setting = preset.patches_of(model)
        fresh = (FreshPatches(model, of.photos, setting) for of in (queries, database))
        of_queries, of_database = (Cached(of) for of in fresh)
        return preset, of_queries, of_database
    if database.path is None or queries.path is None:
        raise InputError("re-ranking needs stores with patches, made by `dejavlad extract ... --patches`")
    stored_q, stored_db = (PatchStore.open(of.path) for of in (queries, database) if of.path is not None)
    stored_db.manifest.check_comparable(stored_q.manifest, stored_db.path)
    preset = preset.fitted_to(stored_db.manifest.sizes, stored_db.manifest.strides)
    of_queries, of_database = (
        Cached(stored.rows(of.keys, of.failed)) for stored, of in ((stored_q, queries), (stored_db, database))
    )
    return preset, of_queries, of_database


def rerank(
    ranking: Ranking,
    queries: Source,
    database: Source,
    preset: Preset,
    out: Path,
    *,
    setting: Mapping[str, Any] | None = None,
    budget_ms: float | None = None,
    on_progress: OnProgress = silent,
) -> Reranked:
    """A ranking re-ranked by patches; what is finished is kept in ``out/reranking``.

    Args:
        ranking: rows of the database for each query.
        queries: patches by row, from `patch_sources`.
        database: likewise.
        preset: how.
        out: the results' folder.
        setting: what the patches were made by, besides the preset.
        budget_ms: milliseconds a query, as a mean; see `rerank_all`.
        on_progress: told of each query.
    """
    return rerank_all(
        preset.reranker(),
        ranking,
        queries,
        database,
        keep=out / "reranking",
        setting={"preset": preset.to_dict(), **(setting or {})},
        budget_ms=budget_ms,
        on_progress=on_progress,
    )


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
    n_queries, n_database = len(dataset.queries), len(dataset.database)
    if ranking.n_queries != n_queries or ranking.indices.max(initial=-1) >= n_database:
        raise InputError(
            f"the ranking is of {ranking.n_queries} queries and rows to {ranking.indices.max(initial=-1)}, "
            f"the lists have {n_queries} queries and {n_database} database photos"
        )
    out.mkdir(parents=True, exist_ok=True)
    ranking.save(out / "ranking.npz")
    write_predictions(out / "predictions.txt", ranking, dataset.database, dataset.queries, top=scoring.k)
    description = None if reranked is None else _reranking(reranked, preset, dataset, scoring)
    result = None
    if dataset.truth is not None:
        result = evaluate(
            ranking,
            dataset.truth,
            recall_at=scoring.recall_at,
            misses=scoring.misses,
            protocol=scoring.protocol,
            database=dataset.database,
            queries=dataset.queries,
            model=model,
            rerank=None if reranked is None else str(preset),
            seconds=seconds,
            metrics=measured(ranking, dataset.truth),
            unread=unread,
        )
        twins = _twins(ranking, dataset, dataset.truth)
        if only is not None:
            result = replace(result, protocol={**result.protocol, "filter": only.to_dict()})
        result = replace(result, dims=dims or {}, reranking=description, twins=twins, reliability=reliability)
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
        result.save(out / "result.json")
    return result


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
    return told_twins(duplicates, database, queries) if duplicates else {}


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


def sweep(
    database: DescriptorStore,
    queries: DescriptorStore,
    dataset: PlaceDataset,
    dims: Sequence[int],
    scoring: Scoring = SCORING,
    only: Filter | None = None,
) -> dict[int, Mapping[int, float]]:
    """Recall with the first d dimensions alone, again at unit length, for each d; arguments as of `rank`.

    Returns:
        d -> N -> recall@N; nothing where no truth is known.

    Raises:
        InputError: more dimensions are asked for than there are.
    """
    if dataset.truth is None:
        return {}
    k, recalls = min(scoring.k, len(database)), {}
    for d in dims:
        database_rows, query_rows = (InMemoryRows.of(store).unit(d) for store in (database, queries))
        index = _filtered(build_index(scoring.index, database_rows), only, dataset.database, dataset.queries)
        ranking = _search(index, query_rows, k, dataset.truth)
        result = evaluate(ranking, dataset.truth, recall_at=scoring.recall_at, misses=scoring.misses)
        recalls[d] = result.recall
    return recalls


@dataclass(frozen=True, slots=True, eq=False)
class _Filtered:
    """An index whose answers keep to a filter, query by query where it depends on the query."""

    index: Index
    only: Filter
    facts: Facts
    queries: PhotoList

    def search_some(self, queries: RowSource, some: NDArray[np.int64], k: int) -> Ranking:
        rows = InMemoryRows.of(queries, some)
        if not self.only.own:
            return self.index.search(rows, k, allowed=self.only.allowed(self.facts).rows)
        parts = [
            self.index.search(
                InMemoryRows.of(queries, some[at : at + 1]),
                k,
                allowed=self.only.allowed(self.facts, self.queries[row]).rows,
            )
            for at, row in enumerate(some.tolist())
        ]
        if not parts:
            return self.index.search(rows, k)
        return Ranking(
            np.concatenate([part.indices for part in parts]),
            np.concatenate([part.distances for part in parts]),
        )


def _filtered(
    index: Index, only: Filter | None, database: PhotoList, queries: PhotoList
) -> Index | _Filtered:
    return index if only is None else _Filtered(index, only, Facts.of_photos(database), queries)


def _search(index: Index | _Filtered, queries: RowSource, k: int, truth: Truth | None) -> Ranking:
    """The first k answers of each query, without what the truth leaves out."""
    if isinstance(index, _Filtered):
        filtered = index

        def search(some: NDArray[np.int64], depth: int) -> Ranking:
            return filtered.search_some(queries, some, depth)

        every = np.arange(len(checked_rows(queries, "queries")[1]))
        return search(every, k) if truth is None else answers_of(search, truth, k)
    if truth is None:
        return index.search(queries, k)
    return answers_of(lambda some, depth: index.search(InMemoryRows.of(queries, some), depth), truth, k)
