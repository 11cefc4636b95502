"""A chain of simple layers that is written down as data: any SimpleNN network of MatConvNet.

Each layer is a dict of plain values, so that a model's ``spec.json`` holds the whole network; see `KINDS`.
Pads are [top, bottom, left, right]; kernels, strides and dilations [rows, columns].

Legend: N photos, C channels, H x W cells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dejavlad.backbones.base import Backbone, Geometry, Window
from dejavlad.errors import InputError

Pair = tuple[int, int]
Pad = tuple[int, int, int, int]
LARGEST = 1 << 20


class Pool(nn.Module):
    """The maximum or the average of each window; what is padded counts for neither.

    Equivalent to MatConvNet's ``vl_nnpool``: ``floor((H + top + bottom - rows) / stride) + 1`` cells. Caffe's
    rounding up is a pad at the bottom and on the right.
    """

    def __init__(self, method: str, kernel: Pair, stride: Pair, pad: Pad) -> None:
        super().__init__()
        if pad[0] >= kernel[0] or pad[1] >= kernel[0] or pad[2] >= kernel[1] or pad[3] >= kernel[1]:
            raise InputError(f"a pooling's pad must be below its kernel; given {pad} and {kernel}")
        self.method, self.kernel, self.stride, self.pad = method, kernel, stride, pad

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H', W']."""
        top, bottom, left, right = self.pad
        sides = (left, right, top, bottom)
        if self.method == "max":
            padded = F.pad(x, sides, value=-math.inf) if any(sides) else x
            return F.max_pool2d(padded, self.kernel, self.stride)
        if not any(sides):
            return F.avg_pool2d(x, self.kernel, self.stride)
        sums = F.avg_pool2d(F.pad(x, sides), self.kernel, self.stride, divisor_override=1)
        ones = F.pad(torch.ones_like(x[:1, :1]), sides)
        return sums / F.avg_pool2d(ones, self.kernel, self.stride, divisor_override=1)


