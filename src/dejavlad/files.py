"""Files written whole or not at all, and told apart by their bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write into, which takes the place of what is there only once it is whole and on the disk.

    Raises:
        OSError: it cannot be written (it says which file); what was there is left, and nothing of the
            attempt.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with naming(path):
            with open(partial, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """An error of the system that says no file, as that of a full disk, says this one.

    Raises:
        OSError: the same error, with its file.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise OSError(f"{str(path)!r} cannot be written: {error}") from error
        if error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def write_whole(path: str | Path, content: str | bytes) -> Path:
    """Write bytes, or a text (UTF-8, its line ends as they are), as `replacing` does."""
    path = Path(path)
    with replacing(path) as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)
    return path


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size_and_time(status: os.stat_result) -> tuple[int, int]:
    """Size of a file and its modification time in nanoseconds since 1970, within 64 bits (the year 2262)."""
    return status.st_size, max(-(1 << 63), min(status.st_mtime_ns, (1 << 63) - 1))
