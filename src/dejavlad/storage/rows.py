"""Rows of numbers in a raw file, mapped into memory, with a checksum of each chunk in the state.

The file grows at the end. Rows reach the disk before the state tells of them: what lies past the state's
count was never finished, does not count and is written over.

Legend: N rows, D numbers of a row, M rows that are added.
"""

from __future__ import annotations

import os
import sqlite3
import weakref
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import StoreError
from dejavlad.storage.folder import disk_errors
from dejavlad.storage.state import checksum

CHUNK_BYTES = 1 << 20
"""Rows that share a checksum take about so many bytes."""
CHUNKS = """CREATE TABLE chunks(number INTEGER PRIMARY KEY, rows INTEGER NOT NULL, crc INTEGER NOT NULL,
 own_crc INTEGER NOT NULL)"""
"""The state's table of checksums: of a chunk's rows so far, and of the line itself."""

FEW = 1024
"""Up to so many rows are read one by one rather than mapped."""

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RowFile:
    """A raw file of rows of one size."""

    path: Path
    dims: int
    """D, numbers in a row."""
    again: str
    """What to do where it is damaged, in words."""
    dtype: str = "<f4"
    header: int = 0
    """Bytes before the first row."""

    @property
    def row_bytes(self) -> int:
        """Size of a row."""
        return self.dims * np.dtype(self.dtype).itemsize

    @property
    def chunk_rows(self) -> int:
        """Rows that share a checksum."""
        return max(1, CHUNK_BYTES // self.row_bytes)

    def append(self, start: int, rows_MD: NDArray[Any], chosen: Rows) -> None:
        """Write rows from row `start` on, over what a run that was cut off left there, onto the disk.

        Args:
            start: how many rows count so far.
            rows_MD: where rows come from, memory-mapped or not.
            chosen: which of them, in this order.

        Raises:
            StoreError: they cannot be written.
        """
        step = self.chunk_rows
        with disk_errors(self.path), open(self.path, "r+b" if self.path.exists() else "w+b") as file:
            file.seek(self.header + start * self.row_bytes)
            for first in range(0, len(chosen), step):
                file.write(np.ascontiguousarray(rows_MD[chosen[first : first + step]], self.dtype).tobytes())
            file.flush()
            os.fsync(file.fileno())

    def note(self, connection: sqlite3.Connection, start: int, end: int) -> None:
        """Write into the state the checksums of rows from `start` up to `end`, which are in the file."""
        size = self.chunk_rows
        with open(self.path, "rb") as file:
            file.seek(self.header + start * self.row_bytes)
            while start < end:
                number, within = divmod(start, size)
                rows = min(end, (number + 1) * size) - start
                crc = self._chunk(connection, number, within) if within else 0
                crc = row_checksum(file.read(rows * self.row_bytes), crc)
                line = (number, within + rows, crc)
                connection.execute(
                    "INSERT OR REPLACE INTO chunks VALUES (?, ?, ?, ?)", (*line, checksum(*line))
                )
                start += rows

    def map(self, n_rows: int) -> NDArray[Any]:
        """The first rows [N, D], memory-mapped; StoreError where there are fewer."""
        if n_rows == 0:
            return np.empty((0, self.dims), self.dtype)
        size = self.header + n_rows * self.row_bytes
        if not self.path.exists() or self.path.stat().st_size < size:
            raise StoreError(
                f"{str(self.path)!r} is cut short: {n_rows} rows of {self.dims} are missing; {self.again}"
            )
        return np.memmap(self.path, self.dtype, "r", self.header, (n_rows, self.dims))

    def chunks(self, connection: sqlite3.Connection) -> NDArray[np.int64]:
        """[chunks, 2] rows of each chunk and their checksum; StoreError where these are damaged."""
        lines = connection.execute("SELECT number, rows, crc, own_crc FROM chunks ORDER BY number").fetchall()
        for place, (number, rows, crc, own) in enumerate(lines):
            if number != place or checksum(number, rows, crc) != own:
                raise self.damaged(f"the checksum of chunk {place} is damaged itself")
        return np.array([line[1:3] for line in lines], np.int64).reshape(-1, 2)

    def damaged(self, why: str) -> StoreError:
        """The error of rows that are not what was written."""
        return StoreError(f"{str(self.path)!r} is damaged: {why}; {self.again}")

    def _chunk(self, connection: sqlite3.Connection, number: int, rows: int) -> int:
        line = connection.execute(
            "SELECT rows, crc, own_crc FROM chunks WHERE number=?", (number,)
        ).fetchone()
        if line is None or line[0] != rows or checksum(number, line[0], line[1]) != line[2]:
            raise self.damaged(f"the checksum of chunk {number} is damaged itself")
        return int(line[1])


class MappedRows:
    """Rows that are compared with their checksums when they are read for the first time.

    Args:
        chunks: [chunks, 2] from `RowFile.chunks`; None where rows have no checksums (older formats).
        generation: counts how often the rows were numbered anew.
    """

    def __init__(
        self, file: RowFile, n_rows: int, chunks: NDArray[np.int64] | None, generation: int = 0
    ) -> None:
        self.file, self.rows_ND, self.generation = file, file.map(n_rows), generation
        self._chunks = chunks
        covered = 0 if chunks is None else int(chunks[:, 0].sum())
        if chunks is not None and covered < n_rows:
            raise file.damaged(f"only {covered} of {n_rows} rows have a checksum")
        self._unread = np.ones(0 if chunks is None else len(chunks), np.bool_)
        self._descriptor: int | None = None
        if n_rows and hasattr(os, "preadv"):
            # Of a mapped file, each row that is touched brings its neighbours into the process's memory. It
            # is opened once: another file may lie there later.
            self._descriptor = os.open(file.path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            weakref.finalize(self, os.close, self._descriptor)

    def __len__(self) -> int:
        return len(self.rows_ND)

    def all(self) -> NDArray[Any]:
        """All rows [N, D], memory-mapped; StoreError where some are not what was written."""
        self._compare(np.flatnonzero(self._unread))
        return self.rows_ND

    def take(self, rows: Rows) -> NDArray[Any]:
        """Some rows [n, D], in memory; StoreError where some are not what was written."""
        if self._unread.any():
            numbers = np.unique(rows // self.file.chunk_rows)
            self._compare(numbers[self._unread[numbers]])
        if self._descriptor is None or len(rows) > FEW:
            return np.asarray(self.rows_ND[rows])
        taken, size = np.empty((len(rows), self.file.dims), self.file.dtype), self.file.row_bytes
        data = taken.reshape(-1).view(np.uint8).data
        for place, row in enumerate(rows.tolist()):
            part = data[place * size : (place + 1) * size]
            if os.preadv(self._descriptor, [part], self.file.header + row * size) != size:
                raise self.file.damaged(f"row {row} is cut short")
        return taken

    def _compare(self, numbers: Rows) -> None:
        if self._chunks is None or not len(numbers):
            return
        file = self.file
        with open(file.path, "rb") as source:
            for number in numbers.tolist():
                first, count = number * file.chunk_rows, int(self._chunks[number, 0])
                source.seek(file.header + first * file.row_bytes)
                if row_checksum(source.read(count * file.row_bytes)) != self._chunks[number, 1]:
                    raise file.damaged(f"rows {first} to {first + count - 1} are not what was written")
                self._unread[number] = False


def row_checksum(data: NDArray[Any] | bytes, before: int = 0) -> int:
    """CRC-32 of rows as they lie on disk; `before` is that of the bytes in front of them."""
    return zlib.crc32(np.ascontiguousarray(data).data if isinstance(data, np.ndarray) else data, before)
