"""EfficientNet-Lite: EfficientNet (Tan & Le, ICML 2019) with ReLU6, without squeeze-and-excitation.

Keys are those of the published PyTorch weights (``_conv_stem``, ``_blocks.0._depthwise_conv``), which were
converted from TensorFlow's: so convolutions pad as TensorFlow's ``SAME`` does, and batch norms add 1e-3 to
the variance. Photos are prepared as ``(pixel - 127) / 128``.

Shapes: N photos, C channels, H x W cells.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from dejavlad.backbones.base import Backbone, Window, Windowed, windows
from dejavlad.errors import UnknownNameError

EPSILON = 1e-3
"""What batch norms add to the variance."""
STEM = 32
"""Channels of the first convolution, at every size."""
HEAD = 1280
"""Channels of the last one."""
STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
"""(expansion, channels, blocks, stride of the first, kernel) of the stages of EfficientNet-B0."""
SCALES = {0: (1.0, 1.0), 1: (1.0, 1.1), 2: (1.1, 1.2)}
"""Size -> by how much there are more channels, and more blocks; the first and last stage keep their one."""


@dataclass(frozen=True, slots=True)
class SameWindow(Window):
    """A window padded as TensorFlow does: every step that begins within the photo counts."""

    def out(self, side: int) -> int:
        """Cells along a side that has `side` before."""
        return -(-side // self.stride)


class SameConv2d(Windowed, nn.Conv2d):
    """A convolution padded as TensorFlow's ``SAME``: an odd cell goes below and on the right."""

    def windows(self) -> Iterator[Window]:
        """Its window; its offset is that of photos whose sides are multiples of the stride."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        yield SameWindow(kernel, stride, (kernel - stride) // 2 if stride > 1 else kernel // 2)

    def forward(self, input: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, out_channels, ceil(H / stride), ceil(W / stride)]."""
        if max(self.kernel_size) > 1:
            rows, columns = (  # in ONNX, `//` of a number below zero is another one
                ((side + step - 1) // step - 1) * step + kernel - side
                for side, kernel, step in zip(input.shape[2:], self.kernel_size, self.stride, strict=True)
            )
            input = F.pad(input, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
        return super().forward(input)


class MobileBlock(Windowed):
    """Expand, filter each channel by itself, project; added to what came where both have the same shape."""

    def __init__(self, channels: int, made: int, stride: int, kernel: int, expansion: int) -> None:
        super().__init__()
        self.out_channels, self.adds = made, stride == 1 and channels == made
        inner = channels * expansion
        self.expands = expansion != 1
        if self.expands:
            self._expand_conv = SameConv2d(channels, inner, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(inner, eps=EPSILON)
        self._depthwise_conv = SameConv2d(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = nn.BatchNorm2d(inner, eps=EPSILON)
        self._project_conv = SameConv2d(inner, made, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(made, eps=EPSILON)

    def windows(self) -> Iterator[Window]:
        """The windows of the block's convolutions, in the order in which photos pass them."""
        return windows([self._depthwise_conv])

    def forward(self, feat_NCHW: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, out_channels, H', W']."""
        out_NCHW: Tensor = feat_NCHW
        if self.expands:
            out_NCHW = F.relu6(self._bn0(self._expand_conv(out_NCHW)), inplace=True)
        out_NCHW = F.relu6(self._bn1(self._depthwise_conv(out_NCHW)), inplace=True)
        out_NCHW = self._bn2(self._project_conv(out_NCHW))
        return feat_NCHW + out_NCHW if self.adds else out_NCHW


class EfficientNetLite(Backbone):
    """EfficientNet-Lite with the keys of its published PyTorch weights, without its classifier.

    Args:
        size: 0, 1 or 2.
        cut: the last layer: ``block_10`` (from 0), or ``head``, the 1280 channels that classify.

    Raises:
        UnknownNameError: there is no such size or layer.
    """

    def __init__(self, size: int, cut: str = "block_10") -> None:
        if size not in SCALES:
            raise UnknownNameError("size of EfficientNet-Lite", str(size), map(str, SCALES))
        blocks = _blocks(size)
        names = [f"block_{i}" for i in range(len(blocks))]
        if cut not in (*names, "head"):
            raise UnknownNameError("layer", cut, (*names, "head"))
        kept = blocks if cut == "head" else blocks[: names.index(cut) + 1]
        channels = HEAD if cut == "head" else kept[-1].out_channels
        layers: list[tuple[str, nn.Module]] = [
            ("_conv_stem", SameConv2d(3, STEM, 3, 2, bias=False)),
            ("_bn0", nn.BatchNorm2d(STEM, eps=EPSILON)),
            ("_relu0", nn.ReLU6(inplace=True)),
            ("_blocks", nn.Sequential(*kept)),
        ]
        if cut == "head":
            layers += [
                ("_conv_head", SameConv2d(kept[-1].out_channels, HEAD, 1, bias=False)),
                ("_bn1", nn.BatchNorm2d(HEAD, eps=EPSILON)),
                ("_relu1", nn.ReLU6(inplace=True)),
            ]
        super().__init__(channels, layers)

    def locate(self, layer: str) -> str:
        """``block_10`` to ``_blocks.10``, ``head`` to ``_conv_head``; other names as they are."""
        kind, _, number = layer.partition("_")
        if kind == "block" and number.isdecimal():
            return f"_blocks.{number}"
        return "_conv_head" if layer == "head" else layer


def _blocks(size: int) -> list[MobileBlock]:
    blocks: list[MobileBlock] = []
    channels = STEM
    for i, (expansion, made, count, first, kernel) in enumerate(STAGES):
        made = _rounded(made * SCALES[size][0])
        for j in range(_repeats(count, i, size)):
            blocks.append(MobileBlock(channels, made, 1 if j else first, kernel, expansion))
            channels = made
    return blocks


def _repeats(count: int, stage: int, size: int) -> int:
    return count if stage in (0, len(STAGES) - 1) else math.ceil(count * SCALES[size][1])


def _rounded(channels: float) -> int:
    """To a multiple of 8, never more than a tenth below."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near + 8 if near < 0.9 * channels else near
