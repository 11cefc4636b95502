"""The index that looks at every row: exact on what it stores, which is float32, float16 or int8.

Rows are compared with float32 queries (asymmetric: only the database is coarse), by products of 32, 16 or 8
bits with a bounded error (`products`). What may be
among the best is measured, so that the order is that of the stored rows. Memory stays bounded and
memory-mapped rows are never loaded whole. With float32 rows it is the exact search that every other index is
checked against.

Legend: N rows, D dimensions, n rows of one segment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dejavlad.errors import InputError, StoreError
from dejavlad.guarded.fields import DAMAGED
from dejavlad.guarded.npy_file import map_npy
from dejavlad.index import products
from dejavlad.index.base import (
    WORK_BYTES,
    Floats,
    Ids,
    RowSource,
    allowed_rows,
    checked_ids,
    checked_rows,
    query_chunks,
    save_parts,
    squares,
)
from dejavlad.index.nearest import Nearest, Take
from dejavlad.ranking import Ranking

KINDS = ("flat", "float16", "int8")
COARSE = ("float16", "int8")
LONGEST_CHUNK = 8192
"""Rows that are looked at together."""
CHUNK_PRODUCTS = 1 << 22
"""Where queries are few, chunks are longer: so many products."""
NARROW = 0.1
"""Where fewer of a chunk's rows may be answers, these are gathered and the others not looked at."""


@dataclass(slots=True)
class Segment:
    """Rows that were added together."""

    codes: NDArray[Any]
    """[n, D] float32, float16 or int8; memory-mapped where they came so."""
    scales: Floats | None
    """[n] what int8 codes are multiplied by."""
    squares: Floats
    """[n] squared length of each decoded row."""
    ids: Ids
    """int64 [n]: the id of each row."""
    alive: NDArray[np.bool_]
    """[n] False where removed, never there, or zeros."""

    def decode(self, rows: slice) -> Floats:
        """Rows as float32 (a view where they are stored so)."""
        values = products.decoded(self.codes[rows])
        return values if self.scales is None else values * self.scales[rows, None]

    def take(self, rows: Ids) -> Floats:
        """Some rows as float32."""
        values = np.asarray(self.codes[rows], dtype=np.float32)
        return values if self.scales is None else values * self.scales[rows, None]

    def feed(self, nearest: Nearest, queries_BD: Floats, part: slice, alive: NDArray[np.bool_]) -> None:
        """Look at the rows of one part; `alive` [rows of the part] tells which may be answers."""
        square_C, ids_C = self.squares[part], self.ids[part]
        few = np.count_nonzero(alive)
        if not few:
            return
        if few < NARROW * len(alive):
            chosen = np.flatnonzero(alive)
            rows = self.take(chosen + part.start)
            nearest.feed(rows, square_C[chosen], ids_C[chosen], alive[chosen])
            return
        longest, first = float(np.sqrt(square_C.max(initial=0))), part.start
        scales_C = None if self.scales is None else self.scales[part]
        made = products.products(queries_BD, self.codes[part], scales_C, longest)
        stored: Floats | Take = lambda rows: self.take(rows + first)  # noqa: E731
        if self.codes.dtype == np.float32:
            stored = self.codes[part]
        nearest.screen(*made, stored, square_C, ids_C, alive)


