"""Mapillary Street-Level Sequences (Warburg et al., CVPR 2020): photos of 30 cities, as their files tell.

::

    ROOT/{train_val|test}/CITY/{query|database}/
        seq_info.csv          key, sequence_key, frame_number
        raw.csv               lon, lat, ca (compass), pano       (not of the test cities)
        postprocessed.csv     easting, northing, night, view_direction       (neither)
        subtask_index.csv     for each subtask whether a photo belongs to it (not needed for training)
        images/KEY.jpg

All have one line a photo, in the same order. Equivalent to ``msls.py`` of Mapillary and Patch-NetVLAD:
panoramas are left out, and queries without a photo nearby.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np

from dejavlad.errors import InputError, UnknownNameError
from dejavlad.geo import Position, utm_from_latlon
from dejavlad.ground_truth.place import PlaceDataset
from dejavlad.ground_truth.sequences import Rows, truth_windows, windows
from dejavlad.ground_truth.truth import truth_positions
from dejavlad.photo import Photo, PhotoList
from dejavlad.photo.listing import read_text
from dejavlad.positions.notes import without_zeros

CITIES: Final[Mapping[str, tuple[str, ...]]] = {
    "train": (
        *("trondheim", "london", "boston", "melbourne", "amsterdam", "helsinki", "tokyo", "toronto"),
        *("saopaulo", "moscow", "zurich", "paris", "bangkok", "budapest", "austin", "berlin", "ottawa"),
        *("phoenix", "goa", "amman", "nairobi", "manila"),
    ),
    "val": ("cph", "sf"),
    "test": ("miami", "athens", "buenosaires", "stockholm", "bengaluru", "kampala"),
}
"""Part -> its cities, in the original's order."""
EVERY: Final = "every"
SUBTASKS: Final = ("all", "s2w", "w2s", "o2n", "n2o", "d2n", "n2d", EVERY)
"""All photos of the benchmark; summer to winter, old to new, day to night, and back; every photo there is."""
RADIUS: Final[Mapping[str, float]] = {"train": 10.0, "val": 25.0, "test": 25.0}
"""Metres within which a photo is right (posDistThr)."""
TASKS: Final = ("im2im", "im2seq", "seq2im", "seq2seq")
"""A photo (im) or a short sequence (seq) is sought among photos or sequences."""
MEASURE: Final = "msls"
"""mAP@1, 5, 10 and 20, as its ``evaluate.py`` tells beside recall."""
FITS = 1000.0
"""Metres by which a photo's easting and northing may differ from its longitude and latitude."""

Part = Literal["train", "val", "test"]
Row = dict[str, str]


@dataclass(frozen=True, slots=True)
class _Side:
    """The database or the queries of a city."""

    photos: list[Photo]
    """Every photo, in the order of the tables."""
    kept: list[int]
    """Rows of those that count: of the subtask, and no panoramas."""
    numbers: list[int | None]
    """Each photo's number in its sequence."""

    def windows(self, length: int) -> Rows:
        """int64 [n, length] rows of the sequences around those that count."""
        return windows([photo.group for photo in self.photos], self.numbers, self.kept, length)


