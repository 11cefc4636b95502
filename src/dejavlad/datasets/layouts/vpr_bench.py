"""Datasets laid out as VPR-Bench does (Zaffar et al., IJCV 2021).

::

    ROOT/
        ref/0000000.jpg ...
        query/0000000.jpg ...
        ground_truth_new.npy      rows (query, its reference photos); a pickle, of which nothing is executed

Where there is no such file, right is what the numbers in the photos' names tell. The file's own rows count
the photos of a folder in order, and are of others where one is missing: gaps between the numbers are told.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dejavlad.datasets.layouts.plain_pickle import read_object_npy
from dejavlad.errors import InputError
from dejavlad.ground_truth.frames import FrameRule, number_gaps
from dejavlad.ground_truth.place import PlaceDataset
from dejavlad.ground_truth.row_sets import RowSets
from dejavlad.ground_truth.rules import Listed
from dejavlad.ground_truth.truth import Truth, truth_frames, truth_frames_of
from dejavlad.photo import PhotoList
from dejavlad.photo.folder import dataset_folder, folder_photos

log = logging.getLogger("dejavlad")

TRUTH = "ground_truth_new.npy"
DATABASE, QUERIES = ("ref", "reference", "database"), ("query", "queries")
MOST_FRAMES = 50
"""Up to so many frames are tried for what a ground truth may be in short."""


@dataclass(frozen=True, slots=True)
class Walk:
    """How one dataset of VPR-Bench lies on disk, and what is right in it."""

    folder: str
    """The folder that holds it in VPR-Bench's archive."""
    frames: int | None = None
    """Where the ground truth's file is missing, right is the same number within so many."""
    pair: tuple[str, str] | None = None
    """Other names of the two folders, database first."""


def open_vpr_bench(root: str | Path, walk: Walk, *, name: str) -> PlaceDataset:
    """A dataset of VPR-Bench.

    Args:
        root: its folder, or the one that holds it.
        walk: how it lies there.

    Raises:
        InputError: a folder is missing, or the ground truth does not fit.
    """
    root = dataset_folder(root)
    pairs = [(database, queries) for database in DATABASE for queries in QUERIES]
    if walk.pair is not None:
        pairs.insert(0, walk.pair)
    for folder in (root, root / walk.folder, root / name, root / name.replace("-", "_")):
        for database, queries in pairs:
            if (folder / database).is_dir() and (folder / queries).is_dir():
                return open_numbered(folder, database, queries, name=name, frames=walk.frames)
    folders = "ref and query" + (f", or {walk.pair[0]} and {walk.pair[1]}" if walk.pair else "")
    raise InputError(f"{name}: {str(root)!r} (or {walk.folder!r} in it) should hold the folders {folders}")


def open_numbered(
    folder: Path, database_folder: str, query_folder: str, *, name: str, frames: int | None = None
) -> PlaceDataset:
    """The dataset of two folders of numbered photos, and the ground truth beside them.

    Args:
        folder: holds both, and perhaps `TRUTH`.
        frames: without a ground truth, right is the same number within so many; nothing is known unless
            given.

    Raises:
        InputError: no photos, a ground truth that cannot be used or is of other numbers of photos, or names
            that do not tell which frames are the same.
    """
    database = folder_photos(folder / database_folder, name=f"{name}:database")
    queries = folder_photos(folder / query_folder, name=f"{name}:queries")
    if (folder / TRUTH).is_file():
        _tell_gaps(folder / TRUTH, database, queries)
        truth = read_ground_truth(folder / TRUTH, len(database), len(queries))
        return PlaceDataset(name, database, queries, truth, TRUTH)
    if frames is None:
        return PlaceDataset(name, database, queries)
    truth = truth_frames_of(database, queries, FrameRule(frames))
    return PlaceDataset(name, database, queries, truth, f"frames:{frames}")


def read_ground_truth(path: str | Path, n_database: int, n_queries: int) -> Truth:
    """What VPR-Bench's (or GSV-Cities') file tells of the right answers.

    One that says no more than the same frame within so many is described as that.

    Args:
        path: an ``.npy`` of objects: [Q, 2] of query and rows, or [Q] of rows.

    Raises:
        InputError: it cannot be read, holds something else, or is of other numbers of photos.
    """
    table = read_object_npy(path)
    refusal = f"{str(path)!r} is no ground truth of VPR-Bench"
    if table.ndim not in (1, 2) or (table.ndim == 2 and table.shape[1] != 2):
        raise InputError(f"{refusal}: it holds {list(table.shape)}, not a query and its rows a line")
    if len(table) != n_queries:
        raise InputError(
            f"{refusal} for these photos: it is of {len(table)} queries, the folder holds {n_queries}"
        )
    sets: list[list[int] | None] = [None] * n_queries
    for line, row in enumerate(table):
        query, rows = (row[0], row[1]) if table.ndim == 2 else (line, row)
        if not _whole(query) or not 0 <= int(query) < n_queries or sets[int(query)] is not None:
            raise InputError(
                f"{refusal}: line {line + 1} is of query {query}, of 0 to {n_queries - 1} once each"
            )
        listed = [rows] if _whole(rows) else rows
        if not isinstance(listed, Sequence | np.ndarray) or not all(_whole(number) for number in listed):
            raise InputError(f"{refusal}: line {line + 1} does not hold the rows of photos")
        sets[int(query)] = [int(number) for number in listed]
    try:
        right = RowSets.of([rows or [] for rows in sets], n_database)
    except InputError as error:
        raise InputError(f"{refusal} for these photos: {error}") from None
    return _in_short(right) or Truth(right, n_database, Listed("listed", (("file", Path(path).name),)))


def _tell_gaps(path: Path, database: PhotoList, queries: PhotoList) -> None:
    """Warn where photos seem to be missing: the ground truth counts rows, which are then others' photos."""
    for photos in (database, queries):
        if gaps := number_gaps(photos):
            log.warning(
                "the names of %s lack %d numbers, the first is %d: %s counts photos by rows, so if photos "
                "are missing its answers are of other photos",
                photos.name,
                len(gaps),
                gaps[0],
                path,
            )


def _in_short(right: RowSets) -> Truth | None:
    """The same as frames within so many, where it is no more than that."""
    n, queries = right.n_database, len(right)
    widest = int(right.counts.max(initial=0))
    for every in {1, round(n / queries) if queries else 1}:
        for frames in range(max(0, widest // 2 - 1), min(widest // 2, MOST_FRAMES) + 1):
            truth = truth_frames(n, queries, frames, every=max(1, every))
            if truth.positives == right:
                return truth
    return None


def _whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) or (isinstance(value, float) and value.is_integer())
