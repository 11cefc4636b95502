"""Descriptors to rankings: exact, quantised and approximate search behind one interface; free of torch.

=============  ==================================================  =====================================
kind           what                                                recall against exact (stated, tested)
=============  ==================================================  =====================================
``flat``       every row, exactly; the oracle                      1
``float16``    every row, at half the memory                       0.99
``int8``       every row, at a quarter of the memory               0.95
``faiss-flat`` every row, by faiss                                 1 (but for ties at the last place)
``faiss-hnsw`` a graph; for long lists                             0.9
``faiss-sq8``  8 bits a value, by faiss                            0.95
``faiss-fp16`` float16, by faiss                                   0.99
=============  ==================================================  =====================================
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from dejavlad.errors import UnknownNameError
from dejavlad.index import faiss_index, scan
from dejavlad.index.base import Index, RowSource, checked_rows, read_head

__all__ = ["KINDS", "Index", "RowSource", "build_index", "checked_rows", "open_index"]

KINDS = (*scan.KINDS, *faiss_index.KINDS)
"""The kinds that `build_index` knows."""


def build_index(
    kind: str, rows: ArrayLike | RowSource, *, ids: ArrayLike | None = None, **options: Any
) -> Index:
    """An index over rows [N, D].

    Args:
        kind: one of `KINDS`.
        rows: an array, a memory map, or a `DescriptorStore` (whose failed photos are left out); rows of zeros
            are left out too. They are compared as they are: bring them to unit length where they are not.
        ids: [N] what answers are called; the row numbers unless given.
        **options: of the kind: see `dejavlad.index.faiss_index.FaissIndex`.

    Raises:
        UnknownNameError: no such kind.
        InputError: rows that are not [N, D] or not finite; ids that do not fit.
        StoreError: a store that is not complete.
        MissingExtraError: faiss is not installed.
    """
    if kind not in KINDS:
        raise UnknownNameError("index", kind, KINDS)
    dims = checked_rows(rows, "rows")[0].shape[1]
    make = scan.ScanIndex if kind in scan.KINDS else faiss_index.FaissIndex
    index: Index = make(kind, dims, **options)
    index.add(rows, ids)
    return index


def open_index(folder: Path | str) -> Index:
    """The index that `Index.save` wrote, memory-mapped.

    Raises:
        StoreError: there is none, it is damaged, or of a later format.
        MissingExtraError: faiss is not installed.
    """
    head = read_head(folder)
    if head.get("kind") not in KINDS:
        raise UnknownNameError("index", str(head.get("kind")), KINDS)
    kind = scan.ScanIndex if head["kind"] in scan.KINDS else faiss_index.FaissIndex
    return kind.open(Path(folder), head)
