"""The one writer of a folder: its lock, what it finds there, and its end, whatever happens in between."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import ClassVar, Self

from dejavlad.errors import StoreError
from dejavlad.storage.folder import LOCK, disk_errors, one_writer


class FolderWriter:
    """One writer of a folder; use as a context.

    Entering makes the folder, takes its lock, refuses files of others and calls `_open`. Leaving commits what
    was put, also after an error, which then is the one that is told; it calls `_close` and frees the lock.

    Args:
        path: the folder, made if need be.

    Raises:
        StoreBusyError: another process writes there.
        StoreError: the folder cannot be written, or holds something else.
    """

    KIND: ClassVar[str]
    """What the folder is, in words: ``a store of patches``."""
    OWN: ClassVar[frozenset[str]]
    """Names of all that may lie in it, besides the lock and what ends in ``.partial``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = contextlib.ExitStack()

    def __enter__(self) -> Self:
        if self.path.exists() and not self.path.is_dir():
            raise StoreError(f"{str(self.path)!r} is a file; {self.KIND} is a folder")
        with disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        self._lock.enter_context(one_writer(self.path))
        try:
            with disk_errors(self.path):
                self._refuse_others()
                self._open()
        except BaseException:
            self._lock.close()
            raise
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        try:
            # Keep what is finished, but tell of the first trouble.
            with contextlib.nullcontext() if error is None else contextlib.suppress(StoreError):
                self.commit()
        finally:
            with contextlib.suppress(OSError):
                self._close()
            self._lock.close()

    def commit(self) -> None:
        """Make all that was put so far permanent."""
        raise NotImplementedError

    def _refuse_others(self) -> None:
        refuse_others(self.path, self.OWN | {LOCK}, self.KIND)

    def _open(self) -> None:
        """Finish what a run that was cut off left, and look at what is there."""
        raise NotImplementedError

    def _close(self) -> None:
        """Close the files."""
        raise NotImplementedError


def refuse_others(folder: Path, own: frozenset[str] | set[str], kind: str) -> None:
    """Refuse to write into a folder that holds files of others.

    Args:
        own: names of all that may lie in it, besides what ends in ``.partial``.
        kind: what it is, in words.

    Raises:
        StoreError: it holds something else.
    """
    others = {entry.name for entry in folder.iterdir()} - own
    others = {name for name in others if not name.endswith(".partial")}
    if others:
        raise StoreError(f"{str(folder)!r} is not {kind}: it holds {min(others)!r}; give another --out")
