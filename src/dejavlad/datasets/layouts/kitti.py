"""KITTI odometry (Geiger et al., CVPR 2012): drives with poses, each compared with itself.

::

    ROOT/sequences/00/image_2/000000.png ...      (or image_0: the grey camera, image_1, image_3)
    ROOT/sequences/00/times.txt                   seconds, a line a frame
    ROOT/poses/00.txt                             of 00 to 10; the others' are withheld

East is x and north is z of the first camera. Right is a frame within 5 m, and the 250 frames before and after
a query do not count, as in the TensorFlow port of NetVLAD (which compares distances in space, and excludes
the radius itself: `dejavlad.evaluation.loops.both_ways`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from dejavlad.errors import InputError
from dejavlad.geo import Position
from dejavlad.ground_truth.place import PlaceDataset
from dejavlad.ground_truth.refine import without_window
from dejavlad.ground_truth.truth import truth_positions
from dejavlad.photo import PhotoList
from dejavlad.photo.folder import folder_photos
from dejavlad.photo.listing import lines_of, read_text
from dejavlad.positions.poses import GROUND, centres_of, ground, read_poses

_FRAMES: Final = (4541, 1101, 4661, 801, 271, 2761, 1101, 1101, 4071, 1591, 1201)
FRAMES: Final = {f"{i:02d}": count for i, count in enumerate(_FRAMES)}
"""Sequence with poses -> its frames."""
SEQUENCES: Final = tuple(f"{i:02d}" for i in range(22))
CAMERAS: Final = ("image_2", "image_0", "image_3", "image_1")
"""The folders of the four cameras, colour before grey, in order of preference."""
RADIUS: Final = 5.0
"""Metres within which a frame is right."""
WINDOW: Final = 250
"""Frames before and after a query that do not count."""


def open_kitti(root: str | Path, sequence: str, *, name: str) -> PlaceDataset:
    """A sequence of KITTI odometry: each frame is a query among all the others.

    Args:
        root: the folder that holds ``sequences`` and ``poses``.
        sequence: ``00`` to ``21``; from ``11`` on without truth.

    Raises:
        InputError: there are no photos, or poses or times of another number of frames.
    """
    root = Path(root)
    drive = root / "sequences" / sequence
    folder = next((drive / camera for camera in CAMERAS if (drive / camera).is_dir()), None)
    if folder is None:
        raise InputError(f"{name}: there is no {str(drive / CAMERAS[0])!r} (nor another camera's folder)")
    frames = folder_photos(folder, name=f"{name}:database")
    if (times := drive / "times.txt").is_file():
        frames = _timed(frames, times)
    poses = root / "poses" / f"{sequence}.txt"
    if not poses.is_file():
        if sequence in FRAMES:
            raise InputError(f"{name}: there is no {str(poses)!r}; unpack the archive of poses there")
        return PlaceDataset(name, frames, _queries(frames, name))
    centres = centres_of(frames, read_poses(poses), poses)
    placed = []
    for photo, centre in zip(frames, centres, strict=True):
        at = None if centre is None else Position(*ground(centre, GROUND["kitti"]))
        placed.append(replace(photo, position=at))
    frames = frames.like(placed)
    queries = _queries(frames, name)
    truth = without_window(truth_positions(frames, queries, RADIUS), WINDOW)
    return PlaceDataset(name, frames, queries, truth, f"positions:{RADIUS:g}, not {WINDOW} around")


def _queries(frames: PhotoList, name: str) -> PhotoList:
    return frames.like(frames, name=f"{name}:queries")


def _timed(frames: PhotoList, path: Path) -> PhotoList:
    numbers = [line.strip() for line in lines_of(read_text(path)) if line.strip()]
    if len(numbers) != len(frames):
        raise InputError(f"{str(path)!r} holds {len(numbers)} times, {frames.name} {len(frames)} frames")
    try:
        times = [float(line) for line in numbers]
    except ValueError as error:
        raise InputError(f"{str(path)!r}: {error}") from None
    return frames.like(replace(photo, time=time) for photo, time in zip(frames, times, strict=True))
