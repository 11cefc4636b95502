"""Moments as text: ISO 8601, EXIF's form, numbers since 1970; and what is added to the times of photos."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from dejavlad.errors import InputError

_DATE = re.compile(
    r"(\d{4})[-:/.]?(\d\d)[-:/.]?(\d\d)(?:[T _]?(\d\d):?(\d\d)(?::?(\d\d)(?:[.,](\d{1,9}))?)?)?"
    r"\s*(Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)?",
    re.ASCII | re.IGNORECASE,
)
_OFFSET = re.compile(r"([+-])(\d{1,2})(?::?(\d\d)(?::(\d\d(?:\.\d+)?))?)?", re.ASCII)
_CLOCK = re.compile(r"([+-]?)(\d{1,3}):(\d\d)(?::(\d\d(?:\.\d+)?))?", re.ASCII)
_UNITS: Final = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))
"""From which number on a time since 1970 is of nano-, micro- and milliseconds, and how many are a second."""
UNITS: Final = {"s": 1.0, "ms": 1e3, "us": 1e6, "µs": 1e6, "ns": 1e9}
"""Unit of time -> how many are a second."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in time, and whether its zone is known."""

    time: float
    """Unix time; where `zoned` is False, of a clock that is taken for UTC."""
    zoned: bool
    """Whether the time zone is known."""
    dated: bool = True
    """False where there is a date, but no time of day."""


def parse_moment(text: str) -> Moment | None:
    """A date with a time, or a date, as ISO 8601 or EXIF write it; None where it is none."""
    match = _DATE.fullmatch(text.strip())
    if not match:
        return None
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    try:
        at = datetime(int(year), int(month), int(day), int(hour or 0), int(minute or 0), tzinfo=UTC)
    except ValueError:
        return None
    seconds = int(second or 0)
    east = offset_seconds(zone) if zone else None
    if seconds > 60 or (zone and east is None):  # a leap second is the 61st
        return None
    time = at.timestamp() + seconds + (float(f"0.{fraction}") if fraction else 0.0) - (east or 0.0)
    return Moment(time, zone is not None, hour is not None)


def offset_seconds(text: str) -> float | None:
    """``+02:00``, ``-0330``, ``+2`` or ``Z`` as seconds east of Greenwich; None where it is no zone."""
    text = text.strip()
    if text.upper() in ("Z", "UTC", "GMT"):
        return 0.0
    match = _OFFSET.fullmatch(text)
    if not match or int(match[2]) > 14 or int(match[3] or 0) > 59:
        return None
    return float(f"{match[1]}1") * (3600 * int(match[2]) + 60 * int(match[3] or 0))


def since_1970(number: float, unit: str = "") -> float:
    """Seconds of a number that counts seconds, milli-, micro- or nanoseconds, by its unit or its size."""
    if unit in UNITS:
        return number / UNITS[unit]
    return next((number / share for least, share in _UNITS if abs(number) >= least), number)


@dataclass(frozen=True, slots=True)
class TimeOffset:
    """What is to be added to the times of photos, as ``--time-offset`` says it."""

    seconds: float = 0.0
    """Seconds to add to each time; negative for clocks that were fast."""
    zone: float | None = None
    """Seconds east of Greenwich of clocks that tell no zone; None: they are taken for UTC."""
    text: str = ""
    """The text as the user gave it, for messages."""

    @classmethod
    def parse(cls, text: str | None) -> TimeOffset:
        """``-7200`` or ``-2:00`` (added), or ``UTC+2`` (the zone of clocks that tell none).

        Raises:
            InputError: it is of another form.
        """
        if text is None:
            return cls()
        given = text.strip()
        if given[:3].upper() in ("UTC", "GMT"):
            east = offset_seconds(given[3:]) if given[3:] else 0.0
            if east is not None:
                return cls(0.0, east, given)
        elif match := _CLOCK.fullmatch(given):
            size = 3600 * int(match[2]) + 60 * int(match[3]) + float(match[4] or 0)
            return cls(-size if match[1] == "-" else size, None, given)
        else:
            try:
                seconds = float(given)
            except ValueError:
                seconds = math.nan
            if math.isfinite(seconds):
                return cls(seconds, None, given)
        raise InputError(
            f"--time-offset {text!r}: give seconds to add to the photos' times (-7200, or -2:00 hours), or "
            "the zone of clocks that tell none (UTC+2)"
        )

    def apply(self, time: float, zoned: bool) -> float:
        """The time that is meant."""
        return time + self.seconds - (0.0 if zoned or self.zone is None else self.zone)

    def __bool__(self) -> bool:
        return self.seconds != 0 or self.zone is not None


NO_OFFSET: Final = TimeOffset()
"""The offset that adds nothing."""


def zone_text(seconds: float) -> str:
    """``UTC+2`` or ``UTC-3:30`` of seconds east of Greenwich."""
    hours, minutes = divmod(round(abs(seconds) / 60), 60)
    return f"UTC{'-' if seconds < 0 else '+'}{hours}" + (f":{minutes:02d}" if minutes else "")
