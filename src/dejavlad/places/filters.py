"""What is known before ranking: about where, when and in which direction a photo was taken.

A filter decides which photos of the map may be answers; these are then searched exactly, so that no answer is
lost behind it. Photos of which nothing is known do not pass, and are counted.

Legend: N photos of the map.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError
from dejavlad.geo import Position, Positions, latlon, utm_from_latlon
from dejavlad.photo import Photo, PhotoList
from dejavlad.positions.metadata import read_metadata
from dejavlad.positions.moments import parse_moment
from dejavlad.storage import photo_blocks

OWN = "exif"
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_NEAR = re.compile(rf"\s*({NUMBER})\s*,\s*({NUMBER})\s*,\s*({NUMBER})\s*m?\s*")
_OWN = re.compile(rf"\s*exif\s*:\s*({NUMBER})\s*m?\s*", re.IGNORECASE)
_HEADING = re.compile(rf"\s*({NUMBER})\s*(?:\+-|\+/-|±)\s*({NUMBER})\s*")

Near = str | tuple[Position | tuple[float, float], float]
"""``"48.137,11.575,500"``, ``"exif:500"``, or a position (or latitude and longitude) and metres."""
Moment = str | float
"""ISO 8601, or seconds since 1970."""
Heading = str | tuple[float, float]
"""``"90+-30"``, or degrees and how many more or less."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class PhotoColumns:
    """What is known of N photos; NaN where it is not."""

    east_north: Floats
    """[N, 2] metres."""
    zones: NDArray[np.bytes_]
    """[N] UTM zone, empty for a plane of the user's own."""
    headings: Floats
    """[N] degrees."""
    times: Floats
    """[N] seconds since 1970."""

    @classmethod
    def of_numbers(cls, numbers: photo_blocks.Numbers) -> Self:
        """Of the photos of a map."""

        def column(name: str, bit: int) -> Floats:
            return np.where(numbers["known"] & bit, numbers[name], np.nan)

        places = [column(name, photo_blocks.POSITION) for name in ("east", "north")]
        return cls(
            np.stack(places, axis=1),
            numbers["zone"],
            column("heading", photo_blocks.HEADING),
            column("time", photo_blocks.TIME),
        )

    @classmethod
    def of_photos(cls, photos: Sequence[Photo]) -> Self:
        """Of a list of photos."""
        known = [(p.position, p.heading, p.time) for p in photos]
        places = [(np.nan, np.nan) if p is None else (p.east, p.north) for p, _, _ in known]
        return cls(
            np.array(places, np.float64).reshape(-1, 2),
            np.array([(p.zone or "").encode() if p else b"" for p, _, _ in known], "S8"),
            np.array([np.nan if h is None else h for _, h, _ in known], np.float64),
            np.array([np.nan if t is None else t for _, _, t in known], np.float64),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Allowed:
    """Which photos may be answers."""

    rows: NDArray[np.int64]
    """Their places, ascending."""
    without: dict[str, int]
    """``position``, ``time``, ``heading`` -> photos left out as it is not known of them."""
    reason: str
    """Why none is left; empty where some are."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"photos": len(self.rows), "without": self.without}


@dataclass(frozen=True, slots=True)
class Filter:
    """What answers must keep to; make one with `of`."""

    near: Position | None = None
    """Within `metres` of this."""
    metres: float | None = None
    """How far; without `near`, from the query's own position."""
    after: float | None = None
    """Taken then or later, in seconds since 1970."""
    before: float | None = None
    """Taken then or earlier."""
    heading: float | None = None
    """Degrees clockwise from north."""
    tolerance: float = 0.0
    """Degrees that a heading may differ."""

    @classmethod
    def of(
        cls,
        near: Near | None = None,
        after: Moment | None = None,
        before: Moment | None = None,
        heading: Heading | None = None,
    ) -> Self | None:
        """A filter from what users write; None where nothing is given.

        Raises:
            InputError: something cannot be understood, or cannot be.
        """
        if near is None and after is None and before is None and heading is None:
            return None
        place, metres = _near(near)
        start, end = _moment("after", after), _moment("before", before)
        if start is not None and end is not None and start > end:
            raise InputError(f"--after {after} lies behind --before {before}: no photo can pass")
        degrees, tolerance = _heading(heading)
        return cls(place, metres, start, end, degrees, tolerance)

    def to_dict(self) -> dict[str, Any]:
        """What is given of it, for results."""
        near = "the query's own position" if self.own else self.near and position_text(self.near, 5)
        values = {"near": near, "metres": self.metres, "after": self.after, "before": self.before}
        values |= {"heading": self.heading, "tolerance": None if self.heading is None else self.tolerance}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def own(self) -> bool:
        """Whether it depends on the query."""
        return self.metres is not None and self.near is None

    def allowed(self, columns: PhotoColumns, query: Photo | None = None) -> Allowed:
        """The photos that pass.

        Args:
            query: whose position is taken where the filter names none.

        Raises:
            InputError: the map's positions and the given one are not on one plane.
        """
        count = len(columns.times)
        passing = np.ones(count, np.bool_)
        without: dict[str, int] = {}
        words = []

        def narrow(what: str, known: NDArray[np.bool_], within: NDArray[np.bool_], condition: str) -> None:
            nonlocal passing
            without[what] = int(np.count_nonzero(~known))
            passing &= known & within
            words.append(condition)

        if self.metres is not None:
            place = self.near or own_position(query)
            if place is None:
                name = "the photo" if query is None else query.key
                return Allowed(np.empty(0, np.int64), {}, f"{name} has no position of its own (EXIF)")
            known = np.asarray(np.isfinite(columns.east_north).all(axis=1))
            condition = f"lies within {self.metres:g} m of {position_text(place, 5)}"
            narrow("position", known, _within(columns, known, place, self.metres), condition)
        if self.after is not None or self.before is not None:
            low, high = (
                -np.inf if self.after is None else self.after,
                np.inf if self.before is None else self.before,
            )
            with np.errstate(invalid="ignore"):
                within = (columns.times >= low) & (columns.times <= high)
            narrow("time", np.isfinite(columns.times), within, "was taken in that time")
        if self.heading is not None:
            with np.errstate(invalid="ignore"):
                apart = np.abs((columns.headings - self.heading + 180) % 360 - 180)
            condition = f"looks {self.heading:g}+-{self.tolerance:g} degrees"
            narrow("heading", np.isfinite(columns.headings), apart <= self.tolerance, condition)
        without = {what: n for what, n in without.items() if n}
        rows = np.flatnonzero(passing)
        reason = ""
        if not len(rows):
            missing = ", ".join(f"{n} without {what}" for what, n in without.items())
            reason = f"no photo of this map {' and '.join(words)}" + (f" ({missing})" if missing else "")
        return Allowed(rows, without, reason)


def own_position(photo: Photo | None) -> Position | None:
    """Where a photo says that it was taken: what its list knows, else its EXIF."""
    if photo is None or photo.position is not None or not photo.is_file:
        return None if photo is None else photo.position
    return read_metadata(PhotoList([photo]))[0].position


def _within(
    columns: PhotoColumns, known: NDArray[np.bool_], place: Position, metres: float
) -> NDArray[np.bool_]:
    """[N] whether photos lie near a position: on its plane, or across zones as points in space."""
    zone = (place.zone or "").encode()
    same = columns.zones == zone
    with np.errstate(invalid="ignore"):
        gap = columns.east_north - (place.east, place.north)
        near = np.asarray(same & ((gap**2).sum(axis=1) <= metres * metres))
    others = np.flatnonzero(known & ~same)
    if len(others):
        if not zone or (columns.zones[others] == b"").any():
            raise InputError(
                "positions without a UTM zone lie on a plane of their own, which cannot be compared with "
                "latitude and longitude: give near as (Position(east, north), metres) in Python"
            )
        zones = [name.decode() for name in columns.zones[others].tolist()]
        beside = Positions(columns.east_north[others], zones)
        near[others[beside.within(Positions.from_list([place]), metres)[0]]] = True
    return near


def _near(near: Near | None) -> tuple[Position | None, float | None]:
    if near is None:
        return None, None
    place: Position | None
    if isinstance(near, str):
        if own := _OWN.fullmatch(near):
            place, metres = None, float(own[1])
        elif given := _NEAR.fullmatch(near):
            place, metres = utm_from_latlon(float(given[1]), float(given[2])), float(given[3])
        else:
            raise InputError(
                f"--near {near!r}: give LAT,LON,METRES, e.g. 48.137,11.575,500, or exif:METRES for the "
                f"photo's own position"
            )
    else:
        try:
            where, metres = near
            place = (
                where if isinstance(where, Position) else utm_from_latlon(float(where[0]), float(where[1]))
            )
            metres = float(metres)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"near={near!r}: give ((lat, lon), metres), (Position, metres), or a text"
            ) from error
    if not (math.isfinite(metres) and metres > 0):
        raise InputError(f"--near: {metres:g} m; give a distance above 0")
    return place, metres


