"""Which patches a model makes of a photo, and the layer that makes them (Patch-NetVLAD, CVPR 2021)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from dejavlad.aggregation import Aggregation, PatchVLAD
from dejavlad.backbones.base import Geometry
from dejavlad.errors import InputError
from dejavlad.model.whitening import Whitening


@dataclass(frozen=True, slots=True)
class PatchSetting:
    """Sizes, strides and dimensions of the patches that are made of a photo.

    Raises:
        InputError: sizes and strides do not fit each other, or a number below 1.
    """

    sizes: tuple[int, ...] = (2, 5, 8)
    """Sides of the patches, in cells of the feature map."""
    strides: tuple[int, ...] = ()
    """For each size, cells from one patch to the next; none given is 1 for all."""
    dims: int | None = None
    """The first whitened dimensions are kept; None keeps all."""

    def __post_init__(self) -> None:
        sizes, strides = tuple(self.sizes), tuple(self.strides) or (1,) * len(self.sizes)
        if not sizes or len(strides) != len(sizes) or min(*sizes, *strides) < 1:
            raise InputError(
                f"patches need one stride for each size, all at least 1; given sizes {list(sizes)} and "
                f"strides {list(strides)}"
            )
        if self.dims is not None and self.dims < 1:
            raise InputError(f"patches need at least one dimension; given {self.dims}")
        object.__setattr__(self, "sizes", sizes)
        object.__setattr__(self, "strides", strides)


def patch_layer(
    backbone: nn.Module,
    pooling: Aggregation,
    whitening: Whitening | None,
    patches: PatchSetting,
    *,
    name: str,
    dtype: torch.dtype,
) -> PatchVLAD:
    """The layer that makes patches of feature maps, of a model's parts; see `PlaceModel.patch_layer`.

    Args:
        backbone: the one that makes the feature maps; it must say its stride.
        pooling: the one whose clusters describe a patch.
        whitening: applied to each patch's descriptor; None for none.
        patches: their sizes, strides and dimensions.
        name: the model's, for messages.
        dtype: in which the products with the whitening are taken.

    Raises:
        InputError: the pooling has no clusters, the backbone does not say its stride, or the whitening keeps
            fewer dimensions than the patches are to keep.
    """
    dims = patches.dims
    if dims is not None:
        if whitening is None or dims > whitening.dims:
            available = "no whitening" if whitening is None else f"a whitening to {whitening.dims} dimensions"
            raise InputError(
                f"patches of {dims} dimensions are asked for, but model {name!r} has {available}; ask for "
                "as many at most, or learn a whitening of so many (--dims)"
            )
        whitening = whitening if dims == whitening.dims else whitening.truncated(dims)
    return PatchVLAD(
        pooling,
        whitening,
        cell_geometry(backbone),
        patches.sizes,
        patches.strides,
        stacked=int(getattr(backbone, "scales", 1)),
        dtype=dtype,
    )


def cell_geometry(backbone: nn.Module) -> Geometry:
    """Where the cells of a feature map lie; a backbone that tells its stride alone sees the middle of it.

    Raises:
        InputError: the backbone does not say its stride.
    """
    stride = getattr(backbone, "stride", None)
    if not isinstance(stride, int) or stride < 1:
        raise InputError(
            f"patches need a backbone that says its stride; give {type(backbone).__name__} the attribute "
            "`stride` (pixels from one cell to the next)"
        )
    return Geometry(stride=stride, offset=float(getattr(backbone, "offset", (stride - 1) / 2)))
