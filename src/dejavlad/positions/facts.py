"""Where, when and which way a photo was taken, as any source tells it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from dejavlad.errors import InputError
from dejavlad.geo import Position, utm_from_latlon
from dejavlad.photo import Photo
from dejavlad.positions.moments import NO_OFFSET, TimeOffset


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a photo; None where it is not told."""

    position: Position | None = None
    """Where the photo was taken."""
    heading: float | None = None
    """Compass direction of the view in degrees, 0 <= heading < 360."""
    time: float | None = None
    """When it was taken, in seconds since 1970 (UTC)."""
    zoned: bool = True
    """False where the time is of a clock whose zone is not told, taken for UTC."""
    zero: bool = False
    """Whether the position is 0,0, as programs write that know none; `position` is None then."""

    def added_to(self, photo: Photo, offset: TimeOffset = NO_OFFSET) -> Photo:
        """The photo with what is known here in place of what it knew; `offset` is added to the time."""
        return replace(
            photo,
            position=self.position or photo.position,
            heading=photo.heading if self.heading is None else self.heading,
            time=photo.time if self.time is None else offset.apply(self.time, self.zoned),
        )


def position_of(lat: float | None, lon: float | None) -> tuple[Position | None, bool]:
    """The position of degrees, None for none; and whether it is 0,0, as cameras without a fix write."""
    if lat is None or lon is None or lat == lon == 0:
        return None, lat is not None and lat == lon
    try:
        return utm_from_latlon(lat, lon), False
    except InputError:
        return None, False


def finite_number(value: object) -> float | None:
    """A number, or a text that is one; None where it is none, NaN or infinite."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ArithmeticError):
        return None
    return number if math.isfinite(number) else None
