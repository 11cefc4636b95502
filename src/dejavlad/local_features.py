"""The local features of one photo: points that can be found again in other photos, and what they look like.

Shapes: P points, D numbers a descriptor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class LocalFeatures:
    """Points of one photo, the strongest first.

    Raises:
        InputError: the parts do not fit each other, or hold NaN.
    """

    keypoints: Floats
    """float32 [P, 2]: x and y in pixels of the photo at its full size and upright, as `read_image` gives it;
    (0, 0) is the centre of its first pixel."""
    descriptors: Floats
    """float32 [P, D], of unit length."""
    scores: Floats
    """float32 [P], larger is stronger; comparable within one kind only."""
    size: tuple[int, int]
    """(height, width) of the photo at its full size and upright."""
    kind: str
    """What made them, e.g. ``"xfeat"``; features of two kinds cannot be matched."""

    def __post_init__(self) -> None:
        keypoints, descriptors, scores = (
            np.ascontiguousarray(array, dtype=np.float32)
            for array in (self.keypoints, self.descriptors, self.scores)
        )
        points = len(keypoints)
        if keypoints.shape != (points, 2) or descriptors.ndim != 2 or len(descriptors) != points:
            raise InputError(
                f"local features need keypoints [P, 2] and descriptors [P, D]; given "
                f"{list(keypoints.shape)} and {list(descriptors.shape)}"
            )
        if scores.shape != (points,) or min(self.size) < 1:
            raise InputError(
                f"{points} local features need as many scores, and a photo; given {list(scores.shape)} "
                f"scores and a size of {self.size}"
            )
        if not all(np.isfinite(array).all() for array in (keypoints, descriptors, scores)):
            raise InputError("local features hold NaN or infinity")
        for name, value in (("keypoints", keypoints), ("descriptors", descriptors), ("scores", scores)):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.keypoints)

    @property
    def dims(self) -> int:
        """D, numbers of each point's descriptor."""
        return int(self.descriptors.shape[1])

    def take(self, points: NDArray[Any]) -> LocalFeatures:
        """Some of the points, by row or by mask."""
        return LocalFeatures(
            self.keypoints[points], self.descriptors[points], self.scores[points], self.size, self.kind
        )
