"""Patches of a query matched with those of candidates: mutual nearest neighbours.

Shapes: C candidates, P patches of the query, R patches of a candidate, D numbers a descriptor, M matches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dejavlad.errors import InputError
from dejavlad.numerics.int8 import has_int8_matmul
from dejavlad.patches import PatchSet
from dejavlad.rerank.coarse import CoarseDescriptors, stands_for
from dejavlad.rerank.tensor_cache import tensor_cache
from dejavlad.rerank.whole import LIKELY, QuantizedDescriptors
from dejavlad.rerank.whole import mutual as mutual_whole
from dejavlad.rerank.workers import parallel_map

BLOCK = 1 << 27
"""Similarities (numbers) that an accelerator holds at a time."""
_UNLIKE = "patches of {} and {} dimensions cannot be matched; were they made by one model?"


@dataclass(frozen=True, slots=True, eq=False)
class PatchMatch:
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

    def __call__(self, query: PatchSet, candidates: Sequence[PatchSet]) -> list[PatchMatch]:
        """One match for each candidate."""


@runtime_checkable
class ApproximateMatcher(Matcher, Protocol):
    """A matcher that can also tell cheaply what its scores will be about."""

    def approximate(self, query: PatchSet, candidates: Sequence[PatchSet], dims: int) -> NDArray[np.float64]:
        """Scores [C], from the first so many dimensions of the descriptors."""


@dataclass(frozen=True, slots=True, eq=False)
class Mutual:
    """Mutual nearest neighbours of a query and B candidates whose patches have one shape."""

    nearest_BR: Tensor
    """int64 [B, R]: for each patch of a candidate, the nearest of the query; of no meaning where it is not
    mutual."""
    mutual_BR: Tensor
    """bool [B, R]: whether that one's nearest is this."""
    stands_for: float = 1.0
    """Patches of a candidate that each one stands for, where the others were left out."""

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
        raise InputError(_UNLIKE.format(query_PD.shape[1], candidates_BRD.shape[2]))
    similarity_BRP = torch.matmul(candidates_BRD, query_PD.T)
    nearest_BR = similarity_BRP.argmax(dim=2)
    back_BP = similarity_BRP.argmax(dim=1)
    rows_R = torch.arange(candidates_BRD.shape[1], device=nearest_BR.device)
    return Mutual(nearest_BR, back_BP.gather(1, nearest_BR) == rows_R)


def mutual_groups(
    query: PatchSet, candidates: Sequence[PatchSet], dims: int | None = None
) -> Iterator[tuple[list[PatchSet], Mutual]]:
    """Candidates in their order, neighbours of one shape at a time, and their mutual matches.

    The products are taken on the query's device: on a processor candidate by candidate, in float32 at least
    or as sure as that (`dejavlad.rerank.whole`); elsewhere many at a time in the query's own type, and
    nothing waits for the device.

    Args:
        query: patches of one size.
        candidates: of the same size.
        dims: match approximately, by the first so many dimensions (as `dejavlad.rerank.coarse` does); None
            matches exactly.

    Raises:
        InputError: the patches are of another size or other dimensions than the query's.
    """
    match_all = _each(query, dims) if query.descriptors.device.type == "cpu" else _together(query, dims)
    own = query.descriptors.shape[1]
    for (_, size, width), group in groupby(
        candidates, lambda candidate: (candidate.grid, candidate.size, candidate.descriptors.shape[1])
    ):
        if size != query.size:
            raise InputError(f"patches of {query.size} and {size} cells cannot be matched with each other")
        if width != own:
            raise InputError(_UNLIKE.format(own, width))
        alike = list(group)
        yield alike, match_all(alike)


def _each(query: PatchSet, dims: int | None) -> Callable[[Sequence[PatchSet]], Mutual]:
    """What matches candidates one by one on the processor."""
    dtype = torch.promote_types(query.descriptors.dtype, torch.float32)
    query_PD = query.descriptors.detach().to(dtype)
    coarse = None if dims is None else CoarseDescriptors(query_PD, dims)
    sure = coarse is None and dtype == torch.float32 and has_int8_matmul()
    rounded = tensor_cache(query.descriptors, QuantizedDescriptors, QuantizedDescriptors) if sure else None

    def match_one(candidate: PatchSet) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        if coarse is not None:
            return coarse.mutual(candidate.descriptors, candidate.grid)
        pairs = None
        if rounded is not None and candidate.descriptors.device.type == "cpu":
            passing = partial(QuantizedDescriptors.passing, likely=LIKELY * rounded.peak)
            ways = QuantizedDescriptors, QuantizedDescriptors, passing
            pairs = mutual_whole(rounded, tensor_cache(candidate.descriptors, *ways))
        if pairs is None:
            candidate_RD = candidate.descriptors.detach().to(query_PD)
            pairs = next(mutual_nearest(query_PD, candidate_RD[None]).pairs())
        return pairs

    def match(alike: Sequence[PatchSet]) -> Mutual:
        nearest_BR = torch.zeros(len(alike), len(alike[0]), dtype=torch.int64)
        mutual_BR = torch.zeros(len(alike), len(alike[0]), dtype=torch.bool)
        for b, (query_M, candidate_M) in enumerate(parallel_map(match_one, alike)):
            nearest_BR.numpy()[b, candidate_M], mutual_BR.numpy()[b, candidate_M] = query_M, True
        return Mutual(nearest_BR, mutual_BR, 1.0 if coarse is None else stands_for(alike[0].grid))

    return match


def _together(query: PatchSet, dims: int | None) -> Callable[[Sequence[PatchSet]], Mutual]:
    """What matches many candidates at a time on an accelerator."""
    dtype = query.descriptors.dtype if dims is None else torch.float16
    query_PD = query.descriptors.detach()[:, :dims].to(dtype)

    def match(alike: Sequence[PatchSet]) -> Mutual:
        at_a_time = max(1, BLOCK // (len(query) * len(alike[0])))
        parts = []
        for start in range(0, len(alike), at_a_time):
            block = [patches.descriptors.detach()[:, :dims] for patches in alike[start : start + at_a_time]]
            moved = [block_RD.to(query_PD.device, dtype, non_blocking=True) for block_RD in block]
            parts.append(mutual_nearest(query_PD, torch.stack(moved)))
        return Mutual(
            torch.cat([part.nearest_BR for part in parts]), torch.cat([part.mutual_BR for part in parts])
        )

    return match


def centres(alike: Sequence[PatchSet]) -> NDArray[np.float32]:
    """[B, R, 2]: centres of the patches of B candidates of one shape, brought over at once."""
    if alike[0].centres.device.type == "cpu":
        return np.stack([patches.centres.numpy() for patches in alike])
    return np.asarray(torch.stack([patches.centres for patches in alike]).cpu().numpy())
