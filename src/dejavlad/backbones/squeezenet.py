"""SqueezeNet 1.0 and 1.1 (Iandola et al., arXiv 1602.07360): a small network, quick without a GPU."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from dejavlad.backbones.base import ChainBackbone, Window, Windowed
from dejavlad.errors import UnknownNameError

FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
"""(squeezed, expanded) channels of fire2 to fire9."""
POOL_AFTER = {"1.0": (1, 4, 8), "1.1": (1, 3, 5)}
"""Poolings follow conv1 and these fires (numbered from 2 in the paper)."""


class Fire(Windowed):
    """Squeeze to few channels, expand by 1x1 and 3x3 side by side."""

    def __init__(self, channels: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.out_channels = 2 * expanded
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def windows(self) -> Iterator[Window]:
        """The window of its 3x3 convolution, the widest of its paths."""
        yield Window(3, padding=1)

    def forward(self, feat_NCHW: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, 2 * expanded, H, W], after a ReLU."""
        squeezed = self.squeeze(feat_NCHW).relu_()
        return torch.cat([self.expand1x1(squeezed), self.expand3x3(squeezed)], dim=1).relu_()


class SqueezeNet(ChainBackbone):
    """SqueezeNet with torchvision's keys, without its classifier; poolings round up, as in Caffe.

    Args:
        version: ``1.0``, or ``1.1`` with a smaller first layer and earlier poolings.
        cut: the last layer: ``fire8`` (``features.10`` of version 1.0), ``pool4``, ``features.12``.

    Raises:
        UnknownNameError: there is no such version or layer.
    """

    def __init__(self, version: str = "1.0", cut: str = "features.10") -> None:
        if version not in POOL_AFTER:
            raise UnknownNameError("version of SqueezeNet", version, POOL_AFTER)
        wide = version == "1.0"
        channels = 96 if wide else 64
        layers: list[nn.Module] = [nn.Conv2d(3, channels, 7 if wide else 3, stride=2), nn.ReLU(inplace=True)]
        names = ["conv1", "relu1"]
        for number, fire in enumerate((None, *FIRES), 1):
            if fire is not None:
                layers.append(Fire(channels, *fire))
                names.append(f"fire{number}")
                channels = 2 * fire[1]
            if number in POOL_AFTER[version]:
                layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
                names.append(f"pool{number}")
        super().__init__(layers, names, cut)
