"""Making a town: photos a second, by this process alone and by one worker for each core.

``--quick``: as few as a town may have, to see that it runs.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from _timing import processor
from dejavlad.town import make_town

PHOTOS = 60 if "--quick" in sys.argv else 200


def seconds(workers: int) -> float:
    """How long `PHOTOS` photos of 320x240 take."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        make_town(Path(folder) / "town", photos=PHOTOS, workers=workers)
        return time.perf_counter() - start


def main() -> None:
    cores = os.cpu_count() or 1
    print(f"{PHOTOS} photos of 320x240; {processor()}")
    alone, together = seconds(0), seconds(cores)
    print(f"  alone                {alone:6.1f} s  {PHOTOS / alone:6.1f} photos/s")
    print(f"  {cores} workers            {together:6.1f} s  {PHOTOS / together:6.1f} photos/s")
    print(f"  ratio {alone / together:.2f}; 1,000 photos in about {together * 1000 / PHOTOS:.0f} s or less")


if __name__ == "__main__":
    main()
