"""Zip archives and NumPy's ``.npz``: what members say of their size is weighed before any is unpacked."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from numpy.typing import NDArray

from dejavlad.errors import MalformedFileError
from dejavlad.guarded.npy_file import read_array_header, read_values
from dejavlad.guarded.plain_file import open_regular

BESIDE, FACTOR = 64 << 20, 32
"""All members together may be so many bytes, and so many times the archive's size; arrays that are worth
keeping hardly pack better."""
MOST_MEMBERS = 100_000


@dataclass(frozen=True, slots=True)
class Archive:
    """A zip archive whose directory was found sane."""

    size: int
    """Bytes of the archive itself."""
    members: Mapping[str, zipfile.ZipInfo]
    """By name; no name is there twice."""
    _zip: zipfile.ZipFile

    @property
    def stored(self) -> bool:
        """Whether no member is compressed."""
        return all(member.compress_type == zipfile.ZIP_STORED for member in self.members.values())

    @property
    def unpacked(self) -> int:
        """Bytes of all members together."""
        return sum(member.file_size for member in self.members.values())

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """A member's content; no more of it comes than the directory says.

        Raises:
            MalformedFileError: there is no such member, or it is damaged.
        """
        if name not in self.members:
            raise MalformedFileError(f"it holds no {name!r}")
        with _zip_errors(), self._zip.open(self.members[name]) as stream:
            yield stream

    def read(self, name: str) -> bytes:
        """All of a member.

        Raises:
            MalformedFileError: there is no such member, or it is damaged.
        """
        with self.open(name) as stream:
            return stream.read()


@contextmanager
def open_zip(path: str | Path) -> Iterator[Archive]:
    """An archive to read from.

    Raises:
        MalformedFileError: it is no regular file, no zip archive, damaged, encrypted, compressed otherwise
            than by deflation, or its members would be far more than an archive of its size can hold.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        with _zip_errors():
            archive = zipfile.ZipFile(file)
        with archive:
            listed = archive.infolist()
            members = {member.filename: member for member in listed}
            if len(members) != len(listed) or len(members) > MOST_MEMBERS:
                raise MalformedFileError(f"its {len(listed)} members are too many, or two have the same name")
            for member in listed:
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise MalformedFileError(f"{member.filename!r} is compressed in an unusual way")
                if member.flag_bits & 1:
                    raise MalformedFileError(f"{member.filename!r} is encrypted")
            unpacked = sum(member.file_size for member in listed)
            if unpacked > BESIDE + FACTOR * size:
                raise MalformedFileError(
                    f"it has {size} bytes and says that it unpacks to {unpacked}, which no honest file does"
                )
            yield Archive(size, members, archive)


def is_zip(path: str | Path) -> bool:
    """Whether a file is a zip archive; MalformedFileError where it is no regular file."""
    with open_regular(path) as file:
        return zipfile.is_zipfile(file)


def read_npz(path: str | Path, names: Collection[str] | None = None) -> dict[str, NDArray[Any]]:
    """The arrays of numbers of an ``.npz`` file, by name, in memory.

    Args:
        names: which to read; all unless given. Others are neither unpacked nor checked.

    Raises:
        MalformedFileError: it is no such file or damaged, lacks one of the names, or holds far more than a
            file of its size can.
    """
    with open_regular(path) as file:
        if file.read(6) == b"\x93NUMPY":
            raise MalformedFileError("it is one array, an .npy file")
    with open_zip(path) as archive:
        arrays = {name.removesuffix(".npy"): name for name in archive.members}
        lacking = [name for name in names or () if name not in arrays]
        if lacking:
            names_inside = ", ".join(list(arrays)[:8]) or "nothing"
            raise MalformedFileError(f"it lacks {', '.join(lacking)} (it holds {names_inside})")
        return {name: _array(archive, arrays[name]) for name in (arrays if names is None else names)}


def _array(archive: Archive, member: str) -> NDArray[Any]:
    try:
        with archive.open(member) as stream:
            header = read_array_header(stream)
            header.check_size(archive.members[member].file_size - stream.tell())
            values = read_values(stream, header)
            stream.read(1)  # the check sum is looked at where the content ends
            return values
    except MalformedFileError as error:
        raise MalformedFileError(f"{member}: {error}") from None


@contextmanager
def _zip_errors() -> Iterator[None]:
    try:
        yield
    except (OSError, MalformedFileError):
        raise
    except Exception as error:  # zipfile, zlib and struct raise anything on damaged archives
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise MalformedFileError(f"it is no zip archive, or damaged: {reason}") from None
