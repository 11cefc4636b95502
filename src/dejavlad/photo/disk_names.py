"""The photo that a line of a list means, as its path is on disk.

Lists come from other programs and other computers: with camera models behind the paths (hloc's
``queries_with_intrinsics.txt``), in quotes, with backslashes, percent-encoded, in another Unicode form or in
other letter case. The path as it stands always goes first.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Final

from dejavlad.names import Names, plain_form, same_form

log = logging.getLogger("dejavlad")

CAMERAS: Final = (
    *("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "OPENCV_FISHEYE", "FULL_OPENCV"),
    *("FOV", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "THIN_PRISM_FISHEYE"),
    "RAD_TAN_THIN_PRISM_FISHEYE",
)
"""COLMAP's names of camera models."""
_INTRINSICS = re.compile(rf"(\S.*?)\s+(?:{'|'.join(CAMERAS)})(?:\s+[-+0-9.eE]+){{3,}}\s*")
_QUOTED = re.compile(r"""\s*(["'])(.+)\1\s*""")


def path_in(line: str) -> str:
    """The path in a line that cannot be looked for: without quotes, intrinsics and outer spaces, with
    forward slashes.
    """
    bare = line
    if match := _INTRINSICS.fullmatch(bare):
        bare = match[1]
    if match := _QUOTED.fullmatch(bare):
        bare = match[2]
    return bare.strip().replace("\\", "/")


def is_comment(line: str, endings: tuple[str, ...]) -> bool:
    """Whether a line that is no photo's path is a comment: ``# ...``, or ``#`` before what is no photo."""
    text = line.strip()
    return text.startswith("#") and (text[1:2] in ("", " ", "\t", "#") or not text.lower().endswith(endings))


class DiskNames:
    """Photos below a folder, by paths as lists write them.

    Args:
        root: what paths are relative to.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.by_case: list[tuple[str, str]] = []
        """(Line, path) of those that were found in other letter case only."""
        self._inside: dict[Path, Names] = {}
        self._entries: dict[Path, list[str]] = {}

    def find(self, line: str) -> str | None:
        """The path that a line means, relative to the root or absolute, as it is on disk; None for none."""
        for path in dict.fromkeys(_readings(line)):
            with suppress(OSError, ValueError):  # a line too long to be a path, or with a zero byte
                if (self.root / path).is_file():
                    return path
        for path in dict.fromkeys(map(same_form, _readings(line))):
            with suppress(OSError, ValueError):
                if path and (lies := self._walk(path)) is not None:
                    if same_form(lies) != path:
                        self.by_case.append((line, lies))
                    return lies
        return None

    def warn_of_case(self, source: str | Path) -> None:
        """Say that photos of a list were found in other letter case only, if any were."""
        if self.by_case:
            log.warning(
                "%d photos of %s are there in other letter case, e.g. %r is %r",
                len(self.by_case),
                source,
                *self.by_case[0],
            )

    def _walk(self, path: str) -> str | None:
        """Part by part, each in the form that is on disk."""
        at = PurePosixPath(path)
        here = Path(at.anchor) if at.anchor else self.root
        parts: list[str] = []
        for part in at.parts[1:] if at.anchor else at.parts:
            entry: str | None = part
            if part != ".." and not (here / part).exists():
                entry = self._entry(here, part)
            if entry is None:
                return None
            here /= entry
            parts.append(entry)
        return at.anchor + "/".join(parts) if here.is_file() else None

    def _entry(self, folder: Path, name: str) -> str | None:
        """The one entry of a folder that a name means."""
        if folder not in self._inside:
            self._entries[folder] = sorted(at.name for at in folder.iterdir()) if folder.is_dir() else []
            self._inside[folder] = Names(self._entries[folder])
        row = self._inside[folder].find(name)
        return None if row is None else self._entries[folder][row]


def _readings(line: str) -> Iterator[str]:
    """What a line may mean, the likeliest first."""
    yield line
    yield line.strip()
    yield line.strip().replace("\\", "/")
    yield (path := path_in(line))
    yield plain_form(path)
