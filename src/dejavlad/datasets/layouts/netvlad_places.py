"""The datasets of NetVLAD, and datasets of one's own in its form: a spec (``.mat``) and folders of photos.

Pittsburgh (Torii et al., CVPR 2013), Tokyo Time Machine (Arandjelovic et al., CVPR 2016) and Tokyo 24/7
(Torii et al., CVPR 2015). The spec tells names and positions, so the photos need not be there to score a
ranking.

Legend: N database photos, Q queries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError
from dejavlad.geo import Position
from dejavlad.ground_truth.netvlad_spec import NetvladSpec, read_netvlad_spec
from dejavlad.ground_truth.place import PlaceDataset
from dejavlad.ground_truth.refine import without_same_time
from dejavlad.ground_truth.truth import groups_of, truth_positions
from dejavlad.photo import Photo, PhotoList
from dejavlad.photo.disk_names import DiskNames
from dejavlad.photo.folder import dataset_folder
from dejavlad.positions.notes import without_zeros

BESIDE = ("", "datasets", "specs", "raw_data/datasets")
"""Folders below the root in which a spec may lie."""
LIGHTS = ("day", "sunset", "night")
"""Of Tokyo 24/7's queries the first, second and third of each three (``dbTokyo247.m``)."""
MORE_THAN_A_RADIUS = {
    "tokyo247": "tokyo247@relja",
    "tokyotm_train": "tokyotm-train@25m",
    "tokyotm_val": "tokyotm-val@25m",
}
"""Official specs that do not tell all that published figures depend on -> the protocol that does."""
TINY_SEED, TINY_NEAR, TINY_DATABASE = 43, 5.0, 120
"""Of the tiny datasets (``dbTiny.m``): seed, squared metres within which photos are of one place, size."""


@dataclass(frozen=True, slots=True)
class Family:
    """What specs of one family have in common, and what they do not tell."""

    database: tuple[str, ...] = ("images", "database", "")
    """Folders below the root in which the database photos may lie; the first is the original's."""
    queries: tuple[str, ...] = ("queries", "query", "images", "")
    """The same of the queries."""
    zone: str | None = None
    """UTM zone of the positions."""
    panorama: Callable[[str], str | None] | None = None
    """A photo's panorama (and the time it was taken), from its name; None where names tell none."""
    one_answer: bool = False
    """Whether of each panorama the best ranked photo alone counts."""
    other_time: bool = False
    """Whether photos of the query's own time do not count."""
    lights: bool = False
    """Whether queries are by turns taken by day, at sunset and by night."""


def _before(mark: str) -> Callable[[str], str | None]:
    """What stands in a name before the last such mark."""
    return lambda name: name.rpartition(mark)[0] or None


OWN = Family()
PITTSBURGH = Family(
    ("images", "", "database", "Pittsburgh250k"),
    ("queries", "queries_real", "Pittsburgh250k/queries_real", "query"),
    "17N",
    _before("_pitch"),
)
TOKYO_TIME_MACHINE = Family(
    ("images", "", "tokyoTimeMachine"),
    ("images", "", "tokyoTimeMachine"),
    "54N",
    _before("/"),
    other_time=True,
)
TOKYO_247 = Family(
    ("images", "", "database_gsv_vga", "247_Tokyo_GSV_Perspective", "tokyo247"),
    (
        *("query", "queries", "247query_subset_v2", "247query_v3", "tokyo247/247query_subset_v2"),
        *("247_Tokyo_GSV_Perspective/247query_subset_v2", "247_Tokyo_GSV_Perspective/247query_v3"),
    ),
    "54N",
    _before("_"),
    one_answer=True,
    lights=True,
)


def open_spec(
    path: str | Path,
    root: str | Path | None = None,
    *,
    family: Family = OWN,
    name: str | None = None,
    light: str | None = None,
) -> PlaceDataset:
    """The dataset that a spec describes.

    A photo is named as in the spec, wherever it lies: below the root in one of the family's folders, also as
    ``.png`` where the spec says ``.jpg`` (as Tokyo 24/7 is published). Its time is the month of its time
    stamp, its group the panorama.

    Args:
        path: the ``.mat`` file.
        root: where the photos lie; the spec's own folder unless given.
        family: what the spec does not tell.
        name: what the dataset is called; the file's name unless given.
        light: only the queries of this light, of `LIGHTS`.

    Raises:
        InputError: the spec cannot be used, the root is no folder, or the family knows no lights.
    """
    spec = read_netvlad_spec(path)
    root = Path(path).parent if root is None else dataset_folder(root)
    called = name or spec.name
    database, queries = _listed(spec, root, family, called)
    if light is not None:
        if not family.lights or light not in LIGHTS:
            raise InputError(f"{called} has no part {light!r}; Tokyo 24/7 has {', '.join(LIGHTS)}")
        queries = queries.take(row for row, photo in enumerate(queries) if light in photo.tags)
    truth = truth_positions(database, queries, spec.truth.radius)
    if family.one_answer:
        truth = truth.grouped(groups_of(database))
    if family.other_time:
        truth = without_same_time(truth, database, queries)
    return PlaceDataset(called, database, queries, truth, f"positions:{spec.truth.radius:g}")


def open_named_spec(
    root: str | Path, stem: str, family: Family, light: str | None = None, *, name: str
) -> PlaceDataset:
    """A dataset of NetVLAD by its spec's name; arguments as of `open_spec`.

    Raises:
        InputError: there is no such spec below the root, or what `open_spec` refuses.
    """
    return open_spec(find_spec(stem, root, name), root, family=family, name=name, light=light)


