"""Camera poses as KITTI, TUM, EuRoC and COLMAP write them; what a file is follows from its content.

========  =====================================================================================  ======
kitti     twelve numbers a line, the 3 x 4 matrix from camera to world by rows; line i is frame i  x, z
tum       ``time tx ty tz qx qy qz qw`` a line, time in seconds; camera in the world                x, y
euroc     ``time,x,y,z,...`` a line, time in nanoseconds since 1970; body in the world              x, y
colmap    ``images.txt`` (one or two lines a photo) or ``images.bin``; world to camera              x, y
========  =====================================================================================  ======

The last column says which axes are taken for east and north, unless told otherwise: ``FILE.txt:xz``. Where a
file's unit is not the metre (COLMAP without known positions), neither is that of the positions.

Poses by time go with the times of photos (`frame_times`). Photos that are named by whole numbers are
numbered, not timed: ``FILE.txt:10hz`` says that ten were taken a second.

Legend: N poses.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError
from dejavlad.photo import PhotoList
from dejavlad.photo.listing import lines_of, read_content, read_text
from dejavlad.positions.frame_times import frame_number, frame_times, stem
from dejavlad.positions.moments import NO_OFFSET, TimeOffset, since_1970
from dejavlad.positions.name_matching import match_names

Floats = NDArray[np.float64]

GROUND: Final = {"kitti": "xz", "tum": "xy", "euroc": "xy", "colmap": "xy"}
"""Kind of file -> its axes that are taken for east and north."""
TEXTS: Final = (".txt", ".csv", ".tum")
"""Endings of texts that may hold poses."""
MOST_SECONDS = 1.0
"""Two poses of a trajectory farther apart in time are not joined."""
_GIVEN = re.compile(r"(.+\.(?:txt|bin|csv|tum))((?::(?:[xyz]{2}|[\d.]+ ?hz))*)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True, eq=False)
class Poses:
    """Where a camera was, in a file's order."""

    kind: str
    """``kitti``, ``tum``, ``euroc`` or ``colmap``."""
    centres: Floats
    """float64 [N, 3], camera centres in the world."""
    times: Floats | None = None
    """float64 [N] ascending seconds, of ``tum`` and ``euroc``."""
    names: tuple[str, ...] | None = None
    """N names of photos, of ``colmap``."""
    notes: tuple[str, ...] = ()
    """What was passed over in the file."""

    def __len__(self) -> int:
        return len(self.centres)


@dataclass(frozen=True, slots=True)
class PosesGiven:
    """A file of poses as a user writes it."""

    path: Path
    """The file of poses."""
    axes: str | None = None
    """Which axes are east and north; None: those of its kind."""
    rate: float | None = None
    """Photos a second, where they are named by their numbers; None where not told."""


def split_poses(given: str | Path) -> PosesGiven:
    """``FILE.txt[:xz][:10hz]`` to the file, its ground axes and the photos a second.

    Raises:
        InputError: the same axis twice, or no photos a second.
    """
    match = _GIVEN.fullmatch(str(given))
    if not match or not match[2]:
        return PosesGiven(Path(given))
    axes, rate = None, None
    for option in match[2].lower().split(":")[1:]:
        if not option.endswith("hz"):
            axes = option
            continue
        try:
            rate = float(option.removesuffix("hz"))
        except ValueError:
            rate = 0.0
        if not (math.isfinite(rate) and rate > 0):
            raise InputError(f"{str(given)!r}: photos a second are more than 0, as in :10hz")
    if axes is not None and axes[0] == axes[1]:
        raise InputError(f"{str(given)!r}: east and north are two different axes, as in :xz")
    return PosesGiven(Path(match[1]), axes, rate)


def is_poses(path: Path) -> bool:
    """Whether a file is one of poses: ``images.bin``, or a text whose first line is of such a form."""
    if not path.is_file():
        return False
    if path.suffix.lower() == ".bin":
        return True
    try:
        return path.suffix.lower() in TEXTS and _kind(read_text(path)) is not None
    except InputError:
        return False


