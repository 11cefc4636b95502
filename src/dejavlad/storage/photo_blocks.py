"""Photos in a state: blocks of columns, each with its checksum, and their keys.

A block has the numbers of up to `BLOCK` photos as one array, and their texts as JSON. So adding, changing or
removing a photo writes one block however many photos there are, and all numbers of a million photos are read
as a few thousand arrays. A photo that is removed keeps its record, with the change in which it
went: whoever reads an earlier state still sees it.

Legend: N photos; a record's place counts all that were ever added.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError
from dejavlad.geo import Position
from dejavlad.guarded.json_file import parse_json
from dejavlad.photo import Photo
from dejavlad.photo.photo import View
from dejavlad.storage.state import State, checksum

BLOCK = 256
STILL_THERE = np.iinfo(np.int64).max
POSITION, HEADING, TIME, CROP, FRAME = 1, 2, 4, 8, 16
"""Bits of `known`: what the photo has."""

NUMBERS = np.dtype(
    [
        ("row", "<i8"),
        ("added", "<i8"),
        ("removed", "<i8"),
        ("bytes", "<i8"),
        ("mtime_ns", "<i8"),
        ("size", "<i4", 2),
        ("known", "<i4"),
        ("crop", "<i4", 4),
        ("frame", "<i8"),
        ("east", "<f8"),
        ("north", "<f8"),
        ("zone", "S8"),
        ("heading", "<f8"),
        ("time", "<f8"),
    ]
)
"""Of one photo: its row of descriptors, the changes in which it came and went, what tells whether its file is
another one now, and what is known of it."""

TABLES = (
    "CREATE TABLE blocks(number INTEGER PRIMARY KEY, numbers BLOB NOT NULL, texts BLOB NOT NULL, "
    "numbers_crc INTEGER NOT NULL, texts_crc INTEGER NOT NULL)",
    "CREATE TABLE keys(key BLOB PRIMARY KEY, place INTEGER NOT NULL) WITHOUT ROWID",
)

Numbers = NDArray[np.void]
Texts = list[list[Any]]


@dataclass(frozen=True, slots=True)
class PhotoRecord:
    """A photo, and what tells whether it has changed since it was described."""

    photo: Photo
    identity: tuple[int, int, str]
    """Size and modification time (ns) of its file, or the content hash of an array."""
    size: tuple[int, int]
    """Upright height and width in pixels; 0 where not known."""

    def with_facts(self, photo: Photo, *, keep: bool) -> PhotoRecord:
        """This with what `photo` tells of position, heading, time, group and tags.

        Args:
            keep: what its source does not tell stays as it is.
        """
        here = self.photo

        def pick(now: Any, before: Any) -> Any:
            return before if keep and now in (None, ()) else now

        return replace(
            self,
            photo=replace(
                here,
                position=pick(photo.position, here.position),
                heading=pick(photo.heading, here.heading),
                time=pick(photo.time, here.time),
                group=pick(photo.group, here.group),
                tags=pick(photo.tags, here.tags),
            ),
        )


def encode(
    records: Sequence[PhotoRecord], rows: Sequence[int], version: int, root: Path
) -> tuple[Numbers, Texts]:
    """Numbers and texts of photos that come in change `version`; paths are relative to `root`."""
    numbers = np.zeros(len(records), NUMBERS)
    numbers["row"], numbers["added"], numbers["removed"] = rows, version, STILL_THERE
    if not records:
        return numbers, []
    photos = [record.photo for record in records]
    numbers["bytes"] = [record.identity[0] for record in records]
    numbers["mtime_ns"] = [record.identity[1] for record in records]
    numbers["size"] = [record.size for record in records]
    positions = [photo.position for photo in photos]
    numbers["east"] = [0.0 if p is None else p.east for p in positions]
    numbers["north"] = [0.0 if p is None else p.north for p in positions]
    zones = {p.zone for p in positions if p is not None and p.zone is not None}
    if zones and max(map(len, zones)) > NUMBERS["zone"].itemsize:
        raise InputError(f"{max(zones, key=len)!r} is no UTM zone; valid: 1 to 60 with N or S, e.g. 33N")
    numbers["zone"] = [b"" if p is None or p.zone is None else p.zone.encode() for p in positions]
    columns: dict[int, list[Any]] = {POSITION: positions}
    for bit, name, nothing in (
        (HEADING, "heading", 0.0),
        (TIME, "time", 0.0),
        (CROP, "crop", (0, 0, 0, 0)),
        (FRAME, "frame", 0),
    ):
        columns[bit] = [getattr(photo, name) for photo in photos]
        numbers[name] = [nothing if value is None else value for value in columns[bit]]
    for bit, column in columns.items():
        numbers["known"] |= np.array([bit if value is not None else 0 for value in column], np.int32)
    absolute = Path(os.path.abspath(root))
    texts: Texts = [
        [
            photo.name,
            relative_path(photo, absolute, record.identity[2]),
            photo.group,
            list(photo.tags),
            record.identity[2],
            None if photo.view is None else [photo.view.yaw, photo.view.fov],
        ]
        for photo, record in zip(photos, records, strict=True)
    ]
    return numbers, texts


def decode(line: Any, text: Sequence[Any], root: Path) -> PhotoRecord:
    """The photo of one line of numbers and one of texts."""
    name, path, group, tags, sha256, view = text
    known = int(line["known"])
    position = None
    if known & POSITION:
        position = Position(float(line["east"]), float(line["north"]), line["zone"].decode() or None)
    photo = Photo(
        name,
        (Path() if sha256 else root) / (name if path is None else path),
        crop=tuple(line["crop"].tolist()) if known & CROP else None,
        frame=int(line["frame"]) if known & FRAME else None,
        position=position,
        heading=float(line["heading"]) if known & HEADING else None,
        time=float(line["time"]) if known & TIME else None,
        group=group,
        tags=tuple(tags),
        view=None if view is None else View(*view),
    )
    height, width = line["size"].tolist()
    return PhotoRecord(photo, (int(line["bytes"]), int(line["mtime_ns"]), sha256), (height, width))


def relative_path(photo: Photo, root: Path, sha256: str = "") -> str | None:
    """The photo's path under an absolute `root`, or absolute; None where its name says it."""
    if sha256:  # an array lies nowhere
        return None if photo.path == Path(photo.name) else photo.path.as_posix()
    if photo.path == root / photo.name:
        return None
    path = Path(os.path.abspath(photo.path))
    if path == root / photo.name:
        return None
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def write_block(connection: sqlite3.Connection, number: int, numbers: Numbers, texts: Texts) -> None:
    """Write one block whole."""
    data, text = numbers.tobytes(), json.dumps(texts, separators=(",", ":")).encode()
    connection.execute(
        "INSERT OR REPLACE INTO blocks VALUES (?, ?, ?, ?, ?)",
        (number, data, text, checksum(number, data), checksum(number, text)),
    )


