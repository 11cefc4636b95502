"""Tracks of a GPS logger, GPX, KML and KMZ: where photos were taken, by when.

Between two points of a track a photo lies on the straight line between them, as long as they are at most a
minute apart (``FILE.gpx:gap=300``: five). Times of photos without a zone are taken for UTC, as a track's:
``FILE.gpx:-7200`` adds so many seconds to the photos' times; ``FILE.gpx:2024-05-01T12:30:00Z`` is the moment
of time 0, for videos.

KML has times in ``gx:Track`` and in placemarks with a ``TimeStamp`` or a ``TimeSpan``; in other lines it has
none. A point that cannot be used (no position, or 0,0; no time) is passed over and counted, which is why the
files are not read by gpxpy: it refuses the whole file for one of them, and knows no KML.

Legend: N points.
"""

from __future__ import annotations

import bisect
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError, MalformedFileError
from dejavlad.geo import Position, utm_from_latlon
from dejavlad.guarded.zip_archive import open_zip
from dejavlad.photo.listing import read_content
from dejavlad.positions.facts import finite_number
from dejavlad.positions.moments import parse_moment
from dejavlad.positions.poses import between

Floats = NDArray[np.float64]

MOST_SECONDS: Final = 60.0
"""Two points of a track farther apart in time are not joined, unless told otherwise."""
MOST_BYTES: Final = 1 << 29
"""The largest KML that a KMZ may hold."""
MOST_BACKWARDS: Final = 0.05
"""The share of points whose time may go backwards; where there are more, the file is not in order."""
ENDINGS: Final = (".gpx", ".kml", ".kmz")
_GIVEN = re.compile(r"(.+\.(?:gpx|kml|kmz))(?::(.+))?", re.IGNORECASE | re.DOTALL)
_ENTITIES = re.compile(rb"<!(?:DOCTYPE|ENTITY)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """Where somebody was, and when."""

    times: Floats
    """float64 [N] ascending, Unix time."""
    degrees: Floats
    """float64 [N, 2] latitude and longitude, which goes on beyond 180 where the date line is crossed."""
    stays: NDArray[np.bool_]
    """bool [N], whether it stayed from this point to the next, however long that was (``TimeSpan``)."""
    notes: tuple[str, ...] = ()
    """What was passed over in the file."""

    def __len__(self) -> int:
        return len(self.times)

    def at(self, time: float, gap: float = MOST_SECONDS) -> Position | None:
        """Where it was at a time; None before, after, or between points more than `gap` seconds apart."""
        before = int(np.searchsorted(self.times, time)) - 1
        most = math.inf if 0 <= before < len(self) and self.stays[before] else gap
        degrees = between(time, self.times, self.degrees, most)
        if degrees is None:
            return None
        lat, lon = degrees.tolist()
        return utm_from_latlon(lat, (lon + 180) % 360 - 180)


@dataclass(frozen=True, slots=True)
class TrackGiven:
    """A track as a user writes it."""

    path: Path
    """The file of the track."""
    shift: float = 0.0
    """Seconds to add to photos' times."""
    gap: float = MOST_SECONDS
    """Seconds between two points up to which they are joined."""


def split_track(given: str | Path) -> TrackGiven | None:
    """``FILE.gpx[:SHIFT][:gap=SECONDS]`` to its parts; None where it is no track.

    Raises:
        InputError: the shift is neither a number of seconds nor a moment, or the gap is none.
    """
    match = _GIVEN.fullmatch(str(given))
    if not match:
        return None
    path, text = Path(match[1]), match[2] or ""
    gap = MOST_SECONDS
    if gap_option := re.search(r"(?:^|:)gap=([^:]*)$", text):
        text = text[: gap_option.start()]
        gap = finite_number(gap_option[1]) or 0.0
        if gap <= 0:
            raise InputError(f"{str(given)!r}: a gap is a number of seconds above 0, as in :gap=300")
    if not text:
        return TrackGiven(path, 0.0, gap)
    shift = finite_number(text)
    if shift is None:
        moment = parse_moment(text)
        if moment is None:
            raise InputError(
                f"{str(given)!r}: after the file comes the number of seconds to add to photos' times, or the "
                f"moment of time 0 as 2024-05-01T12:30:00Z; given {text!r}"
            )
        shift = moment.time
    return TrackGiven(path, shift, gap)


def read_track(path: str | Path) -> Track:
    """Read a ``.gpx``, ``.kml`` or ``.kmz`` file; all its tracks together.

    Points without a position or a time, and those at 0,0, are passed over; `Track.notes` counts them.

    Raises:
        InputError: it cannot be read, is no such file, holds no point that can be used, or times within a
            segment go backwards.
    """
    path = Path(path)
    root = _parse(path)
    kind = _local(root.tag)
    if kind not in ("gpx", "kml"):
        raise InputError(f"{str(path)!r} is neither GPX nor KML: it begins with <{kind}>")
    passed: Counter[str] = Counter()
    examples: dict[str, str] = {}
    used: list[_Point] = []
    for segment in _gpx(root, passed) if kind == "gpx" else _kml(root, passed):
        points = []
        for point in segment:
            usable, why = _usable(point)
            if usable is None:
                passed[why] += 1
                examples.setdefault(why, f"{point.lat or '?'}, {point.lon or '?'} at {point.when or '?'}")
            else:
                points.append(usable)
        used += _in_order(points, path, passed)
    counted = [
        (f"{count} points {why}", f", e.g. {examples[why]}" if why in examples else "")
        for why, count in passed.most_common()
    ]
    if not used:
        why = "; ".join(f"its {text}{example}" for text, example in counted)
        raise InputError(f"{str(path)!r} has no positions by time: {why or 'it holds no track'}")
    used.sort(key=lambda point: point.time)
    moments = np.array([point.time for point in used])
    places = np.array([(point.lat, point.lon) for point in used])
    stays = np.array([point.stays for point in used])
    first = np.append(True, moments[1:] > moments[:-1])
    moments, places, stays = moments[first], places[first], stays[first]
    places[:, 1] = np.unwrap(places[:, 1], period=360)
    notes = (f"{path.name}: {text}, and are passed over{example}" for text, example in counted)
    return Track(moments, places, stays, tuple(notes))


@dataclass(frozen=True, slots=True)
class _RawPoint:
    """A point as the file writes it."""

    lat: str
    lon: str
    when: str | None
    stays: bool = False


@dataclass(frozen=True, slots=True)
class _Point:
    """A point that can be used."""

    time: float
    lat: float
    lon: float
    stays: bool


def _usable(point: _RawPoint) -> tuple[_Point | None, str]:
    """The point, or why it cannot be used."""
    if not point.when:
        return None, "have no time"
    moment = parse_moment(point.when)
    if moment is None or not moment.dated:
        return None, "have no time as 2024-05-01T12:30:00Z"
    lat, lon = finite_number(point.lat), finite_number(point.lon)
    if lat is None or lon is None or not (-80 <= lat <= 84 and -180 <= lon <= 180):
        return None, "have no latitude and longitude"
    if lat == lon == 0:
        return None, "lie at 0,0"
    return _Point(moment.time, lat, lon, point.stays), ""


def _in_order(points: list[_Point], path: Path, passed: Counter[str]) -> list[_Point]:
    """The points without the few whose clock jumped; InputError where more than a few go backwards."""
    if all(a.time <= b.time for a, b in itertools.pairwise(points)):
        return points
    tails: list[float] = []  # the longest row of times that do not go backwards, by patience sorting
    rows: list[int] = []
    before = [-1] * len(points)
    for i, point in enumerate(points):
        at = bisect.bisect_right(tails, point.time)
        before[i] = rows[at - 1] if at else -1
        tails[at : at + 1] = [point.time]
        rows[at : at + 1] = [i]
    keep = []
    i = rows[-1]
    while i >= 0:
        keep.append(i)
        i = before[i]
    dropped = len(points) - len(keep)
    if dropped > MOST_BACKWARDS * len(points):
        late = next(b for a, b in itertools.pairwise(points) if b.time < a.time)
        when = datetime.fromtimestamp(late.time, UTC)
        raise InputError(
            f"{str(path)!r}: times go backwards at {when:%Y-%m-%dT%H:%M:%SZ}; sort the points by time"
        )
    passed["have a time that goes backwards"] += dropped
    return [points[i] for i in reversed(keep)]


def _parse(path: Path) -> ElementTree.Element:
    content = _unzipped(path) if path.suffix.lower() == ".kmz" else read_content(path)
    if _ENTITIES.search(content):  # entities can nest a file of a kilobyte to gigabytes
        raise InputError(f"{str(path)!r} declares a document type, which no track needs; remove it")
    try:
        return ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError, RecursionError) as error:
        raise InputError(f"{str(path)!r} is no XML: {error}") from error


