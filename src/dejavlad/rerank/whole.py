"""Mutual nearest neighbours on processors that multiply whole numbers fast: those of float32, for less work.

The products are taken of descriptors rounded to 8 bits first. How far off one can be is bounded; only where
that leaves open which neighbour is nearest, the few products in question are taken again in float32. Products
closer than float32's own rounding (1e-8) may still fall out either way, as they do between two libraries.

Shapes: P patches of the query, R of a candidate, r of which are in question, D numbers a descriptor,
E products in question, M matches.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import NamedTuple

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
CHECKED = 64
"""Products taken again at least, where so many pairs may match: they show whether errors are as assumed..."""
TELLING = 16
"""...which fewer than so many do not."""
RETRY = 6
"""Products taken again at most, for each patch; where more are in question, all are taken in float32."""
SMALLEST = 1e-15
"""Photos whose largest number is below that are taken for blank; above its inverse squares overflow."""
ALIGNED = 16
"""Columns of a product come in multiples of so many numbers: others take a tenth more time."""
ROUNDED = 1 << 17
"""Numbers rounded at a time: each step finds them in the cache, where the step before left them."""
LIKELY = 1.1
"""Photos of one model have about the same largest number: so many times the query's is tried first..."""
COARSE = 1.5
"""...and is good enough where it is at most so many times the candidate's own."""

Rows = NDArray[np.int64]


def product(left_RD: Tensor, right_DP: Tensor) -> NDArray[np.int32]:
    """Matrix product [R, P] of int8 matrices, exactly; it holds until this thread's next one."""
    products_RP = scratch("product", (left_RD.shape[0], right_DP.shape[1]), np.int32)
    torch._int_mm(left_RD, right_DP, out=torch.from_numpy(products_RP))
    return products_RP


