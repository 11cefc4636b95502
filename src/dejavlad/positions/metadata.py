"""What photos tell of themselves: EXIF, the XMP in them, and the files beside them.

A position comes from an XMP file beside the photo (written later, and on purpose), else from EXIF, else from
the XMP in the photo, else from Google Takeout. The time is EXIF's; where its clock tells no time zone, one of
the others that knows it says which, if a time zone in use explains their difference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from dejavlad.photo import Photo, PhotoList
from dejavlad.positions.exif import read_exif, zone_of
from dejavlad.positions.facts import Facts
from dejavlad.positions.moments import TimeOffset, zone_text
from dejavlad.positions.sidecars import Sidecars, parse_xmp


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata(Facts):
    """What is known of one photo by all sources; None where it is not told."""

    source: str = ""
    """What the position was read from: EXIF, an XMP file ...; empty without a position."""
    stale: bool = False
    """Whether a GPS time was left out, because it does not go with the camera's clock."""


def read_metadata(photos: PhotoList) -> list[Metadata]:
    """What each photo tells; nothing for frames of videos and arrays."""
    beside = Sidecars()
    return [_read(photo, beside) for photo in photos]


def _read(photo: Photo, beside: Sidecars) -> Metadata:
    if photo.pixels is not None or photo.frame is not None:
        return Metadata()
    exif = read_exif(photo.path)
    sources: list[tuple[str, Facts]] = [
        (source, facts)
        for source, facts in (
            ("XMP files", beside.xmp(photo.path)),
            ("EXIF", exif),
            ("XMP", parse_xmp(exif.xmp) if exif.xmp else None),
            ("Google Takeout", beside.takeout(photo.path)),
        )
        if facts is not None
    ]
    source, position = next(((s, facts.position) for s, facts in sources if facts.position), ("", None))
    time, zoned = exif.time, exif.zoned
    for _, facts in sources:
        if facts.time is None or (time is not None and zoned):
            continue
        if time is None:
            time, zoned = facts.time, facts.zoned
        elif facts.zoned and (zone := zone_of(time, facts.time)) is not None:
            time, zoned = time - zone, True
    return Metadata(
        position=position,
        source=source,
        heading=next((facts.heading for _, facts in sources if facts.heading is not None), None),
        time=time,
        zoned=zoned,
        zero=position is None and any(facts.zero for _, facts in sources),
        stale=exif.stale,
    )


def time_notes(times: Iterable[tuple[float | None, bool]], offset: TimeOffset, stale: int = 0) -> list[str]:
    """What is to be said of times: how many have no time zone, and what was assumed.

    Args:
        times: each photo's time as it was read, and whether its zone is known.
        stale: photos whose GPS time was left out.
    """
    counts = Counter(zoned for time, zoned in times if time is not None)
    notes = []
    if counts[False]:
        taken = "UTC" if offset.zone is None else zone_text(offset.zone)
        more = "" if offset else " (--time-offset UTC+2 says that their clocks ran on that)"
        notes.append(
            f"{counts[False]} of {counts.total()} photos' times have no time zone, and are taken for "
            f"{taken}{more}"
        )
    if offset.seconds:
        notes.append(f"{offset.seconds:+g} s were added to the photos' times")
    if stale:
        notes.append(f"{stale} photos' GPS times differ from their cameras' clocks, which are used")
    return notes
