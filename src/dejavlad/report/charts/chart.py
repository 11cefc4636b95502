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
        bands: (from, to) along the horizontal axis, shaded.
        marks: values of the horizontal axis at which a vertical line stands.
        labels: (x, y, text) written beside points.
    """
    area = _Area(x, y, width)
    return render(
        "charts",
        "chart",
        alt=alt,
        width=width,
        height=HEIGHT,
        wide=width == WIDE,
        box=(LEFT, TOP, area.right, area.bottom),
        x=x,
        y=y,
        rows=[(area.down(step), y.text(step)) for step in y.ticks],
        columns=[(area.across(step), x.text(step)) for step in x.ticks],
        bands=[(area.across(max(a, x.low)), area.across(min(b, x.high))) for a, b in bands],
        marks=[area.across(mark) for mark in marks if x.low < mark < x.high],
        labels=[area.label(*label) for label in labels],
        series=[area.series(line) for line in series],
    )


@dataclass(frozen=True, slots=True)
class _Area:
    """The plotted area: values of the axes to places in the chart."""

    x: Axis
    y: Axis
    width: int
    bottom: int = HEIGHT - BOTTOM

    @property
    def right(self) -> int:
        return self.width - RIGHT

    def across(self, value: float) -> float:
        return LEFT + (self.right - LEFT) * self.x.share(value)

    def down(self, value: float) -> float:
        return TOP + (self.bottom - TOP) * (1 - self.y.share(value))

    def series(self, line: Series) -> dict[str, object]:
        """What the template draws of a series."""
        points = [(i, *point) for i, point in enumerate(line.points) if math.isfinite(point[1])]
        if line.style and len(points) > MOST_POINTS:
            points = [*points[: -1 : -(-len(points) // MOST_POINTS)], points[-1]]
        spots = [(f"{self.across(a):.1f}", f"{self.down(b):.1f}") for _, a, b in points]
        titles = [
            line.titles[i] if line.titles else f"{line.name} {self.y.text(b)} at {a:,.0f}".strip()
            for i, a, b in points
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
            "dots": list(zip(spots, titles, strict=True)) if line.radius or len(spots) == 1 else [],
        }

    def label(self, at: float, value: float, text: str) -> tuple[float, float, str, str]:
        """Where a text is written, and by which of its ends, so that it stays within the chart."""
        before = self.across(at) + 8 + GLYPH * len(text) > self.width
        below = self.down(value) + 24 < self.bottom
        return (
            self.across(at) + (-8 if before else 8),
            self.down(value) + (20 if below else -10),
            "end" if before else "start",
            text,
        )
