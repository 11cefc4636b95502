"""VGG-16 (Simonyan & Zisserman, ICLR 2015), the network of the NetVLAD and Patch-NetVLAD papers."""

from __future__ import annotations

from torch import nn

from dejavlad.backbones.base import ChainBackbone

BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""(channels, convolutions) of each block; a pooling ends each."""


class VGG16(ChainBackbone):
    """VGG-16 with torchvision's keys (``features.0.weight`` ...), without its classifier.

    Args:
        cut: the last layer: ``conv5_3`` (before its ReLU, as in NetVLAD), ``relu4_3``, ``features.28``.

    Raises:
        UnknownNameError: there is no such layer.
    """

    def __init__(self, cut: str = "conv5_3") -> None:
        layers: list[nn.Module] = []
        names: list[str] = []
        channels = 3
        for block, (width, convolutions) in enumerate(BLOCKS, 1):
            for i in range(1, convolutions + 1):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                names += [f"conv{block}_{i}", f"relu{block}_{i}"]
                channels = width
            layers.append(nn.MaxPool2d(2, 2))
            names.append(f"pool{block}")
        super().__init__(layers, names, cut)
