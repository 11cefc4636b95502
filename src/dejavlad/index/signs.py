"""One bit a number: which side of the mean a descriptor lies on, once turned; compared by counting bits.

The share of signs that differ tells the angle between two descriptors (Charikar 2002), if the numbers behind
the signs matter about alike. Of descriptors as they are made they do not: a few numbers tell places apart,
and hundreds hardly more than noise, but each has one sign. So descriptors are turned first, at random, which
leaves all angles as they are and spreads what tells places apart over all signs. The rotation is made of
signs and Hadamard matrices (Ailon and Chazelle 2009), so that it costs little and need not be kept.

Codes only propose. Of the few thousand whose signs are most like the query's, the query's own numbers, added
up by the signs of the row, tell with half the error which few hundred are measured (as in RaBitQ, Gao and
Long 2024).

Legend: N rows, D numbers, W bytes of a code (D / 8, up to a multiple of 8), R candidates, P D up to a power
of two.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from dejavlad.index.base import Floats, Ids
from dejavlad.index.faiss_index import nearest_codes

CANDIDATES = 256
"""R: rows measured for each query, at least."""
SHARE = 8
"""And at least so many times K."""
WIDE, WIDE_SHARE, WIDER = 4096, 128, 4
"""Codes that are looked at more closely for each query: one of 128, at most 4096, but at least 4 R."""
AT_ONCE = 1024
"""Rows turned at once."""
BLOCK = 1 << 13
"""Codes compared at once."""
TRAINING_ROWS = 1 << 16

Codes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class SignCoder:
    """Makes codes of descriptors."""

    mean_D: Floats
    """What is subtracted first."""
    turned: bool = True
    """Whether descriptors are turned; not in indexes of older versions."""

    @classmethod
    def learn(cls, rows_ND: NDArray[np.floating]) -> SignCoder:
        """From rows, evenly drawn; rows of zeros do not count."""
        drawn = np.asarray(rows_ND[:: max(1, len(rows_ND) // TRAINING_ROWS)], np.float32)
        drawn = drawn[drawn.any(axis=1)]
        mean = drawn.mean(axis=0, dtype=np.float64) if len(drawn) else np.zeros(rows_ND.shape[1])
        return cls(mean.astype(np.float32))

    @property
    def bytes(self) -> int:
        """W, bytes of one code: a bit a number, in words of 64."""
        return -(-len(self.mean_D) // 64) * 8

    def encode(self, rows_nD: NDArray[np.floating]) -> Codes:
        """uint8 [n, W]."""
        codes = np.zeros((len(rows_nD), self.bytes), np.uint8)
        for first in range(0, len(rows_nD), AT_ONCE):
            part = slice(first, first + AT_ONCE)
            packed = np.packbits(self.project(rows_nD[part]) > 0, axis=1)
            codes[part, : packed.shape[1]] = packed
        return codes

    def project(self, rows_nD: NDArray[np.floating]) -> Floats:
        """float32 [n, 8 W] (or [n, D] where they are not turned) the numbers whose signs are the code."""
        centred = np.asarray(rows_nD, np.float32) - self.mean_D
        return turn(centred)[:, : 8 * self.bytes] if self.turned else centred


def turn(rows_nD: Floats) -> Floats:
    """float32 [n, P] rows turned: the same lengths and angles, in other axes, the same ones each time."""
    n, dims = rows_nD.shape
    power = max(6, (dims - 1).bit_length())
    low, high = (_hadamard(part) for part in (power // 2, power - power // 2))
    turned = np.zeros((n, 1 << power), np.float32)
    turned[:, :dims] = rows_nD
    for signs in _signs(power):
        turned *= signs
        grid = turned.reshape(-1, len(high)) @ high
        turned = np.matmul(low, grid.reshape(n, len(low), len(high))).reshape(n, -1)
    return turned


@cache
def _hadamard(power: int) -> Floats:
    matrix = np.ones((1, 1))
    for _ in range(power):
        matrix = np.block([[matrix, matrix], [matrix, -matrix]]) / np.sqrt(2)
    return matrix.astype(np.float32)


@cache
def _signs(power: int) -> Floats:
    """[2, P] of -1 and 1, the same on every machine."""
    count = 2 << power
    bits = np.frombuffer(hashlib.shake_256(b"dejavlad-index 1bit").digest(count // 8), np.uint8)
    return np.where(np.unpackbits(bits), np.float32(1), np.float32(-1)).reshape(2, -1)


def candidates_of(k: int) -> int:
    """R for K answers."""
    return max(CANDIDATES, SHARE * k)


def proposed(
    coder: SignCoder, codes_NW: Codes, queries_BD: Floats, count: int, alive_N: NDArray[np.bool_] | None
) -> Ids:
    """Places [B, R] of the rows to measure for each query, ascending.

    Args:
        coder: what made the codes.
        codes_NW: uint8, may be memory-mapped.
        queries_BD: float32.
        count: R, at most.
        alive_N: those that count; all where None.
    """
    wide = max(min(WIDE, len(codes_NW) // WIDE_SHARE), WIDER * count)
    wide_BM = nearest_signs(codes_NW, coder.encode(queries_BD), wide, alive_N)
    if wide_BM.shape[1] <= count:
        return wide_BM
    places_BR = np.empty((len(wide_BM), count), np.int64)
    for query_P, wide_M, places_R in zip(coder.project(queries_BD), wide_BM, places_BR, strict=True):
        signs_MP = np.unpackbits(codes_NW[wide_M], axis=1, count=len(query_P)).astype(np.float32)
        alike_M = np.vecdot(signs_MP, query_P)
        places_R[:] = np.sort(wide_M[np.argpartition(-alike_M, count - 1)[:count]])
    return places_BR


def nearest_signs(
    codes_NW: Codes, queries_QW: Codes, count: int, alive_N: NDArray[np.bool_] | None = None
) -> Ids:
    """Places [Q, R] of the codes with the fewest differing bits, ascending.

    Args:
        codes_NW: uint8, may be memory-mapped.
        queries_QW: uint8.
        count: R, at most.
        alive_N: those that count; all unless given.
    """
    n, all_alive = len(codes_NW), alive_N is None or bool(alive_N.all())
    count = min(count, n if all_alive or alive_N is None else int(alive_N.sum()))
    places = np.full((len(queries_QW), count), -1, np.int64)
    if not count:
        return places
    if importlib.util.find_spec("faiss") is not None:
        near = _nearest_alive(codes_NW, queries_QW, count, None if all_alive else alive_N)
        if near is not None:
            return near
    apart, words = np.empty(n, np.uint16), np.ones(codes_NW.shape[1] // 8, np.float32)
    for query, code in enumerate(queries_QW.view(np.uint64)):
        for first in range(0, n, BLOCK):
            part = slice(first, first + BLOCK)
            block = np.ascontiguousarray(codes_NW[part]).view(np.uint64)
            apart[part] = np.bitwise_count(block ^ code).astype(np.float32) @ words  # quicker than a sum
        if not all_alive and alive_N is not None:
            apart[~alive_N] = np.iinfo(np.uint16).max
        limit = np.partition(apart, count - 1)[count - 1]
        sure = np.flatnonzero(apart < limit)
        ties = np.flatnonzero(apart == limit)[: count - len(sure)]
        places[query] = np.sort(np.concatenate([sure, ties]))
    return places


def _nearest_alive(
    codes_NW: Codes, queries_QW: Codes, count: int, alive_N: NDArray[np.bool_] | None
) -> Ids | None:
    """As `nearest_signs`, by faiss; None where too many of the nearest do not count."""
    if alive_N is None:
        return np.sort(nearest_codes(codes_NW, queries_QW, count), axis=1)
    more = min(len(codes_NW), count + min(len(codes_NW) - int(alive_N.sum()), count))
    near_QM = nearest_codes(codes_NW, queries_QW, more)
    counts_QM = alive_N[near_QM]
    if counts_QM.sum(axis=1).min() < count:
        return None
    nearest_first = np.argsort(~counts_QM, axis=1, kind="stable")[:, :count]
    return np.sort(np.take_along_axis(near_QM, nearest_first, axis=1), axis=1)
