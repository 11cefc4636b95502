"""Where the photos of a list were taken: from EXIF, from their names, or from a CSV file."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from dejavlad.datasets.positions_csv import Fix, read_positions
from dejavlad.datasets.utm_names import from_utm_name
from dejavlad.errors import InputError
from dejavlad.exif import read_exif
from dejavlad.photo import Photo, PhotoList

BESIDE = "positions.csv"
"""The file that `auto` looks for in the root of a list."""

log = logging.getLogger("dejavlad")


def with_positions(photos: PhotoList, source: str | Path | None) -> PhotoList:
    """The same photos with what `source` tells of where, when and which way they were taken.

    Args:
        photos: the list.
        source: ``exif``; ``utm-names``; ``none`` or None (as they are); the path of a CSV file; or ``auto``:
            `BESIDE` in the list's root where there is one, else what the names tell, else EXIF.

    Raises:
        InputError: no such source, a CSV file that cannot be used, or names of another form.
    """
    if source is None or source == "none":
        return photos
    if source == "auto":
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
    if str(source).lower().endswith(".csv") or Path(source).is_file():
        return from_csv(photos, Path(source))
    raise InputError(f"positions {str(source)!r}: valid are exif, utm-names, auto, none, or a CSV file")


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

    Names are looked up as they stand; where the file's are bare and no two photos share a basename, by that.

    Args:
        photos: the list.
        path: the file.
        fixes: what it tells, by the list's names, where it was read already.

    Raises:
        InputError: the file cannot be used, or names none of the photos.
    """
    fixes = read_positions(path) if fixes is None else dict(fixes)
    turned = {name.replace("\\", "/"): fix for name, fix in fixes.items()} | fixes
    told = [apply_fix(photo, fix) if (fix := turned.get(photo.name)) else None for photo in photos]
    if not any(told):
        told = _by_basename(photos, fixes)
    _check(photos, told, f"is named in {str(path)!r}, whose first name is {next(iter(fixes))!r}")
    unused = len(fixes) - sum(new is not None for new in told)
    if unused:
        log.info("%s tells of %d photos that are not in %s", path, unused, photos.name)
    return _relist(photos, [new or old for new, old in zip(told, photos, strict=True)])


def _by_basename(photos: PhotoList, fixes: Mapping[str, Fix]) -> list[Photo | None]:
    bases = Counter(photo.name.rsplit("/", 1)[-1] for photo in photos)
    if max(bases.values(), default=0) > 1 or any("/" in name for name in fixes):
        return [None] * len(photos)
    found = [fixes.get(photo.name.rsplit("/", 1)[-1]) for photo in photos]
    return [apply_fix(photo, fix) if fix else None for photo, fix in zip(photos, found, strict=True)]


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
