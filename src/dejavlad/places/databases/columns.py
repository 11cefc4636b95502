"""A map's photos as columns of a database's table, and back.

One row a photo, and one a photo that could not be described (`failed` says why; its vector is zeros). So a
commit of the table is a commit of the map. Two rows of one key, which writers on several machines may leave
for a moment, count as one: the latest.

Legend: N photos, M rows of the table.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError
from dejavlad.geo import latlon
from dejavlad.guarded.json_file import parse_json
from dejavlad.storage import PhotoRecord, photo_blocks
from dejavlad.storage.rows import row_checksum

COLUMNS: Final[Mapping[str, type]] = {
    "key": str,
    "row": int,
    "failed": str,
    "name": str,
    "path": str,
    "east": float,
    "north": float,
    "zone": str,
    "cell": str,
    "lat": float,
    "lon": float,
    "time": float,
    "heading": float,
    "group": str,
    "tags": str,
    "crop": str,
    "view": str,
    "frame": int,
    "bytes": int,
    "mtime_ns": int,
    "sha256": str,
    "height": int,
    "width": int,
    "model": str,
    "crc": int,
    "mark": str,
}
"""Name -> type of what stands beside the vector; all but `key`, `row`, `model`, `crc` and `mark` may be null.
`row` orders the photos as they came, `model` is the fingerprint of what made the vector, `crc` its checksum,
`mark` the commit, and in LanceDB a dot and the row's seal (`seals_of`)."""
CELL: Final = 1000
"""Metres of a side of a cell: ``33N/512/5403``."""
NO_FRAME: Final = -1
FOR_OTHERS: Final = ("cell", "lat", "lon")
"""Columns that follow from others, for other programs."""

Columns = dict[str, Any]
Floats = NDArray[np.float32]


def columns_of(
    records: Sequence[PhotoRecord],
    rows_ND: Floats,
    failed: Mapping[str, str],
    *,
    first: int,
    model: str,
    mark: str,
) -> Columns:
    """Rows of photos with their vectors, and of photos that could not be described.

    Raises:
        InputError: a name that is no Unicode text.
    """
    lines = [
        {**_line(record), "row": first + i, "crc": row_checksum(np.ascontiguousarray(row, "<f4"))}
        for i, (record, row) in enumerate(zip(records, rows_ND, strict=True))
    ]
    lines += [
        {"key": key, "failed": why, "row": first + len(records) + i, "crc": 0}
        for i, (key, why) in enumerate(failed.items())
    ]
    for line in lines:
        line["model"], line["mark"] = model, mark
        try:
            f"{line['key']}{line.get('path')}".encode()
        except UnicodeEncodeError:
            raise InputError(
                f"a database holds names that are Unicode text alone; rename {line['key']!r}"
            ) from None
    return {name: [line.get(name) for line in lines] for name in COLUMNS}


def facts_of(record: PhotoRecord) -> Columns:
    """All columns that a correction may change."""
    return {name: value for name, value in _line(record).items() if name not in ("key", "name")}


def _line(record: PhotoRecord) -> dict[str, Any]:
    photo, (size, mtime, sha256) = record.photo, record.identity
    line: dict[str, Any] = {
        "key": photo.key,
        "name": photo.name,
        "path": photo.path.as_posix() if sha256 else Path(photo.path).absolute().as_posix(),
        "time": photo.time,
        "heading": photo.heading,
        "group": photo.group,
        "tags": json.dumps(list(photo.tags)) if photo.tags else None,
        "crop": None if photo.crop is None else json.dumps(list(photo.crop)),
        "view": None if photo.view is None else json.dumps([photo.view.yaw, photo.view.fov]),
        "frame": photo.frame,
        "bytes": size,
        "mtime_ns": mtime,
        "sha256": sha256 or None,
        "height": record.size[0],
        "width": record.size[1],
        **dict.fromkeys(("east", "north", "zone", "cell", "lat", "lon")),
    }
    position = photo.position
    if position is not None:
        line |= {"east": position.east, "north": position.north, "zone": position.zone}
        line["cell"] = f"{position.zone or '-'}/{position.east // CELL:.0f}/{position.north // CELL:.0f}"
        if position.zone is not None:
            line["lat"], line["lon"] = latlon(position)
    return line


