"""Where, when and which way a photo was taken, as any source tells it."""

from __future__ import annotations

from dataclasses import dataclass

from dejavlad.geo import Position


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
