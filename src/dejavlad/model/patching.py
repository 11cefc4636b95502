"""Which patches a model makes of a photo (Patch-NetVLAD, CVPR 2021); `PlaceModel.patch_layer` makes them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

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

    def whitening_of(self, whitening: Whitening | None, name: str) -> Whitening | None:
        """A model's whitening, cut to the dimensions that are kept of patches.

        Raises:
            InputError: it keeps fewer dimensions, or there is none.
        """
        if self.dims is None:
            return whitening
        if whitening is None or self.dims > whitening.dims:
            available = "no whitening" if whitening is None else f"a whitening to {whitening.dims} dimensions"
            raise InputError(
                f"patches of {self.dims} dimensions are asked for, but model {name!r} has {available}; ask "
                "for as many at most, or learn a whitening of so many (--dims)"
            )
        return whitening if self.dims == whitening.dims else whitening.truncated(self.dims)


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
