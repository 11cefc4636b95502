"""SelaVPR++ (Lu et al., TPAMI 2025): a projected GeM for the descriptor, and binary codes for a first pass.

Shapes: N photos, D channels, L patches.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dejavlad.aggregation.functional import generalized_mean
from dejavlad.aggregation.head import Head


class SelaVPRpp(Head):
    """A linear layer, unit length, the generalised mean, and a linear layer again.

    Args:
        dim: D.
        dims: numbers of the descriptor.
        bits: give signs in place of numbers: +1 and -1, over the square root of `dims`, so that distances
            between descriptors are ranked as Hamming distances between codes.

    Raises:
        InputError: a size below 1.
    """

    name = "selavprpp"
    grid = False

    def __init__(self, dim: int, dims: int = 2048, *, bits: bool = False) -> None:
        super().__init__(dim, "SelaVPR++", numbers=dims, dims=dims, bits=bool(bits))
        self.bits = bool(bits)
        self.before = nn.Linear(dim, dim)
        self.p = nn.Parameter(torch.tensor([3.0]))
        self.after = nn.Linear(dim, dims)

    def head(self, feat_NDL: Tensor) -> Tensor:
        """Descriptors [N, dims], +1 or -1 with `bits`; not yet of unit length."""
        local_NLD = F.normalize(self.before(feat_NDL.transpose(1, 2)), dim=2)
        projected_Nd: Tensor = self.after(generalized_mean(local_NLD.transpose(1, 2), self.p))
        if self.bits:
            return torch.where(projected_Nd >= 0, 1.0, -1.0).to(projected_Nd.dtype)
        return projected_Nd
