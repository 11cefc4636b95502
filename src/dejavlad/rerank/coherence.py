"""How many matching points move as their neighbours do?

An epipolar geometry binds each point to a line only. Where one thing stands in many places (windows, lamps,
signs, leaves), points of different things lie along such lines by chance, and many photos of different places
agree with up to a hundred points. Points of one thing move together: a point is coherent where most of its
neighbours come to lie, seen from it, about where they lay before (the idea of GMS, Bian et al., CVPR 2017).

Shapes: I points that agree, K neighbours.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS: Final = 16
"""K: nearest points of the query that each point is compared with; all others where they are fewer."""
SLACK: Final = 0.7
"""A neighbour may move, seen from the point, by this share of its distance: depth moves it..."""
PIXELS: Final = 4.0
"""...and by so many pixels."""
MOST: Final = 0.65
"""Share of the neighbours that must do so."""
FEWEST: Final = 4
"""Fewer neighbours tell nothing."""


def coherent(points_I2: NDArray[np.float64], others_I2: NDArray[np.float64]) -> int:
    """How many points move as most of their neighbours do; 0 of fewer than `FEWEST` + 1 points.

    Args:
        points_I2: points of one photo, in pixels.
        others_I2: where the same points lie in the other, at the same scale and turned the same way; where
            its origin is does not matter.
    """
    count = min(NEIGHBOURS, len(points_I2) - 1)
    if count < FEWEST:
        return 0
    apart_II = ((points_I2[:, None] - points_I2) ** 2).sum(axis=2)
    np.fill_diagonal(apart_II, np.inf)
    near_IK = np.argpartition(apart_II, count - 1, axis=1)[:, :count]
    before_IK2 = points_I2[near_IK] - points_I2[:, None]
    after_IK2 = others_I2[near_IK] - others_I2[:, None]
    moved_IK = np.linalg.norm(before_IK2 - after_IK2, axis=2)
    together_IK = moved_IK <= SLACK * np.linalg.norm(before_IK2, axis=2) + PIXELS
    return int((together_IK.mean(axis=1) >= MOST).sum())
