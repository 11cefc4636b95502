"""Any photo to RGB uint8 [H, W, 3], upright.

Grey becomes three equal channels; what has more than 8 bits is brought to 8 (see `levels`); a palette and
CMYK are converted (colour profiles are not applied); what is transparent is laid over black; of an animation
the first picture counts. JPEG is decoded by libjpeg-turbo with its defaults, as MATLAB and the original ports
do; with ``rotate=False`` pixels come as stored, as in MATLAB (HEIC's always upright).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from dejavlad.decoders import colours_of_16_bits, depth_of, open_image, open_video
from dejavlad.errors import BlankPhotoError, PhotoError
from dejavlad.images.content import measure_content
from dejavlad.images.levels import Levels, stretched_range, to_eight_bits
from dejavlad.images.panorama import Panoramas, shows, view_of, view_size
from dejavlad.memory import free_memory
from dejavlad.photo import Photo
from dejavlad.positions.exif import orientation_of

Pixels = NDArray[np.uint8]
Size = tuple[int, int]

LARGE, BYTES = 50_000_000, 12
"""Photos of more pixels are decoded only where that much memory a pixel is free, one after the other."""
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
"""What turns an upright photo back to how its pixels are stored, by EXIF orientation."""


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
    if not content.anything:
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
            height, width = _shown_size(image, _orientation(image) if rotate else 1)
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
        return _deep(image, photo.path)


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


_panoramas = Panoramas()


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
        pixels = _panoramas.get(key, lambda: _decode(photo.path, rotate, levels)[0])
    else:
        return _decode(photo.path, rotate, levels, wanted)
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


def _shown_size(image: Image.Image, orientation: int) -> Size:
    """Height and width once it is turned."""
    width, height = _stored_size(image)
    return (width, height) if orientation >= 5 else (height, width)


def _decode(
    path: Path, rotate: bool, levels: Levels, wanted: Callable[[int, int], Size] | None = None
) -> tuple[Pixels, Size]:
    with open_image(path) as image:
        orientation = _orientation(image)
        size = _shown_size(image, orientation if rotate else 1)
        if wanted is not None and isinstance(image, JpegImageFile):
            height, width = wanted(*size)
            is_turned = rotate and orientation >= 5
            image.draft(None, (height, width) if is_turned else (width, height))
        if image.width * image.height <= LARGE:
            return _turned(image, path, orientation, rotate, levels), size
        with _one_large_photo:
            needed, free = BYTES * image.width * image.height, free_memory()
            if free is not None and needed > free:
                needs = f"its {image.width}x{image.height} pixels need {needed / 1e9:.1f} GB of memory"
                raise PhotoError(path, f"{needs} and {free / 1e9:.1f} GB are free; make a smaller copy of it")
            return _turned(image, path, orientation, rotate, levels), size


_one_large_photo = threading.Lock()


def _turned(image: Image.Image, path: Path, orientation: int, rotate: bool, levels: Levels) -> Pixels:
    rgb = _to_rgb(image, path, levels)
    if not isinstance(image, TiffImageFile):
        turn = TURNS.get(orientation) if rotate else None
    else:  # Pillow has turned it already
        turn = None if rotate else BACK.get(orientation)
    return np.array(rgb if turn is None else rgb.transpose(turn))


def _to_rgb(image: Image.Image, path: Path, levels: Levels) -> Image.Image:
    deep = _deep(image, path)  # before its pixels are loaded: how they are stored is forgotten then
    image.load()
    if deep is not None:
        values, top = deep
        if values.ndim == 3 and values.shape[2] == 4:
            seen, alpha = to_eight_bits(values[:, :, :3], levels, top), values[:, :, 3:]
            image = Image.fromarray(np.concatenate([seen, to_eight_bits(alpha, "upper", top)], axis=2))
        else:
            image = Image.fromarray(to_eight_bits(values, levels, top))
    if image.mode in TRANSPARENT or "transparency" in image.info:
        clear = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, (0, 0, 0, 255)), clear).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _deep(image: Image.Image, path: Path) -> tuple[NDArray[Any], int | None] | None:
    """The numbers of what has more than 8 bits, and the largest that could be; None for the rest."""
    bits = depth_of(image)
    if bits is None:
        return None
    image.load()
    if image.mode in ("I", "F"):
        values = np.asarray(image)
        if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
            return values, None
        return values.astype(np.uint16), 65535
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16), 65535
    return colours_of_16_bits(path), 2**bits - 1


class _Video(threading.local):
    """The video that this thread read last, kept open, with its last frame.

    Frames are counted from the start, as containers seek to the wrong one at times: asked for in order they
    cost one pass over the video, asked for backwards one pass each. Where a video ends is remembered, so that
    the frames which one cut short only claims cost nothing.
    """

    opened: tuple[Path, int, int] | None = None
    capture: Any = None
    next: int = 0
    last: tuple[int, Pixels] | None = None
    end: int | None = None

    def size(self, path: Path) -> Size:
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
        if self.last is not None and self.last[0] == frame:
            return self.last[1].copy()
        if 0 <= frame < self.next and not self._is_beyond(frame):
            self._start()
        while frame >= self.next and not self._is_beyond(frame):
            if self.capture.grab():
                self.next += 1
            else:
                self.end = self.next
        if self._is_beyond(frame):
            raise PhotoError(path, f"frame {frame} cannot be read: the video ends after {self.end} frames")
        good, bgr = self.capture.retrieve() if frame >= 0 else (False, None)
        if not good or bgr is None:
            raise PhotoError(path, f"frame {frame} cannot be read")
        self.last = frame, np.ascontiguousarray(bgr[:, :, ::-1])
        return self.last[1].copy()

    def close(self) -> None:
        """Let go of the file."""
        if self.capture is not None:
            self.capture.release()
        self.opened, self.capture, self.next, self.last, self.end = None, None, 0, None, None

    def _is_beyond(self, frame: int) -> bool:
        return self.end is not None and frame >= self.end

    def _start(self) -> None:
        """Read it from its start again."""
        assert self.opened is not None
        self.capture.release()
        self.capture, self.next, self.last = open_video(self.opened[0]), 0, None

    def _open(self, path: Path) -> None:
        try:
            status = path.stat()
            wanted = path, status.st_mtime_ns, status.st_size
        except OSError:
            wanted = path, 0, 0  # open_video says what is wrong
        if self.opened != wanted:
            self.close()
            self.capture = open_video(path)
            self.opened = wanted


_video = _Video()
