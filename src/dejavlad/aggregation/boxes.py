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
    return [Scale(*values) for values in zip(sizes, strides, grids, rows, strict=True)]


def direct_boxes(cells_HWD: Tensor, scales: Sequence[Scale]) -> Iterator[tuple[Scale, Tensor]]:
    """Sums [P, D] over the patches of each size.

    Unlike differences of an integral image they lose no digits, however far a cell is from the corner.
    """
    rows = {1: cells_HWD}
    for scale in scales:
        rows_HWD = window_sums(rows, scale.size, axis=1, step=scale.stride)
        boxes_HWD = window_sums({1: rows_HWD}, scale.size, axis=0, step=scale.stride)
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


def window_sums(
    known: dict[int, Tensor], length: int, *, axis: int, step: int = 1, out: Tensor | None = None
) -> Tensor:
    """Sums of `length` neighbours along an axis, each of two sums that are there or are made first.

    Args:
        known: sums of so many neighbours from every cell on; ``known[1]`` are the cells. Those made on the
            way are added, and hold as long as the tensors given as `out` are not written to again.
        length: how many neighbours.
        axis: 0 or 1.
        step: cells from one sum to the next.
        out: where to put them.
    """
    if length in known:
        sums = _every(known[length], axis, step)
        return sums if out is None else out.copy_(sums)
    # A sum is that of two shorter ones: few additions a cell, and no running total that loses digits.
    longer = 1 << ((length - 1).bit_length() - 1)
    first = window_sums(known, longer, axis=axis)
    rest = window_sums(known, length - longer, axis=axis)
    count = known[1].shape[axis] - length + 1
    parts = [_every(part.narrow(axis, at, count), axis, step) for part, at in ((first, 0), (rest, longer))]
    sums = torch.add(parts[0], parts[1], out=out)
    if step == 1:
        known[length] = sums
    return sums


def _every(cells: Tensor, axis: int, step: int) -> Tensor:
    return cells[::step] if axis == 0 else cells[:, ::step]
