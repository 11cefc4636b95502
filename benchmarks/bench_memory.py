"""One process builds a map of many photos and locates many: what it holds in memory on the way.

    python benchmarks/bench_memory.py --built 5000 --located 2000 --folder /tmp/memory

Photos are small and made; the model is the handcrafted one. Printed are the resident memory and, of it, what
the system cannot drop (anonymous), at the start, at tenths of building and locating, and at the end; the
slope says how much a further photo costs. Linux alone tells these (``/proc/self/smaps_rollup``).
"""

from __future__ import annotations

import argparse
import gc
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

import dejavlad as dv
from dejavlad.aggregation import GeM
from dejavlad.model import PlaceModel
from dejavlad.progress import Progress

ROLLUP = Path("/proc/self/smaps_rollup")
MOST_A_PHOTO = 4096
"""Bytes that each further photo may cost where it is described: its row of 512 bytes, its name and place."""
MOST_A_QUERY = 1024
"""Bytes that may stay of each photo located in a loop."""


def memory_mib() -> tuple[float, float]:
    """Resident and anonymous memory, in MiB."""
    lines = dict(
        line.split(":", 1) for line in ROLLUP.read_text(encoding="utf-8").splitlines() if "kB" in line
    )
    return tuple(int(lines[name].split()[0]) / 1024 for name in ("Rss", "Anonymous"))  # type: ignore[return-value]


def photo(path: Path, number: int) -> None:
    """A made photo of 64 x 48 pixels: blobs of its own."""
    rng = np.random.default_rng(number)
    small = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    cv2.imwrite(str(path), cv2.resize(small, (64, 48), interpolation=cv2.INTER_CUBIC))


def slope(points: list[tuple[int, float]]) -> float:
    """Bytes a photo, by least squares over the second half."""
    late = np.array(points[len(points) // 2 :], np.float64)
    return float(np.polyfit(late[:, 0], late[:, 1] * (1 << 20), 1)[0]) if len(late) > 1 else 0.0


def tell(what: str, done: int, points: list[tuple[int, float]]) -> None:
    """Measure and print."""
    gc.collect()
    resident, anonymous = memory_mib()
    points.append((done, anonymous))
    print(f"{what:10s} {done:6d}  resident {resident:8.1f} MiB  anonymous {anonymous:8.1f} MiB", flush=True)


def every(count: int, what: str, points: list[tuple[int, float]]) -> Callable[[Progress], None]:
    """A report at each tenth."""
    step, seen = max(1, count // 10), [0]

    def report(progress: Progress) -> None:
        if progress.total == count and progress.done // step > seen[0]:
            seen[0] = progress.done // step
            tell(what, progress.done, points)

    return report


def main() -> None:
    """Build, locate, and print the figures; status 1 where memory grows with the photos."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--built", type=int, default=5000)
    parser.add_argument("--located", type=int, default=2000)
    parser.add_argument("--folder", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    folder = given.folder / "bench_memory"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "photos").mkdir(parents=True)
    for number in range(given.built):
        photo(folder / "photos" / f"{number:05d}.png", number)
    base = dv.load_model("rootsift-vlad", device="cpu", resize="none")
    model = PlaceModel(base.backbone, GeM(128), base.preprocess, fitted=True, source=base.source)
    built: list[tuple[int, float]] = []
    located: list[tuple[int, float]] = []
    listed = dv.photos(folder / "photos")
    tell("start", 0, [])
    town = dv.PlaceMap.build(
        model, listed, folder / "map", batch_size=8, on_progress=every(given.built, "built", built)
    )
    tell("built", given.built, built)
    step = max(1, given.located // 10)
    wrong = 0
    for number in range(given.located):
        query = listed[number * 7919 % given.built]
        (answer,) = town.locate([query.path], k=5, verify=None)
        wrong += answer.matches[0].name != query.name
        if (number + 1) % step == 0:
            tell("located", number + 1, located)
    print(f"wrong first answers: {wrong} of {given.located} photos of the map itself")
    a_photo, a_query = slope(built[:-1]), slope(located)
    print(f"growth in the second half: {a_photo:.0f} bytes a photo built, {a_query:.0f} a photo located")
    shutil.rmtree(folder)
    raise SystemExit(int(a_photo > MOST_A_PHOTO or a_query > MOST_A_QUERY or wrong > 0))


if __name__ == "__main__":
    main()
