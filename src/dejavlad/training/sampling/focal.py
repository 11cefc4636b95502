"""Points that the photos of one square look at, as EigenPlaces chooses them (Berton et al., ICCV 2023, 3.2).

The first principal direction of the positions of a square's photos is that of the way on which they were
taken. The lateral point lies beside the way, across it from the middle of the positions; the frontal one on
it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def focal_points(positions_N2: Floats, distance: float) -> tuple[Floats, Floats]:
    """The lateral and the frontal point of photos.

    Args:
        positions_N2: float64 [N, 2], metres east and north, N from 1. Where all are the same, the way is
            taken to go east.
        distance: metres from their middle.

    Returns:
        Two points, float64 [2]: the way's direction is that of greatest spread; of the two sides of each
        direction the one is taken that points east, or due north.
    """
    middle_2 = positions_N2.mean(axis=0)
    _, lengths, directions_22 = np.linalg.svd(positions_N2 - middle_2)
    along_2 = directions_22[0] if len(lengths) and lengths[0] > 1e-9 else np.array([1.0, 0.0])
    across_2 = np.array([-along_2[1], along_2[0]])
    return middle_2 + distance * _eastward(across_2), middle_2 + distance * _eastward(along_2)


def bearings(positions_N2: Floats, point_2: Floats) -> Floats:
    """Compass directions from positions to a point, [N] degrees, 0 <= b < 360; NaN for one at the point."""
    east_N, north_N = (point_2 - positions_N2).T
    bearing_N = np.degrees(np.arctan2(east_N, north_N)) % 360
    return np.where(np.hypot(east_N, north_N) > 1e-9, bearing_N, math.nan)


def faces(headings_N: Floats, bearings_N: Floats, tolerance: float) -> NDArray[np.bool_]:
    """Whether headings differ from bearings by at most so many degrees; unknown ones (NaN) do not face."""
    return np.asarray(np.abs((headings_N - bearings_N + 180) % 360 - 180) <= tolerance)


def _eastward(direction_2: Floats) -> Floats:
    """The direction or its opposite, which a decomposition does not tell apart."""
    east, north = direction_2
    if abs(east) < 1e-9:
        return direction_2 if north > 0 else -direction_2
    return direction_2 if east > 0 else -direction_2
