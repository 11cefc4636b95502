"""A photo: one row of any list, from a folder to Tokyo's cut-outs, Oxford's regions and video frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError
from dejavlad.geo import Position


@dataclass(frozen=True, slots=True, order=True)
class View:
    """A perspective view of an equirectangular panorama, level, four to three.

    Raises:
        InputError: it cannot be.
    """

    yaw: float
    """Degrees clockwise from the panorama's middle, 0 <= yaw < 360."""
    fov: float
    """How far it reaches from left to right, in degrees, 1 <= fov <= 150."""

    def __post_init__(self) -> None:
        if not (0 <= self.yaw < 360 and 1 <= self.fov <= 150):
            raise InputError(
                f"a view looks 0 to 360 degrees to the right and is 1 to 150 degrees wide; "
                f"given {self.yaw:g} and {self.fov:g}"
            )


@dataclass(frozen=True, slots=True)
class Photo:
    """One photo, or a part of one, and what is known of where it was taken.

    A photo is known by its `key`, never by its basename.
    """

    name: str
    """Path relative to the root of its list, with forward slashes: unique in the list with frame, view and
    crop."""
    path: Path
    """Where the pixels lie; for an array, its name."""
    crop: tuple[int, int, int, int] | None = None
    """Region (left, top, right, bottom) in pixels of the upright photo, or of its view, right and bottom
    excluded."""
    frame: int | None = None
    """Frame number, from 0, where `path` is a video."""
    position: Position | None = None
    """Where it was taken; None where that is not known."""
    heading: float | None = None
    """Compass direction of the view in degrees, clockwise from north, 0 <= heading < 360."""
    time: float | None = None
    """When it was taken, in seconds (Unix time where the date is known)."""
    group: str | None = None
    """Photos of one panorama, place or drive share it."""
    tags: tuple[str, ...] = ()
    """What else is known of it, as ``night`` or ``sideways``."""
    pixels: NDArray[np.uint8] | None = field(default=None, compare=False, repr=False)
    """RGB [H, W, 3], where the photo is an array in memory rather than a file."""
    view: View | None = None
    """Where the file is a panorama, which view of it this is."""

    @property
    def key(self) -> str:
        """The photo's identity in stores: its name, and frame, view and crop where it has them."""
        key = self.name
        if self.frame is not None:
            key += f"#frame={self.frame}"
        if self.view is not None:
            key += f"#view={self.view.yaw:g},{self.view.fov:g}"
        if self.crop is not None:
            key += "#crop=" + ",".join(map(str, self.crop))
        return key

    @property
    def part(self) -> tuple[int | None, View | None, tuple[int, int, int, int] | None]:
        """Which part of its file it is: frame, view and crop; all None for a file of its own."""
        return self.frame, self.view, self.crop

    @property
    def is_file(self) -> bool:
        """Whether it is a file of its own: no array, and no part of a file."""
        return self.pixels is None and self.part == (None, None, None)


def as_photo(image: Photo | Path | str | NDArray[np.uint8], row: int = 0) -> Photo:
    """What a caller has at hand as a photo; an array is called by its row.

    Raises:
        InputError: it is something else.
    """
    if isinstance(image, Photo):
        return image
    if isinstance(image, (str, Path)):
        return Photo(Path(image).as_posix(), Path(image))
    if isinstance(image, np.ndarray):
        return Photo(str(row), Path(str(row)), pixels=image)
    raise InputError(f"a photo is a path, a Photo or a uint8 array; given a {type(image).__name__}")


@dataclass(frozen=True, slots=True)
class PassedOver:
    """What lay among the photos of a folder and is not in the list."""

    files: dict[str, int] = field(default_factory=dict)
    """Ending in lower case -> how many files, commonest first."""
    folders: dict[str, int] = field(default_factory=dict)
    """A folder's name and what it is for -> how many of them."""
    nowhere: tuple[str, ...] = ()
    """Links to photos or folders that are not there."""
    unreadable: tuple[str, ...] = ()
    """Folders that cannot be read."""
    hidden: int = 0
    """Photos whose names begin with a dot."""


