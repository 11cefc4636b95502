"""From what a user types to photos and datasets: one table of names, and what paths can be."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from dejavlad.datasets.cards import CARDS
from dejavlad.datasets.layouts.netvlad_places import MORE_THAN_A_RADIUS, open_spec
from dejavlad.datasets.layouts.toml_dataset import is_toml_dataset, open_toml_dataset
from dejavlad.datasets.layouts.two_folders import holds_two, open_folders
from dejavlad.datasets.layouts.vg_benchmark import RADIUS
from dejavlad.decoders import ENDINGS, RAW_ENDINGS
from dejavlad.errors import InputError, UnknownNameError
from dejavlad.ground_truth.netvlad_spec import is_spec
from dejavlad.ground_truth.place import PlaceDataset
from dejavlad.ground_truth.rules import WithinMetres
from dejavlad.ground_truth.truth import truth_positions
from dejavlad.photo import Photo, PhotoList, video
from dejavlad.photo.folder import folder_photos
from dejavlad.photo.listing import gather, listed_photos
from dejavlad.photo.near import did_you_mean, near_paths
from dejavlad.photo.video import video_photos
from dejavlad.positions.assign import from_csv, with_positions
from dejavlad.positions.csv_file import read_positions
from dejavlad.positions.moments import NO_OFFSET, TimeOffset
from dejavlad.settings import Settings

log = logging.getLogger("dejavlad")

DATASETS: dict[str, Callable[[Path, str], PlaceDataset]] = {card.name: card.open for card in CARDS.values()}
"""Name -> (where it lies, its name) -> dataset."""


def photos(
    path: str | Path,
    *,
    root: str | Path | None = None,
    positions: str | Path | None = None,
    step: int = 1,
    all_folders: bool = False,
    time_offset: str | None = None,
    seen: bool = True,
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
        seen: whether the photos of a list must be there; lists alone are enough to score a ranking.

    Raises:
        InputError: there is nothing like that, or nothing in it.
    """
    offset = TimeOffset.parse(time_offset)
    listed = _photos(Path(path), str(path), root, step, seen=seen, offset=offset, all_folders=all_folders)
    placed = listed.notes and positions in (None, "auto", "none")  # the table itself has placed them
    return listed if placed else with_positions(listed, positions, time_offset=offset)


def photo_lists(
    paths: Sequence[str],
    *,
    root: str | Path | None = None,
    positions: str | Path | None = None,
    all_folders: bool = False,
    time_offset: str | None = None,
) -> list[tuple[str, PhotoList]]:
    """What several paths stand for, each as `photos` opens it: (path, its photos).

    Single photos of one folder are one list, under that folder: so a table of positions, a track or poses
    are of all of them.

    Raises:
        InputError: as `photos`.
    """
    groups: dict[tuple[bool, str], list[Path]] = {}
    for given in paths:
        path = Path(given)
        single = path.is_file() and path.suffix.lower() in (*ENDINGS, *RAW_ENDINGS)
        members = groups.setdefault((single, str(path.parent) if single else given), [])
        if path not in members:
            members.append(path)
    lists = []
    for (single, given), members in groups.items():
        if single:
            name = members[0].stem if len(members) == 1 else Path(given).resolve().name
            listed = PhotoList((Photo(path.name, path) for path in members), root=Path(given), name=name)
            listed = with_positions(listed, positions, time_offset=time_offset)
        else:
            listed = photos(
                given, root=root, positions=positions, all_folders=all_folders, time_offset=time_offset
            )
        lists.append((given, listed))
    return lists


def joined(lists: Sequence[tuple[str, PhotoList]]) -> PhotoList:
    """Several lists as one, in their order; a photo that is in two of them is there once.

    Where photos of two folders share a name, all go by the folder too: ``100APPLE/IMG_0001.JPG``; and where
    that is not enough, by the whole path as it was given.

    Args:
        lists: what each was given as (a folder, a photo), and its photos.
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
    folders = {given: _folder_name(given) for given, _ in lists}
    for above in (dict.fromkeys(folders, ""), folders):
        named = [replace(photo, name=above[given] + photo.name) for given, photo in rows]
        if len({photo.key for photo in named}) == len(named):
            return PhotoList(named)
    return PhotoList(replace(photo, name=photo.path.as_posix()) for _, photo in rows)


def _folder_name(given: str) -> str:
    """The name of a folder with its slash; empty for what is none."""
    folder = Path(given)
    return f"{folder.name or folder.resolve().name}/" if folder.is_dir() else ""


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

    Such a file is a spec of NetVLAD (``.mat``), or a ``.toml`` of one's own
    (`dejavlad.datasets.layouts.toml_dataset`).

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
        if protocol := MORE_THAN_A_RADIUS.get(Path(called).stem.lower()):
            log.warning(
                "%s alone tells positions and a radius; its published figures are by --protocol %s",
                called,
                protocol,
            )
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
    return any(holds_two(path) for path in (Path(called), Path(root or ".") / called))


def _unseen(path: Path, root: Path | None, positions: str | Path | None) -> PhotoList:
    return with_positions(_photos(path, str(path), root, 1, seen=False), positions)


def placed_again(
    places: PlaceDataset, positions: str | Path | None, time_offset: str | None = None
) -> PlaceDataset:
    """A dataset with the positions of another source, and what is right by these.

    Args:
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
