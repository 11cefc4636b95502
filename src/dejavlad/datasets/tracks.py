"""Tracks of a GPS logger, GPX and KML: where photos were taken, by when.

Between two points of a track a photo lies on the straight line between them, as long as they are at most a
minute apart. Times of photos without a zone are taken for UTC, as a track's are: ``FILE.gpx:-7200`` adds so
many seconds to the photos' times; ``FILE.gpx:2024-05-01T12:30:00Z`` is the moment of time 0, for videos.

KML has times in ``gx:Track`` and in placemarks with a ``TimeStamp``; in other lines it has none.

Legend: N points.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from dejavlad.datasets.poses import between
from dejavlad.errors import InputError, MalformedFileError
from dejavlad.geo import Position, utm_from_latlon
from dejavlad.guarded.plain_file import read_bytes

Floats = NDArray[np.float64]

MOST_SECONDS: Final = 60.0
"""Two points of a track farther apart in time are not joined."""
ENDINGS: Final = (".gpx", ".kml")
_GIVEN = re.compile(r"(.+\.(?:gpx|kml))(?::(.+))?", re.IGNORECASE | re.DOTALL)
_ENTITIES = re.compile(rb"<!(?:DOCTYPE|ENTITY)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """Where somebody was, and when."""

    times: Floats
    """float64 [N] ascending, Unix time."""
    degrees: Floats
    """float64 [N, 2] latitude and longitude, which goes on beyond 180 where the date line is crossed."""

    def __len__(self) -> int:
        return len(self.times)

    def at(self, time: float) -> Position | None:
        """Where it was at a time; None before, after, or in a gap."""
        found = between(time, self.times, self.degrees, MOST_SECONDS)
        if found is None:
            return None
        lat, lon = found.tolist()
        return utm_from_latlon(lat, (lon + 180) % 360 - 180)


def split_track(given: str | Path) -> tuple[Path, float] | None:
    """``FILE.gpx[:SHIFT]`` to the file and the seconds to add to photos' times; None where it is neither.

    Raises:
        InputError: the shift is neither a number of seconds nor a moment.
    """
    found = _GIVEN.fullmatch(str(given))
    if not found:
        return None
    if found[2] is None:
        return Path(found[1]), 0.0
    try:
        shift = float(found[2])
    except ValueError:
        moment = _moment(found[2])
        if moment is None:
            raise InputError(
                f"{str(given)!r}: after the file comes the number of seconds to add to photos' times, or the "
                f"moment of time 0 as 2024-05-01T12:30:00Z; given {found[2]!r}"
            ) from None
        shift = moment
    if not math.isfinite(shift):
        raise InputError(f"{str(given)!r}: {found[2]} is no number of seconds")
    return Path(found[1]), shift


def read_track(path: str | Path) -> Track:
    """Read a ``.gpx`` or ``.kml`` file; all its tracks together.

    Raises:
        InputError: it cannot be read, is no such file, holds no point, points have no time or no position,
            or times within a segment go backwards.
    """
    path = Path(path)
    root = _parse(path)
    kind = _local(root.tag)
    if kind not in ("gpx", "kml"):
        raise InputError(f"{str(path)!r} is neither GPX nor KML: it begins with <{kind}>")
    times: list[float] = []
    degrees: list[tuple[float, float]] = []
    bare = 0
    for segment in _gpx(root) if kind == "gpx" else _kml(root):
        last = -math.inf
        for place, when in segment:
            if when is None:
                bare += 1
                continue
            time, at = _moment(when), _degrees(*place)
            if time is None:
                raise InputError(f"{str(path)!r}: {when!r} is no time as 2024-05-01T12:30:00Z")
            if at is None:
                raise InputError(
                    f"{str(path)!r}: {place[0]!r}, {place[1]!r} at {when} is no latitude and longitude"
                )
            if time < last:
                raise InputError(f"{str(path)!r}: times go backwards at {when}; sort the points by time")
            last = time
            times.append(time)
            degrees.append(at)
    if not times:
        why = f"its {bare} points have no time" if bare else "it holds no track"
        raise InputError(f"{str(path)!r} tells no position by time: {why}")
    order = np.argsort(times, kind="stable")
    moments, places = np.array(times)[order], np.array(degrees)[order]
    first = np.append(True, moments[1:] > moments[:-1])
    moments, places = moments[first], places[first]
    places[:, 1] = np.unwrap(places[:, 1], period=360)
    return Track(moments, places)


Point = tuple[tuple[str, str], str | None]


def _parse(path: Path) -> ElementTree.Element:
    try:
        held = read_bytes(path)
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror or error}") from error
    except MalformedFileError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error}") from error
    if _ENTITIES.search(held):  # entities can nest a file of a kilobyte to gigabytes
        raise InputError(f"{str(path)!r} declares a document type, which no track needs; remove it")
    try:
        return ElementTree.fromstring(held)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(f"{str(path)!r} is no XML: {error}") from error


def _gpx(root: ElementTree.Element) -> Iterator[list[Point]]:
    """Each segment of each track, and each route."""
    for holder in root.iter():
        if _local(holder.tag) in ("trkseg", "rte"):
            yield [
                ((point.get("lat", ""), point.get("lon", "")), _child(point, "time"))
                for point in holder
                if _local(point.tag) in ("trkpt", "rtept")
            ]


def _kml(root: ElementTree.Element) -> Iterator[list[Point]]:
    """Each ``gx:Track``; all placemarks with one point; points of lines, which have no time."""
    marks: list[Point] = []
    for holder in root.iter():
        kind = _local(holder.tag)
        if kind == "Track":
            whens = [(one.text or "").strip() for one in holder if _local(one.tag) == "when"]
            places = [(one.text or "").split() for one in holder if _local(one.tag) == "coord"]
            if len(whens) != len(places):
                raise InputError(
                    f"a track of the KML file has {len(whens)} times and {len(places)} positions"
                )
            yield [(_pair(place), when) for place, when in zip(places, whens, strict=True)]
        elif kind == "Placemark":
            point = next((one for one in holder.iter() if _local(one.tag) == "Point"), None)
            if point is not None:
                when = next((one.text for one in holder.iter() if _local(one.tag) == "when"), None)
                marks.append((_pair((_child(point, "coordinates") or "").split(",")), when))
        elif kind == "LineString":
            yield [(_pair(one.split(",")), None) for one in (_child(holder, "coordinates") or "").split()]
    yield sorted(marks, key=lambda mark: _moment(mark[1] or "") or 0.0)


def _pair(fields: list[str]) -> tuple[str, str]:
    """Latitude and longitude of KML, which writes longitude first."""
    return (fields[1], fields[0]) if len(fields) >= 2 else ("", "")


def _local(tag: object) -> str:
    return str(tag).rpartition("}")[2]


def _child(of: ElementTree.Element, name: str) -> str | None:
    found = next((one for one in of if _local(one.tag) == name), None)
    return found.text.strip() if found is not None and found.text else None


def _moment(text: str) -> float | None:
    """Unix time of a date and time as ISO 8601, in UTC unless it says otherwise."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _degrees(lat: str, lon: str) -> tuple[float, float] | None:
    try:
        degrees = (float(lat), float(lon))
    except ValueError:
        return None
    return degrees if abs(degrees[0]) <= 90 and abs(degrees[1]) <= 180 else None
