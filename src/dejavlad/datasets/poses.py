"""Camera poses of a sequence as KITTI, TUM and COLMAP write them; what a file is follows from its content.

========  =====================================================================================  ======
kitti     twelve numbers a line, the 3 x 4 matrix from camera to world by rows; line i is frame i  x, z
tum       ``time tx ty tz qx qy qz qw`` a line, time in seconds; camera in the world                x, y
colmap    ``images.txt`` (two lines a photo) or ``images.bin``; world to camera                     x, y
========  =====================================================================================  ======

The last column says which axes are taken for east and north, unless told otherwise: ``FILE.txt:xz``. Where a
file's unit is not the metre (COLMAP without known positions), neither is that of the positions.

Legend: N poses.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dejavlad.datasets.listing import lines_of, read_text
from dejavlad.errors import InputError, MalformedFileError
from dejavlad.guarded.plain_file import read_bytes
from dejavlad.photo import Photo, PhotoList

Floats = NDArray[np.float64]

GROUND: Final = {"kitti": "xz", "tum": "xy", "colmap": "xy"}
"""Kind of file -> its axes that are taken for east and north."""
MOST_SECONDS = 1.0
"""Two poses of a trajectory farther apart in time are not joined."""
_AXES = re.compile(r"(.+\.(?:txt|bin))(?::([xyz])([xyz]))?", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True, eq=False)
class Poses:
    """Where a camera was, in a file's order."""

    kind: str
    """``kitti``, ``tum`` or ``colmap``."""
    centres: Floats
    """float64 [N, 3], camera centres in the world."""
    times: Floats | None = None
    """float64 [N] ascending seconds, of ``tum``."""
    names: tuple[str, ...] | None = None
    """N names of photos, of ``colmap``."""

    def __len__(self) -> int:
        return len(self.centres)


def split_axes(given: str | Path) -> tuple[Path, str | None]:
    """``FILE.txt:xz`` to the file and its ground axes; None for those of its kind.

    Raises:
        InputError: the same axis twice.
    """
    found = _AXES.fullmatch(str(given))
    if not found or found[2] is None:
        return Path(given), None
    axes = (found[2] + found[3]).lower()
    if axes[0] == axes[1]:
        raise InputError(f"{str(given)!r}: east and north are two different axes, as in :xz")
    return Path(found[1]), axes


def is_poses(path: Path) -> bool:
    """Whether a file is one of poses: ``images.bin``, or a ``.txt`` whose first line is of such a form."""
    if not path.is_file():
        return False
    if path.suffix.lower() == ".bin":
        return True
    try:
        return path.suffix.lower() == ".txt" and _kind(read_text(path)) is not None
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


def centres_of(photos: PhotoList, poses: Poses, path: str | Path) -> list[Floats | None]:
    """Each photo's camera centre [3]; None where the file has none for it.

    KITTI's lines go with the photos in order, or with the numbers that some photos are named by; TUM's by
    time (`Photo.time`, else the name as a number), interpolated; COLMAP's by name.

    Raises:
        InputError: numbers of photos and poses differ, or photos have no time.
    """
    if poses.names is not None:
        return _by_name(photos, poses)
    if poses.times is not None:
        return _by_time(photos, poses, path)
    if len(photos) == len(poses):
        return list(poses.centres)
    numbers = [_frame(photo) for photo in photos]
    if len(photos) < len(poses) and all(n is not None and n < len(poses) for n in numbers):
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
    for _, line in _lines(text):
        fields = line.split()
        if len(fields) >= 10 and _numbers(fields[:9]) is not None and _numbers(fields[9:10]) is None:
            return "colmap"
        if _numbers(fields) is None:
            return None
        return {12: "kitti", 8: "tum"}.get(len(fields))
    return None


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
    rows = [_row(path, number, line.split(), 12) for number, line in _lines(text)]
    return Poses("kitti", np.array(rows, np.float64).reshape(-1, 3, 4)[:, :, 3])


def _tum(path: Path, text: str) -> Poses:
    rows: list[list[float]] = []
    for number, line in _lines(text):
        row = _row(path, number, line.split(), 8)
        if rows and row[0] <= rows[-1][0]:
            raise InputError(
                f"{str(path)!r} line {number}: time {row[0]:.6f} is not after the line before "
                f"({rows[-1][0]:.6f}); sort the file by time"
            )
        rows.append(row)
    table = np.array(rows, np.float64).reshape(-1, 8)
    return Poses("tum", table[:, 1:4], times=table[:, 0])


