"""What is in a map: its photos, the row of each in ``rows.bin``, and the photos that could not be read.

Legend: N photos.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import StoreError
from dejavlad.extraction import PhotoTable
from dejavlad.failures import NO_DESCRIPTOR
from dejavlad.files import write_whole
from dejavlad.guarded.fields import DAMAGED, check_column
from dejavlad.guarded.json_file import LARGE, read_json_object
from dejavlad.photo import PhotoList

FORMAT = "dejavlad-map"
VERSION = 1

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The whole of ``map.json``; never changed, only replaced by another."""

    dims: int
    """The descriptors' size."""
    n_rows: int
    """Rows of ``rows.bin`` that are there; what lies past them was never finished."""
    table: PhotoTable
    """The photos, in the order in which they came."""
    rows: Rows
    """[N] the row of each photo; rows of removed photos are in no one's hands."""
    failed: dict[str, str] = field(default_factory=dict)
    """Key -> reason, of the photos that could not be described, or show nothing."""
    without_zeros: bool = True
    """Whether no row is all zeros; older maps may hold such rows, of photos that show nothing."""

    @classmethod
    def empty(cls, dims: int) -> Self:
        """A map without photos."""
        nothing = PhotoTable.look(PhotoList([], name="map"), lambda _: (0, 0))
        return cls(dims, 0, nothing, np.empty(0, np.int64))

    def with_photos(self, table: PhotoTable, rows: Rows, n_rows: int, failed: dict[str, str]) -> Catalogue:
        """This and more photos; where a key is there already, the new photo takes its place."""
        new = set(table.keys) | set(failed)
        kept = self._without(new)
        return Catalogue(
            self.dims,
            n_rows,
            PhotoTable.concatenate(kept.table, table),
            np.concatenate([kept.rows, rows]),
            dict(sorted((kept.failed | failed).items())),
        )

    def leave_out_zeros(self, rows_MD: NDArray[np.float32]) -> Catalogue:
        """This, with the photos of which the row [M, D] is all zeros among the failed."""
        suspects = np.flatnonzero(rows_MD[self.rows, 0] == 0) if len(self.rows) else self.rows
        step = max(1, (1 << 22) // self.dims)
        parts = [suspects[first : first + step] for first in range(0, len(suspects), step)]
        empty = [i for part in parts for i in part[~rows_MD[self.rows[part]].any(axis=1)].tolist()]
        failed = {self.table.keys[i]: NO_DESCRIPTOR for i in empty}
        kept = self._without(set(failed))
        return replace(kept, failed=dict(sorted((kept.failed | failed).items())), without_zeros=True)

    def without(self, keys: Iterable[str]) -> Catalogue:
        """This, less the photos of these keys."""
        return self._without(set(keys))

    def _without(self, keys: set[str]) -> Catalogue:
        stay = np.array([i for i, key in enumerate(self.table.keys) if key not in keys], dtype=np.int64)
        failed = {key: reason for key, reason in self.failed.items() if key not in keys}
        return Catalogue(self.dims, self.n_rows, self.table.take(stay), self.rows[stay], failed)

    def save(self, path: Path) -> None:
        """Replace the file whole."""
        text = json.dumps(
            {
                "format": FORMAT,
                "version": VERSION,
                "dims": self.dims,
                "n_rows": self.n_rows,
                "rows": self.rows.tolist(),
                "failed": self.failed,
                "without_zeros": self.without_zeros,
                **self.table.to_dict(),
            },
            separators=(",", ":"),
        )
        write_whole(path, text)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            StoreError: it is no map, damaged, or of a later version.
        """
        try:
            data = read_json_object(path, LARGE)
            if data["format"] != FORMAT:
                raise ValueError(f"its format is {data['format']!r}")
            if data["version"] > VERSION:
                raise StoreError(
                    f"{str(path)!r} was written by a later dejavlad (format {data['version']}, "
                    f"this one reads up to {VERSION}); update dejavlad"
                )
            check_column("rows", data["rows"], int)
            for name in ("dims", "n_rows"):
                check_column(name, [data[name]], int)
            check_column("failed", [data["failed"]], dict[str, str])
            rows = np.asarray(data["rows"], np.int64)
            table = PhotoTable.from_dict(data)
            if (
                len(rows) != len(table)
                or len(set(data["rows"])) < len(rows)
                or (len(rows) and not 0 <= rows.min() <= rows.max() < data["n_rows"])
            ):
                raise ValueError("rows do not fit the photos")
            without_zeros = data.get("without_zeros", False)
            check_column("without_zeros", [without_zeros], bool)
            return cls(
                int(data["dims"]), int(data["n_rows"]), table, rows, dict(data["failed"]), without_zeros
            )
        except DAMAGED as error:
            raise StoreError(f"{str(path)!r} is not a map: {error}") from error
