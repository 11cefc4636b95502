"""`dejavlad pairs`: who goes with whom, for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from dejavlad.cli.options import Verify, point_setting
from dejavlad.cli.sources import Root
from dejavlad.cli.terminal import Output
from dejavlad.errors import InputError
from dejavlad.failures import failures_dict

if TYPE_CHECKING:
    from dejavlad.photo import PhotoList

RANKINGS = (".npz", ".npy")


def pairs(
    ranking: Annotated[list[Path], Parameter(name="RANKING", negative=())],
    /,
    *,
    out: Path,
    format: Literal["hloc", "kapture", "colmap", "msls"],
    top: Annotated[int | None, Parameter(allow_leading_hyphen=True)] = None,
    database: str | None = None,
    queries: str | None = None,
    database_folder: str = "",
    queries_folder: str = "",
    root: Root = None,
    verify: Verify = "none",
    index: str = "exact",
    output: Output = Output(),
) -> None:
    """Each query with its best map photos, as pairs that other tools read.

    `kapture`: what `evaluate` and Patch-NetVLAD write. `hloc`, `colmap`: `query map` a line. `msls`: a line a
    query, its key and those of its answers, for `evaluate.py` of mapillary_sls.

    Examples:

        dejavlad pairs results/ --format hloc --top 20 --out pairs.txt
        dejavlad pairs cph/predictions.txt sf/predictions.txt --format msls --out msls.csv
        dejavlad pairs photos.desc --format colmap --top 20 --out pairs.txt
        dejavlad pairs mine.npz --database map/ --queries new/ --format colmap --out pairs.txt

    Parameters
    ----------
    ranking
        Results folders of `evaluate` or predictions in kapture's form, one or more, joined in this order; or
        a store of descriptors, whose photos are paired with each other, or two, of the map and of queries; or
        one ranking (`.npz`, or `.npy` of rows) with --database and --queries.
    out
        The file to write.
    format
        The tool that shall read it.
    top
        Answers a query, at most (default: all; of stores 20).
    database
        Photos of the map that a ranking's rows are of: a folder, a list, a dataset part.
    queries
        The queries of a ranking, likewise.
    database_folder
        Put before the names of map photos, where a tool wants all names relative to one folder.
    queries_folder
        Put before the names of queries, likewise.
    root
        The folder that paths in lists are relative to, or where a named dataset lies.
    verify
        Of a ranking with its photos, or of stores: write those pairs alone whose points agree in space, by
        these local features (`auto`: the best that is installed), and all scores as `OUT.scores.csv`.
    index
        How stores are searched: `exact`, or for very many photos `1bit`, `ivf` or `hnsw`.
    """
    from dejavlad.evaluation.pairs import count_pairs, in_folders, write_pairs

    failed: dict[str, str] = {}
    points = point_setting(verify, output)
    names_of, lists = _answers(ranking, database, queries, root, top, index, failed, output)
    if points is not None:
        if lists is None:
            raise InputError("--verify needs photos: give a ranking with --database and --queries, or stores")
        from dejavlad.places.verification.pairs import verify_pairs, write_scores

        if top is not None:
            names_of = {query: names[:top] for query, names in names_of.items()}
        with output.progress() as on_progress:
            names_of, scores, unread = verify_pairs(names_of, *lists, points, on_progress=on_progress)
        failed |= unread
        write_scores(out.with_name(out.name + ".scores.csv"), scores)
    names_of = in_folders(names_of, queries_folder, database_folder)
    path = write_pairs(out, names_of, format, top=top)
    shared = names_of.keys() & {name for names in names_of.values() for name in names}
    if shared and format in ("hloc", "colmap"):
        output.note(
            f"{len(shared)} names are of queries and of map photos, e.g. {min(shared)!r}: where these are "
            f"different photos, tell them apart with --database-folder and --queries-folder"
        )
    count, answered = count_pairs(names_of, top), sum(bool(names) for names in names_of.values())
    document = {"pairs": count, "queries": answered, "format": format, "file": str(path)}
    output.answer(document | failures_dict(failed), f"{count} pairs of {answered} queries: {path}")
    output.failures(failed)


def _answers(
    ranking: list[Path],
    database: str | None,
    queries: str | None,
    root: Path | None,
    top: int | None,
    index: str,
    failed: dict[str, str],
    output: Output,
) -> tuple[dict[str, list[str]], tuple[PhotoList, PhotoList] | None]:
    """Query -> map photos, and both lists if known; `failed` takes in photos without an answer."""
    from dejavlad.evaluation.pairs import read_answers
    from dejavlad.evaluation.predictions import answers
    from dejavlad.places.address import refuse_map

    for path in ranking:
        refuse_map(path, "rankings, predictions or stores of descriptors (`dejavlad extract`)")
    if any(path.suffix.lower() in RANKINGS for path in ranking):
        from dejavlad.datasets import photos
        from dejavlad.ranking import Ranking

        if len(ranking) > 1 or database is None or queries is None:
            raise InputError(
                "a ranking holds numbers: give one, and the photos that they stand for as --database "
                "and --queries"
            )
        database_photos, query_photos = (photos(part, root=root) for part in (database, queries))
        names_of = answers(Ranking.load(ranking[0]), database_photos, query_photos)
        return names_of, (query_photos, database_photos)
    if database is not None or queries is not None or root is not None:
        raise InputError("predictions hold names already: leave --database, --queries and --root out")
    if any((path / "manifest.json").is_file() for path in ranking):
        return _of_stores(ranking, top, index, failed, output)
    return read_answers(ranking), None


def _of_stores(
    paths: list[Path], top: int | None, index: str, failed: dict[str, str], output: Output
) -> tuple[dict[str, list[str]], tuple[PhotoList, PhotoList]]:
    """The nearest photos of each of one or two stores, and queries and map photos."""
    from dejavlad.extraction import DescriptorStore
    from dejavlad.places.neighbours import TOP, neighbours

    if len(paths) > 2:
        raise InputError(f"give one store, or two: of the map and of the queries; given {len(paths)}")
    stores = [DescriptorStore.open(path) for path in paths]
    names_of = neighbours(stores[0], stores[-1], TOP if top is None else top, index)
    output.scaled(*stores)
    for store in stores:
        failed |= store.failed
    return names_of, (stores[-1].photos, stores[0].photos)
