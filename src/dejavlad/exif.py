"""What a photo's EXIF tells: where, when and which way. Whatever cannot be read counts as not told."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image

from dejavlad.errors import InputError
from dejavlad.geo import Position, utm_from_latlon

GPS, DETAILS = ExifTags.IFD.GPSInfo, ExifTags.IFD.Exif


@dataclass(frozen=True, slots=True)
class Exif:
    """What EXIF tells of a photo; None where it does not."""

    position: Position | None = None
    """Where, in UTM."""
    heading: float | None = None
    """Compass direction of the view in degrees, 0 <= heading < 360."""
    time: float | None = None
    """When, in seconds since 1970: of the GPS fix (UTC), else of the camera's clock, taken for UTC."""
    orientation: int = 1
    """How the pixels are stored, 1 (upright) to 8."""


def read_exif(path: Path) -> Exif:
    """The EXIF of a file; nothing told where there is none, or it cannot be read."""
    try:
        with Image.open(path) as image:
            tags = image.getexif()
            gps, details = tags.get_ifd(GPS), tags.get_ifd(DETAILS)
    except Exception:  # a broken file is reported when its pixels are read
        return Exif()
    return Exif(
        position=_position(gps),
        heading=_heading(gps),
        time=_gps_time(gps) or _camera_time(tags, details),
        orientation=orientation_of(tags),
    )


def orientation_of(tags: Mapping[int, Any]) -> int:
    """The orientation tag, 1 where it is absent or out of range."""
    told = tags.get(ExifTags.Base.Orientation, 1)
    return told if isinstance(told, int) and 1 <= told <= 8 else 1


def _position(gps: Mapping[int, Any]) -> Position | None:
    lat = _degrees(gps.get(ExifTags.GPS.GPSLatitude), gps.get(ExifTags.GPS.GPSLatitudeRef), "N", "S")
    lon = _degrees(gps.get(ExifTags.GPS.GPSLongitude), gps.get(ExifTags.GPS.GPSLongitudeRef), "E", "W")
    if lat is None or lon is None or (lat == 0 and lon == 0):  # cameras without a fix write zeros
        return None
    try:
        return utm_from_latlon(lat, lon)
    except InputError:
        return None


def _degrees(parts: Any, side: Any, plus: str, minus: str) -> float | None:
    """Degrees, minutes and seconds, as rationals, to signed degrees."""
    side = side.decode("ascii", "replace") if isinstance(side, bytes) else side
    side = str(side or "").strip("\0 ").upper()[:1]
    numbers = [_number(part) for part in parts] if isinstance(parts, tuple) and 1 <= len(parts) <= 3 else []
    if side not in (plus, minus) or not numbers or any(n is None or n < 0 for n in numbers):
        return None
    degrees = float(sum(n / 60**i for i, n in enumerate(numbers) if n is not None))
    return degrees if side == plus else -degrees


def _heading(gps: Mapping[int, Any]) -> float | None:
    told = _number(gps.get(ExifTags.GPS.GPSImgDirection))
    return told % 360 if told is not None and 0 <= told <= 360 else None


def _gps_time(gps: Mapping[int, Any]) -> float | None:
    with contextlib.suppress(Exception):
        hours, minutes, seconds = (float(part) for part in gps[ExifTags.GPS.GPSTimeStamp])
        day = datetime.strptime(gps[ExifTags.GPS.GPSDateStamp].strip("\0 "), "%Y:%m:%d").replace(tzinfo=UTC)
        at = day.timestamp() + 3600 * hours + 60 * minutes + seconds
        return at if math.isfinite(at) else None
    return None


def _camera_time(tags: Mapping[int, Any], details: Mapping[int, Any]) -> float | None:
    with contextlib.suppress(Exception):
        told = details.get(ExifTags.Base.DateTimeOriginal) or tags[ExifTags.Base.DateTime]
        return datetime.strptime(told.strip("\0 "), "%Y:%m:%d %H:%M:%S").replace(tzinfo=UTC).timestamp()
    return None


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) else None
