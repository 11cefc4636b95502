"""Places of random blocks, each seen twice, a little aside."""

from __future__ import annotations

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


def write(path: Path, rgb: NDArray[np.uint8]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(path.suffix, rgb[:, :, ::-1])
    assert done
    path.write_bytes(data.tobytes())
    return path


def write_street(folder: Path, places: int = 12) -> Path:
    """A folder with `database` (places 0 to 11) and `queries` (the same, seen 5 pixels aside)."""
    for place in range(places):
        write(folder / "database" / f"{place:02d}.png", view(place))
        write(folder / "queries" / f"{place:02d}.png", view(place, 5))
    return folder
