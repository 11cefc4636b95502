"""The GPS and inertial unit of KITTI's raw drives as positions.

::

    DRIVE/oxts/data/0000000000.txt       latitude, longitude, altitude, roll, pitch, yaw ... of frame 0
    DRIVE/oxts/timestamps.txt            a date and time, line i of frame i
    DRIVE/image_02/data/0000000000.png
    DRIVE/image_02/timestamps.txt

In the synchronised drives frame i of a camera goes with file i. Where there are other numbers of them, as in
the drives as recorded, they go by their times.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from dejavlad.errors import InputError
from dejavlad.geo import Position, utm_from_latlon
from dejavlad.photo import Photo, PhotoList
from dejavlad.photo.listing import read_text
from dejavlad.positions.frame_times import frame_number, frame_times, read_times

MOST_SECONDS: Final = 0.1
"""Seconds between a frame and the reading that it gets."""


def oxts_folder(given: str | Path) -> Path | None:
    """The folder ``oxts`` of a drive, where `given` is that folder or the drive's; else None."""
    for folder in (Path(given), Path(given) / "oxts"):
        if (folder / "data").is_dir() and next(folder.glob("data/*.txt"), None) is not None:
            return folder
    return None


def oxts_above(photos: PhotoList) -> Path | None:
    """The folder ``oxts`` of the drive whose frames these are; None where they are of none."""
    if not photos or any(frame_number(photo) is None or photo.frame is not None for photo in photos):
        return None
    for above in list(photos[0].path.absolute().parents)[1:3]:
        if (above / "oxts" / "data").is_dir():
            return oxts_folder(above)
    return None


def placed_by_oxts(photos: PhotoList, folder: Path) -> list[Photo | None]:
    """The photos with the position, heading and time of their frame; None where it has no reading.

    Raises:
        InputError: a photo is not named by its frame's number, or a reading cannot be used.
    """
    files = sorted(folder.glob("data/*.txt"))
    if not files:
        raise InputError(f"{str(folder)!r} holds no readings as data/0000000000.txt")
    readings = {int(path.stem): path for path in files if path.stem.isdigit()}
    stamps = folder / "timestamps.txt"
    times = np.array(read_times(stamps)) if stamps.is_file() else np.empty(0)
    own = frame_times(photos)
    by_time = len(photos) != len(readings) and len(times) == len(readings) and None not in own
    numbers = sorted(readings)
    placed: list[Photo | None] = []
    for photo, time in zip(photos, own, strict=True):
        number = frame_number(photo)
        if by_time and time is not None:
            nearest = int(np.abs(times - time).argmin())
            number = numbers[nearest] if abs(times[nearest] - time) <= MOST_SECONDS else None
        elif number is None:
            raise InputError(
                f"{photo.name!r} is not named by its frame's number, as 0000000000.png, which "
                f"{str(folder)!r} goes by"
            )
        if number not in readings:
            placed.append(None)
            continue
        position, heading = _reading(readings[number])
        placed.append(replace(photo, position=position, heading=heading, time=time))
    return placed


def _reading(path: Path) -> tuple[Position, float]:
    """Where, and the compass heading; yaw is counted from east, against the clock."""
    fields = re.split(r"\s+", read_text(path).strip())
    try:
        lat, lon, yaw = (float(fields[i]) for i in (0, 1, 5))
    except (ValueError, IndexError):
        raise InputError(
            f"{str(path)!r} is no reading of KITTI's oxts (latitude, longitude ... yaw)"
        ) from None
    if not math.isfinite(yaw):
        raise InputError(f"{str(path)!r}: yaw is no finite number")
    return utm_from_latlon(lat, lon), (90 - math.degrees(yaw)) % 360
