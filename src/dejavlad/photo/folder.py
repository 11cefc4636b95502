"""A folder of photos, searched recursively, in natural order; nothing in it is moved or renamed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from dejavlad.decoders import ENDINGS as ENDINGS
from dejavlad.errors import InputError
from dejavlad.photo.near import did_you_mean
from dejavlad.photo.photo import Photo, PhotoList
from dejavlad.photo.search import find_photos, passed_over_text

log = logging.getLogger("dejavlad")


@cache
def _part_key() -> Callable[[str], Any]:
    """What parts of names are ordered by."""
    from natsort import natsort_keygen  # loads slowly

    return natsort_keygen()


def folder_photos(
    folder: str | Path, *, name: str | None = None, all_folders: bool = False, tell: bool = True
) -> PhotoList:
    """All photos of a folder and the folders in it, in natural order (2.jpg before 10.jpg).

    Hidden files and folders (a leading dot), bins, thumbnails and previews are passed over (`search`); what
    was passed over is told in a warning and kept with the list (`PhotoList.passed_over`).

    Args:
        folder: where to search; photos are named relative to it.
        name: what the list is called; the folder's name unless given.
        all_folders: also search hidden folders, bins, thumbnails and the like.
        tell: whether to warn; not where other files are part of a known layout.

    Raises:
        InputError: there is no such folder, it cannot be read, or holds no photo.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"there is no folder {str(folder)!r}{did_you_mean(folder)}")
    names, passed = find_photos(folder, ENDINGS, all_folders=all_folders)
    notice = passed_over_text(passed)
    if not names:
        raise InputError(
            f"no photos in {str(folder)!r} or the folders in it: {notice or 'it is empty'} (endings read: "
            f"{' '.join(ENDINGS)})"
        )
    if notice and tell:
        log.warning("%s: %s", folder, notice)
    return PhotoList(
        (Photo(photo, folder / photo) for photo in natural_order(names)),
        root=folder,
        name=name or folder.resolve().name,
        passed_over=passed,
    )


def dataset_folder(root: str | Path) -> Path:
    """The folder where a known dataset lies.

    Raises:
        InputError: there is none.
    """
    root = Path(root)
    if not root.is_dir():
        meant = did_you_mean(root)
        raise InputError(f"there is no folder {str(root)!r}{meant}; give where the dataset lies with --root")
    return root


def first_folder(above: Path, names: Iterable[str]) -> Path | None:
    """The first of these folders that there is."""
    return next((above / name for name in names if (above / name).is_dir()), None)


def natural_order(names: Iterable[str]) -> list[str]:
    """Names sorted folder by folder, numbers in them by their value; the same for any order given."""
    return sorted(sorted(names), key=natural_key)


def natural_key(name: str) -> tuple[object, ...]:
    """What `natural_order` sorts by."""
    key = _part_key()
    return tuple(key(part) for part in name.split("/"))