def filled(name: str, values: Sequence[Any]) -> Any:
    """The values of a column as a database gives them: numbers as an array, those that are not known as NaN,
    `NO_FRAME` or 0."""
    kind = COLUMNS[name]
    if kind is str:
        return list(values)
    nothing = missing(name)
    return np.array([nothing if v is None else v for v in values], np.float64 if kind is float else np.int64)


def missing(name: str) -> float:
    """What stands for a number of a column that is not known."""
    return float("nan") if COLUMNS[name] is float else NO_FRAME if name == "frame" else 0


def seals_of(columns: Columns) -> list[str]:
    """A checksum of each row, eight digits: of all that answers depend on but the vector, which has `crc`,
    and the model, which is compared."""
    names = [name for name in COLUMNS if name not in (*FOR_OTHERS, "model", "mark")]
    numbers = [
        np.ascontiguousarray(columns[name], "<f8" if COLUMNS[name] is float else "<i8").view("<u8")
        for name in names
        if COLUMNS[name] is not str
    ]
    texts = (["\0" if text is None else text for text in columns[n]] for n in names if COLUMNS[n] is str)
    return [
        f"{zlib.crc32(chr(31).join(line).encode(), zlib.crc32(row)):08x}"
        for row, line in zip(np.stack(numbers, axis=1), zip(*texts, strict=True), strict=True)
    ]


def latest(columns: Columns) -> Columns:
    """The rows in the order in which photos came, each key once."""
    row_M, keys = np.asarray(columns["row"], np.int64), columns["key"]
    order = sorted(range(len(keys)), key=lambda i: (row_M[i], keys[i], columns["mark"][i]))
    last = {keys[i]: i for i in order}
    chosen = np.array([i for i in order if last[keys[i]] == i], np.int64)
    return take(columns, chosen)


def take(columns: Columns, chosen: NDArray[np.int64]) -> Columns:
    """Some rows."""
    return {
        name: values[chosen] if isinstance(values, np.ndarray) else [values[i] for i in chosen.tolist()]
        for name, values in columns.items()
    }


def numbers_and_texts(columns: Columns) -> tuple[photo_blocks.Numbers, photo_blocks.Texts]:
    """The photos as `MapSnapshot` takes them; their row is their place here.

    Numbers that are not known are NaN (`NO_FRAME` for frames).
    """
    n = len(columns["key"])
    numbers = np.zeros(n, photo_blocks.NUMBERS)
    numbers["row"], numbers["removed"] = np.arange(n), photo_blocks.STILL_THERE
    for name in ("bytes", "mtime_ns"):
        numbers[name] = columns[name]
    numbers["size"][:, 0], numbers["size"][:, 1] = columns["height"], columns["width"]
    placed = np.isfinite(columns["east"]) & np.isfinite(columns["north"])
    numbers["east"], numbers["north"] = np.nan_to_num(columns["east"]), np.nan_to_num(columns["north"])
    numbers["zone"] = [(zone or "").encode() for zone in columns["zone"]]
    numbers["known"] |= np.where(placed, photo_blocks.POSITION, 0).astype(np.int32)
    for name, bit in (("heading", photo_blocks.HEADING), ("time", photo_blocks.TIME)):
        known = ~np.isnan(columns[name])
        numbers[name] = np.where(known, columns[name], 0)
        numbers["known"] |= np.where(known, bit, 0).astype(np.int32)
    framed = np.asarray(columns["frame"]) != NO_FRAME
    numbers["frame"] = np.where(framed, columns["frame"], 0)
    numbers["known"] |= np.where(framed, photo_blocks.FRAME, 0).astype(np.int32)
    for i, crop in enumerate(columns["crop"]):
        if crop is not None:
            numbers["crop"][i] = parse_json(crop)
            numbers["known"][i] |= photo_blocks.CROP
    parts = (columns[name] for name in ("name", "path", "group", "tags", "sha256", "view"))
    texts = [
        [
            name,
            path,
            group,
            parse_json(tags) if tags else [],
            sha256 or "",
            parse_json(view) if view else None,
        ]
        for name, path, group, tags, sha256, view in zip(*parts, strict=True)
    ]
    return numbers, texts
