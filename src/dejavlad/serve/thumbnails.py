"""Small pictures of a map's photos: JPEG, upright, without any metadata, the last ones kept in memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

from dejavlad.photo import Photo
from dejavlad.report.thumbnails import small_jpeg
from dejavlad.serve.page_files import ServedFile, served_file

SIZES: Final = (96, 160, 320, 480, 640, 960, 1280, 1600, 2048)
"""Pixels of the longer side; another number takes the next larger one."""
QUALITY: Final = 82


def size_of(wanted: int) -> int:
    """The size that is made for a wish."""
    return next((size for size in SIZES if size >= wanted), SIZES[-1])


def thumbnail(photo: Photo, size: int) -> bytes:
    """A JPEG of at most `size` pixels on the longer side.

    Raises:
        PhotoError: the photo cannot be read.
    """
    return small_jpeg(photo, size, quality=QUALITY)[0]


class ThumbnailCache:
    """The pictures that were asked for last.

    Args:
        most: bytes of all of them.
    """

    def __init__(self, most: int) -> None:
        self.most, self.bytes = most, 0
        self._pictures: OrderedDict[Hashable, ServedFile] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> ServedFile | None:
        """A picture, where it is kept."""
        with self._lock:
            if key in self._pictures:
                self._pictures.move_to_end(key)
            return self._pictures.get(key)

    def put(self, key: Hashable, picture: bytes) -> ServedFile:
        """Keep a picture, and drop those that were not wanted for longest."""
        entry = served_file(picture, "image/jpeg", cache_control="private, max-age=60")
        with self._lock:
            if key not in self._pictures:
                self._pictures[key] = entry
                self.bytes += len(picture)
            while self.bytes > self.most:
                self.bytes -= len(self._pictures.popitem(last=False)[1].content)
        return entry
