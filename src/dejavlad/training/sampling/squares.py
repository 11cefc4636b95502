"""Squares of the ground, which may be divided by headings: what a place is, and what a class is made of."""

from __future__ import annotations

import math

from dejavlad.photo import Photo
from dejavlad.training.config.options import TrainConfig

Square = tuple[str, int, int, int]
"""UTM zone, squares east and north, sector of headings."""


def square_of(photo: Photo, config: TrainConfig) -> Square | None:
    """The square in which a photo was taken; None where its position, or a heading that counts, is unknown.

    Args:
        photo: any.
        config: see its ``place_size``, ``place_sector`` and ``classes``: focal classes go by headings, but
            have no sectors.
    """
    at, sector = photo.position, config.place_sector
    focal = config.mining == "classes" and config.classes == "focal"
    if at is None or (photo.heading is None and (sector or focal)):
        return None
    number = math.floor((photo.heading or 0) / sector) if sector and not focal else 0
    size = config.place_size
    return at.zone or "", math.floor(at.east / size), math.floor(at.north / size), number
