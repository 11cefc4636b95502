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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np

from dejavlad.datasets.layouts.csv_table import Row, read_table
from dejavlad.errors import InputError, UnknownNameError
from dejavlad.geo import Position, utm_from_latlon
from dejavlad.ground_truth.place import PlaceDataset
from dejavlad.ground_truth.sequences import Rows, truth_windows, windows
from dejavlad.ground_truth.truth import Truth, truth_positions
from dejavlad.photo import Photo, PhotoList
from dejavlad.positions.facts import finite_number
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


@dataclass(frozen=True, slots=True)
class _Sequences:
    """The database or the queries: frames, and which of them are a sequence (or a photo: a sequence of 1)."""

    frames: list[Photo]
    """Every photo, city by city in the order of the tables."""
    rows_nL: Rows
    """int64 [n, L] rows of the frames of each sequence."""

    @classmethod
    def joined(cls, parts: Sequence[_Sequences], length: int) -> _Sequences:
        """Those of several cities, of so many frames each, one after another."""
        starts = np.cumsum([0, *(len(part.frames) for part in parts)])
        rows = [part.rows_nL + start for part, start in zip(parts, starts.tolist(), strict=False)]
        return cls(
            [frame for part in parts for frame in part.frames],
            np.concatenate([np.empty((0, length), np.int64), *rows]),
        )

    def truth(self, queries: _Sequences, radius: float) -> Truth:
        """Right is what was taken within so many metres of any frame of the query."""
        return truth_windows(self.frames, queries.frames, self.rows_nL, queries.rows_nL, radius)

    def centres(self, root: Path, name: str) -> PhotoList:
        """The photo in the middle of each sequence."""
        middle = self.rows_nL[:, self.rows_nL.shape[1] // 2].tolist()
        return without_zeros(PhotoList((self.frames[row] for row in middle), root=root, name=name))


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

    Raises:
        UnknownNameError: no such city, subtask or task.
        InputError: files that are missing or cannot be used, or nothing is left.
    """
    root = Path(root)
    part, names = _chosen(cities, subtask, task)
    query_length, database_length = (length if kind == "seq" else 1 for kind in task.split("2"))
    lengths = {"database": database_length, "query": query_length}
    database, queries = _sequences(root, part, names, subtask, lengths, panoramas)
    called = name or f"msls-{cities if isinstance(cities, str) else '+'.join(cities)}"
    if not len(database.rows_nL):
        raise InputError(f"{called}: no photo is left in {', '.join(names)} for the subtask {subtask}")
    metres = RADIUS[part] if radius is None else radius
    if part != "test" and not unmatched:
        queries = _Sequences(queries.frames, queries.rows_nL[database.truth(queries, metres).answerable])
        if not len(queries.rows_nL):
            raise InputError(f"{called}: no query has a photo of the database within {metres:g} m")
    photos = database.centres(root, f"{called}:database"), queries.centres(root, f"{called}:queries")
    if part == "test":
        return PlaceDataset(called, *photos)
    if task == "im2im":
        truth, protocol = truth_positions(*photos, metres), f"positions:{metres:g}"
    else:
        truth, protocol = database.truth(queries, metres), f"positions:{metres:g}, {task} of {length} frames"
    return PlaceDataset(called, *photos, truth.refined("measure", MEASURE), protocol)


def _chosen(given: str | Sequence[str], subtask: str, task: str) -> tuple[str, tuple[str, ...]]:
    """The part and its cities, where these can be asked so."""
    for kind, name, valid in (("subtask", subtask, SUBTASKS), ("task", task, TASKS)):
        if name not in valid:
            raise UnknownNameError(f"{kind} of MSLS", name, valid)
    part, names = _cities(given)
    if part == "train" and subtask not in ("all", EVERY):
        raise InputError(f"subtasks divide the val and test cities of MSLS; {names[0]} has only all")
    return part, names


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


def _sequences(
    root: Path, part: str, names: Sequence[str], subtask: str, lengths: Mapping[str, int], panoramas: bool
) -> tuple[_Sequences, _Sequences]:
    """The database and the queries of some cities: `lengths` are the frames of a sequence, by folder."""
    folder = root / ("test" if part == "test" else "train_val")
    cities = [
        [_side(root, folder / city / side, part, subtask, panoramas, lengths[side]) for side in lengths]
        for city in names
    ]
    used = [sides for sides in cities if all(len(side.rows_nL) for side in sides)]  # as the original does
    database, queries = (
        _Sequences.joined([sides[i] for sides in used], length) for i, length in enumerate(lengths.values())
    )
    return database, queries


def _side(root: Path, folder: Path, part: str, subtask: str, panoramas: bool, length: int) -> _Sequences:
    sequences = read_table(folder / "seq_info.csv", ("key", "sequence_key"))
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
        compass = finite_number(raw[row].get("ca", ""))
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
    numbers = [finite_number(sequence.get("frame_number", "")) for sequence in sequences]
    whole = [None if number is None else int(number) for number in numbers]
    return _Sequences(photos, windows([photo.group for photo in photos], whole, kept, length))


def _tags(post: Row) -> tuple[str, ...]:
    """What is known of the light and of the view."""
    view = post.get("view_direction", "").strip().lower()
    night = ("night",) if _is_true(post.get("night", "")) else ()
    return (*night, *((view,) if view else ()))


class _Zones:
    """The UTM zones of a city, which no file tells.

    A photo's easting and northing are in the zone of its longitude, or, where a city lies in two, in another
    photo's. Each zone is tried once, by the first photo that has it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._zones: dict[tuple[int, bool], str] = {}

    def position(self, raw: Row, post: Row) -> Position | None:
        """Where a photo was taken; None where a number is missing.

        Raises:
            InputError: longitude and latitude are of another place.
        """
        east, north = finite_number(post["easting"]), finite_number(post["northing"])
        lon, lat = finite_number(raw["lon"]), finite_number(raw["lat"])
        if east is None or north is None or lon is None or lat is None:
            return None
        key = (int(lon // 6), lat >= 0)
        if key not in self._zones:
            self._zones[key] = self._zone(east, north, lon, lat)
        return Position(east, north, self._zones[key])

    def _zone(self, east: float, north: float, lon: float, lat: float) -> str:
        own = utm_from_latlon(lat, lon)
        for at in (own, *(utm_from_latlon(lat, lon, zone) for zone in self._zones.values())):
            if at.zone is not None and max(abs(at.east - east), abs(at.north - north)) < FITS:
                return at.zone
        raise InputError(
            f"{str(self._folder)!r}: easting {east:g}, northing {north:g} is not where longitude {lon:g}, "
            f"latitude {lat:g} is (zone {own.zone}: {own.east:.0f}, {own.north:.0f}); are the lines of "
            "raw.csv and postprocessed.csv in the same order?"
        )


def _beside(path: Path, columns: Sequence[str], sequences: Sequence[Row]) -> list[Row]:
    """A table with the same photos in the same order."""
    rows = read_table(path, columns)
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
