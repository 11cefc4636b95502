"""A database's rows on this machine's disk, so that a map larger than memory is read from afar once.

The folder, a cache that may be removed at any time::

    copy/rows/copy.sqlite   how many rows there are, and checksums; each change is one transaction
    copy/rows/rows.bin      rows, float32, in the order in which they came
    copy/rows/marks.bin     what each row is, uint64
    copy/index/             8 bits a number of each row, which lose nothing (see `map_folder.index`)
    copy/writer.lock        of the process that brings it up to date; others read the database meanwhile

Rows of photos that are gone stay until they are more than half of it.

Legend: N photos, D the descriptor's size, Q queries, K answers.
"""

from __future__ import annotations

import contextlib
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import StoreError
from dejavlad.places.map_folder.index import MapIndex, MapSearch
from dejavlad.ranking import Ranking
from dejavlad.storage import MappedRows, RowFile, State, discard, one_writer
from dejavlad.storage.rows import CHUNKS
from dejavlad.storage.state import put_values

FOLDER: Final = "copy"
AGAIN: Final = "remove the folder, which is a copy"
CODES: Final = "int8"
PART_BYTES: Final = 64 << 20
"""Rows that are written together."""
SPARE: Final = 1 << 30
"""Bytes of the disk that are left free."""
FEW_DEAD: Final = 4096
"""Rows of photos that are gone may stay, however few the others are."""

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Marks = NDArray[np.uint64]


class RowCopy:
    """Makes the copy and brings it up to date.

    Args:
        work: the folder of the map on this machine.
        dims: D.
        fingerprint: of the map's model.
    """

    def __init__(self, work: Path, dims: int, fingerprint: str) -> None:
        self.folder, self.dims = work / FOLDER, dims
        self._data = self.folder / "rows"
        self._rows = RowFile(self._data / "rows.bin", dims, AGAIN)
        self._marks = RowFile(self._data / "marks.bin", 1, AGAIN, "<u8")
        self._state = State(self._data / "copy.sqlite", "dejavlad-row-copy", 1, (CHUNKS,), AGAIN)
        self._index = MapIndex(self.folder, dims, fingerprint)

    def follow(self, marks_N: Marks, read: Callable[[Rows], Floats]) -> CopiedRows | None:
        """The copy with the rows of all photos; None where another process is at it, or the disk is full.

        Args:
            marks_N: what each row is, see `marks_of`.
            read: rows of the database, float32 [n, D], by their places among the photos.
        """
        if len(np.unique(marks_N)) < len(marks_N):
            return None
        with contextlib.ExitStack() as stack:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(one_writer(self.folder))
                known = self._started(marks_N)
                missing = np.flatnonzero(places_in(known, marks_N) < 0)
                if shutil.disk_usage(self.folder).free < SPARE + 5 * self.dims * len(missing):
                    return None
            except (StoreError, OSError):
                return None
            step = max(1, PART_BYTES // (4 * self.dims))
            for first in range(0, len(missing), step):
                batch = missing[first : first + step]
                rows = read(batch)
                try:
                    known = self._append(known, rows, marks_N[batch])
                except (StoreError, OSError):
                    return None
            try:
                return self._opened(known, marks_N)
            except (StoreError, OSError):  # it is damaged, and made anew for the next search
                self._discard()
        return None

    def forget(self) -> None:
        """Remove it, as it is damaged; nothing where another process is at it."""
        with contextlib.suppress(StoreError, OSError), one_writer(self.folder):
            self._discard()

    def _discard(self) -> None:
        discard(self._data)
        discard(self._index.folder)

    def _started(self, marks_N: Marks) -> Marks:
        """The marks of the rows that are there; a damaged copy, or one of dead rows, is begun anew."""
        with contextlib.suppress(StoreError, ValueError, TypeError):
            if self._state.exists():
                with self._state.reading() as connection:
                    count, crc = self._state.value(connection, "rows"), self._state.value(connection, "crc")
                known = np.array(self._marks.map(count)).ravel()
                dead = count - np.count_nonzero(np.isin(marks_N, known))
                whole = zlib.crc32(known.tobytes()) == crc and len(self._rows.map(count)) == count
                if whole and dead <= max(FEW_DEAD, count // 2):
                    return known
        self._discard()
        self._data.mkdir(parents=True)
        self._state.create(lambda connection: put_values(connection, {"rows": 0, "crc": 0}))
        return np.empty(0, np.uint64)

    def _append(self, known: Marks, rows: Floats, marks: Marks) -> Marks:
        start, chosen = len(known), np.arange(len(rows))
        self._rows.append(start, rows, chosen)
        self._marks.append(start, marks[:, None], chosen)
        known = np.concatenate([known, marks])
        with self._state.writing() as connection:
            self._rows.note(connection, start, len(known))
            put_values(connection, {"rows": len(known), "crc": zlib.crc32(known.tobytes())})
        return known

    def _opened(self, known: Marks, marks_N: Marks) -> CopiedRows:
        with self._state.reading() as connection:
            chunks = self._rows.chunks(connection)
        rows, row_N = MappedRows(self._rows, len(known), chunks), places_in(known, marks_N)
        order = np.argsort(row_N)
        head = self._index.follow(rows, row_N[order], CODES, audited=False)
        return CopiedRows(rows, row_N, order, MapSearch(self._index, head, rows, row_N[order]))


class CopiedRows:
    """The rows of a map as of one moment, in the copy.

    Args:
        rows: all rows of the copy.
        row_N: which of them each photo's is.
        order: photos in the order of their rows.
        search: of the copy's rows.
    """

    def __init__(self, rows: MappedRows, row_N: Rows, order: Rows, search: MapSearch) -> None:
        self._rows, self._row, self._order, self._search = rows, row_N, order, search
        self._sorted = row_N[order]

    def take(self, photos: Rows) -> Floats:
        """Rows [n, D] of some photos."""
        return np.asarray(self._rows.take(self._row[photos]), np.float32)

    def search(self, rows_QD: Floats, k: int, allowed: Rows | None) -> Ranking:
        """The k nearest photos of each query, exactly.

        Args:
            rows_QD: float32.
            k: K.
            allowed: the photos that may be answers; None: all.
        """
        chosen = None if allowed is None else np.sort(self._row[allowed])
        ranking = self._search(rows_QD, k, chosen)
        at = np.minimum(np.searchsorted(self._sorted, ranking.indices), len(self._sorted) - 1)
        return Ranking(np.where(ranking.indices < 0, -1, self._order[at]), ranking.distances)


def marks_of(keys: list[str], commits: list[str], crcs: Rows) -> Marks:
    """uint64 [N], another for each vector that is written: of its key, its commit and its checksum."""
    names = [
        zlib.crc32(f"{key}/{commit}".encode("utf-8", "surrogatepass"))
        for key, commit in zip(keys, commits, strict=True)
    ]
    return (np.array(names, np.uint64) << np.uint64(32)) | (crcs.astype(np.uint64) & np.uint64(0xFFFFFFFF))


def places_in(known: Marks, marks_N: Marks) -> Rows:
    """Where each mark stands among those that are known; -1 where it does not."""
    if not len(known):
        return np.full(len(marks_N), -1, np.int64)
    order = np.argsort(known, kind="stable")
    at = np.minimum(np.searchsorted(known[order], marks_N), len(known) - 1)
    return np.where(known[order[at]] == marks_N, order[at], -1).astype(np.int64)
