"""Regular files, opened without waiting and read without taking more memory than they have bytes."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import IO, BinaryIO

from dejavlad.errors import MalformedFileError

SMALL = 64 << 20
"""Bytes that a file of settings, of one model or of one run may have."""
LARGE = 4 << 30
"""Bytes that a list of millions of photos may have."""


def open_regular(path: str | Path) -> BinaryIO:
    """A file opened for reading bytes; a folder, pipe, socket or device is refused without waiting for it.

    Raises:
        MalformedFileError: it is none of the regular files.
        OSError: it cannot be opened.
    """
    file = open(path, "rb", opener=_open_at_once)  # noqa: SIM115 (the caller closes it)
    try:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise MalformedFileError("it is not a regular file")
    except BaseException:
        file.close()
        raise
    return file


def check_regular(path: str | Path) -> int:
    """The size in bytes of a regular file that a library is going to open by its path.

    Raises:
        MalformedFileError: it is none of the regular files.
        OSError: there is none.
    """
    status = Path(path).stat()
    if stat.S_ISDIR(status.st_mode):
        raise MalformedFileError("it is a folder")
    if not stat.S_ISREG(status.st_mode):
        raise MalformedFileError("it is not a regular file")
    return status.st_size


def read_bytes(path: str | Path, most: int = LARGE) -> bytes:
    """A file's content.

    Raises:
        MalformedFileError: it is no regular file, or has more than `most` bytes.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise MalformedFileError(f"it has {size} bytes; at most {most} are read")
        try:
            return file.read()
        except MemoryError:
            raise MalformedFileError(f"its {size} bytes do not fit into memory") from None


def read_utf8(path: str | Path, most: int = LARGE) -> str:
    """A file's content as text, its line ends as they are.

    Raises:
        MalformedFileError: it is no regular file, too large, or not UTF-8.
    """
    return decode_utf8(read_bytes(path, most))


def decode_utf8(content: bytes) -> str:
    """Bytes as text; MalformedFileError where they are not UTF-8."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedFileError(f"it is not a text file in UTF-8: {error}") from None


def plain_name(name: object) -> str:
    """The name of a file that lies beside the one that names it: no folder, no drive, no way out.

    Raises:
        MalformedFileError: it names something else.
    """
    text = name if isinstance(name, str) else ""
    if not text or text in (".", "..") or any(mark in text for mark in "/\\:\0"):
        raise MalformedFileError(f"it names the file {name!r}, which does not lie beside it")
    return text


class BoundedReader:
    """A binary stream of which no more is ever asked for than is there.

    A buffered file takes the memory that it is asked for before it looks how much there is, so that a pickle
    of ten bytes that claims 2^62 ends in a MemoryError.
    """

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream, self._left = stream, size - stream.tell()

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; all that is left where it is negative."""
        return self._took(self._stream.read(self._left if size < 0 else min(size, self._left)))

    def readline(self, size: int = -1) -> bytes:
        """The next line with its end, or what is left of it; at most `size` bytes unless that is negative."""
        return self._took(self._stream.readline(self._left if size < 0 else min(size, self._left)))

    def tell(self) -> int:
        """The offset of the next byte to be read."""
        return self._stream.tell()

    def _took(self, part: bytes) -> bytes:
        self._left -= len(part)
        return part


def _open_at_once(path: str, flags: int) -> int:
    """A pipe without a writer opens at once so (where the system has the flag), and is refused after."""
    handle = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    with suppress(OSError, AttributeError):  # not on Windows, and without meaning for regular files
        os.set_blocking(handle, True)
    return handle
