"""What a user gives as photos (paths, arrays, photos), as a list of photos and prepared in batches."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dejavlad.errors import InputError
from dejavlad.images import Preprocess, load_batches, plan_batches, prepared_size
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


def prepared_batches(
    photos: Sequence[Photo], preprocess: Preprocess, batch_size: int, workers: int, *, keep_blank: bool
) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
    """Photos in batches, prepared: their rows [n], and [n, 3, H, W].

    Raises:
        PhotoError: a photo cannot be read, or shows nothing (unless `keep_blank`).
    """
    sizes = [prepared_size(photo, preprocess) for photo in photos]
    plan = plan_batches(sizes, batch_size)
    loaded = load_batches(photos, plan, preprocess, workers=workers, sizes=sizes, keep_blank=keep_blank)
    for batch in loaded:
        for error in batch.failed.values():
            raise error
        yield batch.rows, torch.as_tensor(batch.images)
