"""Descriptors to rankings: exact, quantised and approximate search behind one interface; free of torch.

=============  ==================================================  =====================================
kind           what                                                recall against exact (stated, tested)
=============  ==================================================  =====================================
``flat``       every row, exactly; the oracle (also ``exact``)     1
``float16``    every row, at half the memory                       0.99
``int8``       every row, at a quarter of the memory               0.95
``1bit``       signs propose hundreds of rows, which are measured  0.9
``ivf``        lists of near rows, by faiss                        0.9
``hnsw``       a graph, by faiss; for long lists                   0.9
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
from dejavlad.index import faiss_index, one_bit, scan
from dejavlad.index.base import Index, RowSource, check_parts, checked_rows, read_head

__all__ = ["KINDS", "Index", "RowSource", "build_index", "checked_rows", "open_index"]

KINDS = (*scan.KINDS, *one_bit.KINDS, *faiss_index.KINDS)
"""The kinds that `build_index` knows."""
ALIASES = {"exact": "flat"}
"""Other names of these."""


def _maker(kind: str) -> type[scan.ScanIndex] | type[faiss_index.FaissIndex]:
    """What makes and opens indexes of a kind.

    Raises:
        UnknownNameError: no such kind.
    """
    if kind not in KINDS:
        raise UnknownNameError("index", kind, (*KINDS, *ALIASES))
    if kind in one_bit.KINDS:
        return one_bit.OneBitIndex
    return scan.ScanIndex if kind in scan.KINDS else faiss_index.FaissIndex


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
    kind = ALIASES.get(kind, kind)
    make = _maker(kind)
    dims = checked_rows(rows, "rows")[0].shape[1]
    index: Index = make(kind, dims, **options)
    index.add(rows, ids)
    return index


def open_index(folder: Path | str, *, check: bool = True) -> Index:
    """The index that `Index.save` wrote, memory-mapped.

    Args:
        folder: where.
        check: compare its files with their checksums first, which reads all of them once.

    Raises:
        StoreError: there is none, it is damaged, or of a later format.
        MissingExtraError: faiss is not installed.
    """
    head = read_head(folder)
    if check:
        check_parts(Path(folder), head)
    return _maker(str(head.get("kind"))).open(Path(folder), head)
