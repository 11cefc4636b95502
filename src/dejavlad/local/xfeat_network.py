"""XFeat's network (Potje et al., CVPR 2024), with the keys of its released weights, and its points.

Written anew from the paper's layers, because importing kornia for it takes a third of `locate`'s time. Its
answers equal those of kornia's `XFeat` within rounding.

Shapes: N photos, P points, H x W pixels, both multiples of 32; dense maps have H/8 x W/8 cells.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

CELL: Final = 8
"""Pixels of a cell's side."""
MULTIPLE: Final = 32
"""Sides of photos are brought to multiples of this."""
LEAST_HEAT: Final = 0.05
"""A point's probability to be one, at least."""
REACH: Final = 2
"""A point is more probable than all pixels so far from it."""


class XFeatNetwork(nn.Module):
    """Photos [N, C, H, W] -> descriptors [N, 64, H/8, W/8], logits of points [N, 65, ...], reliability."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.InstanceNorm2d(1)
        self.skip1 = nn.Sequential(nn.AvgPool2d(4, stride=4), nn.Conv2d(1, 24, 1))
        self.block1 = nn.Sequential(_Conv(1, 4), _Conv(4, 8, stride=2), _Conv(8, 8), _Conv(8, 24, stride=2))
        self.block2 = nn.Sequential(_Conv(24, 24), _Conv(24, 24))
        self.block3 = nn.Sequential(_Conv(24, 64, stride=2), _Conv(64, 64), _Conv(64, 64, 1))
        self.block4 = nn.Sequential(_Conv(64, 64, stride=2), _Conv(64, 64), _Conv(64, 64))
        self.block5 = nn.Sequential(
            _Conv(64, 128, stride=2), _Conv(128, 128), _Conv(128, 128), _Conv(128, 64, 1)
        )
        self.block_fusion = nn.Sequential(_Conv(64, 64), _Conv(64, 64), nn.Conv2d(64, 64, 1))
        self.heatmap_head = nn.Sequential(
            _Conv(64, 64, 1), _Conv(64, 64, 1), nn.Conv2d(64, 1, 1), nn.Sigmoid()
        )
        self.keypoint_head = nn.Sequential(
            _Conv(64, 64, 1), _Conv(64, 64, 1), _Conv(64, 64, 1), nn.Conv2d(64, 65, 1)
        )
        # Refines matches of the dense variant; unused here, but part of the released weights.
        layers: list[nn.Module] = []
        for size in (128, 512, 512, 512):
            layers += [nn.Linear(size, 512), nn.BatchNorm1d(512, affine=False), nn.ReLU()]
        self.fine_matcher = nn.Sequential(*layers, nn.Linear(512, 64))

    def forward(self, images_NCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The three dense maps."""
        grey = self.norm(images_NCHW.mean(dim=1, keepdim=True))
        third = self.block3(self.block2(self.block1(grey) + self.skip1(grey)))
        fourth = self.block4(third)
        fifth = self.block5(fourth)
        cells = third.shape[-2:]
        described = self.block_fusion(third + _resized(fourth, cells) + _resized(fifth, cells))
        logits = self.keypoint_head(functional.pixel_unshuffle(grey, CELL))
        return described, logits, self.heatmap_head(described)

    def folded(self) -> XFeatNetwork:
        """The network in inference mode with each normalisation made part of its convolution: quicker."""
        for part in self.eval().modules():
            if isinstance(part, _Conv):
                part.fold()
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                part.weight.data = part.weight.data.contiguous(memory_format=torch.channels_last)
        return self


class XFeatDetector(nn.Module):
    """The network, and the points that it finds in photos of any size."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images_NCHW: Tensor, points: int) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Of each photo, at most so many points, the surest first.

        Returns:
            Points (x, y) [P, 2] in pixels of the photo, the centre of its first pixel being (0, 0); unit
            descriptors [P, 64]; and scores [P].
        """
        height, width = images_NCHW.shape[2:]
        sides = [max(MULTIPLE, side // MULTIPLE * MULTIPLE) for side in (height, width)]
        images = _resized(images_NCHW.float(), torch.Size(sides))
        described, logits, reliability = self.net(images)
        described = functional.normalize(described, dim=1)
        heat = functional.pixel_shuffle(functional.softmax(logits, dim=1)[:, :64], CELL)
        peaks = strict_peaks(heat)
        by = torch.tensor([width / sides[1], height / sides[0]], device=images.device)
        made = []
        for n in range(len(images)):
            points_P2 = peaks[n, 0].nonzero().flip(-1)
            grid = 2 * points_P2 / torch.tensor([sides[1] - 1, sides[0] - 1], device=images.device) - 1
            scores = (
                _sampled(heat[n], grid, "nearest")[:, 0] * _sampled(reliability[n], grid, "bilinear")[:, 0]
            )
            scores, order = torch.topk(scores, min(points, len(scores)))
            descriptors = functional.normalize(_sampled(described[n], grid[order], "bicubic"), dim=1)
            good = scores > 0
            made.append(((points_P2[order] + 0.5)[good] * by - 0.5, descriptors[good], scores[good]))
        return made


def strict_peaks(heat_N1HW: Tensor) -> Tensor:
    """bool [N, 1, H, W], where a pixel exceeds `LEAST_HEAT` and all others within `REACH`; none so near to
    the border."""
    # Few pixels are warm, so that only these are compared; a maximum over all windows would take far longer.
    padded = functional.pad(heat_N1HW, (REACH,) * 4, value=float("inf"))
    warm = heat_N1HW > LEAST_HEAT
    n, _, y, x = places = warm.nonzero(as_tuple=True)
    height, width = padded.shape[2:]
    steps = torch.arange(2 * REACH + 1, device=padded.device)
    around = (steps[:, None] * width + steps).flatten()
    around = around[around != REACH * width + REACH]
    corners = (n * height + y) * width + x
    others = padded.flatten()[corners[:, None] + around].amax(dim=1)
    return warm.index_put(places, heat_N1HW[places] > others)


class _Conv(nn.Module):
    """Convolution, normalisation, rectification."""

    def __init__(self, channels: int, made: int, size: int = 3, *, stride: int = 1) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            nn.Conv2d(channels, made, size, stride=stride, padding=size // 2, bias=False),
            nn.BatchNorm2d(made, affine=False),
            nn.ReLU(),
        )

    def fold(self) -> None:
        """Make the normalisation part of the convolution, in inference mode."""
        convolution, normalisation = self.layer[0], self.layer[1]
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(normalisation, nn.BatchNorm2d)
        self.layer = nn.Sequential(fuse_conv_bn_eval(convolution, normalisation), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.layer(x)
        return made


def _resized(x: Tensor, size: torch.Size) -> Tensor:
    if x.shape[-2:] == size:
        return x
    return functional.interpolate(x, list(size), mode="bilinear", align_corners=False)


def _sampled(map_CHW: Tensor, grid_P2: Tensor, mode: str) -> Tensor:
    """[P, C], a map at places from -1 to 1; as the released weights want it, corners are not aligned."""
    sampled = functional.grid_sample(map_CHW[None], grid_P2[None, :, None], mode=mode, align_corners=False)
    return sampled[0, :, :, 0].T
