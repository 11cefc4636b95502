"""Perspective views of an equirectangular panorama.

A panorama of W pixels shows 360 degrees in its width, so that the focal length of a view with the panorama's
own resolution in its middle is W / (2 pi) pixels.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray

from dejavlad.photo.photo import View

Pixels = NDArray[np.uint8]

HELD = 2
"""Decoded panoramas that are kept, as all views of one are asked for in a row."""


def view_size(width: int, view: View) -> tuple[int, int]:
    """Height and width of a view of a panorama that is `width` pixels wide; four to three."""
    across = 2 * width / (2 * math.pi) * math.tan(math.radians(view.fov) / 2)
    return max(1, round(across * 3 / 4)), max(1, round(across))


def shows(width: int, height: int, view: View) -> bool:
    """Whether a panorama reaches as far up and down as a view in its middle."""
    across = math.tan(math.radians(view.fov) / 2)
    return math.atan(across * 3 / 4) <= math.pi * height / width


def view_of(panorama_HWC: Pixels, view: View) -> Pixels:
    """One view, bilinear, as a camera at the panorama's place with a level lens would take it.

    Args:
        panorama_HWC: uint8 [H, W, 3], equirectangular; its middle is straight ahead. One that is wider than
            two to one shows what lies around the horizon.
        view: where to look.

    Returns:
        uint8 [h, w, 3]; `view_size` tells h and w.
    """
    import cv2

    height, width = panorama_HWC.shape[:2]
    h, w = view_size(width, view)
    focal = w / 2 / math.tan(math.radians(view.fov) / 2)
    x_w = ((np.arange(w) + 0.5 - w / 2) / focal)[None, :]
    y_h1 = ((np.arange(h) + 0.5 - h / 2) / focal)[:, None]
    longitude_w = np.arctan(x_w) + math.radians(view.yaw)
    latitude_hw = -np.arctan(y_h1 / np.hypot(x_w, 1.0))
    column_w = (longitude_w / (2 * math.pi) + 0.5) * width - 0.5
    if abs(width - 2 * height) <= 2:
        row_hw = (0.5 - latitude_hw / math.pi) * height - 0.5
    else:
        row_hw = height / 2 - latitude_hw * width / (2 * math.pi) - 0.5
    first, last = math.floor(column_w.min()), math.ceil(column_w.max()) + 1
    top, bottom = max(0, math.floor(row_hw.min())), min(height, math.ceil(row_hw.max()) + 1)
    seen = panorama_HWC[top:bottom].take(np.arange(first, last + 1) % width, axis=1)
    columns_hw = np.broadcast_to(column_w - first, (h, w)).astype(np.float32)
    rows_hw = (row_hw - top).astype(np.float32)
    taken = cv2.remap(seen, columns_hw, rows_hw, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(taken, np.uint8)


class Panoramas:
    """Decodes a panorama once for all its views, whichever threads ask for them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._decoded: OrderedDict[Hashable, Future[Pixels]] = OrderedDict()

    def get(self, key: Hashable, decode: Callable[[], Pixels]) -> Pixels:
        """What `decode` gives for `key`; one that fails is decoded anew the next time."""
        with self._lock:
            future = self._decoded.get(key)
            is_first = future is None
            if future is None:
                future = self._decoded[key] = Future()
                while len(self._decoded) > HELD:
                    self._decoded.popitem(last=False)
        if is_first:
            try:
                future.set_result(decode())
            except BaseException as error:
                with self._lock:
                    self._decoded.pop(key, None)
                future.set_exception(error)
                raise
        return future.result()