def read_blocks(
    state: State, connection: sqlite3.Connection, numbers: Sequence[int]
) -> Iterator[tuple[int, Numbers, Texts]]:
    """Some blocks: number, numbers, texts; StoreError where one is damaged."""
    for number in numbers:
        line = connection.execute(
            "SELECT numbers, texts, numbers_crc, texts_crc FROM blocks WHERE number=?", (number,)
        ).fetchone()
        if line is None:
            raise state.damaged(f"block {number} of photos is missing")
        stored_numbers = _numbers(state, number, line[0], line[2])
        if checksum(number, line[1]) != line[3]:
            raise state.damaged(f"the checksum of block {number} of photos is wrong")
        texts: Texts = parse_json(line[1])
        if len(texts) != len(stored_numbers):
            raise state.damaged(f"block {number} of photos is incomplete")
        yield number, stored_numbers, texts


def all_numbers(state: State, connection: sqlite3.Connection, count: int) -> Numbers:
    """The numbers of all records [count], as they came; StoreError where a block is damaged or missing."""
    parts = [np.empty(0, NUMBERS)]
    lines = connection.execute("SELECT number, numbers, numbers_crc FROM blocks ORDER BY number")
    for place, (number, data, crc) in enumerate(lines):
        if number != place:
            raise state.damaged(f"block {place} of photos is missing")
        parts.append(_numbers(state, number, data, crc))
    joined = np.concatenate(parts)
    if len(joined) != count:
        raise state.damaged(f"it holds {len(joined)} records of photos, not {count}")
    return joined


def append(
    connection: sqlite3.Connection,
    state: State,
    start: int,
    numbers: Numbers,
    texts: Texts,
    keys: Sequence[str],
) -> None:
    """Add records from place `start` on, and their keys; a key that is there is the new record's now."""
    at = 0
    while at < len(numbers):
        number, within = divmod(start + at, BLOCK)
        part = slice(at, at + BLOCK - within)
        block_numbers, block_texts = numbers[part], texts[part]
        if within:
            ((_, before, before_texts),) = read_blocks(state, connection, [number])
            block_numbers = np.concatenate([before, block_numbers])
            block_texts = before_texts + block_texts
        write_block(connection, number, block_numbers, block_texts)
        at += BLOCK - within
    connection.executemany(
        "INSERT OR REPLACE INTO keys VALUES (?, ?)",
        ((encode_key(key), start + i) for i, key in enumerate(keys)),
    )


def change(
    connection: sqlite3.Connection, state: State, lines: Mapping[int, tuple[Any, Sequence[Any]]]
) -> None:
    """Write other numbers and texts at some places."""
    by_block: dict[int, list[int]] = {}
    for place in lines:
        by_block.setdefault(place // BLOCK, []).append(place)
    for number, numbers, texts in read_blocks(state, connection, sorted(by_block)):
        changed = numbers.copy()
        for place in by_block[number]:
            changed[place % BLOCK], texts[place % BLOCK] = lines[place][0], list(lines[place][1])
        write_block(connection, number, changed, texts)


def places_of(connection: sqlite3.Connection, keys: Sequence[str]) -> dict[str, int]:
    """Key -> place, of those photos that are there."""
    rows_by_key: dict[str, int] = {}
    for key in keys:
        line = connection.execute("SELECT place FROM keys WHERE key=?", (encode_key(key),)).fetchone()
        if line is not None:
            rows_by_key[key] = int(line[0])
    return rows_by_key


def encode_key(key: str) -> bytes:
    """A key as the state keeps it: file names of any bytes survive."""
    return key.encode("utf-8", "surrogatepass")


def _numbers(state: State, number: int, data: bytes, crc: int) -> Numbers:
    if checksum(number, data) != crc or len(data) % NUMBERS.itemsize:
        raise state.damaged(f"the checksum of block {number} of photos is wrong")
    return np.frombuffer(data, NUMBERS)
