"""A window for live pictures, where OpenCV has one and there is a screen."""

from __future__ import annotations

import os
import sys

import cv2
import numpy as np
from numpy.typing import NDArray

TITLE = "dejavlad match: n = new reference, q = quit"


class Window:
    """One window; `show` also tells which key was pressed."""

    @classmethod
    def open(cls) -> Window | None:
        """A window, or None where there can be none."""
        if sys.platform.startswith("linux") and not (
            os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        ):
            return None
        try:
            cv2.namedWindow(TITLE, cv2.WINDOW_AUTOSIZE)
        except cv2.error:  # the headless build has none
            return None
        return cls()

    def show(self, picture: NDArray[np.uint8]) -> str:
        """Show RGB pixels; the key pressed meanwhile, ``"q"`` where the window was closed."""
        cv2.imshow(TITLE, np.ascontiguousarray(picture[:, :, ::-1]))
        key = cv2.waitKey(1) & 0xFF
        if cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) < 1:
            return "q"
        return "" if key == 0xFF else chr(key).lower()

    def close(self) -> None:
        """Close it."""
        cv2.destroyWindow(TITLE)
