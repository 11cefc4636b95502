"""`dejavlad evaluate`: how often does a model, or a ranking, recognise the place?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from dejavlad.cli.options import ModelOptions, Positions, Root, numbers
from dejavlad.cli.terminal import Output, command_line, timed
from dejavlad.errors import InputError

if TYPE_CHECKING:
    from dejavlad.datasets import PlaceDataset
    from dejavlad.extraction import DescriptorStore
    from dejavlad.photo import PhotoList
    from dejavlad.progress import OnProgress


def evaluate(
    model: str | None = None,
    /,
    *,
    out: Path,
    dataset: str | None = None,
    database: str | None = None,
    queries: str | None = None,
    truth: str | None = None,
    ranking: Path | None = None,
    positions: Positions = None,
    root: Root = None,
    recall_at: str = "1,5,10",
    misses: Literal["count", "drop"] = "count",
    k: Annotated[int, Parameter(name=["-k"])] = 100,
    index: str = "flat",
    options: ModelOptions = ModelOptions(),
    output: Output = Output(),
) -> None:
    """Evaluate a model on photos with known answers, or score a ranking made elsewhere.

    Examples:

        dejavlad evaluate rootsift-vlad --database left/ --queries right/ --truth frames:2 --out results
        dejavlad evaluate --ranking mine.npz --dataset town/test --out results
        dejavlad evaluate --database db.desc --queries q.desc --truth positions:25 --out results

    Parameters
    ----------
    model
        A model's name or folder; left out where --ranking or stores of descriptors are given.
    out
        The folder of the results; run again, it goes on where it stopped.
    dataset
        A dataset's name or folder (with `database` and `queries` in it), instead of --database and --queries.
    database
        Photos of the map: a folder, a list, a video, a dataset part, or a store of descriptors.
    queries
        Photos to recognise, likewise.
    truth
        What is right: `frames:2`, `same-name` or `positions:25` (metres). Default: the dataset's own.
        Without any, there are rankings, predictions and the page only.
    ranking
        Score this ranking (`.npz`, or `.npy` of rows) instead of making one.
    positions
        Where photos were taken: `exif`, `utm-names`, `none` or a CSV file. Default: as `map build` finds out.
    root
        The folder that paths in lists are relative to, or where a named dataset lies.
    recall_at
        N of recall@N, with commas between.
    misses
        Whether queries without a right answer count as misses or are dropped.
    k
        Depth of the ranking.
    index
        The kind of index; `flat` is exact.
    """
    from dejavlad.ranking import Ranking
    from dejavlad.report import write_page
    from dejavlad.retrieval.benchmark import Scoring, rank, score, sweep

    scoring = Scoring(recall_at=numbers("--recall-at", recall_at), k=k, misses=misses, index=index)
    places, stores = _open(dataset, database, queries, truth, positions, root)
    seconds: dict[str, float] = {}
    told = None
    if ranking is not None:
        if model is not None or stores is not None:
            raise InputError("--ranking is scored as it is: give photo lists, but no model and no stores")
        found, swept = Ranking.load(ranking), {}
    else:
        if stores is None:
            if model is None:
                raise InputError("give a model, or --ranking, or stores as --database and --queries")
            with output.progress() as on_progress, timed(seconds, "describe"):
                stores = _describe(model, places, out, options, on_progress)
        elif model is not None:
            raise InputError(f"--database and --queries are stores already; leave the model {model!r} out")
        setting = stores[0].manifest.setting
        told = {"name": setting.model, "fingerprint": setting.fingerprint, "dims": setting.dims}
        with timed(seconds, "search"):
            found = rank(*stores, scoring)
        swept = sweep(*stores, places, options.dims_list, scoring) if len(options.dims_list) > 1 else {}
    result = score(found, places, out, scoring, model=told, seconds=seconds, dims=swept or None)
    page = write_page(result, found, places, out / "index.html", command=command_line())
    if result is None:
        output.answer(
            {"ranking": str(out / "ranking.npz"), "page": str(page)},
            f"{len(places.queries)} queries ranked; without truth there is no recall (--truth)\nopen {page}",
        )
    else:
        output.answer(result.to_dict(), f"{result}\nopen {page}")


def _open(
    dataset: str | None,
    database: str | None,
    queries: str | None,
    truth: str | None,
    positions: str | None,
    root: Path | None,
) -> tuple[PlaceDataset, tuple[DescriptorStore, DescriptorStore] | None]:
    """The dataset, and the stores where descriptors rather than photos were given."""
    from dejavlad.datasets import PlaceDataset, open_dataset, parse_truth

    stores = None
    if dataset is not None:
        if database is not None or queries is not None:
            raise InputError("give --dataset, or --database and --queries, but not both")
        places = open_dataset(dataset, root=root)
    elif database is None or queries is None:
        raise InputError("give --dataset, or both --database and --queries")
    else:
        (there, db), (asked, q) = (_photos_or_store(given, positions, root) for given in (database, queries))
        if (db is None) != (q is None):
            raise InputError("--database and --queries must both be photos, or both stores of descriptors")
        stores = (db, q) if db is not None and q is not None else None
        places = PlaceDataset(f"{there.name} / {asked.name}", there, asked)
    if truth is not None:
        told = parse_truth(truth, places.database, places.queries)
        places = replace(places, truth=told, protocol=truth)
    return places, stores


def _photos_or_store(
    given: str, positions: str | None, root: Path | None
) -> tuple[PhotoList, DescriptorStore | None]:
    from dejavlad.datasets import photos, with_positions

    path = Path(given)
    if (path / "manifest.json").is_file() or path.suffix == ".npy" or ".bin" in path.suffix:
        from dejavlad.extraction import DescriptorStore, is_bin, read_bin

        store = read_bin(given) if is_bin(given) else DescriptorStore.open(path)
        return with_positions(store.photos, positions), store
    return photos(given, root=root, positions=positions or "auto"), None


def _describe(
    model: str, places: PlaceDataset, out: Path, options: ModelOptions, on_progress: OnProgress
) -> tuple[DescriptorStore, DescriptorStore]:
    from dejavlad.retrieval.benchmark import describe_dataset

    _, database, queries = describe_dataset(
        options.load(model, on_progress),
        places,
        out,
        batch_size=options.batch_size,
        workers=options.workers,
        seed=options.seed,
        on_progress=on_progress,
    )
    return database, queries
