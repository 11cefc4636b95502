"""Curves and bars as inline SVG, coloured by the page's style sheet.

Legend: Q queries, N rank.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from dejavlad.evaluation import Result
from dejavlad.report.curves import Axes, Curve, curves
from dejavlad.report.text import percent, sure

WIDTH, HEIGHT = 640, 330
LEFT, RIGHT, TOP, BOTTOM = 46, 20, 16, 44
TICKS = (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 500, 1000)
DEEPEST = 100
"""The curve ends at this N at the latest."""


def recall_curve(result: Result, depth: int) -> str:
    """recall@N over N, as far as the ranking goes; N on a logarithmic axis.

    Args:
        result: with ``hits_at`` the curve has every N, without only the Ns of its recalls.
        depth: K of the ranking.
    """
    shares = _shares(result, depth)
    last = max(shares)
    floor = 0.0 if min(shares.values()) < 0.6 else 0.5
    span = math.log(max(last, 2))

    def x(n: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log(n) / span

    def y(share: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (share - floor) / (1 - floor))

    parts = []
    steps = 5
    for i in range(steps + 1):
        share = floor + (1 - floor) * i / steps
        parts.append(
            f'<path class="grid" d="M{LEFT} {y(share):.1f}H{WIDTH - RIGHT}"/>'
            f'<text x="{LEFT - 8}" y="{y(share) + 4:.1f}" text-anchor="end">{share:.0%}</text>'
        )
    previous = -99.0
    for n in [n for n in TICKS if n < last] + [last]:
        if (last == n and n not in TICKS) or x(n) - previous > 26:
            previous = x(n)
            parts.append(
                f'<text x="{x(n):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{n}</text>'
                f'<path class="grid" d="M{x(n):.1f} {HEIGHT - BOTTOM}v4"/>'
            )
    line = " ".join(f"{x(n):.1f},{y(share):.1f}" for n, share in shares.items())
    low = y(floor)
    parts.append(
        f'<polygon class="area" points="{x(min(shares)):.1f},{low:.1f} {line} {x(last):.1f},{low:.1f}"/>'
        f'<polyline class="curve" points="{line}"/>'
    )
    for n, share in result.recall.items():
        if n in shares:
            side = "start" if x(n) < WIDTH - 90 else "end"
            shift = 8 if side == "start" else -8
            below = y(share) + 20 if y(share) + 24 < low else y(share) - 10
            parts.append(
                f'<circle class="knot" cx="{x(n):.1f}" cy="{y(share):.1f}" r="4.5">'
                f"<title>recall@{n}: {percent(share)}</title></circle>"
                f'<text class="value" x="{x(n) + shift:.1f}" y="{below:.1f}" text-anchor="{side}">'
                f"{percent(share)}</text>"
            )
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">'
        "N, the best answers looked at</text>"
    )
    told = ", ".join(f"recall@{n} {percent(share)}" for n, share in result.recall.items())
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="Recall over the number of answers looked at: {told}">{"".join(parts)}</svg>'
    )


def distance_curve(result: Result) -> str:
    """The share of queries with an answer so near, over the distance; nothing where it is not known."""
    drawn = [
        Curve(
            list(curve.items()),
            style=f"curve {colour}",
            name=f"best of the first {n}" if n > 1 else "the first answer",
        )
        for colour, (n, curve) in zip(("t0", "t2", "t3"), result.by_distance.items(), strict=False)
    ]
    truth = result.protocol.get("truth")
    radius = truth.get("radius_m") if isinstance(truth, Mapping) else None
    return curves(
        drawn,
        Axes(
            "metres from the query",
            "Share of queries over the distance of their nearest answer",
            told=lambda share: f"{share:.0%}",
            marks=[radius] if radius is not None else [],
            top=1.0,
        ),
    )


def confidence_bar(confidence: float, known: bool) -> str:
    """A bar from 0 to 1 with a tick at one half, where known places begin."""
    filled = 400 * min(max(confidence, 0.0), 1.0)
    return (
        f'<svg viewBox="0 0 400 10" role="img" aria-label="confidence {sure(confidence)}">'
        '<rect class="s-back" width="400" height="10" rx="5"/>'
        f'<rect class="{"s-good" if known else "s-none"}" width="{filled:.1f}" height="10" rx="5"/>'
        '<path class="s-tick" d="M200 0v10"/></svg>'
    )


def _shares(result: Result, depth: int) -> Mapping[int, float]:
    """N -> recall@N, for the curve."""
    if result.hits_at is None or not depth:
        return dict(sorted(result.recall.items()))
    last = min(depth, max(DEEPEST, *result.recall))
    hits = result.hits_at[(result.hits_at > 0) & (result.hits_at <= last)]
    right = np.cumsum(np.bincount(hits, minlength=last + 1))
    return {n: float(right[n] / max(result.n_counted, 1)) for n in range(1, last + 1)}
