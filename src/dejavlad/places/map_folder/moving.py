"""Photos of a map that lie elsewhere now: their paths, their names, and which of the new files differ."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from dejavlad.errors import InputError
from dejavlad.files import size_and_time
from dejavlad.storage import PhotoRecord


@dataclass(frozen=True, slots=True)
class Moved:
    """What `PlaceMap.move` did."""

    photos: int
    """Photos that lie elsewhere now."""
    missing: tuple[str, ...]
    """Keys of those whose new file is not there."""
    changed: tuple[str, ...]
    """Keys of those whose new file has another size: the next `add` describes them anew."""


class MovingPhotos:
    """Follows the photos of a file, or of a folder and all below it, to where they lie now.

    Args:
        old: where they lay.
        new: where they lie.
        rename: photos that stay in the folder that their names are relative to are named by their new place.
    """

    def __init__(self, old: Path, new: Path, *, rename: bool) -> None:
        self.old, self.new = Path(os.path.abspath(old)), Path(os.path.abspath(new))
        self._rename, self._photos = rename, 0
        self._example = self.new
        self._missing: list[str] = []
        self._changed: list[str] = []

    def __call__(self, record: PhotoRecord) -> PhotoRecord | None:
        """The record of a photo as it is now; None of one that did not move."""
        photo, identity = record.photo, record.identity
        path = Path(os.path.abspath(photo.path))
        if identity[2] or not path.is_relative_to(self.old):
            return None
        after = self.new / path.relative_to(self.old)
        if self._rename:
            photo = replace(photo, name=_moved_name(photo.name, path, self.old, after))
        if not self._photos:
            self._example = after
        self._photos += 1
        status = _file_status(after)
        if status is None:
            self._missing.append(photo.key)
        elif status[0] == identity[0]:
            identity = (*status, "")
        else:
            self._changed.append(photo.key)
        return replace(record, photo=replace(photo, path=after), identity=identity)

    def result(self, root: str) -> Moved:
        """What came of it.

        Args:
            root: the folder that the map's photos lie in, if any; for the error.

        Raises:
            InputError: no photo lay there, or none of the new files is there.
        """
        if not self._photos:
            raise InputError(
                f"no photo of the map lies in {str(self.old)!r}; they lie in {root or 'memory'!r}"
            )
        if len(self._missing) == self._photos:
            raise InputError(f"none of the {self._photos} photos is there, e.g. {str(self._example)!r}")
        return Moved(self._photos, tuple(self._missing), tuple(self._changed))


def _moved_name(name: str, path: Path, old: Path, after: Path) -> str:
    """The name of a photo that moved: another only where it stays in the folder of its list."""
    parts = Path(name).parts
    if path.parts[-len(parts) :] != parts:
        return name
    root = Path(*path.parts[: -len(parts)])
    if old != root and old.is_relative_to(root) and after.is_relative_to(root):
        return after.relative_to(root).as_posix()
    return name


def _file_status(path: Path) -> tuple[int, int] | None:
    """Size and modification time (ns) of a file; None where there is none."""
    try:
        return size_and_time(path.stat())
    except (OSError, ValueError):
        return None
