"""MobileNet (Howard et al., arXiv 1704.04861) and MobileNetV2 (Sandler et al., CVPR 2018): small networks.

Version 2 has torchvision's keys; version 1, which torchvision lacks, is named alike. Keras's networks differ
from torchvision's in two ways, which `STYLES` tells.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn import functional as F

from dejavlad.backbones.base import ChainBackbone, Window, Windowed, windows
from dejavlad.errors import UnknownNameError

STYLES = {"torch": 1e-5, "keras": 1e-3}
"""What batch norms add to the variance. ``keras`` also pads where it halves the size at the bottom and on the
right only; ``torch`` pads all around."""
V1 = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
"""(channels, stride) of the pairs of convolutions of version 1."""
V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""(expansion, channels, blocks, stride of the first) of the stages of version 2."""


class EdgeConv2d(Windowed, nn.Conv2d):
    """A 3x3 convolution of stride 2 that pads at the bottom and on the right, as Keras does."""

    def windows(self) -> Iterator[Window]:
        """Its window: to begin within the photo is all that the last one must."""
        yield Window(3, 2, ceil=True)

    def forward(self, input: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, out_channels, H // 2, W // 2]."""
        return super().forward(F.pad(input, (0, 1, 0, 1)))


class InvertedResidual(Windowed):
    """Expand, filter each channel by itself, project; added to what came where both have the same shape."""

    def __init__(self, channels: int, made: int, stride: int, expansion: int, style: str) -> None:
        super().__init__()
        self.out_channels = made
        self.adds = stride == 1 and channels == made
        inner = channels * expansion
        layers: list[nn.Module] = [_convolved(channels, inner, 1, style=style)] if expansion != 1 else []
        layers += [
            _convolved(inner, inner, 3, stride, inner, style=style),
            nn.Conv2d(inner, made, 1, bias=False),
            nn.BatchNorm2d(made, eps=STYLES[style]),
        ]
        self.conv = nn.Sequential(*layers)

    def windows(self) -> Iterator[Window]:
        """The windows of the block's convolutions, in the order in which photos pass them."""
        return windows(self.conv)

    def forward(self, feat_NCHW: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, out_channels, H', W']."""
        out_NCHW: Tensor = self.conv(feat_NCHW)
        return feat_NCHW + out_NCHW if self.adds else out_NCHW


class MobileNetV1(ChainBackbone):
    """MobileNet, without its classifier.

    Args:
        cut: the last layer, after its ReLU: ``conv1``, ``conv_dw_6`` or ``conv_pw_7`` (Keras's names), or
            ``features.14``.
        style: of `STYLES`.

    Raises:
        UnknownNameError: there is no such layer or style.
    """

    def __init__(self, cut: str = "conv_pw_11", style: str = "torch") -> None:
        _check(style)
        layers: list[nn.Module] = [_convolved(3, 32, 3, 2, style=style)]
        names = ["conv1"]
        channels = 32
        for i, (made, stride) in enumerate(V1, 1):
            layers += [
                _convolved(channels, channels, 3, stride, channels, style=style),
                _convolved(channels, made, 1, style=style),
            ]
            names += [f"conv_dw_{i}", f"conv_pw_{i}"]
            channels = made
        super().__init__(layers, names, cut)


class MobileNetV2(ChainBackbone):
    """MobileNetV2 with torchvision's keys, without its classifier.

    Args:
        cut: the last layer: ``block_9``, ``expanded_conv``, ``Conv_1`` (Keras's names), ``features.13``.
        style: of `STYLES`.

    Raises:
        UnknownNameError: there is no such layer or style.
    """

    def __init__(self, cut: str = "block_12", style: str = "torch") -> None:
        _check(style)
        layers: list[nn.Module] = [_convolved(3, 32, 3, 2, style=style)]
        channels = 32
        for expansion, made, count, first in V2:
            for i in range(count):
                layers.append(InvertedResidual(channels, made, 1 if i else first, expansion, style))
                channels = made
        layers.append(_convolved(channels, 1280, 1, style=style))
        names = ["Conv1", "expanded_conv", *(f"block_{i}" for i in range(1, len(layers) - 2)), "Conv_1"]
        super().__init__(layers, names, cut)


def _convolved(
    channels: int, made: int, kernel: int, stride: int = 1, groups: int = 1, *, style: str
) -> nn.Sequential:
    """Convolution, batch norm and a ReLU that ends at 6."""
    if stride == 2 and style == "keras":
        conv: nn.Conv2d = EdgeConv2d(channels, made, kernel, stride, groups=groups, bias=False)
    else:
        conv = nn.Conv2d(channels, made, kernel, stride, kernel // 2, groups=groups, bias=False)
    block = nn.Sequential(conv, nn.BatchNorm2d(made, eps=STYLES[style]), nn.ReLU6(inplace=True))
    block.out_channels = made  # type: ignore[assignment]
    return block


def _check(style: str) -> None:
    if style not in STYLES:
        raise UnknownNameError("style of MobileNet", str(style), STYLES)
