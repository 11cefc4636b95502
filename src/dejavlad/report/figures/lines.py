"""Which matches of two photos are drawn, and in which colours: a few, spread over the photo, so that each
line can be followed.

Shapes: M matches, L lines.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dejavlad.rerank import PatchMatch

MOST_LINES = 60
"""Lines drawn between two photos, at most."""

COLOURS = (
    "#5b84ff",
    "#38a6ff",
    "#22c7e6",
    "#25dcb5",
    "#5fe67c",
    "#a5ea50",
    "#dddd3c",
    "#ffc033",
    "#ff993b",
    "#ff7150",
    "#fb5a86",
    "#dd66d2",
)
"""Of lines, from the leftmost in the query to the rightmost; light enough for any photo."""


def spread_rows(points_M2: NDArray[np.float32], most: int = MOST_LINES) -> NDArray[np.int64]:
    """Rows of at most so many points, each as far as can be from those before it; the middle one first.

    Args:
        points_M2: [M, 2].
        most: L.

    Returns:
        int64 [L].
    """
    exact_M2 = points_M2.astype(np.float64)
    if not len(points_M2):
        return np.zeros(0, dtype=np.int64)
    first = int(_squares(exact_M2, exact_M2.mean(axis=0)).argmin())
    rows = [first]
    far_M = _squares(exact_M2, exact_M2[first])
    while len(rows) < min(most, len(points_M2)):
        far_M[rows[-1]] = -1
        rows.append(int(far_M.argmax()))
        far_M = np.minimum(far_M, _squares(exact_M2, exact_M2[rows[-1]]))
        far_M[rows] = -1
    return np.array(rows)


def shown_matches(
    match: PatchMatch, query_size: tuple[int, int], candidate_size: tuple[int, int], most: int = MOST_LINES
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The ends of the lines of one patch size, as shares of the photos' sides, and their colours.

    Args:
        match: with points in pixels of the prepared photos.
        query_size: height and width of the query, prepared.
        candidate_size: height and width of the candidate, prepared.
        most: lines, at most.

    Returns:
        [L, 4]: x and y in the query, x and y in the candidate, each 0 to 1; and [L] places in `COLOURS`.
    """
    rows = spread_rows(match.query_points, most)
    shares_L4 = np.concatenate(
        [
            (match.query_points[rows] + 0.5) / np.array(query_size[::-1], dtype=np.float64),
            (match.candidate_points[rows] + 0.5) / np.array(candidate_size[::-1], dtype=np.float64),
        ],
        axis=1,
    )
    across_L = shares_L4[:, 0]
    low, high = (float(across_L.min()), float(across_L.max())) if len(rows) else (0.0, 1.0)
    colours_L = (across_L - low) / max(high - low, 0.25) * (len(COLOURS) - 1)
    return shares_L4, np.round(colours_L).astype(np.int64)


def rgb(colour: str) -> tuple[int, int, int]:
    """``"#5b84ff"`` as three numbers to 255."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _squares(points_M2: NDArray[np.float64], at_2: NDArray[np.float64]) -> NDArray[np.float64]:
    squares: NDArray[np.float64] = ((points_M2 - at_2) ** 2).sum(axis=1)
    return squares