def _colmap_txt(path: Path, text: str) -> Poses:
    names: list[str] = []
    centres: list[Floats] = []
    points = False  # after the line of a photo comes one of its points, which may be empty
    for number, raw in enumerate(lines_of(text), 1):
        line = raw.strip()
        if line.startswith("#"):
            continue
        if points:
            points = False
            continue
        if not line:
            continue
        fields = line.split(maxsplit=9)
        if len(fields) < 10:
            raise InputError(
                f"{str(path)!r} line {number}: a photo of COLMAP has 10 fields (id, quaternion, translation, "
                f"camera, name); this line has {len(fields)}"
            )
        values = _row(path, number, fields[1:8], 7)
        centres.append(_centre(values, f"{str(path)!r} line {number}"))
        names.append(fields[9])
        points = True
    return _colmap(path, names, centres)


def _colmap_bin(path: Path) -> Poses:
    try:
        held = read_bytes(path)
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror or error}") from error
    except MalformedFileError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error}") from error
    names: list[str] = []
    centres: list[Floats] = []
    at = 8
    try:
        (count,) = struct.unpack_from("<Q", held, 0)
        if count > len(held) // 77:  # of one photo, at least
            raise ValueError(f"it tells of {count} photos, more than it has room for")
        for i in range(count):
            values = struct.unpack_from("<I7dI", held, at)
            end = held.index(b"\0", at + 64)
            names.append(held[at + 64 : end].decode("utf-8"))
            centres.append(_centre(list(values[1:8]), f"{str(path)!r} photo {i + 1}"))
            (points,) = struct.unpack_from("<Q", held, end + 1)
            at = end + 9 + 24 * points
        if at != len(held):
            raise ValueError(f"it should have {at} bytes, but has {len(held)}")
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
    length = math.sqrt(w * w + x * x + y * y + z * z)
    if not 0.5 < length < 2:
        raise InputError(f"{where}: {pose[:4]} is no rotation (a quaternion of length 1, w first)")
    w, x, y, z = (value / length for value in (w, x, y, z))
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
    "colmap": _colmap_txt,
}


def _by_name(photos: PhotoList, poses: Poses) -> list[Floats | None]:
    """By the whole name; by the basename where no two of either side share one."""
    names = poses.names or ()
    rows = {name: i for i, name in enumerate(names)}
    if not any(photo.name in rows for photo in photos):
        bases = {name.rsplit("/", 1)[-1]: i for i, name in enumerate(names)}
        own = {photo.name.rsplit("/", 1)[-1] for photo in photos}
        if len(bases) == len(names) and len(own) == len(photos):
            found = [bases.get(photo.name.rsplit("/", 1)[-1]) for photo in photos]
            return [None if i is None else poses.centres[i] for i in found]
    return [poses.centres[rows[photo.name]] if photo.name in rows else None for photo in photos]


def _by_time(photos: PhotoList, poses: Poses, path: str | Path) -> list[Floats | None]:
    times = [photo.time if photo.time is not None else _number(photo) for photo in photos]
    lacking = next((photo for photo, time in zip(photos, times, strict=True) if time is None), None)
    if lacking is not None:
        raise InputError(
            f"{str(path)!r} goes by time, but {lacking.name!r} has none: name photos by their time in "
            f"seconds (1305031102.175304.png), or give it in a CSV file"
        )
    assert poses.times is not None
    return [between(time, poses.times, poses.centres, MOST_SECONDS) for time in times if time is not None]


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


def _stem(photo: Photo) -> str:
    return photo.name.rsplit("/", 1)[-1].rpartition(".")[0]


def _frame(photo: Photo) -> int | None:
    """A video's frame, or the number that a photo of KITTI is named by: six digits."""
    found = re.fullmatch(r"\d{6}", _stem(photo), re.ASCII)
    return int(found[0]) if found and photo.frame is None else photo.frame


def _number(photo: Photo) -> float | None:
    found = re.fullmatch(r"\d+(\.\d+)?", _stem(photo), re.ASCII)
    return float(found[0]) if found else None
