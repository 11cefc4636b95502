"""Which patches a feature map has, and the sums of their cells.

Shapes: H x W cells, D channels, P patches of one size, row by row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from dejavlad.errors import InputError


@dataclass(frozen=True, slots=True)
class Scale:
    """One size of patches on a feature map."""

    size: int
    """Side of a patch, in cells."""
    stride: int
    """Cells from one patch to the next."""
    grid: tuple[int, int]
    """(H, W) patches."""
    rows: slice
    """Where its patches lie among those of all sizes."""


def patch_scales(cells: tuple[int, int], sizes: Sequence[int], strides: Sequence[int]) -> list[Scale]:
    """The patches that a feature map has.

    Args:
        cells: (H, W) of the feature map.
        sizes: sides of the patches, in cells.
        strides: for each size, cells from one patch to the next.

    Raises:
        InputError: sizes and strides do not fit each other or the feature map.
    """
    if not sizes or len(sizes) != len(strides) or min(*sizes, *strides) < 1:
        raise InputError(
            f"patches need one stride for each size, all at least 1; given sizes {list(sizes)} and strides "
            f"{list(strides)}"
        )
    if max(sizes) > min(cells):
        raise InputError(
            f"a feature map of {cells[0]}x{cells[1]} cells has no patch of {max(sizes)}x{max(sizes)}; give "
            f"smaller patches or larger photos"
        )
    grids = [
        ((cells[0] - size) // stride + 1, (cells[1] - size) // stride + 1)
        for size, stride in zip(sizes, strides, strict=True)
    ]
    ends = list(accumulate(height * width for height, width in grids))
    rows = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
    return [Scale(*of) for of in zip(sizes, strides, grids, rows, strict=True)]


def direct_boxes(cells_HWD: Tensor, scales: Sequence[Scale]) -> Iterator[tuple[Scale, Tensor]]:
    """Sums [P, D] over the patches of each size.

    Unlike differences of an integral image they lose no digits, however far a cell is from the corner.
    """
    along_width = _doubled(cells_HWD, 1, max(scale.size for scale in scales))
    for scale in scales:
        rows_HWD = _run(along_width, 1, scale)
        boxes_HWD = _run(_doubled(rows_HWD, 0, scale.size), 0, scale)
        yield scale, boxes_HWD.reshape(-1, boxes_HWD.shape[2])


def integral_boxes(cells_HWD: Tensor, scales: Sequence[Scale]) -> Iterator[tuple[Scale, Tensor]]:
    """As `direct_boxes`, from an integral image, rounded as the original rounds.

    Equivalent to ``get_integral_feature`` and ``get_square_regions_from_integral`` of Patch-NetVLAD: summed
    along the width, then along the height; corners added from the top left to the bottom right.
    """
    height, width, dims = cells_HWD.shape
    integral_HWD = cells_HWD.new_zeros(height + 1, width + 1, dims)
    torch.cumsum(cells_HWD.cumsum(dim=1), dim=0, out=integral_HWD[1:, 1:])
    for scale in scales:
        size, step = scale.size, scale.stride
        above, left = integral_HWD[:-size:step], integral_HWD[size::step]
        boxes_HWD = above[:, :-size:step] - above[:, size::step] - left[:, :-size:step] + left[:, size::step]
        yield scale, boxes_HWD.reshape(-1, dims)


def _doubled(cells: Tensor, axis: int, most: int) -> list[Tensor]:
    """Sums of 1, 2, 4, 8 ... neighbours along an axis, up to `most`."""
    sums, length = [cells], 1
    while 2 * length <= most:
        room = sums[-1].shape[axis] - length
        sums.append(sums[-1].narrow(axis, 0, room) + sums[-1].narrow(axis, length, room))
        length *= 2
    return sums


def _run(doubled: Sequence[Tensor], axis: int, scale: Scale) -> Tensor:
    """Sums of ``scale.size`` neighbours along an axis, one every ``scale.stride``, from doubled sums."""
    starts = doubled[0].shape[axis] - scale.size + 1
    found, at = None, 0
    for power, sums in enumerate(doubled):
        if scale.size & (1 << power):
            part = sums.narrow(axis, at, starts)
            part = part[:: scale.stride] if axis == 0 else part[:, :: scale.stride]
            found = part if found is None else found + part
            at += 1 << power
    assert found is not None
    return found
