"""How near to each other two views are, judged by where their matching points lie.

A photo taken a few steps ahead shows the same things larger, one taken a few steps aside shows them moved; so
counting matches alone prefers whatever has most texture. The points are fitted by a similarity (shift,
rotation, scale), the candidate's to the query's, least squares with outlying points left out once. How much
larger things are is not taken from there, as a few wrong points change it: it is the median over pairs.

Shapes: I points that agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dejavlad.rerank.coherence import coherent

CELLS = 8
"""Coverage is counted in so many cells along the longer side."""
OUTLYING = 2.5
"""Points whose residual is above so many times the median one are left out of the second fit."""
APART = 0.05
"""Pairs of points nearer to each other, in longer sides, in either photo say nothing about scale."""
PAIRED = 256
"""At most so many points, evenly taken, are paired."""

Size = tuple[float, float]
Points = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Nearness:
    """How two views differ; as it stands it is that of two photos with nothing in common."""

    scale: float = 0.0
    """How much larger things are in the query than in the candidate: above 1 where it was taken ahead. The
    median ratio of the distances between two points."""
    rotation: float = 0.0
    """Degrees by which the query is turned, counter-clockwise, -180 to 180."""
    shift: float = math.inf
    """Distance from the query's centre to where the candidate's centre comes to lie, in longer sides."""
    parallax: float = math.inf
    """Median distance of points from where the similarity takes them, in longer sides."""
    displacement: float = math.inf
    """Median distance of the two places of a point, in longer sides."""
    coverage: tuple[float, float] = (0.0, 0.0)
    """Share of the query and of the candidate, in cells, in which points lie."""
    coherent: int = 0
    """Points that move as most of their neighbours do, after the similarity."""
    overlap: float = 0.0
    """Area that both show over the area that either does, 0 to 1, after the similarity."""
    mirrored: bool = False
    """One is the other's mirror image."""


def nearness(points_I2: Points, others_I2: Points, size: Size, other_size: Size) -> Nearness:
    """How near two views are.

    Args:
        points_I2: points of the query, in pixels.
        others_I2: the same points in the candidate, in pixels of the same unit.
        size: (height, width) of the query, in pixels of that unit.
        other_size: of the candidate.
    """
    if len(points_I2) < 2:
        return Nearness()
    points, others = (np.asarray(xy_I2, np.float64) for xy_I2 in (points_I2, others_I2))
    side = max(*size, *other_size)
    turn_22, shift_2 = _similarity(points, others)
    residual = np.linalg.norm(others @ turn_22.T + shift_2 - points, axis=1)
    near = residual <= max(OUTLYING * float(np.median(residual)), 1e-9)
    if near.sum() >= 2:
        turn_22, shift_2 = _similarity(points[near], others[near])
        residual = np.linalg.norm(others @ turn_22.T + shift_2 - points, axis=1)
    centre, other_centre = (np.array([s[1] / 2, s[0] / 2]) for s in (size, other_size))
    return Nearness(
        scale=_scale(points, others, APART * side) or math.sqrt(abs(float(np.linalg.det(turn_22)))),
        rotation=math.degrees(math.atan2(-turn_22[1, 0], turn_22[0, 0])),
        shift=float(np.linalg.norm(turn_22 @ other_centre + shift_2 - centre) / side),
        parallax=float(np.median(residual) / side),
        displacement=float(np.median(np.linalg.norm(points - others, axis=1)) / side),
        coverage=(_coverage(points, size), _coverage(others, other_size)),
        coherent=coherent(points, others @ turn_22.T),
        overlap=_overlap(turn_22, shift_2, size, other_size),
        mirrored=_mirrored(points, others),
    )


def _similarity(points_I2: Points, others_I2: Points) -> tuple[Points, Points]:
    """[2, 2] and [2] that take the candidate's points to the query's (Umeyama 1991)."""
    mean, other_mean = points_I2.mean(axis=0), others_I2.mean(axis=0)
    a, b = points_I2 - mean, others_I2 - other_mean
    left, values, right = np.linalg.svd(a.T @ b)
    sign = np.array([1.0, np.sign(np.linalg.det(left @ right)) or 1.0])
    spread = float((b**2).sum())
    scale = float((values * sign).sum()) / spread if spread > 0 else 1.0
    turn_22 = scale * (left * sign) @ right
    return turn_22, mean - turn_22 @ other_mean


def _scale(points_I2: Points, others_I2: Points, least: float) -> float:
    """Median ratio of the distances between two points, in pixels; 0 where none are `least` pixels apart."""
    kept = np.unique(np.linspace(0, len(points_I2) - 1, min(PAIRED, len(points_I2))).astype(int))
    first, second = np.triu_indices(len(kept), 1)
    apart, other_apart = (
        np.linalg.norm(xy_K2[first] - xy_K2[second], axis=1) for xy_K2 in (points_I2[kept], others_I2[kept])
    )
    far = (apart > least) & (other_apart > least)
    return float(np.exp(np.median(np.log(apart[far] / other_apart[far])))) if far.any() else 0.0


def _mirrored(points_I2: Points, others_I2: Points) -> bool:
    """Whether a reflection fits the points far better than any rotation does."""
    a, b = points_I2 - points_I2.mean(axis=0), others_I2 - others_I2.mean(axis=0)
    left, values, right = np.linalg.svd(a.T @ b)
    return bool(np.linalg.det(left @ right) < 0 and values[1] > 0.1 * values[0])


def _coverage(points_I2: Points, size: Size) -> float:
    cell = max(size) / CELLS
    rows, columns = (max(1, round(side / cell)) for side in size)
    at = np.stack(
        [
            np.clip(points_I2[:, 1] / size[0] * rows, 0, rows - 1).astype(int),
            np.clip(points_I2[:, 0] / size[1] * columns, 0, columns - 1).astype(int),
        ]
    )
    return len(np.unique(at[0] * columns + at[1])) / (rows * columns)


def _overlap(turn_22: Points, shift_2: Points, size: Size, other_size: Size) -> float:
    """Intersection over union of the query and the candidate's upright box, once moved."""
    height, width = other_size
    corners_42 = np.array([[0, 0], [width, 0], [width, height], [0, height]]) @ turn_22.T + shift_2
    low, high = np.maximum(corners_42.min(axis=0), 0), np.minimum(corners_42.max(axis=0), size[::-1])
    both = float(np.prod(np.maximum(high - low, 0)))
    whole = size[0] * size[1] + abs(float(np.linalg.det(turn_22))) * height * width
    return min(1.0, both / max(whole - both, 1e-9))
