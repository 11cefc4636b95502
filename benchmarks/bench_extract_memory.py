"""Extraction's anonymous memory does not grow with the list: 1,000 and 10,000 photos of 64x64, tiny network.

Each run is a process of its own. Anonymous memory is what the system cannot drop or write back (Linux tells
it in /proc/self/smaps_rollup); file pages, such as the memory-mapped rows, do not count. Its peak is taken
over the reports of the run. D = 4096, so the rows of the longer list alone are 164 MB. ``--quick``: few
photos, to see that it runs; nothing is judged.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

QUICK = sys.argv[1:] == ["--quick"]
COUNTS = (50, 200) if QUICK else (1_000, 10_000)
WORKERS = (2,) if QUICK else (0, 2)
DIMS, SIDE, BATCH = 4096, 64, 8
LIMIT = 1.10
ROLLUP = Path("/proc/self/smaps_rollup")


def anonymous_mib() -> float:
    """Anonymous memory that this process uses now, in MiB."""
    line = next(
        line for line in ROLLUP.read_text(encoding="utf-8").splitlines() if line.startswith("Anonymous:")
    )
    return int(line.split()[1]) / 1024


def run(photos: Path, out: Path, count: int, workers: int) -> None:
    """The child: describe the first `count` photos and print the peak."""
    import torch

    from dejavlad.extraction import extract
    from dejavlad.images import Preprocess
    from dejavlad.photo import Photo, PhotoList
    from dejavlad.progress import Progress

    class Tiny(torch.nn.Module):
        name, fingerprint, precision, descriptor_size, preprocess = "tiny", "0", "fp32", DIMS, Preprocess()

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.out = torch.nn.Conv2d(3, 16, 8, stride=4), torch.nn.Linear(16, DIMS)

        def require_fitted(self) -> None:
            pass

        def describe(self, images: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.normalize(self.out(self.conv(images).amax(dim=(2, 3))))

    peak = 0.0

    def tell(report: Progress) -> None:
        nonlocal peak
        if report.done % 40 == 0 or report.done == report.total:
            peak = max(peak, anonymous_mib())

    torch.manual_seed(0)
    names = [f"{row:05}.jpg" for row in range(count)]
    listed = PhotoList((Photo(name, photos / name) for name in names), root=photos)
    started = time.perf_counter()
    extract(Tiny().eval(), listed, out, batch_size=BATCH, workers=workers, on_progress=tell)
    print(max(peak, anonymous_mib()), time.perf_counter() - started)


def main() -> int:
    if not ROLLUP.exists():
        print(f"extraction memory: SKIPPED, this system has no {ROLLUP}")
        return 0
    grew = 0.0
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)
        photos = Path(folder) / "photos"
        photos.mkdir()
        for row in range(max(COUNTS)):
            image = np.repeat(np.repeat(rng.integers(0, 256, (8, 8, 3), np.uint8), 8, axis=0), 8, axis=1)
            (photos / f"{row:05}.jpg").write_bytes(cv2.imencode(".jpg", image)[1].tobytes())
        for workers in WORKERS:
            peaks = []
            for count in COUNTS:
                out = Path(folder) / f"{count}-{workers}"
                output = subprocess.run(
                    [sys.executable, __file__, str(photos), str(out), str(count), str(workers)],
                    check=True,
                    capture_output=True,
                    text=True,
                )
                peak, seconds = map(float, output.stdout.split())
                peaks.append(peak)
                print(f"  {count:6} photos, {workers} workers: {peak:.1f} MiB anonymous, {seconds:.1f} s")
            grew = max(grew, peaks[-1] / peaks[0])
            print(f"  ratio {peaks[-1] / peaks[0]:.3f}")
    print(f"extraction memory: {'ok' if grew <= LIMIT else 'TOO MUCH'}, at most {grew:.3f} (limit {LIMIT})")
    return int(grew > LIMIT and not QUICK)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        run(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        sys.exit(main())
