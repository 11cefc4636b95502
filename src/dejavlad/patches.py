"""The patches of one photo at one size: what re-ranking compares.

Shapes: P patches, row by row over a grid of H x W; D numbers a descriptor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dejavlad.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class PatchSet:
    """Square patches of one size on a regular grid of one photo.

    Raises:
        InputError: the parts do not fit each other.
    """

    descriptors: Tensor
    """[P, D] of any floating type, of unit length; patch (i, j) is row i*W + j."""
    centres: Tensor
    """float32 [P, 2]: x and y in pixels of the prepared photo, from the centre of its first pixel."""
    grid: tuple[int, int]
    """(H, W): patches along the height and along the width."""
    size: int
    """Side of a patch, in cells of the feature map."""
    step: float = 16.0
    """Pixels from one patch to the next: the backbone's stride times that of the patches."""

    def __post_init__(self) -> None:
        patches = self.grid[0] * self.grid[1]
        if self.descriptors.ndim != 2 or len(self.descriptors) != patches or not patches:
            raise InputError(
                f"a grid of {self.grid[0]}x{self.grid[1]} patches needs descriptors [{patches}, D], at least "
                f"one; given {list(self.descriptors.shape)}"
            )
        if list(self.centres.shape) != [patches, 2]:
            raise InputError(
                f"{patches} patches need centres [{patches}, 2]; given {list(self.centres.shape)}"
            )
        if self.size < 1 or not self.step > 0:
            raise InputError(f"patches need a size and a step above 0; given {self.size} and {self.step}")

    def __len__(self) -> int:
        return len(self.descriptors)
