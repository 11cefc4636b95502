"""Conv-AP (Ali-bey, Chaib-draa & Giguère, Neurocomputing 2022): fewer channels, averaged over quarters.

Written from the paper's formula. The average is taken first: it and the 1x1 convolution may change places.

Shapes: N photos, D channels, H x W cells.
"""

from __future__ import annotations

from torch import Tensor, nn

from dejavlad.aggregation.functional import mean_of_boxes
from dejavlad.aggregation.head import Head


class ConvAP(Head):
    """Conv-AP.

    Args:
        dim: D.
        channels: kept of D.
        side: the photo is averaged over side x side parts.

    Raises:
        InputError: a size below 1.
    """

    name = "convap"

    def __init__(self, dim: int, channels: int = 512, *, side: int = 2) -> None:
        super().__init__(dim, "Conv-AP", numbers=channels * side**2, channels=channels, side=side)
        self.side = side
        self.channel_pool = nn.Conv2d(dim, channels, 1)

    def head(self, feat_NDHW: Tensor) -> Tensor:
        """Descriptors [N, channels * side^2], channel by channel; not yet of unit length."""
        pooled_NDss: Tensor = self.channel_pool(mean_of_boxes(feat_NDHW, self.side))
        return pooled_NDss.flatten(1)