def read_poses(path: str | Path) -> Poses:
    """Read a file of poses.

    Raises:
        InputError: there is no such file, it is of no such form, a number is none or not finite (its line is
            told), time stamps are not ascending, or it holds no pose.
    """
    path = Path(path)
    if path.suffix.lower() == ".bin":
        return _colmap_bin(path)
    text = read_text(path)
    kind = _kind(text)
    if kind is None:
        raise InputError(
            f"{str(path)!r} holds no poses: its lines should be 12 numbers (KITTI), 8 numbers (TUM), or "
            f"COLMAP's images.txt"
        )
    return _READERS[kind](path, text)


def centres_of(
    photos: PhotoList,
    poses: Poses,
    path: str | Path,
    *,
    rate: float | None = None,
    offset: TimeOffset = NO_OFFSET,
) -> list[Floats | None]:
    """Each photo's camera centre [3]; None where the file has none for it.

    KITTI's lines go with the photos in order, or with the numbers that some photos are named by; those with
    times by time (`frame_times`), interpolated; COLMAP's by name.

    Args:
        path: the file, for messages.
        rate: photos a second, where photos are named by their numbers and poses go by time.

    Raises:
        InputError: numbers of photos and poses differ, or photos have no time.
    """
    if poses.names is not None:
        rows = match_names([photo.name for photo in photos], poses.names).rows
        return [None if row is None else poses.centres[row] for row in rows]
    if poses.times is not None:
        return _by_time(photos, poses, path, rate, offset)
    if len(photos) == len(poses):
        return list(poses.centres)
    numbers = [frame_number(photo) for photo in photos]
    if all(n is not None and n < len(poses) for n in numbers):
        return [poses.centres[n] for n in numbers if n is not None]
    raise InputError(
        f"{str(path)!r} holds {len(poses)} poses, {photos.name} {len(photos)} photos: one line a photo is "
        f"needed, or photos named by the numbers of their lines as 000000.png"
    )


def ground(centre: Floats, axes: str) -> tuple[float, float]:
    """East and north of a camera centre [3]."""
    return float(centre["xyz".index(axes[0])]), float(centre["xyz".index(axes[1])])


def off_ground(centres: Floats, axes: str) -> bool:
    """Whether a track extends farther along the axis left out than along the shorter of the other two."""
    extents = dict(zip("xyz", np.ptp(centres, axis=0).tolist(), strict=True)) if len(centres) else {}
    left_out = next(axis for axis in "xyz" if axis not in axes)
    return bool(extents) and extents[left_out] > min(extents[axis] for axis in axes)


def _kind(text: str) -> str | None:
    """Of which form the first line that holds something is."""
    if re.match(r"#\s*timestamp\b[^\n]*,", text):
        return "euroc"
    for _, line in _lines(text):
        if _is_photo_line(line):
            return "colmap"
        fields = _fields(line)
        values = _numbers(fields)
        if values is None:
            return None
        if "," in line and len(fields) >= 4 and since_1970(values[0]) != values[0]:
            return "euroc"
        return {12: "kitti", 8: "tum"}.get(len(fields))
    return None


def _fields(line: str) -> list[str]:
    """The fields of a line, separated by spaces or commas."""
    return [field.strip() for field in line.split(",")] if "," in line else line.split()


