"""What a map is at one moment: a few numbers, and photos and rows that are read when they are needed.

Legend: N photos of the map, D the descriptor's size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dejavlad.geo import Positions
from dejavlad.photo import Photo, PhotoList
from dejavlad.storage import PhotoRecord, photo_blocks

ROW_FILES = ("rows.bin", "rows.2.bin")
"""Names that the file of rows has by turns."""
REMEMBERED_BLOCKS = 64

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Head:
    """The map in a few numbers; all that is read when it is opened."""

    dims: int
    """D."""
    root: str = ""
    """The folder that photos' paths are relative to."""
    name: str = "map"
    """What the list of photos is called."""
    change: int = 0
    """Counts the changes."""
    records: int = 0
    """Photos that were ever added."""
    photos: int = 0
    """N."""
    with_position: int = 0
    """How many of them have a position."""
    rows: int = 0
    """Rows that were ever added; what lies past them in the file was never finished."""
    compactions: int = 0
    """How often the file of rows was written anew, without those of removed photos."""
    kept: int = 0
    """Rows at the file's beginning, whose numbers the state holds (see `dejavlad.storage.kept_rows`)."""
    kept_until: int = 0
    """The number of the row behind them."""

    @property
    def file_rows(self) -> int:
        """Rows in the file."""
        return self.kept + self.rows - self.kept_until

    @property
    def file_name(self) -> str:
        """The file of rows."""
        return ROW_FILES[self.compactions % 2]

    def to_dict(self) -> dict[str, Any]:
        """For the state; earlier versions read it as long as the file was never written anew."""
        fields = asdict(self)
        if not self.compactions:
            del fields["compactions"], fields["kept"], fields["kept_until"]
        return fields


class MapRows(Protocol):
    """The descriptors of a map: those of a file, or of a database."""

    def __len__(self) -> int: ...

    def all(self) -> NDArray[Any]:
        """All rows [N, D]."""
        ...

    def take(self, rows: Rows, /) -> NDArray[Any]:
        """Some rows [n, D], in memory."""
        ...


class MapSnapshot:
    """A map as of one moment; photos, positions and rows are read when they are asked for."""

    def __init__(
        self,
        head: Head,
        rows: Callable[[], MapRows],
        numbers: Callable[[], photo_blocks.Numbers],
        texts: Callable[[int], photo_blocks.Texts],
        failed: Callable[[], dict[str, str]],
        in_file: Callable[[Rows], Rows] = lambda rows: rows,
    ) -> None:
        self.head, self._read_rows, self._read_numbers = head, rows, numbers
        self._in_file = in_file
        self._read_texts, self._read_failed = texts, failed
        self._texts: dict[int, photo_blocks.Texts] = {}

    @cached_property
    def file_rows(self) -> MapRows:
        """All rows of the file, removed photos' among them."""
        return self._read_rows()

    @cached_property
    def places(self) -> Rows:
        """[N] the place of each photo's record."""
        return np.flatnonzero(self._alive)

    @cached_property
    def numbers(self) -> photo_blocks.Numbers:
        """[N] numbers of each photo."""
        return self._records[self._alive]

    @cached_property
    def row_numbers(self) -> Rows:
        """[N] the number of each photo's row, ascending; it never changes."""
        return np.asarray(self.numbers["row"], np.int64)

    @cached_property
    def rows(self) -> Rows:
        """[N] where in the file the row of each photo lies, ascending."""
        return self._in_file(self.row_numbers)

    @cached_property
    def positions(self) -> Positions:
        """Where the photos were taken."""
        known = (self.numbers["known"] & photo_blocks.POSITION) > 0
        east_north = np.stack([self.numbers["east"], self.numbers["north"]], axis=1).astype(np.float64)
        east_north[~known] = np.nan
        names, zones = np.unique(self.numbers["zone"], return_inverse=True)
        decoded = [name.decode() or None for name in names.tolist()]
        return Positions(east_north, [decoded[i] for i in zones.tolist()])

    @cached_property
    def failed(self) -> dict[str, str]:
        """Key -> reason, of the photos that could not be described."""
        return self._read_failed()

    @cached_property
    def photos(self) -> PhotoList:
        """The photos, in the order in which they came."""
        return PhotoList(
            map(self.photo, range(len(self.places))), root=Path(self.head.root), name=self.head.name
        )

    def photo(self, i: int) -> Photo:
        """One of `photos`, without the others."""
        return self.record(i).photo

    def record(self, i: int) -> PhotoRecord:
        """One of the photos, with what identifies its pixels."""
        place = int(self.places[i])
        block, within = divmod(place, photo_blocks.BLOCK)
        if block not in self._texts:
            if len(self._texts) >= REMEMBERED_BLOCKS:
                self._texts.pop(next(iter(self._texts)))
            self._texts[block] = self._read_texts(block)
        text = self._texts[block][within]
        return photo_blocks.decode(self.numbers[i], text, Path(self.head.root))

    @cached_property
    def _records(self) -> photo_blocks.Numbers:
        return self._read_numbers()[: self.head.records]

    @cached_property
    def _alive(self) -> NDArray[np.bool_]:
        records, change = self._records, self.head.change
        alive: NDArray[np.bool_] = (records["added"] <= change) & (records["removed"] > change)
        return alive