def open_tiny(root: str | Path, stem: str, *, name: str) -> PlaceDataset:
    """A small part of Tokyo Time Machine to try training on, after NetVLAD's ``dbTiny.m``.

    Places are drawn until there are 120 database photos: of each place with more than 12 photos the first 6
    are queries, and those from the 13th to the 24th are the database. MATLAB's random numbers cannot be had
    here, so that the places are others than the original's, but always the same.

    Raises:
        InputError: what `open_spec` refuses, or nothing is left.
    """
    spec = read_netvlad_spec(find_spec(stem, root, name))
    all_photos, _ = _listed(spec, dataset_folder(root), TOKYO_TIME_MACHINE, name)
    database_rows, query_rows = tiny_rows(spec.truth.database)
    if not database_rows:
        raise InputError(f"{name}: no place of {stem} has more than 12 photos; is it the official spec?")
    database, queries = (
        all_photos.like((all_photos[row] for row in rows), name=f"{name}:{part}", notes=())
        for part, rows in (("database", database_rows), ("queries", query_rows))
    )
    truth = truth_positions(database, queries, spec.truth.radius)
    return PlaceDataset(name, database, queries, truth, f"positions:{spec.truth.radius:g}")


def tiny_rows(points_N2: NDArray[np.float64]) -> tuple[list[int], list[int]]:
    """Rows of the database and of the queries of a tiny dataset, of points in metres [N, 2]."""
    database_rows: list[int] = []
    query_rows: list[int] = []
    taken = np.zeros(len(points_N2), np.bool_)
    for row in np.random.default_rng(TINY_SEED).permutation(len(points_N2)).tolist():
        if len(database_rows) >= TINY_DATABASE:
            break
        near = np.flatnonzero(((points_N2 - points_N2[row]) ** 2).sum(axis=1) < TINY_NEAR)
        if len(near) > 12 and not taken[near].any():
            taken[near] = True
            query_rows += near[:6].tolist()
            database_rows += near[12:24].tolist()
    return database_rows, query_rows


def find_spec(stem: str, root: str | Path, name: str) -> Path:
    """Where the spec of a dataset lies.

    Raises:
        InputError: the root is no folder, or the spec is in none of the usual places.
    """
    root = dataset_folder(root)
    for path in [root / beside / f"{stem}.mat" for beside in BESIDE] + [root.parent / f"{stem}.mat"]:
        if path.is_file():
            return path
    why = f"its spec {stem}.mat is not in {str(root)!r}, nor in datasets or specs below it"
    if any((root / part).is_dir() for part in ("images/test", "images/val", "images/train")):
        why += (
            f"; {str(root / 'images')!r} holds parts of @-named photos: give such a folder as the dataset "
            f"(e.g. {str(root / 'images' / 'test')!r}), or the name vg-{name}"
        )
    else:
        why += (
            "; it is one of the dataset specifications on NetVLAD's project page. Put it there, or give the "
            ".mat file itself as the dataset and the photos' folder with --root"
        )
    raise InputError(f"{name}: {why}")


def _listed(spec: NetvladSpec, root: Path, family: Family, called: str) -> tuple[PhotoList, PhotoList]:
    lists = []
    for part, names, points, times, folders in (
        ("database", spec.database, spec.truth.database, spec.database_times, family.database),
        ("queries", spec.queries, spec.truth.queries, spec.query_times, family.queries),
    ):
        folder, png, present = _lie(root, folders, names)
        disk = DiskNames(folder)
        photos = [
            Photo(
                name,
                _on_disk(name, png, disk, present),
                position=Position(east, north, family.zone),
                time=None if times is None else _month(float(times[row])),
                group=family.panorama(name) if family.panorama is not None else None,
                tags=(LIGHTS[row % 3],) if family.lights and part == "queries" else (),
            )
            for row, (name, (east, north)) in enumerate(zip(names, points.tolist(), strict=True))
        ]
        disk.warn_of_case(f"{called}:{part}")
        lists.append(without_zeros(PhotoList(photos, root=folder, name=f"{called}:{part}")))
    return lists[0], lists[1]


def _on_disk(name: str, png: bool, disk: DiskNames, present: bool) -> Path:
    """Where a photo lies; as its name stands where it is not there (as none is, unless `present`)."""
    path = f"{name[:-4]}.png" if png and name.lower().endswith(".jpg") else name
    at = disk.root / path
    lies = disk.find(path) if present and not at.is_file() else None
    return at if lies is None else disk.root / lies


def _lie(root: Path, folders: Sequence[str], names: Sequence[str]) -> tuple[Path, bool, bool]:
    """The folder in which photos lie, whether as .png although they are named otherwise, and whether at all.

    The first, the last and the middle one are looked for; where there are none, the first folder is told.
    """
    samples = [names[0], names[len(names) // 2], names[-1]]
    as_png = [f"{name[:-4]}.png" for name in samples if name.lower().endswith(".jpg")]
    for folder in folders:
        disk = DiskNames(root / folder)
        for sample in (samples, as_png):
            if any(disk.find(name) for name in sample):
                return root / folder, sample is as_png, True
    return root / folders[0], False, False


def _month(stamp: float) -> float | None:
    """Unix time of the first of a month written as YYYYMM; another number as it is; None for NaN."""
    if math.isnan(stamp):
        return None
    year, month = divmod(stamp, 100)
    if 1 <= year <= 9999 and month in range(1, 13):
        return datetime(int(year), int(month), 1, tzinfo=UTC).timestamp()
    return stamp
