"""A dataset's ranking re-ranked, by patches or by local features; what is finished is kept.

Legend: Q queries.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from dejavlad.errors import InputError
from dejavlad.extraction import DescriptorStore
from dejavlad.extraction.patches import Cached, FreshPatches, PatchStore
from dejavlad.model import PlaceModel
from dejavlad.places.preset import FRESH, Preset
from dejavlad.places.reranking import Reranked, Source, rerank_all
from dejavlad.places.verification.points import PointSetting, PointSource
from dejavlad.progress import OnProgress, silent
from dejavlad.ranking import Ranking


class RerankRun(TypedDict):
    """What re-ranking of one dataset is given beside its ranking; see `rerank`."""

    setting: Mapping[str, Any]
    budget_ms: float | None
    on_progress: OnProgress


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
        fresh = (FreshPatches(model, store.photos, setting) for store in (queries, database))
        of_queries, of_database = (Cached(patches) for patches in fresh)
        return preset, of_queries, of_database
    if database.path is None or queries.path is None:
        raise InputError("re-ranking needs stores with patches, made by `dejavlad extract ... --patches`")
    stored_q, stored_db = (
        PatchStore.open(store.path) for store in (queries, database) if store.path is not None
    )
    stored_db.manifest.check_comparable(stored_q.manifest, stored_db.path)
    preset = preset.fitted_to(stored_db.manifest.sizes, stored_db.manifest.strides)
    of_queries, of_database = (
        Cached(stored.rows(store.keys, store.failed))
        for stored, store in ((stored_q, queries), (stored_db, database))
    )
    return preset, of_queries, of_database


def rerank(
    ranking: Ranking,
    queries: Source | PointSource,
    database: Source | PointSource,
    method: Preset | PointSetting,
    out: Path,
    *,
    setting: Mapping[str, Any] | None = None,
    reranker: Any = None,
    budget_ms: float | None = None,
    on_progress: OnProgress = silent,
) -> Reranked:
    """A ranking re-ranked by patches or local features; what is finished is kept in ``out/reranking``.

    Args:
        ranking: rows of the database for each query.
        queries: by row, from `patch_sources`, or a `PointSource`.
        database: likewise.
        method: by patches or by local features, as these are.
        out: the results' folder.
        setting: what the ranking and the patches were made by.
        reranker: what compares; made by `method` unless given.
        budget_ms: milliseconds a query, as a mean; see `rerank_all`.
        on_progress: called with each query.
    """
    name = "preset" if isinstance(method, Preset) else "points"
    return rerank_all(
        reranker or method.reranker(),
        ranking,
        queries,
        database,
        keep=out / "reranking",
        setting={name: method.to_dict(), **(setting or {})},
        budget_ms=budget_ms,
        on_progress=on_progress,
    )
