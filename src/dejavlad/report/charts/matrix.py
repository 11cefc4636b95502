"""A square matrix of similarities, drawn as a picture with loops as dots on it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dejavlad.report.charts.axes import ticks
from dejavlad.report.templating import HTML, render

MOST_ROWS = 480
"""Rows and columns of a drawn matrix, at most."""
SIDE, LEFT, TOP, BELOW = 500, 50, 10, 50
"""Of the picture, and around it for its axes, in the drawing's own units."""


def matrix_chart(
    values_KK: NDArray[np.floating], n_frames: int, pairs: Sequence[tuple[int, int, str]], alt: str
) -> HTML | None:
    """The lower triangle of a matrix, earlier frames to the left; None for fewer than two rows.

    Args:
        values_KK: K of the N frames, evenly spread; drawn from its 1st to its 99.5th percentile.
        n_frames: N.
        pairs: frame, earlier frame, and colour of each loop.
        alt: what it shows.
    """
    k = len(values_KK)
    if k < 2:
        return None
    lower = np.tri(k, k=-1, dtype=bool)
    floor, top = np.percentile(values_KK[lower], [1, 99.5])
    scaled = np.clip((values_KK - floor) / (top - floor or 1), 0, 1)
    rgba = np.zeros((k, k, 4), np.uint8)
    rgba[..., :3] = (94, 129, 190)
    rgba[..., 3] = np.where(lower, 255 * scaled**1.5, 0).round().astype(np.uint8)
    scale = SIDE / max(n_frames, 1)
    spots = {
        colour: "".join(
            f"M{LEFT + (j + 0.5) * scale:.1f} {TOP + (i + 0.5) * scale:.1f}h0"
            for i, j, kind in pairs
            if kind == colour
        )
        for colour in ("none", "ask", "good", "bad")
    }
    steps = [step for step in ticks(0, n_frames - 1, whole=True) if step <= n_frames - 1]
    return render(
        "charts",
        "matrix",
        alt=alt,
        side=SIDE,
        left=LEFT,
        top=TOP,
        below=BELOW,
        picture=_png(rgba),
        spots=spots,
        steps=[(step * scale, f"{step:,.0f}") for step in steps],
    )


def _png(rgba: NDArray[np.uint8]) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(rgba).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode("ascii")
