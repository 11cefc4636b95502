"""What a map of format 1 says in its ``map.json``; read only: its next change gives it the new form.

Legend: N photos.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import StoreError
from dejavlad.extraction import PhotoTable
from dejavlad.failures import NO_DESCRIPTOR
from dejavlad.guarded.fields import DAMAGED, check_column
from dejavlad.guarded.json_file import LARGE, read_json_object
from dejavlad.photo import PhotoList
from dejavlad.places.map_folder.records import folder_of, records_of
from dejavlad.places.map_folder.snapshot import Head, Rows
from dejavlad.storage import photo_blocks
from dejavlad.storage.identity import check_format

FORMAT = "dejavlad-map"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The whole of ``map.json``."""

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

    def leave_out_zeros(self, rows_MD: NDArray[np.float32]) -> Catalogue:
        """This, with the photos of which the row [M, D] is all zeros among the failed."""
        suspects = np.flatnonzero(rows_MD[self.rows, 0] == 0) if len(self.rows) else self.rows
        step = max(1, (1 << 22) // self.dims)
        parts = [suspects[first : first + step] for first in range(0, len(suspects), step)]
        empty = [i for part in parts for i in part[~rows_MD[self.rows[part]].any(axis=1)].tolist()]
        failed = {self.table.keys[i]: NO_DESCRIPTOR for i in empty}
        stay = np.setdiff1d(np.arange(len(self.table)), empty)
        return Catalogue(
            self.dims,
            self.n_rows,
            self.table.take(stay),
            self.rows[stay],
            dict(sorted((self.failed | failed).items())),
        )

    def encoded(self) -> tuple[Head, photo_blocks.Numbers, photo_blocks.Texts]:
        """The map in numbers, and the photos as a state writes them."""
        table = self.table
        arrays = table.sha256 is not None and all(table.sha256)
        root = "" if arrays or not len(table) else folder_of(table.photos.root)
        numbers, texts = photo_blocks.encode(records_of(table), self.rows.tolist(), 0, Path(root))
        head = Head(
            self.dims,
            root,
            table.photos.name,
            records=len(table),
            photos=len(table),
            with_position=sum(position is not None for position in table.photos.positions),
            rows=self.n_rows,
        )
        return head, numbers, texts

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file.

        Raises:
            StoreError: it is no map, damaged, or of a later version.
        """
        try:
            data = read_json_object(path, LARGE)
            check_format(data, FORMAT, VERSION, path)
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
