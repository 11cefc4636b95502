"""Rows in fewer bits beside the rows themselves: what to compare first, so that few rows need be read.

=========  ==================================  =====================================================
kind       bytes a row                         answers
=========  ==================================  =====================================================
float16    2 D + 8                             exact: the error of the codes is bounded
int8       D + 8                               exact likewise
1bit       D / 8                               of the rows whose signs are most alike
=========  ==================================  =====================================================

Legend: N rows, D numbers, W bytes of a code, B queries, K answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dejavlad.index import products
from dejavlad.index.base import Floats, Ids
from dejavlad.index.nearest import Nearest
from dejavlad.index.scan import LONGEST_CHUNK
from dejavlad.index.signs import SignCoder, candidates_of, proposed

KINDS = ("float16", "int8", "1bit")
HEAD = 8
"""Bytes before a coarse row: what its numbers are multiplied by, and its squared length, both float32."""

Codes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Coder:
    """Makes codes of one kind, and searches them."""

    kind: str
    dims: int
    """D, numbers of a descriptor."""
    signs: SignCoder
    """Of ``"1bit"``."""

    @classmethod
    def learn(cls, kind: str, rows_ND: Floats) -> Coder:
        """From rows of the map."""
        dims = rows_ND.shape[1]
        if kind == "1bit":
            return cls(kind, dims, SignCoder.learn(rows_ND))
        return cls(kind, dims, SignCoder(np.zeros(dims, np.float32)))

    @property
    def bytes(self) -> int:
        """W, bytes of one code."""
        if self.kind == "1bit":
            return self.signs.bytes
        return HEAD + self.dims * (2 if self.kind == "float16" else 1)

    def encode(self, rows_nD: Floats) -> tuple[Codes, float]:
        """uint8 [n, W], and how far a row lies from what its code says, at most."""
        rows_nD = np.asarray(rows_nD, np.float32)
        if self.kind == "1bit":
            return self.signs.encode(rows_nD), 0.0
        codes = np.zeros((len(rows_nD), self.bytes), np.uint8)
        head = codes[:, :HEAD].view(np.float32)
        head[:, 0], head[:, 1] = 1.0, np.einsum("nd,nd->n", rows_nD, rows_nD)
        if self.kind == "float16":
            numbers = np.clip(rows_nD, -products.LONGEST_HALF, products.LONGEST_HALF).astype(np.float16)
        else:
            head[:, 0] = np.abs(rows_nD).max(axis=1, initial=0) / 127
            step = np.maximum(head[:, :1], np.finfo(np.float32).tiny)
            numbers = np.rint(rows_nD / step).astype(np.int8)
        codes[:, HEAD:] = numbers.view(np.uint8)
        decoded = numbers.astype(np.float64) * head[:, :1]
        return codes, float(np.linalg.norm(rows_nD - decoded, axis=1).max(initial=0))

    def search(
        self,
        codes_NW: Codes,
        queries_BD: Floats,
        k: int,
        alive_N: NDArray[np.bool_],
        take: Callable[[Ids], Floats],
        error: float,
    ) -> tuple[Ids, Floats]:
        """Rows [B, K] and their distances; -1 and +inf where there are fewer.

        Args:
            codes_NW: the codes, memory-mapped.
            queries_BD: float32.
            k: K.
            alive_N: rows that may be answers.
            take: float32 [n, D] some rows by their numbers.
            error: how far a row lies from what its code says, at most.
        """
        square_B = np.einsum("bd,bd->b", queries_BD, queries_BD)
        if self.kind == "1bit":
            return self._by_signs(codes_NW, queries_BD, square_B, k, alive_N, take)
        nearest = Nearest(queries_BD, square_B, k)
        for first in range(0, len(codes_NW), LONGEST_CHUNK):
            part = slice(first, min(first + LONGEST_CHUNK, len(codes_NW)))
            if alive_N[part].any():
                self._screen(nearest, codes_NW[part], queries_BD, first, alive_N[part], take, error)
        return nearest.result()

    def _screen(
        self,
        nearest: Nearest,
        codes_CW: Codes,
        queries_BD: Floats,
        first: int,
        alive_C: NDArray[np.bool_],
        take: Callable[[Ids], Floats],
        error: float,
    ) -> None:
        head = np.ascontiguousarray(codes_CW[:, :HEAD]).view(np.float32)
        scale_C, square_C = head[:, 0], head[:, 1]
        longest = float(np.sqrt(square_C.max(initial=0))) + error
        half = self.kind == "float16"
        numbers = codes_CW[:, HEAD:].view(np.float16 if half else np.int8)
        products_BC, error_B = products.products(
            queries_BD,
            numbers,
            None if half else scale_C,
            longest,
        )
        error_B = error_B + error * np.linalg.norm(queries_BD.astype(np.float64), axis=1)
        ids_C = np.arange(first, first + len(codes_CW))
        alive_C = alive_C & (square_C > 0)  # rows of zeros are nobody's answer
        nearest.screen(products_BC, error_B, lambda rows: take(rows + first), square_C, ids_C, alive_C)

    def _by_signs(
        self,
        codes_NW: Codes,
        queries_BD: Floats,
        square_B: Floats,
        k: int,
        alive_N: NDArray[np.bool_],
        take: Callable[[Ids], Floats],
    ) -> tuple[Ids, Floats]:
        places = proposed(self.signs, codes_NW, queries_BD, candidates_of(k), alive_N)
        ids, distances = np.full((len(places), k), -1, np.int64), np.full((len(places), k), np.inf, "f4")
        for at, chosen in enumerate(places):
            if len(chosen):
                nearest = Nearest(queries_BD[at : at + 1], square_B[at : at + 1], k)
                rows = take(chosen)
                square = np.einsum("nd,nd->n", rows, rows)
                nearest.feed(rows, square, chosen, square > 0)
                (ids[at],), (distances[at],) = nearest.result()
        return ids, distances
