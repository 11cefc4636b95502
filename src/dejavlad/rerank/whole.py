"""Mutual nearest neighbours on processors that multiply whole numbers fast: those of float32, for less work.

The products are taken of descriptors rounded to 8 bits first. How far off one can be is bounded; only where
that leaves open which neighbour is nearest, the few products in question are taken again in float32. Products
closer than float32's own rounding (1e-8) may still fall out either way, as they do between two libraries.

Shapes: P patches of the query, R of a candidate, D numbers a descriptor, E products taken again.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dejavlad.rerank.workers import scratch

LARGEST = 127
"""Whole numbers are -127 to 127: the same range to both sides."""
CERTAINTY = 6.0
"""Bounds hold but for a share of 2·exp(-CERTAINTY²/2) = 3e-8 of the products (Hoeffding's inequality)."""
RETRY = 6
"""Products taken again at most, for each patch; where more are in question, all are taken in float32."""
CACHED = 1 << 17
"""Numbers of a descriptor block that fit a processor's cache."""

Rows = NDArray[np.int64]


@cache
def multiplies_whole_numbers() -> bool:
    """Whether this processor multiplies 8-bit numbers itself, rather than imitating it slowly."""
    ask = getattr(torch.cpu, "_is_vnni_supported", None)
    return hasattr(torch, "_int_mm") and ask is not None and bool(ask())


def product(left_RD: Tensor, right_DP: Tensor) -> NDArray[np.int32]:
    """Matrix product [R, P] of int8 matrices, exactly; it holds until this thread's next one."""
    found_RP = scratch("product", (left_RD.shape[0], right_DP.shape[1]), np.int32)
    torch._int_mm(left_RD, right_DP, out=torch.from_numpy(found_RP))
    return found_RP


def to_whole(descriptors_PD: Tensor, peak: float) -> Tensor:
    """int8 [P, D]: descriptors whose largest number is `peak`, in steps of ``peak / LARGEST``.

    It holds until this thread rounds others.
    """
    shape = tuple(descriptors_PD.shape)
    scaled_PD = torch.from_numpy(scratch("scaled", shape, np.float32))
    torch.mul(descriptors_PD, LARGEST / peak, out=scaled_PD).round_()
    return torch.from_numpy(scratch("whole", shape, np.int8)).copy_(scaled_PD)


def at_least(likeness_RP: NDArray[np.int32], least: NDArray[np.int32]) -> Rows:
    """Where, row by row in one count, products are at least as large as asked for ([R, 1] or [P])."""
    mask_RP = scratch("mask", likeness_RP.shape, np.bool_)
    return np.flatnonzero(np.greater_equal(likeness_RP, least, out=mask_RP))


class Rounded:
    """Descriptors of a query's patches, rounded once for all candidates.

    Args:
        descriptors_PD: float32 on the processor.
    """

    def __init__(self, descriptors_PD: Tensor) -> None:
        self.exact_PD = descriptors_PD
        self.peak = _peak(descriptors_PD)
        if self.peak:
            self.whole_DP = to_whole(descriptors_PD, self.peak).T.contiguous()
            self.length = _longest(descriptors_PD, self.peak)

    def mutual(self, candidate_RD: Tensor) -> tuple[Rows, Rows] | None:
        """Mutual nearest neighbours of a candidate.

        The errors of rounding are taken for independent and spread evenly over (-1/2, 1/2): those of the D
        terms of a product have the variance ``(|q|² + |c|²) / 12``, q and c being the rounded rows, and their
        sum exceeds `CERTAINTY` times its root next to never. Two products differ by two such sums.
        Among neighbours equally near in float32 the first is taken.

        Args:
            candidate_RD: float32.

        Returns:
            The matching rows [M] of the query and of the candidate, ascending in the latter; None where too
            many are about equally near: the products are better taken in float32.
        """
        peak = _peak(candidate_RD)
        if not (peak and self.peak):
            return None
        likeness_RP = product(to_whole(candidate_RD, peak), self.whole_DP)
        others, patches = likeness_RP.shape
        apart = math.ceil(CERTAINTY * math.sqrt((self.length**2 + _longest(candidate_RD, peak) ** 2) / 6))
        least_R, least_P = likeness_RP.max(axis=1) - apart, likeness_RP.max(axis=0) - apart
        near_R = at_least(likeness_RP, least_R[:, None])
        # A row counts where something near its best is near the best of its column too.
        possible = near_R[likeness_RP.ravel()[near_R] >= least_P[near_R % patches]]
        open_R = np.zeros(others, dtype=bool)
        open_R[possible // patches] = True
        near_R = near_R[open_R[near_R // patches]]
        if len(near_R) > RETRY * others:
            return None
        best_R = self._best(candidate_RD, near_R, near_R // patches)
        open_P = np.zeros(patches, dtype=bool)
        open_P[best_R % patches] = True
        near_P = at_least(likeness_RP, np.where(open_P, least_P, np.iinfo(np.int32).max))
        if len(near_P) > RETRY * patches:
            return None
        near_P = near_P[np.argsort(near_P % patches, kind="stable")]
        best_P = self._best(candidate_RD, near_P, near_P % patches)
        mutual = np.intersect1d(best_R, best_P, assume_unique=True)
        return mutual % patches, mutual // patches

    def _best(self, candidate_RD: Tensor, near_E: Rows, group_E: Rows) -> Rows:
        """Of neighbours sorted by group, the first nearest of each."""
        same = group_E[1:] == group_E[:-1]
        contested = np.append(same, False) | np.append(False, same)
        asked = near_E[contested]
        likeness_E = np.zeros(len(near_E), dtype=np.float32)
        patches = len(self.exact_PD)
        likeness_E[contested] = self._products(candidate_RD, asked // patches, asked % patches)
        return near_E[_first_best(likeness_E, group_E)]

    def _products(self, candidate_RD: Tensor, there_E: Rows, here_E: Rows) -> NDArray[np.float32]:
        """Products of single pairs in float32."""
        found_E = np.empty(len(there_E), dtype=np.float32)
        step = max(1, CACHED // candidate_RD.shape[1])
        query_PD, other_RD = self.exact_PD.numpy(), candidate_RD.numpy()
        for start in range(0, len(there_E), step):
            part = slice(start, start + step)
            shape = len(found_E[part]), candidate_RD.shape[1]
            theirs = np.take(other_RD, there_E[part], 0, scratch("theirs", shape, np.float32), "clip")
            ours = np.take(query_PD, here_E[part], 0, scratch("ours", shape, np.float32), "clip")
            np.vecdot(theirs, ours, out=found_E[part])
        return found_E


def _peak(descriptors_PD: Tensor) -> float:
    """The largest number; 0 where rounding by it makes no sense."""
    least, most = torch.aminmax(descriptors_PD)
    peak = max(-float(least), float(most))
    return peak if 1e-30 < peak < math.inf else 0.0


def _longest(descriptors_PD: Tensor, peak: float) -> float:
    """The largest length that a row can have when rounded."""
    real = float(torch.linalg.vector_norm(descriptors_PD, dim=1).max()) * LARGEST / peak
    return real + math.sqrt(descriptors_PD.shape[1]) / 2


def _first_best(value_E: NDArray[np.float32], group_E: Rows) -> Rows:
    """Where the first largest of each group is, those being sorted by group."""
    if not len(group_E):
        return group_E
    begins_E = np.append(True, group_E[1:] != group_E[:-1])
    start_G = np.flatnonzero(begins_E)
    best_E = np.maximum.reduceat(value_E, start_G)[np.cumsum(begins_E) - 1]
    at = np.flatnonzero(value_E == best_E)
    return np.asarray(at[np.append(True, group_E[at][1:] != group_E[at][:-1])])
