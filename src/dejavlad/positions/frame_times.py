"""When the frames of a sequence were taken: by a file beside them, or by their names.

====================  ==========================================================================
``times.txt``         KITTI odometry: seconds, line i of frame i
``timestamps.txt``    KITTI raw: a date and time, line i of frame i
``rgb.txt``           TUM: ``time name`` a line
``data.csv``          EuRoC: ``time,name`` a line, time in nanoseconds since 1970
names                 ``1305031102.175304.png`` (seconds), or nanoseconds since 1970
====================  ==========================================================================

A file lies in the photos' folder or in the one above. A whole number that is no plausible time since 1970 is
the number of a frame, not a time.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from dejavlad.errors import InputError
from dejavlad.photo import Photo, PhotoList
from dejavlad.photo.listing import lines_of, read_text
from dejavlad.positions.moments import parse_moment, since_1970

BY_LINE: Final = ("times.txt", "timestamps.txt")
"""Files with a time a line, the first that of frame 0."""
BY_NAME: Final = ("rgb.txt", "data.csv")
"""Files with a time and a name a line."""


def stem(photo: Photo) -> str:
    """A photo's name without folders and ending."""
    return photo.name.rsplit("/", 1)[-1].rpartition(".")[0]


def frame_number(photo: Photo) -> int | None:
    """A video's frame, or the number that a photo of KITTI is named by: six digits, ten in its raw data."""
    match = re.fullmatch(r"\d{6}|0\d{9}", stem(photo), re.ASCII)
    return int(match[0]) if match and photo.frame is None else photo.frame


def name_time(photo: Photo) -> float | None:
    """The time in seconds that a photo is named by; None where its name is no time, or a frame's number."""
    name = stem(photo)
    if re.fullmatch(r"\d+\.\d+", name, re.ASCII):
        return float(name)
    if re.fullmatch(r"[1-9]\d{9}|[1-9]\d{12}|[1-9]\d{15}|[1-9]\d{18}", name, re.ASCII):
        return since_1970(int(name))
    return None


def frame_times(photos: PhotoList, rate: float | None = None) -> list[float | None]:
    """Each photo's time in seconds, as the sequence counts it; None where it is not known.

    Args:
        photos: the frames; a video's have their times.
        rate: frames a second, where nothing but their numbers is known.

    Raises:
        InputError: a file of times beside them cannot be used.
    """
    tables: dict[Path, _Times | None] = {}
    return [
        photo.time if photo.frame is not None else _time(photo, row, len(photos), rate, tables)
        for row, photo in enumerate(photos)
    ]


def _time(
    photo: Photo, row: int, count: int, rate: float | None, tables: dict[Path, _Times | None]
) -> float | None:
    """By what was told, its name, a file beside it, else as the photo has it, whose clock is the camera's."""
    if rate is not None:
        number = re.search(r"\d+$", stem(photo), re.ASCII)  # also of frame_000027.jpg
        return int(number[0]) / rate if number else photo.time
    if (time := name_time(photo)) is not None:
        return time
    folder = photo.path.parent
    if folder not in tables:
        tables[folder] = _read_beside(folder)
    table = tables[folder]
    time = None if table is None else table.of(photo, row, count)
    return photo.time if time is None else time


class _Times:
    """What a file of times says."""

    def __init__(self, lines: list[float], names: dict[str, float]) -> None:
        self.lines = lines
        self.names = names

    def of(self, photo: Photo, row: int, count: int) -> float | None:
        """A photo's time: by its name, else by its number, else by its row where there are as many lines."""
        if self.names:
            return self.names.get(photo.name.rsplit("/", 1)[-1])
        number = frame_number(photo)
        if number is not None:
            return self.lines[number] if number < len(self.lines) else None
        return self.lines[row] if count == len(self.lines) else None


def _read_beside(folder: Path) -> _Times | None:
    for above in (folder, folder.parent):
        for name in BY_LINE:
            if (above / name).is_file():
                return _Times(read_times(above / name), {})
        for name in BY_NAME:
            if (above / name).is_file() and (names := _read_named(above / name)):
                return _Times([], names)
    return None


def read_times(path: Path) -> list[float]:
    """Times a line: seconds, or dates and times.

    Raises:
        InputError: a line is neither.
    """
    times = []
    for number, line in enumerate(lines_of(read_text(path)), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        moment = parse_moment(text) if re.match(r"\d{4}[-:/]", text) else None
        try:
            times.append(moment.time if moment is not None else since_1970(float(text)))
        except ValueError:
            raise InputError(
                f"{str(path)!r} line {number}: {text[:60]!r} is neither seconds nor a date and time"
            ) from None
    return times


def _read_named(path: Path) -> dict[str, float]:
    """Name -> time; nothing where the file is of another form, as the table of a sensor."""
    names: dict[str, float] = {}
    for line in lines_of(read_text(path)):
        fields = line.replace(",", " ").split()
        if not fields or line.lstrip().startswith("#"):
            continue
        try:
            time = int(fields[0]) if fields[0].isdigit() else float(fields[0])
        except ValueError:
            return {}
        if len(fields) != 2:
            return {}
        names[fields[1].rsplit("/", 1)[-1]] = since_1970(time)
    return names
