"""Positions in file names, as the VPR datasets format of VG-bench writes them.

A name is ``@ east @ north @ zone number @ zone letter @ latitude @ longitude @ panorama @ tile @ heading
@ pitch @ roll @ height @ time @ note @ ending`` without the spaces; fields may be empty, and a name may stop
after north.
The zone letter is the latitude band (C to X), so S is in the north; `Position.zone` keeps the hemisphere.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime

from dejavlad.errors import InputError
from dejavlad.geo import Position, parse_zone, utm_from_latlon
from dejavlad.photo import Photo
from dejavlad.positions.facts import finite_number

TAGS = ("night", "forward", "backward", "sideways")
"""Words of a note that become tags, as in ``night_sideways_sf`` of Mapillary's photos."""


def from_utm_name(photo: Photo) -> Photo | None:
    """The photo with the position, heading, time, panorama (as its group) and tags that its name tells.

    Returns:
        None where the name is not of this form, or tells no position.
    """
    base = photo.name.rsplit("/", 1)[-1]
    if not base.startswith("@"):
        return None
    stem, dot, ending = base.rpartition(".")
    fields = (stem if dot and "@" not in ending else base).split("@")[1:]
    fields += [""] * (14 - len(fields))
    position = _position(*fields[:6])
    if position is None:
        return None
    heading = finite_number(fields[8])
    return replace(
        photo,
        position=position,
        heading=heading % 360 if heading is not None else photo.heading,
        time=time if (time := _time(fields[12])) is not None else photo.time,
        group=fields[6] or photo.group,
        tags=tuple(word for word in fields[13].split("_") if word in TAGS) or photo.tags,
    )


def _position(east: str, north: str, number: str, band: str, lat: str, lon: str) -> Position | None:
    x, y = finite_number(east), finite_number(north)
    degrees = (finite_number(lat), finite_number(lon))
    known = None
    if degrees[0] is not None and degrees[1] is not None:
        try:
            known = utm_from_latlon(degrees[0], degrees[1])
        except InputError:
            known = None
    if x is None or y is None:
        return known
    zone = None
    if number:
        northern = band.upper() >= "N" if band else known is None or not str(known.zone).endswith("S")
        try:
            zone = f"{parse_zone(f'{int(number)}N')[0]}{'N' if northern else 'S'}"
        except ValueError:  # no number, or no zone
            return None
    elif known is not None:
        zone = known.zone
    return Position(x, y, zone)


_FORMS = {4: "%Y", 6: "%Y%m", 8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}


def _time(text: str) -> float | None:
    """Unix time of a date written in digits, e.g. 20150427 or 201504; None where it is none."""
    digits = re.sub(r"\D", "", text)
    try:
        return datetime.strptime(digits, _FORMS[len(digits)]).replace(tzinfo=UTC).timestamp()
    except (KeyError, ValueError):
        return None
