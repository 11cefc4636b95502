"""Looking for photos in a folder and the folders in it: what is taken, and what is passed over.

Collections hold more pictures than were taken: thumbnails of network drives, bins, previews of photo
libraries. Folders that programs and systems made for such are passed over unless all are asked for, and
whatever is passed over is counted, so that no photo is missed in silence.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dejavlad.errors import InputError
from dejavlad.photo.photo import PassedOver, PhotoList

COMPANIONS: Final = frozenset({"positions.csv"})
"""Files beside photos that are read themselves, and are not told as passed over."""
SPECIAL: Final = {
    **dict.fromkeys(("@eadir", ".@__thumb", ".thumbnails", ".thumbs", ".thumb"), "thumbnails"),
    **dict.fromkeys(("$recycle.bin", "recycler", "recycled", "#recycle", "@recycle", ".dtrash"), "bin"),
    **dict.fromkeys(("#snapshot", "~snapshot", "@recently-snapshot", ".snapshots", ".zfs"), "snapshots"),
    "files_trashbin": "bin",
    "files_versions": "snapshots",
    **dict.fromkeys(("__macosx", "lost+found", "system volume information"), "system"),
}
"""Name of a folder, in lower case -> what it is for."""
LIBRARIES: Final = (".photoslibrary", ".photolibrary", ".migratedphotolibrary", ".aplibrary")
"""Endings of a photo library's folder on macOS."""
ORIGINALS: Final = ("originals", "masters")
"""The folders of a library that hold the photos themselves; the others hold smaller copies."""


def find_photos(
    root: Path, endings: tuple[str, ...], *, all_folders: bool = False
) -> tuple[list[str], PassedOver]:
    """The names of the photos below a folder, relative to it and in no order, and what was passed over.

    A linked folder is followed once: one that leads back to where the search has been, or above the folder,
    is passed over in silence.

    Args:
        endings: of photos, in lower case.
        all_folders: also search hidden folders, bins, thumbnails and the like.

    Raises:
        InputError: the folder itself cannot be read, or a photo's name is no text.
    """
    search = _Search(root, endings, all_folders)
    top = root.resolve()
    seen = {top, *top.parents}
    while search.folders or search.links:
        inside = search.folders.pop() if search.folders else search.links.pop(0)
        if inside:
            real = (root / inside).resolve()
            if real in seen:
                continue
            seen.add(real)
        try:
            entries = sorted(os.scandir(root / inside), key=lambda entry: entry.name)
        except OSError as error:
            if not inside:
                raise InputError(
                    f"the folder {str(root)!r} cannot be read: {error.strerror or error}"
                ) from error
            search.unreadable.append(inside)
            continue
        in_library = (root / inside).name.lower().endswith(LIBRARIES) and not all_folders
        for entry in entries:
            search.take(entry, f"{inside}/{entry.name}" if inside else entry.name, in_library=in_library)
    return search.names, PassedOver(
        dict(sorted((+search.files).items(), key=lambda item: (-item[1], item[0]))),
        dict(sorted(search.folders_passed.items())),
        tuple(search.nowhere),
        tuple(search.unreadable),
        search.hidden,
    )


@dataclass(slots=True)
class _Search:
    """What was met in a folder and those in it, and the folders that are still to be searched."""

    root: Path
    endings: tuple[str, ...]
    all_folders: bool
    names: list[str] = field(default_factory=list)
    files: Counter[str] = field(default_factory=Counter)
    folders_passed: Counter[str] = field(default_factory=Counter)
    nowhere: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    hidden: int = 0
    folders: list[str] = field(default_factory=lambda: [""])
    links: list[str] = field(default_factory=list)
    """Followed after all real folders, so that photos go by their real names."""

    def take(self, entry: os.DirEntry[str], name: str, *, in_library: bool) -> None:
        """A file or folder: its name below the root, and whether it lies in a photo library's folder."""
        try:
            is_folder, is_file = entry.is_dir(), entry.is_file()
        except OSError:  # a link to itself
            is_folder = is_file = False
        if is_folder:
            kind = None if self.all_folders else _kind(entry.name, in_library)
            if kind is not None:
                self.folders_passed[f"{entry.name} ({kind})"] += 1
            elif self.all_folders or not entry.name.startswith("."):
                (self.links if entry.is_symlink() else self.folders).append(name)
            return
        ending, hidden = Path(entry.name).suffix.lower(), entry.name.startswith(".")
        if not is_file:
            if entry.is_symlink() and not hidden and ending in ("", *self.endings):
                self.nowhere.append(name)
        elif hidden:
            self.files[".icloud"] += ending == ".icloud"  # a photo that was not fetched from the cloud yet
            self.hidden += ending in self.endings and not entry.name.startswith("._")  # a Mac's notes
        elif ending in self.endings:
            self.names.append(_text(name, self.root))
        elif entry.name.lower() not in COMPANIONS:
            self.files[ending] += 1


def _kind(name: str, in_library: bool) -> str | None:
    """What a folder is for that is passed over; None for one that is searched."""
    lower = name.lower()
    if lower in SPECIAL:
        return SPECIAL[lower]
    if lower.startswith(".trash"):
        return "bin"
    if lower.endswith(".lrdata") or (in_library and lower not in ORIGINALS):
        return "previews"
    return None


def remarks(photos: PhotoList) -> list[str]:
    """What is worth telling of a list, a line each: what it assumed or left out, and what was passed over."""
    notice = "" if photos.passed_over is None else passed_over_text(photos.passed_over)
    return [*photos.notes, *([f"{photos.name}: {notice}"] if notice else [])]


def passed_over_text(passed: PassedOver) -> str:
    """What was passed over, in words; empty where nothing was."""
    return "; ".join(_parts(passed))


def _parts(passed: PassedOver) -> Iterator[str]:
    if passed.files:
        count = sum(passed.files.values())
        listing = ", ".join(f"{n} {ending or 'without ending'}" for ending, n in passed.files.items())
        yield f"{_count(count, 'file')} passed over: {listing}"
    if passed.hidden:
        yield f"{_count(passed.hidden, 'hidden photo')} passed over"
    if passed.folders:
        count = sum(passed.folders.values())
        listing = ", ".join(f"{n} {what}" if n > 1 else what for what, n in passed.folders.items())
        yield f"{_count(count, 'folder')} passed over: {listing} (--all-folders takes them)"
    if passed.nowhere:
        yield f"{_count(len(passed.nowhere), 'link')} to nothing, e.g. {passed.nowhere[0]!r}"
    if passed.unreadable:
        yield f"{_count(len(passed.unreadable), 'folder')} cannot be read, e.g. {passed.unreadable[0]!r}"


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _text(name: str, root: Path) -> str:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(
            f"a photo in {str(root)!r} has a name that is not UTF-8 text: {name!r}; rename it"
        ) from None
    return name
