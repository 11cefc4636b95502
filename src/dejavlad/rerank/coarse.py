"""Approximate mutual nearest neighbours: of every second patch, by the first dimensions, as 8-bit numbers.

A whitened descriptor's first dimensions are its surest, neighbouring patches overlap, and whole numbers
multiply several times faster than float32 and are read from a small part of the memory. What comes of it
chooses what is worth matching exactly.

Shapes: P patches of the query, R of a candidate, r of them used; D numbers a descriptor, d of them used.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from dejavlad.numerics.int8 import has_int8_matmul
from dejavlad.rerank.tensor_cache import tensor_cache
from dejavlad.rerank.whole import product, quantize

LEAST = 8
"""Dimensions below which the product of whole numbers is not to be relied on."""
FEW = 400
"""Patches of a candidate up to which none is left out."""

Rows = NDArray[np.int64]


class CoarseDescriptors:
    """Descriptors of a query's patches, made coarse once for all candidates.

    Args:
        descriptors_PD: of any floating type, on the processor.
        dims: of them, those used; all, where there are fewer.
    """

    def __init__(self, descriptors_PD: Tensor, dims: int) -> None:
        self.dims = min(dims, descriptors_PD.shape[1])
        self.whole = self.dims >= LEAST and has_int8_matmul()
        self.coarse_Pd = self._quantized(descriptors_PD)

    def mutual(self, candidate_RD: Tensor, grid: tuple[int, int]) -> tuple[Rows, Rows]:
        """About the mutual nearest neighbours of a candidate with so many rows and columns of patches.

        Returns:
            The matching rows [M] of the query and of the candidate, no patch of the query twice.
        """
        used_r = _used(grid)
        coarse_rd = tensor_cache(
            candidate_RD,
            (CoarseDescriptors, self.dims, self.whole, grid),
            lambda rows_RD: self._quantized(rows_RD.detach()[:, : self.dims].index_select(0, used_r)),
        )
        similarity_rP: NDArray[np.float32] | NDArray[np.int32]
        if self.whole:
            similarity_rP = product(coarse_rd, self.coarse_Pd.T)
        else:
            similarity_rP = torch.mm(coarse_rd, self.coarse_Pd.T).numpy()
        nearest_r = similarity_rP.argmax(axis=1)
        best_r = similarity_rP[np.arange(len(nearest_r)), nearest_r]
        # Comparing values finds the mutual ones without a second argmax, down the columns, which is slow.
        candidate_M = np.flatnonzero(best_r == similarity_rP.max(axis=0)[nearest_r])
        query_M, first_M = np.unique(nearest_r[candidate_M], return_index=True)
        return query_M, used_r.numpy()[candidate_M[first_M]]

    def _quantized(self, descriptors_PD: Tensor) -> Tensor:
        """[P, d]: int8 where whole numbers are multiplied."""
        part_Pd = F.normalize(descriptors_PD.detach()[:, : self.dims].to("cpu", torch.float32))
        if not self.whole:
            return part_Pd
        least, most = torch.aminmax(part_Pd)  # one scale for all: products stay comparable
        whole_Pd = np.empty(part_Pd.shape, np.int8)
        quantize(part_Pd, max(-float(least), float(most), 1e-12), whole_Pd)
        return torch.from_numpy(whole_Pd)


def stands_for(grid: tuple[int, int]) -> float:
    """How many patches of a candidate each one used stands for."""
    return grid[0] * grid[1] / len(_used(grid))


@cache
def _used(grid: tuple[int, int]) -> Tensor:
    """int64 [r]: rows of the patches that count, those of one colour of a chessboard."""
    rows_R = torch.arange(grid[0] * grid[1])
    return rows_R if len(rows_R) <= FEW else rows_R[(rows_R // grid[1] + rows_R % grid[1]) % 2 == 0]
