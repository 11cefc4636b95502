"""Positions from a CSV file: ``name,lat,lon`` or ``name,east,north[,zone]``, optionally ``heading,time``.

The first line names the columns, in any order; others are ignored.
"""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dejavlad.datasets.listing import read_text
from dejavlad.errors import InputError
from dejavlad.geo import Position, parse_zone, utm_from_latlon

FORMS = "name,lat,lon or name,east,north[,zone], optionally heading,time"

_ALIASES = {
    "latitude": "lat",
    "longitude": "lon",
    "lng": "lon",
    "easting": "east",
    "northing": "north",
    "file": "name",
    "filename": "name",
    "image": "name",
    "path": "name",
}


@dataclass(frozen=True, slots=True)
class Fix:
    """What one line tells."""

    line: int
    """Its number in the file, from 1."""
    position: Position | None
    """Where; None where both fields are empty."""
    heading: float | None = None
    """Degrees, 0 <= heading < 360."""
    time: float | None = None
    """Unix time, or as the file counts."""


def read_positions(path: str | Path) -> dict[str, Fix]:
    """Name -> what the file tells of it, in the file's order.

    Heading is in degrees; time is a number, or a date and time as ISO 8601 (UTC unless it says otherwise).
    Names are kept as they stand, but for outer spaces and ``./`` before them.

    Raises:
        InputError: with the line's number: no such columns, a number that is none, latitude and longitude out
            of range or swapped, a name twice; or nothing in the file.
    """
    path = Path(path)
    text = read_text(path)
    head = text.split("\n", 1)[0]
    delimiter = next((mark for mark in ",;\t" if mark in head), ",")
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    fixes: dict[str, Fix] = {}
    columns: dict[str, int] | None = None
    line = 1
    try:
        while (row := next(rows, None)) is not None:
            if columns is None and any(field.strip() for field in row):
                columns = _columns(row)
            elif columns is not None and any(field.strip() for field in row):
                name, fix = _fix(row, columns, line)
                if name in fixes:
                    raise ValueError(f"{name!r} stands twice, first in line {fixes[name].line}")
                fixes[name] = fix
            line = rows.line_num + 1
    except (ValueError, csv.Error) as error:
        raise InputError(f"{str(path)!r} line {line}: {error}") from error
    if not fixes:
        raise InputError(f"{str(path)!r} holds no positions; its lines should be {FORMS}")
    return fixes


def _columns(row: list[str]) -> dict[str, int]:
    heads = [field.strip().lower() for field in row]
    columns = {_ALIASES.get(head, head): i for i, head in reversed(list(enumerate(heads)))}
    if "name" not in columns or not ({"lat", "lon"} <= set(columns) or {"east", "north"} <= set(columns)):
        raise ValueError(f"the first line should name the columns ({FORMS}); it reads {','.join(row)!r}")
    return columns


def _fix(row: list[str], columns: dict[str, int], line: int) -> tuple[str, Fix]:
    def field(column: str) -> str:
        at = columns.get(column, len(row))
        return row[at].strip() if at < len(row) else ""

    def number(column: str) -> float | None:
        text = field(column)
        try:
            value = float(text) if text else math.nan
        except ValueError:
            raise ValueError(f"{column} {text!r} is not a number") from None
        if math.isinf(value):
            raise ValueError(f"{column} {text!r} is not a finite number")
        return None if math.isnan(value) else value

    at = columns["name"]
    name = row[at].strip() if at < len(row) else ""
    if not name:
        raise ValueError("it has no name")
    first, second = ("lat", "lon") if {"lat", "lon"} <= set(columns) else ("east", "north")
    a, b = number(first), number(second)
    if (a is None) != (b is None):
        raise ValueError(
            f"{name!r} has {first if b is None else second} but no {second if b is None else first}"
        )
    position = None
    if a is not None and b is not None:
        position = _latlon(a, b) if first == "lat" else _in_zone(a, b, _zone(field("zone")))
    heading = number("heading")
    fix = Fix(line, position, heading % 360 if heading is not None else None, _time(field("time")))
    return name.removeprefix("./"), fix


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


def _zone(text: str) -> str | None:
    if not text:
        return None
    if text.isdigit():
        raise ValueError(f"zone {text!r} lacks its hemisphere; write {text}N or {text}S")
    if text[:-1].strip().isdigit() and text[-1].upper() in "CDEFGHJKLMPQRTUVWX":  # a latitude band
        text = text[:-1] + ("N" if text[-1].upper() >= "N" else "S")
    number, northern = parse_zone(text)
    return f"{number}{'N' if northern else 'S'}"


def _time(text: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(f"time {text!r} is neither a number nor a date as 2024-05-01T12:30:00") from None
        value = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not math.isfinite(value):
        raise ValueError(f"time {text!r} is not a finite number")
    return value