def open_msls(
    root: str | Path,
    cities: str | Sequence[str] = "val",
    *,
    subtask: str = "all",
    task: str = "im2im",
    length: int = 3,
    radius: float | None = None,
    panoramas: bool = False,
    unmatched: bool = False,
    name: str | None = None,
) -> PlaceDataset:
    """Cities of Mapillary Street-Level Sequences.

    Photos are tagged ``night``, and ``forward``, ``backward`` or ``sideways``, where that is known, with
    their city and with the subtasks that they belong to; their group is the sequence. Cities are apart by
    their UTM zones. Where positions are known, queries without a photo nearby are left out. Those of the
    test cities are withheld, so that these have no truth.

    Where sequences are matched, a photo of a list stands for the sequence that it is the middle of (see
    `dejavlad.ground_truth.sequences`).

    Args:
        root: the folder that holds ``train_val`` and ``test``.
        cities: ``train``, ``val``, ``test``, or names of cities of one of them.
        subtask: see `SUBTASKS`; of the training cities all photos are in ``all``.
        task: see `TASKS`.
        length: frames of a sequence, odd.
        radius: metres within which a photo is right; as the original's for the part, unless given.
        panoramas: keep these too.
        unmatched: keep queries without a photo nearby too.
        name: what the dataset is called.

    Raises:
        UnknownNameError: no such city, subtask or task.
        InputError: files that are missing or cannot be used, or nothing is left.
    """
    for kind, given, valid in (("subtask", subtask, SUBTASKS), ("task", task, TASKS)):
        if given not in valid:
            raise UnknownNameError(f"{kind} of MSLS", given, valid)
    part, names = _cities(cities)
    if part == "train" and subtask not in ("all", EVERY):
        raise InputError(f"subtasks divide the val and test cities of MSLS; {names[0]} has only all")
    root = Path(root)
    folder = root / ("test" if part == "test" else "train_val")
    asked_as, there_as = (length if kind == "seq" else 1 for kind in task.split("2"))
    frames: tuple[list[Photo], list[Photo]] = ([], [])
    rows: tuple[list[Rows], list[Rows]] = ([], [])
    for city in names:
        sides = [
            _side(root, folder / city / side_name, part, subtask, panoramas)
            for side_name in ("database", "query")
        ]
        windows = [
            side.windows(side_name) for side, side_name in zip(sides, (there_as, asked_as), strict=True)
        ]
        if all(map(len, windows)):  # as the original passes over the others
            for i in (0, 1):
                rows[i].append(windows[i] + len(frames[i]))
                frames[i].extend(sides[i].photos)
    called = name or f"msls-{cities if isinstance(cities, str) else '+'.join(cities)}"
    if not rows[0]:
        raise InputError(f"{called}: no photo is left in {', '.join(names)} for the subtask {subtask}")
    database_rows, query_rows = (np.concatenate(parts) for parts in rows)
    if part == "test":
        return PlaceDataset(called, *_centres(root, called, frames, database_rows, query_rows))
    radius = RADIUS[part] if radius is None else radius
    if not unmatched:
        query_rows = query_rows[truth_windows(*frames, database_rows, query_rows, radius).answerable]
        if not len(query_rows):
            raise InputError(f"{called}: no query has a photo of the database within {radius:g} m")
    database, queries = _centres(root, called, frames, database_rows, query_rows)
    if task == "im2im":
        truth, protocol = truth_positions(database, queries, radius), f"positions:{radius:g}"
    else:
        truth = truth_windows(*frames, database_rows, query_rows, radius)
        protocol = f"positions:{radius:g}, {task} of {length} frames"
    return PlaceDataset(called, database, queries, truth.refined("measure", MEASURE), protocol)


