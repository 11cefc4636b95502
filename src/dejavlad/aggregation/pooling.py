"""Pooling of each channel over the photo: its maximum, its average, or the generalised mean between them.

Shapes: N photos, D channels, L locations.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dejavlad.aggregation.base import Aggregation
from dejavlad.aggregation.functional import EpsilonRule, generalized_mean, l2_normalize
from dejavlad.errors import InputError


class Pooling(Aggregation):
    """Base of the poolings: each channel by itself.

    Args:
        dim: D, channels of the feature map.
        normalize_input: bring local features to unit length first: ``preL2`` of the original's
            ``addLayers.m``, which it allows before any pooling (``max_preL2``, ``avg_preL2``).
        epsilon: see `functional.EpsilonRule`.
    """

    def __init__(
        self, dim: int, *, normalize_input: bool = False, epsilon: EpsilonRule = "matconvnet"
    ) -> None:
        super().__init__(dim, epsilon=epsilon)
        self.normalize_input = bool(normalize_input)

    @property
    def options(self) -> dict[str, Any]:
        """What the constructor needs beside `dim`.

        `normalize_input` is named only where it is on, so that models kept before it was known stay the same.
        """
        return super().options | ({"normalize_input": True} if self.normalize_input else {})

    def prepare(self, feat_NDL: Tensor) -> Tensor:
        """Local features [N, D, L], of unit length if the layer normalises its input (``preL2``)."""
        return l2_normalize(feat_NDL, dim=1, rule=self.epsilon) if self.normalize_input else feat_NDL


class MaxPool(Pooling):
    """The maximum of each channel: equivalent to ``layerTotalMaxPool.m`` and ``postL2``."""

    name = "max"

    def aggregate(self, feat_NDL: Tensor) -> Tensor:
        """One number for each channel, [N, D], of prepared local features [N, D, L]."""
        return feat_NDL.amax(dim=2)


class AvgPool(Pooling):
    """The average of each channel: equivalent to ``layerTotalAvgPool.m`` and ``postL2``."""

    name = "avg"

    def aggregate(self, feat_NDL: Tensor) -> Tensor:
        """One number for each channel, [N, D], of prepared local features [N, D, L]."""
        return feat_NDL.mean(dim=2)


class GeM(Pooling):
    """The generalised mean of each channel (Radenović et al., TPAMI 2019).

    Features below 1e-6, so also all negative ones, count as 1e-6.

    Args:
        dim: D, channels of the feature map.
        p: exponent at the start, learnt in training; 1 is the average of the positive part, large values
            approach the maximum.
        normalize_input: bring local features to unit length first (``preL2``).
        epsilon: see `functional.EpsilonRule`.

    Raises:
        InputError: p is not positive.
    """

    name = "gem"

    def __init__(
        self, dim: int, p: float = 3.0, *, normalize_input: bool = False, epsilon: EpsilonRule = "matconvnet"
    ) -> None:
        super().__init__(dim, normalize_input=normalize_input, epsilon=epsilon)
        if not p > 0:
            raise InputError(f"GeM needs a positive exponent; given p={p}")
        self.p = nn.Parameter(torch.tensor([float(p)]))

    def aggregate(self, feat_NDL: Tensor) -> Tensor:
        """One number for each channel, [N, D], of prepared local features [N, D, L]."""
        return generalized_mean(feat_NDL, self.p)
