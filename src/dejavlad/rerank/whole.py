"""Mutual nearest neighbours on processors that multiply whole numbers fast: those of float32, for less work.

The products are taken of descriptors rounded to 8 bits first. How far off one can be is bounded; only where
that leaves open which neighbour is nearest, the few products in question are taken again in float32. Products
closer than float32's own rounding (1e-8) may still fall out either way, as they do between two libraries.

Shapes: P patches of the query, R of a candidate, r of which are in question, D numbers a descriptor,
E products taken again.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
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
SMALLEST = 1e-15
"""Photos whose largest number is below that are taken for blank; above its inverse squares overflow."""
CACHED = 1 << 17
"""Numbers of a descriptor block that fit a processor's cache."""
ROUNDED = 1 << 17
"""Numbers rounded at a time: each step finds them in the cache, where the step before left them."""

Rows = NDArray[np.int64]


def product(left_RD: Tensor, right_DP: Tensor) -> NDArray[np.int32]:
    """Matrix product [R, P] of int8 matrices, exactly; it holds until this thread's next one."""
    products_RP = scratch("product", (left_RD.shape[0], right_DP.shape[1]), np.int32)
    torch._int_mm(left_RD, right_DP, out=torch.from_numpy(products_RP))
    return products_RP


def quantize(descriptors_PD: Tensor, peak: float, whole_PD: NDArray[np.int8]) -> float:
    """Descriptors whose largest number is `peak`, in steps of ``peak / LARGEST``, written to `whole_PD`.

    Returns:
        The length in steps that no row was longer than.
    """
    rows = max(1, ROUNDED // max(1, descriptors_PD.shape[1]))
    exact_PD, longest = descriptors_PD.numpy(), 0.0
    for start in range(0, len(exact_PD), rows):
        part_rD = exact_PD[start : start + rows]
        longest = max(longest, float(np.vecdot(part_rD, part_rD).max()))
        # OpenCV scales, rounds and narrows in one pass, to numbers from 0; with the highest bit turned they
        # are those from -128.
        from_zero_rD = cv2.convertScaleAbs(part_rD, alpha=LARGEST / peak, beta=128)
        np.bitwise_xor(from_zero_rD, 128, out=whole_PD[start : start + rows].view(np.uint8))
    return math.sqrt(longest) * LARGEST / peak


def at_least(similarity_RP: NDArray[np.int32], least: NDArray[np.int32]) -> Rows:
    """Where, row by row in one count, products are at least as large as asked for ([R, 1] or [P])."""
    mask_RP = scratch("mask", similarity_RP.shape, np.bool_)
    return np.flatnonzero(np.greater_equal(similarity_RP, least, out=mask_RP))


class QuantizedDescriptors:
    """Descriptors of a photo's patches, rounded once for all comparisons.

    Args:
        descriptors_PD: of any floating type, on the processor.
        whole_PD: int8 memory to round into; its own unless given.
    """

    def __init__(self, descriptors_PD: Tensor, whole_PD: NDArray[np.int8] | None = None) -> None:
        descriptors_PD = descriptors_PD.detach()
        kept = descriptors_PD if descriptors_PD.dtype == torch.float16 else descriptors_PD.float()
        self.exact_PD: NDArray[np.floating[Any]] = kept.numpy()
        descriptors_PD = descriptors_PD.float()
        least, most = torch.aminmax(descriptors_PD)
        self.peak = max(-float(least), float(most))
        self.sensible = SMALLEST < self.peak < 1 / SMALLEST
        """Whether there is something to round by."""
        if self.sensible:
            whole_PD = np.empty(descriptors_PD.shape, np.int8) if whole_PD is None else whole_PD
            longest = quantize(descriptors_PD, self.peak, whole_PD)
            self.whole_PD = torch.from_numpy(whole_PD)
            self.length = longest + math.sqrt(descriptors_PD.shape[1]) / 2
            """Of a rounded row, at most."""

    @classmethod
    def passing(cls, descriptors_PD: Tensor) -> QuantizedDescriptors:
        """Those of a photo that is probably compared once: this thread's next call uses the memory again.

        Fetching new memory for them takes as long as the rounding.
        """
        return cls(descriptors_PD, scratch("whole", tuple(descriptors_PD.shape), np.int8))


def mutual(query: QuantizedDescriptors, candidate: QuantizedDescriptors) -> tuple[Rows, Rows] | None:
    """Mutual nearest neighbours of a query and a candidate.

    The errors of rounding are taken for independent and spread evenly over (-1/2, 1/2): those of the D terms
    of a product have the variance ``(|q|² + |c|²) / 12``, q and c being the rounded rows, and their sum
    exceeds `CERTAINTY` times its root next to never. Two products differ by two such sums.
    Among neighbours equally near in float32 the first is taken.

    Returns:
        The matching rows [M] of the query and of the candidate, ascending in the latter; None where too many
        are about equally near: the products are better taken in float32.
    """
    if not (query.sensible and candidate.sensible):
        return None
    # One exact product of whole numbers screens all pairs; what follows keeps the few that may be nearest.
    similarity_RP = product(candidate.whole_PD, query.whole_PD.T)
    others, patches = similarity_RP.shape
    apart = math.ceil(CERTAINTY * math.sqrt((query.length**2 + candidate.length**2) / 6))
    least_R, least_P = similarity_RP.max(axis=1) - apart, similarity_RP.max(axis=0) - apart
    near_P = at_least(similarity_RP, least_P)
    # A row counts where something near its best is near the best of its column too.
    possible = near_P[similarity_RP.ravel()[near_P] >= least_R[near_P // patches]]
    open_R = np.flatnonzero(np.bincount(possible // patches, minlength=others))
    part_rP = similarity_RP.take(open_R, 0, scratch("part", (len(open_R), patches), np.int32), "clip")
    near_r, near_E = np.divmod(at_least(part_rP, least_R[open_R, None]), patches)
    if len(near_E) > RETRY * others:  # single pairs cost far more each than a float32 product of them all
        return None
    best_R = _best(query, candidate, open_R[near_r] * patches + near_E, near_r)
    # Only columns that some row chose can be mutual: for the others the way back need not be settled.
    open_P = np.zeros(patches, dtype=bool)
    open_P[best_R % patches] = True
    near_P = near_P[open_P[near_P % patches]]
    if len(near_P) > RETRY * patches:
        return None
    near_P = near_P[np.argsort(near_P % patches, kind="stable")]
    best_P = _best(query, candidate, near_P, near_P % patches)
    both = np.intersect1d(best_R, best_P, assume_unique=True)
    return both % patches, both // patches


def _best(query: QuantizedDescriptors, candidate: QuantizedDescriptors, near_E: Rows, group_E: Rows) -> Rows:
    """Of neighbours sorted by group, the first nearest of each."""
    same = group_E[1:] == group_E[:-1]
    # A neighbour that is alone in its group has won already: no product of it is taken again.
    contested = np.append(same, False) | np.append(False, same)
    candidate_E, query_E = np.divmod(near_E[contested], len(query.exact_PD))
    similarity_E = np.zeros(len(near_E), dtype=np.float32)
    similarity_E[contested] = _products(candidate.exact_PD, query.exact_PD, candidate_E, query_E)
    return near_E[_first_best(similarity_E, group_E)]


def _products(
    other_RD: NDArray[np.floating[Any]], query_PD: NDArray[np.floating[Any]], candidate_E: Rows, query_E: Rows
) -> NDArray[np.float32]:
    """Products of single pairs in float32."""
    products_E = np.empty(len(candidate_E), dtype=np.float32)
    step = max(1, CACHED // other_RD.shape[1])
    for start in range(0, len(candidate_E), step):
        part = slice(start, start + step)
        theirs = _taken(other_RD, candidate_E[part], "theirs")
        np.vecdot(theirs, _taken(query_PD, query_E[part], "ours"), out=products_E[part])
    return products_E


def _taken(descriptors_PD: NDArray[np.floating[Any]], rows_E: Rows, use: str) -> NDArray[np.float32]:
    """Rows of descriptors in float32."""
    room = scratch(use, (len(rows_E), descriptors_PD.shape[1]), descriptors_PD.dtype)
    return np.take(descriptors_PD, rows_E, 0, room, "clip").astype(np.float32, copy=False)


def _first_best(value_E: NDArray[np.float32], group_E: Rows) -> Rows:
    """Where the first largest of each group is, those being sorted by group."""
    if not len(group_E):
        return group_E
    begins_E = np.append(True, group_E[1:] != group_E[:-1])
    start_G = np.flatnonzero(begins_E)
    best_E = np.maximum.reduceat(value_E, start_G)[np.cumsum(begins_E) - 1]
    at = np.flatnonzero(value_E == best_E)
    return np.asarray(at[np.append(True, group_E[at][1:] != group_E[at][:-1])])