def quantize(descriptors_PD: Tensor, peak: float, whole_PD: NDArray[np.int8]) -> tuple[float, float]:
    """Descriptors in steps of ``peak / LARGEST``, written to `whole_PD`: of meaning where none is beyond.

    Returns:
        The length of the longest row, and the largest number: infinite or NaN where one of them is.
    """
    dims = descriptors_PD.shape[1]
    rows = max(1, ROUNDED // max(1, dims))
    longest, largest = [0.0], [0.0]
    for start in range(0, len(descriptors_PD), rows):
        part_rD = descriptors_PD[start : start + rows]
        if part_rD.dtype != torch.float32:
            part_rD = torch.from_numpy(scratch("exact", tuple(part_rD.shape), np.float32)).copy_(part_rD)
        exact_rD = part_rD.numpy()
        largest.append(cv2.norm(exact_rD, cv2.NORM_INF))
        with np.errstate(over="ignore", invalid="ignore"):
            longest.append(np.vecdot(exact_rD, exact_rD).max())
        # OpenCV scales, rounds and narrows in one pass, to numbers from 0; with the highest bit turned they
        # are those from -128.
        from_zero_rD = scratch("from zero", (len(exact_rD), dims), np.uint8)
        cv2.convertScaleAbs(exact_rD, from_zero_rD, alpha=LARGEST / peak, beta=128)
        np.bitwise_xor(from_zero_rD, 128, out=whole_PD[start : start + rows].view(np.uint8))
    return math.sqrt(np.max(longest)), float(np.max(largest))


class QuantizedDescriptors:
    """Descriptors of a photo's patches, rounded once for all comparisons.

    Args:
        descriptors_PD: of any floating type, on the processor.
        likely: what their largest number may be, above 0: where it is about that, they are read once only.
        whole_PD: int8 memory to round into; its own unless given.
    """

    def __init__(
        self, descriptors_PD: Tensor, likely: float = 1.0, whole_PD: NDArray[np.int8] | None = None
    ) -> None:
        kept = descriptors_PD.detach()
        self.exact_PD = (kept if kept.dtype == torch.float16 else kept.float()).contiguous()
        whole_PD = np.empty(kept.shape, np.int8) if whole_PD is None else whole_PD
        length, largest = quantize(self.exact_PD, likely, whole_PD)
        self.sensible = SMALLEST < largest < 1 / SMALLEST and math.isfinite(length)
        """Whether there is something to round by."""
        if self.sensible and not largest <= likely <= COARSE * largest:
            likely = largest
            quantize(self.exact_PD, likely, whole_PD)
        self.peak = likely
        """The number that is rounded to `LARGEST`."""
        self.whole_PD = torch.from_numpy(whole_PD)
        self.length = length * LARGEST / likely + math.sqrt(kept.shape[1]) / 2
        """Of a rounded row, at most."""

    @classmethod
    def passing(cls, descriptors_PD: Tensor, likely: float = 1.0) -> QuantizedDescriptors:
        """Those of a photo that is probably compared once: this thread's next call uses the memory again.

        Fetching new memory for them takes as long as the rounding.
        """
        return cls(descriptors_PD, likely, scratch("whole", tuple(descriptors_PD.shape), np.int8))

    def __len__(self) -> int:
        return len(self.exact_PD)

    @cached_property
    def columns_DP(self) -> Tensor:
        """int8 [D, P]: the rounded rows as columns, and columns of zeros up to a multiple of `ALIGNED`."""
        count, dims = self.whole_PD.shape
        columns_DP = torch.zeros(dims, -(-count // ALIGNED) * ALIGNED, dtype=torch.int8)
        columns_DP[:, :count] = torch.from_numpy(cv2.transpose(self.whole_PD.numpy()))
        return columns_DP


class Pairs(NamedTuple):
    """Pairs of patches that are about as near as the nearest."""

    row_E: Rows
    """Patches of the candidate."""
    column_E: Rows
    """Patches of the query."""
    value_E: NDArray[np.int32]
    """Products of their rounded descriptors."""
    both_E: NDArray[np.bool_]
    """Near the best of the row, and of the column."""

    def take(self, chosen: Rows | NDArray[np.bool_]) -> Pairs:
        """Some of them."""
        return Pairs(self.row_E[chosen], self.column_E[chosen], self.value_E[chosen], self.both_E[chosen])


def mutual(query: QuantizedDescriptors, candidate: QuantizedDescriptors) -> tuple[Rows, Rows] | None:
    """Mutual nearest neighbours of a query and a candidate.

    The errors of rounding are taken for independent and spread evenly over (-1/2, 1/2): those of the D terms
    of a product have the variance ``(|q|² + |c|²) / 12``, q and c being the rounded rows, and their sum
    exceeds `CERTAINTY` times its root next to never. Two products differ by two such sums. Numbers of few
    different values (normalised binary rows, say) have other errors, which the products taken again show.
    Among neighbours equally near in float32 the first is taken.

    Returns:
        The matching rows [M] of the query and of the candidate, ascending in the latter; None where the
        products are better taken in float32: too many are about equally near, or errors are not as assumed.
    """
    if not (query.sensible and candidate.sensible):
        return None
    off, most = CERTAINTY * math.hypot(query.length, candidate.length) / math.sqrt(12), RETRY * len(candidate)
    # One exact product of whole numbers screens all pairs; what follows keeps the few that may be nearest.
    products_RP = product(candidate.whole_PD, query.columns_DP)
    by_row, by_column = _near(products_RP, len(query), math.ceil(off * math.sqrt(2)))
    possible = by_row.take(by_row.both_E)
    if len(possible.row_E) > most:  # single pairs cost far more each than a float32 product of them all
        return None
    # A pair that is alone in its row and its column has won already: no product of it is taken again.
    alone_E = np.bincount(by_row.row_E)[possible.row_E] == 1
    alone_E &= np.bincount(by_column.column_E)[possible.column_E] == 1
    again = np.flatnonzero(~alone_E)
    if len(again) < CHECKED:
        again = np.append(again, np.flatnonzero(alone_E)[: CHECKED - len(again)])
    products_e = _products(query, candidate, possible.take(again))
    steps = (LARGEST / query.peak) * (LARGEST / candidate.peak)
    if not _errors_as_assumed(products_e * steps - possible.value_E[again], off / CERTAINTY):
        return None
    exact_E = np.full(len(alone_E), np.inf, dtype=np.float32)
    exact_E[again] = products_e
    exact_E[alone_E] = np.inf
    best = np.flatnonzero(_first_best(exact_E, possible.row_E) & _first_best(exact_E, possible.column_E))
    matches, exact_M = possible.take(best), exact_E[best]
    least_M = exact_M * steps - off
    won_M = _unbeaten(query, candidate, (by_row, by_column), matches, exact_M, least_M, most)
    return None if won_M is None else (matches.column_E[won_M], matches.row_E[won_M])


def _unbeaten(
    query: QuantizedDescriptors,
    candidate: QuantizedDescriptors,
    near: tuple[Pairs, Pairs],
    matches: Pairs,
    exact_M: NDArray[np.float32],
    least_M: NDArray[np.float32],
    most: int,
) -> NDArray[np.bool_] | None:
    """Which matches have no rival that is nearer; None where too many pairs may be.

    Rivals are near the best of the row or of the column only, but so that they may be nearer than the match:
    the products of their rounded descriptors are at least `least_M`.
    """
    at_R, at_P = (np.full(len(photo), -1) for photo in (candidate, query))
    at_R[matches.row_E] = at_P[matches.column_E] = np.arange(len(exact_M))
    least_M = np.append(least_M, np.inf)
    won_M = np.ones(len(exact_M), dtype=bool)
    for pairs, at_E in zip(near, (at_R[near[0].row_E], at_P[near[1].column_E]), strict=True):
        rival = np.flatnonzero(~pairs.both_E & (pairs.value_E >= least_M[at_E]))
        if len(rival) > most:
            return None
        rivals, at_E = pairs.take(rival), at_E[rival]
        ahead_E = _products(query, candidate, rivals) - exact_M[at_E]
        first_E = (rivals.row_E < matches.row_E[at_E]) | (rivals.column_E < matches.column_E[at_E])
        won_M[at_E[(ahead_E > 0) | (ahead_E == 0) & first_E]] = False
        least_M[:-1][~won_M] = np.inf  # what lost in its row has no rivals in its column
    return won_M


def _errors_as_assumed(error_E: NDArray[np.float32], deviation: float) -> bool:
    """Whether products differ from rounded ones by no more than errors of such a standard deviation do."""
    if len(error_E) < TELLING:
        return False
    most = 1 + CERTAINTY * math.sqrt(2 / len(error_E))
    # Of a photo compared with itself, both sides of a product have the same errors: twice the variance.
    return float(np.square(error_E / deviation).mean()) <= 2 * most


def _near(products_RP: NDArray[np.int32], patches: int, apart: int) -> tuple[Pairs, Pairs]:
    """Pairs whose products are at most so much below the best of their row, and of their column, row by row.

    Of rows only those count in which some pair is both; of columns, the first `patches`.
    """
    least_R = products_RP[:, :patches].max(axis=1) - apart
    least_P = products_RP.max(axis=0) - apart
    least_P[patches:] = np.iinfo(np.int32).max
    row_E, column_E = _at_least(products_RP, least_P)
    value_E = products_RP[row_E, column_E]
    by_column = Pairs(row_E, column_E, value_E, value_E >= least_R[row_E])
    open_r = np.flatnonzero(np.bincount(row_E[by_column.both_E]))
    part_rP = products_RP.take(
        open_r, 0, scratch("part", (len(open_r), products_RP.shape[1]), np.int32), "clip"
    )
    near_r, column_E = _at_least(part_rP, least_R[open_r, None])
    value_E = part_rP[near_r, column_E]
    by_row = Pairs(open_r[near_r], column_E, value_E, value_E >= least_P[column_E])
    return by_row.take(column_E < patches), by_column


def _at_least(products_RP: NDArray[np.int32], least: NDArray[np.int32]) -> tuple[Rows, Rows]:
    """Rows and columns of the few products that are at least as large as `least` ([R, 1] or [P])."""
    mask_RP = scratch("mask", products_RP.shape, np.bool_)
    np.greater_equal(products_RP, least, out=mask_RP)
    marked = np.flatnonzero(mask_RP.ravel().view(np.uint64) != 0)  # eight at a time
    near = np.flatnonzero(mask_RP.reshape(-1, 8)[marked])
    return np.divmod(marked[near // 8] * 8 + near % 8, products_RP.shape[1])


def _products(
    query: QuantizedDescriptors, candidate: QuantizedDescriptors, pairs: Pairs
) -> NDArray[np.float32]:
    """Products of single pairs in float32."""
    own_RD, row_E = _single(candidate.exact_PD, pairs.row_E)
    other_PD, column_E = _single(query.exact_PD, pairs.column_E)
    # These products are the gradient of an embedding bag's weights, which takes the rows where they lie.
    per_pair = torch.ops.aten._embedding_bag_per_sample_weights_backward
    return np.asarray(per_pair(own_RD, other_PD, column_E, row_E, row_E, 0).numpy())


def _single(rows_PD: Tensor, row_E: Rows) -> tuple[Tensor, Tensor]:
    """Rows in float32, and where each of E is among them."""
    if rows_PD.dtype == torch.float32:
        return rows_PD, torch.from_numpy(row_E)
    used, place_E = np.unique(row_E, return_inverse=True)
    return rows_PD[torch.from_numpy(used)].float(), torch.from_numpy(place_E)


def _first_best(value_E: NDArray[np.float32], group_E: Rows) -> NDArray[np.bool_]:
    """Which are the first largest of their group."""
    groups = group_E.max(initial=-1) + 1
    best_G, first_G = np.full(groups, -np.inf, dtype=np.float32), np.empty(groups, dtype=np.int64)
    np.maximum.at(best_G, group_E, value_E)
    last_first = np.flatnonzero(value_E == best_G[group_E])[::-1]
    first_G[group_E[last_first]] = last_first  # where some are equal, the last that is written stays
    return np.asarray(first_G[group_E] == np.arange(len(group_E)))