def _unzipped(path: Path) -> bytes:
    """The KML of a KMZ: ``doc.kml``, else the first one."""
    try:
        with open_zip(path) as archive:
            inside = [name for name in archive.members if name.lower().endswith(".kml")]
            if not inside:
                raise InputError(f"{str(path)!r} holds no .kml")
            chosen = next((name for name in inside if name.lower() == "doc.kml"), inside[0])
            with archive.open(chosen) as file:
                content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror or error}") from error
    except MalformedFileError as error:
        raise InputError(f"{str(path)!r} is no KMZ (a zip file with a .kml in it): {error}") from error
    if len(content) > MOST_BYTES:
        raise InputError(f"{str(path)!r}: its .kml is larger than {MOST_BYTES >> 20} MiB")
    return content


def _gpx(root: ElementTree.Element, passed: Counter[str]) -> Iterator[list[_RawPoint]]:
    """Each segment of each track, and each route; of a file without these, its waypoints by time."""
    marks: list[_RawPoint] = []
    tracked = False
    for holder in root.iter():
        kind = _local(holder.tag)
        if kind in ("trkseg", "rte"):
            points = [
                _RawPoint(point.get("lat", ""), point.get("lon", ""), _child(point, "time"))
                for point in holder
                if _local(point.tag) in ("trkpt", "rtept")
            ]
            tracked |= any(point.when for point in points)
            yield points
        elif kind == "wpt":
            marks.append(_RawPoint(holder.get("lat", ""), holder.get("lon", ""), _child(holder, "time")))
    timed = sum(bool(mark.when) for mark in marks)
    if timed and tracked:
        passed["are waypoints beside a track"] += timed
    elif timed:
        yield sorted(marks, key=_time_of)


