"""A dataset as a folder that holds two: the photos of the database, and the queries."""

from __future__ import annotations

from pathlib import Path

from dejavlad.datasets.layouts.vg_benchmark import PARTS, RADIUS, is_vg_benchmark, open_part
from dejavlad.datasets.layouts.vpr_bench import TRUTH, open_numbered
from dejavlad.errors import InputError
from dejavlad.ground_truth.place import PlaceDataset
from dejavlad.ground_truth.truth import truth_positions
from dejavlad.names import same_form
from dejavlad.photo import PhotoList
from dejavlad.photo.folder import first_folder, folder_photos
from dejavlad.positions.assign import BESIDE, from_csv, with_positions
from dejavlad.positions.csv_file import read_positions

DATABASE, QUERIES = ("database", "map", "ref", "reference", "gallery"), ("queries", "query")
"""Names of the two folders of a dataset, in order of preference."""


def holds_two(path: Path) -> bool:
    """Whether a folder, or the ``images`` in it, holds the two folders of a dataset."""
    return path.is_dir() and all(first_folder(_inside(path), kind) for kind in (DATABASE, QUERIES))


def open_folders(path: Path, name: str = "folders") -> PlaceDataset:
    """A folder that holds the folders of the database and of the queries, or ``images`` with these in it.

    Raises:
        InputError: it lacks one of them.
    """
    inside = _inside(path)
    parts = [first_folder(inside, names) for names in (DATABASE, QUERIES)]
    if parts[0] is None or parts[1] is None:
        raise InputError(f"{str(path)!r} is no dataset: {_what_lacks(path)}")
    if (inside / TRUTH).is_file():
        return open_numbered(inside, parts[0].name, parts[1].name, name=name)
    if parts[0].name in ("database", "gallery") and parts[1].name == "queries" and is_vg_benchmark(parts[0]):
        return open_part(inside, name=name)
    database, queries = (_placed(part, inside) for part in parts if part is not None)
    if not (any(database.positions) and any(queries.positions)):
        return PlaceDataset(name, database, queries)
    truth = truth_positions(database, queries, RADIUS)
    return PlaceDataset(name, database, queries, truth, f"positions:{RADIUS:g}")


def open_one_folder(path: Path) -> PlaceDataset:
    """A folder of photos alone, as SF-XL's for training: they are the database, and there are no queries.

    Positions are those of a file in it, of the photos' names, or EXIF.
    """
    database = _placed(path, path)
    return PlaceDataset(path.name, database, PhotoList([], root=path, name="queries"))


def _inside(path: Path) -> Path:
    """The folder itself, or the one in ``images`` that holds a dataset, where that is one only."""
    holders = [
        at for at in (path, path / "images") if all(first_folder(at, kind) for kind in (DATABASE, QUERIES))
    ]
    parts = [path / "images" / part for part in PARTS if (path / "images" / part).is_dir()]
    return holders[0] if holders else parts[0] if len(parts) == 1 else path


def _what_lacks(path: Path) -> str:
    """What to type instead of a folder that is no dataset."""
    for above in (path, path / "images", path / "processed"):
        parts = [above / part for part in PARTS if (above / part).is_dir()]
        if len(parts) > 1:
            return f"give one of its parts: {', '.join(map(str, parts))}"
    several = sorted(part.name for part in path.glob("queries_*") if part.is_dir())
    if several and first_folder(path, DATABASE):
        return f"it holds several folders of queries ({', '.join(several)}): give --database and --queries"
    return "a dataset's folder holds the folders database (or map) and queries"


def _placed(part: Path, whole: Path) -> PhotoList:
    """A part's photos with their positions: from a file in it, a file beside it, names, or EXIF."""
    listed = folder_photos(part)
    if not (part / BESIDE).is_file() and (whole / BESIDE).is_file():
        fixes = read_positions(whole / BESIDE)
        own = f"{same_form(part.name)}/"
        inside = {
            same_form(name).removeprefix(own): fix
            for name, fix in fixes.items()
            if same_form(name).startswith(own)
        }
        placed = from_csv(listed, whole / BESIDE, inside or fixes)
    else:
        placed = with_positions(listed, "auto")
    placed.passed_over = listed.passed_over
    return placed
