"""GeM with a linear layer behind: CosPlace (CVPR 2022), EigenPlaces (ICCV 2023), AP-GeM (ICCV 2019).

Shapes: N photos, D channels, L locations.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dejavlad.aggregation.functional import generalized_mean
from dejavlad.aggregation.head import Head
from dejavlad.errors import InputError


class ProjectedGeM(Head):
    """The generalised mean of each channel, then a linear layer.

    Args:
        dim: D.
        dims: numbers of the descriptor.
        p: exponent at the start.
        normalize_input: bring local features to unit length first (CosPlace and EigenPlaces do).

    Raises:
        InputError: a size below 1, or p is not positive.
    """

    name = "gem_linear"
    grid = False

    def __init__(self, dim: int, dims: int = 512, *, p: float = 3.0, normalize_input: bool = True) -> None:
        options = {"dims": dims, "normalize_input": bool(normalize_input)}
        super().__init__(dim, "GeM with a linear layer", numbers=dims, **options)
        if not p > 0:
            raise InputError(f"GeM needs a positive exponent; given p={p}")
        self.normalize_input = bool(normalize_input)
        self.p = nn.Parameter(torch.tensor([float(p)]))
        self.linear = nn.Linear(dim, dims)

    def head(self, feat_NDL: Tensor) -> Tensor:
        """Descriptors [N, dims], the linear layer's output; not yet of unit length."""
        if self.normalize_input:
            feat_NDL = F.normalize(feat_NDL, dim=1)
        projected_Nd: Tensor = self.linear(generalized_mean(feat_NDL, self.p))
        return projected_Nd
