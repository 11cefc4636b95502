"""Where photos were taken: latitude/longitude and UTM with the zone kept, distances, neighbours in a radius.

Positions of one zone are compared on its plane, as the field's ground truth does. Across zones (the date line
included) they are compared as points in space on the WGS 84 ellipsoid, whose straight distances agree with
those along the ground to a millimetre within a kilometre.

Legend: N positions, Q queries.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError

EQUATOR, FLATTENING = 6378137.0, 1 / 298.257223563
"""WGS 84: radius at the equator in metres, and flattening."""

QUERIES_AT_ONCE = 1024
"""Queries whose neighbours are held as Python lists at once."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Position:
    """A point in metres, on a map plane."""

    east: float
    """Metres eastwards, in the zone or on the user's own plane."""
    north: float
    """Metres northwards, in the zone or on the user's own plane."""
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
    forced, northern = parse_zone(zone) if zone is not None else (None, lat >= 0)
    # The letters N and M are the bands beside the equator.
    letter = "N" if northern else "M"
    east, north, number, _ = utm.from_latlon(lat, lon, force_zone_number=forced, force_zone_letter=letter)
    return Position(float(east), float(north), f"{number}{'N' if northern else 'S'}")


def latlon(position: Position) -> tuple[float, float]:
    """Latitude and longitude in degrees (WGS 84) of a position whose UTM zone is known.

    Raises:
        InputError: its zone is not known.
    """
    if position.zone is None:
        raise InputError("a position without a UTM zone has no latitude and longitude")
    lat, lon = _degrees(position.east, position.north, position.zone)
    return float(lat), (float(lon) + 180) % 360 - 180


def _degrees(east: Any, north: Any, zone: str) -> tuple[Any, Any]:
    """Latitudes and longitudes of metres in one zone, the latter beyond 180 too: numbers, or arrays."""
    import utm

    number, northern = parse_zone(zone)
    lat, lon = utm.to_latlon(east, north, number, northern=northern, strict=False)
    return lat, lon


def parse_zone(zone: str) -> tuple[int, bool]:
    """``"33N"`` to (33, True): the number, and whether it is the northern hemisphere.

    Raises:
        InputError: it is no zone.
    """
    match = re.fullmatch(r"\s*(\d{1,2})\s*([NSns])\s*", zone)
    if not match or not 1 <= int(match[1]) <= 60:
        raise InputError(f"{zone!r} is no UTM zone; valid: 1 to 60 with N or S, e.g. 33N")
    return int(match[1]), match[2].upper() == "N"


def distance(a: Position, b: Position) -> float:
    """Metres between two positions, across zones and the date line; NaN where one is not a number.

    Raises:
        InputError: one has a UTM zone and the other has none.
    """
    if (a.zone is None) != (b.zone is None):
        raise InputError("a position with a UTM zone cannot be compared with one on another plane")
    if a.zone == b.zone:
        return math.hypot(a.east - b.east, a.north - b.north)
    return float(Positions.from_list([a, b]).distances()[0, 1])


class Positions:
    """Where N photos were taken; NaN where that is not known.

    Args:
        east_north: float64 [N, 2] metres in each position's own zone; NaN where not known.
        zones: the UTM zone of each (None: a plane of the user's own).

    Raises:
        InputError: the shape is another, or there are not as many zones.
    """

    def __init__(self, east_north: Floats, zones: Sequence[str | None]) -> None:
        if east_north.ndim != 2 or east_north.shape != (len(zones), 2):
            raise InputError(
                f"positions are [N, 2] with N zones; given {list(east_north.shape)} and {len(zones)} zones"
            )
        self.east_north = east_north
        self.zones = tuple(zones)
        self.known: NDArray[np.bool_] = np.asarray(np.isfinite(east_north).all(axis=1))
        """bool [N], whether a position is known."""

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
        """float64 [N, N] metres between all of them, as `distance` tells them; NaN where one is not known.

        Raises:
            InputError: some positions have a UTM zone and some have none.
        """
        metres = np.where(self.known[:, None], self.east_north, np.nan)
        plane = metres[:, None] - metres
        apart: Floats = np.hypot(plane[..., 0], plane[..., 1])
        groups = _by_zone(self)
        if len(groups) > 1:
            points = _in_space(self, groups)
            zone_of = np.full(len(self), -1, np.int64)
            for number, rows in enumerate(groups.values()):
                zone_of[rows] = number
            across = zone_of[:, None] != zone_of
            apart[across] = np.linalg.norm(points[:, None] - points, axis=2)[across]
        return apart

    def within(self, queries: Positions, radius: float) -> list[NDArray[np.int64]]:
        """For each query the rows of self at most `radius` metres away, ascending; none where not known.

        Raises:
            InputError: the radius is negative or not finite, or only some positions have a UTM zone.
        """
        if not (math.isfinite(radius) and radius >= 0):
            raise InputError(f"a radius is 0 metres or more; given {radius}")
        rows_of = [np.empty(0, np.int64)] * len(queries)
        here, query_zones = _by_zone(self, queries), _by_zone(queries, self)
        for zone in here.keys() & query_zones.keys():
            rows, zone_queries = here[zone], query_zones[zone]
            near = _near(self.east_north[rows], queries.east_north[zone_queries], radius)
            for query, hits in zip(zone_queries.tolist(), near, strict=True):
                rows_of[query] = rows[hits]
        if here and query_zones and len(here.keys() | query_zones.keys()) > 1:
            points, asked_points = _in_space(self, here), _in_space(queries, query_zones)
            for zone, zone_queries in query_zones.items():
                others = [rows for other, rows in here.items() if other != zone]
                if others:
                    rows = np.sort(np.concatenate(others))
                    near = _near(points[rows], asked_points[zone_queries], radius)
                    for query, hits in zip(zone_queries.tolist(), near, strict=True):
                        if len(hits):
                            rows_of[query] = np.sort(np.concatenate([rows_of[query], rows[hits]]))
        return rows_of


