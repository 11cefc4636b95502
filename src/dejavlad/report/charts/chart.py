"""A chart: series of points over two axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dejavlad.report.charts.axes import Axis
from dejavlad.report.templating import HTML, render

WIDTH, HEIGHT = 640, 320
"""Of a chart, in its own units; it is scaled to the width that it has on the page."""
WIDE = 1120
"""Of a chart that takes the whole width of a page."""
LEFT, RIGHT, TOP, BOTTOM = 58, 20, 16, 44
"""Around the plotted area."""
GLYPH = 7
"""Width of a letter, about."""
MOST_POINTS = 600
"""Corners of one line; of more, every so manieth is drawn."""


@dataclass(frozen=True, slots=True)
class Series:
    """Points that are drawn alike."""

    points: Sequence[tuple[float, float]]
    """(x, y); x ascending, where they are joined. Those that are not finite are left out."""
    style: str = "curve"
    """Classes of the line: ``curve`` with ``t0`` to ``t3`` for its colour, ``dash`` and ``faint``; empty
    draws no line."""
    name: str = ""
    """In the key, which leaves out series without a name."""
    radius: float = 0.0
    """Of a dot at each point; 0 draws none, but for a series of one point."""
    dot: str = "knot"
    """Class of the dots."""
    titles: Sequence[str] = ()
    """What each dot says when it is pointed at; its values, unless given."""
    area: bool = False
    """Whether the area below the line is coloured."""


def chart(
    x: Axis,
    y: Axis,
    series: Sequence[Series],
    *,
    alt: str,
    width: int = WIDTH,
    height: int = HEIGHT,
    bands: Sequence[tuple[float, float]] = (),
    marks: Sequence[float] = (),
    labels: Sequence[tuple[float, float, str]] = (),
) -> HTML:
    """The chart as SVG, with a key of its named series.

    Args:
        x: the horizontal axis.
        y: the vertical axis.
        series: drawn one over the other.
        alt: what it shows, for those who do not see it.
        width: of the chart, in its own units.
        height: likewise.
        bands: (from, to) along the horizontal axis, shaded.
        marks: values of the horizontal axis at which a vertical line stands.
        labels: (x, y, text) written beside points.
    """
    right, bottom = width - RIGHT, height - BOTTOM

    def across(value: float) -> float:
        return LEFT + (right - LEFT) * x.share(value)

    def down(value: float) -> float:
        return TOP + (bottom - TOP) * (1 - y.share(value))

    def drawn(line: Series) -> dict[str, object]:
        kept = [(i, *point) for i, point in enumerate(line.points) if math.isfinite(point[1])]
        if line.style and len(kept) > MOST_POINTS:
            kept = [*kept[: -1 : -(-len(kept) // MOST_POINTS)], kept[-1]]
        spots = [(f"{across(a):.1f}", f"{down(b):.1f}") for _, a, b in kept]
        says = [
            line.titles[i] if line.titles else f"{line.name} {y.text(b)} at {a:,.0f}".strip()
            for i, a, b in kept
        ]
        colour = " ".join(name for name in line.style.split() if name[0] == "t")
        return {
            "line": line.style if len(spots) > 1 else "",
            "area": line.area,
            "name": line.name if spots else "",
            "style": line.style,
            "corners": " ".join(f"{a},{b}" for a, b in spots),
            "ends": (spots[0][0], spots[-1][0]) if spots else (),
            "dot": f"{line.dot} {colour}".strip(),
            "radius": f"{line.radius or 3.5:g}",
            "dots": list(zip(spots, says, strict=True)) if line.radius or len(spots) == 1 else [],
        }

    def written(at: float, value: float, text: str) -> tuple[float, float, str, str]:
        before = across(at) + 8 + GLYPH * len(text) > width
        below = down(value) + 24 < bottom
        return (
            across(at) + (-8 if before else 8),
            down(value) + (20 if below else -10),
            "end" if before else "start",
            text,
        )

    return render(
        "charts",
        "chart",
        alt=alt,
        width=width,
        height=height,
        wide=width == WIDE,
        box=(LEFT, TOP, right, bottom),
        x=x,
        y=y,
        rows=[(down(step), y.text(step)) for step in y.ticks],
        columns=[(across(step), x.text(step)) for step in x.ticks],
        bands=[(across(max(a, x.low)), across(min(b, x.high))) for a, b in bands],
        marks=[across(mark) for mark in marks if x.low < mark < x.high],
        labels=[written(*label) for label in labels],
        series=[drawn(line) for line in series],
    )
