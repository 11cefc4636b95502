"""NetVLAD as its paper writes it down first: the assignment follows from the centres and one sharpness.

Equation 2 of the NetVLAD paper (CVPR 2016), ``softmax_k(-alpha |x - c_k|^2)``, before weights, biases and
centres are set free from each other.

Shapes: N photos, D channels, L locations, K clusters.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dejavlad.aggregation import functional
from dejavlad.aggregation.base import Floats
from dejavlad.aggregation.functional import EpsilonRule
from dejavlad.aggregation.netvlad import UNFITTED_SHARPNESS, NetVLAD, VLADBase


class TiedNetVLAD(NetVLAD):
    """NetVLAD of version 2 whose weights and biases are tied to the centres: ``w_k = 2 alpha c_k``,
    ``b_k = -alpha |c_k|^2``.

    What is learnt is ``centroids`` [K, D] and ``alpha`` [1].

    Args:
        dim: D, channels of the feature map.
        clusters: K.
        normalize_input: bring local features to unit length first (``preL2``).
        intra_norm: bring each cluster's sum to unit length.
        epsilon: see `functional.EpsilonRule`.

    Raises:
        InputError: a size below 1.
    """

    name = "netvlad_tied"

    def __init__(
        self,
        dim: int,
        clusters: int = 64,
        *,
        normalize_input: bool = True,
        intra_norm: bool = True,
        epsilon: EpsilonRule = "matconvnet",
    ) -> None:
        # Not NetVLAD's own: it has weights.
        VLADBase.__init__(
            self, dim, clusters, normalize_input=normalize_input, intra_norm=intra_norm, epsilon=epsilon
        )
        self.version = 2
        self.alpha = nn.Parameter(torch.tensor([UNFITTED_SHARPNESS]))

    @property
    def options(self) -> dict[str, Any]:
        """The constructor's arguments besides `dim`, by name, as plain values."""
        return {key: value for key, value in super().options.items() if key != "version"}

    def assign(self, feat_NDL: Tensor) -> Tensor:
        """How much each prepared location belongs to each cluster: [N, K, L]."""
        weight_KD = 2 * self.alpha * self.centroids
        bias_K = -self.alpha * self.centroids.square().sum(dim=1)
        return functional.soft_assignment(feat_NDL, weight_KD, bias_K)

    def set_clusters(self, centres_KD: Floats, alpha: float) -> None:
        """Set all parameters from centres and a given sharpness (`initialise` finds a good one)."""
        with torch.no_grad():
            self.centroids.copy_(torch.from_numpy(self._centres(centres_KD)))
            self.alpha.fill_(alpha)
