"""What every aggregation is: a feature map [N, D, H, W] becomes one unit vector a photo.

Shapes: N photos, D channels, L = H*W locations.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dejavlad.aggregation.functional import EPSILON_RULES, EpsilonRule, l2_normalize_whole
from dejavlad.errors import InputError, UnknownNameError

Floats = NDArray[np.floating[Any]]


class Aggregation(nn.Module):
    """Base of the aggregations.

    The arithmetic is in float32 (float64 for float64 features) whatever the feature map's type is, also under
    ``torch.autocast``. The order of locations does not matter, except for heads that look at the grid, and
    photos of a batch do not touch each other, except where `alone` is false.

    Args:
        dim: D, channels of the feature map.
        epsilon: see `dejavlad.aggregation.functional.EpsilonRule`.
    """

    name: ClassVar[str]
    """Its name in the table of aggregations."""
    needs_fitting: ClassVar[bool] = False
    """Whether clusters must be learnt from photos (``initialise``) before the descriptors mean anything."""
    needs_training: ClassVar[bool] = False
    """Whether it is a network of its own, whose descriptors mean nothing before it is trained."""
    reduces: ClassVar[bool] = False
    """Whether it is a large part of all work, so that it computes in bfloat16 where the backbone does."""
    leading: ClassVar[int] = 0
    """Tokens before the patches (1: the class token) that the feature map must hold: [N, D, 1 + H*W, 1]."""

    def __init__(self, dim: int, *, epsilon: EpsilonRule = "matconvnet") -> None:
        super().__init__()
        if dim < 1:
            raise InputError(f"an aggregation needs at least 1 channel; given dim={dim}")
        if epsilon not in EPSILON_RULES:
            raise UnknownNameError("epsilon rule", str(epsilon), EPSILON_RULES)
        self.dim = int(dim)
        self.epsilon: EpsilonRule = epsilon

    @property
    def descriptor_size(self) -> int:
        """Length of one photo's descriptor, in numbers."""
        return self.dim

    @property
    def alone(self) -> bool:
        """Whether a descriptor is of its photo alone, and not of the photos beside it in the batch."""
        return True

    @property
    def least_locations(self) -> int:
        """The smallest number of locations, H*W, that a photo must have."""
        return 1

    @property
    def fixed_grid(self) -> tuple[int, int] | None:
        """The only (H, W) that it takes; None where it takes any."""
        return None

    @property
    def options(self) -> dict[str, Any]:
        """What the constructor needs beside `dim` to build the layer anew; what is learnt is not among it."""
        return {"epsilon": self.epsilon}

    def prepare(self, feat_NDL: Tensor) -> Tensor:
        """Local features [N, D, L] as the aggregation itself takes them: here unchanged."""
        return feat_NDL

    def aggregate(self, feat_NDL: Tensor) -> Tensor:
        """[N, descriptor_size] from prepared local features; not yet of unit length."""
        raise NotImplementedError

    def initialise(self, centres_KD: Floats, samples_MD: Floats) -> object:
        """Set what is learnt from photos: clusters, from centres and samples of `local_features`.

        Raises:
            InputError: they do not fit, or this aggregation learns nothing.
        """
        raise InputError(f"{type(self).__name__} has no clusters to set")

    def local_features(self, feat_NDHW: Tensor) -> Tensor:
        """What clusters are learnt from: float32 [N, L, D], normalised if the layer does that first."""
        with _no_autocast(feat_NDHW):
            return self.prepare(self._locations(feat_NDHW)).transpose(1, 2)

    def forward(self, feat_NDHW: Tensor) -> Tensor:
        """Descriptors of feature maps.

        Args:
            feat_NDHW: [N, D, H, W] of any floating type, at least one location.

        Returns:
            float32 [N, descriptor_size], of unit length (zero where nothing was seen).

        Raises:
            InputError: another shape.
        """
        with _no_autocast(feat_NDHW):
            descriptors = self.aggregate(self.prepare(self._locations(feat_NDHW)))
            return l2_normalize_whole(descriptors, rule=self.epsilon)

    def _locations(self, feat_NDHW: Tensor) -> Tensor:
        if feat_NDHW.ndim != 4 or feat_NDHW.shape[1] != self.dim or 0 in feat_NDHW.shape[2:]:
            raise InputError(
                f"{type(self).__name__} takes feature maps [N, {self.dim}, H, W]; "
                f"given {list(feat_NDHW.shape)}"
            )
        return feat_NDHW.flatten(2).to(torch.promote_types(feat_NDHW.dtype, torch.float32))


def _no_autocast(like: Tensor) -> torch.autocast:
    return torch.autocast(like.device.type, enabled=False)
