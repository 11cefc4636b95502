"""Any photo to RGB uint8 [H, W, 3], upright.

Grey becomes three equal channels; 16 bits keep their upper 8; a palette and CMYK are converted; what is
transparent is laid over black. JPEG is decoded by libjpeg-turbo with its defaults, as MATLAB and the original
ports do; with ``rotate=False`` pixels come as stored, as in MATLAB.
"""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from dejavlad.errors import PhotoError
from dejavlad.exif import orientation_of
from dejavlad.photo import Photo

Pixels = NDArray[np.uint8]

MOST_PIXELS = 2**28
"""Larger photos (268 megapixels) are taken for decompression bombs."""
SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N", "I")


def read_image(photo: Photo | Path | str, *, rotate: bool = True) -> Pixels:
    """Decode one photo.

    Args:
        photo: a photo (file, video frame, array; its crop is applied), or a path.
        rotate: apply the EXIF orientation.

    Returns:
        RGB uint8 [H, W, 3].

    Raises:
        PhotoError: there is no such file, it is no image, it is damaged, or it is too large.
    """
    photo = _as_photo(photo)
    if photo.pixels is not None:
        pixels = _checked(photo)
    elif photo.frame is not None:
        pixels = _read_frame(photo.path, photo.frame)
    else:
        pixels = _decode(photo.path, rotate)
    if photo.crop is None:
        return pixels
    _check_crop(photo, pixels.shape[0], pixels.shape[1])
    left, top, right, bottom = photo.crop
    return np.ascontiguousarray(pixels[top:bottom, left:right])


def read_size(photo: Photo | Path | str, *, rotate: bool = True) -> tuple[int, int]:
    """Height and width that `read_image` will give, from the file's header alone.

    Raises:
        PhotoError: as `read_image`, as far as the header tells.
    """
    photo = _as_photo(photo)
    if photo.pixels is not None or photo.frame is not None:
        height, width = read_image(photo).shape[:2]
        return height, width
    with _opened(photo.path) as image:
        width, height = image.size
        if rotate and _orientation(image) >= 5:
            width, height = height, width
    if photo.crop is None:
        return height, width
    _check_crop(photo, height, width)
    left, top, right, bottom = photo.crop
    return bottom - top, right - left


def _as_photo(photo: Photo | Path | str) -> Photo:
    return photo if isinstance(photo, Photo) else Photo(str(photo), Path(photo))


def _checked(photo: Photo) -> Pixels:
    pixels = photo.pixels
    if (
        not isinstance(pixels, np.ndarray)
        or pixels.dtype != np.uint8
        or pixels.ndim != 3
        or pixels.shape[2] != 3
        or 0 in pixels.shape
    ):
        told = (
            f"{pixels.dtype} {list(pixels.shape)}"
            if isinstance(pixels, np.ndarray)
            else type(pixels).__name__
        )
        raise PhotoError(photo.name, f"an array must be uint8 RGB [H, W, 3]; given {told}")
    return pixels


def _check_crop(photo: Photo, height: int, width: int) -> None:
    assert photo.crop is not None
    left, top, right, bottom = photo.crop
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise PhotoError(photo.path, f"its crop {photo.crop} is not inside of its {width}x{height} pixels")


def _opened(path: Path) -> Image.Image:
    """The image with its header read, its size found sane."""
    try:
        image = Image.open(io.BytesIO(path.read_bytes()))
    except FileNotFoundError:
        raise PhotoError(path, "there is no such file") from None
    except IsADirectoryError:
        raise PhotoError(path, "it is a folder") from None
    except OSError as error:
        if isinstance(error, UnidentifiedImageError):
            empty = path.stat().st_size == 0
            raise PhotoError(path, "the file is empty" if empty else "it is not an image") from None
        raise PhotoError(path, error.strerror or str(error)) from None
    except Image.DecompressionBombError:
        raise PhotoError(path, "it claims to be far too large (a decompression bomb?)") from None
    except Exception as error:  # decoders raise anything on hostile files
        raise PhotoError(path, f"it is not an image ({type(error).__name__}: {error})") from None
    if image.width * image.height > MOST_PIXELS or min(image.size) < 1:
        raise PhotoError(path, f"{image.width}x{image.height} pixels are more than {MOST_PIXELS}")
    return image


def _orientation(image: Image.Image) -> int:
    try:
        return orientation_of(image.getexif())
    except Exception:  # garbage in the tags is no reason to lose the photo
        return 1


def _decode(path: Path, rotate: bool) -> Pixels:
    with _opened(path) as image:
        orientation = _orientation(image) if rotate else 1
        try:
            upright = _to_rgb(image)
        except Exception as error:  # decoders raise anything on damaged files
            reason = "it is cut short" if "truncated" in str(error) else f"it is damaged ({error})"
            raise PhotoError(path, reason) from None
        turn = _TURNS.get(orientation)
        return np.array(upright if turn is None else upright.transpose(turn))


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in SIXTEEN_BITS:
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("pixels of more than 16 bits")
        return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels have no range that is known")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        clear = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, (0, 0, 0, 255)), clear).convert("RGB")
    return image.convert("RGB")


class _Video(threading.local):
    """The video that this thread read last, kept open: frames are mostly asked for in order."""

    path: Path | None = None
    capture: Any = None
    next: int = -1


_video = _Video()


def _read_frame(path: Path, frame: int) -> Pixels:
    import cv2

    if not path.is_file():
        raise PhotoError(path, "there is no such file")
    if _video.path != path:
        _video.path, _video.capture, _video.next = path, cv2.VideoCapture(str(path)), 0
    if _video.next != frame:
        _video.capture.set(cv2.CAP_PROP_POS_FRAMES, frame)
    good, bgr = _video.capture.read()
    _video.next = frame + 1
    if not good:
        _video.path, _video.capture = None, None
        raise PhotoError(path, f"frame {frame} cannot be read")
    return np.ascontiguousarray(bgr[:, :, ::-1])
