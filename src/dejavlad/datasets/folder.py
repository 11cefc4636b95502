"""A folder of photos, searched recursively, in natural order; nothing in it is moved or renamed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from natsort import natsort_keygen

from dejavlad.decoders import ENDINGS as ENDINGS
from dejavlad.errors import InputError
from dejavlad.photo import Photo, PhotoList

_part_key = natsort_keygen()


def folder_photos(folder: str | Path, *, name: str | None = None) -> PhotoList:
    """All photos of a folder and the folders in it, in natural order (2.jpg before 10.jpg).

    Hidden files and folders (a leading dot) are skipped. A linked folder is followed once: one that leads
    back to where the search has been, or above the folder, is skipped.

    Args:
        folder: where to search; photos are named relative to it.
        name: what the list is called; the folder's name unless given.

    Raises:
        InputError: there is no such folder, it cannot be read, or holds no photo.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"there is no folder {str(folder)!r}")
    names, others = _search(folder)
    if not names:
        beside = f"it holds {others} other files" if others else "it is empty"
        raise InputError(
            f"no photos in {str(folder)!r} or the folders in it: {beside} (endings read: {' '.join(ENDINGS)})"
        )
    return PhotoList(
        (Photo(photo, folder / photo) for photo in natural_order(names)),
        root=folder,
        name=name or folder.resolve().name,
    )


def dataset_folder(root: str | Path) -> Path:
    """The folder where a known dataset lies.

    Raises:
        InputError: there is none.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"there is no folder {str(root)!r}; give where the dataset lies with --root")
    return root


def first_folder(above: Path, names: Iterable[str]) -> Path | None:
    """The first of these folders that there is."""
    return next((above / name for name in names if (above / name).is_dir()), None)


def natural_order(names: Iterable[str]) -> list[str]:
    """Names sorted folder by folder, numbers in them by their value; the same for any order given."""
    return sorted(sorted(names), key=natural_key)


def natural_key(name: str) -> tuple[object, ...]:
    """What `natural_order` sorts by."""
    return tuple(_part_key(part) for part in name.split("/"))


def _search(root: Path) -> tuple[list[str], int]:
    """Names of the photos relative to `root`, and the number of other files."""
    names: list[str] = []
    others = 0
    top = root.resolve()
    seen = {top, *top.parents}
    folders = [""]
    links: list[str] = []  # followed after all real folders, so that photos go by their real names
    while folders or links:
        inside = folders.pop() if folders else links.pop(0)
        if inside:
            real = (root / inside).resolve()
            if real in seen:
                continue
            seen.add(real)
        try:
            entries = sorted(os.scandir(root / inside), key=lambda entry: entry.name)
        except OSError as error:
            raise InputError(
                f"the folder {str(root / inside)!r} cannot be read: {error.strerror or error}"
            ) from error
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = f"{inside}/{entry.name}" if inside else entry.name
            try:
                is_folder, is_file = entry.is_dir(), entry.is_file()
            except OSError:  # a link to itself
                continue
            if is_folder:
                (links if entry.is_symlink() else folders).append(name)
            elif not is_file:
                continue
            elif entry.name.lower().endswith(ENDINGS):
                names.append(_text(name, root))
            else:
                others += 1
    return names, others


def _text(name: str, root: Path) -> str:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(
            f"a photo in {str(root)!r} has a name that is not UTF-8 text: {name!r}; rename it"
        ) from None
    return name
