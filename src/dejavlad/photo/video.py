"""A video file as photos, one a frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dejavlad.decoders import open_video
from dejavlad.errors import InputError, PhotoError
from dejavlad.photo.photo import Photo, PhotoList

ENDINGS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")
"""Endings that count as a video, in any case."""


def video_photos(path: str | Path, *, step: int = 1) -> PhotoList:
    """The frames of a video; `Photo.time` is in seconds from its beginning.

    Args:
        step: take every step-th frame, from the first.

    Raises:
        InputError: there is no such file, it is no video, or the step is below 1.
    """
    import cv2

    path = Path(path)
    if step < 1:
        raise InputError(f"a video's step is 1 or more frames; given {step}")
    if not path.is_file():
        raise InputError(f"there is no video {str(path)!r}")
    try:
        video = open_video(path)
    except PhotoError as error:
        raise InputError(str(error)) from None
    try:
        frames = _count(video)
        rate = float(video.get(cv2.CAP_PROP_FPS)) if frames else 0.0
    finally:
        video.release()
    if frames < 1:
        raise InputError(f"{str(path)!r} cannot be read as a video, or has no frames")
    return PhotoList(
        (
            Photo(path.name, path, frame=frame, time=frame / rate if rate > 0 else None)
            for frame in range(0, frames, step)
        ),
        root=path.parent,
        name=path.stem,
    )


def _count(video: Any) -> int:
    """How many frames: as its header says, else counted."""
    import cv2

    stated = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    if stated > 0:
        return stated
    counted = 0
    while video.grab():
        counted += 1
    return counted
