"""What a photo's EXIF tells: where, when and which way. Whatever cannot be read counts as not told."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from PIL import ExifTags, Image

from dejavlad.decoders import open_image
from dejavlad.errors import InputError
from dejavlad.positions.facts import Facts, finite_number, position_of
from dejavlad.positions.moments import offset_seconds

Tags = Mapping[int, Any]

ZONES: Final = tuple(
    sorted(
        {
            *(hours * 3600.0 for hours in range(-12, 15)),
            *(
                hours * 3600.0
                for hours in (-9.5, -3.5, 3.5, 4.5, 5.5, 5.75, 6.5, 8.75, 9.5, 10.5, 12.75, 13.75)
            ),
        }
    )
)
"""Seconds east of Greenwich of the time zones in use."""
STALE: Final = (-120.0, 900.0)
"""Seconds that a camera's clock may be ahead of the GPS fix that it wrote: clocks err, and fixes grow old."""
FIRST_GPS_YEAR: Final = 1995
"""No photo has a GPS time from before; receivers without one write 1970 or 1980."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exif(Facts):
    """What EXIF tells of a photo; None where it does not.

    The heading is the view's, magnetic north being taken for true. The time is that of the camera's clock
    with its parts of a second and its offset, which the GPS fix tells where EXIF does not; else of that fix.
    """

    stale: bool = False
    """Whether a GPS time was left out, because it does not go with the camera's clock."""
    xmp: bytes | None = field(default=None, repr=False)
    """The XMP packet in the file."""


def read_exif(path: Path) -> Exif:
    """The EXIF of a file; nothing told where there is none, or it cannot be read."""
    try:
        with open_image(Path(path)) as image:
            tags = image.getexif()
            gps, details = _part(tags, ExifTags.IFD.GPSInfo), _part(tags, ExifTags.IFD.Exif)
            position, zero = position_of(
                _degrees(gps.get(ExifTags.GPS.GPSLatitude), gps.get(ExifTags.GPS.GPSLatitudeRef), "N", "S"),
                _degrees(gps.get(ExifTags.GPS.GPSLongitude), gps.get(ExifTags.GPS.GPSLongitudeRef), "E", "W"),
            )
            time, zoned, stale = _time(_gps_time(gps), _camera_time(tags, details))
            return Exif(
                position=position,
                heading=_heading(gps),
                time=time,
                zoned=zoned,
                zero=zero,
                stale=stale,
                xmp=_xmp(image),
            )
    except InputError:  # a broken file is reported when its pixels are read
        return Exif()


def zone_of(clock: float, utc: float) -> float | None:
    """The offset of a clock without a time zone, in seconds east, by a UTC time that was written beside it.

    Returns:
        None where no time zone in use explains their difference.
    """
    fitting = [zone for zone in ZONES if STALE[0] <= clock - utc - zone <= STALE[1]]
    return min(fitting, key=lambda zone: abs(clock - utc - zone), default=None)


def _time(gps: float | None, camera: tuple[float, float | None] | None) -> tuple[float | None, bool, bool]:
    """The time, whether its zone is known, and whether the GPS time was left out."""
    if camera is None:
        return gps, True, False
    clock, offset = camera
    if offset is not None:
        stale = gps is not None and not STALE[0] <= clock - offset - gps <= STALE[1]
        return clock - offset, True, stale
    if gps is None:
        return clock, False, False
    zone = zone_of(clock, gps)
    return (clock, False, True) if zone is None else (clock - zone, True, False)


def _xmp(image: Image.Image) -> bytes | None:
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    if isinstance(packet, str):
        packet = packet.encode("utf-8", "replace")
    return packet if isinstance(packet, bytes) else None


def panorama_heading(path: Path) -> float | None:
    """Compass direction of a panorama's middle in degrees: of its XMP (GPano), else of its EXIF."""
    try:
        with open_image(Path(path)) as image:
            xmp = (_xmp(image) or b"").decode("utf-8", "replace")
            tag = re.search(r"PoseHeadingDegrees\s*(?:=\s*[\"']|>)\s*([-+0-9.]{1,20})", xmp)
            heading = finite_number(tag[1]) if tag else None
            if heading is not None and -360 <= heading <= 360:
                return heading % 360
            return _heading(_part(image.getexif(), ExifTags.IFD.GPSInfo))
    except InputError:
        return None


def orientation_of(tags: Tags) -> int:
    """The orientation tag, 1 where it is absent or out of range."""
    orientation = tags.get(ExifTags.Base.Orientation, 1)
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def _part(tags: Image.Exif, part: ExifTags.IFD) -> dict[int, Any]:
    try:
        return dict(tags.get_ifd(part))
    except Exception:  # hostile tags raise anything, and the other parts may be whole
        return {}


def _degrees(parts: Any, side: Any, plus: str, minus: str) -> float | None:
    """Degrees, minutes and seconds, as rationals, to signed degrees."""
    side = _text(side).upper()[:1]
    parts = parts if isinstance(parts, tuple) else (parts,)
    numbers = [finite_number(part) for part in parts]
    if side not in (plus, minus) or not 1 <= len(numbers) <= 3 or any(n is None or n < 0 for n in numbers):
        return None
    degrees = float(sum(n / 60**i for i, n in enumerate(numbers) if n is not None))
    return degrees if side == plus else -degrees


def _heading(gps: Tags) -> float | None:
    degrees = finite_number(gps.get(ExifTags.GPS.GPSImgDirection))
    return degrees % 360 if degrees is not None and 0 <= degrees <= 360 else None


def _gps_time(gps: Tags) -> float | None:
    with contextlib.suppress(Exception):
        hours, minutes, seconds = (float(part) for part in gps[ExifTags.GPS.GPSTimeStamp])
        day = datetime.strptime(_text(gps[ExifTags.GPS.GPSDateStamp]), "%Y:%m:%d").replace(tzinfo=UTC)
        in_day = 0 <= hours < 24 and 0 <= minutes < 60 and 0 <= seconds <= 60  # a leap second is the 61st
        if in_day and day.year >= FIRST_GPS_YEAR:
            return day.timestamp() + 3600 * hours + 60 * minutes + seconds
    return None


def _camera_time(tags: Tags, details: Tags) -> tuple[float, float | None] | None:
    """The camera's clock, and its offset in seconds east where it is told: of the original photo first."""
    base = ExifTags.Base
    for stamp, part, offset in (
        (details.get(base.DateTimeOriginal), base.SubsecTimeOriginal, base.OffsetTimeOriginal),
        (details.get(base.DateTimeDigitized), base.SubsecTimeDigitized, base.OffsetTimeDigitized),
        (tags.get(base.DateTime), base.SubsecTime, base.OffsetTime),
    ):
        with contextlib.suppress(Exception):
            at = datetime.strptime(_text(stamp), "%Y:%m:%d %H:%M:%S").replace(tzinfo=UTC)
            if (at.year, at.month, at.day) == (1970, 1, 1):  # a clock that was never set
                continue
            digits = _text(details.get(part))
            fraction = float(f"0.{digits}") if re.fullmatch(r"\d{1,9}", digits, re.ASCII) else 0.0
            zone = _text(details.get(offset))  # of other words, such as UTC, cameras mean nothing
            return at.timestamp() + fraction, offset_seconds(zone) if zone[:1] in ("+", "-", "Z") else None
    return None


def _text(value: Any) -> str:
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
    return text.strip("\0 ") if isinstance(text, str) else ""