def _kml(root: ElementTree.Element, passed: Counter[str]) -> Iterator[list[_RawPoint]]:
    """Each ``gx:Track``; all placemarks with one point; points of lines, which have no time."""
    marks: list[_RawPoint] = []
    for holder in root.iter():
        kind = _local(holder.tag)
        if kind == "Track":
            whens = [(element.text or "").strip() for element in holder if _local(element.tag) == "when"]
            places = [(element.text or "").split() for element in holder if _local(element.tag) == "coord"]
            if len(whens) != len(places):
                passed[f"are of a track with {len(whens)} times and {len(places)} positions"] += max(
                    len(whens), len(places)
                )
                continue
            yield [_RawPoint(*_pair(place), when) for place, when in zip(places, whens, strict=True)]
        elif kind == "Placemark":
            point = next((element for element in holder.iter() if _local(element.tag) == "Point"), None)
            if point is not None:
                lat, lon = _pair((_child(point, "coordinates") or "").split(","))
                marks += [_RawPoint(lat, lon, when, stays) for when, stays in _whens(holder)]
        elif kind == "LineString":
            places = [text.split(",") for text in (_child(holder, "coordinates") or "").split()]
            yield [_RawPoint(*_pair(place), None) for place in places]
    yield sorted(marks, key=_time_of)


def _time_of(point: _RawPoint) -> float:
    """Seconds since 1970; 0 of a point without a time."""
    return moment.time if (moment := parse_moment(point.when or "")) else 0.0


def _whens(placemark: ElementTree.Element) -> list[tuple[str | None, bool]]:
    """When a placemark holds, and whether it does until the next of these."""
    texts: dict[str, str] = {}
    for element in placemark.iter():
        if _local(element.tag) in ("when", "begin", "end") and element.text:
            texts.setdefault(_local(element.tag), element.text.strip())
    if "when" in texts:
        return [(texts["when"], False)]
    spans = [texts[name] for name in ("begin", "end") if name in texts]
    return [(text, i == 0 and len(spans) == 2) for i, text in enumerate(spans)] or [(None, False)]


def _pair(fields: list[str]) -> tuple[str, str]:
    """Latitude and longitude of KML, which writes longitude first."""
    return (fields[1], fields[0]) if len(fields) >= 2 else ("", "")


def _local(tag: object) -> str:
    return str(tag).rpartition("}")[2]


def _child(parent: ElementTree.Element, name: str) -> str | None:
    element = next((child for child in parent if _local(child.tag) == name), None)
    return element.text.strip() if element is not None and element.text else None
