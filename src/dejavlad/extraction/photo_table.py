"""The photos of a store, and what tells whether one has changed since.

Legend: N photos. On disk photos are columns, so that a long list stays small.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError, PhotoError
from dejavlad.files import size_and_time
from dejavlad.geo import Position
from dejavlad.guarded.fields import check_column
from dejavlad.names import Names
from dejavlad.photo import Photo, PhotoList
from dejavlad.photo.photo import View

ALWAYS = ("name", "bytes", "mtime_ns", "height", "width")
"""Columns of photos that are written even where they are empty."""

COLUMNS: dict[str, Any] = {
    "name": str,
    "path": str | None,
    "crop": tuple[int, int, int, int] | None,
    "frame": int | None,
    "view": tuple[float, float] | None,
    "bytes": int,
    "mtime_ns": int,
    "sha256": str | None,
    "height": int,
    "width": int,
    "east": float | None,
    "north": float | None,
    "zone": str | None,
    "heading": float | None,
    "time": float | None,
    "group": str | None,
    "tags": list[str] | None,
}
"""The columns of photos in a manifest, and what stands in them."""

Rows = NDArray[np.int64]
ReadSize = Callable[[Photo], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class PhotoTable:
    """The photos of a store: what they are, and what tells whether one has changed since."""

    photos: PhotoList
    """Names, paths, frames, views, crops, positions (never pixels)."""
    keys: list[str]
    """Each photo's key, in order."""
    bytes: NDArray[np.int64]
    """[N] the file's size; -1 where there is no such file, and for arrays."""
    mtime_ns: NDArray[np.int64]
    """[N] the file's modification time in nanoseconds since 1970; 0 where there is none."""
    sizes: NDArray[np.int32]
    """[N, 2] upright height and width in pixels; 0 where they could not be read."""
    sha256: list[str] | None = None
    """Each array's content hash (empty for files); None where all photos are files."""
    unreadable: dict[int, str] = field(default_factory=dict)
    """Row -> why its size could not be read. Not saved: reading is tried again in the next run."""

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def look(
        cls,
        photos: PhotoList,
        read_size: ReadSize,
        known: PhotoTable | None = None,
        on_row: Callable[[int], None] = lambda _: None,
    ) -> PhotoTable:
        """The table of `photos` as they are now; pixel sizes from `known` where a photo is unchanged."""
        n = len(photos)
        keys = photos.keys
        file_bytes, mtime_ns = np.full(n, -1, np.int64), np.zeros(n, np.int64)
        sizes = np.zeros((n, 2), np.int32)
        sha256 = [_content(photo) for photo in photos] if any(p.pixels is not None for p in photos) else None
        for row, photo in enumerate(photos):
            if photo.pixels is None:
                try:
                    stat = photo.path.stat()
                except (OSError, ValueError):
                    continue
                file_bytes[row], mtime_ns[row] = size_and_time(stat)
        table = cls(photos, keys, file_bytes, mtime_ns, sizes, sha256)
        old_rows = np.full(n, -1, np.int64) if known is None else table.rows_in(known)
        for row, photo in enumerate(photos):
            if known is not None and old_rows[row] >= 0 and known.sizes[old_rows[row]].all():
                sizes[row] = known.sizes[old_rows[row]]
            else:
                try:
                    sizes[row] = read_size(photo)
                except PhotoError as error:
                    table.unreadable[row] = error.reason
                except InputError as error:
                    table.unreadable[row] = str(error)
            on_row(row + 1)
        return table

    def rows_in(self, other: PhotoTable) -> Rows:
        """[N] where each photo stands in `other` with nothing changed; -1 where it does not.

        A key in another Unicode form is the same photo, if its file is.
        """
        rows = Names(other.keys).match(self.keys, loosely=False)
        rows_there = np.fromiter((-1 if row is None else row for row in rows), np.int64, len(self.keys))
        for row in np.flatnonzero(rows_there >= 0):
            if self.identity(int(row)) != other.identity(int(rows_there[row])):
                rows_there[row] = -1
        return rows_there

    def take(self, rows: Rows) -> PhotoTable:
        """The table of some of the photos, in that order."""
        return PhotoTable(
            self.photos.take(rows),
            [self.keys[row] for row in rows],
            self.bytes[rows],
            self.mtime_ns[rows],
            self.sizes[rows],
            None if self.sha256 is None else [self.sha256[row] for row in rows],
            {i: self.unreadable[int(row)] for i, row in enumerate(rows) if int(row) in self.unreadable},
        )

    @classmethod
    def concatenate(cls, first: PhotoTable, second: PhotoTable) -> PhotoTable:
        """One table of the photos of both, under the first one's root (the second's, where it has none)."""
        lead = first if len(first) else second
        photos = PhotoList([*first.photos, *second.photos], root=lead.photos.root, name=lead.photos.name)
        sha256 = None
        if first.sha256 is not None or second.sha256 is not None:
            sha256 = [*(first.sha256 or [""] * len(first)), *(second.sha256 or [""] * len(second))]
        return cls(
            photos,
            photos.keys,
            np.concatenate([first.bytes, second.bytes]),
            np.concatenate([first.mtime_ns, second.mtime_ns]),
            np.concatenate([first.sizes, second.sizes]),
            sha256,
        )

    def identity(self, row: int) -> tuple[int, int, str]:
        """What changes when the photo changes: its file's size and time, or the content hash of an array."""
        content = self.sha256[row] if self.sha256 is not None else ""
        return int(self.bytes[row]), int(self.mtime_ns[row]), content

    def to_dict(self) -> dict[str, Any]:
        """Columns for JSON; those that would be empty are left out."""
        photos = self.photos
        # An array lies under no root, and the folder a program ran in is no part of a store.
        arrays = self.sha256 is not None and all(self.sha256)
        root = Path(os.path.abspath(photos.root))
        columns: dict[str, list[Any]] = {
            "name": [p.name for p in photos],
            "path": [None if arrays else _relative(p, root) for p in photos],
            "crop": [p.crop for p in photos],
            "frame": [p.frame for p in photos],
            "view": [None if p.view is None else [p.view.yaw, p.view.fov] for p in photos],
            "bytes": self.bytes.tolist(),
            "mtime_ns": self.mtime_ns.tolist(),
            "sha256": [digest or None for digest in self.sha256] if self.sha256 is not None else [],
            "height": self.sizes[:, 0].tolist(),
            "width": self.sizes[:, 1].tolist(),
            "east": [p.position.east if p.position else None for p in photos],
            "north": [p.position.north if p.position else None for p in photos],
            "zone": [p.position.zone if p.position else None for p in photos],
            "heading": [p.heading for p in photos],
            "time": [p.time for p in photos],
            "group": [p.group for p in photos],
            "tags": [list(p.tags) or None for p in photos],
        }
        written = {
            key: column
            for key, column in columns.items()
            if key in ALWAYS or any(value is not None for value in column)
        }
        return {"list": photos.name, "root": "" if arrays else root.as_posix(), "photos": written}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The table that `to_dict` made a dictionary of."""
        columns: dict[str, list[Any]] = data["photos"]
        n = len(columns["name"])
        for key, column in columns.items():
            if key not in COLUMNS:
                raise ValueError(f"photos have no {key}")
            check_column(key, column, COLUMNS[key])
        if any(len(column) != n for column in columns.values()):
            raise ValueError("columns of photos differ in length")
        root = Path(data["root"])

        def photo(row: int) -> Photo:
            at = {key: column[row] for key, column in columns.items()}
            position = None
            if at.get("east") is not None:
                position = Position(at["east"], at["north"], at.get("zone"))
            return Photo(
                at["name"],
                root / (at.get("path") or at["name"]),
                crop=tuple(at["crop"]) if at.get("crop") else None,
                frame=at.get("frame"),
                position=position,
                heading=at.get("heading"),
                time=at.get("time"),
                group=at.get("group"),
                view=View(*at["view"]) if at.get("view") else None,
                tags=tuple(at.get("tags") or ()),
            )

        photos = PhotoList((photo(row) for row in range(n)), root=root, name=data["list"])
        sizes = np.array([columns["height"], columns["width"]], np.int32).T
        sha256 = [digest or "" for digest in columns["sha256"]] if "sha256" in columns else None
        file_bytes, mtime_ns = (np.asarray(columns[key], np.int64) for key in ("bytes", "mtime_ns"))
        return cls(photos, photos.keys, file_bytes, mtime_ns, sizes, sha256)


def _relative(photo: Photo, root: Path) -> str | None:
    """The photo's path under `root`, absolute where it lies elsewhere; None where its name says it.

    It is the same however the list was named: `photo_blocks.relative_path` goes by the path as it stands.
    """
    path = Path(os.path.abspath(photo.path))
    if path == root / photo.name:
        return None
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _content(photo: Photo) -> str:
    if photo.pixels is None:
        return ""
    digest = hashlib.sha256(repr(photo.pixels.shape).encode())
    digest.update(np.ascontiguousarray(photo.pixels).data)
    return digest.hexdigest()
