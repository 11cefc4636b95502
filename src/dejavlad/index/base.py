"""What every index is and keeps to, and the parts they share: checked rows, queries, and folders saved whole.

Legend: N rows of the database, Q queries, D dimensions, K answers a query.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dejavlad.errors import InputError, StoreError
from dejavlad.files import write_whole
from dejavlad.guarded.fields import DAMAGED
from dejavlad.guarded.json_file import read_json_object, with_checksum, without_checksum
from dejavlad.guarded.plain_file import open_regular, plain_name
from dejavlad.ranking import Ranking
from dejavlad.storage.identity import check_format

FORMAT, VERSION = "dejavlad-index", 1
PART = re.compile(r"(?:rows|ids|squares|scales|alive|codes|mean)-(\d+)\.\w+")
"""Files of an index beside ``index.json``, numbered so that a save never writes over what is in use."""
WORK_BYTES = 1 << 25
"""Size of a work array, at most: searching needs a few of these beside the rows, however many there are."""
LARGEST_SQUARE = 1e36
"""Squared length from which float32 distances would overflow."""

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]


@runtime_checkable
class RowSource(Protocol):
    """Descriptors on disk, with some missing; `dejavlad.extraction.DescriptorStore` is one.

    Where it has ``unit_rows``, these are what is searched: `rows` at unit length.
    """

    @property
    def rows(self) -> NDArray[Any]:
        """[N, D] float32 or float16."""

    @property
    def done(self) -> NDArray[np.bool_]:
        """[N] whether the row is there."""

    @property
    def complete(self) -> bool:
        """Whether no more rows are to come."""


class Index(Protocol):
    """Rows to search: Euclidean distance (not squared), ascending, equal distances by smaller id.

    A row of zeros is of a photo that shows nothing. It lies at the same distance from everything, so that it
    would answer whatever has no clear answer: it is no row of an index, and as a query has no answers.
    """

    kind: str
    """Its name in `build_index`."""
    dims: int
    """D, numbers in a row."""

    def __len__(self) -> int:
        """N, without the removed rows."""

    @property
    def ids(self) -> Ids:
        """[N] the ids it holds, in the order in which they were added."""

    def add(self, rows: ArrayLike | RowSource, ids: ArrayLike | None = None) -> None:
        """Add rows [n, D]; ids are not negative and not in the index, the next free ones unless given.

        Rows of a store that failed, and rows of zeros, are left out, and their ids stay free.

        Raises:
            InputError: other dimensions, values that are not finite, ids of the wrong number or taken.
            StoreError: a store that is not complete.
        """

    def remove(self, ids: ArrayLike) -> None:
        """Take rows out by their ids, which may then be added again.

        Raises:
            InputError: an id is not in the index.
        """

    def search(self, queries: ArrayLike | RowSource, k: int, *, allowed: ArrayLike | None = None) -> Ranking:
        """The k nearest rows of each query [Q, D]; -1 and +inf where there are fewer, or the query failed or
        is all zeros.

        Args:
            queries: [Q, D].
            k: answers a query.
            allowed: the ids that may be answers; others are left out before ranking. These are all looked
                at, whatever the kind: approximate indexes lose answers behind a filter, this loses none.

        Raises:
            InputError: k below 1, other dimensions, or queries that are not finite.
        """

    def save(self, folder: Path | str) -> Path:
        """Write the index to a folder, replacing an index there only once the new one is whole.

        Raises:
            StoreError: it cannot be written.
        """


def checked_rows(source: ArrayLike | RowSource, what: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Rows [n, D] as they are stored (float32 or float16; others become float32), and which are there [n].

    Raises:
        InputError: not [n, D].
        StoreError: a store that is not complete.
    """
    if isinstance(source, RowSource):
        if not source.complete:
            raise StoreError(f"{source!r} is not complete; run its extraction again, it resumes")
        return getattr(source, "unit_rows", source.rows), np.asarray(source.done)
    rows = np.asanyarray(source)
    if rows.ndim != 2:
        raise InputError(f"{what} must be [N, D]; given {list(rows.shape)}")
    if rows.dtype not in (np.float32, np.float16):
        rows = rows.astype(np.float32)
    return rows, np.ones(len(rows), dtype=np.bool_)


def checked_ids(ids: ArrayLike | None, count: int, taken: Ids) -> Ids:
    """The ids of `count` new rows.

    Raises:
        InputError: of another number, negative, twice, or taken.
    """
    if ids is None:
        first = int(taken.max()) + 1 if len(taken) else 0
        return np.arange(first, first + count, dtype=np.int64)
    given = np.asarray(ids)
    if given.shape != (count,) or not (np.issubdtype(given.dtype, np.integer) or not count):
        raise InputError(
            f"{count} rows need {count} whole numbers as ids; given {given.dtype} {list(given.shape)}"
        )
    given = given.astype(np.int64)
    if count and given.min() < 0:
        raise InputError(f"ids count from 0; given {given.min()}")
    values, times = np.unique(given, return_counts=True)
    if (times > 1).any():
        raise InputError(f"id {values[times > 1][0]} is given twice")
    if (in_index := np.isin(values, taken)).any():
        raise InputError(f"id {values[in_index][0]} is in the index already; remove it first")
    return given


