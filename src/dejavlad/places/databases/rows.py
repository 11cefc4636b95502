"""The descriptors of a map in a database.

They are kept in memory where they fit, else in a copy on this machine's disk (`row_copy`), else they are read
anew with each search, part by part. All of these compare them exactly.

Legend: N photos, D the descriptor's size, Q queries, K answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import StoreError, StoreMismatchError
from dejavlad.index.base import squares
from dejavlad.index.nearest import Nearest
from dejavlad.places.databases.engine import MapView
from dejavlad.places.databases.row_copy import CopiedRows, Marks, RowCopy, places_in
from dejavlad.progress import OnProgress, Progress
from dejavlad.ranking import Ranking
from dejavlad.storage.rows import row_checksum

IN_MEMORY: Final = 1 << 30
"""Bytes of descriptors that are read once and kept in memory."""
SHARE: Final = 0.25
"""Up to this share of the rows is read by itself; for more, all are read and kept."""
AT_ONCE: Final = 8192
"""Rows that are read by number together."""
CHECKING = "checking rows"

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


class DatabaseRows:
    """The descriptors of a snapshot, as `MappedRows` gives those of a file.

    Args:
        view: the table as of one commit.
        ids_N: the database's own numbers of the rows.
        crc_N: their checksums.
        dims: D.
        where: the map's address, for errors.
        marks: tells of the rows which is which, see `marks_of`.
        copy: where rows are copied to that do not fit in memory.
        before: the rows as of an earlier snapshot; what is in memory is not read again.
    """

    def __init__(
        self,
        view: MapView,
        ids_N: NDArray[np.uint64],
        crc_N: Rows,
        dims: int,
        where: str,
        marks: Callable[[], Marks],
        copy: RowCopy,
        before: DatabaseRows | None = None,
    ) -> None:
        self.view, self.dims, self.where = view, dims, where
        self._crc, self._marks, self._copy = crc_N, marks, copy
        self._order = np.argsort(ids_N, kind="stable")
        self._ids = ids_N
        self._sorted = ids_N[self._order]
        self._memory: Floats | None = None
        self._copied: CopiedRows | None = None
        self._taken = 0
        self._before: DatabaseRows | None = before
        if before is not None and before._memory is None:
            self._before = before._before

    @property
    def fits(self) -> bool:
        """Whether all rows may be kept in memory."""
        return 4 * self.dims * len(self._sorted) <= IN_MEMORY

    def all(self) -> Floats:
        """All rows [N, D], in memory."""
        if self._memory is None:
            before, self._before = self._before, None
            self._memory = self._gathered(np.arange(len(self._ids)), before)
        return self._memory

    def take(self, rows: Rows) -> Floats:
        """Some rows [n, D]."""
        if self._memory is None and self.fits:
            self._taken += len(rows)
            if self._taken > SHARE * len(self._ids):
                self.all()
        if self._memory is not None:
            return np.asarray(self._memory[rows])
        if self._copied is not None:
            try:
                return self._copied.take(rows)
            except StoreError:
                self._leave_copy()
        distinct, back = np.unique(rows, return_inverse=True)
        return np.asarray(self._gathered(distinct)[back])

    def __len__(self) -> int:
        return len(self._ids)

    def search(self, rows_QD: Floats, k: int, allowed: Rows | None = None) -> Ranking:
        """The k nearest rows of each query, exactly, where they do not fit in memory.

        Args:
            rows_QD: float32.
            k: K.
            allowed: the rows that may be answers, ascending; None: all.
        """
        if self._copied is None and (allowed is None or len(allowed) > SHARE * len(self)):
            self._copied = self._copy.follow(self._marks(), self._gathered)
        if self._copied is not None:
            try:
                return self._copied.search(rows_QD, k, allowed)
            except StoreError:
                self._leave_copy()
        nearest = Nearest(rows_QD, squares(rows_QD, "query", range(len(rows_QD))), k)
        for places, values in self._parts(allowed):
            nearest.feed(values, squares(values, "row", places), places, np.asarray(values.any(axis=1)))
        return Ranking(*nearest.result())

    def check(self, on_progress: OnProgress) -> None:
        """Compare all rows with their checksums."""
        count = 0
        for places, _ in self._parts(None):
            count += len(places)
            on_progress(Progress(CHECKING, count, len(self._ids)))

    def _leave_copy(self) -> None:
        """The copy is damaged."""
        self._copied = None
        self._copy.forget()

    def _gathered(self, chosen: Rows, before: DatabaseRows | None = None) -> Floats:
        """Some rows [n, D]; these places ascend."""
        at = np.full(len(self._ids), -1, np.int64)
        at[chosen] = np.arange(len(chosen))
        rows = np.zeros((len(chosen), self.dims), np.float32)
        seen = np.zeros(len(chosen), np.bool_)
        if before is not None and before._memory is not None:
            old = places_in(before._marks(), self._marks()[chosen])
            seen = old >= 0
            rows[seen] = before._memory[old[seen]]
            chosen = chosen[~seen]
            if not len(chosen):
                return rows
        for places, values in self._parts(chosen):
            rows[at[places]], seen[at[places]] = values, True
        if not seen.all():
            raise StoreError(f"{self.where} changed while it was read; open it again")
        return rows

    def _parts(self, chosen: Rows | None) -> Iterator[tuple[Rows, Floats]]:
        """Parts of the rows with their places: of some, or all; of a few, these alone are read."""
        if chosen is not None and len(chosen) <= SHARE * len(self._ids):
            for first in range(0, len(chosen), AT_ONCE):
                yield from self._read(self._ids[chosen[first : first + AT_ONCE]])
            return
        wanted = None
        if chosen is not None and len(chosen) < len(self._ids):
            wanted = np.zeros(len(self._ids), np.bool_)
            wanted[chosen] = True
        for places, values in self._read(None):
            if wanted is None:
                yield places, values
            elif (inside := wanted[places]).any():
                yield places[inside], values[inside]

    def _read(self, ids: NDArray[np.uint64] | None) -> Iterator[tuple[Rows, Floats]]:
        """What the database gives, compared with its checksums; without rows of failed photos and older
        ones of a key."""
        for part_ids, values in self.view.vectors(ids):
            if values.shape[1] != self.dims:
                raise StoreMismatchError(self.where, {"dims": (values.shape[1], self.dims)}, "Build it anew.")
            at = np.minimum(np.searchsorted(self._sorted, part_ids), max(0, len(self._sorted) - 1))
            ours = self._sorted[at] == part_ids if len(self._sorted) else np.zeros(len(at), np.bool_)
            if ours.any():
                whole = np.ascontiguousarray(values[ours], np.float32)
                if not np.isfinite(whole).all():
                    raise StoreError(f"{self.where} was changed by someone else: a vector is not finite")
                places = self._order[at[ours]]
                for place, crc, row in zip(places, self._crc[places].tolist(), whole, strict=True):
                    if row_checksum(row.astype("<f4", copy=False)) != crc:
                        raise StoreError(
                            f"{self.where} is damaged, or was changed: row {place} is not what was written; "
                            "open it again, and if that does not help, build the map again"
                        )
                yield places, whole
