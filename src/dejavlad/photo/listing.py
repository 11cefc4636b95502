"""A text file with one photo's path a line: reading and writing it."""

from __future__ import annotations

import codecs
import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from dejavlad.errors import InputError, MalformedFileError
from dejavlad.files import write_whole
from dejavlad.guarded.plain_file import read_bytes
from dejavlad.photo.disk_names import DiskNames, is_comment, path_in
from dejavlad.photo.file_kinds import HEAD, binary_kind
from dejavlad.photo.folder import ENDINGS, natural_order
from dejavlad.photo.photo import Photo, PhotoList

_ABSOLUTE = re.compile(r"\s*[\"']?(?:/|\\\\|[A-Za-z]:[\\/])")


def listed_photos(path: str | Path, *, root: str | Path | None = None, seen: bool = True) -> PhotoList:
    """The photos that a text file names, in its order.

    Blank lines and comments (``# ...``) are skipped. A line is a path as it stands, spaces and quotes
    included, where there is such a photo; else what `disk_names` makes of it: in quotes, with a camera model
    behind it, from another system.

    Args:
        path: the list, UTF-8 (or UTF-16 with its mark), any line endings.
        root: the folder that paths are relative to; the list's own folder unless given.
        seen: whether the photos must be there; lists alone are enough to score a ranking.

    Raises:
        InputError: no such file, not text, nothing in it, a photo is listed twice or is not there.
    """
    path = Path(path)
    lines = [(i, line) for i, line in enumerate(lines_of(read_text(path)), 1) if line.strip()]
    base = path.parent if root is None else Path(root)
    listed = gather(lines, base, source=path, name=path.stem, seen=seen)
    if not listed:
        raise InputError(f"the list {str(path)!r} is empty; it should hold one photo's path a line")
    return listed


def gather(
    lines: Iterable[tuple[int, str]],
    root: Path,
    *,
    source: Path,
    name: str,
    seen: bool = True,
    comments: bool = True,
) -> PhotoList:
    """Photos from (line number, path) of a file; each must be there (unless `seen` is False), once.

    Photos are named as they are on disk.

    Args:
        lines: the paths, relative to `root` or absolute.
        root: the folder that they are relative to.
        source: the file that they come from, for messages.
        seen: whether the photos must be there.
        comments: whether lines that begin with # may be no photos.

    Raises:
        InputError: a photo is listed twice, or some are not there (how many, and the first ones).
    """
    photos: list[Photo] = []
    missing: list[tuple[int, str]] = []
    first: dict[str, int] = {}
    disk = DiskNames(root)
    for number, line in lines:
        path_below = disk.find(line)
        if path_below is None and comments and is_comment(line, ENDINGS):
            continue
        if path_below is None and not seen:
            path_below = path_in(line)
        if path_below is None:
            missing.append((number, line))
            continue
        key = photo_name(path_below, root)
        if key in first:
            raise InputError(
                f"{str(source)!r} line {number}: {line!r} is listed twice, first in line {first[key]}"
            )
        first[key] = number
        photos.append(Photo(key, root / path_below))
    if missing:
        raise _not_there(missing, len(photos), source, root)
    disk.warn_of_case(source)
    return PhotoList(photos, root=root, name=name)


def _not_there(missing: list[tuple[int, str]], present: int, source: Path, root: Path) -> InputError:
    examples = ", ".join(f"{line[:100]!r} (line {number})" for number, line in missing[:3])
    more = ", ..." if len(missing) > 3 else ""
    if all(_ABSOLUTE.match(line) for _, line in missing):
        more += "; these are whole paths, perhaps of another computer: make them relative"
    return InputError(
        f"{len(missing)} of {len(missing) + present} photos of {str(source)!r} are not in "
        f"{str(root)!r}: {examples}{more}; give the folder that the paths are relative to with --root"
    )


def photo_name(path: str, root: Path) -> str:
    """A photo's name: its path relative to `root`, with forward slashes; whole where it lies elsewhere."""
    plain = os.path.normpath(path)
    if Path(plain).is_absolute():
        with contextlib.suppress(ValueError):
            plain = str(Path(plain).relative_to(os.path.abspath(root)))
    return Path(plain).as_posix()