class ScanIndex:
    """Search that compares all rows (a `dejavlad.index.base.Index`).

    Args:
        kind: ``"flat"`` keeps rows as they come (float32 or float16) without copying arrays or memory maps,
            so leave them unchanged; ``"float16"`` rounds them (half the memory); ``"int8"`` keeps 8 bits a
            value, scaled row by row to the row's largest (a quarter of the memory).
        dims: D.
    """

    def __init__(self, kind: str, dims: int) -> None:
        self.kind, self.dims = kind, dims
        self._segments: list[Segment] = []

    def __len__(self) -> int:
        return sum(int(segment.alive.sum()) for segment in self._segments)

    @property
    def ids(self) -> Ids:
        """int64 [N]: the ids of all rows in it, in the order in which they were added."""
        return np.concatenate([np.empty(0, np.int64), *(s.ids[s.alive] for s in self._segments)])

    def add(self, rows: ArrayLike | RowSource, ids: ArrayLike | None = None) -> None:
        """Add rows [n, D]; `Index.add` tells the arguments and errors."""
        source, valid_rows = checked_rows(rows, "rows")
        if source.shape[1] != self.dims:
            raise InputError(f"rows have {source.shape[1]} dimensions, the index has {self.dims}")
        new_ids = checked_ids(ids, len(source), self.ids)
        if not len(source):
            return
        n = len(source)
        codes = source
        if self.kind in COARSE:
            codes = np.zeros((n, self.dims), np.int8 if self.kind == "int8" else np.float16)
        scales = np.zeros(n, np.float32) if self.kind == "int8" else None
        segment = Segment(codes, scales, np.zeros(n, np.float32), new_ids, valid_rows.copy())
        for part in self._chunks(n):
            values = np.where(valid_rows[part, None], source[part], np.float32(0)).astype(
                np.float32, copy=False
            )
            segment.squares[part] = squares(values, "row", range(part.start, part.stop))
            if scales is not None:
                scales[part] = np.abs(values).max(axis=1, initial=0) / 127
                codes[part] = np.rint(values / np.maximum(scales[part, None], np.finfo(np.float32).tiny))
            elif self.kind == "float16":
                with np.errstate(over="ignore"):
                    codes[part] = values
            if self.kind in COARSE:
                decoded = segment.decode(part)
                segment.squares[part] = squares(decoded, f"{self.kind} row", range(part.start, part.stop))
            segment.alive[part] &= segment.decode(part).any(axis=1)
        if segment.alive.any():
            self._segments.append(segment)

    def remove(self, ids: ArrayLike) -> None:
        """Take rows out by their ids; an id that is not in it is an `InputError`."""
        gone = np.unique(np.asarray(ids, dtype=np.int64))
        missing = np.setdiff1d(gone, self.ids)
        if len(missing):
            raise InputError(f"id {missing[0]} is not in the index")
        for segment in self._segments:
            segment.alive[np.isin(segment.ids, gone)] = False
        self._segments = [segment for segment in self._segments if segment.alive.any()]

    def search(self, queries: ArrayLike | RowSource, k: int, *, allowed: ArrayLike | None = None) -> Ranking:
        """The k nearest rows of each query; `Index.search` tells the arguments and errors."""
        size = int(np.clip(WORK_BYTES // (4 * self.dims), 1, 2048))
        n, chunks = query_chunks(queries, k, self.dims, size)
        indices = np.full((n, k), -1, dtype=np.int64)
        distances = np.full((n, k), np.inf, dtype=np.float32)
        alive = [
            s.alive if allowed is None else s.alive & allowed_rows(s.ids, allowed) for s in self._segments
        ]
        for rows, values, square in chunks:
            nearest = Nearest(values, square, k)
            for segment, alive_n in zip(self._segments, alive, strict=True):
                for part in self._parts(segment, len(values)):
                    segment.feed(nearest, values, part, alive_n[part])
            indices[rows], distances[rows] = nearest.result()
        return Ranking(indices, distances)

    def save(self, folder: Path | str) -> Path:
        """Write the index to a folder, whole or not at all; `Index.save` tells the errors."""
        head = {"kind": self.kind, "dims": self.dims, "count": len(self)}
        return save_parts(folder, head, self._save_parts())

    def _save_parts(self) -> dict[str, Callable[[Path], None]]:
        """File -> what writes it."""
        kinds = {segment.codes.dtype for segment in self._segments}
        coded = (
            next(iter(kinds)) if len(kinds) == 1 else np.dtype(np.int8 if self.kind == "int8" else np.float32)
        )
        if not kinds and self.kind == "float16":
            coded = np.dtype(np.float16)
        n = len(self)

        def column(
            shape: tuple[int, ...], dtype: Any, column_of: Callable[[Segment], Any]
        ) -> Callable[[Path], None]:
            def write(path: Path) -> None:
                with open(path, "wb") as file:
                    described = np.lib.format.dtype_to_descr(np.dtype(dtype))
                    head = {"descr": described, "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(file, head)
                    for segment in self._segments:
                        values = column_of(segment)
                        for part in self._chunks(len(segment.ids)):
                            chosen = values[part][segment.alive[part]]
                            file.write(np.ascontiguousarray(chosen, dtype=dtype).tobytes())

            return write

        parts = {
            "rows.npy": column((n, self.dims), coded, lambda segment: segment.codes),
            "ids.npy": column((n,), np.int64, lambda segment: segment.ids),
            "squares.npy": column((n,), np.float32, lambda segment: segment.squares),
        }
        if self.kind == "int8":
            parts["scales.npy"] = column((n,), np.float32, lambda segment: segment.scales)
        return parts

    @classmethod
    def open(cls, folder: Path, head: dict[str, Any]) -> Self:
        """The index that `save` wrote, its rows memory-mapped."""
        try:
            index = cls(head["kind"], int(head["dims"]))
            n, files = int(head["count"]), head["files"]
            if n:
                arrays = {name: map_npy(folder / file) for name, file in files.items()}
                codes, scales = arrays["rows.npy"], arrays.get("scales.npy")
                if codes.shape != (n, index.dims) or any(len(array) != n for array in arrays.values()):
                    raise ValueError(f"its files hold {list(codes.shape)}, not {[n, index.dims]}")
                ids, alive = np.array(arrays["ids.npy"]), np.asarray(arrays["squares.npy"] > 0)
                index._segments.append(Segment(codes, scales, arrays["squares.npy"], ids, alive))
        except DAMAGED as error:
            raise StoreError(f"the index in {str(folder)!r} is damaged: {error}") from error
        return index

    def _parts(self, segment: Segment, n_queries: int) -> Iterator[slice]:
        """Parts of a segment: longer ones where few queries are asked, as each part has its price."""
        step = min(max(CHUNK_PRODUCTS // max(1, n_queries), LONGEST_CHUNK), 4 * LONGEST_CHUNK)
        for first in range(0, len(segment.ids), step):
            yield slice(first, min(first + step, len(segment.ids)))

    def _chunks(self, n: int) -> Iterator[slice]:
        """Parts of n rows, small enough to be decoded."""
        step = int(np.clip(WORK_BYTES // (4 * self.dims), 1, LONGEST_CHUNK))
        for first in range(0, n, step):
            yield slice(first, min(first + step, n))