class PhotoList(Sequence[Photo]):
    """Photos in a fixed order, under one root.

    Args:
        photos: the photos, their keys unique.
        root: the folder that names are relative to.
        name: what the list is called in messages and results.
        passed_over: what lay among them and is not in the list, where they are those of a folder.
        notes: what is worth telling of how the list came about, each a line: what was left out, or assumed.

    Raises:
        InputError: two photos share a key.
    """

    def __init__(
        self,
        photos: Iterable[Photo],
        *,
        root: Path | str = ".",
        name: str = "photos",
        passed_over: PassedOver | None = None,
        notes: Iterable[str] = (),
    ) -> None:
        self._photos = tuple(photos)
        self.root = Path(root)
        self.name = name
        self.passed_over = passed_over
        self.notes = tuple(notes)
        seen: set[str] = set()
        for photo in self._photos:
            if photo.key in seen:
                raise InputError(f"{name}: {photo.key!r} is listed twice")
            seen.add(photo.key)

    @classmethod
    def from_arrays(
        cls, images: Sequence[NDArray[np.uint8]], names: Sequence[str] | None = None, *, name: str = "arrays"
    ) -> PhotoList:
        """A list of images in memory, each uint8 RGB [H, W, 3]; named 0, 1, 2 ... unless told otherwise."""
        names = [str(i) for i in range(len(images))] if names is None else list(names)
        if len(names) != len(images):
            raise InputError(f"{len(images)} images but {len(names)} names")
        return cls((Photo(n, Path(n), pixels=im) for n, im in zip(names, images, strict=True)), name=name)

    @classmethod
    def of(cls, images: PhotoList | Sequence[Photo | Path | str | NDArray[np.uint8]]) -> PhotoList:
        """A list of what a caller has at hand: photos, files (named as given) or uint8 RGB [H, W, 3] arrays.

        Raises:
            InputError: `images` is one path or array rather than a list, or holds something else.
        """
        if isinstance(images, PhotoList):
            return images
        if isinstance(images, (str, Path, np.ndarray)):
            raise InputError("give a list of photos, e.g. [photo]; given a single one")
        return cls(as_photo(image, row) for row, image in enumerate(images))

    def __len__(self) -> int:
        return len(self._photos)

    @overload
    def __getitem__(self, index: int) -> Photo: ...
    @overload
    def __getitem__(self, index: slice) -> PhotoList: ...
    def __getitem__(self, index: int | slice) -> Photo | PhotoList:
        if isinstance(index, slice):
            return PhotoList(self._photos[index], root=self.root, name=self.name, notes=self.notes)
        return self._photos[index]

    def __iter__(self) -> Iterator[Photo]:
        return iter(self._photos)

    def __repr__(self) -> str:
        return f"PhotoList({self.name!r}, {len(self)} photos, root={str(self.root)!r})"

    def take(self, rows: Iterable[int]) -> PhotoList:
        """The photos of the given rows, in that order."""
        return PhotoList(
            (self._photos[int(i)] for i in rows), root=self.root, name=self.name, notes=self.notes
        )

    def like(
        self, photos: Iterable[Photo], *, name: str | None = None, notes: Iterable[str] | None = None
    ) -> PhotoList:
        """Other photos with this list's root, and with its name and notes unless these are given."""
        return PhotoList(
            photos,
            root=self.root,
            name=self.name if name is None else name,
            passed_over=self.passed_over,
            notes=self.notes if notes is None else notes,
        )

    @property
    def keys(self) -> list[str]:
        """The photos' keys, in order."""
        return [photo.key for photo in self._photos]

    @property
    def positions(self) -> list[Position | None]:
        """The photos' positions, in order."""
        return [photo.position for photo in self._photos]