def longitudes_latitudes(positions: Positions) -> Floats:
    """float64 [N, 2]: longitude and latitude of positions whose zone is known, else metres east and north.

    NaN where no position is known.
    """
    coordinates = np.array(positions.east_north, np.float64)
    zones = np.array([zone or "" for zone in positions.zones])
    for zone in np.unique(zones[positions.known]).tolist():
        if not zone:
            continue
        known = np.flatnonzero(positions.known & (zones == zone))
        east, north = coordinates[known].T
        lat, lon = _degrees(east, north, zone)
        coordinates[known] = np.stack([(lon + 180) % 360 - 180, lat], axis=1)
    return coordinates


def _near(points_ND: Floats, queries_QD: Floats, radius: float) -> Iterator[NDArray[np.int64]]:
    """For each query the points at most `radius` away, ascending.

    The tree answers a little wide, and the squared distance decides, as in the original (sq <= radius^2).
    """
    from scipy.spatial import cKDTree

    tree = cKDTree(points_ND)
    for start in range(0, len(queries_QD), QUERIES_AT_ONCE):
        block = queries_QD[start : start + QUERIES_AT_ONCE]
        for query, hits in zip(block, tree.query_ball_point(block, radius * (1 + 1e-9) + 1e-9), strict=True):
            rows = np.array(hits, np.int64)
            rows.sort()
            squared = ((points_ND[rows] - query) ** 2).sum(axis=1)
            yield rows[squared <= radius * radius]


def _by_zone(positions: Positions, beside: Positions | None = None) -> dict[str | None, NDArray[np.int64]]:
    """Zone -> the known rows in it, ascending.

    Raises:
        InputError: of these and those `beside`, some have a UTM zone and some have none.
    """
    groups: dict[str | None, list[int]] = {}
    for row in np.flatnonzero(positions.known).tolist():
        groups.setdefault(positions.zones[row], []).append(row)
    zones = set(groups)
    if beside is not None:
        zones |= {beside.zones[row] for row in np.flatnonzero(beside.known).tolist()}
    if None in zones and len(zones) > 1:
        raise InputError(
            "some positions have a UTM zone and some have none; give all of them a zone, or none"
        )
    return {zone: np.array(rows, np.int64) for zone, rows in groups.items()}


def _in_space(positions: Positions, groups: dict[str | None, NDArray[np.int64]]) -> Floats:
    """[N, 3] metres from the centre of the earth, at height 0; NaN where not known."""
    points = np.full((len(positions), 3), np.nan)
    for zone, rows in groups.items():
        if zone is None:
            raise InputError("positions without a UTM zone lie on a plane, not on the earth")
        east, north = positions.east_north[rows].T
        lat, lon = np.radians(_degrees(east, north, zone))
        squeeze = FLATTENING * (2 - FLATTENING)
        across = EQUATOR / np.sqrt(1 - squeeze * np.sin(lat) ** 2)
        points[rows, 0] = across * np.cos(lat) * np.cos(lon)
        points[rows, 1] = across * np.cos(lat) * np.sin(lon)
        points[rows, 2] = across * (1 - squeeze) * np.sin(lat)
    return points
