"""`dejavlad rerank`: a ranking in a better order, its first answers compared patch by patch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dejavlad.cli.options import RerankOptions
from dejavlad.cli.terminal import Output
from dejavlad.errors import InputError

if TYPE_CHECKING:
    from dejavlad.extraction.patches import PatchFeats, StoredPatches
    from dejavlad.places.reranking import Reranked
    from dejavlad.places.verification.points import PointSetting
    from dejavlad.ranking import Ranking


def rerank(
    ranking: Path,
    /,
    *,
    database: Path,
    queries: Path,
    out: Path,
    reranking: RerankOptions = RerankOptions(),
    budget: float | None = None,
    resize: str = "480x640",
    output: Output = Output(),
) -> None:
    """Re-rank a ranking by patches or local features; interrupted, it goes on where it stopped.

    Examples:

        dejavlad rerank mine.npz --database db.desc --queries q.desc --rerank ransac --out better.npz

    Parameters
    ----------
    ranking
        A ranking (`.npz`), or predictions of rows (`.npy`).
    database
        The store that rows are of, with patches (`dejavlad extract ... --patches`); or a folder of
        Patch-NetVLAD's files (`globalfeats.npy`, `patchfeats_psize*.npy`, and the list as `images.txt`).
    queries
        The queries' store, likewise.
    out
        The new ranking, an `.npz` file. What is finished is kept beside it until it is whole.
    budget
        Milliseconds a query, as a mean: re-rank the least sure queries first, and stop when it is spent.
    resize
        The size of photos behind Patch-NetVLAD's files, which do not tell it.
    """
    from dejavlad.ranking import Ranking

    first = Ranking.load(ranking)
    from dejavlad.places.reranking import rerank_all

    points = reranking.points()
    if points is None:
        compared = _by_patches(first, reranking, queries, database, resize)
    else:
        compared = _by_points(first, points, queries, database, output)
    beside = out.with_name(out.name + ".partial.d")
    with output.progress() as on_progress:
        result = rerank_all(
            compared.reranker,
            first,
            compared.queries,
            compared.database,
            keep=beside,
            setting={**compared.method, "database": str(database), "queries": str(queries)},
            budget_ms=budget,
            on_progress=on_progress,
        )
    for failed in compared.failed():
        output.failures(failed)
    _save(result, out, compared.method, output)
    result.forget(beside)


@dataclass(frozen=True, slots=True)
class _Compared:
    """What is compared, and by what."""

    reranker: Any
    queries: Any
    """Patches or local features by row."""
    database: Any
    method: dict[str, Any]
    """The same in words."""
    failed: Callable[[], list[dict[str, str]]] = list
    """Of queries and of database photos, those that could not be read: key -> reason."""


def _by_patches(
    first: Ranking, reranking: RerankOptions, queries: Path, database: Path, resize: str
) -> _Compared:
    from dejavlad.extraction.patches import Cached
    from dejavlad.places.preset import load_preset

    (of_queries, n_queries), (of_database, n_database) = (
        _opened(path, resize) for path in (queries, database)
    )
    if misfit := first.misfit(n_queries, n_database, "stores"):
        raise InputError(misfit)
    _comparable(of_database, of_queries)
    preset = (reranking.chosen() or load_preset("speed")).fitted_to(of_database.sizes, of_database.strides)
    return _Compared(preset.reranker(), Cached(of_queries), Cached(of_database), {"preset": preset.to_dict()})


def _by_points(
    first: Ranking, points: PointSetting, queries: Path, database: Path, output: Output
) -> _Compared:
    """Local features of the photos that the stores are of."""
    from dejavlad.extraction import DescriptorStore
    from dejavlad.places.verification.points import PointSource

    stores = [DescriptorStore.open(path) for path in (queries, database)]
    if misfit := first.misfit(len(stores[0]), len(stores[1]), "stores"):
        raise InputError(misfit)
    points = points.chosen()
    if points.second_best:
        output.note(points.second_best)
    extractor = points.extractor()
    of_queries, of_database = (PointSource(extractor, store.photos) for store in stores)

    def failed() -> list[dict[str, str]]:
        return [
            {store.keys[row]: why for row, why in source.failed.items()}
            for store, source in zip(stores, (of_queries, of_database), strict=True)
        ]

    return _Compared(points.reranker(), of_queries, of_database, {"points": points.to_dict()}, failed)


def _save(result: Reranked, out: Path, method: dict[str, Any], output: Output) -> None:
    """Write the ranking, and say how it went."""
    out.parent.mkdir(parents=True, exist_ok=True)
    result.ranking.save(out)
    done, milliseconds = int(result.done.sum()), result.milliseconds(len(result.order))
    output.answer(
        {"ranking": str(out), "queries": done, "ms_per_query": milliseconds, **method},
        f"{done} of {len(result.done)} queries re-ranked, {milliseconds:.1f} ms a query: {out}",
    )


def _opened(path: Path, resize: str) -> tuple[StoredPatches | PatchFeats, int]:
    """Patches by row, and how many rows there are."""
    from dejavlad.extraction import DescriptorStore
    from dejavlad.extraction.patches import PatchStore, read_patchfeats

    if (path / "globalfeats.npy").is_file():
        height, x, width = resize.partition("x")
        if not (height.isdecimal() and x and width.isdecimal()):
            raise InputError(f"--resize {resize!r}: give the photos' height and width, e.g. 480x640")
        store, feats = read_patchfeats(path, photo=(int(height), int(width)))
        return feats, len(store)
    store = DescriptorStore.open(path)
    return PatchStore.open(path).rows(store.keys, store.failed), len(store)


def _comparable(of_database: StoredPatches | PatchFeats, of_queries: StoredPatches | PatchFeats) -> None:
    from dejavlad.extraction.patches import StoredPatches

    if isinstance(of_database, StoredPatches) and isinstance(of_queries, StoredPatches):
        of_database.store.manifest.check_comparable(of_queries.store.manifest, of_database.store.path)
    elif (of_database.sizes, of_database.strides) != (of_queries.sizes, of_queries.strides):
        raise InputError(
            f"the database has patches of sizes {list(of_database.sizes)}, the queries of "
            f"{list(of_queries.sizes)}"
        )
