"""`dejavlad pairs`: who goes with whom, for other tools."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from dejavlad.cli.options import Verify, point_setting
from dejavlad.cli.terminal import Output
from dejavlad.errors import InputError
from dejavlad.failures import failures_dict

if TYPE_CHECKING:
    from dejavlad.photo import PhotoList
    from dejavlad.places.verification.points import PointSetting

    Names = dict[str, list[str]]
    Lists = tuple[PhotoList, PhotoList]

RANKINGS = (".npz", ".npy")


@Parameter(name="*")
@dataclass(frozen=True)
class PairOptions:
    """Which answers become pairs, and under which names."""

    top: Annotated[int | None, Parameter(allow_leading_hyphen=True)] = None
    "Answers a query, at most (default: all; of stores 20)."
    database: str | None = None
    "Photos of the map that a ranking's rows are of: a folder, a list, a dataset part."
    queries: str | None = None
    "The queries of a ranking, likewise."
    database_folder: str = ""
    "Put before the names of map photos, where a tool wants all names relative to one folder."
    queries_folder: str = ""
    "Put before the names of queries, likewise."
    root: Path | None = None
    "The folder that paths in lists are relative to, or where a named dataset lies."
    verify: Verify = "none"
    """Of a ranking with its photos, or of stores: write those pairs alone whose points agree in space, by
    these local features (`auto`: the best that is installed), and all scores as `OUT.scores.csv`."""
    index: str = "exact"
    "How stores are searched: `exact`, or for very many photos `1bit`, `ivf` or `hnsw`."

    def answers(
        self, sources: list[Path], failed: dict[str, str], output: Output
    ) -> tuple[Names, Lists | None]:
        """Query -> map photos, and both lists if known; `failed` takes in photos without an answer."""
        from dejavlad.evaluation.pairs import read_answers
        from dejavlad.places.address import refuse_map

        for path in sources:
            refuse_map(path, "rankings, predictions or stores of descriptors (`dejavlad extract`)")
        stores = any((path / "manifest.json").is_file() for path in sources)
        if self.index not in ("exact", "flat") and not stores:
            raise InputError(f"--index {self.index} is how stores are searched, and nothing is: leave it out")
        if any(path.suffix.lower() in RANKINGS for path in sources):
            return self._of_ranking(sources)
        if self.database is not None or self.queries is not None or self.root is not None:
            raise InputError("predictions hold names already: leave --database, --queries and --root out")
        if stores:
            return self._of_stores(sources, failed, output)
        return read_answers(sources), None

    def _of_ranking(self, sources: list[Path]) -> tuple[Names, Lists]:
        from dejavlad.datasets import photos
        from dejavlad.evaluation.predictions import answers
        from dejavlad.ranking import Ranking

        if len(sources) > 1 or self.database is None or self.queries is None:
            raise InputError(
                "a ranking holds numbers: give one, and the photos that they stand for as --database "
                "and --queries"
            )
        database, queries = (photos(part, root=self.root) for part in (self.database, self.queries))
        return answers(Ranking.load(sources[0]), database, queries), (queries, database)

    def _of_stores(self, paths: list[Path], failed: dict[str, str], output: Output) -> tuple[Names, Lists]:
        """The nearest photos of each of one or two stores."""
        from dejavlad.extraction import DescriptorStore
        from dejavlad.places.neighbours import TOP, neighbours

        if len(paths) > 2:
            raise InputError(f"give one store, or two: of the map and of the queries; given {len(paths)}")
        stores = [DescriptorStore.open(path) for path in paths]
        names = neighbours(stores[0], stores[-1], TOP if self.top is None else self.top, self.index)
        output.scaled(*stores)
        for store in stores:
            failed |= store.failed
        return names, (stores[-1].photos, stores[0].photos)

    def verified(
        self,
        names: Names,
        lists: Lists | None,
        points: PointSetting,
        scores_path: Path,
        failed: dict[str, str],
        output: Output,
    ) -> Names:
        """The pairs whose points agree; the scores of all go into a file.

        Raises:
            InputError: it is not known where the photos lie.
        """
        from dejavlad.places.verification.pairs import verify_pairs, write_scores

        if lists is None:
            raise InputError("--verify needs photos: give a ranking with --database and --queries, or stores")
        if self.top is not None:
            names = {query: best[: self.top] for query, best in names.items()}
        with output.progress() as on_progress:
            names, scores, unread = verify_pairs(names, *lists, points, on_progress=on_progress)
        failed |= unread
        write_scores(scores_path, scores)
        return names


def pairs(
    ranking: Annotated[list[Path], Parameter(negative=())],
    /,
    *,
    out: Path,
    format: Literal["hloc", "kapture", "colmap", "msls"],
    options: PairOptions = PairOptions(),
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
    """
    from dejavlad.evaluation.pairs import count_pairs, in_folders, write_pairs

    failed: dict[str, str] = {}
    points = point_setting(options.verify, output)
    names, lists = options.answers(ranking, failed, output)
    if points is not None:
        scores_path = out.with_name(out.name + ".scores.csv")
        names = options.verified(names, lists, points, scores_path, failed, output)
    names = in_folders(names, options.queries_folder, options.database_folder)
    path = write_pairs(out, names, format, top=options.top)
    shared = names.keys() & {name for best in names.values() for name in best}
    if shared and format in ("hloc", "colmap"):
        output.note(
            f"{len(shared)} names are of queries and of map photos, e.g. {min(shared)!r}: where these are "
            f"different photos, tell them apart with --database-folder and --queries-folder"
        )
    count, answered = count_pairs(names, options.top), sum(map(bool, names.values()))
    document = {"pairs": count, "queries": answered, "format": format, "file": str(path)}
    output.answer(document | failures_dict(failed), f"{count} pairs of {answered} queries: {path}")
    output.failures(failed)
