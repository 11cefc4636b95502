"""Where photos lie, as an SVG map of our own: north up, one scale both ways, a bar of metres.

However many photos there are, the drawing stays small: dots that would fall on one spot are drawn once.

Legend: N photos, P points drawn.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import DejavladError
from dejavlad.geo import Position, Positions, latlon, utm_from_latlon
from dejavlad.report.charts.axes import spread
from dejavlad.report.charts.chart import WIDE
from dejavlad.report.charts.regions import regions
from dejavlad.report.templating import HTML, render
from dejavlad.report.text import NBSP, metres

WIDTH = WIDE
LOWEST, HIGHEST = 260, 620
MARGIN = 34
MOST_DOTS = 15_000
"""Dots of one layer; of more, evenly spread ones are drawn."""
MOST_LINES = 1_500
FEW = 300
"""Dots of a layer that are drawn larger."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Layer:
    """Photos drawn alike."""

    style: str
    """Class of the style sheet: ``m-db``, ``m-good``, ``m-bad``, ``m-none`` or ``m-ask``."""
    positions: Sequence[Position | None]
    """Where they are."""
    radius: float = 4.0
    """Of a dot."""
    names: Sequence[str] = field(default=())
    """What each dot is called when pointed at; without, dots are drawn at once."""
    links: Sequence[str | None] = field(default=())
    """Anchor of the page that each dot leads to."""


def place_map(
    layers: Sequence[Layer], lines: Sequence[tuple[Position | None, Position | None]] = (), *, alt: str
) -> HTML | None:
    """The map, or None where no photo has a position.

    Photos of regions far apart (`regions`) get a map each, those with photos of more than the first layer
    where there are such.

    Args:
        layers: drawn one over the other.
        lines: from a wrongly answered query to its best answer, drawn over the first layer.
        alt: what it shows, in words.
    """
    every = [p if _usable(p) else None for layer in layers for p in layer.positions]
    ends = np.cumsum([0, *(len(layer.positions) for layer in layers)]).tolist()
    parts = regions(Positions.from_list(every))
    if len(parts) > 1 and any(every[ends[1] :]):
        parts = [rows for rows in parts if (rows >= ends[1]).any()]
    drawn = []
    for rows in parts:
        here: list[Position | None] = [None] * len(every)
        for row in rows.tolist():
            here[row] = every[row]
        pieces = [here[start:end] for start, end in pairwise(ends)]
        drawn.append(_region(list(map(_placed, layers, pieces)), lines, alt))
    return HTML("\n".join(filter(None, drawn))) if any(drawn) else None


def _placed(layer: Layer, positions: Sequence[Position | None]) -> Layer:
    return replace(layer, positions=positions)


def _region(
    layers: Sequence[Layer], lines: Sequence[tuple[Position | None, Position | None]], alt: str
) -> HTML | None:
    """The map of what lies together."""
    plane = Plane.of([p for layer in layers for p in layer.positions])
    if plane is None:
        return None
    length = _bar_length(plane)
    return render(
        "charts",
        "places",
        alt=alt,
        width=WIDTH,
        height=plane.height,
        layers=[_drawn(layer, plane) for layer in layers],
        lines=_lines(lines, plane),
        bar=length * plane.scale,
        bar_text=metres(length) if length < 1 else _round_length(length),
    )


@dataclass(frozen=True, slots=True)
class Plane:
    """From positions to points of the drawing."""

    zone: str | None
    west: float
    north: float
    scale: float
    """Drawing units a metre."""
    height: int

    @classmethod
    def of(cls, positions: Sequence[Position | None]) -> Plane | None:
        """The plane that shows all of them; None where there are none."""
        known = [p for p in positions if _usable(p)]
        if not known:
            return None
        zone = Counter(p.zone for p in known if p is not None).most_common(1)[0][0]
        points = np.array([at for p in known if (at := _in_zone(p, zone)) is not None])
        low, high = points.min(axis=0), points.max(axis=0)
        wide, tall = (max(float(size), 1.0) for size in high - low)
        scale = min((WIDTH - 2 * MARGIN) / wide, (HIGHEST - 2 * MARGIN) / tall, 40.0)
        height = int(min(max(tall * scale + 2 * MARGIN, LOWEST), HIGHEST))
        middle = (low + high) / 2
        return cls(
            zone, float(middle[0] - WIDTH / 2 / scale), float(middle[1] + height / 2 / scale), scale, height
        )

    def at(self, position: Position | None) -> tuple[float, float] | None:
        """Where a position lies in the drawing; None where it is not known, or on another plane."""
        point = _in_zone(position, self.zone) if _usable(position) else None
        if point is None:
            return None
        return (point[0] - self.west) * self.scale, (self.north - point[1]) * self.scale


def _usable(position: Position | None) -> bool:
    return position is not None and math.isfinite(position.east) and math.isfinite(position.north)


def _in_zone(position: Position | None, zone: str | None) -> tuple[float, float] | None:
    if position is None:
        return None
    if position.zone == zone:
        return position.east, position.north
    if position.zone is None or zone is None:
        return None
    try:
        moved = utm_from_latlon(*latlon(position), zone)
    except (DejavladError, ValueError):  # too far from the zone for its formulas
        return None
    return moved.east, moved.north


def _drawn(layer: Layer, plane: Plane) -> dict[str, object]:
    """A path of all dots of a layer, or, where they have names, the dots themselves."""
    at = [plane.at(position) for position in layer.positions]
    spots: list[str] = []
    pins: list[tuple[float, float, str, str | None]] = []
    if layer.names:
        pins = [
            (*point, layer.names[i], layer.links[i] if layer.links else None)
            for i in spread(len(at), MOST_DOTS)
            if (point := at[i]) is not None
        ]
    else:
        spots = list(dict.fromkeys(f"M{x:.0f} {y:.0f}h0" for x, y in (p for p in at if p is not None)))
    return {
        "style": f"{layer.style} few" if len(spots) <= FEW else layer.style,
        "path": "".join(spots[i] for i in spread(len(spots), MOST_DOTS)),
        "pins": pins,
        "pin": f"pin {layer.style}",
        "radius": f"{layer.radius:g}",
    }


def _lines(lines: Sequence[tuple[Position | None, Position | None]], plane: Plane) -> str:
    return "".join(
        f"M{a[0]:.1f} {a[1]:.1f}L{b[0]:.1f} {b[1]:.1f}"
        for start, end in (lines[i] for i in spread(len(lines), MOST_LINES))
        if (a := plane.at(start)) is not None and (b := plane.at(end)) is not None
    )


def _bar_length(plane: Plane) -> float:
    """The longest of 1, 2, 5, 10, ... metres that takes at most a fifth of the width."""
    room = WIDTH / 5 / plane.scale
    power = 10.0 ** math.floor(math.log10(room))
    return power * max(step for step in (1, 2, 5) if step * power <= room)


def _round_length(length: float) -> str:
    return f"{length:g}{NBSP}m" if length < 1000 else f"{length / 1000:g}{NBSP}km"
