"""Positions from a table: ``name,lat,lon`` or ``name,east,north[,zone]``, optionally ``heading,time``.

The first line names the columns, in any order; others are ignored. Fields are separated by commas, semicolons
or tabs (Excel's line ``sep=;`` before them is read too). ``exiftool -csv`` writes such a table (`SourceFile`,
`GPSLatitude`, `GPSLongitude`, `GPSImgDirection`, `DateTimeOriginal`, `OffsetTimeOriginal` ...). `coordinates`
says which forms of numbers are read, `moments` which forms of times.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from dejavlad.errors import InputError
from dejavlad.geo import Position, utm_from_latlon
from dejavlad.photo.listing import read_text
from dejavlad.positions.coordinates import (
    UNKNOWN_STYLE,
    NumberStyle,
    is_blank,
    names_bands,
    parse_degrees,
    read_zone,
)
from dejavlad.positions.facts import Facts
from dejavlad.positions.moments import UNITS, offset_seconds, parse_moment, since_1970

FORMS = "name,lat,lon or name,east,north[,zone], optionally heading,time"

_HEADS: Final[dict[str, tuple[str, ...]]] = {
    "name": ("name", "sourcefile", "path", "file", "image", "photo", "imagename", "imagepath", "filename"),
    "lat": ("lat", "latitude", "gpslatitude"),
    "lon": ("lon", "lng", "long", "longitude", "gpslongitude"),
    "latlon": ("latlon", "gpsposition", "gpscoordinates"),
    "latside": ("latref", "latituderef", "gpslatituderef"),
    "lonside": ("lonref", "longituderef", "gpslongituderef"),
    "east": ("east", "easting", "utmeast", "utmeasting"),
    "north": ("north", "northing", "utmnorth", "utmnorthing"),
    "zone": ("zone", "utmzone"),
    "heading": ("heading", "gpsimgdirection", "bearing", "azimuth", "compassangle"),
    "time": (
        "time",
        "subsecdatetimeoriginal",
        "datetimeoriginal",
        "timestamp",
        "datetime",
        "gpsdatetime",
        "createdate",
    ),
    "offset": ("offsettimeoriginal", "offsettime", "utcoffset"),
    "subsec": ("subsectimeoriginal", "subsectime"),
}
"""Column -> the heads under which it is known, in order of preference."""
_HEAD = re.compile(r"(?:[A-Za-z0-9]+:)?([^\[(]*)(?:[\[(](.*)[\])])?.*", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fix(Facts):
    """What one line of a table tells of a photo; its time is Unix time, or as the file counts."""

    line: int
    """Its number in the file, from 1."""


@dataclass(frozen=True, slots=True)
class _Column:
    """Where a column stands, and in which unit."""

    index: int
    unit: str


@dataclass(frozen=True, slots=True)
class _Table:
    """A table's columns, and how it writes numbers and zones."""

    columns: dict[str, list[_Column]]
    style: NumberStyle = UNKNOWN_STYLE
    bands: bool | None = None

    def field(self, row: list[str], name: str) -> tuple[str, str]:
        """The first field of a column that tells something, and its unit; empty where there is none."""
        for column in self.columns.get(name, []):
            if column.index < len(row) and not is_blank(row[column.index]):
                return row[column.index].strip(), column.unit
        return "", ""

    def number(self, row: list[str], name: str) -> float | None:
        """A field as a number; None where it is empty."""
        text, _ = self.field(row, name)
        return self.style.read(text) if text else None


