"""Where the photos of a list were taken: metadata, their names, a table, a track by time, or camera poses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from dejavlad.errors import InputError
from dejavlad.geo import Position
from dejavlad.photo import Photo, PhotoList
from dejavlad.positions.csv_file import Fix, read_positions
from dejavlad.positions.facts import Facts
from dejavlad.positions.metadata import Metadata, read_metadata, time_notes
from dejavlad.positions.moments import NO_OFFSET, TimeOffset
from dejavlad.positions.name_matching import match_names
from dejavlad.positions.notes import placed_photos
from dejavlad.positions.oxts import oxts_above, oxts_folder, placed_by_oxts
from dejavlad.positions.poses import (
    GROUND,
    PosesGiven,
    centres_of,
    ground,
    is_poses,
    off_ground,
    read_poses,
    split_poses,
)
from dejavlad.positions.track_positions import from_track
from dejavlad.positions.tracks import split_track
from dejavlad.positions.utm_names import from_utm_name

WORDS = ("exif", "utm-names", "auto", "none")
"""Sources of positions that are no files."""
BESIDE = "positions.csv"
"""The file that `auto` looks for in the root of a list."""


def with_positions(
    photos: PhotoList, source: str | Path | None, *, time_offset: TimeOffset | str | None = None
) -> PhotoList:
    """The same photos with what `source` tells of where, when and which way they were taken.

    `PhotoList.notes` of the result says how many photos have a position and from what, what was left out and
    why, and what was assumed of times.

    Args:
        source: ``exif`` (`metadata`: EXIF, XMP, and the files beside photos); ``utm-names``; ``none`` or None
            (as they are); the path of a table (`csv_file`), of a track (`tracks`), of poses (`poses`) or
            of a raw drive of KITTI (`oxts`); or ``auto``: as they are where all of them know theirs, else
            `BESIDE` in the list's root where there is one, else what the names tell, and EXIF where they do
            not.
        time_offset: what is to be added to the photos' own times, or what `TimeOffset.parse` reads.

    Raises:
        InputError: no such source, a file that cannot be used, names of another form, or a time offset for
            positions that do not go by time.
    """
    offset = time_offset if isinstance(time_offset, TimeOffset) else TimeOffset.parse(time_offset)
    if source is None or source == "none":
        _timeless(offset, "without positions there are no times to shift; give --positions too")
        return photos
    if source == "auto":
        return _auto(photos, offset)
    if source == "exif":
        return from_metadata(photos, offset)
    if source == "utm-names":
        _timeless(offset, "positions in names do not go by time")
        return from_names(photos)
    if (track := split_track(source)) is not None:
        return from_track(photos, track, offset)
    poses = split_poses(source)
    if is_poses(poses.path):
        return from_poses(photos, poses, offset)
    if (drive := oxts_folder(source)) is not None:
        _timeless(offset, "KITTI's frames go by their numbers")
        return from_oxts(photos, drive)
    if str(source).lower().endswith((".csv", ".tsv")) or Path(source).is_file():
        return from_csv(photos, Path(source), offset=offset)
    raise InputError(
        f"positions {str(source)!r}: valid are {', '.join(WORDS)}, a CSV file, a track "
        "(.gpx, .kml, .kmz), or poses (.txt of KITTI, TUM or COLMAP, images.bin, .csv of EuRoC, KITTI's oxts)"
    )


def _timeless(offset: TimeOffset, why: str) -> None:
    if offset:
        raise InputError(f"--time-offset {offset.text}: {why}")


def _auto(photos: PhotoList, offset: TimeOffset) -> PhotoList:
    if len(photos) and all(photos.positions):
        _timeless(offset, f"the photos of {photos.name} know their positions already; give --positions")
        return photos
    if (beside := photos.root / BESIDE).is_file():
        return from_csv(photos, beside, offset=offset)
    if (drive := oxts_above(photos)) is not None:
        return from_oxts(photos, drive)
    named = [from_utm_name(photo) for photo in photos]
    if named and all(named):
        return from_names(photos)
    rest = photos.like(photo for photo, new in zip(photos, named, strict=True) if new is None)
    metadata = read_metadata(rest)
    if not any(named) and not any(data.position or data.time is not None or data.zero for data in metadata):
        return photos
    by_key = dict(zip(rest.keys, metadata, strict=True))
    data = [by_key.get(photo.key, Metadata()) for photo in photos]
    return _by_metadata(photos, data, offset, named)


def from_metadata(photos: PhotoList, offset: TimeOffset = NO_OFFSET) -> PhotoList:
    """With the position, direction and time of EXIF, XMP and files beside photos, where they have them."""
    return _by_metadata(photos, read_metadata(photos), offset, [None] * len(photos))


def _by_metadata(
    photos: PhotoList, data: Sequence[Metadata], offset: TimeOffset, named: Sequence[Photo | None]
) -> PhotoList:
    """With what metadata tell; where a photo's name tells its position (`named`), with that."""
    rows = list(zip(photos, named, data, strict=True))
    new = [name or at.added_to(photo, offset) for photo, name, at in rows]
    sources = ["names" if name else at.source for _, name, at in rows]
    times = [(at.time, at.zoned) for at in data]
    notes = time_notes(times, offset, sum(at.stale for at in data))
    return placed_photos(photos, new, sources, zeros=_zeros(data), notes=notes, strict=False)


