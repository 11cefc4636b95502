"""The whitening layer: a linear map learnt by principal components, then unit length.

Shapes: N photos, D dimensions given, d dimensions kept.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from dejavlad.errors import InputError


class LinearMap(Protocol):
    """What the layer is made from; `dejavlad.numerics.Pca` is one."""

    @property
    def weight(self) -> NDArray[np.float64]:
        """The matrix W float64 [d, D], largest component first."""

    @property
    def bias(self) -> NDArray[np.float64]:
        """The vector b float64 [d]."""


class Whitening(nn.Module):
    """``W x + b``, brought to unit length: equivalent to the layers ``WPCA`` and ``finalL2`` of NetVLAD.

    Parameters are ``weight`` [d, D], largest component first, and ``bias`` [d].

    Args:
        in_dims: D.
        dims: d, at most D.

    Raises:
        InputError: a size that cannot be.
    """

    def __init__(self, in_dims: int, dims: int) -> None:
        super().__init__()
        if not 1 <= dims <= in_dims:
            raise InputError(f"whitening keeps 1 to {in_dims} of {in_dims} dimensions; given {dims}")
        self.in_dims, self.dims = int(in_dims), int(dims)
        self.weight = nn.Parameter(torch.zeros(self.dims, self.in_dims))
        self.bias = nn.Parameter(torch.zeros(self.dims))

    @classmethod
    def from_pca(cls, pca: LinearMap) -> Whitening:
        """The layer that applies principal components (rounded to float32)."""
        weight_dD = torch.from_numpy(np.array(pca.weight, dtype=np.float32))
        layer = cls(weight_dD.shape[1], weight_dD.shape[0])
        with torch.no_grad():
            layer.weight.copy_(weight_dD)
            layer.bias.copy_(torch.from_numpy(np.array(pca.bias, dtype=np.float32)))
        return layer

    def truncated(self, dims: int) -> Whitening:
        """A new layer that keeps the first `dims` components only."""
        if dims > self.dims:
            raise InputError(f"the whitening keeps {self.dims} dimensions; {dims} cannot be taken of them")
        layer = Whitening(self.in_dims, dims).to(self.weight.device)
        with torch.no_grad():
            layer.weight.copy_(self.weight[:dims])
            layer.bias.copy_(self.bias[:dims])
        return layer

    def forward(self, rows_ND: Tensor) -> Tensor:
        """[N, D] -> [N, d] of unit length, in the type of the weights also under autocast."""
        with torch.autocast(rows_ND.device.type, enabled=False):
            whitened_Nd = F.linear(rows_ND.to(self.weight.dtype), self.weight, self.bias)
            length_N1: Tensor = torch.linalg.vector_norm(whitened_Nd, dim=1, keepdim=True)
            return whitened_Nd / (length_N1 + 1e-12)
