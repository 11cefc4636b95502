"""Maps of a thousand to a million photos: what building, opening, adding, removing and asking cost.

    python benchmarks/bench_scale.py --folder /tmp/scale --sizes 1000 10000 100000 1000000
    python benchmarks/bench_scale.py --codes 100000000
    python benchmarks/bench_scale.py --others --sizes 100000

Rows are made, unit vectors of places seen ten times each; queries are other views of these places. How large
each number is, and how much of it differs from view to view, was measured on 767 real photos under the
default model (``benchmarks/spectrum.py``). Times are of the map alone, without describing photos; CPU is user
and system time.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dejavlad.extraction import PhotoTable
from dejavlad.geo import Position
from dejavlad.index import KINDS, build_index
from dejavlad.index.signs import nearest_signs
from dejavlad.photo import Photo, PhotoList
from dejavlad.places.map_folder.index import MapIndex, MapSearch
from dejavlad.places.map_folder.state import MapState

Array = NDArray[np.float32]
Search = Callable[[Array], NDArray[np.int64]]
"""Queries [Q, D] -> rows [Q, K]."""
QUERIES, ALONE, JUDGED, K, BLOCK = 100, 30, 400, 10, 20_000
FALL = -0.7
"""The variance of principal axis i goes by i ** FALL: -0.70 over axes 2 to 20, -0.71 over 20 to 100."""
NAMES = ["flat", "1bit", "int8", "Flat", "IVF,PQ64np", "lance", "HNSW32"]
AXES, DIFFERS = (1, 2.5, 12, 38, 88, 180), (0.04, 0.04, 0.08, 0.32, 0.82, 0.97)
"""Share of an axis's variance that differs between two views of a place."""


