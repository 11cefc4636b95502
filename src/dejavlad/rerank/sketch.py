"""Mutual nearest neighbours roughly: by the first dimensions of descriptors, as numbers of 8 bits.

A whitened descriptor's first dimensions are its surest, and whole numbers multiply several times faster than
float32 and are read from a small part of the memory. What comes of it chooses what is worth matching exactly.

Shapes: P patches of the query, R of a candidate, D numbers a descriptor, d of them used.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from dejavlad.rerank.whole import multiplies_whole_numbers, product, to_whole

LEAST = 8
"""Dimensions below which the product of whole numbers is not to be relied on."""

Rows = NDArray[np.int64]


class Sketched:
    """Descriptors of a query's patches, sketched once for all candidates.

    Args:
        descriptors_PD: of any floating type, on the processor.
        dims: of them, those used; all, where there are fewer.
    """

    def __init__(self, descriptors_PD: Tensor, dims: int) -> None:
        self.dims = min(dims, descriptors_PD.shape[1])
        self.whole = self.dims >= LEAST and multiplies_whole_numbers()
        self.sketch_dP = self._sketch(descriptors_PD).T.contiguous()

    def mutual(self, candidate_RD: Tensor) -> tuple[Rows, Rows]:
        """About the mutual nearest neighbours of a candidate.

        Returns:
            The matching rows [M] of the query and of the candidate, no patch of the query twice.
        """
        sketch_Rd = self._sketch(candidate_RD)
        likeness_RP: NDArray[np.float32] | NDArray[np.int32]
        if self.whole:
            likeness_RP = product(sketch_Rd, self.sketch_dP)
        else:
            likeness_RP = torch.mm(sketch_Rd, self.sketch_dP).numpy()
        nearest_R = likeness_RP.argmax(axis=1)
        best_R = likeness_RP[np.arange(len(nearest_R)), nearest_R]
        there_M = np.flatnonzero(best_R == likeness_RP.max(axis=0)[nearest_R])
        here_M, first_M = np.unique(nearest_R[there_M], return_index=True)
        return here_M, there_M[first_M]

    def _sketch(self, descriptors_PD: Tensor) -> Tensor:
        """[P, d]: int8 where whole numbers are multiplied."""
        part_Pd = F.normalize(descriptors_PD[:, : self.dims].to("cpu", torch.float32))
        if not self.whole:
            return part_Pd
        least, most = torch.aminmax(part_Pd)  # one scale for all: products stay comparable
        return to_whole(part_Pd, max(-float(least), float(most), 1e-12))
