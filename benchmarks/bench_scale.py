"""Maps of a thousand to a million photos: what building, opening, adding, removing and asking cost.

    python benchmarks/bench_scale.py --folder /tmp/scale --sizes 1000 10000 100000 1000000
    python benchmarks/bench_scale.py --codes 100000000

Rows are made: unit vectors whose variances fall as (1 + i)^-0.5, as those of whitened descriptors that keep
their leading dimensions do, of places seen about ten times each; queries are other views of these places.
Times are of the map alone, without describing photos; CPU is user and system time.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dejavlad.extraction import PhotoTable
from dejavlad.geo import Position
from dejavlad.index.signs import nearest_signs
from dejavlad.photo import Photo, PhotoList
from dejavlad.places.map_index import MapIndex, MapSearch
from dejavlad.places.map_state import MapState

Array = NDArray[np.float32]
QUERIES, K, BLOCK, NOISE = 100, 10, 20_000, 1.6


def views(places: NDArray[np.int64], dims: int, seed: int) -> Array:
    """Views of places by number: a place looks the same in every block, each view differs."""
    spectrum = ((1 + np.arange(dims)) ** -0.25).astype(np.float32)
    rows = np.random.default_rng(seed).standard_normal((len(places), dims), dtype=np.float32) * NOISE
    for block in np.unique(places // BLOCK).tolist():
        centres = np.random.default_rng([7, block]).standard_normal((BLOCK, dims), dtype=np.float32)
        mine = places // BLOCK == block
        rows[mine] += centres[places[mine] % BLOCK]
    rows *= spectrum
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def blocks(count: int, dims: int) -> Iterator[tuple[int, Array]]:
    """The map's rows; row r shows place r modulo a tenth of their number."""
    for first in range(0, count, BLOCK):
        numbers = np.arange(first, min(first + BLOCK, count))
        yield first, views(numbers % max(1, count // 10), dims, 1000 + first)


def table(numbers: NDArray[np.int64]) -> PhotoTable:
    photos = PhotoList(
        (Photo(f"{i}", Path(f"/photos/{i}"), position=Position(i, i, "33N")) for i in numbers.tolist()),
        root="/photos",
    )
    sizes = np.full((len(numbers), 2), 480, np.int32)
    return PhotoTable(photos, photos.keys, numbers + 1000, numbers, sizes)


def seconds(action: Callable[[], object], repeats: int = 1) -> tuple[float, float]:
    """Medians of wall and processor seconds."""
    wall, processor = [], []
    for _ in range(repeats):
        started, used = time.perf_counter(), time.process_time()
        action()
        wall.append(time.perf_counter() - started)
        processor.append(time.process_time() - used)
    return statistics.median(wall), statistics.median(processor)


def fill(folder: Path, count: int, dims: int) -> None:
    state = MapState(folder, dims)
    for first, rows in blocks(count, dims):
        numbers = np.arange(first, first + len(rows))
        state.add(table(numbers), rows, np.arange(len(rows)), {})


def searcher(folder: Path, dims: int) -> tuple[MapState, MapIndex, MapSearch]:
    state, index = MapState(folder, dims), MapIndex(folder, dims, "made")
    snapshot = state.snapshot()
    return state, index, MapSearch(index, index.head(), snapshot.file_rows, snapshot.rows)


def made_queries(count: int, dims: int) -> tuple[Array, NDArray[np.int64]]:
    places = np.random.default_rng(5).integers(0, max(1, count // 10), QUERIES)
    return views(places, dims, 99), places


def resident() -> float:
    """Most megabytes that this process ever had in memory."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return float("nan")


def child(folder: Path, count: int, dims: int) -> None:
    """Asks a map in a process of its own, whose memory is told."""
    queries, places = made_queries(count, dims)
    before = resident()
    opened, _ = seconds(lambda: MapState(folder, dims).snapshot())
    _, _, search = searcher(folder, dims)
    first, _ = seconds(lambda: search(queries[:1], K))
    search(queries, K)
    each = [seconds(lambda q=q: search(q[None], K)) for q in queries]
    one, one_cpu = (statistics.median(column) for column in zip(*each, strict=True))
    batch, _ = seconds(lambda: search(queries, K), 3)
    indices = search(queries, K).indices
    right = (indices[:, 0] % max(1, count // 10) == places).mean()
    after = resident()
    exact = search.exactly(queries, K, search.alive).indices
    right_exact = (exact[:, 0] % max(1, count // 10) == places).mean()
    print(
        f"{search.kind:8s} open {1e3 * opened:6.1f} ms, first {1e3 * first:7.1f}, one {1e3 * one:7.2f} "
        f"(cpu {1e3 * one_cpu:7.2f}), of 100 {10 * batch:7.2f} ms a query; recall@1 {right:.3f} "
        f"(exact {right_exact:.3f}), as exact {(indices[:, 0] == exact[:, 0]).mean():.3f}; "
        f"{after:5.0f} MB resident ({before:.0f} before)",
        flush=True,
    )


def measure(folder: Path, count: int, dims: int, kinds: list[str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    wall, cpu = seconds(lambda: fill(folder, count, dims))
    print(f"{count} x {dims}: filled in {wall:.1f} s (cpu {cpu:.1f}, making rows among it)", flush=True)
    state, index = MapState(folder, dims), MapIndex(folder, dims, "made")
    for kind in kinds:
        snapshot = state.snapshot()
        wall, cpu = seconds(lambda s=snapshot, k=kind: index.follow(s.file_rows, s.rows, k))
        head = index.head()
        size = sum(path.stat().st_size for path in index.folder.rglob("*") if path.is_file())
        print(f"  {kind}: made in {wall:.1f} s (cpu {cpu:.1f}), {size / 1e6:.0f} MB, {head and head.audit}")
        command = [sys.executable, __file__, "--child", "--folder", str(folder)]
        print("   ", end="", flush=True)
        subprocess.run([*command, "--sizes", str(count), "--dims", str(dims)], check=True)
    new = views(np.arange(20), dims, 3)
    numbers = iter(range(20))

    def add() -> None:
        number = next(numbers)
        state.add(table(np.array([count + number])), new[number : number + 1], np.array([0]), {})
        snapshot = state.snapshot()
        rows = snapshot.file_rows
        index.follow(rows, np.empty(0, np.int64), None)

    added, add_cpu = seconds(add, 11)
    gone = iter(range(20))
    removed, remove_cpu = seconds(lambda: state.remove([str(count + next(gone))]), 11)
    print(
        f"  add one, codes too: {1e3 * added:.1f} ms (cpu {1e3 * add_cpu:.1f}); "
        f"remove one: {1e3 * removed:.1f} ms (cpu {1e3 * remove_cpu:.1f})",
        flush=True,
    )
    shutil.rmtree(folder)


def others(count: int, dims: int, graph: bool) -> None:
    """faiss on the same rows: flat, IVF-PQ, and HNSW where it does not take too long."""
    try:
        import faiss
    except ImportError:
        print("  faiss is not installed")
        return
    rows = np.concatenate([part for _, part in blocks(count, dims)])
    queries, places = made_queries(count, dims)
    lists = int(4 * np.sqrt(count))
    names = ["Flat", f"IVF{lists},PQ64", *(["HNSW32"] if graph else [])]
    for name in names:
        index = faiss.index_factory(dims, name)
        if "PQ" in name:
            index.cp.max_points_per_centroid = 40
            index.nprobe = 32
        started = time.perf_counter()
        index.train(rows[: 40 * lists])
        index.add(rows)
        wall = time.perf_counter() - started
        if name == "HNSW32":
            index.hnsw.efSearch = 128
        print(
            f"  faiss {name}: made in {wall:.1f} s, {speed(index.search, queries, places, count)}", flush=True
        )


def speed(search: Any, queries: Array, places: NDArray[np.int64], count: int) -> str:
    """How fast and how well faiss answers."""
    search(queries[:1], K)
    one = statistics.median([seconds(lambda q=q: search(q[None], K))[0] for q in queries])
    batch, _ = seconds(lambda: search(queries, K))
    right = (search(queries, K)[1][:, 0] % max(1, count // 10) == places).mean()
    return f"one {1e3 * one:.2f} ms, of 100 {10 * batch:.2f} ms a query, recall@1 {right:.3f}"


def codes_alone(count: int) -> None:
    """A pass of one bit a number over so many codes of 512 bits, as many at once as 2 GB hold."""
    rng = np.random.default_rng(0)
    at_once = min(count, 32_000_000)
    codes = np.frombuffer(rng.bytes(at_once * 64), np.uint8).reshape(-1, 64)
    query = np.frombuffer(rng.bytes(64), np.uint8).reshape(1, 64)
    wall, cpu = seconds(lambda: nearest_signs(codes, query, 512), 3)
    times = count / at_once
    print(
        f"{at_once / 1e6:.0f} million codes of 512 bits: {1e3 * wall:.0f} ms a pass (cpu {1e3 * cpu:.0f}), "
        f"{at_once * 64 / wall / 1e9:.1f} GB/s; {count / 1e6:.0f} million: {times * wall:.2f} s, "
        f"{count * 64 / 1e9:.1f} GB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("/tmp/scale"))
    parser.add_argument("--sizes", type=int, nargs="*", default=[])
    parser.add_argument("--dims", type=int, default=512)
    parser.add_argument("--kinds", nargs="+", default=["exact", "1bit"])
    parser.add_argument("--others", action="store_true")
    parser.add_argument("--graph", action="store_true")
    parser.add_argument("--codes", type=int, default=0)
    parser.add_argument("--child", action="store_true")
    given = parser.parse_args()
    for size in given.sizes:
        if given.child:
            child(given.folder, size, given.dims)
        elif given.others:
            others(size, given.dims, given.graph)
        else:
            measure(given.folder / f"{size}x{given.dims}", size, given.dims, given.kinds)
    if given.codes:
        codes_alone(given.codes)


if __name__ == "__main__":
    main()
