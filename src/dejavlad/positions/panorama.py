"""Panoramas cut into perspective views, at even headings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from dejavlad.decoders import open_image, open_video
from dejavlad.errors import InputError, PhotoError
from dejavlad.photo import Photo, PhotoList
from dejavlad.photo.photo import View
from dejavlad.positions.exif import orientation_of, panorama_heading

WIDEST, NARROWEST = 90.0, 60.0
"""Degrees that a view shows from left to right unless told."""
MOST_VIEWS = 360
LOOKED_AT = 16
"""Photos of a list that are looked at, to find out whether they are panoramas."""


@dataclass(frozen=True, slots=True)
class Views:
    """How panoramas are cut.

    Raises:
        InputError: it cannot be.
    """

    count: int
    """Views of each panorama, evenly turned; the first looks at its middle."""
    fov: float | None = None
    """How far a view reaches from left to right, in degrees; None for 720 / `count`, between 60 and 90, so
    that neighbours share half of what they show where there are 8 or more (12 of 60, as Pittsburgh's)."""

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MOST_VIEWS:
            raise InputError(f"a panorama is cut into 1 to {MOST_VIEWS} views; given {self.count}")
        View(0.0, self.degrees)

    @property
    def degrees(self) -> float:
        """How far a view reaches."""
        return min(WIDEST, max(NARROWEST, 720 / self.count)) if self.fov is None else self.fov

    @classmethod
    def parse(cls, text: str) -> Self:
        """``"12"``, or ``"12:75"`` for views of 75 degrees.

        Raises:
            InputError: it is something else.
        """
        match = re.fullmatch(r"(\d{1,4})(?::(\d{1,3}(?:\.\d{1,6})?))?", text.strip(), re.ASCII)
        if not match:
            raise InputError(
                f"--panorama {text!r}: give how many views are cut of each panorama, e.g. 12, or 12:75 for "
                f"views of 75 degrees"
            )
        return cls(int(match[1]), None if match[2] is None else float(match[2]))

    @classmethod
    def used_in(cls, photos: Iterable[Photo]) -> Self | None:
        """How the views among these photos were cut; None where there are none."""
        counts: dict[tuple[str, int | None], int] = Counter()
        fov = 0.0
        for photo in photos:
            if photo.view is not None:
                counts[photo.name, photo.frame] += 1
                fov = photo.view.fov
        return cls(max(counts.values()), fov) if counts else None

    def of(self, panorama: Photo) -> Iterator[Photo]:
        """The views of one panorama; they are a group, and share its position and time."""
        heading = panorama.heading
        if heading is None and panorama.pixels is None and panorama.frame is None:
            heading = panorama_heading(panorama.path)
        for turn in range(self.count):
            yaw = round(360 * turn / self.count, 6)
            yield replace(
                panorama,
                view=View(yaw, self.degrees),
                heading=None if heading is None else (heading + yaw) % 360,
                group=panorama.group or panorama.key,
            )


def cut_panoramas(photos: PhotoList, views: Views) -> tuple[PhotoList, int]:
    """The views of all panoramas of a list, in its order; photos that are none stay as they are.

    A photo (an array, the frames of a video) whose pixels are two to one is taken for a panorama.

    Returns:
        The list, and how many panoramas were cut.
    """
    sizes: dict[Path, tuple[int, int] | None] = {}
    made: list[Photo] = []
    count = 0
    for photo in photos:
        if photo.view is None and photo.crop is None and _is_two_to_one(_size(photo, sizes)):
            made += views.of(photo)
            count += 1
        else:
            made.append(photo)
    return photos.like(made), count


def tagged_panoramas(photos: PhotoList) -> list[str]:
    """Keys of photos which tell that they are whole equirectangular panoramas (GPano in their XMP).

    Of a long list a few are looked at, evenly spread.
    """
    rows = np.linspace(0, len(photos) - 1, min(LOOKED_AT, len(photos))).round().astype(int).tolist()
    return [photos[row].key for row in rows if photos[row].is_file and _tells_panorama(photos[row].path)]


def _tells_panorama(path: Path) -> bool:
    try:
        with open_image(path) as image:
            xmp = image.info.get("xmp", b"")
            packet = xmp if isinstance(xmp, bytes) else str(xmp).encode()
            return b"equirectangular" in packet and _is_two_to_one((image.height, image.width))
    except PhotoError:
        return False


def _is_two_to_one(size: tuple[int, int] | None) -> bool:
    return size is not None and abs(size[1] - 2 * size[0]) <= 2 and size[0] >= 2


def _size(photo: Photo, sizes: dict[Path, tuple[int, int] | None]) -> tuple[int, int] | None:
    """Upright height and width; None where it cannot be read (which is told when its pixels are)."""
    if photo.pixels is not None:
        return photo.pixels.shape[0], photo.pixels.shape[1]
    if photo.path not in sizes:
        try:
            sizes[photo.path] = (
                _video_size(photo.path) if photo.frame is not None else _photo_size(photo.path)
            )
        except PhotoError:
            sizes[photo.path] = None
    return sizes[photo.path]


def _photo_size(path: Path) -> tuple[int, int]:
    with open_image(path) as image:
        is_turned = image.format != "TIFF" and orientation_of(image.getexif()) >= 5
        return (image.width, image.height) if is_turned else (image.height, image.width)


def _video_size(path: Path) -> tuple[int, int]:
    import cv2

    video = open_video(path)
    try:
        return int(video.get(cv2.CAP_PROP_FRAME_HEIGHT)), int(video.get(cv2.CAP_PROP_FRAME_WIDTH))
    finally:
        video.release()