def _zeros(facts: Sequence[Facts | None]) -> list[int]:
    """Rows whose position was told as 0,0."""
    return [row for row, known in enumerate(facts) if known is not None and known.zero]


def from_names(photos: PhotoList) -> PhotoList:
    """With what ``@east@north@...`` names tell.

    Raises:
        InputError: no name has this form.
    """
    new = [from_utm_name(photo) for photo in photos]
    what = "has a name that holds its position, as @east@north@zone@letter@... does"
    return placed_photos(photos, new, ["names"] * len(new), what=what)


def from_csv(
    photos: PhotoList, path: Path, fixes: Mapping[str, Fix] | None = None, offset: TimeOffset = NO_OFFSET
) -> PhotoList:
    """With what a table tells (`csv_file`), matched by names (`match_names`).

    Args:
        fixes: what it tells, by the list's names, where it was read already.
        offset: what is to be added to the file's times.

    Raises:
        InputError: the file cannot be used, or names none of the photos.
    """
    fixes = read_positions(path) if fixes is None else fixes
    names, rows = list(fixes), list(fixes.values())
    matches = match_names([photo.name for photo in photos], names, photos.root)
    of_photo = [None if row is None else rows[row] for row in matches.rows]
    what = f"is named in {str(path)!r}, whose first name is {names[0]!r}" if names else f"is in {str(path)!r}"
    notes = []
    if matches.ambiguous:
        text = _ambiguous_text(photos, matches.ambiguous, path)
        what += f": {text}"
        notes.append(text)
    unused = len(rows) - sum(fix is not None for fix in of_photo)
    if unused:
        notes.append(f"{path.name} names {unused} photos that are not in {photos.name}")
    times = [(fix.time, fix.zoned) if fix else (None, True) for fix in of_photo]
    new = [
        None if fix is None else fix.added_to(photo, offset)
        for photo, fix in zip(photos, of_photo, strict=True)
    ]
    notes += time_notes(times, offset)
    sources = [path.name] * len(new)
    return placed_photos(photos, new, sources, zeros=_zeros(of_photo), notes=notes, what=what)


def from_poses(photos: PhotoList, given: PosesGiven | Path, offset: TimeOffset = NO_OFFSET) -> PhotoList:
    """With the camera centres that a file of poses tells, in a plane of its own.

    Args:
        given: poses of KITTI, TUM, EuRoC or COLMAP, and which axes are east and north.
        offset: what is to be added to the photos' times, where the poses go by time.

    Raises:
        InputError: the file cannot be used, or tells of none of the photos.
    """
    given = given if isinstance(given, PosesGiven) else PosesGiven(given)
    path = given.path
    poses = read_poses(path)
    if poses.times is None:
        _timeless(offset, f"the poses of {str(path)!r} do not go by time")
    axes = given.axes or GROUND[poses.kind]
    notes = list(poses.notes)
    if off_ground(poses.centres, axes):
        notes.append(
            f"{path} extends far along the axis that is left out of {axes}: say which two are the ground, as "
            f"{path.name}:xz"
        )
    if poses.names is not None and (
        ambiguous := match_names([photo.name for photo in photos], poses.names).ambiguous
    ):
        notes.append(_ambiguous_text(photos, ambiguous, path))
    centres = centres_of(photos, poses, path, rate=given.rate, offset=offset)
    new = [
        None if centre is None else replace(photo, position=Position(*ground(centre, axes)))
        for photo, centre in zip(photos, centres, strict=True)
    ]
    return placed_photos(
        photos, new, [path.name] * len(new), notes=notes, what=f"has a pose in {str(path)!r}"
    )


def from_oxts(photos: PhotoList, folder: Path) -> PhotoList:
    """With the readings of a raw drive of KITTI.

    Raises:
        InputError: it holds none, or photos are not named by their frames' numbers.
    """
    new = placed_by_oxts(photos, folder)
    return placed_photos(photos, new, ["oxts"] * len(new), what=f"has a reading in {str(folder)!r}")


def _ambiguous_text(photos: PhotoList, rows: Sequence[int], path: Path) -> str:
    return (
        f"{len(rows)} photos (e.g. {photos[rows[0]].name!r}) share their bare name with others, and "
        f"{path.name} does not tell them apart: write their folders into it"
    )
