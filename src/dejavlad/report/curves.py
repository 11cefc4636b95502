"""Curves over time as inline SVG, coloured by the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from dejavlad.report.text import escape

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 58, 20, 16, 44
MOST_POINTS = 600
"""Of one curve; more are thinned out."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A curve of a drawing."""

    points: Sequence[tuple[float, float]]
    """(x, y), x ascending."""
    style: str = "curve"
    """Its class: ``curve`` with ``t0`` to ``t3`` for its colour, ``dash`` and ``faint``."""
    name: str = ""
    """For the key; none, where that is empty."""
    knots: bool = False
    """Whether each point is marked."""


@dataclass(frozen=True, slots=True)
class Axes:
    """What the axes say."""

    x: str
    """Below the horizontal axis."""
    what: str
    """What the drawing shows, for those who do not see it."""
    told: Callable[[float], str] = field(default=lambda value: f"{value:g}")
    """A value of the vertical axis in words."""
    y_from_zero: bool = True
    """Whether the vertical axis begins at 0."""
    marks: Sequence[float] = ()
    """Places on the horizontal axis that a line is drawn at, such as beginnings of epochs."""
    top: float | None = None
    """End of the vertical axis, where it is known."""


def curves(drawn: Sequence[Curve], axes: Axes) -> str:
    """The drawing with its key; nothing where no curve has a point.

    Values that are not finite are left out.
    """
    kept = [(one, _thin(one.points)) for one in drawn]
    everything = [point for _, points in kept for point in points]
    if not everything:
        return ""
    xs = [x for x, _ in everything]
    x_low, x_high = min(xs), max(xs)
    if x_low == x_high:
        x_low, x_high = x_low - 0.5, x_high + 0.5
    y_low = 0.0 if axes.y_from_zero else min(y for _, y in everything)
    steps = ticks(y_low, axes.top if axes.top is not None else max(y for _, y in everything))
    y_low, y_high = steps[0], steps[-1]

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - x_low) / (x_high - x_low)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - y_low) / (y_high - y_low))

    parts = [
        f'<path class="grid" d="M{LEFT} {y(step):.1f}H{WIDTH - RIGHT}"/>'
        f'<text x="{LEFT - 8}" y="{y(step) + 4:.1f}" text-anchor="end">{axes.told(step)}</text>'
        for step in steps
    ]
    parts += [
        f'<path class="mark" d="M{x(mark):.1f} {TOP}V{HEIGHT - BOTTOM}"/>'
        for mark in axes.marks
        if x_low < mark < x_high
    ]
    for step in ticks(x_low, x_high, 6, whole=True):
        if x_low <= step <= x_high:
            parts.append(
                f'<text x="{x(step):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{step:,.0f}</text>'
            )
    for one, points in kept:
        if len(points) > 1:
            line = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in points)
            parts.append(f'<polyline class="{one.style}" points="{line}"/>')
        if one.knots or len(points) == 1:
            colour = " ".join(name for name in one.style.split() if name[0] == "t")
            for a, b in points:
                parts.append(
                    f'<circle class="knot {colour}" cx="{x(a):.1f}" cy="{y(b):.1f}" r="3.5">'
                    f"<title>{escape(one.name)} {axes.told(b)} at {a:,.0f}</title></circle>"
                )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(axes.x)}</text>')
    last = "; ".join(f"{one.name} {axes.told(points[-1][1])}" for one, points in kept if one.name and points)
    key = "".join(
        f'<li><svg class="stroke" viewBox="0 0 22 8" aria-hidden="true"><path class="{one.style}" '
        f'd="M1 4H21"/></svg>{escape(one.name)}</li>'
        for one, points in kept
        if one.name and points
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(axes.what)}; at last: {last}">'
        f"{''.join(parts)}</svg>" + (f'<ul class="key">{key}</ul>' if key else "")
    )


def ticks(low: float, high: float, most: int = 5, *, whole: bool = False) -> list[float]:
    """Round numbers from one at or below `low` to one at or above `high`, about so many steps apart."""
    span = high - low if high > low else abs(high) or 1.0
    step = 10.0 ** math.floor(math.log10(span / most))
    step *= next(factor for factor in (1, 2, 2.5, 5, 10) if factor * step * most >= span * (1 - 1e-9))
    if whole:
        step = max(1.0, math.ceil(step))
    first = math.floor(low / step + 1e-9)
    last = max(first + 1, math.ceil(low / step + span / step - 1e-9))
    return [step * i for i in range(first, last + 1)]


def smooth(values: Sequence[float], width: int) -> list[float]:
    """Means over about so many values around each; fewer at the ends."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    n, half = len(values), width // 2
    return [
        float(
            (sums[min(n, i + half + 1)] - sums[max(0, i - half)]) / (min(n, i + half + 1) - max(0, i - half))
        )
        for i in range(n)
    ]


def _thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    there = [(a, b) for a, b in points if math.isfinite(b)]
    step = -(-len(there) // MOST_POINTS) or 1
    thinned = there[::step]
    return thinned if not there or thinned[-1] == there[-1] else [*thinned, there[-1]]