def _is_photo_line(line: str) -> bool:
    """Whether a line of COLMAP is that of a photo: nine numbers and a name, which is none."""
    fields = line.split(maxsplit=9)
    return len(fields) == 10 and _numbers(fields[:9]) is not None and _numbers(fields[9].split()) is None


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Number and content of the lines that hold something."""
    for number, line in enumerate(lines_of(text), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line.strip()


def _numbers(fields: list[str]) -> list[float] | None:
    try:
        return [float(field) for field in fields]
    except ValueError:
        return None


def _row(path: Path, number: int, fields: list[str], count: int) -> list[float]:
    values = _numbers(fields)
    if values is None or len(values) != count:
        raise InputError(
            f"{str(path)!r} line {number}: {count} numbers were expected; given {len(fields)} fields"
        )
    if not all(map(math.isfinite, values)):
        raise InputError(f"{str(path)!r} line {number}: a pose is of finite numbers; one is NaN or infinite")
    return values


def _kitti(path: Path, text: str) -> Poses:
    rows = [_row(path, number, _fields(line), 12) for number, line in _lines(text)]
    return Poses("kitti", np.array(rows, np.float64).reshape(-1, 3, 4)[:, :, 3])


def _tum(path: Path, text: str) -> Poses:
    return _timed("tum", path, ((n, _row(path, n, _fields(line), 8)) for n, line in _lines(text)))


def _euroc(path: Path, text: str) -> Poses:
    """Ground truth of EuRoC's form: at least a time and a position, whatever follows."""
    return _timed("euroc", path, ((n, _row(path, n, _fields(line)[:4], 4)) for n, line in _lines(text)))


def _timed(kind: str, path: Path, rows: Iterator[tuple[int, list[float]]]) -> Poses:
    """Poses of lines that begin with a time and a position."""
    times: list[float] = []
    poses: list[list[float]] = []
    doubled = 0
    for number, row in rows:
        time = since_1970(row[0])
        if times and time == times[-1] and row == poses[-1]:
            doubled += 1
            continue
        if times and time <= times[-1]:
            given = f"{str(path)!r} line {number}: time {row[0]:.6f}"
            if time == times[-1]:
                raise InputError(f"{given} stands twice, with two different poses: keep one of them")
            raise InputError(
                f"{given} is not after the line before ({poses[-1][0]:.6f}); sort the file by time"
            )
        times.append(time)
        poses.append(row)
    if not times:
        raise InputError(f"{str(path)!r} holds no poses")
    notes = (f"{path.name}: {doubled} poses stand twice, and count once",) if doubled else ()
    return Poses(kind, np.array([row[1:4] for row in poses]), times=np.array(times), notes=notes)


def _colmap_txt(path: Path, text: str) -> Poses:
    names: list[str] = []
    centres: list[Floats] = []
    points = False  # after the line of a photo may come one of its points, which may be empty
    for number, raw in enumerate(lines_of(text), 1):
        line = raw.strip()
        if line.startswith("#"):
            continue
        if _is_photo_line(line):
            fields = line.split(maxsplit=9)
            values = _row(path, number, fields[1:8], 7)
            centres.append(_centre(values, f"{str(path)!r} line {number}"))
            names.append(fields[9])
            points = True
        elif points:
            points = False
            if len(line.split()) % 3 or _numbers(line.split()) is None:
                raise InputError(
                    f"{str(path)!r} line {number}: neither a photo of COLMAP (id, quaternion, translation, "
                    "camera, name) nor its points (x, y, id of each)"
                )
        elif line:
            raise InputError(
                f"{str(path)!r} line {number}: a photo of COLMAP has 10 fields (id, quaternion, translation, "
                f"camera, name); this line has {len(line.split())}"
            )
    return _colmap(path, names, centres)


