"""A map of a million rows on disk beside faiss and LanceDB: recall, time, memory, disk; all from one run.

    python benchmarks/bench_beside.py --folder FOLDER --rows 1000000
    python benchmarks/bench_beside.py --folder FOLDER --rows 20000

Rows are those of ``bench_scale.py``. Each index is made on disk, opened and asked in a process of its own,
with one thread (LanceDB has its own); rounds go by turns, so that a busy machine slows all alike. Each step
writes its result to
``FOLDER/ROWS/results.json``: a run that was cut off goes on.

Milliseconds are of processor time (user and system), medians of the rounds. Recall@1 is the share of queries
whose first answer is the exact nearest row. Memory is the most that the process ever had beyond what it had
before it opened the index, mapped files among it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAMES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
os.environ |= dict.fromkeys(NAMES, "1")

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from bench_scale import fill, lance_search, lance_table, made_queries, resident  # noqa: E402
from dejavlad.files import write_whole  # noqa: E402
from dejavlad.places.map_folder.index import MapIndex, MapSearch  # noqa: E402
from dejavlad.places.map_folder.state import MapState  # noqa: E402

Array = NDArray[np.float32]
Search = Callable[[Array], NDArray[np.int64]]
ENGINES = ("exact", "1bit", "int8", "flat", "ivfpq", "ivfpq-refined", "lance", "hnsw", "hnsw-read")
OURS = ("exact", "1bit", "int8")
K, ALONE, BATCH, ROUNDS = 10, 20, 100, 3
PART = 100_000
"""Rows after which HNSW is written, so that a run that was cut off goes on."""
TRAINED = 40
"""Rows that are behind each list while it is learnt, of faiss and LanceDB alike; ten rounds."""
MADE_BY = {"ivfpq-refined": "ivfpq", "hnsw-read": "hnsw"}


class Bench:
    """The folder of one number of rows."""

    def __init__(self, folder: Path, count: int, dims: int) -> None:
        self.folder, self.count, self.dims = folder / f"{count}x{dims}", count, dims
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file = self.folder / "results.json"
        self.results: dict[str, Any] = json.loads(self.file.read_text()) if self.file.exists() else {}

    def keep(self, name: str, value: Any) -> None:
        """Write a result."""
        self.results = json.loads(self.file.read_text()) if self.file.exists() else {}
        self.results[name] = value
        write_whole(self.file, json.dumps(self.results, indent=1))
        print(f"{name}: {value}", flush=True)

    @property
    def rows(self) -> Array:
        """[N, D] those of the map, memory-mapped."""
        return np.memmap(self.folder / "map" / "rows.bin", np.float32, "r", shape=(self.count, self.dims))

    @property
    def queries(self) -> Array:
        """[Q, D]."""
        return made_queries(self.count, self.dims)[0]

    def truth(self) -> NDArray[np.int64]:
        """[Q] the exact nearest row."""
        return np.load(self.folder / "truth.npy")

    def prepare(self) -> None:
        """Rows, and the exact nearest of each query by a plain product."""
        map_folder = self.folder / "map"
        if "fill" not in self.results:
            subprocess.run(["rm", "-rf", str(map_folder)], check=True)
            map_folder.mkdir()
            self.keep("fill", round(processor(lambda: fill(map_folder, self.count, self.dims)), 1))
        if not (self.folder / "truth.npy").exists():
            queries, rows = self.queries, self.rows
            best, at = np.full(len(queries), -np.inf, np.float32), np.zeros(len(queries), np.int64)
            for first in range(0, self.count, 20_000):
                alike = queries @ rows[first : first + 20_000].T
                near = alike.argmax(axis=1)
                value = alike[np.arange(len(queries)), near]
                at, best = np.where(value > best, near + first, at), np.maximum(value, best)
            np.save(self.folder / "truth.npy", at)


def processor(action: Callable[[], object]) -> float:
    started = time.process_time()
    action()
    return time.process_time() - started


def make(bench: Bench, engine: str) -> None:
    """Makes an index on disk, HNSW part by part."""
    path = bench.folder / engine
    if engine in OURS:
        snapshot = MapState(bench.folder / "map", bench.dims).snapshot()
        index = MapIndex(path, bench.dims, "made")
        used = processor(lambda: index.follow(snapshot.file_rows, snapshot.rows, engine, audited=False))
        kept = [*(bench.folder / "map").glob("rows.bin"), *path.rglob("*")]
    elif engine == "lance":
        used = processor(lambda: lance_table(path, bench.rows, max_iterations=10, sample_rate=TRAINED))
        kept = [*path.rglob("*")]
    else:
        used = bench.results.get(f"{engine} part", [0, 0.0])[1]
        used += processor(lambda: faiss_index(bench, engine, path, used))
        kept = [path]
    size = sum(file.stat().st_size for file in kept if file.is_file())
    bench.keep(f"{engine} made", [round(used, 1), round(size / 1e6)])


def faiss_index(bench: Bench, engine: str, path: Path, used: float) -> None:
    import faiss

    rows = bench.rows
    if engine == "hnsw":
        done = bench.results.get("hnsw part", [0])[0]
        started = time.process_time()
        index = faiss.read_index(str(path)) if done else faiss.IndexHNSWFlat(bench.dims, 32)
        for first in range(done, bench.count, PART):
            index.add(np.ascontiguousarray(rows[first : first + PART]))
            faiss.write_index(index, str(path) + ".partial")
            os.replace(str(path) + ".partial", path)
            bench.keep("hnsw part", [first + PART, used + time.process_time() - started])
        return
    if engine == "flat":
        index = faiss.IndexFlatL2(bench.dims)
    else:
        lists = int(np.sqrt(bench.count))
        index = faiss.index_factory(bench.dims, f"IVF{lists},PQ64np")
        index.cp.niter = index.pq.cp.niter = 10
        index.train(np.ascontiguousarray(rows[:: max(1, bench.count // max(TRAINED * lists, 20_000))]))
    for first in range(0, bench.count, PART):
        index.add(np.ascontiguousarray(rows[first : first + PART]))
    faiss.write_index(index, str(path))


def opened(bench: Bench, engine: str) -> Search:
    """An index from disk."""
    path = bench.folder / engine
    if engine in OURS:
        snapshot = MapState(bench.folder / "map", bench.dims).snapshot()
        index = MapIndex(path, bench.dims, "made")
        search = MapSearch(index, index.head(), snapshot.file_rows, snapshot.rows)
        if search.kind != engine:
            raise SystemExit(f"the map has index {search.kind}")
        return lambda queries: search(queries, K).indices
    if engine == "lance":
        return lance_search(path, K)
    import faiss

    faiss.omp_set_num_threads(1)

    def read(name: str) -> Any:
        """Mapped, or all of it, which `hnsw-read` does."""
        mapped = 0 if engine == "hnsw-read" else faiss.IO_FLAG_MMAP_IFC
        return faiss.read_index(str(bench.folder / name), mapped)

    index = read(MADE_BY.get(engine, engine))
    if MADE_BY.get(engine, engine) == "hnsw":
        index.hnsw.efSearch = 128
    if engine.startswith("ivfpq"):
        faiss.downcast_index(index).nprobe = 32
    if engine == "ivfpq-refined":
        exact = read("flat")
        index = faiss.IndexRefine(index, exact)  # which refers to both
        index.k_factor = 10
    return lambda queries: index.search(queries, K)[1]


def ask(bench: Bench, engine: str, turn: int) -> None:
    """One round of one index; what it finds is the same each time."""
    queries = bench.queries
    before = resident()
    search = opened(bench, engine)
    search(queries[-1:])
    together = processor(lambda: search(queries[:BATCH])) / BATCH
    alone = [processor(lambda q=q: search(q[None])) for q in queries[BATCH : BATCH + ALONE]]
    figures = [1e3 * statistics.median(alone), 1e3 * together, before, resident() - before]
    bench.keep(f"{engine} round {turn}", [round(figure, 4) for figure in figures])
    if f"{engine} finds" not in bench.results:
        first = search(queries)[:, 0]
        right = (first == bench.truth()).mean()
        at_place = (first % max(1, bench.count // 10) == made_queries(bench.count, bench.dims)[1]).mean()
        bench.keep(f"{engine} finds", [float(right), float(at_place)])


def table(bench: Bench) -> str:
    """What there is, as a table."""
    lines = [
        f"| {bench.count:,} x {bench.dims} | make (s) | alone (ms) | of {BATCH} (ms) | recall@1 | right "
        "place | memory (MB) | disk (MB) |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for engine in ENGINES:
        made = bench.results.get(f"{MADE_BY.get(engine, engine)} made")
        rounds = [v for name, v in bench.results.items() if name.startswith(f"{engine} round ")]
        finds = bench.results.get(f"{engine} finds")
        if made is None or finds is None or not rounds:
            continue
        alone, together, _, memory = (statistics.median(column) for column in zip(*rounds, strict=True))
        right, place = finds
        lines.append(
            f"| {engine} | {made[0]:.0f} | {alone:.2f} | {together:.2f} | {right:.4f} | {place:.4f} | "
            f"{memory:.0f} | {made[1]} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dims", type=int, default=512)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    bench = Bench(given.folder, given.rows, given.dims)
    if given.step:
        action, engine, *turn = given.step
        make(bench, engine) if action == "make" else ask(bench, engine, int(turn[0]))
        return
    bench.prepare()

    def step(name: str, *words: str) -> None:
        if name not in Bench(given.folder, given.rows, given.dims).results:
            command = [sys.executable, __file__, "--folder", str(given.folder), "--rows", str(given.rows)]
            subprocess.run([*command, "--dims", str(given.dims), "--step", *words], check=True)

    for engine in given.engines:
        step(f"{MADE_BY.get(engine, engine)} made", "make", MADE_BY.get(engine, engine))
    for turn in range(given.rounds):
        for engine in given.engines:
            step(f"{engine} round {turn}", "ask", engine, str(turn))
    print(table(Bench(given.folder, given.rows, given.dims)))


if __name__ == "__main__":
    main()
