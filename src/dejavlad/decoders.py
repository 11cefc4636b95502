"""Image and video files opened so that nothing but one error comes of a broken or hostile one.

Pillow warns on odd files, and libtiff and FFmpeg write to standard error by themselves; here they are quiet.
Only raster formats are opened (Pillow would start Ghostscript for an EPS file). HEIC needs the extra `heic`;
files of cameras' sensors (DNG, CR2 ...) are refused, as what can be read of them is a small preview.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from dejavlad.errors import MalformedFileError, MissingExtraError, PhotoError
from dejavlad.guarded.plain_file import check_regular, read_bytes
from dejavlad.settings import MAX_PIXELS, PREFIX, Settings

FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""What is opened, as Pillow calls it; AVIF where Pillow was built with it."""
ENDINGS = (
    *(".apng", ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".hif", ".j2c", ".j2k", ".jfif", ".jp2"),
    *(".jpc", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx", ".mpo", ".pbm", ".pfm", ".pgm", ".png", ".pnm"),
    *(".ppm", ".tif", ".tiff", ".webp"),
)
"""Endings that count as a photo, in any case: of all that is opened, HEIC included."""
RAW_ENDINGS = (
    *(".3fr", ".arw", ".cr2", ".cr3", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".mrw", ".nef"),
    *(".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
)
"""Endings of what cameras' sensors saw, not developed to a picture."""
NO_IMAGE = f"it is no image, or of another kind than {', '.join(FORMATS)}, HEIC"
RAW = "it is a camera's raw file, of which only a small preview could be read; export it as JPEG, PNG or TIFF"
ODD_TIFF = (
    "it is damaged, or a TIFF of a kind that is not read (floating-point numbers of 64 bits or in several "
    "channels?); save it with 8 or 16 bits"
)
DNG_VERSION = 50706
"""The TIFF tag that only DNG has."""
HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"mif2", b"msf1"}
AVIF_BRANDS = {b"avif", b"avis"}


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """An image file with its header read and its size found sane; it is closed at the end.

    Raises:
        PhotoError: there is no such file, it is no image, or too large; and for whatever else reading it
            raises within the `with` block.
    """
    limit = most_pixels()
    with _quiet(limit):
        try:
            _check_file(path)
            with open(path, "rb") as file, Image.open(file, formats=_formats_of(file, path)) as image:
                if image.width * image.height > limit:
                    raise PhotoError(path, _too_large(image.width, image.height, limit))
                if isinstance(image, TiffImageFile) and (_is_raw(path) or DNG_VERSION in image.tag_v2):
                    raise PhotoError(path, RAW)
                yield image
        except PhotoError:
            raise
        except Exception as error:  # decoders raise anything on hostile files
            reason = _reason(error)
            if isinstance(error, UnidentifiedImageError):
                reason = RAW if _is_raw(path) else ODD_TIFF if _is_tiff(path) else NO_IMAGE
            raise PhotoError(path, reason) from None


def most_pixels() -> int:
    """Images that claim more pixels are refused, as the settings say: `Settings.max_pixels`.

    Raises:
        InputError: the settings cannot be read.
    """
    return _most_pixels(*(os.environ.get(PREFIX + name) for name in ("MAX_PIXELS", "CONFIG")))


@functools.lru_cache(8)
def _most_pixels(_variable: str | None, _config: str | None) -> int:
    return Settings.load().max_pixels


def depth_of(image: Image.Image) -> int | None:
    """Bits of each number of an open image, where there are more than 8 that decoding would lose or keep raw.

    None for 8 bits, and where the decoder itself brings the format's own depth to 8.
    """
    if image.mode.startswith("I;16"):
        return 16
    if image.mode in ("I", "F"):
        return 32
    tiles = cast("ImageFile", image).tile
    arguments: Any = tiles[0].args if tiles else ()
    arguments = arguments if isinstance(arguments, tuple) else (arguments,)
    if arguments and isinstance(arguments[0], str) and ";16" in arguments[0]:
        return 16
    if image.format == "PPM" and len(arguments) == 2 and isinstance(arguments[1], int) and arguments[1] > 255:
        return 16 if arguments[1] == 65535 else None
    return _depth_of_jpeg_2000(image) if image.format == "JPEG2000" else None


def _depth_of_jpeg_2000(image: Image.Image) -> int | None:
    file = cast("IO[bytes]", cast("ImageFile", image).fp)
    start = file.tell()
    file.seek(0)
    head = file.read(65536)
    file.seek(start)
    begins = head.find(b"\xff\x4f\xff\x51")  # start of codestream, and the sizes of the image
    depth = (head[begins + 42] & 127) + 1 if 0 <= begins < len(head) - 42 else 8
    return depth if depth > 8 else None


def colours_of_16_bits(path: Path) -> NDArray[np.uint16]:
    """What Pillow would bring to 8 bits: uint16 [H, W, 3 or 4], red first, as stored (TIFF: upright).

    Raises:
        PhotoError: it cannot be decoded so.
    """
    import cv2

    try:
        content = read_bytes(path)
    except (OSError, MalformedFileError) as error:
        raise PhotoError(path, str(error)) from None
    with _quiet_opencv():
        decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype != np.uint16 or decoded.ndim != 3:
        raise PhotoError(path, "its colours of 16 bits cannot be decoded; save it with 8")
    return np.ascontiguousarray(decoded[:, :, [2, 1, 0, 3][: decoded.shape[2]]])


def open_video(path: Path) -> Any:
    """A video file as a ``cv2.VideoCapture``; release it.

    Raises:
        PhotoError: there is no such file, or it is no video.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read when OpenCV opens its first video
    try:
        _check_file(path)
    except OSError as error:
        raise PhotoError(path, _reason(error)) from None
    return _capture(str(path), path, "it cannot be read as a video")


def open_camera(number: int) -> Any:
    """A camera of this machine as a ``cv2.VideoCapture``; release it.

    Raises:
        PhotoError: there is no such camera, or it cannot be used.
    """
    return _capture(number, f"camera {number}", "there is no such camera, or another program is using it")


def _capture(source: str | int, named: Path | str, reason: str) -> Any:
    import cv2

    with _quiet_opencv():
        try:
            capture = cv2.VideoCapture(source)
        except cv2.error:
            capture = None
    if capture is None or not capture.isOpened():
        raise PhotoError(named, reason)
    return capture


@contextmanager
def _quiet_opencv() -> Iterator[None]:
    """OpenCV logs nothing; one thread at a time, as its level holds for all."""
    from cv2.utils import logging

    with _capture_lock:
        level = logging.setLogLevel(logging.LOG_LEVEL_SILENT)
        try:
            yield
        finally:
            logging.setLogLevel(level)


_capture_lock = threading.Lock()


def _check_file(path: Path) -> None:
    try:
        size = check_regular(path)  # opening a pipe would wait for a writer
    except MalformedFileError as error:
        raise PhotoError(path, str(error)) from None
    if size == 0:
        raise PhotoError(path, "the file is empty")


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()
    with suppress(AttributeError, OSError, ImportError):  # not exported on every system
        from PIL import _imaging

        library = ctypes.CDLL(_imaging.__file__)
        for setter in (library.TIFFSetErrorHandler, library.TIFFSetWarningHandler):
            setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
            setter(None)
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _formats_of(file: IO[bytes], path: Path) -> tuple[str, ...]:
    """What Pillow may take the file for; HEIC's decoder is loaded for the first file that needs it."""
    head = file.read(256)
    file.seek(0)
    if head[4:8] != b"ftyp":
        return _formats()
    brands = {head[i : i + 4] for i in (8, *range(16, min(int.from_bytes(head[:4], "big"), len(head)), 4))}
    if brands & AVIF_BRANDS:
        if "AVIF" not in _formats():
            raise PhotoError(path, "it is an AVIF photo, which Pillow 11.3 and later read: update Pillow")
    elif brands & HEIF_BRANDS:
        if not _has_heif():
            raise PhotoError(path, str(MissingExtraError("a HEIC photo", "heic")))
        return ("HEIF",)
    return _formats()


@functools.cache
def _has_heif() -> bool:
    """Whether HEIC photos can be read; Pillow can from then on."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def _is_raw(path: Path) -> bool:
    return path.suffix.lower() in RAW_ENDINGS


def _is_tiff(path: Path) -> bool:
    with suppress(OSError), open(path, "rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
    return False


def _too_large(width: int, height: int, limit: int) -> str:
    count = width * height
    return (
        f"it claims {width}x{height} pixels, more than the limit of {limit:,} (a decompression bomb?); if "
        f"it is really that large, set --max-pixels {count}, or {PREFIX}MAX_PIXELS, or max_pixels in "
        f"config.toml"
    )


def _reason(error: Exception) -> str:
    message = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, Image.DecompressionBombError):
        return f"it is far too large (a decompression bomb?): {message}"
    if isinstance(error, MemoryError):
        return "it does not fit into memory"
    if isinstance(error, OSError) and error.errno is not None:
        return error.strerror or message
    return "it is cut short" if "truncated" in message else f"it is damaged ({message})"


class _Quiet:
    """Pillow's warnings are ignored while any thread is inside of a `with _quiet()` block.

    `warnings.catch_warnings` would do for one thread only: others restore each other's filters. Pillow's own
    limit of pixels is off while any of them is inside with a higher one.
    """

    RULE = ("ignore", None, Warning, re.compile(r"PIL(\.|\Z)"), 0)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._filters: list[object] = []
        self._lifted: list[int | None] = []

    @contextmanager
    def __call__(self, limit: int = MAX_PIXELS) -> Iterator[None]:
        with self._lock:
            self._inside += 1
            self._add()
            if limit > MAX_PIXELS and not self._lifted:
                self._lifted.append(Image.MAX_IMAGE_PIXELS)
                Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    self._remove()
                    if self._lifted:
                        Image.MAX_IMAGE_PIXELS = self._lifted.pop()

    def _add(self) -> None:
        now = cast("list[object]", warnings.filters)
        if now is not self._filters or self.RULE not in now:
            self._remove()
            self._filters = now
            now.insert(0, self.RULE)

    def _remove(self) -> None:
        for filters in (self._filters, cast("list[object]", warnings.filters)):
            with suppress(ValueError):
                filters.remove(self.RULE)
        self._filters = []


_quiet = _Quiet()
