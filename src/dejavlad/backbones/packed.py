"""Layers of a bfloat16 copy as oneDNN computes them fastest, on a processor.

PyTorch lays the weights out anew in each call, and reads and writes the feature map once more for each small
step that follows a product. Here the layout is kept for the size of photos that comes, and what follows (an
activation, a shortcut that is added) is done as the product is written.

Shapes: N photos, I inputs, O outputs, H x W cells; rows M of tokens.
"""

from __future__ import annotations

import platform
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dejavlad.backbones.resnet import Block

After = Literal["none", "relu", "gelu"]
"""What is applied to a product as it is written."""


def packs() -> bool:
    """Whether this build of PyTorch has these products, and this processor, of the x86 kind, bfloat16."""
    operators: Any = torch.ops.mkldnn
    return (
        platform.machine().lower() in ("x86_64", "amd64")
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(operators, "_linear_pointwise")
        and hasattr(operators, "_convolution_pointwise")
        and bool(operators._is_mkldnn_bf16_supported())
    )


class Packed(nn.Module):
    """Base: a weight in bfloat16, and the same as it is laid out for the last size of input.

    Args:
        layer: its weight and bias are taken.
        after: what follows.
    """

    def __init__(self, layer: nn.Conv2d | nn.Linear, after: After) -> None:
        super().__init__()
        self.weight, self.after = layer.weight, after
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.bfloat16(), requires_grad=False)
        self._packed: tuple[torch.Size, Tensor] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without the second layout, which cannot be copied."""
        return {**vars(self), "_packed": None}

    def packed(self, shape: torch.Size) -> Tensor:
        """The weight, laid out for inputs of that shape."""
        known = self._packed
        if known is None or known[0] != shape:
            known = self._packed = (shape, self.pack(shape))
        return known[1]

    def pack(self, shape: torch.Size) -> Tensor:
        """The weight, laid out anew."""
        raise NotImplementedError


class PackedLinear(Packed):
    """A linear layer and what follows: [..., I] of any floating type to bfloat16 [..., O]."""

    def forward(self, x_MI: Tensor) -> Tensor:
        """[..., I] -> [..., O]."""
        weight = self.packed(x_MI.shape)
        made: Tensor = torch.ops.mkldnn._linear_pointwise(
            x_MI.bfloat16(), weight, self.bias, self.after, [], "none"
        )
        return made

    def pack(self, shape: torch.Size) -> Tensor:
        """The weight, laid out anew."""
        made: Tensor = torch.ops.mkldnn._reorder_linear_weight(self.weight.detach(), shape[:-1].numel())
        return made


class PackedConv2d(Packed):
    """A convolution and what follows: [N, I, H, W] of any floating type to bfloat16 [N, O, H', W']."""

    def __init__(self, layer: nn.Conv2d, after: After) -> None:
        super().__init__(layer, after)
        self.places = ([int(side) for side in layer.padding], list(layer.stride), list(layer.dilation))
        self.groups = layer.groups

    def forward(self, x_NIHW: Tensor, added: Tensor | None = None) -> Tensor:
        """[N, I, H, W] -> [N, O, H', W'], with `added` of the same shape before what follows."""
        x_NIHW = x_NIHW.bfloat16()
        given = (x_NIHW, self.packed(x_NIHW.shape), self.bias, *self.places, self.groups)
        operators: Any = torch.ops.mkldnn
        made: Tensor
        if added is None:
            kind = "none" if self.after == "gelu" else ""  # GELU itself, not an approximation by tanh
            made = operators._convolution_pointwise(*given, self.after, [], kind)
        else:
            other = added.bfloat16().contiguous(memory_format=torch.channels_last)
            after = None if self.after == "none" else self.after
            made = operators._convolution_pointwise.binary(
                x_NIHW, other, *given[1:], "add", 1.0, after, [], ""
            )
        return made

    def pack(self, shape: torch.Size) -> Tensor:
        """The weight, laid out anew."""
        reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
        made: Tensor = reorder(self.weight.detach().to_mkldnn(), *self.places, self.groups, list(shape))
        return made


class PackedBlock(Block):
    """A residual block of ResNet whose convolutions hold their norms and activations."""

    def forward(self, feat_NCHW: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, out_channels, H', W']."""
        out_NCHW = feat_NCHW
        for i in range(1, self.depth):
            out_NCHW = self.get_submodule(f"conv{i}")(out_NCHW)
        shortcut = feat_NCHW if self.downsample is None else self.downsample(feat_NCHW)
        joined: Tensor = self.get_submodule(f"conv{self.depth}")(out_NCHW, shortcut)
        return joined