def _moment(name: str, moment: Moment | None) -> float | None:
    if moment is None or isinstance(moment, (int, float)):
        if moment is not None and not math.isfinite(moment):
            raise InputError(f"--{name} {moment}: give a finite time")
        return moment
    parsed = parse_moment(moment)
    if parsed is None:
        raise InputError(f"--{name} {moment!r}: give a time as 2024-05-31 or 2024-05-31T14:30:00+02:00")
    end_of_day = 86400.0 - 1e-6 if name == "before" and not parsed.dated else 0.0
    return parsed.time + end_of_day


def _heading(heading: Heading | None) -> tuple[float | None, float]:
    if heading is None:
        return None, 0.0
    if isinstance(heading, str):
        given = _HEADING.fullmatch(heading)
        if given is None:
            raise InputError(f"--heading {heading!r}: give DEGREES+-TOLERANCE, e.g. 90+-30")
        degrees, tolerance = float(given[1]), float(given[2])
    else:
        degrees, tolerance = map(float, heading)
    if not (-360 <= degrees <= 360 and 0 <= tolerance <= 180):
        raise InputError(
            f"--heading {degrees:g}+-{tolerance:g}: give 0 to 360 degrees and a tolerance of 0 to 180"
        )
    return degrees % 360, tolerance


def position_text(position: Position, digits: int = 6) -> str:
    """Latitude and longitude in degrees where the zone is known, else metres."""
    if position.zone is None:
        return f"{position.east:.1f} m east, {position.north:.1f} m north"
    lat, lon = latlon(position)
    return f"{lat:.{digits}f}, {lon:.{digits}f}"