def _colmap_bin(path: Path) -> Poses:
    content = read_content(path)
    names: list[str] = []
    centres: list[Floats] = []
    at = 8
    try:
        (count,) = struct.unpack_from("<Q", content, 0)
        if count > len(content) // 77:  # of one photo, at least
            raise ValueError(f"it announces {count} photos, more than it has room for")
        for i in range(count):
            values = struct.unpack_from("<I7dI", content, at)
            end = content.index(b"\0", at + 64)
            names.append(content[at + 64 : end].decode("utf-8"))
            centres.append(_centre(list(values[1:8]), f"{str(path)!r} photo {i + 1}"))
            (points,) = struct.unpack_from("<Q", content, end + 1)
            at = end + 9 + 24 * points
        if at != len(content):
            raise ValueError(f"it should have {at} bytes, but has {len(content)}")
    except (struct.error, ValueError, UnicodeDecodeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{str(path)!r} is no images.bin of COLMAP: {error}") from None
    return _colmap(path, names, centres)


def _colmap(path: Path, names: list[str], centres: list[Floats]) -> Poses:
    if not names:
        raise InputError(f"{str(path)!r} holds no photo")
    if len(set(names)) != len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise InputError(f"{str(path)!r} names {twice!r} twice")
    return Poses("colmap", np.stack(centres), names=tuple(name.replace("\\", "/") for name in names))


def _centre(pose: list[float], where: str) -> Floats:
    """-R' t of a quaternion (w first) and a translation from world to camera."""
    if not all(map(math.isfinite, pose)):
        raise InputError(f"{where}: a pose is of finite numbers; one is NaN or infinite")
    w, x, y, z = pose[:4]
    length = math.hypot(w, x, y, z)
    if not 0.5 < length < 2:
        raise InputError(f"{where}: {pose[:4]} is no rotation (a quaternion of length 1, w first)")
    w, x, y, z = (value / length for value in (w, x, y, z))
    # By hand: SciPy's `Rotation` takes six times as long for one pose, of which maps have 100,000.
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    centre: Floats = -rotation.T @ np.array(pose[4:7])
    return centre


_READERS: Final[dict[str, Callable[[Path, str], Poses]]] = {
    "kitti": _kitti,
    "tum": _tum,
    "euroc": _euroc,
    "colmap": _colmap_txt,
}


def _by_time(
    photos: PhotoList, poses: Poses, path: str | Path, rate: float | None, offset: TimeOffset
) -> list[Floats | None]:
    assert poses.times is not None
    times = frame_times(photos, rate)
    known = [time for time in times if time is not None]
    if photos and not known:
        first = photos[0]
        numbered = re.fullmatch(r"\d+", stem(first), re.ASCII) is not None
        raise InputError(
            f"{str(path)!r} goes by time, but {first.name!r} has none"
            + (": its name is a number, not a time" if numbered else "")
            + "; put a times.txt (a time a line, as KITTI has it) beside the photos, say how many were taken "
            f"a second as {path}:10hz, or name them by their time (1305031102.175304.png)"
        )
    centres = [
        None if time is None else between(offset.apply(time, True), poses.times, poses.centres, MOST_SECONDS)
        for time in times
    ]
    if photos and all(centre is None for centre in centres):
        moved = [offset.apply(time, True) for time in known]
        raise InputError(no_time_within(f"the poses {str(path)!r}", moved, poses.times, MOST_SECONDS))
    return centres


def no_time_within(what: str, times: Floats | Sequence[float], known_N: Floats, most: float) -> str:
    """Why none of some times lies within a track, as a message.

    Args:
        what: the track, as it is called in the message.
        times: times of photos, at least one.
        known_N: times of the track, ascending.
        most: seconds between two of them beyond which they are not joined.
    """
    inside = [time for time in times if known_N[0] <= time <= known_N[-1]]
    if inside:
        after = min(max(int(np.searchsorted(known_N, inside[0])), 1), len(known_N) - 1)
        gap = float(known_N[after] - known_N[after - 1])
        return (
            f"none of the {len(times)} photos was taken within {most:g} s of two points of {what}: "
            f"{len(inside)} fall into gaps, as of {gap:.0f} s"
        )
    return (
        f"none of the {len(times)} photos has a time within {what}: they are of {min(times):.3f} to "
        f"{max(times):.3f} s, it of {known_N[0]:.3f} to {known_N[-1]:.3f} s (--time-offset adds seconds)"
    )


def between(time: float, times_N: Floats, values_ND: Floats, most: float) -> Floats | None:
    """The value at a time, by straight lines; None before, after, or in a gap of more than `most` seconds."""
    after = int(np.searchsorted(times_N, time))
    if after < len(times_N) and times_N[after] == time:
        return np.asarray(values_ND[after])
    if after in (0, len(times_N)):
        return None
    gap = float(times_N[after] - times_N[after - 1])
    if gap > most:
        return None
    share = (time - times_N[after - 1]) / gap
    return np.asarray((1 - share) * values_ND[after - 1] + share * values_ND[after])