def _centres(
    root: Path, called: str, frames: tuple[list[Photo], list[Photo]], database_rows: Rows, query_rows: Rows
) -> tuple[PhotoList, PhotoList]:
    """The photo in the middle of each sequence."""
    database, queries = (
        without_zeros(
            PhotoList(
                (photos[row] for row in rows[:, rows.shape[1] // 2].tolist()),
                root=root,
                name=f"{called}:{side}",
            )
        )
        for photos, rows, side in zip(
            frames, (database_rows, query_rows), ("database", "queries"), strict=True
        )
    )
    return database, queries


def _cities(given: str | Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The part, and its cities."""
    if isinstance(given, str) and given in CITIES:
        return given, CITIES[given]
    names = (given,) if isinstance(given, str) else tuple(given)
    known = {city: part for part, cities in CITIES.items() for city in cities}
    for city in names:
        if city not in known:
            raise UnknownNameError("city of MSLS", city, [*CITIES, *known])
    parts = {known[city] for city in names}
    if len(parts) != 1:
        raise InputError(f"cities of one part of MSLS go together; given {', '.join(names)}")
    return parts.pop(), names


def _side(root: Path, folder: Path, part: str, subtask: str, panoramas: bool) -> _Side:
    sequences = _table(folder / "seq_info.csv", ("key", "sequence_key"))
    count = len(sequences)
    keep = [True] * count
    belongs: list[tuple[str, ...]] = [()] * count
    if part != "train" and subtask != EVERY:
        subtasks = _beside(folder / "subtask_index.csv", (subtask,), sequences)
        keep = [_is_true(row[subtask]) for row in subtasks]
        belongs = [
            tuple(condition for condition in SUBTASKS[1:-1] if _is_true(row.get(condition, "")))
            for row in subtasks
        ]
    blank: list[Row] = [{} for _ in sequences]
    raw, post = blank, blank
    if part != "test":
        raw = _beside(folder / "raw.csv", ("lon", "lat", "pano"), sequences)
        post = _beside(
            folder / "postprocessed.csv", ("easting", "northing", "night", "view_direction"), sequences
        )
    zones = _Zones(folder)
    photos = []
    for row, sequence in enumerate(sequences):
        path = folder / "images" / f"{sequence['key']}.jpg"
        compass = _number(raw[row].get("ca", ""))
        photos.append(
            Photo(
                path.relative_to(root).as_posix(),
                path,
                position=zones.position(raw[row], post[row]) if post[row] else None,
                heading=None if compass is None else compass % 360,
                group=sequence["sequence_key"],
                tags=(*_tags(post[row]), folder.parent.name, *belongs[row]),
            )
        )
    kept = [
        row for row in range(count) if keep[row] and (panoramas or not _is_true(raw[row].get("pano", "")))
    ]
    numbers = [_number(sequence.get("frame_number", "")) for sequence in sequences]
    return _Side(photos, kept, [None if number is None else int(number) for number in numbers])


def _tags(post: Row) -> tuple[str, ...]:
    """What is known of the light and of the view."""
    view = post.get("view_direction", "").strip().lower()
    night = ("night",) if _is_true(post.get("night", "")) else ()
    return (*night, *((view,) if view else ()))


class _Zones:
    """The UTM zones of a city, which no file tells.

    A photo's easting and northing are in the zone of its longitude, or, where a city lies in two, in another
    photo's. Each zone is tried once, by the first photo that has it.

    Args:
        folder: of the city, for errors.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._found: dict[tuple[int, bool], str] = {}

    def position(self, raw: Row, post: Row) -> Position | None:
        """Where a photo was taken; None where a number is missing.

        Raises:
            InputError: longitude and latitude are of another place.
        """
        east, north = _number(post["easting"]), _number(post["northing"])
        lon, lat = _number(raw["lon"]), _number(raw["lat"])
        if east is None or north is None or lon is None or lat is None:
            return None
        key = (int(lon // 6), lat >= 0)
        if key not in self._found:
            self._found[key] = self._zone(east, north, lon, lat)
        return Position(east, north, self._found[key])

    def _zone(self, east: float, north: float, lon: float, lat: float) -> str:
        own = utm_from_latlon(lat, lon)
        for at in (own, *(utm_from_latlon(lat, lon, zone) for zone in self._found.values())):
            if at.zone is not None and max(abs(at.east - east), abs(at.north - north)) < FITS:
                return at.zone
        raise InputError(
            f"{str(self._folder)!r}: easting {east:g}, northing {north:g} is not where longitude {lon:g}, "
            f"latitude {lat:g} is (zone {own.zone}: {own.east:.0f}, {own.north:.0f}); are the lines of "
            "raw.csv and postprocessed.csv in the same order?"
        )


def _table(path: Path, columns: Sequence[str]) -> list[Row]:
    """The lines of a CSV file, by the names in its first.

    Raises:
        InputError: it cannot be read, or lacks a column.
    """
    try:
        reader = csv.DictReader(io.StringIO(read_text(path), newline=""), restval="")
        rows = list(reader)
    except csv.Error as error:
        raise InputError(f"{str(path)!r} cannot be read: {error}") from None
    missing = [column for column in columns if column not in (reader.fieldnames or ())]
    if missing:
        raise InputError(f"{str(path)!r} has no column {missing[0]}; it has {reader.fieldnames}")
    return rows


def _beside(path: Path, columns: Sequence[str], sequences: Sequence[Row]) -> list[Row]:
    """A table with the same photos in the same order."""
    rows = _table(path, columns)
    if len(rows) != len(sequences):
        raise InputError(f"{str(path)!r} has {len(rows)} lines, seq_info.csv beside it {len(sequences)}")
    for line, (row, sequence) in enumerate(zip(rows, sequences, strict=True), 2):
        if row.get("key", sequence["key"]) != sequence["key"]:
            raise InputError(
                f"{str(path)!r} line {line} is of {row['key']!r}, that of seq_info.csv of {sequence['key']!r}"
            )
    return rows


def _is_true(text: str) -> bool:
    return text.strip().lower() in ("true", "1", "1.0")


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None