def views(places: NDArray[np.int64], dims: int, seed: int) -> Array:
    """Views of places by number: a place looks the same in every block, each view differs."""
    axes = np.arange(1, dims + 1)
    total, differs = axes**FALL, np.interp(np.log(axes), np.log(AXES), DIFFERS)
    rows = np.random.default_rng(seed).standard_normal((len(places), dims), dtype=np.float32)
    rows *= np.sqrt(total * differs).astype(np.float32)
    common = np.sqrt(total * (1 - differs)).astype(np.float32)
    for block in np.unique(places // BLOCK).tolist():
        centres = np.random.default_rng([7, block]).standard_normal((BLOCK, dims), dtype=np.float32)
        mine = places // BLOCK == block
        rows[mine] += centres[places[mine] % BLOCK] * common
    rows /= np.sqrt(np.vecdot(rows, rows))[:, None]
    return rows


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
    places = np.random.default_rng(5).integers(0, max(1, count // 10), JUDGED)
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
    before, sample = resident(), queries[:QUERIES]
    opened, _ = seconds(lambda: MapState(folder, dims).snapshot())
    _, _, search = searcher(folder, dims)
    first, _ = seconds(lambda: search(queries[:1], K))
    batch, batch_cpu = seconds(lambda: search(sample, K), 2)
    each = [seconds(lambda q=q: search(q[None], K)) for q in sample[:ALONE]]
    one, one_cpu = (statistics.median(column) for column in zip(*each, strict=True))
    indices = search(queries, K).indices
    after = resident()
    exact = search.exactly(queries, K, search.alive).indices
    right, right_exact = ((best[:, 0] % max(1, count // 10) == places).mean() for best in (indices, exact))
    figures = {
        "open_ms": 1e3 * opened,
        "first_ms": 1e3 * first,
        "one_ms": 1e3 * one,
        "one_cpu_ms": 1e3 * one_cpu,
        "batch_ms": 1e3 * batch / QUERIES,
        "batch_cpu_ms": 1e3 * batch_cpu / QUERIES,
        "recall": right,
        "recall_exact": right_exact,
        "as_exact": (indices[:, 0] == exact[:, 0]).mean(),
        "resident_mb": after,
        "resident_before_mb": before,
    }
    print(
        search.kind, json.dumps({name: round(float(value), 3) for name, value in figures.items()}), flush=True
    )


def measure(folder: Path, count: int, dims: int, kinds: list[str]) -> None:
    if not (folder / "filled").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        wall, cpu = seconds(lambda: fill(folder, count, dims))
        print(f"{count} x {dims}: filled in {wall:.1f} s (cpu {cpu:.1f}, making rows among it)", flush=True)
        (folder / "filled").touch()
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


def others(folder: Path, count: int, dims: int, names: list[str]) -> None:
    """faiss and LanceDB on the same rows, beside our map of them."""
    queries, places = made_queries(count, dims)
    rows = np.concatenate([part for _, part in blocks(count, dims)])
    nearest = np.concatenate([np.argmax(queries[i : i + 50] @ rows.T, axis=1) for i in range(0, JUDGED, 50)])
    for name in names:
        wall, used = time.perf_counter(), time.process_time()
        try:
            search = searches(name, folder, rows)
        except ImportError as error:
            print(f"  {name}: {error}")
            continue
        wall, used = time.perf_counter() - wall, time.process_time() - used
        print(
            f"  {name}: made in {wall:.1f} s (cpu {used:.1f}), "
            f"{speed(search, queries, nearest, places, count)}",
            flush=True,
        )
        shutil.rmtree(folder / "lance", ignore_errors=True)


def searches(name: str, folder: Path, rows: Array) -> Search:
    """One of our kinds, LanceDB or a factory string of faiss."""
    if name in KINDS:
        index = build_index(name, rows)
        return lambda queries: index.search(queries, K).indices
    return lance(folder / "lance", rows) if name == "lance" else by_faiss(name, rows)


def by_faiss(name: str, rows: Array) -> Search:
    """What a factory string of faiss names, with the settings that its pages recommend."""
    import faiss

    faiss.omp_set_num_threads(1)
    lists = int(4 * np.sqrt(len(rows)))
    index = faiss.index_factory(rows.shape[1], name.replace("IVF,", f"IVF{lists},"))
    if "PQ" in name:
        index.cp.max_points_per_centroid, index.cp.niter = 40, 10
        index.pq.cp.max_points_per_centroid, index.pq.cp.niter = 40, 10
        index.nprobe = 32
    if name.startswith("HNSW"):
        index.hnsw.efSearch = 128
    index.train(rows[:: max(1, len(rows) // (40 * lists))])
    index.add(rows)
    return lambda queries: index.search(queries, K)[1]


def lance(folder: Path, rows: Array) -> Search:
    """LanceDB with its own index for many rows."""
    lance_table(folder, rows)
    return lance_search(folder, K)


def lance_table(folder: Path, rows: Array, **options: int) -> None:
    """Its table and index; options are of `IvfPq`."""
    import lancedb
    import pyarrow as pa
    from lancedb.index import IvfPq

    def batches() -> Iterator[pa.RecordBatch]:
        for first in range(0, len(rows), BLOCK):
            part = rows[first : first + BLOCK]
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), rows.shape[1])
            numbers = pa.array(np.arange(first, first + len(part)))
            yield pa.RecordBatch.from_arrays([numbers, vectors], schema=schema)

    schema = pa.schema([("id", pa.int64()), ("vector", pa.list_(pa.float32(), rows.shape[1]))])
    table = lancedb.connect(str(folder)).create_table("rows", batches(), schema=schema, mode="overwrite")
    lists = max(1, len(rows) // 256)  # it trains no more than that
    lists = min(lists, int(np.sqrt(len(rows))))
    made = IvfPq(distance_type="l2", num_partitions=lists, num_sub_vectors=64, **options)
    table.create_index("vector", config=made)


def lance_search(folder: Path, k: int) -> Search:
    """Asks it, with exact distances of ten times as many as wanted."""
    import lancedb

    table = lancedb.connect(str(folder)).open_table("rows")

    def answers(query: Array) -> NDArray[np.int64]:
        request = table.search(query).select(["id"]).nprobes(32).refine_factor(10).limit(k)
        return np.asarray(request.to_arrow()["id"].to_numpy()[:k])

    return lambda queries: np.stack([answers(query) for query in queries])


def speed(
    search: Search, queries: Array, nearest: NDArray[np.int64], places: NDArray[np.int64], count: int
) -> str:
    """How fast and how well it answers."""
    search(queries[:1])
    each = [seconds(lambda q=q: search(q[None])) for q in queries[:QUERIES]]
    one, one_cpu = (statistics.median(column) for column in zip(*each, strict=True))
    batch, batch_cpu = seconds(lambda: search(queries[:QUERIES]))
    first = search(queries)[:, 0]
    right = (first % max(1, count // 10) == places).mean()
    return (
        f"one {1e3 * one:.2f} ms (cpu {1e3 * one_cpu:.2f}), of {QUERIES} {1e3 * batch / QUERIES:.2f} ms a "
        f"query (cpu {1e3 * batch_cpu / QUERIES:.2f}), recall@1 {right:.4f}, "
        f"as exact {(first == nearest).mean():.4f}"
    )


def codes_alone(count: int) -> None:
    """A pass over so many generated codes of 512 bits: ten million (640 MB, beyond any cache) repeatedly."""
    rng = np.random.default_rng(0)
    at_once = min(count, 10_000_000)
    codes = np.frombuffer(rng.bytes(at_once * 64), np.uint8).reshape(-1, 64)
    query = np.frombuffer(rng.bytes(64), np.uint8).reshape(1, 64)

    def one_pass() -> None:
        near = [nearest_signs(codes, query, 512)[0] for _ in range(max(1, round(count / at_once)))]
        best = codes[np.concatenate(near)]
        apart = np.bitwise_count(best.view(np.uint64) ^ query.view(np.uint64)).sum(axis=1)
        np.partition(apart, 511)

    wall, cpu = seconds(one_pass, 3)
    print(
        f"{count / 1e6:.0f} million codes of 512 bits ({count * 64 / 1e9:.1f} GB): {1e3 * wall:.0f} ms "
        f"a pass (cpu {1e3 * cpu:.0f}), {count * 64 / cpu / 1e9:.1f} GB/s of processor time"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("/tmp/scale"))
    parser.add_argument("--sizes", type=int, nargs="*", default=[])
    parser.add_argument("--dims", type=int, default=512)
    parser.add_argument("--kinds", nargs="+", default=["exact", "1bit"])
    parser.add_argument("--others", nargs="*", help="e.g. Flat IVF,PQ64np HNSW32 lance")
    parser.add_argument("--codes", type=int, default=0)
    parser.add_argument("--child", action="store_true")
    given = parser.parse_args()
    for size in given.sizes:
        if given.child:
            child(given.folder, size, given.dims)
        elif given.others is not None:
            others(given.folder, size, given.dims, given.others or NAMES)
        else:
            measure(given.folder / f"{size}x{given.dims}", size, given.dims, given.kinds)
    if given.codes:
        codes_alone(given.codes)


if __name__ == "__main__":
    main()
