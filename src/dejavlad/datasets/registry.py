"""From what a user types to photos and datasets: one table of names, and what paths can be."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from dejavlad.datasets import video
from dejavlad.datasets.at_names import PARTS, is_vg_benchmark, open_part, open_vg_benchmark
from dejavlad.datasets.at_names import SETS as VG_BENCHMARK
from dejavlad.datasets.described import is_toml_dataset, open_toml_dataset
from dejavlad.datasets.folder import first_folder, folder_photos
from dejavlad.datasets.gsv_cities import open_gsv_cities
from dejavlad.datasets.holidays import open_holidays
from dejavlad.datasets.kitti import SEQUENCES, open_kitti
from dejavlad.datasets.listing import gather, listed_photos
from dejavlad.datasets.moments import NO_OFFSET, TimeOffset
from dejavlad.datasets.msls import CITIES, EVERY, SUBTASKS, TASKS, open_msls
from dejavlad.datasets.near import did_you_mean, near_paths
from dejavlad.datasets.netvlad_places import (
    LIGHTS,
    PITTSBURGH,
    TOKYO_247,
    TOKYO_TIME_MACHINE,
    Family,
    open_named_spec,
    open_spec,
    open_tiny,
)
from dejavlad.datasets.netvlad_spec import is_spec
from dejavlad.datasets.nordland import open_nordland
from dejavlad.datasets.oxford import open_oxford
from dejavlad.datasets.place import PlaceDataset
from dejavlad.datasets.positions import BESIDE, from_csv, with_positions
from dejavlad.datasets.positions_csv import read_positions
from dejavlad.datasets.relevance import truth_positions
from dejavlad.datasets.revisited import RIGHT as DIFFICULTIES
from dejavlad.datasets.revisited import SETS as REVISITED
from dejavlad.datasets.revisited import open_revisited
from dejavlad.datasets.truth_rules import WithinMetres
from dejavlad.datasets.video import video_photos
from dejavlad.datasets.vpr_bench import SETS as VPR_BENCH
from dejavlad.datasets.vpr_bench import TRUTH, open_numbered, open_vpr_bench
from dejavlad.decoders import ENDINGS, RAW_ENDINGS
from dejavlad.errors import InputError, UnknownNameError
from dejavlad.names import same_form
from dejavlad.photo import Photo, PhotoList
from dejavlad.settings import Settings

RADIUS = 25.0
"""Metres within which a photo is right, where a dataset does not say otherwise."""

DATABASE, QUERIES = ("database", "map", "ref", "reference", "gallery"), ("queries", "query")
"""Names of the two folders of a dataset, in order of preference."""

TOWN_PARTS = ("train", "val", "test")

PITTS = ("pitts30k", "pitts250k")


def photos(
    path: str | Path,
    *,
    root: str | Path | None = None,
    positions: str | Path | None = None,
    step: int = 1,
    all_folders: bool = False,
    time_offset: str | None = None,
) -> PhotoList:
    """The photos that a path or name stands for.

    Args:
        path: a folder (searched recursively), a text file with one path a line, a CSV file of positions (its
            photos, at those positions), a video, one photo, or a dataset's part, ``NAME:database`` or
            ``NAME:queries``.
        root: the folder that paths in a list are relative to; of a named dataset, where it lies.
        positions: ``exif``, ``utm-names``, ``auto``, ``none`` or a file (see `with_positions`); unless given,
            what `path` itself tells.
        step: of a video, take every step-th frame.
        all_folders: of a folder, also take what lies in hidden folders, bins, thumbnails and the like.
        time_offset: what is to be added to the photos' times (`moments.TimeOffset`).

    Raises:
        InputError: there is nothing like that, or nothing in it.
    """
    offset = TimeOffset.parse(time_offset)
    listed = _photos(Path(path), str(path), root, step, offset=offset, all_folders=all_folders)
    placed = listed.notes and positions in (None, "auto", "none")  # the table itself has placed them
    return listed if placed else with_positions(listed, positions, time_offset=offset)


def joined(lists: Sequence[tuple[str, PhotoList]], *, name: str = "photos") -> PhotoList:
    """Several lists as one, in their order; a photo that is in two of them is there once.

    Where photos of two folders share a name, all go by the folder too: ``100APPLE/IMG_0001.JPG``; and where
    that is not enough, by the whole path as it was given.

    Args:
        lists: what each was given as (a folder, a photo), and its photos.
        name: what the list is called.
    """
    rows: list[tuple[str, Photo]] = []
    seen: set[tuple[str, int | None, object]] = set()
    for given, photos_of in lists:
        marks = [(os.path.realpath(photo.path), photo.frame, photo.crop) for photo in photos_of]
        rows += [
            (given, photo)
            for photo, mark in zip(photos_of, marks, strict=True)
            if photo.pixels is not None or mark not in seen
        ]
        seen.update(marks)
    for naming in (_plainly, _by_folder, _by_path):
        named = [replace(photo, name=naming(given, photo)) for given, photo in rows]
        if len({photo.key for photo in named}) == len(named):
            break
    return PhotoList(named, name=name)


def _plainly(given: str, photo: Photo) -> str:
    return photo.name


def _by_folder(given: str, photo: Photo) -> str:
    folder = Path(given)
    if not folder.is_dir():
        return photo.name
    return f"{folder.name or folder.resolve().name}/{photo.name}"


def _by_path(given: str, photo: Photo) -> str:
    return photo.path.as_posix()


def _photos(
    path: Path,
    given: str,
    root: str | Path | None,
    step: int,
    *,
    seen: bool = True,
    offset: TimeOffset = NO_OFFSET,
    all_folders: bool = False,
) -> PhotoList:
    ending = path.suffix.lower()
    if path.is_dir():
        return folder_photos(path, all_folders=all_folders)
    if path.is_file():
        if ending in video.ENDINGS:
            return video_photos(path, step=step)
        if ending in ENDINGS or ending in RAW_ENDINGS:
            return PhotoList([Photo(path.name, path)], root=path.parent, name=path.stem)
        if ending in (".csv", ".tsv"):
            fixes = read_positions(path)
            base = path.parent if root is None else Path(root)
            lines = [(fix.line, name) for name, fix in fixes.items()]
            listed = gather(lines, base, source=path, name=path.stem, seen=seen, comments=False)
            own = dict(zip((photo.name for photo in listed), fixes.values(), strict=True))
            return from_csv(listed, path, own, offset)
        return listed_photos(path, root=root, seen=seen)
    name, colon, part = given.rpartition(":")
    if colon and part in ("database", "queries"):
        dataset = open_dataset(name, root=root)
        return dataset.database if part == "database" else dataset.queries
    raise InputError(
        f"there is no {given!r}{did_you_mean(path)}; photos are a folder, a text file with one path a line, "
        "a CSV file of positions, a video, or a dataset's part as NAME:database"
    )


def open_dataset(name: str | Path, *, root: str | Path | None = None) -> PlaceDataset:
    """A dataset by its name, by the folder in which it lies, or by a file that describes it.

    Such a file is a spec of NetVLAD (``.mat``), or a ``.toml`` of one's own (`dejavlad.datasets.described`).

    A folder holds ``database`` (or ``map``) and ``queries``. Where a ``positions.csv`` in them or beside
    them, the photos' names or EXIF tell positions, right is what lies within 25 m.

    Args:
        name: a name of `DATASETS`, a folder, or a file.
        root: where a named dataset lies; as the settings say (``dejavlad config``) unless given. Of a file,
            where its photos lie; beside it, or as it says, unless given.

    Raises:
        UnknownNameError: neither a name, a folder nor such a file.
        InputError: it is not where it should be, or lacks one of its parts.
    """
    called = str(name)
    if called in DATASETS:
        lies = Path(root) if root is not None else Settings.load().root(called)
        if lies is None:
            raise InputError(
                f"where does the dataset {called} lie? Give the folder with --root, or in the "
                f"settings (dejavlad config)"
            )
        return DATASETS[called](lies, called)
    if is_spec(called):
        return open_spec(called, root)
    if is_toml_dataset(called):
        return open_toml_dataset(called, root, _unseen)
    for path in (Path(called), Path(root or ".") / called):
        if path.is_dir():
            return open_folders(path, called)
    raise UnknownNameError(
        "dataset (and there is no such folder)",
        called,
        DATASETS,
        near=near_paths(called),
        listed="`dejavlad dataset protocols` lists the names; a dataset of your own is a folder or a file",
    )


def is_dataset(name: str | Path, *, root: str | Path | None = None) -> bool:
    """Whether `open_dataset` would take this for a dataset, be it whole or not; arguments as there."""
    called = str(name)
    if called in DATASETS or is_spec(called) or is_toml_dataset(called):
        return True
    return any(
        path.is_dir() and all(first_folder(_inside(path), kind) for kind in (DATABASE, QUERIES))
        for path in (Path(called), Path(root or ".") / called)
    )


def _unseen(path: Path, root: Path | None, positions: str | Path | None) -> PhotoList:
    return with_positions(_photos(path, str(path), root, 1, seen=False), positions)


def placed_again(
    places: PlaceDataset, positions: str | Path | None, time_offset: str | None = None
) -> PlaceDataset:
    """A dataset with the positions of another source, and what is right by these.

    Args:
        places: the dataset.
        positions: where its photos were taken (see `with_positions`); as they are unless given.
        time_offset: what is to be added to the photos' times.

    Raises:
        InputError: see `with_positions`.
    """
    if positions is None and time_offset is None:
        return places
    database, queries = (
        with_positions(part, positions or "auto", time_offset=time_offset)
        for part in (places.database, places.queries)
    )
    truth, protocol = places.truth, places.protocol
    rule = WithinMetres(RADIUS) if truth is None else truth.rule
    if isinstance(rule, WithinMetres) and any(database.positions) and any(queries.positions):
        radius = float(rule.radius_m)
        truth, protocol = truth_positions(database, queries, radius), f"positions:{radius:g}"
    return PlaceDataset(places.name, database, queries, truth, protocol)


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


def _town_part(part: str) -> Callable[[Path, str], PlaceDataset]:
    return lambda path, name: open_folders(path / part, name)


def _msls(cities: str, subtask: str = "all", task: str = "im2im") -> Callable[[Path, str], PlaceDataset]:
    every = subtask == EVERY
    return lambda path, name: open_msls(path, cities, subtask=subtask, task=task, unmatched=every, name=name)


def _spec(stem: str, family: Family, light: str | None = None) -> Callable[[Path, str], PlaceDataset]:
    return lambda path, name: open_named_spec(stem, path, family=family, name=name, light=light)


def _tiny(stem: str) -> Callable[[Path, str], PlaceDataset]:
    return lambda path, name: open_tiny(stem, path, name=name)


def _oxford(crop: bool) -> Callable[[Path, str], PlaceDataset]:
    return lambda path, name: open_oxford(path, name, crop=crop)


def _revisited(which: str, difficulty: str) -> Callable[[Path, str], PlaceDataset]:
    return lambda path, name: open_revisited(path, which, difficulty, name=name)


def _kitti(sequence: str) -> Callable[[Path, str], PlaceDataset]:
    return lambda path, name: open_kitti(path, sequence, name=name)


def _holidays_rotated(path: Path, name: str) -> PlaceDataset:
    return open_holidays(path, name, rotated=True)


def _nordland_2760(path: Path, name: str) -> PlaceDataset:
    if (path / "ref").is_dir() and (path / "query").is_dir():  # as VPR-Bench lays it out
        return open_numbered(path, "ref", "query", name=name)
    return open_nordland(path, name, database="winter", queries="summer", every=10, frames=1)


def _nordland_3450(path: Path, name: str) -> PlaceDataset:
    return open_nordland(path, name, frames=2, part="test")


DATASETS: dict[str, Callable[[Path, str], PlaceDataset]] = {
    "folders": open_folders,
    **{f"town-{part}": _town_part(part) for part in TOWN_PARTS},
    **{f"{place}-{part}": _spec(f"{place}_{part}", PITTSBURGH) for place in PITTS for part in TOWN_PARTS},
    **{f"tokyotm-{part}": _spec(f"tokyoTM_{part}", TOKYO_TIME_MACHINE) for part in TOWN_PARTS[:2]},
    **{f"tokyotm-tiny-{part}": _tiny(f"tokyoTM_{part}") for part in TOWN_PARTS[:2]},
    "tokyo247": _spec("tokyo247", TOKYO_247),
    **{f"tokyo247-{light}": _spec("tokyo247", TOKYO_247, light) for light in LIGHTS},
    **dict.fromkeys(VG_BENCHMARK, open_vg_benchmark),
    **dict.fromkeys(VPR_BENCH, open_vpr_bench),
    "nordland": open_nordland,
    "nordland-2760": _nordland_2760,
    "nordland-3450": _nordland_3450,
    "gsv-cities": open_gsv_cities,
    **dict.fromkeys(("oxford5k", "paris6k"), _oxford(crop=True)),
    **dict.fromkeys(("oxford5k-whole", "paris6k-whole"), _oxford(crop=False)),
    **{f"{which}-{how}": _revisited(which, how) for which in REVISITED for how in DIFFICULTIES},
    "holidays": open_holidays,
    "holidays-rotated": _holidays_rotated,
    **{f"kitti-{sequence}": _kitti(sequence) for sequence in SEQUENCES},
    **{f"msls-{part}": _msls(part) for part in CITIES},
    **{f"msls-{city}": _msls(city) for cities in CITIES.values() for city in cities},
    **{f"msls-{part}-{kind}": _msls(part, kind) for part in ("val", "test") for kind in SUBTASKS[1:]},
    **{f"msls-{part}-{kind}": _msls(part, task=kind) for part in ("val", "test") for kind in TASKS[1:]},
}
"""Name -> (where it lies, its name) -> dataset."""


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
