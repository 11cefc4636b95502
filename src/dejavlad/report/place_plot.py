"""Where photos lie, as an SVG map of our own: north up, one scale both ways, a bar of metres.

However many photos there are, the drawing stays small: dots that would fall on one spot are drawn once.

Legend: N photos, P points drawn.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import DejavladError
from dejavlad.geo import Position, latlon, utm_from_latlon
from dejavlad.report.text import escape, label, metres

WIDTH = 1120
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


def place_plot(
    layers: Sequence[Layer], lines: Sequence[tuple[Position | None, Position | None]] = (), *, alt: str
) -> str:
    """The map, or nothing where no photo has a position.

    Args:
        layers: drawn one over the other.
        lines: from a wrongly answered query to its best answer.
        alt: what it shows, in words.
    """
    plane = Plane.of([p for layer in layers for p in layer.positions])
    if plane is None:
        return ""
    parts = [_dots(layer, plane) for layer in layers[:1]]
    parts.append(_lines(lines, plane))
    parts += [_dots(layer, plane) for layer in layers[1:]]
    return (
        f'<svg viewBox="0 0 {WIDTH} {plane.height}" role="img" aria-label="{escape(alt)}">'
        f"{''.join(parts)}{_scale_bar(plane)}{_north(plane)}</svg>"
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
        there = _in_zone(position, self.zone) if _usable(position) else None
        if there is None:
            return None
        return (there[0] - self.west) * self.scale, (self.north - there[1]) * self.scale


def spread(number: int, most: int) -> list[int]:
    """So many of the places 0 to number - 1, evenly spread; all where there are no more."""
    if number <= most:
        return list(range(number))
    return [i * number // most for i in range(most)]


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


def _dots(layer: Layer, plane: Plane) -> str:
    at = [plane.at(position) for position in layer.positions]
    if layer.names:
        return "".join(
            _dot(layer, i, point) for i in spread(len(at), MOST_DOTS) if (point := at[i]) is not None
        )
    spots = list(dict.fromkeys(f"M{x:.0f} {y:.0f}h0" for x, y in (p for p in at if p is not None)))
    if not spots:
        return ""
    size = " few" if len(spots) <= FEW else ""
    return (
        f'<path class="{layer.style}{size}" d="{"".join(spots[i] for i in spread(len(spots), MOST_DOTS))}"/>'
    )


def _dot(layer: Layer, i: int, point: tuple[float, float]) -> str:
    name = label(layer.names[i], 80)
    circle = (
        f'<circle class="pin {layer.style}" cx="{point[0]:.1f}" cy="{point[1]:.1f}" r="{layer.radius:g}">'
        f"<title>{name}</title></circle>"
    )
    link = layer.links[i] if layer.links else None
    return circle if link is None else f'<a href="#{escape(link)}" aria-label="{name}">{circle}</a>'


def _lines(lines: Sequence[tuple[Position | None, Position | None]], plane: Plane) -> str:
    drawn = [
        f"M{a[0]:.1f} {a[1]:.1f}L{b[0]:.1f} {b[1]:.1f}"
        for start, end in (lines[i] for i in spread(len(lines), MOST_LINES))
        if (a := plane.at(start)) is not None and (b := plane.at(end)) is not None
    ]
    return f'<path class="m-line" d="{"".join(drawn)}"/>' if drawn else ""


def _scale_bar(plane: Plane) -> str:
    """The longest of 1, 2, 5, 10, ... metres that takes at most a fifth of the width."""
    room = WIDTH / 5 / plane.scale
    power = 10.0 ** math.floor(math.log10(room))
    length = power * max(step for step in (1, 2, 5) if step * power <= room)
    x, y = WIDTH - 16, plane.height - 14
    told = f"{length:g}&nbsp;m" if length < 1000 else f"{length / 1000:g}&nbsp;km"
    if length < 1:
        told = metres(length)
    return (
        f'<path class="m-rule" d="M{x:.1f} {y - 5}v5h{-length * plane.scale:.1f}v-5"/>'
        f'<text x="{x - length * plane.scale / 2:.1f}" y="{y - 7}" text-anchor="middle">{told}</text>'
    )


def _north(plane: Plane) -> str:
    return (
        f'<path class="m-north" d="M{WIDTH - 22} 12l6 16l-6 -4l-6 4z"/>'
        f'<text x="{WIDTH - 22}" y="42" text-anchor="middle">N</text>'
    )
