"""Frames compared with a reference, drawn: one picture a frame, and a video of them."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dejavlad.errors import InputError, StoreError
from dejavlad.images import read_image
from dejavlad.places.live import LiveFrame
from dejavlad.report.figures.drawing import PAPER, Pixels, Place, draw_pair

CODECS = {".mp4": "mp4v", ".avi": "MJPG"}
"""Ending -> what a video is written as."""
WIDTH, HIGHEST, STRIP = 1280, 600, 64
"""Of a picture, of its photos, and of the line below them, in pixels."""
LINES = 40
GOOD, UNSURE, SOFT = (10, 122, 92), (185, 56, 21), (86, 96, 114)


def live_picture(frame: LiveFrame, *, rotate: bool = True) -> Pixels:
    """The reference and a frame, lines between their patches of the size that matches most, and the score.

    Args:
        frame: a frame, compared.
        rotate: as the model reads photos: ``model.preprocess.rotate``.

    Returns:
        RGB uint8 [H, 1280, 3], both sides even.
    """
    pair = frame.pair
    query, candidate = read_image(pair.query, rotate=rotate), read_image(pair.candidate)
    place = Place.of(query.shape[:2], candidate.shape[:2], WIDTH - 24, HIGHEST)
    at = max(range(len(pair.matches)), key=lambda i: pair.inliers[i] / pair.counts[i])
    row = draw_pair(
        query,
        candidate,
        pair.matches[at],
        pair.query_size,
        pair.candidate_size,
        place,
        side=pair.sides[at],
        most=LINES,
    )
    picture = np.full(((12 + row.shape[0] + STRIP) // 2 * 2, WIDTH, 3), PAPER, np.uint8)
    picture[12 : 12 + row.shape[0], 12 : WIDTH - 12] = row[:, : WIDTH - 24]
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    top = picture.shape[0] - STRIP + 18
    bold, small = ImageFont.load_default(26), ImageFont.load_default(19)
    verdict = f"{'known place' if frame.known else 'unknown'}   {pair.score:.5f}"
    draw.text((16, top), verdict, GOOD if frame.known else UNSURE, bold)
    inliers = " + ".join(f"{n:,}" for n in pair.inliers)
    beside = f"{inliers} patches match   ·   frame {frame.number}   ·   {frame.rate:.1f} frames/s"
    draw.text((16 + draw.textlength(verdict, bold) + 28, top + 5), beside, SOFT, small)
    return np.array(image)


class MatchVideo:
    """A video of `live_picture`, written whole: what is at its path is replaced when it is closed.

    Use it in a ``with`` block.

    Args:
        path: ending in .mp4 or .avi.
        rate: frames a second.

    Raises:
        InputError: another ending.
    """

    def __init__(self, path: Path, rate: float) -> None:
        if path.suffix.lower() not in CODECS:
            raise InputError(
                f"a video is written as {' or '.join(CODECS)}; given {path.name!r}: choose such an ending"
            )
        self.path, self.rate = path, rate
        self._partial = path.with_name(f"{path.stem}.partial{path.suffix}")
        self._writer: Any = None
        self._size = (0, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(keep=error is None)

    def write(self, picture: Pixels) -> None:
        """Add a picture; all are brought to the size of the first.

        Raises:
            StoreError: a video of this kind cannot be written here.
        """
        height, width = picture.shape[:2]
        if self._writer is None:
            self._size = (width, height)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            codec = cv2.VideoWriter.fourcc(*CODECS[self.path.suffix.lower()])
            self._writer = cv2.VideoWriter(str(self._partial), codec, self.rate, self._size)
            if not self._writer.isOpened():
                raise StoreError(f"cannot write a video to {str(self.path)!r}; try another folder, or .avi")
        if (width, height) != self._size:
            picture = np.asarray(cv2.resize(picture, self._size), dtype=np.uint8)
        self._writer.write(np.ascontiguousarray(picture[:, :, ::-1]))

    def close(self, *, keep: bool = True) -> None:
        """Finish the file, or throw it away; without a picture there is none."""
        if self._writer is None:
            return
        opened = self._writer.isOpened()
        self._writer.release()
        self._writer = None
        if opened and keep:
            os.replace(self._partial, self.path)
        else:
            self._partial.unlink(missing_ok=True)
