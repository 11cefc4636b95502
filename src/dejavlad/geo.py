"""Where photos were taken: latitude/longitude and UTM, with the zone kept."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Position:
    """A point in metres, on a map plane."""

    east: float
    """Metres eastwards."""
    north: float
    """Metres northwards."""
    zone: str | None = None
    """UTM zone with its hemisphere, e.g. ``"33N"``; None for a plane of the user's own."""
