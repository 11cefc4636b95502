"""Where a photo was taken, from all photos that geometry says show its place, not the best of them alone.

The camera lies nearer to the photos that have more matching points in common with it: matches fall quickly
as the view changes. So the position is the mean of theirs, each weighted by its matches (to the power
`SHARPNESS`), and the uncertainty how far they lie from that mean, by the same weights.

Legend: C candidates that are verified.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np

from dejavlad.geo import Position, distance
from dejavlad.rerank import Verified
from dejavlad.rerank.point_reranker import DECISIVE

SHARPNESS: Final = 4.0
"""Power of the number of matches that a photo's position counts with."""
SHARE: Final = 0.25
"""Photos with fewer inliers than this share of the best photo's have no say."""
REACH: Final = 50.0
"""Photos farther than so many metres from the best one show something far away, not its place."""
LEAST: Final = 1.0
"""Metres below which no uncertainty is stated: positions are no better than that."""
ALONE: Final = 25.0
"""Metres of uncertainty where one photo alone agrees: within this, photos show one place."""


def located_position(
    first: int, verified: Mapping[int, Verified], positions: Mapping[int, Position | None]
) -> tuple[Position | None, float | None]:
    """The position that the verified photos agree on, and its uncertainty in metres (one standard deviation).

    Args:
        first: the candidate that is the answer.
        verified: candidate -> what it has in common with the query.
        positions: candidate -> where it was taken; None where that is not known.

    Returns:
        The first's position with `ALONE` where no other photo agrees; None, None where it has none.
    """
    best = positions[first]
    if best is None:
        return None, None
    least = max(DECISIVE, SHARE * verified[first].inliers)
    east, north, weights = [best.east], [best.north], [float(max(1, verified[first].tried))]
    for candidate, pair in verified.items():
        where = positions[candidate]
        if candidate == first or where is None or where.zone != best.zone or pair.inliers < least:
            continue
        if distance(where, best) <= REACH:
            east.append(where.east)
            north.append(where.north)
            weights.append(float(pair.tried))
    if len(weights) == 1:
        return best, ALONE
    weights_C = np.array(weights) ** SHARPNESS
    weights_C /= weights_C.sum()
    points_C2 = np.stack([east, north], axis=1)
    mean_2 = weights_C @ points_C2
    spread = math.sqrt(float(weights_C @ ((points_C2 - mean_2) ** 2).sum(axis=1)))
    return Position(float(mean_2[0]), float(mean_2[1]), best.zone), max(LEAST, spread)
