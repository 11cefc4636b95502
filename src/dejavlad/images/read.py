"""Any photo (file, frame of a video, array; a view or a crop of one) to RGB uint8 [H, W, 3], upright."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dejavlad.decoders import open_image
from dejavlad.errors import BlankPhotoError, PhotoError
from dejavlad.images.content import measure_content
from dejavlad.images.decode import Pixels, Size, decode, deep_values, exif_orientation, shown_size
from dejavlad.images.levels import Levels, stretched_range
from dejavlad.images.panorama import Panoramas, shows, view_of, view_size
from dejavlad.images.video_frames import VideoReader
from dejavlad.photo import Photo


def read_image(photo: Photo | Path | str, *, rotate: bool = True, levels: Levels = "photo") -> Pixels:
    """Decode one photo.

    Args:
        photo: a photo (file, video frame, array; its view and crop are applied), or a path.
        rotate: apply the EXIF orientation (a video's frames always come upright).
        levels: how more than 8 bits become 8.

    Returns:
        RGB uint8 [H, W, 3].

    Raises:
        PhotoError: there is no such file, it is no image, it is damaged, it is too large, or its crop does
            not lie inside of it.
    """
    return read_reduced(photo, None, rotate=rotate, levels=levels)[0]


def read_reduced(
    photo: Photo | Path | str,
    wanted: Callable[[int, int], Size] | None,
    *,
    rotate: bool = True,
    levels: Levels = "photo",
) -> tuple[Pixels, Size]:
    """Decode one photo, of a JPEG no more than is wanted.

    JPEG is stored as 8 x 8 cosines, of which a half, a quarter or an eighth can be decoded alone: the mean of
    2 x 2, 4 x 4 or 8 x 8 pixels, nearly, in a fraction of the time.

    Args:
        photo: as `read_image` takes it; views and crops are decoded whole.
        wanted: (H, W) of the whole photo -> (h, w) that suffice on each side; None for all of it.
        rotate: as of `read_image`.
        levels: as of `read_image`.

    Returns:
        RGB uint8 [h', w', 3], and (H, W) of the whole photo.

    Raises:
        PhotoError: as `read_image`.
    """
    photo = _as_photo(photo)
    is_whole = photo.view is None and photo.crop is None
    pixels, size = _source(photo, rotate, levels, wanted if is_whole else None)
    if is_whole:
        return pixels, size
    if photo.view is not None:
        pixels = view_of(pixels, photo.view)
    if photo.crop is not None:
        left, top, right, bottom = _checked_crop(photo, photo.crop, pixels.shape[0], pixels.shape[1])
        pixels = np.ascontiguousarray(pixels[top:bottom, left:right])
    return pixels, (pixels.shape[0], pixels.shape[1])


def read_content(photo: Photo | Path | str, *, rotate: bool = True) -> Pixels:
    """As `read_image`, but of a photo that shows something.

    Raises:
        BlankPhotoError: it shows nothing (see `dejavlad.images.content`).
        PhotoError: as `read_image`.
    """
    photo = _as_photo(photo)
    pixels = read_image(photo, rotate=rotate)
    check_content(photo, pixels)
    return pixels


def blank_reason(photo: Photo | Path | str, *, rotate: bool = True) -> str:
    """Why a photo shows nothing; empty where it shows something.

    Raises:
        PhotoError: as `read_image`.
    """
    try:
        read_content(photo, rotate=rotate)
    except BlankPhotoError as error:
        return error.reason
    return ""


def check_content(photo: Photo, pixels: Pixels) -> None:
    """Refuse a photo of which the pixels show nothing.

    Raises:
        BlankPhotoError: so it is.
    """
    content = measure_content(pixels)
    if not content.shows_anything:
        raise BlankPhotoError(photo.path, content.reason)


def read_size(photo: Photo | Path | str, *, rotate: bool = True) -> Size:
    """Height and width that `read_image` will give, from the file's header alone.

    Raises:
        PhotoError: as `read_image`, as far as the header tells.
    """
    photo = _as_photo(photo)
    if photo.pixels is not None:
        height, width = _checked(photo).shape[:2]
    elif photo.frame is not None:
        height, width = _video.size(photo.path)
    else:
        with open_image(photo.path) as image:
            height, width = shown_size(image, exif_orientation(image) if rotate else 1)
    if photo.view is not None:
        height, width = view_size(_checked_panorama(photo, height, width), photo.view)
    if photo.crop is None:
        return height, width
    left, top, right, bottom = _checked_crop(photo, photo.crop, height, width)
    return bottom - top, right - left


def read_depth(photo: Photo | Path | str) -> tuple[NDArray[Any], int | None] | None:
    """The numbers of a photo of more than 8 bits, as `to_eight_bits` takes them.

    Returns:
        The numbers as stored and the largest that there could be, where that is known; None for
        all other photos, of which the header alone is read, and for frames and arrays.

    Raises:
        PhotoError: as `read_image`.
    """
    photo = _as_photo(photo)
    if photo.pixels is not None or photo.frame is not None:
        return None
    with open_image(photo.path) as image:
        return deep_values(image, photo.path)


def read_stretch(photo: Photo | Path | str) -> tuple[float, float] | None:
    """The range from which a photo of more than 8 bits is stretched; None where none is.

    Raises:
        PhotoError: as `read_image`.
    """
    deep = read_depth(photo)
    if deep is None:
        return None
    values, top = deep
    return stretched_range(values[:, :, :3] if values.ndim == 3 else values, top)


_panoramas, _video = Panoramas(), VideoReader()


def _source(
    photo: Photo, rotate: bool, levels: Levels, wanted: Callable[[int, int], Size] | None
) -> tuple[Pixels, Size]:
    """The pixels that a photo is, or is a part of, and the size of all of them."""
    if photo.pixels is not None:
        pixels = _checked(photo)
    elif photo.frame is not None:
        pixels = _video.read(photo.path, photo.frame)
    elif photo.view is not None:
        status = photo.path.stat() if photo.path.is_file() else None  # else decoding says what is wrong
        key = (photo.path, status and (status.st_mtime_ns, status.st_size), rotate, levels)
        pixels = _panoramas.get(key, lambda: decode(photo.path, rotate, levels)[0])
    else:
        return decode(photo.path, rotate, levels, wanted)
    if photo.view is not None:
        _checked_panorama(photo, *pixels.shape[:2])
    return pixels, (pixels.shape[0], pixels.shape[1])


def _checked_panorama(photo: Photo, height: int, width: int) -> int:
    """The width of a panorama; one that is wider than two to one shows the middle of such."""
    assert photo.view is not None
    if width - 2 * height < -2:
        size = f"{width}x{height} pixels are not two to one"
        raise PhotoError(photo.path, f"it is no equirectangular panorama to cut a view of: its {size}")
    if width - 2 * height > 2 and not shows(width, height, photo.view):
        raise PhotoError(
            photo.path,
            f"a view of {photo.view.fov:g} degrees is higher than this panorama of {width}x{height} pixels",
        )
    return width


def _as_photo(photo: Photo | Path | str) -> Photo:
    return photo if isinstance(photo, Photo) else Photo(str(photo), Path(photo))


def _checked(photo: Photo) -> Pixels:
    pixels: object = photo.pixels
    if not isinstance(pixels, np.ndarray):
        raise PhotoError(photo.name, f"an array must be uint8 RGB [H, W, 3]; given {type(pixels).__name__}")
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        array = f"{pixels.dtype} {list(pixels.shape)}"
        raise PhotoError(photo.name, f"an array must be uint8 RGB [H, W, 3]; given {array}")
    return pixels


def _checked_crop(
    photo: Photo, crop: tuple[int, int, int, int], height: int, width: int
) -> tuple[int, int, int, int]:
    left, top, right, bottom = crop
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise PhotoError(photo.path, f"its crop {crop} is not inside of its {width}x{height} pixels")
    return crop
