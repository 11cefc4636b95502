"""Any photo to RGB uint8 [H, W, 3], upright.

Grey becomes three equal channels; of 16 bits the upper 8 are kept; a palette and CMYK are converted (colour
profiles are not applied); what is transparent is laid over black; of an animation the first picture counts.
JPEG is decoded by libjpeg-turbo with its defaults, as MATLAB and the original ports do; with ``rotate=False``
pixels come as stored, as in MATLAB.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import TiffImageFile

from dejavlad.decoders import open_image, open_video
from dejavlad.errors import BlankPhotoError, PhotoError
from dejavlad.exif import orientation_of
from dejavlad.images.content import measure_content
from dejavlad.photo import Photo

Pixels = NDArray[np.uint8]

SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N", "I")
TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a photo of each EXIF orientation upright."""
BACK = TURNS | {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
"""What undoes it."""


def read_image(photo: Photo | Path | str, *, rotate: bool = True) -> Pixels:
    """Decode one photo.

    Args:
        photo: a photo (file, video frame, array; its crop is applied), or a path.
        rotate: apply the EXIF orientation (a video's frames always come upright).

    Returns:
        RGB uint8 [H, W, 3].

    Raises:
        PhotoError: there is no such file, it is no image, it is damaged, it is too large, or its crop does
            not lie inside of it.
    """
    photo = _as_photo(photo)
    if photo.pixels is not None:
        pixels = _checked(photo)
    elif photo.frame is not None:
        pixels = _video.read(photo.path, photo.frame)
    else:
        pixels = _decode(photo.path, rotate)
    if photo.crop is None:
        return pixels
    left, top, right, bottom = _checked_crop(photo, photo.crop, pixels.shape[0], pixels.shape[1])
    return np.ascontiguousarray(pixels[top:bottom, left:right])


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
    if not content.anything:
        raise BlankPhotoError(photo.path, content.reason)


def read_size(photo: Photo | Path | str, *, rotate: bool = True) -> tuple[int, int]:
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
            width, height = _stored_size(image)
            if rotate and _orientation(image) >= 5:
                width, height = height, width
    if photo.crop is None:
        return height, width
    left, top, right, bottom = _checked_crop(photo, photo.crop, height, width)
    return bottom - top, right - left


def _as_photo(photo: Photo | Path | str) -> Photo:
    return photo if isinstance(photo, Photo) else Photo(str(photo), Path(photo))


def _checked(photo: Photo) -> Pixels:
    pixels: object = photo.pixels
    if not isinstance(pixels, np.ndarray):
        raise PhotoError(photo.name, f"an array must be uint8 RGB [H, W, 3]; given {type(pixels).__name__}")
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        told = f"{pixels.dtype} {list(pixels.shape)}"
        raise PhotoError(photo.name, f"an array must be uint8 RGB [H, W, 3]; given {told}")
    return pixels


def _checked_crop(
    photo: Photo, crop: tuple[int, int, int, int], height: int, width: int
) -> tuple[int, int, int, int]:
    left, top, right, bottom = crop
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise PhotoError(photo.path, f"its crop {crop} is not inside of its {width}x{height} pixels")
    return crop


def _orientation(image: Image.Image) -> int:
    if image.format == "PNG" and "exif" not in image.info and "Raw profile type exif" not in image.info:
        return 1  # Pillow would decode all of it, to look behind the pixels
    try:
        return orientation_of(image.getexif())
    except Exception:  # garbage in the tags is no reason to lose the photo
        return 1


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of the pixels as stored."""
    if isinstance(image, TiffImageFile):  # of which newer versions of Pillow tell the upright size
        width, height = (
            int(image.tag_v2[tag]) for tag in (ExifTags.Base.ImageWidth, ExifTags.Base.ImageLength)
        )
        return width, height
    return image.size


def _decode(path: Path, rotate: bool) -> Pixels:
    with open_image(path) as image:
        orientation = _orientation(image)
        rgb = _to_rgb(image, path)
        if not isinstance(image, TiffImageFile):
            turn = TURNS.get(orientation) if rotate else None
        else:  # Pillow has turned it already
            turn = None if rotate else BACK.get(orientation)
        return np.array(rgb if turn is None else rgb.transpose(turn))


def _to_rgb(image: Image.Image, path: Path) -> Image.Image:
    image.load()
    if image.mode in SIXTEEN_BITS:
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise PhotoError(path, "its pixels have more than 16 bits")
        return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise PhotoError(path, "its pixels are floating-point numbers, whose range is not known")
    if image.mode in TRANSPARENT or "transparency" in image.info:
        clear = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, (0, 0, 0, 255)), clear).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


class _Video(threading.local):
    """The video that this thread read last, kept open.

    Frames are counted from the start, as containers seek to the wrong one at times: asked for in order they
    cost one pass over the video, asked for backwards one pass each.
    """

    asked: tuple[Path, int, int] | None = None
    capture: Any = None
    next: int = 0

    def size(self, path: Path) -> tuple[int, int]:
        """Height and width of its frames."""
        import cv2

        self._open(path)
        return (
            int(self.capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
            int(self.capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
        )

    def read(self, path: Path, frame: int) -> Pixels:
        """Frame number `frame`, from 0."""
        self._open(path)
        if frame < self.next:
            self.close()
            self._open(path)
        good, bgr = frame >= 0, None
        while good and self.next <= frame:
            good = self.capture.grab()
            self.next += 1
        if good:
            good, bgr = self.capture.retrieve()
        if not good or bgr is None:
            self.close()
            raise PhotoError(path, f"frame {frame} cannot be read")
        return np.ascontiguousarray(bgr[:, :, ::-1])

    def close(self) -> None:
        """Let go of the file."""
        if self.capture is not None:
            self.capture.release()
        self.asked, self.capture, self.next = None, None, 0

    def _open(self, path: Path) -> None:
        try:
            told = path.stat()
            asked = path, told.st_mtime_ns, told.st_size
        except OSError:
            asked = path, 0, 0  # open_video says what is wrong
        if self.asked != asked:
            self.close()
            self.capture = open_video(path)
            self.asked = asked


_video = _Video()
