"""faiss behind the same interface: flat, HNSW (approximate, fast), scalar-quantised; an optional dependency.

faiss proposes, we measure: its candidates are fetched back, measured as `nearest` does, and ordered by the
rule that equal distances go by smaller id.

Legend: N rows added, Q queries, D dimensions, K answers, F answers asked of faiss.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dejavlad.errors import InputError, MissingExtraError, StoreError
from dejavlad.guarded.fields import DAMAGED
from dejavlad.guarded.npy_file import read_npy
from dejavlad.guarded.plain_file import check_regular
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
from dejavlad.index.nearest import Nearest, distances
from dejavlad.ranking import Ranking

KINDS = ("faiss-flat", "faiss-hnsw", "faiss-sq8", "faiss-fp16", "ivf", "hnsw")
SPARE = 16
TRAINING_ROWS = 65536
GRAPHS = ("faiss-hnsw", "hnsw")
NEARLY_ZERO = 1e-3
"""Squared length up to which a row of an older index was a row of zeros before it was coded."""


LIST_ROWS = 64
"""``"ivf"``: rows that are behind each list, at least, and about the root of their number."""
PROBES = 48
"""Lists that are looked at."""


def nearest_codes(codes_NW: NDArray[np.uint8], queries_QW: NDArray[np.uint8], count: int) -> Ids:
    """Places [Q, count] of the codes with the fewest differing bits, by faiss, without copying the codes."""
    _, places = _faiss().knn_hamming(np.ascontiguousarray(queries_QW), np.ascontiguousarray(codes_NW), count)
    return np.asarray(places, np.int64)


def _faiss() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # SWIG's types
            import faiss
    except ImportError as error:
        raise MissingExtraError("a faiss index", "faiss") from error
    return faiss


class FaissIndex:
    """An index of faiss (a `dejavlad.index.base.Index`).

    Removed rows are passed over, not freed. ``"faiss-sq8"`` learns the range of each dimension from the rows
    first added. The graph of ``"faiss-hnsw"`` depends a little on how its building threads are timed.

    Args:
        kind: one of `KINDS`.
        dims: D.
        neighbours: HNSW: links of a row (M).
        effort_build: HNSW: candidates kept while building (efConstruction).
        effort: HNSW: candidates kept while searching (efSearch), at least K.
    """

    def __init__(
        self, kind: str, dims: int, *, neighbours: int = 32, effort_build: int = 200, effort: int = 128
    ) -> None:
        faiss = _faiss()
        self.kind, self.dims, self.effort = kind, dims, effort
        self._ids = np.empty(0, np.int64)
        self._alive = np.empty(0, np.bool_)
        self._mapped: Path | None = None
        if kind == "faiss-flat":
            self._index = faiss.IndexFlatL2(dims)
        elif kind == "ivf":
            self._index = faiss.IndexIVFFlat(faiss.IndexFlatL2(dims), dims, 1)
        elif kind in GRAPHS:
            self._index = faiss.IndexHNSWFlat(dims, neighbours)
            self._index.hnsw.efConstruction = effort_build
        else:
            coding = faiss.ScalarQuantizer.QT_8bit if kind == "faiss-sq8" else faiss.ScalarQuantizer.QT_fp16
            self._index = faiss.IndexScalarQuantizer(dims, coding)

    def __len__(self) -> int:
        return int(self._alive.sum())

    @property
    def ids(self) -> Ids:
        """int64 [N]: the ids of all rows in it, in the order in which they were added."""
        return self._ids[self._alive]

    def add(self, rows: ArrayLike | RowSource, ids: ArrayLike | None = None) -> None:
        """Add rows [n, D]; `Index.add` tells the arguments and errors."""
        source, valid_rows = checked_rows(rows, "rows")
        if source.shape[1] != self.dims:
            raise InputError(f"rows have {source.shape[1]} dimensions, the index has {self.dims}")
        new_ids = checked_ids(ids, len(source), self.ids)
        kept = np.flatnonzero(valid_rows)
        seen = np.zeros(len(kept), np.bool_)
        for part in self._chunks(len(kept)):
            values = np.asarray(source[kept[part]], dtype=np.float32)
            squares(values, "row", kept[part])
            seen[part] = values.any(axis=1)
        kept = kept[seen]
        new_ids = new_ids[kept]
        if not len(kept):
            return
        faiss = _faiss()
        if self._mapped is not None:  # a mapped index cannot grow
            self._index, self._mapped = faiss.read_index(str(self._mapped)), None
        if not self._index.is_trained:
            spread = kept[:: max(1, len(kept) // TRAINING_ROWS)]
            if self.kind == "ivf":
                lists = int(np.clip(2 * np.sqrt(len(kept)), 1, max(1, len(spread) // LIST_ROWS)))
                quantizer = faiss.IndexFlatL2(self.dims)
                self._index = faiss.IndexIVFFlat(quantizer, self.dims, lists)
                self._index.cp.min_points_per_centroid = 1
                self._index.cp.max_points_per_centroid = LIST_ROWS
            self._index.train(np.ascontiguousarray(source[spread], dtype=np.float32))
        for part in self._chunks(len(kept)):
            self._index.add(np.ascontiguousarray(source[kept[part]], dtype=np.float32))
        self._ids = np.concatenate([self._ids, new_ids])
        self._alive = np.concatenate([self._alive, np.ones(len(new_ids), np.bool_)])

    def remove(self, ids: ArrayLike) -> None:
        """Take rows out by their ids; an id that is not in it is an `InputError`."""
        gone = np.unique(np.asarray(ids, dtype=np.int64))
        missing = np.setdiff1d(gone, self.ids)
        if len(missing):
            raise InputError(f"id {missing[0]} is not in the index")
        self._alive &= ~np.isin(self._ids, gone)

    def search(self, queries: ArrayLike | RowSource, k: int, *, allowed: ArrayLike | None = None) -> Ranking:
        """The k nearest rows of each query; `Index.search` tells the arguments and errors."""
        if allowed is not None:
            return self._search_allowed(queries, k, allowed)
        n_candidates = min(len(self), k + SPARE)
        size = int(np.clip(WORK_BYTES // (4 * self.dims), 1, 2048))
        n, chunks = query_chunks(queries, k, self.dims, size)
        indices = np.full((n, k), -1, dtype=np.int64)
        distances = np.full((n, k), np.inf, dtype=np.float32)
        for rows, values, _ in chunks:
            if n_candidates and len(rows):
                ids_QF, distances_QF = self._candidates(values, n_candidates)
                order = np.lexsort((ids_QF, distances_QF), axis=1)[:, :k]
                width = order.shape[1]
                indices[rows, :width] = np.take_along_axis(ids_QF, order, axis=1)
                distances[rows, :width] = np.take_along_axis(distances_QF, order, axis=1)
        return Ranking(indices, distances)

    def _search_allowed(self, queries: ArrayLike | RowSource, k: int, allowed: ArrayLike) -> Ranking:
        """All rows that may be answers, looked at one by one: an approximate search would lose some."""
        places = np.flatnonzero(self._alive & allowed_rows(self._ids, allowed))
        size = int(np.clip(WORK_BYTES // (4 * self.dims), 1, 2048))
        n, chunks = query_chunks(queries, k, self.dims, size)
        indices = np.full((n, k), -1, dtype=np.int64)
        distances = np.full((n, k), np.inf, dtype=np.float32)
        self._look_up()
        for rows, values, square in chunks:
            nearest = Nearest(values, square, k)
            for part in self._chunks(len(places)):
                chosen = places[part]
                decoded = self._index.reconstruct_batch(chosen)
                square_C = np.einsum("nd,nd->n", decoded, decoded)
                nearest.feed(decoded, square_C, self._ids[chosen], self._alive[chosen])
            indices[rows], distances[rows] = nearest.result()
        return Ranking(indices, distances)

    def _look_up(self) -> None:
        """Let rows be fetched by their place."""
        if self.kind == "ivf" and self._index.direct_map.no():
            if self._mapped is not None:
                self._index, self._mapped = _faiss().read_index(str(self._mapped)), None
            try:
                self._index.make_direct_map()
            except RuntimeError as error:  # a file of an earlier version, which has no checksum
                reason = str(error).strip().splitlines()[-1]
                raise StoreError(f"the faiss index is damaged: {reason}; make it again") from None

    def _candidates(self, queries_QD: Floats, n_candidates: int) -> tuple[Ids, Floats]:
        """Ids and measured distances [Q, F] of what faiss proposes; +inf where it had too few."""
        faiss = _faiss()
        options: dict[str, Any] = {}
        if not self._alive.all():
            bits = np.packbits(self._alive, bitorder="little")
            options["sel"] = faiss.IDSelectorBitmap(bits)
        if self.kind in GRAPHS:
            params = faiss.SearchParametersHNSW(efSearch=max(self.effort, n_candidates), **options)
        elif self.kind == "ivf":
            params = faiss.SearchParametersIVF(nprobe=PROBES, **options)
        else:
            params = faiss.SearchParameters(**options) if options else None
        self._look_up()
        _, places_QF = self._index.search(queries_QD, n_candidates, params=params)
        measured_QF = np.full(places_QF.shape, np.inf, dtype=np.float32)
        step = max(1, WORK_BYTES // (2 * self.dims * n_candidates))
        for first in range(0, len(queries_QD), step):
            query, place = np.nonzero(places_QF[first : first + step] >= 0)
            if len(query):
                query += first
                places, back = np.unique(places_QF[query, place], return_inverse=True)
                rows = self._index.reconstruct_batch(places)
                measured_QF[query, place] = distances(queries_QD, query, rows, back)
        return np.where(places_QF >= 0, self._ids[places_QF], -1), measured_QF

    def save(self, folder: Path | str) -> Path:
        """Write the index to a folder, whole or not at all; `Index.save` tells the errors."""
        parts = {
            "rows.faiss": self._write,
            "ids.npy": lambda path: np.save(path, self._ids),
            "alive.npy": lambda path: np.save(path, self._alive),
        }
        head = {
            "kind": self.kind,
            "dims": self.dims,
            "count": len(self),
            "options": {"effort": self.effort},
            "without_zeros": True,
        }
        return save_parts(folder, head, parts)

    def _write(self, path: Path) -> None:
        try:
            _faiss().write_index(self._index, str(path))
        except RuntimeError as error:  # e.g. a full disk
            raise OSError(str(error).strip().splitlines()[-1]) from error

    @classmethod
    def open(cls, folder: Path, head: dict[str, Any]) -> Self:
        """The index that `save` wrote, memory-mapped where faiss can."""
        faiss = _faiss()
        try:
            index = cls(head["kind"], int(head["dims"]), **head["options"])
            files = head["files"]
            path = folder / files["rows.faiss"]
            check_regular(path)
            index._index = faiss.read_index(str(path), getattr(faiss, "IO_FLAG_MMAP_IFC", faiss.IO_FLAG_MMAP))
            index._mapped = path
            index._ids, index._alive = (
                read_npy(folder / files["ids.npy"]),
                read_npy(folder / files["alive.npy"]),
            )
            if not len(index._ids) == len(index._alive) == index._index.ntotal:
                raise ValueError(f"{len(index._ids)} ids of {index._index.ntotal} rows")
            if not head.get("without_zeros"):  # written before rows of zeros were left out
                index._leave_out_zeros()
        except (*DAMAGED, RuntimeError) as error:
            reason = str(error).strip().splitlines()[-1]
            raise StoreError(f"the index in {str(folder)!r} is damaged: {reason}") from error
        return index

    def _leave_out_zeros(self) -> None:
        """Pass over rows of zeros; 8 bits make nearly zeros of them."""
        for part in self._chunks(len(self._ids)):
            rows = self._index.reconstruct_n(part.start, part.stop - part.start)
            self._alive[part] &= np.einsum("nd,nd->n", rows, rows) > NEARLY_ZERO

    def _chunks(self, n: int) -> Iterator[slice]:
        step = max(1, WORK_BYTES // (4 * self.dims))
        for first in range(0, n, step):
            yield slice(first, min(first + step, n))
