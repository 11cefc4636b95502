"""What a photo's EXIF tells: where, when and which way. Whatever cannot be read counts as not told."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image

from dejavlad.decoders import open_image
from dejavlad.errors import InputError
from dejavlad.geo import Position, utm_from_latlon

Tags = Mapping[int, Any]


@dataclass(frozen=True, slots=True)
class Exif:
    """What EXIF tells of a photo; None where it does not."""

    position: Position | None = None
    """Where, in UTM."""
    heading: float | None = None
    """Compass direction of the view in degrees, 0 <= heading < 360; magnetic north is taken for true."""
    time: float | None = None
    """When, in seconds since 1970: of the GPS fix (UTC), else of the camera's clock, taken for UTC unless its
    offset is told."""
    orientation: int = 1
    """How the pixels are stored, 1 (upright) to 8."""


def read_exif(path: Path) -> Exif:
    """The EXIF of a file; nothing told where there is none, or it cannot be read."""
    try:
        with open_image(Path(path)) as image:
            tags = image.getexif()
            gps, details = _part(tags, ExifTags.IFD.GPSInfo), _part(tags, ExifTags.IFD.Exif)
            fixed_at = _gps_time(gps)
            return Exif(
                position=_position(gps),
                heading=_heading(gps),
                time=fixed_at if fixed_at is not None else _camera_time(tags, details),
                orientation=orientation_of(tags),
            )
    except InputError:  # a broken file is reported when its pixels are read
        return Exif()


def panorama_heading(path: Path) -> float | None:
    """Compass direction of a panorama's middle in degrees: of its XMP (GPano), else of its EXIF."""
    try:
        with open_image(Path(path)) as image:
            xmp = image.info.get("xmp", b"")
            told = xmp.decode("utf-8", "replace") if isinstance(xmp, bytes) else str(xmp)
            found = re.search(r"PoseHeadingDegrees\s*(?:=\s*[\"']|>)\s*([-+0-9.]{1,20})", told)
            heading = _number(found[1]) if found else None
            if heading is not None and -360 <= heading <= 360:
                return heading % 360
            return _heading(_part(image.getexif(), ExifTags.IFD.GPSInfo))
    except InputError:
        return None


def orientation_of(tags: Tags) -> int:
    """The orientation tag, 1 where it is absent or out of range."""
    told = tags.get(ExifTags.Base.Orientation, 1)
    return told if isinstance(told, int) and 1 <= told <= 8 else 1


def _part(tags: Image.Exif, part: ExifTags.IFD) -> dict[int, Any]:
    try:
        return dict(tags.get_ifd(part))
    except Exception:  # hostile tags raise anything, and the other parts may be whole
        return {}


def _position(gps: Tags) -> Position | None:
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
    side = _text(side).upper()[:1]
    parts = parts if isinstance(parts, tuple) else (parts,)
    numbers = [_number(part) for part in parts]
    if side not in (plus, minus) or not 1 <= len(numbers) <= 3 or any(n is None or n < 0 for n in numbers):
        return None
    degrees = float(sum(n / 60**i for i, n in enumerate(numbers) if n is not None))
    return degrees if side == plus else -degrees


def _heading(gps: Tags) -> float | None:
    told = _number(gps.get(ExifTags.GPS.GPSImgDirection))
    return told % 360 if told is not None and 0 <= told <= 360 else None


def _gps_time(gps: Tags) -> float | None:
    with contextlib.suppress(Exception):
        hours, minutes, seconds = (float(part) for part in gps[ExifTags.GPS.GPSTimeStamp])
        day = datetime.strptime(_text(gps[ExifTags.GPS.GPSDateStamp]), "%Y:%m:%d").replace(tzinfo=UTC)
        if 0 <= hours < 24 and 0 <= minutes < 60 and 0 <= seconds <= 60:  # a leap second is the 61st
            return day.timestamp() + 3600 * hours + 60 * minutes + seconds
    return None


def _camera_time(tags: Tags, details: Tags) -> float | None:
    for told, offset in (
        (details.get(ExifTags.Base.DateTimeOriginal), details.get(ExifTags.Base.OffsetTimeOriginal)),
        (tags.get(ExifTags.Base.DateTime), details.get(ExifTags.Base.OffsetTime)),
    ):
        with contextlib.suppress(Exception):
            at = datetime.strptime(_text(told), "%Y:%m:%d %H:%M:%S").replace(tzinfo=UTC).timestamp()
            return at - _seconds_east(_text(offset))
    return None


def _seconds_east(offset: str) -> float:
    """``"+02:00"`` to 7200; 0 where it is not told."""
    found = re.fullmatch(r"([+-])(\d\d):(\d\d)", offset, re.ASCII)
    if not found or int(found[2]) > 14 or int(found[3]) > 59:
        return 0.0
    return float(f"{found[1]}1") * (3600 * int(found[2]) + 60 * int(found[3]))


def _text(value: Any) -> str:
    told = value.decode("ascii", "replace") if isinstance(value, bytes) else value
    return told.strip("\0 ") if isinstance(told, str) else ""


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, ArithmeticError):
        return None
    return number if math.isfinite(number) else None
