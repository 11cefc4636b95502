"""VGG-16 and VGG-19 (Simonyan & Zisserman, ICLR 2015); 16 is the network of the (Patch-)NetVLAD papers."""

from __future__ import annotations

from torch import nn

from dejavlad.backbones.base import ChainBackbone

WIDTHS = (64, 128, 256, 512, 512)
"""Channels of each block; a pooling ends each."""


class VGG(ChainBackbone):
    """VGG with torchvision's keys (``features.0.weight`` ...), without its classifier.

    Args:
        convolutions: of each block.
        cut: the last layer: ``conv5_3`` (before its ReLU, as in NetVLAD), ``relu4_3``, ``features.28``.

    Raises:
        UnknownNameError: there is no such layer.
    """

    def __init__(self, convolutions: tuple[int, ...], cut: str) -> None:
        layers: list[nn.Module] = []
        names: list[str] = []
        channels = 3
        for block, (width, count) in enumerate(zip(WIDTHS, convolutions, strict=True), 1):
            for i in range(1, count + 1):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                names += [f"conv{block}_{i}", f"relu{block}_{i}"]
                channels = width
            layers.append(nn.MaxPool2d(2, 2))
            names.append(f"pool{block}")
        super().__init__(layers, names, cut)


class VGG16(VGG):
    """VGG-16, with 13 convolutions; arguments as of `VGG`."""

    def __init__(self, cut: str = "conv5_3") -> None:
        super().__init__((2, 2, 3, 3, 3), cut)


class VGG19(VGG):
    """VGG-19, with 16 convolutions; arguments as of `VGG`."""

    def __init__(self, cut: str = "conv5_4") -> None:
        super().__init__((2, 2, 4, 4, 4), cut)
