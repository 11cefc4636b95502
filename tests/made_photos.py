"""Places of random blocks, each seen twice, a little aside."""

from __future__ import annotations

import functools
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray


def view(place: int, shift: int = 0, height: int = 96, width: int = 128) -> NDArray[np.uint8]:
    """Place number `place` seen `shift` pixels aside: RGB uint8 [height, width, 3]."""
    random = np.random.default_rng(place)
    coarse = random.integers(0, 256, (height // 12 + 1, width // 12 + 4, 3), dtype=np.uint8)
    wall = cv2.resize(coarse, None, fx=12, fy=12, interpolation=cv2.INTER_NEAREST)
    for _ in range(25):
        x, y = random.integers(0, wall.shape[1]), random.integers(0, wall.shape[0])
        radius, colour = int(random.integers(3, 10)), random.integers(0, 256, 3).tolist()
        cv2.circle(wall, (int(x), int(y)), radius, colour, -1)
    return np.ascontiguousarray(wall[:height, shift : shift + width])


def encode(rgb: NDArray[np.uint8], suffix: str) -> bytes:
    """The bytes of a file that ends so."""
    done, data = cv2.imencode(suffix, rgb[:, :, ::-1])
    assert done
    return data.tobytes()


def write(path: Path, rgb: NDArray[np.uint8]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(rgb, path.suffix))
    return path


@functools.cache
def _street_photo(place: int, shift: int) -> bytes:
    return encode(view(place, shift), ".png")


def write_street(folder: Path, places: int = 12) -> Path:
    """A folder with `database` (places 0 to 11) and `queries` (the same, seen 5 pixels aside)."""
    for part, shift in (("database", 0), ("queries", 5)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        for place in range(places):
            (folder / part / f"{place:02d}.png").write_bytes(_street_photo(place, shift))
    return folder
