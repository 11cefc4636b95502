"""A map in LanceDB beside one in a folder: the same rows, the same questions, in one run.

    python benchmarks/bench_lance.py --folder /tmp/bench_lance --sizes 20000,100000
    python benchmarks/bench_lance.py --folder /tmp/bench_lance --kills 60

Rows are random directions whose values fall off as 1/sqrt(i), as those of whitened descriptors do not: both
searches read every row, so that what it costs does not depend on them. Told are processor seconds (user and
system, all threads) and their ratio to the folder map's. With ``--kills``, a process that adds three photos a
commit, removes some and joins files is killed at random moments while another one reads: each commit that it
has acknowledged must be there, and a reader must never see one by halves. ``--writers 3``: so many write at
once. ``--kind qdrant``: Qdrant's local mode, one process at a time, without commits: each photo is whole.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dejavlad.extraction import PhotoTable
from dejavlad.geo import Position
from dejavlad.index import build_index
from dejavlad.photo import Photo, PhotoList
from dejavlad.places.databases import lance_tables
from dejavlad.places.databases.database_map import ABOUT, DatabaseMap
from dejavlad.places.databases.qdrant_points import close_local
from dejavlad.places.map_folder.index import MapSearch
from dejavlad.places.map_folder.state import MapState

DIMS, QUERIES = 512, 20


def main() -> None:
    """Compare, or kill."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--sizes", default="20000,100000")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--writers", type=int, default=1, help="killed writers that are at work at once")
    parser.add_argument("--kind", choices=("lance", "qdrant"), default="lance", help="which are killed")
    parser.add_argument("--write", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.write:
        write_for_ever(given.folder, given.write, given.kind)
    shutil.rmtree(given.folder, ignore_errors=True)
    given.folder.mkdir(parents=True)
    os.environ["DEJAVLAD_CACHE_DIR"] = str(given.folder / "cache")
    if given.kills:
        kill(given.folder, given.kills, given.writers if given.kind == "lance" else 1, given.kind)
        return
    for size in given.sizes.split(","):
        compare(given.folder / size, int(size))


def opened(folder: Path, dims: int, kind: str = "lance") -> DatabaseMap:
    """The map in LanceDB, or in Qdrant's local mode, made if need be."""
    town = DatabaseMap(f"{kind}:{folder / kind}" + ("/town" if kind == "qdrant" else ""))
    town.about = {"fingerprint": "f", "dims": dims, "root": "/photos", "name": "town"}
    town.engine.create({ABOUT: b"{}"}, dims)
    return town


def table_of(names: list[str]) -> PhotoTable:
    """Photos a metre apart."""
    photos = (
        Photo(n, Path("/photos") / n, position=Position(i, 0.0, "33N"), time=float(i))
        for i, n in enumerate(names)
    )
    return PhotoTable.look(PhotoList(photos, root="/photos"), lambda _: (0, 0))


def compare(folder: Path, size: int) -> None:
    """Build, open, ask and change a map of so many rows, both ways."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((size + 1, DIMS), dtype=np.float32) / np.sqrt(np.arange(1, DIMS + 1))
    rows = np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)
    queries = rows[rng.integers(0, size, QUERIES)] + 0.02 * rng.standard_normal((QUERIES, DIMS))
    queries = queries.astype(np.float32)
    (folder / "map").mkdir(parents=True)
    state, town = MapState(folder / "map", DIMS), opened(folder, DIMS)
    table, extra = table_of([f"{i}.jpg" for i in range(size)]), table_of(["new.jpg"])
    everything, last = np.arange(size), np.array([size])
    print(f"\n{size} rows of {DIMS}: processor seconds (wall), LanceDB as a multiple of the folder map")
    measured(
        "build", lambda: state.add(table, rows, everything, {}), lambda: town.add(table, rows, everything, {})
    )
    measured("add one", lambda: state.add(extra, rows, last, {}), lambda: town.add(extra, rows, last, {}))
    measured("remove one", lambda: state.remove(["7.jpg"]), lambda: town.remove(["7.jpg"]))
    snapshots = measured("open", state.snapshot, town.snapshot)
    first = measured(
        "read rows, index them",
        *(lambda s=s: build_index("flat", np.asarray(s.file_rows.all()[s.rows])) for s in snapshots),
    )
    rankings = measured(f"search {QUERIES}", *(lambda i=i: i.search(queries, 200) for i in first))
    assert np.array_equal(rankings[0].distances, rankings[1].distances)
    rows = snapshots[1].file_rows
    nearest = []
    for what in ("copied first", "copied already"):
        nearest += measured(
            f"search {QUERIES}, {what}",
            lambda: first[0].search(queries, 200),
            lambda: rows.search(queries, 200),
        )
    rows._copied, rows._copy = None, NoCopy()
    nearest += measured(
        f"search {QUERIES}, read anew",
        lambda: first[0].search(queries, 200),
        lambda: rows.search(queries, 200),
    )
    for ranking in nearest:
        assert np.array_equal(ranking.distances, rankings[0].distances)
    fresh = town.snapshot().file_rows
    for share in (0.01, 0.1, 0.5):
        allowed = np.flatnonzero(rng.random(size) < share)
        search = MapSearch(None, None, snapshots[0].file_rows, snapshots[0].rows)
        filtered = measured(
            f"search {QUERIES} among {share:.0%}",
            lambda allowed=allowed, search=search: search(queries, 200, snapshots[0].rows[allowed]),
            lambda allowed=allowed: fresh.search(queries, 200, allowed),
        )
        assert np.array_equal(filtered[0].distances, filtered[1].distances)
    print("all distances are equal to the last bit")


class NoCopy:
    """As where the disk is full."""

    def follow(self, *_: object) -> None:
        """Copy nothing."""
        return


def measured(what: str, *runs: Callable[[], object]) -> list:
    """Run the folder map's and LanceDB's; print the processor seconds of both."""
    results, costs, walls = [], [], []
    for run in runs:
        before, started = used(), time.perf_counter()
        results.append(run())
        costs.append(used() - before)
        walls.append(time.perf_counter() - started)
    ratio = costs[1] / max(costs[0], 1e-3)
    print(
        f"  {what:30s} folder {costs[0]:8.3f} ({walls[0]:7.3f})   lance {costs[1]:8.3f} ({walls[1]:7.3f})   "
        f"x {ratio:.1f}",
        flush=True,
    )
    return results


def used() -> float:
    """Processor seconds of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def kill(folder: Path, kills: int, writers: int, kind: str) -> None:
    """Kill writers at random moments, look at the map all the while, and count what they had acknowledged."""
    chance = random.Random(0)
    opened(folder, 8, kind)
    added: set[str] = set()
    removed: set[str] = set()
    looks = cut = 0
    for number in range(0, kills, writers):
        close_local()  # Qdrant's local mode lets one process in
        names = [str(number + writer) for writer in range(writers)]
        run = [sys.executable, __file__, "--folder", str(folder), "--kind", kind, "--write"]
        children = [subprocess.Popen([*run, name], stdout=subprocess.PIPE, text=True) for name in names]
        streams = [child.stdout for child in children if child.stdout is not None]
        lines = [stream.readline() for stream in streams]
        started = time.monotonic()
        ends = sorted(chance.uniform(0, 1.5) for _ in names)
        for child, end in zip(chance.sample(children, writers), ends, strict=True):
            while time.monotonic() < started + end:
                if kind == "lance":
                    whole(opened(folder, 8), 3)
                    looks += 1
                else:
                    time.sleep(0.01)
            assert child.poll() is None, "a writer gave up"
            child.kill()
        for child, stream in zip(children, streams, strict=True):
            lines += list(stream)
            child.wait()
        for line in lines:
            if line.endswith("\n"):
                sign, name = line[0], line[1:].strip()
                (added if sign == "+" else removed).add(name)
        town = opened(folder, 8, kind)
        commits = whole(town, 3 if kind == "lance" else 1)
        under_way = {f"{name}-{REMOVED}" for name in names}
        assert added - removed <= commits | under_way, added - removed - commits
        assert not removed & commits
        cut += len(commits - added)
        added |= commits
        removed |= added - commits
        assert town.check()
        print(f"{number + writers} kills, {len(added)} commits, {looks} looks", flush=True)
    print(
        f"{kills} kills, {writers} writers at once, {kind}: {len(added)} commits added and {len(removed)} "
        f"removed, none lost, none by halves in {looks} looks while they were written; {cut} counted that "
        "the writer had not acknowledged yet"
    )


def whole(town: DatabaseMap, least: int) -> set[str]:
    """The commits that a reader sees; each of three photos, or, where there are no commits, of some."""
    keys = town.snapshot().photos.keys
    photos = Counter(key.rpartition("-")[0] for key in keys)
    assert all(least <= count <= 3 for count in photos.values()), photos
    return set(photos)


REMOVED = 2
"""A writer removes its commit of this number again, once it has made the next."""


def write_for_ever(folder: Path, writer: str, kind: str) -> None:
    """Add three photos a commit, and say so after each; files are joined often."""
    lance_tables.FRAGMENTS = 4
    town, count = opened(folder, 8, kind), 0
    while True:
        name = f"{writer}-{count}"
        town.add(table_of([f"{name}-{i}" for i in range(3)]), np.ones((3, 8), np.float32), np.arange(3), {})
        print(f"+{name}", flush=True)
        if count == REMOVED + 1:
            gone = f"{writer}-{REMOVED}"
            town.remove([f"{gone}-{i}" for i in range(3)])
            print(f"-{gone}", flush=True)
        count += 1


if __name__ == "__main__":
    main()
