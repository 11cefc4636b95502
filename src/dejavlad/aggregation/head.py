"""What trained heads share: networks behind a backbone that mean nothing before they are trained.

Shapes: N photos, D channels, L = H*W locations.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from dejavlad.aggregation.base import Aggregation
from dejavlad.aggregation.functional import l2_normalize_whole
from dejavlad.errors import InputError


class Head(Aggregation):
    """Base of the heads: `head` makes descriptors of whole feature maps, brought to unit length then.

    Args:
        dim: D, channels of the feature map.
        what: the head's name, for errors.
        numbers: the length of a descriptor; default: `dim`.
        options: the constructor's arguments besides `dim`, by name; whole numbers are sizes of at least 1.

    Raises:
        InputError: a size below 1.
    """

    needs_training = True
    grid: ClassVar[bool] = True
    """Whether `head` is given the map [N, D, H, W], or its locations [N, D, L]."""

    def __init__(
        self, dim: int, what: str = "", *, numbers: int | None = None, **options: int | bool
    ) -> None:
        super().__init__(dim, epsilon="torch")
        positive(what, **{name: value for name, value in options.items() if not isinstance(value, bool)})
        self._options = options
        self._numbers = self.dim if numbers is None else int(numbers)

    @property
    def descriptor_size(self) -> int:
        """Length of one photo's descriptor, in numbers."""
        return self._numbers

    @property
    def options(self) -> dict[str, Any]:
        """The constructor's arguments besides `dim`, by name, as plain values."""
        return dict(self._options)

    def head(self, feat: Tensor) -> Tensor:
        """[N, descriptor_size] of float32 features (see `grid`); not yet of unit length."""
        raise NotImplementedError

    def forward(self, feat_NDHW: Tensor) -> Tensor:
        """Feature maps [N, D, H, W] to descriptors [N, descriptor_size] of unit length."""
        device = feat_NDHW.device.type
        with torch.autocast(device, enabled=self.reduces and torch.is_autocast_enabled(device)):
            feat = self._locations(feat_NDHW)
            feat = feat.view(*feat.shape[:2], *feat_NDHW.shape[2:]) if self.grid else feat
            rows_ND = self.head(feat)
        return l2_normalize_whole(rows_ND, rule="torch")

    def aggregate(self, feat_NDL: Tensor) -> Tensor:
        """[N, descriptor_size], for heads that do not look at the grid."""
        if self.grid:
            raise InputError(f"{type(self).__name__} needs whole feature maps")
        return self.head(feat_NDL)


def positive(what: str, **sizes: int) -> None:
    """Refuse sizes below 1.

    Raises:
        InputError: naming the layer, and all sizes given.
    """
    if min(sizes.values(), default=1) < 1:
        given = ", ".join(f"{name}={size}" for name, size in sizes.items())
        raise InputError(f"{what} needs sizes of at least 1; given {given}")
