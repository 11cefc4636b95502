"""Image and video files opened so that nothing but one error comes of a broken or hostile one.

Pillow warns on odd files, and libtiff and FFmpeg write to standard error by themselves; here they are quiet.
Only raster formats are opened (Pillow would start Ghostscript for an EPS file).
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from PIL import Image, UnidentifiedImageError

from dejavlad.errors import PhotoError

MOST_PIXELS = 178_956_970
"""Images that claim to be larger are taken for decompression bombs; Pillow's own limit."""
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""What is opened, as Pillow calls it; AVIF where Pillow was built with it."""
NO_IMAGE = f"it is no image, or of another kind than {', '.join(FORMATS)}"


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """An image file with its header read and its size found sane; it is closed at the end.

    Raises:
        PhotoError: there is no such file, it is no image, or too large; and for whatever else reading it
            raises within the `with` block.
    """
    with _quiet():
        try:
            _check_file(path)
            with open(path, "rb") as file, Image.open(file, formats=_formats()) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise PhotoError(path, _too_large(image.width, image.height))
                yield image
        except PhotoError:
            raise
        except Exception as error:  # decoders raise anything on hostile files
            raise PhotoError(path, _reason(error)) from None


def open_video(path: Path) -> Any:
    """A video file as a ``cv2.VideoCapture``; release it.

    Raises:
        PhotoError: there is no such file, or it is no video.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read when OpenCV opens its first video
    import cv2

    try:
        _check_file(path)
    except OSError as error:
        raise PhotoError(path, _reason(error)) from None
    with _capture_lock:
        logging = cv2.utils.logging
        level = logging.setLogLevel(logging.LOG_LEVEL_SILENT)
        try:
            capture = cv2.VideoCapture(str(path))
        except cv2.error:
            capture = None
        finally:
            logging.setLogLevel(level)
    if capture is None or not capture.isOpened():
        raise PhotoError(path, "it cannot be read as a video")
    return capture


def open_camera(number: int) -> Any:
    """A camera of this machine as a ``cv2.VideoCapture``; release it.

    Raises:
        PhotoError: there is no such camera, or it cannot be used.
    """
    import cv2

    with _capture_lock:
        logging = cv2.utils.logging
        level = logging.setLogLevel(logging.LOG_LEVEL_SILENT)
        try:
            capture = cv2.VideoCapture(number)
        except cv2.error:
            capture = None
        finally:
            logging.setLogLevel(level)
    if capture is None or not capture.isOpened():
        raise PhotoError(f"camera {number}", "there is no such camera, or another program is using it")
    return capture


_capture_lock = threading.Lock()


def _check_file(path: Path) -> None:
    told = path.stat()  # opening a pipe would wait for a writer
    if stat.S_ISDIR(told.st_mode):
        raise PhotoError(path, "it is a folder")
    if not stat.S_ISREG(told.st_mode):
        raise PhotoError(path, "it is not a regular file")
    if told.st_size == 0:
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


def _too_large(width: int, height: int) -> str:
    return f"it claims {width}x{height} pixels, more than {MOST_PIXELS} (a decompression bomb?)"


def _reason(error: Exception) -> str:
    told = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, UnidentifiedImageError):
        return NO_IMAGE
    if isinstance(error, Image.DecompressionBombError):
        return f"it is far too large (a decompression bomb?): {told}"
    if isinstance(error, MemoryError):
        return "it does not fit into memory"
    if isinstance(error, OSError) and error.errno is not None:
        return error.strerror or told
    return "it is cut short" if "truncated" in told else f"it is damaged ({told})"


class _Quiet:
    """Pillow's warnings are ignored while any thread is inside of a `with _quiet()` block.

    `warnings.catch_warnings` would do for one thread only: others restore each other's filters.
    """

    RULE = ("ignore", None, Warning, re.compile(r"PIL(\.|\Z)"), 0)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._filters: list[object] = []

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            self._inside += 1
            self._add()
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    self._remove()

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
