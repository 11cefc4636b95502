"""A folder with one writer: its lock, trouble with the disk in one line, and how it is thrown away."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import StoreBusyError, StoreError
from dejavlad.files import replacing

LOCK = "writer.lock"


@contextlib.contextmanager
def one_writer(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a folder, which must exist; a killed process leaves none behind.

    Args:
        wait: until another process that writes there has ended.

    Raises:
        StoreBusyError: another process writes there.
        StoreError: the lock cannot be written.
    """
    lock = filelock.FileLock(folder / LOCK)
    with disk_errors(folder):
        try:
            lock.acquire(timeout=-1 if wait else 0)
        except filelock.Timeout:
            raise StoreBusyError(folder) from None
    try:
        yield
    finally:
        lock.release()


CANNOT_WRITE = (
    "cannot write to {path}: {reason}; what was finished is kept, run the same again when it can be written"
)


@contextlib.contextmanager
def disk_errors(path: Path, text: str = CANNOT_WRITE) -> Iterator[None]:
    """Trouble with the disk as a StoreError that says what to do.

    Args:
        text: the message, with ``{path}`` and ``{error}`` (or its ``{reason}`` alone) in it.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise StoreError(text.format(path=repr(str(path)), error=error, reason=reason)) from error


def sync_folder(path: Path) -> None:
    """Make renames permanent, where the system can (not on Windows)."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_npy(path: Path, array: NDArray[Any]) -> None:
    """Write an array whole or not at all, as `dejavlad.files.replacing` does."""
    with replacing(path) as file:
        np.save(file, array)


def discard(folder: Path) -> None:
    """Remove a folder that is ours; cut off half-way, the next call removes the rest.

    Raises:
        StoreError: it cannot be removed.
    """
    with disk_errors(folder), contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
