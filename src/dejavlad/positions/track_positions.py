"""Positions of photos by the track of a GPS logger, and why some have none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from dejavlad.errors import InputError
from dejavlad.photo import Photo, PhotoList
from dejavlad.positions.exif import ZONES
from dejavlad.positions.metadata import read_metadata, time_notes
from dejavlad.positions.moments import NO_OFFSET, TimeOffset, zone_text
from dejavlad.positions.notes import placed_photos
from dejavlad.positions.poses import no_time_within
from dejavlad.positions.tracks import Track, TrackGiven, read_track


def from_track(photos: PhotoList, given: TrackGiven | Path, offset: TimeOffset = NO_OFFSET) -> PhotoList:
    """With the positions of a GPS track at the photos' times (`Photo.time`, else `metadata`).

    Args:
        given: the track, and what is to be added to the photos' times (the moment of time 0 for videos).
        offset: what is to be added besides, and the zone of clocks that tell none.

    Raises:
        InputError: the file cannot be used, or no photo was taken while the track was recorded.
    """
    given = given if isinstance(given, TrackGiven) else TrackGiven(given)
    track = read_track(given.path)
    metadata = read_metadata(photos)
    times = [
        (photo.time, True) if photo.time not in (None, data.time) else (data.time, data.zoned)
        for photo, data in zip(photos, metadata, strict=True)
    ]
    at = [
        None if time is None else offset.apply(time + given.shift, zoned or given.shift != 0)
        for time, zoned in times
    ]
    new: list[Photo | None] = []
    for photo, time in zip(photos, at, strict=True):
        position = None if time is None else track.at(time, given.gap)
        new.append(None if position is None else replace(photo, position=position, time=time))
    known = [time for time in at if time is not None]
    if photos and not any(new):
        raise InputError(_no_place(photos, known, times, track, given, offset))
    notes = [*track.notes, *_why_unplaced(new, at, track, given.gap)]
    notes += time_notes(times if given.shift == 0 else [], offset, sum(data.stale for data in metadata))
    if given.shift and not offset.seconds and abs(given.shift) < 1e8:
        notes.append(f"{given.shift:+g} s were added to the photos' times")
    return placed_photos(photos, new, [given.path.name] * len(new), notes=notes)


def _why_unplaced(
    new: Sequence[Photo | None], times: Sequence[float | None], track: Track, gap: float
) -> list[str]:
    """Why some photos have no position by a track."""
    counts: Counter[str] = Counter()
    for photo, time in zip(new, times, strict=True):
        if time is None:
            counts["have no time"] += 1
        elif photo is None and track.times[0] <= time <= track.times[-1]:
            counts[f"fall into a gap of the track of over {gap:g} s"] += 1
        elif photo is None:
            counts["were taken before or after the track"] += 1
    return [f"{', '.join(f'{count} photos {why}' for why, count in counts.items())}"] if counts else []


def _no_place(
    photos: PhotoList,
    known: Sequence[float],
    times: Sequence[tuple[float | None, bool]],
    track: Track,
    given: TrackGiven,
    offset: TimeOffset,
) -> str:
    """Why a track tells the position of no photo, and what to type."""
    path = str(given.path)
    if not known:
        return (
            f"none of the {len(photos)} photos of {photos.name} (e.g. {photos[0].name!r}) has a time, which "
            f"the track {path!r} goes by: give a CSV file of times, or of positions"
        )
    first, last = (_utc(float(time)) for time in track.times[[0, -1]])
    if any(track.times[0] <= time <= track.times[-1] for time in known):
        why = no_time_within(f"the track {path!r}", known, track.times, given.gap)
        return f"{why} ({path}:gap=300 joins points up to 300 s apart)"
    text = (
        f"none of the {len(photos)} photos of {photos.name} (e.g. {photos[0].name!r}) has a time within the "
        f"track {path!r}, {first} to {last} UTC: they are of {_utc(min(known))} to {_utc(max(known))}"
    )
    unzoned = [time for time, zoned in times if time is not None and not zoned]
    if unzoned and offset.zone is None:
        fitting = {
            zone: sum(track.at(offset.apply(time, True) - zone, given.gap) is not None for time in unzoned)
            for zone in ZONES
        }
        best = max(fitting, key=lambda zone: (fitting[zone], -abs(zone)))
        if fitting[best]:
            return (
                f"{text}, by clocks without a time zone, taken for UTC; with --time-offset {zone_text(best)} "
                f"{fitting[best]} of them would"
            )
    return f"{text} (--time-offset SECONDS, or {path}:SECONDS, adds so many to photos' times)"


def _utc(time: float) -> str:
    try:
        return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M:%S}"
    except (OverflowError, ValueError, OSError):
        return f"{time:g} s"
