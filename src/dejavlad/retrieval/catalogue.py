"""What a map of format 1 says in its ``map.json``; read only: its next change gives it the new form.

Legend: N photos.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import StoreError
from dejavlad.extraction import PhotoTable
from dejavlad.photo import PhotoList

FORMAT = "dejavlad-map"
VERSION = 1

Rows = NDArray[np.int64]


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
    """Key -> reason, of the photos that could not be described."""

    @classmethod
    def empty(cls, dims: int) -> Self:
        """A map without photos."""
        nothing = PhotoTable.look(PhotoList([], name="map"), lambda _: (0, 0))
        return cls(dims, 0, nothing, np.empty(0, np.int64))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file.

        Raises:
            StoreError: it is no map, damaged, or of a later version.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data["format"] != FORMAT:
                raise ValueError(f"its format is {data['format']!r}")
            if data["version"] > VERSION:
                raise StoreError(
                    f"{str(path)!r} was written by a later dejavlad (format {data['version']}, "
                    f"this one reads up to {VERSION}); update dejavlad"
                )
            rows = np.asarray(data["rows"], np.int64).reshape(-1)
            table = PhotoTable.from_dict(data)
            if len(rows) != len(table) or (len(rows) and not 0 <= rows.min() <= rows.max() < data["n_rows"]):
                raise ValueError("rows do not fit the photos")
            return cls(int(data["dims"]), int(data["n_rows"]), table, rows, dict(data["failed"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{str(path)!r} is not a map: {error}") from error
