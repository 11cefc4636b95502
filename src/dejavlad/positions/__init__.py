"""Where and when photos were taken: EXIF, names, CSV files, tracks and camera poses."""

from __future__ import annotations

from dejavlad.positions.assign import with_positions

__all__ = ["with_positions"]
