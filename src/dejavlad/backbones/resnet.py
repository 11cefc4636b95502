"""ResNet-18 to 152 (He et al., CVPR 2016), with torchvision's keys and its stride in the 3x3 layer."""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import Tensor, nn

from dejavlad.backbones.base import Backbone, Window, Windowed, windows
from dejavlad.backbones.sizes import DEPTHS
from dejavlad.errors import InputError, UnknownNameError

STEM = ("conv1", "bn1", "relu", "maxpool")
PAPER = {"conv2": "layer1", "conv3": "layer2", "conv4": "layer3", "conv5": "layer4"}
"""The paper's names of the stages."""


class Block(Windowed):
    """A residual block: two 3x3 convolutions, or 1x1, 3x3 and 1x1 with a bottleneck.

    Args:
        channels: of its input.
        width: of its inner convolutions.
        stride: of its (first) 3x3 convolution.
        bottleneck: the second form, whose output has four times the width.
    """

    def __init__(self, channels: int, width: int, stride: int, *, bottleneck: bool) -> None:
        super().__init__()
        self.out_channels = 4 * width if bottleneck else width
        shapes = (
            [(channels, width, 1, 1), (width, width, 3, stride), (width, 4 * width, 1, 1)]
            if bottleneck
            else [(channels, width, 3, stride), (width, width, 3, 1)]
        )
        self.depth, self.width = len(shapes), width
        for i, (given, made, kernel, step) in enumerate(shapes, 1):
            self.add_module(f"conv{i}", nn.Conv2d(given, made, kernel, step, padding=kernel // 2, bias=False))
            self.add_module(f"bn{i}", nn.BatchNorm2d(made))
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels != self.out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, self.out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(self.out_channels),
            )
        self.stop: str | None = None

    def cut_after(self, layer: str) -> None:
        """End the block after one of its own layers.

        Raises:
            UnknownNameError: it has no such layer.
        """
        valid = [f"{kind}{i}" for i in range(1, self.depth + 1) for kind in ("conv", "bn")]
        if layer not in valid:
            raise UnknownNameError("layer of a residual block", layer, valid)
        self.stop = layer
        last = int(layer[-1])
        for i in range(last + 1, self.depth + 1):
            delattr(self, f"conv{i}")
            delattr(self, f"bn{i}")
        if layer.startswith("conv"):
            delattr(self, f"bn{last}")
        self.depth, self.downsample = last, None
        if last < 3:  # narrow as its inner convolutions
            self.out_channels = self.width

    def windows(self) -> Iterator[Window]:
        """Those of its convolutions in a row."""
        return windows(self.get_submodule(f"conv{i}") for i in range(1, self.depth + 1))

    def forward(self, feat_NCHW: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, out_channels, H', W']."""
        out_NCHW: Tensor = feat_NCHW
        for i in range(1, self.depth + 1):
            out_NCHW = self.get_submodule(f"conv{i}")(out_NCHW)
            if self.stop == f"conv{i}":
                return out_NCHW
            out_NCHW = self.get_submodule(f"bn{i}")(out_NCHW)
            if self.stop == f"bn{i}":
                return out_NCHW
            if i < self.depth:
                out_NCHW = self.relu(out_NCHW)
        shortcut = feat_NCHW if self.downsample is None else self.downsample(feat_NCHW)
        out_NCHW = self.relu(out_NCHW + shortcut)
        return out_NCHW


class ResNet(Backbone):
    """ResNet with torchvision's keys, without its classifier.

    Args:
        depth: 18, 50, 101 or 152.
        cut: the last layer: ``layer3`` (conv4 of the paper), ``layer4`` (conv5), a block (``layer3.5``), or a
            layer of a block (``layer3.5.conv2``).

    Raises:
        InputError: no such depth.
        UnknownNameError: there is no such layer.
    """

    def __init__(self, depth: int = 50, cut: str = "layer3") -> None:
        if depth not in DEPTHS:
            raise InputError(f"ResNets here have {', '.join(map(str, DEPTHS))} layers; given {depth}")
        stages, block, inner = _parse(depth, PAPER.get(cut, cut))
        stem: list[tuple[str, nn.Module]] = [
            ("conv1", nn.Conv2d(3, 64, 7, 2, 3, bias=False)),
            ("bn1", nn.BatchNorm2d(64)),
            ("relu", nn.ReLU(inplace=True)),
            ("maxpool", nn.MaxPool2d(3, 2, 1)),
        ]
        layers = stem if stages else stem[: STEM.index(cut) + 1]
        channels = 64
        for stage in range(stages):
            blocks = []
            last = stage == stages - 1
            for i in range(block + 1 if last and block is not None else DEPTHS[depth][stage]):
                stride = 2 if i == 0 and stage > 0 else 1
                made = Block(channels, 64 << stage, stride, bottleneck=depth >= 50)
                if last and i == block and inner is not None:
                    made.cut_after(inner)
                channels = made.out_channels
                blocks.append(made)
            layers.append((f"layer{stage + 1}", nn.Sequential(*blocks)))
        super().__init__(channels, layers)

    def locate(self, layer: str) -> str:
        """``conv4`` to ``layer3``; other names as they are."""
        return PAPER.get(layer, layer)


def _parse(depth: int, cut: str) -> tuple[int, int | None, str | None]:
    """``layer3.5.conv2`` to (3, 5, "conv2"): stages kept, the last one's block, the block's layer."""
    if cut in STEM:
        return 0, None, None
    match = re.fullmatch(r"layer([1-4])(?:\.(\d+))?(?:\.(\w+))?", cut)
    if match and (match[2] is None) <= (match[3] is None):
        stage = int(match[1])
        block = None if match[2] is None else int(match[2])
        if block is None or block < DEPTHS[depth][stage - 1]:
            return stage, block, match[3]
    valid = [f"layer{s}.{b}" for s, n in enumerate(DEPTHS[depth], 1) for b in range(n)]
    raise UnknownNameError("layer", cut, [*STEM, *PAPER, *(f"layer{s}" for s in range(1, 5)), *valid])
