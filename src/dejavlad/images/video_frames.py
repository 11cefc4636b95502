"""Frames of a video, read in order as far as that can be."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dejavlad.decoders import open_video
from dejavlad.errors import PhotoError

Pixels = NDArray[np.uint8]


class VideoReader(threading.local):
    """The video that this thread read last, kept open, with its last frame.

    Frames are counted from the start, as containers seek to the wrong one at times: asked for in order they
    cost one pass over the video, asked for backwards one pass each. Where a video ends is remembered, so that
    the frames which one cut short only claims cost nothing.
    """

    opened: tuple[Path, int, int] | None = None
    capture: Any = None
    next: int = 0
    last: tuple[int, Pixels] | None = None
    end: int | None = None

    def size(self, path: Path) -> tuple[int, int]:
        """Height and width of its frames."""
        import cv2

        self._open(path)
        return (
            int(self.capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
            int(self.capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
        )

    def read(self, path: Path, frame: int) -> Pixels:
        """Frame number `frame`, from 0."""
        self._open(path)
        if self.last is not None and self.last[0] == frame:
            return self.last[1].copy()
        if 0 <= frame < self.next and not self._is_beyond(frame):
            self._start()
        while frame >= self.next and not self._is_beyond(frame):
            if self.capture.grab():
                self.next += 1
            else:
                self.end = self.next
        if self._is_beyond(frame):
            raise PhotoError(path, f"frame {frame} cannot be read: the video ends after {self.end} frames")
        good, bgr = self.capture.retrieve() if frame >= 0 else (False, None)
        if not good or bgr is None:
            raise PhotoError(path, f"frame {frame} cannot be read")
        self.last = frame, np.ascontiguousarray(bgr[:, :, ::-1])
        return self.last[1].copy()

    def close(self) -> None:
        """Let go of the file."""
        if self.capture is not None:
            self.capture.release()
        self.opened, self.capture, self.next, self.last, self.end = None, None, 0, None, None

    def _is_beyond(self, frame: int) -> bool:
        return self.end is not None and frame >= self.end

    def _start(self) -> None:
        """Read it from its start again."""
        assert self.opened is not None
        self.capture.release()
        self.capture, self.next, self.last = open_video(self.opened[0]), 0, None

    def _open(self, path: Path) -> None:
        try:
            status = path.stat()
            wanted = path, status.st_mtime_ns, status.st_size
        except OSError:
            wanted = path, 0, 0  # open_video says what is wrong
        if self.opened != wanted:
            self.close()
            self.capture = open_video(path)
            self.opened = wanted
