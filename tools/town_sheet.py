"""A sheet of photos of a made town, from all of its drives, as ``docs/town.jpg``.

``python tools/town_sheet.py TOWN OUT.jpg``
"""

from __future__ import annotations

import sys
from itertools import islice, zip_longest
from pathlib import Path

import cv2
import numpy as np

PHOTOS, ACROSS, WIDTH = 24, 6, 1500


def sheet(town: Path) -> np.ndarray:
    """uint8 BGR [H, W, 3]: photos drawn from the drives by turns."""
    if not (town / "town.json").is_file():
        sys.exit(f"there is no made town in {str(town)!r}; `dejavlad dataset town --out {town}` makes it")
    drives = [sorted(folder.glob("*.jpg")) for folder in sorted(town.glob("*/*/*")) if folder.is_dir()]
    rng = np.random.default_rng(len(drives))
    for photos in drives:
        rng.shuffle(photos)
    drawn = islice((photo for photos in zip_longest(*drives) for photo in photos if photo), PHOTOS)
    images = [cv2.imread(str(photo)) for photo in drawn]
    images += [np.full_like(images[0], 255)] * (-len(images) % ACROSS)
    rows = [np.hstack(images[start : start + ACROSS]) for start in range(0, len(images), ACROSS)]
    whole = np.vstack(rows)
    scale = min(1.0, WIDTH / whole.shape[1])
    return cv2.resize(whole, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


if __name__ == "__main__":
    source, target = sys.argv[1:]
    cv2.imwrite(target, sheet(Path(source)), [cv2.IMWRITE_JPEG_QUALITY, 80])
