"""What every backbone is: photos to a feature map whose geometry is known.

A backbone is a module that says its ``channels`` and ``stride``; `Backbone` also says which part of the photo
a cell sees, can be cut at any named layer, and keeps torchvision's names for its weights.

Legend: N photos, C channels, H x W cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from torch import Tensor, nn

from dejavlad.errors import InputError, UnknownNameError


@dataclass(frozen=True, slots=True)
class Geometry:
    """Which pixels a cell of a feature map sees."""

    stride: int = 1
    """Pixels from one cell to the next."""
    receptive_field: int = 1
    """Side, in pixels, of what a cell sees."""
    offset: float = 0.0
    """Centre of what cell (0, 0) sees, in pixels from the centre of the photo's first pixel."""

    def after(self, window: Window) -> Geometry:
        """The geometry after one more convolution or pooling."""
        return Geometry(
            self.stride * window.stride,
            self.receptive_field + window.reach * self.stride,
            self.offset + (window.reach / 2 - window.padding) * self.stride,
        )

    def through(self, layers: Iterable[nn.Module]) -> Geometry:
        """The geometry after a chain of layers; those without a window leave it as it is."""
        geometry = self
        for window in windows(layers):
            geometry = geometry.after(window)
        return geometry


@dataclass(frozen=True, slots=True)
class Window:
    """The window of one convolution or pooling, the same along both axes."""

    kernel: int
    """Side."""
    stride: int = 1
    """Step."""
    padding: int = 0
    """Cells added on every side."""
    dilation: int = 1
    """Step inside the kernel."""
    ceil: bool = False
    """A last step that is not filled counts, as in Caffe's pooling."""

    @property
    def reach(self) -> int:
        """Distance between the first and the last cell that it sees."""
        return self.dilation * (self.kernel - 1)

    def out(self, side: int) -> int:
        """Cells along a side that has `side` before; none where the window does not fit."""
        room = side + 2 * self.padding - self.reach - 1
        steps = -(-room // self.stride) if self.ceil else room // self.stride
        if self.ceil and steps * self.stride >= side + self.padding:
            steps -= 1  # a window must begin within the photo
        return max(0, steps + 1)


class Windowed(nn.Module):
    """A layer made of several convolutions or poolings, which says what windows it has."""

    out_channels: int
    """Channels that it makes."""

    def windows(self) -> Iterator[Window]:
        """The windows in pixels of the layer's input, along the path with the widest reach."""
        raise NotImplementedError


def windows(layers: Iterable[nn.Module]) -> Iterator[Window]:
    """The windows of a chain of layers."""
    for layer in layers:
        if isinstance(layer, Windowed):
            yield from layer.windows()
        elif isinstance(layer, nn.Sequential):
            yield from windows(layer)
        elif isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            kernel, stride, padding = map(_side, (layer.kernel_size, layer.stride, layer.padding))
            dilation = 1 if isinstance(layer, nn.AvgPool2d) else _side(layer.dilation)
            ceil = not isinstance(layer, nn.Conv2d) and layer.ceil_mode
            yield Window(kernel, stride, padding, dilation, ceil)


def check_prepared(images_NCHW: Tensor) -> None:
    """Refuse what is no batch of prepared photos.

    Raises:
        InputError: it is of another shape than [N, 3, H, W].
    """
    if images_NCHW.ndim != 4 or images_NCHW.shape[1] != 3:
        raise InputError(f"prepared photos must be [N, 3, H, W]; given {list(images_NCHW.shape)}")


def too_small(images_NCHW: Tensor, least: int) -> InputError:
    """The error of photos that leave no cell; `least` is the smallest side in pixels that leaves one."""
    height, width = images_NCHW.shape[2:]
    return InputError(
        f"photos of {height}x{width} pixels are too small for this network: it needs at least "
        f"{least}x{least}; give larger photos or --resize"
    )


class Backbone(nn.Module):
    """Base of the convolutional backbones: layers one after the other, cut after one of them.

    Args:
        channels: C.
        layers: (name, layer) in order, by torchvision's names; the layers become children of these names.
    """

    scales = 1
    """Grids stacked in the feature map's height."""

    def __init__(self, channels: int, layers: Iterable[tuple[str, nn.Module]]) -> None:
        super().__init__()
        for name, layer in layers:
            self.add_module(name, layer)
        self.channels = channels
        """C, of the feature map."""
        self.geometry = Geometry().through(self.children())
        """Which pixels a cell sees."""

    @property
    def stride(self) -> int:
        """Pixels from one cell to the next."""
        return self.geometry.stride

    @property
    def receptive_field(self) -> int:
        """Side, in pixels, of what a cell sees."""
        return self.geometry.receptive_field

    @property
    def offset(self) -> float:
        """Centre of what cell (0, 0) sees, in pixels from the centre of the photo's first pixel."""
        return self.geometry.offset

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """(H, W) for a prepared photo of that size; zeros where it is too small."""
        for window in windows(self.children()):
            height, width = window.out(height), window.out(width)
        return height, width

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Feature map of prepared photos.

        Args:
            images_NCHW: [N, 3, h, w].

        Returns:
            [N, C, H, W], H and W as `grid` tells.

        Raises:
            InputError: the photos are of another shape, or too small to leave a single cell.
        """
        check_prepared(images_NCHW)
        height, width = images_NCHW.shape[2:]
        if 0 in self.grid(height, width):
            sides = range(1, 2 * self.receptive_field)
            raise too_small(images_NCHW, next(side for side in sides if all(self.grid(side, side))))
        feat_NCHW = images_NCHW
        for layer in self.children():
            feat_NCHW = layer(feat_NCHW)
        return feat_NCHW

    def train(self, mode: bool = True) -> Self:
        """Training mode, except for batch norms that do not learn: they keep the statistics they have."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d) and not module.weight.requires_grad:
                module.eval()
        return self

    def locate(self, layer: str) -> str:
        """The module's name of a layer that is called by its paper's name; other names as they are."""
        return layer


class ChainBackbone(Backbone):
    """Layers in a row, under torchvision's name ``features``, cut after one of them.

    Args:
        layers: all layers.
        names: the paper's name of each layer, or "" where it has none.
        cut: the last layer, as ``features.28``, or by its paper's name.

    Raises:
        UnknownNameError: there is no layer of that name.
    """

    def __init__(self, layers: Sequence[nn.Module], names: Sequence[str], cut: str) -> None:
        kept = list(layers[: _layer_index(names, cut) + 1])
        super().__init__(_channels(kept), [("features", nn.Sequential(*kept))])
        self.names = tuple(names[: len(kept)])
        """The paper's names of the layers."""

    def locate(self, layer: str) -> str:
        """``conv5_1`` to ``features.24``; other names as they are."""
        return f"features.{self.names.index(layer)}" if layer and layer in self.names else layer


def train_from(backbone: nn.Module, layer: str | None) -> None:
    """Let the layers from `layer` on learn, and freeze those before it.

    Args:
        backbone: its modules in the order in which photos pass them.
        layer: the first layer that learns: ``features.24``, ``layer4``, ``layer3.2``, for the networks known
            here also the paper's name (``conv5_1``); None freezes all, ``""`` lets all learn.

    Raises:
        UnknownNameError: there is no such layer.
    """
    name = layer
    if layer and isinstance(backbone, Backbone):
        name = backbone.locate(layer)
    modules = dict(backbone.named_modules())
    if name is not None and name not in modules:
        papers = backbone.names if isinstance(backbone, ChainBackbone) else ()
        raise UnknownNameError("layer", str(layer), [*filter(None, modules), *filter(None, papers)])
    learns = False
    for at, module in modules.items():
        learns = learns or at == name
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(learns)
    backbone.train(backbone.training)


def _layer_index(names: Sequence[str], cut: str) -> int:
    if cut.startswith("features."):
        number = cut.removeprefix("features.")
        if number.isdecimal() and int(number) < len(names):
            return int(number)
    elif cut in names and cut:
        return names.index(cut)
    raise UnknownNameError(
        "layer", cut, [*filter(None, names), *(f"features.{i}" for i in range(len(names)))]
    )


def _channels(layers: Sequence[nn.Module]) -> int:
    """Channels behind the layers; 3, a photo's, where none of them changes their number."""
    numbers = (getattr(layer, "out_channels", None) for layer in reversed(layers))
    return next((int(channels) for channels in numbers if channels is not None), 3)


def _side(value: int | tuple[int, ...] | str) -> int:
    """A kernel, stride or padding, the same along both axes."""
    return int(value[0] if isinstance(value, tuple) else value)
