"""How long decoding and preparing a photo of 12 and of 48 megapixels takes, whole and at a reduced scale.

    python benchmarks/bench_decode.py [PHOTO] [--side 480]

A photo is enlarged to the size wanted (soft noise unless one is given) and written as JPEG of quality 90.
Seconds of processor time of one thread, the least of several; how far the pixels are from those of the whole.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from dejavlad.images import Preprocess, load_batches
from dejavlad.photo import Photo

SIZES = {12: (3000, 4000), 48: (6000, 8000)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photo", nargs="?", type=Path)
    parser.add_argument("--side", type=int, default=480)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    noise = np.random.default_rng(0).integers(0, 256, (750, 1000, 3), dtype=np.uint8)
    source = Image.open(given.photo).convert("RGB") if given.photo else Image.fromarray(noise)
    with tempfile.TemporaryDirectory() as folder:
        for megapixels, (height, width) in SIZES.items():
            path = Path(folder) / f"{megapixels}.jpg"
            source.resize((width, height), Image.Resampling.BICUBIC).save(path, quality=90)
            photo = Photo(path.name, path)
            spent, images = {}, {}
            for reduce in (False, True):
                how = Preprocess(resize=f"longest:{given.side}", scale="0-255", reduce=reduce)
                times = []
                for _ in range(given.repeats):
                    started = time.process_time()
                    (batch,) = load_batches([photo], [np.array([0])], how)
                    times.append(time.process_time() - started)
                spent[reduce], images[reduce] = min(times), batch.images[0]
            apart = np.abs(images[True] - images[False])
            print(
                f"{megapixels} megapixels to {given.side}: whole {spent[False]:.3f} s, reduced "
                f"{spent[True]:.3f} s ({spent[False] / spent[True]:.1f} times); pixels {apart.mean():.2f} of "
                f"255 apart, 99 % within {np.percentile(apart, 99):.1f}"
            )


if __name__ == "__main__":
    main()