def read_positions(path: str | Path) -> dict[str, Fix]:
    """Name -> what the file tells of it, in the file's order.

    Heading is in degrees, or radians where its head says ``[rad]``; time is a number (seconds, or milli-,
    micro- or nanoseconds since 1970), or a date and time as ISO 8601 or EXIF write it (UTC unless it says
    otherwise). Names are kept as they stand, but for outer spaces and ``./`` before them.

    Raises:
        InputError: with the line's number: no such columns, a number that is none, latitude and longitude out
            of range or swapped, more fields than columns, a name twice; or nothing in the file.
    """
    path = Path(path)
    text = read_text(path)
    fixes: dict[str, Fix] = {}
    line = 1
    try:
        if rows := list(_rows(text)):
            (line, head), *body = rows
            table = _styled(_Table(_columns(head)), body)
            for line, row in body:
                name, fix = _fix(row, len(head), table, line)
                if name in fixes:
                    raise ValueError(f"{name!r} stands twice, first in line {fixes[name].line}")
                fixes[name] = fix
    except ValueError as error:
        line = error.line if isinstance(error, _BadRow) else line
        raise InputError(f"{str(path)!r} line {line}: {error}") from error
    if not fixes:
        raise InputError(f"{str(path)!r} holds no positions; its lines should be {FORMS}")
    return fixes


class _BadRow(ValueError):
    """A line that is no row of a table."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of the rows that hold something, the head first."""
    skipped = 0
    first, _, rest = text.partition("\n")
    separator = re.fullmatch(r'"?sep=(.)"?\s*', first, re.IGNORECASE)
    if separator:
        text, skipped = rest, 1
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator[1] if separator else _delimiter(text), strict=True
    )
    line = 1
    try:
        for row in reader:
            if any(field.strip() for field in row):
                yield line + skipped, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise _BadRow(line + skipped, str(error)) from error


def _delimiter(text: str) -> str:
    """What separates the head's fields: the mark with which most of them are known columns."""
    head = next((line for line in re.split(r"\r\n|\r|\n", text) if line.strip()), "")

    def known(mark: str) -> tuple[int, int]:
        fields = next(csv.reader([head], delimiter=mark), [])
        heads = {_head(field)[0] for field in fields}
        return sum(any(name in heads for name in names) for names in _HEADS.values()), len(fields)

    return max(",;\t|", key=known)


def _head(field: str) -> tuple[str, str]:
    """A column's head in its plain form, and the unit in brackets."""
    match = _HEAD.fullmatch(field.strip().lstrip("\ufeff#"))
    assert match is not None  # it matches any text
    return re.sub(r"[\s_\-.]", "", match[1].lower()), (match[2] or "").strip().lower()


def _columns(row: list[str]) -> dict[str, list[_Column]]:
    heads = [_head(field) for field in row]
    columns = {
        column: [_Column(i, unit) for name in names for i, (head, unit) in enumerate(heads) if head == name]
        for column, names in _HEADS.items()
    }
    present = {column for column, places in columns.items() if places}
    if "name" not in present or not (
        {"lat", "lon"} <= present or {"east", "north"} <= present or "latlon" in present
    ):
        raise ValueError(f"the first line should name the columns ({FORMS}); it reads {','.join(row)!r}")
    return columns


def _styled(table: _Table, body: list[tuple[int, list[str]]]) -> _Table:
    """With how the file writes numbers and zones."""
    numeric = [
        column.index for name in ("lat", "lon", "east", "north", "heading") for column in table.columns[name]
    ]
    style = NumberStyle.of(row[i] for _, row in body for i in numeric if i < len(row))
    table = replace(table, style=style)
    zones = []
    for _, row in body if table.columns["zone"] else ():
        try:
            north = table.number(row, "north")
        except ValueError:
            continue
        if north is not None:
            zones.append((table.field(row, "zone")[0], north))
    return replace(table, bands=names_bands(zones))


def _fix(row: list[str], width: int, table: _Table, line: int) -> tuple[str, Fix]:
    """The name of a row, and what it tells, in a table of so many columns."""
    if extra := [field for field in row[width:] if field.strip()]:
        raise ValueError(
            f"it has {len(row)} fields, the first line {width} (from {extra[0]!r} on); where commas stand in "
            "names or before decimals, quote fields or separate them by semicolons"
        )
    names = [column.index for column in table.columns["name"]]
    name = next((row[i].strip() for i in names if i < len(row) and row[i].strip()), "")
    if not name:
        raise ValueError("it has no name")
    position, zero = _position(row, table, name)
    heading = table.number(row, "heading")
    if heading is not None and table.field(row, "heading")[1].startswith("rad"):
        heading = math.degrees(heading)
    time, zoned = _time(row, table)
    heading = None if heading is None else heading % 360
    fix = Fix(line=line, position=position, heading=heading, time=time, zoned=zoned, zero=zero)
    return name.removeprefix("./"), fix


