"""What a user gives as photos (paths, arrays, photos) as a list of photos."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError
from dejavlad.photo import Photo

Image = Photo | Path | str | NDArray[np.uint8]


def as_photos(images: Image | Iterable[Image]) -> Sequence[Photo]:
    """The photos; one alone is a list of one.

    Raises:
        InputError: an array is no photo, or something else is given.
    """
    if isinstance(images, (Photo, str, os.PathLike)) or (isinstance(images, np.ndarray) and images.ndim < 4):
        images = [images]
    return [_photo(image, row) for row, image in enumerate(images)]


def _photo(image: Image, row: int) -> Photo:
    if isinstance(image, Photo):
        return image
    if isinstance(image, (str, os.PathLike)):
        return Photo(str(image), Path(image))
    if not (
        isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    ):
        given = (
            f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        )
        raise InputError(f"image {row} must be a path or a uint8 RGB array [H, W, 3]; given {given}")
    return Photo(f"array {row}", Path(f"array {row}"), pixels=image)