def allowed_rows(ids_N: Ids, allowed: ArrayLike) -> NDArray[np.bool_]:
    """[N] which rows may be answers.

    Raises:
        InputError: the allowed ids are not whole numbers.
    """
    chosen = np.asarray(allowed)
    if chosen.ndim != 1 or not (np.issubdtype(chosen.dtype, np.integer) or not chosen.size):
        raise InputError(
            f"allowed rows are given by their ids, whole numbers [n]; given {chosen.dtype} "
            f"{list(chosen.shape)}"
        )
    return np.isin(ids_N, chosen.astype(np.int64))


def squares(rows_nD: Floats, what: str, numbers_n: Ids | range) -> Floats:
    """Squared lengths [n] of finite rows; errors name the row by its number.

    Raises:
        InputError: a row is not finite, or too long for float32.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        square_n: Floats = np.einsum("nd,nd->n", rows_nD, rows_nD)
    if not (square_n < LARGEST_SQUARE).all():
        row = int(np.flatnonzero(~(square_n < LARGEST_SQUARE))[0])
        fault = "holds NaN or infinity" if not np.isfinite(rows_nD[row]).all() else "is too long for float32"
        number = int(numbers_n[row])
        raise InputError(f"{what} {number} {fault}; descriptors are finite, and of length 1 as a rule")
    return square_n


def query_chunks(
    queries: ArrayLike | RowSource, k: int, dims: int, size: int
) -> tuple[int, Iterator[tuple[Ids, Floats, Floats]]]:
    """Q, and chunks of at most `size` queries: rows, values [n, D], squared lengths [n]; without failed ones
    and zeros.

    Raises:
        InputError: see `Index.search`.
    """
    if k < 1:
        raise InputError(f"a search gives at least 1 answer; given k = {k}")
    rows, valid_rows = checked_rows(queries, "queries")
    if rows.shape[1] != dims:
        raise InputError(f"queries have {rows.shape[1]} dimensions, the index has {dims}")

    def chunks() -> Iterator[tuple[Ids, Floats, Floats]]:
        for first in range(0, len(rows), size):
            chunk = np.flatnonzero(valid_rows[first : first + size]) + first
            values = np.ascontiguousarray(rows[chunk], dtype=np.float32)
            square_n = squares(values, "query", chunk)
            seen = values.any(axis=1)
            yield (chunk, values, square_n) if seen.all() else (chunk[seen], values[seen], square_n[seen])

    return len(rows), chunks()


def save_parts(
    folder: Path | str, head: Mapping[str, Any], parts: Mapping[str, Callable[[Path], None]]
) -> Path:
    """Write files by functions given their path, then ``index.json``, which names them: the one atomic step.

    Args:
        folder: made if need be.
        head: what else ``index.json`` says.
        parts: file name -> function that writes it.

    Raises:
        StoreError: it cannot be written; an index that was there is still whole.
    """
    folder = Path(folder)
    files: dict[str, str] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        turn = 1 + max(
            (int(part_name[1]) for p in folder.iterdir() if (part_name := PART.fullmatch(p.name))), default=0
        )
        for name, write in parts.items():
            stem, _, suffix = name.partition(".")
            files[name] = f"{stem}-{turn}.{suffix}"
            write(folder / files[name])
            with open(folder / files[name], "r+b") as file:
                os.fsync(file.fileno())
        sums = {name: list(_bytes_and_crc(folder / file)) for name, file in files.items()}
        head_values = {"format": FORMAT, "version": VERSION, **head, "files": files, "sums": sums}
        write_whole(folder / "index.json", json.dumps(with_checksum(head_values), indent=1))
    except OSError as error:
        _remove(folder, lambda name: name in files.values())
        raise StoreError(
            f"cannot write an index to {str(folder)!r}: {error.strerror or error}; what was there is kept"
        ) from error
    _remove(folder, lambda name: PART.fullmatch(name) is not None and name not in files.values())
    return folder


def _remove(folder: Path, chosen: Callable[[str], bool]) -> None:
    with contextlib.suppress(OSError):
        for path in list(folder.iterdir()):
            if chosen(path.name):
                with contextlib.suppress(OSError):  # Windows keeps files that someone has mapped
                    path.unlink()


def check_parts(folder: Path, head: Mapping[str, Any]) -> None:
    """Compare the files of an index with their checksums, which those of earlier versions lack.

    Raises:
        StoreError: a file is not what was written.
    """
    files, sums = head["files"], head.get("sums")
    try:
        for part, (size, crc) in {} if sums is None else sums.items():
            if _bytes_and_crc(folder / files[part]) != (size, crc):
                raise ValueError(f"{files[part]} is not what was written")
    except DAMAGED as error:
        raise StoreError(f"the index in {str(folder)!r} is damaged: {error}; make it again") from error


def _bytes_and_crc(path: Path) -> tuple[int, int]:
    """Size and CRC-32 of a file."""
    size = crc = 0
    with open_regular(path) as file:
        while part := file.read(WORK_BYTES):
            size, crc = size + len(part), zlib.crc32(part, crc)
    return size, crc


def read_head(folder: Path | str) -> dict[str, Any]:
    """What ``index.json`` says.

    Raises:
        StoreError: there is none, or of a later version.
    """
    path = Path(folder) / "index.json"
    try:
        head = without_checksum(read_json_object(path))
        check_format(head, FORMAT, VERSION, folder)
        head["files"] = {str(part): plain_name(name) for part, name in head["files"].items()}
    except FileNotFoundError:
        raise StoreError(f"there is no index in {str(folder)!r}") from None
    except DAMAGED as error:
        raise StoreError(f"{str(path)!r} is not an index: {error}") from error
    return head
