"""Pooling of each channel over the photo: its maximum, its average, or the generalised mean between them.

Shapes: N photos, D channels, L locations.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dejavlad.aggregation.base import Aggregation
from dejavlad.aggregation.functional import EpsilonRule, generalized_mean
from dejavlad.errors import InputError


class MaxPool(Aggregation):
    """The maximum of each channel: equivalent to ``layerTotalMaxPool.m`` and ``postL2``."""

    name = "max"

    def aggregate(self, feat_NDL: Tensor) -> Tensor:
        """[N, D]."""
        return feat_NDL.amax(dim=2)


class AvgPool(Aggregation):
    """The average of each channel: equivalent to ``layerTotalAvgPool.m`` and ``postL2``."""

    name = "avg"

    def aggregate(self, feat_NDL: Tensor) -> Tensor:
        """[N, D]."""
        return feat_NDL.mean(dim=2)


class GeM(Aggregation):
    """The generalised mean of each channel (Radenović et al., TPAMI 2019).

    Features below 1e-6, so also all negative ones, count as 1e-6.

    Args:
        dim: D, channels of the feature map.
        p: exponent at the start, learnt in training; 1 is the average of the positive part, large values
            approach the maximum.
        epsilon: see `functional.EpsilonRule`.

    Raises:
        InputError: p is not positive.
    """

    name = "gem"

    def __init__(self, dim: int, p: float = 3.0, *, epsilon: EpsilonRule = "matconvnet") -> None:
        super().__init__(dim, epsilon=epsilon)
        if not p > 0:
            raise InputError(f"GeM needs a positive exponent; given p={p}")
        self.p = nn.Parameter(torch.tensor([float(p)]))

    def aggregate(self, feat_NDL: Tensor) -> Tensor:
        """[N, D]."""
        return generalized_mean(feat_NDL, self.p)
