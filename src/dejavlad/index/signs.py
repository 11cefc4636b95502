"""One bit a number: which side of the mean a descriptor lies on (Charikar 2002), compared by counting bits.

Descriptors that are whitened and centred have numbers that are about independent and of one size, so that
the share of signs that differ tells the angle. Codes only propose: the best few hundred are measured.

Legend: N rows, D numbers, W bytes of a code (D / 8, up to a multiple of 8), R candidates.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dejavlad.index.base import Floats, Ids
from dejavlad.index.faiss_index import nearest_codes

CANDIDATES = 512
"""R: rows measured for each query, at least."""
SHARE = 8
"""And at least so many times K."""
BLOCK = 1 << 16
"""Codes compared at once."""
TRAINING_ROWS = 1 << 16

Codes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class SignCoder:
    """Makes codes of descriptors."""

    mean_D: Floats
    """What is subtracted first."""

    @classmethod
    def learn(cls, rows_ND: NDArray[np.floating]) -> SignCoder:
        """From rows, evenly drawn; rows of zeros do not count."""
        drawn = np.asarray(rows_ND[:: max(1, len(rows_ND) // TRAINING_ROWS)], np.float32)
        drawn = drawn[drawn.any(axis=1)]
        mean = drawn.mean(axis=0, dtype=np.float64) if len(drawn) else np.zeros(rows_ND.shape[1])
        return cls(mean.astype(np.float32))

    @property
    def bytes(self) -> int:
        """W."""
        return -(-len(self.mean_D) // 64) * 8

    def encode(self, rows_nD: NDArray[np.floating]) -> Codes:
        """uint8 [n, W]."""
        codes = np.zeros((len(rows_nD), self.bytes), np.uint8)
        packed = np.packbits(np.asarray(rows_nD, np.float32) > self.mean_D, axis=1)
        codes[:, : packed.shape[1]] = packed
        return codes


def candidates_of(k: int) -> int:
    """R for K answers."""
    return max(CANDIDATES, SHARE * k)


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
    if all_alive and importlib.util.find_spec("faiss") is not None:
        return np.sort(nearest_codes(codes_NW, queries_QW, count), axis=1)
    apart = np.empty(n, np.uint16)
    for query, code in enumerate(queries_QW.view(np.uint64)):
        for first in range(0, n, BLOCK):
            part = slice(first, first + BLOCK)
            block = np.ascontiguousarray(codes_NW[part]).view(np.uint64)
            apart[part] = np.bitwise_count(block ^ code).sum(axis=1, dtype=np.uint16)
        if not all_alive and alive_N is not None:
            apart[~alive_N] = np.iinfo(np.uint16).max
        limit = np.partition(apart, count - 1)[count - 1]
        sure = np.flatnonzero(apart < limit)
        ties = np.flatnonzero(apart == limit)[: count - len(sure)]
        places[query] = np.sort(np.concatenate([sure, ties]))
    return places
