"""Where photos were taken: latitude/longitude and UTM with the zone kept, distances, neighbours in a radius.

Positions of one zone are compared on its plane, as the field's ground truth does. Across zones (the date line
included) they are compared as points in space on the WGS 84 ellipsoid, whose straight distances agree with
those along the ground to a millimetre within a kilometre.

Legend: N positions, Q queries.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError

EQUATOR, FLATTENING = 6378137.0, 1 / 298.257223563
"""WGS 84: radius at the equator in metres, and flattening."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Position:
    """A point in metres, on a map plane."""

    east: float
    """Metres eastwards."""
    north: float
    """Metres northwards."""
    zone: str | None = None
    """UTM zone with its hemisphere, e.g. ``"33N"``; None for a plane of the user's own."""


def utm_from_latlon(lat: float, lon: float, zone: str | None = None) -> Position:
    """Latitude and longitude in degrees (WGS 84) to UTM.

    Args:
        lat: -80 to 84, north positive.
        lon: -180 to 180, east positive.
        zone: compute in this zone, rather than in the point's own.

    Raises:
        InputError: not a number, or outside of those ranges.
    """
    import utm

    if not (math.isfinite(lat) and math.isfinite(lon)):
        raise InputError(f"latitude {lat}, longitude {lon} is not a position")
    if not (-80 <= lat <= 84 and -180 <= lon <= 180):
        hint = " (are they swapped?)" if -80 <= lon <= 84 and 84 < abs(lat) <= 180 else ""
        raise InputError(
            f"latitude {lat}, longitude {lon} is outside UTM: valid are -80 to 84 and -180 to 180{hint}"
        )
    forced = parse_zone(zone) if zone is not None else (None, lat >= 0)
    east, north, number, _ = utm.from_latlon(
        lat, lon, force_zone_number=forced[0], force_northern=forced[1] if zone is not None else None
    )
    return Position(float(east), float(north), f"{number}{'N' if forced[1] else 'S'}")


def latlon(position: Position) -> tuple[float, float]:
    """Latitude and longitude in degrees (WGS 84) of a position whose UTM zone is known.

    Raises:
        InputError: its zone is not known.
    """
    import utm

    if position.zone is None:
        raise InputError("a position without a UTM zone has no latitude and longitude")
    number, northern = parse_zone(position.zone)
    lat, lon = utm.to_latlon(position.east, position.north, number, northern=northern, strict=False)
    return float(lat), (float(lon) + 180) % 360 - 180


def parse_zone(zone: str) -> tuple[int, bool]:
    """``"33N"`` to (33, True): the number, and whether it is the northern hemisphere.

    Raises:
        InputError: it is no zone.
    """
    found = re.fullmatch(r"\s*(\d{1,2})\s*([NSns])\s*", zone)
    if not found or not 1 <= int(found[1]) <= 60:
        raise InputError(f"{zone!r} is no UTM zone; valid: 1 to 60 with N or S, e.g. 33N")
    return int(found[1]), found[2].upper() == "N"


def distance(a: Position, b: Position) -> float:
    """Metres between two positions, across zones and the date line.

    Raises:
        InputError: one has a UTM zone and the other has none.
    """
    if (a.zone is None) != (b.zone is None):
        raise InputError("a position with a UTM zone cannot be compared with one on another plane")
    if a.zone == b.zone:
        return math.hypot(a.east - b.east, a.north - b.north)
    return float(np.linalg.norm(_in_space([a]) - _in_space([b])))


class Positions:
    """Where N photos were taken; NaN where that is not known.

    Args:
        east_north: float64 [N, 2] metres in each position's own zone; NaN where not known.
        zones: the UTM zone of each (None: a plane of the user's own).
    """

    def __init__(self, east_north: Floats, zones: Sequence[str | None]) -> None:
        self.east_north = east_north
        """float64 [N, 2], metres in each position's own zone; NaN where not known."""
        self.zones = tuple(zones)
        self.known: NDArray[np.bool_] = np.asarray(np.isfinite(east_north).all(axis=1))
        """bool [N]."""

    @classmethod
    def from_list(cls, positions: Sequence[Position | None]) -> Self:
        """From positions in order; None, or NaN, where not known."""
        east_north = np.full((len(positions), 2), np.nan)
        for i, position in enumerate(positions):
            if position is not None:
                east_north[i] = position.east, position.north
        return cls(east_north, [p.zone if p is not None else None for p in positions])

    def __len__(self) -> int:
        return len(self.east_north)

    def take(self, rows: NDArray[np.int64]) -> Positions:
        """The positions of some rows."""
        return Positions(self.east_north[rows], [self.zones[i] for i in rows])

    def distances(self) -> Floats:
        """float64 [N, N] metres between all of them; NaN where one is not known."""
        points = _points(self)
        return np.asarray(np.linalg.norm(points[:, None] - points, axis=2))

    def within(self, queries: Positions, radius: float) -> list[NDArray[np.int64]]:
        """For each query the rows of self at most `radius` metres away, ascending; none where not known.

        Raises:
            InputError: the radius is negative or not finite, or only some positions have a UTM zone.
        """
        from scipy.spatial import cKDTree

        if not (math.isfinite(radius) and radius >= 0):
            raise InputError(f"a radius is 0 metres or more; given {radius}")
        here, there = _points(self, queries), _points(queries, self)
        rows = np.flatnonzero(self.known)
        found = [np.empty(0, np.int64)] * len(queries)
        if not len(rows):
            return found
        asked = np.flatnonzero(queries.known)
        # The tree answers a little wide; the squared distance decides, as in the original (sq <= radius^2).
        near = cKDTree(here[rows]).query_ball_point(there[asked], radius * (1 + 1e-9) + 1e-9)
        for query, hits in zip(asked.tolist(), near, strict=True):
            hit = rows[np.sort(np.asarray(hits, np.int64))]
            squared = ((here[hit] - there[query]) ** 2).sum(axis=1)
            found[query] = hit[squared <= radius**2]
        return found


def _points(of: Positions, beside: Positions | None = None) -> Floats:
    """[N, 2] on a plane where all (with those `beside`) share it, else [N, 3] in space."""
    zones = {zone for zone, known in zip(of.zones, of.known, strict=True) if known}
    if beside is not None:
        zones |= {zone for zone, known in zip(beside.zones, beside.known, strict=True) if known}
    if len(zones) <= 1:
        return of.east_north
    if None in zones:
        raise InputError(
            "some positions have a UTM zone and some have none; give all of them a zone, or none"
        )
    points = np.full((len(of), 3), np.nan)
    rows = np.flatnonzero(of.known)
    points[rows] = _in_space(
        [
            Position(east, north, of.zones[i])
            for i, (east, north) in zip(rows, of.east_north[rows], strict=True)
        ]
    )
    return points


def _in_space(positions: Sequence[Position]) -> Floats:
    """[N, 3] metres from the centre of the earth, at height 0."""
    if not positions:
        return np.empty((0, 3))
    lat, lon = np.radians([latlon(position) for position in positions]).T
    squeeze = FLATTENING * (2 - FLATTENING)
    across = EQUATOR / np.sqrt(1 - squeeze * np.sin(lat) ** 2)
    return np.stack(
        [
            across * np.cos(lat) * np.cos(lon),
            across * np.cos(lat) * np.sin(lon),
            across * (1 - squeeze) * np.sin(lat),
        ],
        axis=1,
    )
