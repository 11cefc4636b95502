"""What every backbone is: photos to a feature map whose geometry is known.

A backbone is a module that says its ``channels`` and ``stride``; `Backbone` also says which part of the photo
a cell sees, can be cut at any named layer, and keeps torchvision's names for its weights.

Legend: N photos, C channels, H x W cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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

    def then(self, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> Geometry:
        """After one more convolution or pooling."""
        reach = dilation * (kernel - 1)
        return Geometry(
            self.stride * stride,
            self.receptive_field + reach * self.stride,
            self.offset + (reach / 2 - padding) * self.stride,
        )

    def through(self, layers: Iterable[nn.Module]) -> Geometry:
        """After a chain of layers; those without a window leave it as it is."""
        found = self
        for layer in layers:
            if isinstance(layer, Windowed):
                found = layer.seen_from(found)
            elif isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
                kernel, stride, padding = (
                    _side(value) for value in (layer.kernel_size, layer.stride, layer.padding)
                )
                dilation = 1 if isinstance(layer, nn.AvgPool2d) else _side(layer.dilation)
                found = found.then(kernel, stride, padding, dilation)
        return found


class Windowed(nn.Module):
    """A layer made of several, which knows what its cells see."""

    out_channels: int

    def seen_from(self, geometry: Geometry) -> Geometry:
        """The geometry after this layer."""
        raise NotImplementedError


class Backbone(nn.Module):
    """Base of the convolutional backbones; say `channels` and `geometry` when built."""

    scales = 1
    """Grids stacked in the feature map's height."""

    def __init__(self, channels: int, geometry: Geometry) -> None:
        super().__init__()
        self.channels = channels
        """C."""
        self.geometry = geometry
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
        """Centre of what cell (0, 0) sees, in pixels."""
        return self.geometry.offset

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Feature map of prepared photos.

        Args:
            images_NCHW: [N, 3, h, w].

        Returns:
            [N, C, H, W].

        Raises:
            InputError: the photos are too small to leave a single cell.
        """
        if images_NCHW.ndim != 4 or images_NCHW.shape[1] != 3:
            raise InputError(f"photos must be [N, 3, H, W]; given {list(images_NCHW.shape)}")
        try:
            found = self.run(images_NCHW)
        except RuntimeError as error:
            if "size" in str(error).lower():
                raise self._too_small(images_NCHW) from None
            raise
        if 0 in found.shape[2:]:
            raise self._too_small(images_NCHW)
        return found

    def run(self, images_NCHW: Tensor) -> Tensor:
        """The layers up to the cut, one after the other."""
        raise NotImplementedError

    def _too_small(self, images_NCHW: Tensor) -> InputError:
        height, width = images_NCHW.shape[2:]
        return InputError(
            f"photos of {height}x{width} pixels are too small for this network, whose cells see "
            f"{self.receptive_field}x{self.receptive_field}; give larger photos or --resize"
        )


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
        super().__init__(_channels(kept), Geometry().through(kept))
        self.features = nn.Sequential(*kept)

    def run(self, images_NCHW: Tensor) -> Tensor:
        """The layers up to the cut, one after the other."""
        found: Tensor = self.features(images_NCHW)
        return found


def train_from(backbone: nn.Module, layer: str | None) -> None:
    """Let the layers from `layer` on learn, and freeze those below it.

    Args:
        backbone: layers in the order of their parameters.
        layer: the lowest layer that learns, by the name of its parameters (``features.24``, ``layer4``); None
            freezes all of them, ``""`` lets all learn.

    Raises:
        UnknownNameError: no parameter belongs to such a layer.
    """
    names = [name for name, _ in backbone.named_parameters()]
    if layer and not any(_belongs(name, layer) for name in names):
        raise UnknownNameError("layer", layer, {name.rpartition(".")[0] for name in names})
    learns = layer == ""
    for name, parameter in backbone.named_parameters():
        learns = learns or (layer is not None and _belongs(name, layer))
        parameter.requires_grad_(learns)


def _belongs(parameter: str, layer: str) -> bool:
    return parameter.startswith(f"{layer}.")


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
    for layer in reversed(layers):
        told = getattr(layer, "out_channels", None)
        if told is not None:
            return int(told)
    return 3


def _side(value: int | tuple[int, ...] | str) -> int:
    """A kernel, stride or padding, the same along both axes."""
    if isinstance(value, tuple):
        return int(value[0])
    return int(value)
