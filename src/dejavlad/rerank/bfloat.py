"""Mutual nearest neighbours on processors with bfloat16 arithmetic: those of float32, for less work.

The products are taken in bfloat16 first. How far off one can be is bounded; only where that leaves open which
neighbour is nearest, the few products in question are taken again in float32. Products closer than float32's
own rounding (1e-8) may still fall out either way, as they do between two libraries.

Shapes: P patches of the query, R of a candidate, D numbers a descriptor, E products taken again.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

HALF_ULP = 2.0**-8
"""Twice the largest relative error of rounding to bfloat16: that of a product of two rounded numbers."""
CERTAINTY = 6.0
"""Bounds hold but for a share of 2·exp(-CERTAINTY²/2) = 3e-8 of the products (Hoeffding's inequality)."""
RETRY = 12
"""Products taken again at most, for each patch; where more are in question, all are taken in float32."""

Rows = NDArray[np.int64]


@cache
def has_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16 itself, rather than imitating it slowly."""
    told = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(ask is not None and ask() for ask in told)


class Rounded:
    """Descriptors of a query's patches, rounded once for all candidates.

    Args:
        descriptors_PD: float32 on the processor.
    """

    def __init__(self, descriptors_PD: Tensor) -> None:
        self.exact_PD = descriptors_PD
        self.rounded_PD = descriptors_PD.bfloat16()
        self.spread = _spread(descriptors_PD)

    def mutual(self, candidate_RD: Tensor) -> tuple[Rows, Rows] | None:
        """Mutual nearest neighbours of a candidate.

        Rounding errors of the D terms of a product are independent and at most `HALF_ULP` of a term, so their
        sum exceeds ``CERTAINTY * HALF_ULP * (sum of the squared terms)**0.5`` next to never. Among neighbours
        equally near in float32 the first is taken.

        Args:
            candidate_RD: float32.

        Returns:
            The matching rows [M] of the query and of the candidate, ascending in the latter; None where too
            many are about equally near: the products are better taken in float32.
        """
        likeness_RP = torch.mm(candidate_RD.bfloat16(), self.rounded_PD.T).float().numpy()
        flat, (others, patches) = likeness_RP.ravel(), likeness_RP.shape
        # Two products that may be equal are two errors apart, and the result itself is rounded too.
        apart = 2 * CERTAINTY * HALF_ULP * self.spread * _spread(candidate_RD)
        best_R, best_P = likeness_RP.max(axis=1), likeness_RP.max(axis=0)
        near_R = np.flatnonzero(likeness_RP >= (best_R - apart - HALF_ULP * np.abs(best_R))[:, None])
        least_P = best_P - apart - HALF_ULP * np.abs(best_P)
        possible = near_R[flat[near_R] >= least_P[near_R % patches]]
        open_R, open_P = np.zeros(others, dtype=bool), np.zeros(patches, dtype=bool)
        open_R[possible // patches] = open_P[possible % patches] = True
        near_R = near_R[open_R[near_R // patches]]
        near_P = np.flatnonzero(likeness_RP >= np.where(open_P, least_P, np.inf))
        near_P = near_P[np.argsort(near_P % patches, kind="stable")]
        if len(near_R) + len(near_P) > RETRY * (others + patches):
            return None
        again = np.zeros(likeness_RP.shape, dtype=bool).ravel()
        again[near_R[_contested(near_R // patches)]] = again[near_P[_contested(near_P % patches)]] = True
        asked = np.flatnonzero(again)
        flat[asked] = self._products(candidate_RD, asked // patches, asked % patches)
        mutual = np.intersect1d(
            near_R[_first_best(flat[near_R], near_R // patches)],
            near_P[_first_best(flat[near_P], near_P % patches)],
            assume_unique=True,
        )
        return mutual % patches, mutual // patches

    def _products(self, candidate_RD: Tensor, there_E: Rows, here_E: Rows) -> NDArray[np.float32]:
        """Products of single pairs in float32."""
        found_E = np.empty(len(there_E), dtype=np.float32)
        step = max(1, (1 << 18) // candidate_RD.shape[1])  # what fits a cache
        query_PD, other_RD = self.exact_PD.numpy(), candidate_RD.numpy()
        for start in range(0, len(there_E), step):
            part = slice(start, start + step)
            np.einsum("ed,ed->e", other_RD[there_E[part]], query_PD[here_E[part]], out=found_E[part])
        return found_E


def _spread(descriptors_PD: Tensor) -> float:
    """The largest 4-norm of a row; the root of the sum of squared terms is at most the product of two."""
    return math.sqrt(float(descriptors_PD.square().norm(dim=1).max()))


def _contested(group_E: Rows) -> NDArray[np.bool_]:
    """Which members of sorted groups are not alone in theirs."""
    same = group_E[1:] == group_E[:-1]
    return np.asarray(np.append(same, False) | np.append(False, same))


def _first_best(value_E: NDArray[np.float32], group_E: Rows) -> Rows:
    """Where the first largest of each group is, those being sorted by group."""
    if not len(group_E):
        return group_E
    begins_E = np.append(True, group_E[1:] != group_E[:-1])
    start_G = np.flatnonzero(begins_E)
    best_E = np.maximum.reduceat(value_E, start_G)[np.cumsum(begins_E) - 1]
    at = np.flatnonzero(value_E == best_E)
    return np.asarray(at[np.append(True, group_E[at][1:] != group_E[at][:-1])])
