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
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError
from dejavlad.evaluation import answers_of, evaluate
from dejavlad.evaluation.average_precision import needs_whole
from dejavlad.extraction import DescriptorStore, Shard, extract
from dejavlad.extraction.manifest import Setting
from dejavlad.extraction.merge import extract_share, gather_shares
from dejavlad.ground_truth import PlaceDataset
from dejavlad.ground_truth.truth import Truth
from dejavlad.index import Index, RowSource, build_index, checked_rows
from dejavlad.model import PlaceModel
from dejavlad.photo import PhotoList
from dejavlad.pipelines.keywords import check_keywords
from dejavlad.pipelines.scoring import SCORING, Scoring
from dejavlad.places.filters import Filter, PhotoColumns
from dejavlad.places.fitted_model import fit_cached, for_patches
from dejavlad.places.map_folder.in_memory_rows import InMemoryRows
from dejavlad.places.preset import FRESH, Preset
from dejavlad.progress import OnProgress, silent
from dejavlad.ranking import Ranking
from dejavlad.storage import one_writer

Ids = NDArray[np.int64]

PARTS = ("database", "queries")
PACKED = ("int8", "pq")
"""Forms that are for the patches of a map, which are kept: those of the queries are then float16."""


class DescribingHere(TypedDict, total=False):
    """How photos are described on this machine."""

    batch_size: int
    """Photos described at once (default: 8)."""
    workers: int
    """Threads that decode photos (default: 0)."""
    seed: int
    """Of what is learnt (default: 0)."""
    on_progress: OnProgress
    """Called with each step."""


class Describing(DescribingHere, total=False):
    """How photos are described, here or elsewhere."""

    ray: str | None
    """Describe on the machines of a Ray cluster, as `dejavlad.extract` does."""


def fitted_to(model: PlaceModel, database: PhotoList, out: Path, describing: DescribingHere) -> PlaceModel:
    """The model; one that learns from photos, as it learnt from the database's, kept in ``out/model``."""
    if model.fitted:
        return model
    return fit_cached(
        model,
        database,
        out / "model",
        seed=describing.get("seed", 0),
        workers=describing.get("workers", 0),
        on_progress=describing.get("on_progress", silent),
    )


def describe_dataset(
    model: PlaceModel,
    dataset: PlaceDataset,
    out: Path,
    *,
    preset: Preset | None = None,
    shard: Shard | None = None,
    **describing: Unpack[Describing],
) -> tuple[PlaceModel, DescriptorStore, DescriptorStore]:
    """The (fitted) model, and the descriptors of the database and of the queries, kept in `out`.

    Args:
        model: any model; one that learns from photos learns from the database, never from the queries.
        dataset: what to describe.
        out: the results' folder.
        preset: how it will be re-ranked: its patches are made and stored in the same pass.
        shard: describe this share of both alone, and return the stores of these; once all shares are there,
            a call without it makes the whole stores of them.
        describing: how photos are described.
    """
    check_keywords(describing, Describing)
    on_progress = describing.get("on_progress", silent)
    with contextlib.nullcontext() if shard is None else _one_learns(out):
        model = fitted_to(model, dataset.database, out, describing)
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
            batch_size=describing.get("batch_size", 8),
            workers=describing.get("workers", 0),
            patches=stored,
            patch_dtype="float16" if name == "queries" and dtype in PACKED else dtype,
            ray=describing.get("ray"),
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


def ranked_with(setting: Setting, scoring: Scoring, seed: int | None) -> dict[str, Any]:
    """What a ranking depends on beside the model and the photos, for `Result.made_with`.

    Args:
        setting: how the descriptors were made.
        scoring: how they were searched.
        seed: of what was learnt; None where it is not known.
    """
    return {
        "preprocess": setting.preprocess,
        "precision": setting.precision,
        "dtype": setting.dtype,
        "index": scoring.index,
        "seed": seed,
    }


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
        InputError: the database is empty.
        StoreMismatchError: the two stores were made by different models.
    """
    database.manifest.setting.check_comparable(queries.manifest.setting, database.path)
    if not len(database):
        raise InputError("the database holds no photos: there is nothing to search")
    k = len(database) if needs_whole(truth) else min(scoring.k, len(database))
    photos = (database.photos, queries.photos) if lists is None else (lists.database, lists.queries)
    return _search(build_index(scoring.index, database), queries, k, truth, only, *photos)


def unread_of(database: DescriptorStore, queries: DescriptorStore) -> dict[str, dict[str, str]]:
    """The photos of both that could not be described, as `Result.unread` holds them."""
    return {"database": dict(database.failed), "queries": dict(queries.failed)}


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
        index = build_index(scoring.index, database_rows)
        ranking = _search(index, query_rows, k, dataset.truth, only, dataset.database, dataset.queries)
        result = evaluate(ranking, dataset.truth, recall_at=scoring.recall_at, misses=scoring.misses)
        recalls[d] = result.recall
    return recalls


def _search(
    index: Index,
    rows: RowSource,
    k: int,
    truth: Truth | None,
    only: Filter | None,
    database: PhotoList,
    queries: PhotoList,
) -> Ranking:
    """The first k answers of each query that pass the filter, without what the truth leaves out."""
    if truth is None and only is None:
        return index.search(rows, k)
    search: Callable[[Ids, int], Ranking] = partial(_search_rows, index, rows)
    if only is not None:
        search = _filtered(index, rows, only, database, queries)
    if truth is not None:
        return answers_of(search, truth, k)
    return search(np.arange(len(checked_rows(rows, "queries")[1])), k)


def _search_rows(index: Index, rows: RowSource, chosen: Ids, k: int, allowed: Ids | None = None) -> Ranking:
    return index.search(InMemoryRows.of(rows, chosen), k, allowed=allowed)


def _filtered(
    index: Index, rows: RowSource, only: Filter, database: PhotoList, queries: PhotoList
) -> Callable[[Ids, int], Ranking]:
    """Searches some queries for answers that pass a filter, query by query where it depends on the query."""
    facts = PhotoColumns.of_photos(database)

    def search(chosen: Ids, k: int) -> Ranking:
        if not only.own:
            return _search_rows(index, rows, chosen, k, only.allowed(facts).rows)
        if not len(chosen):
            return _search_rows(index, rows, chosen, k)
        parts = [
            _search_rows(index, rows, chosen[at : at + 1], k, only.allowed(facts, queries[row]).rows)
            for at, row in enumerate(chosen.tolist())
        ]
        return Ranking(
            np.concatenate([part.indices for part in parts]),
            np.concatenate([part.distances for part in parts]),
        )

    return search
