"""Where the photos of a list were taken: EXIF, their names, a CSV file, a track by time, or camera poses."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from dejavlad.datasets.poses import GROUND, centres_of, ground, is_poses, off_ground, read_poses, split_axes
from dejavlad.datasets.positions_csv import Fix, read_positions
from dejavlad.datasets.tracks import read_track, split_track
from dejavlad.datasets.utm_names import from_utm_name
from dejavlad.errors import InputError
from dejavlad.exif import read_exif
from dejavlad.geo import Position
from dejavlad.names import Names, names_below
from dejavlad.photo import Photo, PhotoList

WORDS = ("exif", "utm-names", "auto", "none")
"""Sources of positions that are no files."""
BESIDE = "positions.csv"
"""The file that `auto` looks for in the root of a list."""

log = logging.getLogger("dejavlad")


def with_positions(photos: PhotoList, source: str | Path | None) -> PhotoList:
    """The same photos with what `source` tells of where, when and which way they were taken.

    Args:
        photos: the list.
        source: ``exif``; ``utm-names``; ``none`` or None (as they are); the path of a CSV file, of a track
            (`tracks`) or of poses (`poses`); or ``auto``: as they are where all of them know theirs, else
            `BESIDE` in the list's root where there is one, else what the names tell, else EXIF.

    Raises:
        InputError: no such source, a file that cannot be used, or names of another form.
    """
    if source is None or source == "none":
        return photos
    if source == "auto":
        if len(photos) and all(photos.positions):
            return photos
        beside = photos.root / BESIDE
        if beside.is_file():
            return from_csv(photos, beside)
        if any(from_utm_name(photo) for photo in photos[:1]):
            return from_names(photos)
        return from_exif(photos)
    if source == "exif":
        return from_exif(photos)
    if source == "utm-names":
        return from_names(photos)
    if (track := split_track(source)) is not None:
        return from_track(photos, *track)
    path, axes = split_axes(source)
    if is_poses(path):
        return from_poses(photos, path, axes)
    if str(source).lower().endswith(".csv") or Path(source).is_file():
        return from_csv(photos, Path(source))
    raise InputError(
        f"positions {str(source)!r}: valid are {', '.join(WORDS)}, a CSV file, a track "
        "(.gpx, .kml), or poses (.txt of KITTI, TUM or COLMAP, images.bin)"
    )


def from_exif(photos: PhotoList) -> PhotoList:
    """With EXIF's GPS position, direction and time, where photos have them."""

    def told(photo: Photo) -> Photo:
        if photo.pixels is not None or photo.frame is not None:
            return photo
        exif = read_exif(photo.path)
        return replace(
            photo,
            position=exif.position or photo.position,
            heading=exif.heading if exif.heading is not None else photo.heading,
            time=exif.time if exif.time is not None else photo.time,
        )

    return _relist(photos, [told(photo) for photo in photos])


def from_names(photos: PhotoList) -> PhotoList:
    """With what ``@east@north@...`` names tell.

    Raises:
        InputError: no name has this form.
    """
    told = [from_utm_name(photo) for photo in photos]
    _check(photos, told, "has a name that tells its position, as @east@north@zone@letter@... does")
    return _relist(photos, [new or old for new, old in zip(told, photos, strict=True)])


def from_csv(photos: PhotoList, path: Path, fixes: Mapping[str, Fix] | None = None) -> PhotoList:
    """With what a CSV file tells (`positions_csv`); photos that it does not name are counted in a warning.

    Names are compared as `dejavlad.names` does, whole paths below the list's root too; where the file's are
    bare and no two photos share a basename, by that.

    Args:
        photos: the list.
        path: the file.
        fixes: what it tells, by the list's names, where it was read already.

    Raises:
        InputError: the file cannot be used, or names none of the photos.
    """
    fixes = read_positions(path) if fixes is None else dict(fixes)
    named = list(fixes.values())
    rows = names_below(fixes, photos.root).match([photo.name for photo in photos], what="photos")
    told = [
        None if row is None else apply_fix(photo, named[row]) for photo, row in zip(photos, rows, strict=True)
    ]
    if not any(told):
        told = _by_basename(photos, fixes)
    _check(photos, told, f"is named in {str(path)!r}, whose first name is {next(iter(fixes))!r}")
    unused = len(fixes) - sum(new is not None for new in told)
    if unused:
        log.info("%s tells of %d photos that are not in %s", path, unused, photos.name)
    return _relist(photos, [new or old for new, old in zip(told, photos, strict=True)])


