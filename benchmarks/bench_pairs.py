"""`dejavlad pairs` of very many photos: how much memory finding each photo's neighbours takes.

    python benchmarks/bench_pairs.py --photos 100000 --queries 20000 --index 1bit --folder /tmp/pairs

Rows are made as in ``bench_scale.py`` and lie on disk, memory-mapped. What is private to the process and what
the system may drop again (pages of the mapped rows) are told apart; names and answers of all are among it.
"""

from __future__ import annotations

import argparse
import threading
import time
from pathlib import Path

import numpy as np

from bench_scale import blocks, table
from dejavlad.extraction import DescriptorStore
from dejavlad.places.neighbours import neighbours


def memory(name: str) -> float:
    """A line of the system's about this process, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    return float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photos", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=0, help="0: each photo is one")
    parser.add_argument("--dims", type=int, default=512)
    parser.add_argument("--index", default="exact")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/pairs"))
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    path, shape = given.folder / "rows.f4", (given.photos, given.dims)
    if not path.exists() or path.stat().st_size != 4 * given.photos * given.dims:
        with open(path, "wb") as file:
            for _, rows in blocks(*shape):
                file.write(rows.tobytes())
    rows = np.memmap(path, np.float32, "r", shape=shape)

    def store(count: int) -> DescriptorStore:
        return DescriptorStore.from_arrays(rows[:count], table(np.arange(count)).photos)

    database = store(given.photos)
    queries = store(given.queries) if given.queries else database
    before, most, done = memory("RssAnon"), [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            most[0] = max(most[0], memory("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    wall, used = time.perf_counter(), time.process_time()
    names = neighbours(database, queries, 20, given.index)
    wall, used = time.perf_counter() - wall, time.process_time() - used
    done.set()
    watcher.join()
    print(
        f"{given.photos} x {given.dims}, {len(queries)} queries, {given.index}: {len(names)} answered in "
        f"{wall:.0f} s (cpu {used:.0f}); private {before:.0f} MB before, {most[0]:.0f} at most; "
        f"{memory('VmHWM'):.0f} MB with mapped pages"
    )


if __name__ == "__main__":
    main()
