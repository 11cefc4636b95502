"""Patches of a query matched with those of candidates: mutual nearest neighbours.

Shapes: C candidates, P patches of the query, R patches of a candidate, D numbers a descriptor, M matches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dejavlad.errors import InputError
from dejavlad.patches import PatchSet

BLOCK = 1 << 24
"""Similarities (numbers) that are held at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """How well two photos match at one size of patches."""

    score: float
    """Smaller is better; 0 where nothing matches."""
    query_points: NDArray[np.float32]
    """[M, 2]: centres of the query's patches that are inliers, x and y in pixels."""
    candidate_points: NDArray[np.float32]
    """[M, 2]: the patches of the candidate that they match."""
    homography: NDArray[np.float64] | None = None
    """[3, 3]: takes the candidate's points to the query's, where one was estimated and found."""


class Matcher(Protocol):
    """What compares a query's patches of one size with those of many candidates."""

    def __call__(self, query: PatchSet, candidates: Sequence[PatchSet]) -> list[Match]:
        """One match for each candidate."""


@dataclass(frozen=True, slots=True, eq=False)
class Mutual:
    """Mutual nearest neighbours of a query and B candidates whose patches have one shape."""

    nearest_BR: Tensor
    """int64 [B, R]: for each patch of a candidate, the nearest of the query."""
    mutual_BR: Tensor
    """bool [B, R]: whether that one's nearest is this."""

    def pairs(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """For each candidate, the matching rows [M] of the query and of it, ascending in the latter."""
        nearest_BR, mutual_BR = self.nearest_BR.cpu().numpy(), self.mutual_BR.cpu().numpy()
        for nearest_R, mutual_R in zip(nearest_BR, mutual_BR, strict=True):
            rows_M = np.flatnonzero(mutual_R)
            yield nearest_R[rows_M], rows_M


def mutual_nearest(query_PD: Tensor, candidates_BRD: Tensor) -> Mutual:
    """Mutual nearest neighbours by inner product.

    Equivalent to ``torch_nn`` with its mutual check in patchnetvlad/tools/patch_matcher.py; as all
    descriptors are of unit length, the largest product is the smallest distance.
    Among equals the first is taken.

    Args:
        query_PD: descriptors of the query's patches.
        candidates_BRD: descriptors of the patches of B candidates.

    Returns:
        Which of the query's patches is nearest to each of the candidates', and where that is mutual.

    Raises:
        InputError: their dimensions differ.
    """
    if query_PD.shape[1] != candidates_BRD.shape[2]:
        raise InputError(
            f"patches of {query_PD.shape[1]} and {candidates_BRD.shape[2]} dimensions cannot be matched; "
            "were they made by one model?"
        )
    likeness_BRP = torch.matmul(candidates_BRD, query_PD.T)
    nearest_BR = likeness_BRP.argmax(dim=2)
    back_BP = likeness_BRP.argmax(dim=1)
    rows_R = torch.arange(candidates_BRD.shape[1], device=nearest_BR.device)
    return Mutual(nearest_BR, back_BP.gather(1, nearest_BR) == rows_R)


def mutual_blocks(
    query: PatchSet, candidates: Sequence[PatchSet]
) -> Iterator[tuple[Sequence[PatchSet], Mutual]]:
    """Candidates in their order, neighbours of one shape at a time, and their mutual matches.

    The products are taken on the query's device, in float32 at least on a processor.

    Raises:
        InputError: the patches are of another size or other dimensions than the query's.
    """
    device = query.descriptors.device
    dtype = torch.promote_types(query.descriptors.dtype, torch.float32)
    if device.type != "cpu":
        dtype = query.descriptors.dtype
    query_PD = query.descriptors.to(dtype)
    for (grid, size, _), group in groupby(candidates, lambda of: (of.grid, of.size, of.descriptors.shape[1])):
        if size != query.size:
            raise InputError(f"patches of {query.size} and {size} cells cannot be matched with each other")
        alike = list(group)
        at_a_time = max(1, BLOCK // (len(query) * grid[0] * grid[1]))
        for start in range(0, len(alike), at_a_time):
            block = alike[start : start + at_a_time]
            block_BRD = torch.stack([of.descriptors.to(device, dtype) for of in block])
            yield block, mutual_nearest(query_PD, block_BRD)
