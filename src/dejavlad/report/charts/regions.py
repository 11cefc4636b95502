"""Positions that lie in a few regions far from each other: each of them is drawn by itself.

On one drawing, two towns of one map would be two dots.

Legend: N positions.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dejavlad.geo import Positions, longitudes_latitudes

DEGREE: Final = 111_320.0
"""Metres of one degree of latitude."""
SMALLEST: Final = 5_000.0
"""A region of at most so many metres is not split."""
CELLS: Final = 16
"""The wider side of a region in cells; what lies in neighbouring cells is not split."""
SPARSE: Final = 0.2
"""A region is split where its parts are together less wide than this share of it."""
MOST: Final = 6
"""Regions, at most; more are not split at all."""
FEWEST: Final = 3
"""Positions in a region on average, at least."""

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


def regions(positions: Positions) -> list[Rows]:
    """The rows of each region, most positions first; one region where they lie together.

    Rows without a position are in none.
    """
    if not positions.known.any():
        return []
    at_N2 = _metres(positions)
    known = np.flatnonzero(np.isfinite(at_N2).all(axis=1))
    parts = _split(at_N2, known)
    if len(parts) > MOST or len(known) < FEWEST * len(parts):
        parts = [known]
    return sorted(parts, key=len, reverse=True)


def _metres(positions: Positions) -> Floats:
    """[N, 2] about how far east and north; NaN where that is not known, or on another plane than most."""
    at_N2 = longitudes_latitudes(positions)
    zoned = np.array([zone is not None for zone in positions.zones], np.bool_)
    mostly = 2 * (zoned & positions.known).sum() >= positions.known.sum()
    at_N2[zoned != mostly] = np.nan
    if mostly:
        east_N = at_N2[:, 0] - at_N2[np.isfinite(at_N2[:, 0]), 0][0]
        at_N2[:, 0] = (east_N + 180) % 360 - 180  # nothing is far apart across the date line
        at_N2 *= DEGREE
        at_N2[:, 0] *= np.cos(np.radians(np.nanmean(at_N2[:, 1]) / DEGREE))
    return np.asarray(at_N2)


def _split(at_N2: Floats, rows: Rows) -> list[Rows]:
    """The regions of some rows, split as far as they go."""
    low, size = at_N2[rows].min(axis=0), float(np.ptp(at_N2[rows], axis=0).max())
    if size <= SMALLEST:
        return [rows]
    cells_N2 = ((at_N2[rows] - low) / size * CELLS).astype(np.int64)
    labels_N = _joined(cells_N2)
    parts = [rows[labels_N == label] for label in np.unique(labels_N)]
    widths = sum(float(np.ptp(at_N2[part], axis=0).max()) for part in parts)
    if len(parts) == 1 or widths > SPARSE * size:
        return [rows]
    return [smaller for part in parts for smaller in _split(at_N2, part)]


def _joined(cells_N2: NDArray[np.int64]) -> NDArray[Any]:
    """The group of each row: occupied cells that touch, at a corner too, are one group."""
    occupied = {(int(x), int(y)) for x, y in np.unique(cells_N2, axis=0)}
    group: dict[tuple[int, int], int] = {}
    for start in sorted(occupied):
        waiting = [start] if start not in group else []
        while waiting:
            x, y = waiting.pop()
            if (x, y) in group or (x, y) not in occupied:
                continue
            group[x, y] = (CELLS + 1) * start[0] + start[1]  # the last cell is number CELLS
            waiting += [(x + dx, y + dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)]
    return np.array([group[int(x), int(y)] for x, y in cells_N2])
