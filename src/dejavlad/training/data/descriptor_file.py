"""A file of descriptors in a run's cache: float32 rows, a checksum of them all, and which photos they are of.

Legend: M rows of the file, D numbers of a descriptor.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from dejavlad.errors import StoreError
from dejavlad.files import replacing, write_whole
from dejavlad.guarded.npy_file import map_npy, read_npy
from dejavlad.guarded.plain_file import read_utf8
from dejavlad.storage import disk_errors
from dejavlad.training.sampling.mining import Floats
from dejavlad.training.sampling.tuples import Rows

MAPPED_ABOVE = 1 << 31
"""Bytes above which descriptors are mapped rather than read."""


def write_rows(
    path: Path, described: Iterable[tuple[Rows, Floats]], shape: tuple[int, int], among: Rows | None = None
) -> None:
    """Write descriptors, which are there whole or not at all.

    Args:
        path: the file.
        described: numbers of photos and their descriptors, in any order; rows of others are zeros.
        shape: (M, D).
        among: numbers of the photos that rows are of, ascending; None: row i is of photo i.

    Raises:
        StoreError: it cannot be written.
    """
    with disk_errors(path, "descriptors cannot be written to {path}: {error}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        if among is not None:
            with replacing(_photos_file(path)) as file:
                np.save(file, among)
        with replacing(path) as file:  # not through a map: a full disk is an error then, not a crash
            head = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, head)
            begin = file.tell()
            file.truncate(begin + 4 * shape[0] * shape[1])
            total = 0
            for numbers, rows_nD in described:
                rows = numbers if among is None else np.searchsorted(among, numbers)
                for row, row_D in zip(rows.tolist(), rows_nD, strict=True):
                    file.seek(begin + 4 * shape[1] * row)
                    file.write(row_D.astype("<f4").tobytes())
                    total += _row_sum(row, row_D)
            write_whole(_sum_file(path), f"{total}\n")


def read_rows(path: Path, photos: int | None = None) -> tuple[Rows, Floats]:
    """What `write_rows` wrote: numbers of photos int64 [M], and their descriptors float32 [M, D].

    Args:
        path: the file.
        photos: how many there must be, where it is of all; None: of some.

    Raises:
        StoreError: it is not there, damaged, or of other photos.
    """
    try:
        rows_MD: Floats = map_npy(path) if path.stat().st_size > MAPPED_ABOVE else read_npy(path)
        _check_sum(path, rows_MD)
        numbers = np.arange(photos) if photos is not None else read_npy(_photos_file(path))
    except (OSError, ValueError) as error:
        raise StoreError(f"descriptors cannot be read from {str(path)!r}: {error}") from None
    if len(numbers) != len(rows_MD):
        raise StoreError(f"{str(path)!r} holds {len(rows_MD)} descriptors, not {len(numbers)}")
    return numbers, rows_MD


def _photos_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.rows")


def _sum_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sum")


def _row_sum(number: int, row_D: Floats) -> int:
    """What a row adds to the checksum, whenever it is written; rows of zeros add nothing."""
    return zlib.crc32(row_D.astype("<f4").tobytes(), number & 0xFFFFFFFF) if row_D.any() else 0


def _check_sum(path: Path, rows_MD: Floats) -> None:
    """Compare descriptors with their checksum, where they have one.

    Raises:
        ValueError: they are no float32 [M, D], or were changed since they were written.
    """
    if rows_MD.ndim != 2 or rows_MD.dtype != np.float32:
        raise ValueError(f"they are {rows_MD.dtype} {list(rows_MD.shape)}")
    if _sum_file(path).is_file():
        total = sum(_row_sum(number, row_D) for number, row_D in enumerate(rows_MD))
        if read_utf8(_sum_file(path), 1 << 10) != f"{total}\n":
            raise ValueError("they were changed since they were written; delete the run's cache folder")