class ChannelNorm(nn.Module):
    """``x_k (kappa + alpha sum_q x_q^2)^-beta`` over a window of `size` channels around each.

    Equivalent to MatConvNet's ``vl_nnnormalize``: q runs from ``k - floor((size - 1) / 2)`` to
    ``k + ceil((size - 1) / 2)``, and alpha is not divided by the size.
    """

    def __init__(self, size: int, kappa: float, alpha: float, beta: float) -> None:
        super().__init__()
        self.size, self.kappa, self.alpha, self.beta = size, kappa, alpha, beta

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] of the same shape, computed in float32 or better."""
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        with torch.autocast(x.device.type, enabled=False):
            squares, most = x.square(), x.shape[1] - 1
            before, after = min((self.size - 1) // 2, most), min(self.size // 2, most)
            if before == after == most:
                sums = squares.sum(dim=1, keepdim=True)
            else:
                padded = F.pad(squares, (0, 0, 0, 0, before, after))
                sums = padded.unfold(1, before + after + 1, 1).sum(dim=-1)
            return x * (self.kappa + self.alpha * sums).pow(-self.beta)


class Chain(Backbone):
    """Layers as data, one after the other.

    Args:
        layers: of each its ``kind`` (see `KINDS`), its ``name``, and what `KINDS` says.

    Raises:
        InputError: a layer is of no known kind, lacks a setting, or cannot follow the one before it.
    """

    def __init__(self, layers: Sequence[Mapping[str, Any]]) -> None:
        made: list[nn.Module] = []
        windows: list[tuple[Pair, Pair, Pad]] = []
        channels = 3
        for i, description in enumerate(_checked(layers)):
            settings = dict(description)
            kind, name = settings.pop("kind", None), settings.pop("name", "")
            if not isinstance(kind, str) or kind not in KINDS:
                raise InputError(f"layer {i} ({name}) is of kind {kind!r}; valid: {', '.join(sorted(KINDS))}")
            if kind == "conv" and settings.get("inputs") != channels:
                raise InputError(
                    f"layer {i} ({name}) takes {settings.get('inputs')} channels, but gets {channels}"
                )
            try:
                layer = KINDS[kind](**settings)
            except (TypeError, ValueError, KeyError) as error:
                raise InputError(f"layer {i} ({name}), {kind}: {error}") from None
            made.append(layer)
            channels = int(settings.get("outputs", channels))
            windows += _window(layer)
        super().__init__(channels, [("features", nn.Sequential(*made))])
        self.layers = [dict(layer) for layer in layers]
        """As given."""
        self.names = tuple(str(layer.get("name", "")) for layer in layers)
        """The layers' names, by which training and `verify` know them."""
        self._windows = windows
        axes = [Geometry(), Geometry()]
        for kernel, stride, pad in windows:
            for axis in (0, 1):
                axes[axis] = axes[axis].after(Window(kernel[axis], stride[axis], pad[2 * axis]))
        self.geometry = max(axes, key=lambda axis: axis.receptive_field)
        """Along the rows, or along the columns where cells see more of them."""

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """(H, W) for a prepared photo of that size; zeros where it is too small."""
        for kernel, stride, pad in self._windows:
            height = max(0, (height + pad[0] + pad[1] - kernel[0]) // stride[0] + 1)
            width = max(0, (width + pad[2] + pad[3] - kernel[1]) // stride[1] + 1)
        return height, width

    def locate(self, layer: str) -> str:
        """``conv5_1`` to ``features.24``; other names as they are."""
        return f"features.{self.names.index(layer)}" if layer and layer in self.names else layer


def _conv(
    inputs: int,
    outputs: int,
    kernel: Sequence[int],
    stride: Sequence[int] = (1, 1),
    pad: Sequence[int] = (0, 0, 0, 0),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
    bias: bool = True,
) -> nn.Module:
    top, bottom, left, right = _ints(pad, 4, 0)
    inputs, outputs, groups = _ints((inputs, outputs, groups), 3, 1)
    same = top == bottom and left == right
    conv = nn.Conv2d(
        inputs,
        outputs,
        _pair(kernel),
        _pair(stride),
        (top, left) if same else 0,
        _pair(dilation),
        groups,
        bool(bias),
    )
    return conv if same else nn.Sequential(nn.ZeroPad2d((left, right, top, bottom)), conv)


def _relu(leak: float = 0.0) -> nn.Module:
    return nn.LeakyReLU(float(leak), inplace=True) if leak else nn.ReLU(inplace=True)


def _pool(method: str) -> Callable[..., nn.Module]:
    def make(
        kernel: Sequence[int], stride: Sequence[int] = (1, 1), pad: Sequence[int] = (0, 0, 0, 0)
    ) -> Pool:
        top, bottom, left, right = _ints(pad, 4, 0)
        return Pool(method, _pair(kernel), _pair(stride), (top, bottom, left, right))

    return make


def _norm(size: int, kappa: float, alpha: float, beta: float) -> nn.Module:
    return ChannelNorm(_ints([size], 1, 1)[0], float(kappa), float(alpha), float(beta))


def _dropout(rate: float = 0.5) -> nn.Module:
    return nn.Identity()


KINDS: dict[str, Callable[..., nn.Module]] = {
    "conv": _conv,
    "relu": _relu,
    "max": _pool("max"),
    "avg": _pool("avg"),
    "norm": _norm,
    "dropout": _dropout,
}
"""Kind -> what makes it, called with the layer's settings. Dropout does nothing here."""


def _checked(layers: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(layers, (str, bytes)) or not isinstance(layers, Sequence) or not layers:
        raise InputError("a chain needs a list of layers")
    for i, layer in enumerate(layers):
        if not isinstance(layer, Mapping):
            raise InputError(f"layer {i} must be a mapping with its kind; given {layer!r}")
        yield layer


def _window(layer: nn.Module) -> Iterator[tuple[Pair, Pair, Pad]]:
    """(span, stride, pad) of a layer with windows."""
    if isinstance(layer, Pool):
        yield layer.kernel, layer.stride, layer.pad
    elif isinstance(layer, nn.Sequential):
        padding, conv = layer.children()
        assert isinstance(padding, nn.ZeroPad2d)
        left, right, top, bottom = padding.padding
        (span, stride, _), *_ = _window(conv)
        yield span, stride, (top, bottom, left, right)
    elif isinstance(layer, nn.Conv2d):
        (kh, kw), (dh, dw), (sh, sw) = layer.kernel_size, layer.dilation, layer.stride
        rows, columns = (int(p) for p in layer.padding)
        yield (dh * (kh - 1) + 1, dw * (kw - 1) + 1), (sh, sw), (rows, rows, columns, columns)


def _ints(values: Sequence[int], count: int, least: int) -> list[int]:
    numbers = [int(value) for value in values]
    if len(numbers) != count or numbers != list(values) or not all(least <= v <= LARGEST for v in numbers):
        raise InputError(f"must be {count} whole numbers of at least {least}; given {list(values)}")
    return numbers


def _pair(values: Sequence[int]) -> Pair:
    rows, columns = _ints(values, 2, 1)
    return rows, columns
