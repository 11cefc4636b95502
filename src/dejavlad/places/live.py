"""A camera or a video compared, frame by frame, with one reference photo."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np

from dejavlad.decoders import open_camera, open_video
from dejavlad.errors import InputError
from dejavlad.images import measure_content, read_image
from dejavlad.photo import Photo
from dejavlad.places.pair import PairMatch, PairMatcher, Patched

KNOWN = {"ransac": 0.004, "rapid": 0.05}
"""Matcher -> agreement from which on a frame counts as the reference's place."""
CHANCE = 16
"""Matching patches a size below which it never does: a homography explains about 10 of any two photos."""
TRIES = 30
"""Reads in a row that may fail before a source counts as ended, where it should have gone on."""


class Frames:
    """Every N-th frame of a video file or a camera; frames that cannot be decoded are passed over.

    Use it in a ``with`` block.

    Args:
        source: a video file, or the number of a camera.

    Raises:
        InputError: N below 1.
        PhotoError: there is no such video or camera.
    """

    def __init__(self, source: Path | int, *, every: int = 1) -> None:
        if every < 1:
            raise InputError(f"--every {every}: give 1 or more")
        self.source, self.every = source, every
        self.read = self.failed = 0
        self._capture: Any = open_camera(source) if isinstance(source, int) else open_video(source)

    @property
    def name(self) -> str:
        """What frames are called."""
        return f"camera {self.source}" if isinstance(self.source, int) else self.source.as_posix()

    @property
    def rate(self) -> float:
        """Frames a second, as the source says; 25 where it does not."""
        import cv2

        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        return rate if 0 < rate < 1000 else 25.0

    @property
    def count(self) -> int:
        """Frames in all, as a file says; 0 where that is not known."""
        import cv2

        return 0 if isinstance(self.source, int) else max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._capture.release()

    def __iter__(self) -> Iterator[Photo]:
        missed = 0
        while missed < TRIES:
            grabbed = self._capture.grab()
            if not grabbed and not isinstance(self.source, int) and self.read >= self.count:
                return
            frame = self.read
            self.read += 1
            if grabbed and frame % self.every:
                missed = 0
                continue
            good, bgr = self._capture.retrieve() if grabbed else (False, None)
            if not good or bgr is None:
                missed += 1
                self.failed += 1
                continue
            missed = 0
            rgb = np.ascontiguousarray(bgr[:, :, ::-1])
            yield Photo(self.name, Path(self.name), frame=frame, pixels=rgb)


@dataclass(frozen=True, slots=True, eq=False)
class LiveFrame:
    """One frame, compared."""

    number: int
    """Of the frame, from 0."""
    pair: PairMatch
    """The reference plays the query."""
    known: bool
    """Whether it shows the reference's place."""
    rate: float
    """Frames compared a second, over the last few."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "frame": self.number,
            "score": self.pair.score,
            "agreement": self.pair.agreement,
            "inliers": list(self.pair.inliers),
            "known": self.known,
            "blank": bool(self.pair.blank),
            "frames_per_second": round(self.rate, 3),
        }

    def __str__(self) -> str:
        inliers = " + ".join(f"{n:,}" for n in self.pair.inliers)
        text = "known place" if self.known else "unknown"
        if self.pair.blank:
            text = (
                "shows nothing"
                if self.pair.candidate.key in self.pair.blank
                else "the reference shows nothing"
            )
        return (
            f"frame {self.number}: {text}, score {self.pair.score:.5f}, {inliers} patches match, "
            f"{self.rate:.2f} frames/s"
        )


class Live:
    """Compares frames with a reference, which may be changed at any time.

    Args:
        matcher: of a fitted model.
        reference: a photo; it plays the query.
        known_from: agreement (`PairMatch.agreement`, 1 being the same photo) from which on a frame counts as
            known; default: as `KNOWN` has it.

    Raises:
        PhotoError: the reference cannot be read.
        InputError: it has too few cells for a patch.
    """

    def __init__(self, matcher: PairMatcher, reference: Photo, *, known_from: float | None = None) -> None:
        self.matcher = matcher
        self.known_from = KNOWN.get(matcher.setting.matcher, 0.05) if known_from is None else known_from
        self.compared = self.known = 0
        self.blank = 0
        """Frames that show nothing: they are never known."""
        self._began: list[float] = []
        self._last: Patched | None = None
        self._reference = matcher.look([reference])[0]

    @property
    def reference(self) -> Photo:
        """What frames are compared with."""
        return self._reference.photo

    def take_reference(self) -> None:
        """Make the frame compared last the reference."""
        if self._last is not None:
            self._reference = self._last

    def compare(self, frame: Photo) -> LiveFrame:
        """Compare one frame.

        Raises:
            InputError: it has too few cells for a patch.
        """
        self._began = [*self._began[-9:], time.perf_counter()]
        self._last = self.matcher.look([frame])[0]
        pair = self.matcher.compare(self._reference, self._last)
        known = pair.agreement >= self.known_from and sum(pair.inliers) >= CHANCE * len(pair.inliers)
        known &= not pair.blank
        self.compared += 1
        self.blank += bool(self._last.blank)
        self.known += known
        spent = max(1e-9, time.perf_counter() - self._began[0])
        return LiveFrame(frame.frame or 0, pair, known, len(self._began) / spent)


def reference_photo(given: str | None, source: Path | int) -> Photo | None:
    """The reference that a user names: a file, or the number of a frame of a video.

    Args:
        given: None for the first frame.
        source: a video file, or the number of a camera.

    Returns:
        None where it is the first frame that comes.

    Raises:
        InputError: a frame's number, but the source is a camera.
        PhotoError: the frame cannot be read.
    """
    if given is not None and not given.isdecimal():
        return Photo(Path(given).as_posix(), Path(given))
    if given is None:
        return None
    if isinstance(source, int):
        raise InputError(f"--reference {given}: frames of a camera have no numbers; give a photo, or nothing")
    pixels = read_image(Photo(source.as_posix(), source, frame=int(given)))
    return Photo(source.as_posix(), source, frame=int(given), pixels=pixels)


def shows_anything(frame: Photo) -> bool:
    """Whether a frame of `Frames` is not black, or of one colour."""
    return frame.pixels is None or measure_content(frame.pixels).shows_anything


def spread_frames(video: Path, most: int) -> list[Photo]:
    """A few frames, evenly spread over a video; those that cannot be read are left out."""
    with Frames(video) as frames:
        every = max(1, frames.count // most)
    with Frames(video, every=every) as frames:
        return list(islice(frames, most))