def write_list(
    photos: PhotoList, path: str | Path, *, root: str | Path | None = None, as_given: bool = False
) -> Path:
    """Write the photos' paths, one a line in natural order, so that `listed_photos` finds them again.

    Paths are relative to `root` (the list's own folder unless given), whether that was given as an absolute
    path or a relative one (Patch-NetVLAD's ``gen_image_file_list.py`` repeats a relative root in each line).

    Args:
        photos: photos that are files of their own.
        path: the list; replaced whole.
        root: the folder that paths shall be relative to.
        as_given: in the order given, as rows of a truth or a ranking need it.

    Raises:
        InputError: a photo is an array, a video frame, a view or a crop, or its path holds a line break.
    """
    path = Path(path)
    base = os.path.abspath(path.parent if root is None else root)
    lines = []
    for photo in photos:
        if not photo.is_file:
            raise InputError(f"{photo.key!r} is not a file of its own and cannot stand in a list")
        lines.append(_relative(os.path.abspath(photo.path), base))
    return write_names(lines if as_given else natural_order(lines), path)


def write_names(names: Iterable[str], path: str | Path) -> Path:
    """Write names as they stand and in the order given, one a line; the file is replaced whole.

    Raises:
        InputError: a name holds a line break.
    """
    path = Path(path)
    lines = list(names)
    for line in lines:
        if len(line.splitlines()) != 1:
            raise InputError(f"{line!r} holds a line break and cannot stand in a list; rename it")
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_whole(path, "".join(f"{line}\n" for line in lines))


def paths_below(
    names: Iterable[str], root: str | Path | None = None, *, prefix: str = ""
) -> tuple[list[str], int]:
    """The paths of named photos, and how many of them lie there as PNG although their names say otherwise.

    Tokyo 24/7 is named .jpg by NetVLAD and published as .png.

    Args:
        names: names with forward slashes.
        root: the folder that paths are relative to, where each photo is looked for; unless given, names are
            taken as they stand.
        prefix: the folder below `root` in which the named photos lie.

    Raises:
        InputError: photos are not there (how many, and the first ones).
    """
    folder = prefix.replace("\\", "/").rstrip("/") + "/" if prefix else ""
    paths = [folder + name for name in names]
    if root is None:
        return paths, 0
    existing, missing, turned = [], [], 0
    for path in paths:
        as_png = path.rpartition(".")[0] + ".png"
        if (Path(root) / path).is_file():
            existing.append(path)
        elif (Path(root) / as_png).is_file():
            existing.append(as_png)
            turned += 1
        else:
            missing.append(path)
    if missing:
        examples = ", ".join(repr(path) for path in missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise InputError(
            f"{len(missing)} of {len(paths)} photos are not in {str(root)!r}: {examples}; say in which "
            f"folder of it they lie with --prefix, or leave --root out to list them unseen"
        )
    return existing, turned


def read_content(path: Path) -> bytes:
    """A file's content.

    Raises:
        InputError: there is no such file, or it is no file that can be read.
    """
    try:
        return read_bytes(path)
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror or error}") from error
    except MalformedFileError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error}") from error


def read_text(path: Path) -> str:
    """A text file's content, its byte order mark taken off.

    Raises:
        InputError: there is no such file, or it is not text.
    """
    content = read_content(path)
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
        if "\0" in text:
            raise ValueError("it holds zero bytes")
    except ValueError as error:
        if (kind := binary_kind(content[:HEAD])) is not None:
            raise InputError(f"{str(path)!r} is not a text file but {kind[0]}: {kind[1]}") from error
        where = ""
        if isinstance(error, UnicodeDecodeError) and not wide:
            where = f" (line {len(lines_of(content[: error.start].decode()))})"
        raise InputError(
            f"{str(path)!r} is not a text file in UTF-8: {error}{where}; save it as UTF-8"
        ) from error
    return text


def lines_of(text: str) -> list[str]:
    """Lines ended by LF, CRLF or CR, and by nothing else (`str.splitlines` knows eleven ends)."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _relative(path: str, base: str) -> str:
    try:
        return Path(os.path.relpath(path, base)).as_posix()
    except ValueError:  # another drive
        return Path(path).as_posix()