def from_track(photos: PhotoList, path: Path, shift: float = 0.0) -> PhotoList:
    """With the positions of a GPS track at the photos' times (`Photo.time`, else EXIF's).

    Args:
        photos: the list.
        path: a ``.gpx`` or ``.kml`` file.
        shift: seconds to add to the photos' times; the moment of time 0 for videos.

    Raises:
        InputError: the file cannot be used, or no photo was taken while the track was recorded.
    """
    track = read_track(path)
    told: list[Photo | None] = []
    for photo in photos:
        time = photo.time
        if time is None and photo.pixels is None and photo.frame is None:
            time = read_exif(photo.path).time
        at = None if time is None else track.at(time + shift)
        told.append(None if at is None or time is None else replace(photo, position=at, time=time + shift))
    first, last = (datetime.fromtimestamp(float(time), UTC) for time in track.times[[0, -1]])
    _check(
        photos,
        told,
        f"has a time within the track {str(path)!r}, {first:%Y-%m-%d %H:%M:%S} to "
        f"{last:%Y-%m-%d %H:%M:%S} UTC (does the camera's clock run otherwise? "
        f"{path!s}:SECONDS adds so many to photos' times)",
    )
    return _relist(photos, [new or old for new, old in zip(told, photos, strict=True)])


def from_poses(photos: PhotoList, path: Path, axes: str | None = None) -> PhotoList:
    """With the camera centres that a file of poses tells, in a plane of its own.

    Args:
        photos: the list.
        path: poses of KITTI, TUM or COLMAP.
        axes: which are east and north, as ``xz``; those of the file's kind unless told.

    Raises:
        InputError: the file cannot be used, or tells of none of the photos.
    """
    poses = read_poses(path)
    axes = axes or GROUND[poses.kind]
    if off_ground(poses.centres, axes):
        log.warning(
            "%s extends far along the axis that is left out of %s: say which two are the ground, as %s:xz",
            path,
            axes,
            path.name,
        )
    told = [
        None if centre is None else replace(photo, position=Position(*ground(centre, axes)))
        for photo, centre in zip(photos, centres_of(photos, poses, path), strict=True)
    ]
    _check(photos, told, f"has a pose in {str(path)!r}")
    return _relist(photos, [new or old for new, old in zip(told, photos, strict=True)])


def _by_basename(photos: PhotoList, fixes: Mapping[str, Fix]) -> list[Photo | None]:
    bases = Counter(photo.name.rsplit("/", 1)[-1] for photo in photos)
    if max(bases.values(), default=0) > 1 or any("/" in name for name in fixes):
        return [None] * len(photos)
    named = list(fixes.values())
    rows = Names(fixes).match([photo.name.rsplit("/", 1)[-1] for photo in photos], what="photos")
    return [
        None if row is None else apply_fix(photo, named[row]) for photo, row in zip(photos, rows, strict=True)
    ]


def apply_fix(photo: Photo, fix: Fix) -> Photo:
    """The photo with what a line of a CSV file tells of it."""
    return replace(
        photo,
        position=fix.position or photo.position,
        heading=fix.heading if fix.heading is not None else photo.heading,
        time=fix.time if fix.time is not None else photo.time,
    )


def _check(photos: PhotoList, told: list[Photo | None], what: str) -> None:
    lacking = [photo.name for photo, new in zip(photos, told, strict=True) if new is None]
    if photos and len(lacking) == len(photos):
        raise InputError(f"none of the {len(photos)} photos of {photos.name} (e.g. {lacking[0]!r}) {what}")
    if lacking:
        log.warning(
            "%d of %d photos of %s have no position, e.g. %r",
            len(lacking),
            len(photos),
            photos.name,
            lacking[0],
        )


def _relist(photos: PhotoList, new: list[Photo]) -> PhotoList:
    return PhotoList(new, root=photos.root, name=photos.name)
