"""What may be wrong with positions: degrees swapped, another zone, a list far from the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError
from dejavlad.geo import Position, Positions, distance, latlon, utm_from_latlon

Floats = NDArray[np.float64]

SAMPLE = 300
"""Queries that are looked at."""
FAR = 100_000.0
"""Metres between two lists' middles beyond which they are told to be far apart."""
ZERO_EAST = 166021.4431
"""East of latitude 0, longitude 0, in metres of zone 31."""
OUT = 1_000_000.0
"""Metres from the middle of its list beyond which a position is told to be out of place."""


def what_is_wrong(
    database: Sequence[Position | None], queries: Sequence[Position | None], radius: float
) -> str | None:
    """Why no query has a photo of the database nearby, if a known mistake would explain it.

    Args:
        radius: metres within which one was sought.

    Returns:
        One sentence, or None where nothing is found.
    """
    database_at = [at for at in database if _known(at)]
    queries_at = [at for at in queries if _known(at)][:: max(1, len(queries) // SAMPLE)]
    if not database_at or not queries_at:
        return None
    for turn, why in (
        (_on_no_zone, "their numbers are near each other, but their zones are {zones}: one is wrong"),
        (_other_hemisphere, "they are near each other on the other hemisphere: N or S of a zone is wrong"),
        (_degrees_swapped, "with latitude and longitude of the queries swapped they are near each other"),
        (_plane_swapped, "with east and north of the queries swapped they are near each other"),
    ):
        if _near(*turn(database_at, queries_at), radius):
            zones = [
                Counter(at.zone or "none" for at in part).most_common(1)[0][0]
                for part in (database_at, queries_at)
            ]
            return why.format(zones=f"{zones[0]} and {zones[1]}")
    middles = [_middle(part) for part in (database_at, queries_at)]
    try:
        apart = distance(*middles)
    except InputError:
        return None
    if apart > FAR:
        return f"their middles are {apart / 1000:,.0f} km apart: are they of the same town?"
    return None


def out_of_place(positions: Sequence[Position | None]) -> list[int]:
    """Rows of positions more than 1,000 km from the middle of all, where those are few (1 % or fewer)."""
    rows = [row for row, at in enumerate(positions) if _known(at)]
    points = [at for at in positions if _known(at)]
    if len(points) < 3 or any(at.zone is None for at in points):
        return []
    middle = Positions.from_list([_middle(points)])
    near = set(Positions.from_list(points).within(middle, OUT)[0].tolist())
    far = [row for i, row in enumerate(rows) if i not in near]
    return far if len(far) <= max(1, len(points) // 100) else []


def at_zero(positions: Sequence[Position | None]) -> set[int]:
    """Rows of positions that are 0,0, as programs write where they know none.

    In degrees that is the point in the ocean. In metres it is a place like any other on a plane of the user's
    own, unless it lies over 100 km from the middle of the others, as it does in a UTM zone.
    """
    known = [i for i, at in enumerate(positions) if at is not None]
    places = [at for at in positions if at is not None]
    if not places:
        return set()
    points = np.array([(at.east, at.north) for at in places])
    zero_degrees = [
        at.zone in ("31N", "31S") and abs(at.east - ZERO_EAST) < 0.5 and abs(at.north % 1e7) < 0.5
        for at in places
    ]
    return {known[i] for i in np.flatnonzero(_zero_rows(points) | zero_degrees).tolist()}


def without_zero_rows(east_north: Floats) -> Floats:
    """float64 [N, 2] on a plane of the user's own, with NaN in place of 0,0 where `at_zero` says so."""
    return np.where(_zero_rows(east_north)[:, None], np.nan, east_north)


def _zero_rows(east_north: Floats) -> NDArray[np.bool_]:
    zeros: NDArray[np.bool_] = np.asarray((east_north == 0).all(axis=1))
    others = east_north[~zeros & np.isfinite(east_north).all(axis=1)]
    far = len(others) > 0 and np.hypot(*np.median(others, axis=0)) > FAR
    return zeros if far else np.zeros_like(zeros)


Lists = tuple[list[Position], list[Position]]


def _on_no_zone(database: list[Position], queries: list[Position]) -> Lists:
    """Both on one plane, whatever their zones; nothing where these are the same."""
    if {at.zone for at in database} == {at.zone for at in queries}:
        return [], []
    return [Position(at.east, at.north) for at in database], [Position(at.east, at.north) for at in queries]


def _other_hemisphere(database: list[Position], queries: list[Position]) -> Lists:
    other = {"N": "S", "S": "N"}
    return database, [
        Position(at.east, at.north, at.zone[:-1] + other[at.zone[-1]])
        for at in queries
        if at.zone is not None
    ]


def _degrees_swapped(database: list[Position], queries: list[Position]) -> Lists:
    turned = []
    for at in queries:
        try:
            turned.append(utm_from_latlon(*latlon(at)[::-1]))
        except InputError:
            continue
    return database, turned


def _plane_swapped(database: list[Position], queries: list[Position]) -> Lists:
    return database, [Position(at.north, at.east, at.zone) for at in queries]


def _near(database: list[Position], queries: list[Position], radius: float) -> bool:
    """Whether at least half of the positions asked for have one there nearby."""
    if not database or not queries:
        return False
    try:
        near = Positions.from_list(database).within(Positions.from_list(queries), radius)
    except (InputError, ValueError):
        return False
    return sum(len(rows) > 0 for rows in near) * 2 >= len(queries)


def _known(at: Position | None) -> TypeGuard[Position]:
    return at is not None and bool(np.isfinite(at.east) and np.isfinite(at.north))


def _middle(points: Sequence[Position]) -> Position:
    """The median position in the commonest zone."""
    zone = Counter(at.zone for at in points).most_common(1)[0][0]
    here = np.array([(at.east, at.north) for at in points if at.zone == zone])
    east, north = np.median(here, axis=0).tolist()
    return Position(east, north, zone)
