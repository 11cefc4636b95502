"""DINOv2 with small networks beside its blocks, as published place recognisers have added them.

- `CricaDinoV2` (CricaVPR, CVPR 2024): an adapter of convolutions inside each block.
- `SideDinoV2` (EDTformer, TCSVT 2025; SelaVPR++, TPAMI 2025): the blocks stay as they are, and a second
  stream runs beside them; what the network gives is that stream.
- `AggregatingDinoV2` (ImAge, NeurIPS 2025): learnt tokens join before a late block, and are the descriptor.

Legend: N photos, T tokens, C channels, H x W cells.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dejavlad.backbones.dinov2 import Block, DinoV2
from dejavlad.backbones.sizes import PATCH
from dejavlad.errors import InputError, UnknownNameError

NORM_EPSILON = 1e-3
"""Of the adapters' batch norms."""
SHARE = 0.2
"""Of CricaVPR's adapters in the feed-forward layers."""


class ConvNormRelu(nn.Module):
    """A convolution that keeps the size, a batch norm and a ReLU."""

    def __init__(self, given: int, made: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(given, made, kernel, padding=kernel // 2)
        self.bn = nn.BatchNorm2d(made, eps=NORM_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C', H, W]."""
        return F.relu(self.bn(self.conv(x)))


class MultiConvAdapter(nn.Module):
    """Half the channels, three convolutions of 1x1, 3x3 and 5x5 over the grid of patches, and back.

    The class token passes by the convolutions.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        half, narrow = channels // 2, channels // 32
        self.D_fc1 = nn.Linear(channels, half)
        self.D_fc2 = nn.Linear(half, channels)
        self.branch1 = ConvNormRelu(half, half // 2, 1)
        self.branch2 = nn.Sequential(ConvNormRelu(half, narrow, 1), ConvNormRelu(narrow, half // 4, 3))
        self.branch3 = nn.Sequential(ConvNormRelu(half, narrow, 1), ConvNormRelu(narrow, half // 4, 5))

    def forward(self, x_NTC: Tensor) -> Tensor:
        """[N, 1 + side*side, C] -> the same."""
        inner_NTC = F.relu(self.D_fc1(x_NTC))
        side = square_side(inner_NTC.shape[1] - 1)
        inner_NCT = inner_NTC[:, 1:].transpose(1, 2)
        grid = inner_NCT.reshape(*inner_NCT.shape[:2], side, side)
        seen = torch.cat([self.branch1(grid), self.branch2(grid), self.branch3(grid)], dim=1)
        patches_NTC = seen.flatten(2).transpose(1, 2)
        whole = inner_NTC + torch.cat([inner_NTC[:, :1], patches_NTC.to(inner_NTC.dtype)], dim=1)
        out_NTC: Tensor = self.D_fc2(whole)
        return out_NTC


class LinearAdapter(nn.Module):
    """``z + W2 gelu(W1 z) / 2`` with an inner width of 4 (EDTformer)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.D_fc1 = nn.Linear(channels, 4)
        self.D_fc2 = nn.Linear(4, channels)

    def forward(self, x_NTC: Tensor) -> Tensor:
        """[N, T, C] -> [N, T, C]."""
        out_NTC: Tensor = x_NTC + 0.5 * self.D_fc2(F.gelu(self.D_fc1(x_NTC)))
        return out_NTC


class AdaptedBlock(Block):
    """A block with an adapter beside its feed-forward layer, inside its layer scale."""

    def __init__(self, channels: int, hidden: int, swiglu: bool) -> None:
        super().__init__(channels, hidden, swiglu)
        self.adapter = MultiConvAdapter(channels)

    def feed_forward(self, x_NTC: Tensor) -> Tensor:
        """The feed-forward layer's output plus the adapter's, [N, T, C] -> [N, T, C]."""
        out_NTC: Tensor = super().feed_forward(x_NTC) + SHARE * self.adapter(x_NTC)
        return out_NTC


class CricaDinoV2(DinoV2):
    """DINOv2 with an adapter in each block; photos must be square. Arguments: see `DinoV2`."""

    def make_block(self, _: int) -> Block:
        """A new block with an adapter; its number does not matter."""
        return AdaptedBlock(self.channels, self.variant.hidden, self.variant.swiglu)

    def fitted(self, images_NCHW: Tensor) -> Tensor:
        """Square photos [N, 3, h, h] with sides that are multiples of 14.

        Raises:
            InputError: a photo that is not square, or as `DinoV2.fitted`.
        """
        return squared(super().fitted(images_NCHW))


class SideDinoV2(DinoV2):
    """DINOv2 with a stream of adapters beside its blocks.

    Args:
        variant: see `DinoV2`.
        cut: ``norm`` only: the stream runs beside all blocks, and is normed.
        adapters: ``linear`` (EDTformer) or ``multiconv`` (SelaVPR++; photos must be square).
        first: the first block that has one; the stream begins as the tokens before it.
        stream: what the adapters are called in the file: ``adapters``, or ``adapters_hashing`` for
            SelaVPR++'s second stream, which its binary codes are made of.
        **options: of `DinoV2`.

    Raises:
        UnknownNameError: no such adapters.
        InputError: another cut, or no such block.
    """

    def __init__(
        self,
        variant: str,
        cut: str = "norm",
        *,
        adapters: str,
        first: int = 0,
        stream: str = "adapters",
        **options: Any,
    ) -> None:
        if cut != "norm":
            raise InputError(f"a network with adapters beside it ends with its last norm; given cut {cut!r}")
        super().__init__(variant, cut, **options)
        kinds: dict[str, type[nn.Module]] = {"linear": LinearAdapter, "multiconv": MultiConvAdapter}
        if adapters not in kinds:
            raise UnknownNameError("kind of adapter", str(adapters), kinds)
        if stream not in ("adapters", "adapters_hashing"):
            raise UnknownNameError("stream", str(stream), ("adapters", "adapters_hashing"))
        if not 0 <= first < self.variant.depth:
            raise InputError(f"adapters begin at block 0 to {self.variant.depth - 1}; given {first}")
        self.square = adapters == "multiconv"
        self.first, self.stream = first, stream
        count = self.variant.depth - first
        self.add_module(stream, nn.ModuleList(kinds[adapters](self.channels) for _ in range(count)))

    def fitted(self, images_NCHW: Tensor) -> Tensor:
        """Square photos, where the adapters need them."""
        images_NCHW = super().fitted(images_NCHW)
        return squared(images_NCHW) if self.square else images_NCHW

    def run(self, tokens_NTC: Tensor) -> Tensor:
        """The stream beside the blocks, normed: [N, T, C] -> [N, T, C]."""
        adapters = self.get_submodule(self.stream)
        assert isinstance(adapters, nn.ModuleList)
        side_NTC = tokens_NTC
        for i, block in enumerate(self.blocks):
            if i == self.first:
                side_NTC = tokens_NTC
            tokens_NTC = block(tokens_NTC)
            if i >= self.first:
                z_NTC = side_NTC + tokens_NTC
                added = adapters[i - self.first](z_NTC)
                side_NTC = added if not self.square else side_NTC + added
        out_NTC: Tensor = self.norm(side_NTC)
        return out_NTC


class AggregatingDinoV2(DinoV2):
    """DINOv2 whose descriptor are learnt tokens that stand before all others from one block on.

    Args:
        variant: see `DinoV2`.
        cut: ``norm`` only.
        tokens: how many are learnt.
        at: the block that they join before.
        **options: of `DinoV2`.

    Raises:
        InputError: another cut, fewer than 1 token, or no such block.
    """

    def __init__(
        self, variant: str, cut: str = "norm", *, tokens: int = 8, at: int = 8, **options: Any
    ) -> None:
        if cut != "norm":
            raise InputError(f"a network with tokens that aggregate ends with its norm; given cut {cut!r}")
        super().__init__(variant, cut, **options)
        if tokens < 1 or not 0 <= at < self.variant.depth or self.leading:
            raise InputError(
                f"at least 1 token joins before block 0 to {self.variant.depth - 1}, and none leads; "
                f"given {tokens}, {at} and {self.leading}"
            )
        self.at = at
        self.learnable_aggregation_tokens = nn.Parameter(torch.zeros(1, tokens, self.channels))

    def run(self, tokens_NTC: Tensor) -> Tensor:
        """The learnt tokens alone: [N, T, C] -> [N, tokens, C]."""
        for i, block in enumerate(self.blocks):
            if i == self.at:
                more = self.learnable_aggregation_tokens.expand(tokens_NTC.shape[0], -1, -1)
                tokens_NTC = torch.cat([more.to(tokens_NTC.dtype), tokens_NTC], dim=1)
            tokens_NTC = block(tokens_NTC)
        tokens_NtC: Tensor = self.norm(tokens_NTC[:, : self.learnable_aggregation_tokens.shape[1]])
        return tokens_NtC

    def arranged(self, tokens_NTC: Tensor, rows: int, columns: int) -> Tensor:
        """The learnt tokens [N, tokens, C] as a feature map [N, C, tokens, 1]."""
        return tokens_NTC.transpose(1, 2).unsqueeze(3)


def squared(images_NCHW: Tensor) -> Tensor:
    """The photos, if they are square.

    Raises:
        InputError: they are not.
    """
    height, width = images_NCHW.shape[2:]
    if height != width:
        raise InputError(
            f"this network takes square photos; given {height}x{width}: give --resize {height}x{height}"
        )
    return images_NCHW


def square_side(cells: int) -> int:
    """The side of a square grid of so many cells."""
    side = math.isqrt(cells)
    if side * side != cells:
        raise InputError(f"this network takes square photos; given {cells} patches of {PATCH}x{PATCH} pixels")
    return side