def _position(row: list[str], table: _Table, name: str) -> tuple[Position | None, bool]:
    """Where a row says, and whether that is latitude 0, longitude 0, which is no position."""
    both, _ = table.field(row, "latlon")
    texts = {axis: table.field(row, axis)[0] for axis in ("lat", "lon", "east", "north")}
    if both and not texts["lat"] and not texts["lon"]:
        texts["lat"], texts["lon"] = _split_both(both)
    has_degrees = bool(table.columns["lat"] and table.columns["lon"]) or bool(table.columns["latlon"])
    first, second = ("lat", "lon") if has_degrees else ("east", "north")
    if has_degrees and not texts["lat"] and not texts["lon"] and texts["east"] and texts["north"]:
        first, second = "east", "north"
    if bool(texts[first]) != bool(texts[second]):
        has, lacks = (first, second) if texts[first] else (second, first)
        raise ValueError(f"{name!r} has {has} but no {lacks}")
    if not texts[first]:
        return None, False
    values = []
    for axis in (first, second):
        try:
            if first == "lat":
                side = table.field(row, f"{axis}side")[0]
                values.append(parse_degrees(texts[axis], axis, table.style, side))
            else:
                values.append(table.style.read(texts[axis]))
        except ValueError as error:
            raise ValueError(f"{axis} {error}") from None
    if first == "lat":
        return (None, True) if values == [0, 0] else (_latlon(values[0], values[1]), False)
    zone = table.field(row, "zone")[0]
    read = read_zone(zone, values[1], table.bands) if zone else None
    return _in_zone(values[0], values[1], read), False


def _split_both(text: str) -> tuple[str, str]:
    """Latitude and longitude of one field, as ``55 deg 41' 53.80" N, 13 deg 11' 28.68" E``."""
    for mark in (";", ", ", ",", " "):
        parts = [part.strip() for part in text.split(mark)]
        if len(parts) == 2:
            return parts[0], parts[1]
    raise ValueError(f"{text!r} is no latitude and longitude, as 55.6983, 13.1913")


def _latlon(lat: float, lon: float) -> Position:
    if abs(lat) > 90 and abs(lon) <= 90 and abs(lat) <= 180:
        raise ValueError(f"latitude {lat:g} is beyond 90 degrees; are lat and lon swapped?")
    return utm_from_latlon(lat, lon)


def _in_zone(east: float, north: float, zone: str | None) -> Position:
    if zone is not None and not _may_be(east, north):
        hint = "; are east and north swapped?" if _may_be(north, east) else ""
        raise ValueError(f"east {east:g}, north {north:g} is nowhere in zone {zone}{hint}")
    return Position(east, north, zone)


def _may_be(east: float, north: float) -> bool:
    """Whether metres may be of a UTM zone, or of the ones beside it."""
    return -1e6 <= east <= 2e6 and -1e6 <= north <= 1.1e7


def _time(row: list[str], table: _Table) -> tuple[float | None, bool]:
    """A row's time, and whether its time zone is known."""
    for column in table.columns["time"]:
        text = row[column.index].strip() if column.index < len(row) else ""
        if is_blank(text) or text.startswith("0000:00:00"):  # as cameras write it whose clock was never set
            continue
        moment = None if re.fullmatch(r"\d{8}", text) else parse_moment(text)
        if moment is not None:
            time, zoned = moment.time, moment.zoned
            subsec = table.field(row, "subsec")[0]
            if time == int(time) and subsec.isdigit():
                time += float(f"0.{subsec}")
            east = offset_seconds(table.field(row, "offset")[0])
            return (time - east, True) if east is not None and not zoned else (time, zoned)
        try:
            value = float(text.replace(",", "."))
        except ValueError:
            raise ValueError(f"time {text!r} is neither a number nor a date as 2024-05-01T12:30:00") from None
        if not math.isfinite(value):
            raise ValueError(f"time {text!r} is not a finite number")
        return since_1970(value, column.unit if column.unit in UNITS else ""), True
    return None, True
