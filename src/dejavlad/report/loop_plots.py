"""Drawings of loop closures as inline SVG: precision over recall, scores along the sequence, a matrix.

Legend: N frames.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dejavlad.evaluation.precision_recall import PrecisionRecall
from dejavlad.report.curves import ticks
from dejavlad.report.plots import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH
from dejavlad.report.text import escape, percent

MOST_POINTS = 800
"""Corners of a curve."""
MOST_DOTS = 5000
"""Dots along a sequence."""
MATRIX = 480
"""Rows and columns of a drawn matrix, at most."""
SIDE = 560
"""Width and height of one, with its axes."""

Dot = tuple[int, float, str, str]
"""Frame, score, state (``good``, ``bad``, ``none`` or ``ask``) and name."""


def precision_recall_plot(curve: PrecisionRecall) -> str:
    """Precision over recall, both from 0 to 1, with the last point that has no wrong answer marked."""

    def x(share: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * share

    def y(share: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - share)

    parts = []
    for i in range(6):
        share = i / 5
        parts.append(
            f'<path class="grid" d="M{LEFT} {y(share):.1f}H{WIDTH - RIGHT}"/>'
            f'<path class="grid" d="M{x(share):.1f} {HEIGHT - BOTTOM}v4"/>'
            f'<text x="{LEFT - 8}" y="{y(share) + 4:.1f}" text-anchor="end">{share:.0%}</text>'
            f'<text x="{x(share):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{share:.0%}</text>'
        )
    recall, precision = curve.recall, curve.precision
    if len(recall):
        kept = np.unique(np.linspace(0, len(recall) - 1, MOST_POINTS).round().astype(int))
        points = [
            (0.0, float(precision[0])),
            *zip(recall[kept].tolist(), precision[kept].tolist(), strict=True),
        ]
        line = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in points)
        parts.append(
            f'<polygon class="area" points="{x(0):.1f},{y(0):.1f} {line} {x(points[-1][0]):.1f},{y(0):.1f}"/>'
            f'<polyline class="curve" points="{line}"/>'
        )
    full = curve.recall_at_full_precision
    if full > 0:
        end = x(full) > WIDTH - 200
        parts.append(
            f'<circle class="knot" cx="{x(full):.1f}" cy="{y(1):.1f}" r="4.5"/>'
            f'<text class="value" x="{x(full) + (-8 if end else 8):.1f}" y="{y(1) + 22:.1f}" '
            f'text-anchor="{"end" if end else "start"}">{percent(full)} without an error</text>'
        )
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">'
        "recall: loops found, of those there are</text>"
        f'<text x="{LEFT + 8}" y="{HEIGHT - BOTTOM - 10}">precision: right, of those given</text>'
    )
    alt = f"Precision over recall: area {curve.auc:.3f}, recall without an error {100 * full:.1f} %"
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(alt)}">{"".join(parts)}</svg>'


def sequence_plot(
    dots: Sequence[Dot], n_frames: int, revisits: Sequence[bool] | None, given_from: float | None
) -> str:
    """The best score of each frame along the sequence; behind it the stretches that do close a loop.

    Args:
        dots: one a frame that has a best earlier one.
        n_frames: N.
        revisits: whether each frame closes a loop, where that is known.
        given_from: score from which on no loop is wrong, drawn as a line.
    """
    width, height = 1120, 300
    scores = [score for _, score, _, _ in dots]
    if not scores:
        return ""
    steps = ticks(min(scores), max(scores))
    low, high = steps[0], steps[-1]

    def x(frame: float) -> float:
        return LEFT + (width - LEFT - RIGHT) * frame / max(n_frames - 1, 1)

    def y(score: float) -> float:
        return TOP + (height - TOP - BOTTOM) * (1 - (score - low) / (high - low))

    parts = [
        f'<rect class="area" x="{x(first - 0.5):.1f}" y="{TOP}" width="{x(last + 0.5) - x(first - 0.5):.1f}" '
        f'height="{height - TOP - BOTTOM}"/>'
        for first, last in _stretches(revisits or [])
    ]
    parts += [
        f'<path class="grid" d="M{LEFT} {y(step):.1f}H{width - RIGHT}"/>'
        f'<text x="{LEFT - 8}" y="{y(step) + 4:.1f}" text-anchor="end">{step:.3g}</text>'
        for step in steps
    ]
    parts += [
        f'<text x="{x(step):.1f}" y="{height - BOTTOM + 20}" text-anchor="middle">{step:,.0f}</text>'
        for step in ticks(0, n_frames - 1, 10, whole=True)
        if step <= n_frames - 1
    ]
    if given_from is not None and low <= given_from <= high:
        parts.append(f'<path class="curve dash t2" d="M{LEFT} {y(given_from):.1f}H{width - RIGHT}"/>')
    shown = dots if len(dots) <= MOST_DOTS else [dots[i * len(dots) // MOST_DOTS] for i in range(MOST_DOTS)]
    size = 3.5 if len(shown) <= 400 else 2
    for state in ("none", "ask", "good", "bad"):
        parts += [
            f'<circle class="m-{state}" cx="{x(frame):.1f}" cy="{y(score):.1f}" r="{size}">'
            f"<title>{escape(name)}</title></circle>"
            for frame, score, kind, name in shown
            if kind == state
        ]
    parts.append(f'<text x="{(LEFT + width - RIGHT) / 2}" y="{height - 6}" text-anchor="middle">frame</text>')
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="The best score of each of {n_frames} '
        f'frames">{"".join(parts)}</svg>'
    )


def matrix_plot(
    values_KK: NDArray[np.floating], n_frames: int, pairs: Sequence[tuple[int, int, str]], alt: str
) -> str:
    """A square matrix as a picture, earlier frames to the right of later ones left out; loops as dots on it.

    Args:
        values_KK: K of the N frames, evenly spread; the lower triangle is drawn, from its 1st to its 99.5th
            percentile.
        n_frames: N.
        pairs: frame, earlier frame, and state of each loop.
        alt: what it shows.
    """
    k = len(values_KK)
    if k < 2:
        return ""
    lower = np.tri(k, k=-1, dtype=bool)
    floor, top = np.percentile(values_KK[lower], [1, 99.5])
    scaled = np.clip((values_KK - floor) / (top - floor or 1), 0, 1)
    alpha = np.where(lower, 255 * scaled**1.5, 0).round().astype(np.uint8)
    rgba = np.zeros((k, k, 4), np.uint8)
    rgba[..., :3] = (94, 129, 190)
    rgba[..., 3] = alpha
    side, left = SIDE - 60, 50
    scale = side / max(n_frames, 1)
    parts = [
        f'<image x="{left}" y="10" width="{side}" height="{side}" preserveAspectRatio="none" '
        f'image-rendering="pixelated" href="data:image/png;base64,{_png(rgba)}"/>'
        f'<path class="grid" d="M{left} 10v{side}h{side}L{left} 10"/>'
    ]
    for state in ("none", "ask", "good", "bad"):
        spots = "".join(
            f"M{left + (j + 0.5) * scale:.1f} {10 + (i + 0.5) * scale:.1f}h0"
            for i, j, kind in pairs
            if kind == state
        )
        if spots:
            parts.append(f'<path class="m-{state}" d="{spots}"/>')
    for step in ticks(0, n_frames - 1, 5, whole=True):
        if step <= n_frames - 1:
            parts.append(
                f'<text x="{left - 8}" y="{14 + step * scale:.1f}" text-anchor="end">{step:,.0f}</text>'
                f'<text x="{left + step * scale:.1f}" y="{side + 28}" text-anchor="middle">{step:,.0f}</text>'
            )
    parts.append(f'<text x="{left + side / 2}" y="{SIDE - 8}" text-anchor="middle">earlier frame</text>')
    return f'<svg viewBox="0 0 {SIDE} {SIDE}" role="img" aria-label="{escape(alt)}">{"".join(parts)}</svg>'


def _png(rgba: NDArray[np.uint8]) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(rgba).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode("ascii")


def _stretches(marks: Sequence[bool]) -> list[tuple[int, int]]:
    """First and last of each run of marked frames."""
    found: list[tuple[int, int]] = []
    for i, marked in enumerate(marks):
        if marked and found and found[-1][1] == i - 1:
            found[-1] = (found[-1][0], i)
        elif marked:
            found.append((i, i))
    return found
