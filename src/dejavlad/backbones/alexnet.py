"""AlexNet as torchvision has it (Krizhevsky, arXiv 1404.5997): one tower, no local response normalisation.

The CaffeNet of the NetVLAD paper is another network (two groups, normalisation); it comes from its own file.
"""

from __future__ import annotations

from torch import nn

from dejavlad.backbones.base import ChainBackbone

NAMES = (
    *("conv1", "relu1", "pool1"),
    *("conv2", "relu2", "pool2"),
    *("conv3", "relu3", "conv4", "relu4", "conv5", "relu5", "pool5"),
)


class AlexNet(ChainBackbone):
    """AlexNet with torchvision's keys, without its classifier.

    Args:
        cut: the last layer: ``conv5`` (before its ReLU), ``pool2``, ``features.10``.

    Raises:
        UnknownNameError: there is no such layer.
    """

    def __init__(self, cut: str = "conv5") -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(3, 64, 11, stride=4, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
        ]
        super().__init__(layers, NAMES, cut)
