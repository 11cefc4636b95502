"""Searching: exact against the plain full matrix; every other kind's speed and recall against exact.

Made descriptors: photos of places that were seen several times, unit vectors with a falling spectrum, as
whitened descriptors that keep their leading dimensions have. Memory is what NumPy allocates beside the rows.
"""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from _timing import paired, processor
from bench_scale import views
from dejavlad.errors import MissingExtraError
from dejavlad.index import KINDS, build_index
from dejavlad.index.codes import Coder

Array = NDArray[np.float32]
K = 100
CASES = ((20_000, 1_000, 512), (10_000, 500, 4096))


def photos(rng: np.random.Generator, places: Array, n: int) -> Array:
    spectrum = (1 + np.arange(places.shape[1])) ** -0.25
    views = places[rng.integers(0, len(places), n)] + rng.normal(size=(n, places.shape[1]))
    views = (views * spectrum).astype(np.float32)
    return views / np.linalg.norm(views, axis=1, keepdims=True)


def plain(rows: Array, queries: Array, k: int) -> NDArray[np.int64]:
    """What one writes in three lines: all distances, all sorted."""
    squared = (queries**2).sum(axis=1)[:, None] + (rows**2).sum(axis=1) - 2 * queries @ rows.T
    return np.argsort(squared, axis=1, kind="stable")[:, :k]


def product(rows: Array, queries: Array, k: int) -> NDArray[np.int64]:
    """The quickest that NumPy has: one product, and the best of it."""
    similarity = queries @ rows.T
    best = np.argpartition(-similarity, k, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(similarity, best, axis=1), axis=1)
    return np.take_along_axis(best, order, axis=1)


def peak_mib(task: Callable[[], object]) -> float:
    tracemalloc.start()
    try:
        task()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def coarse(n: int = 200_000, d: int = 512) -> None:
    """Exact, 16 and 8 bits against one product of NumPy, one query at a time and a hundred at once."""
    rng = np.random.default_rng(0)
    rows = photos(rng, rng.normal(size=(n // 10, d)).astype(np.float32), n)
    queries = rows[:100] + 0.01
    print(f"  {n} rows, {d} dimensions: NumPy's product / ours")
    for kind in ("flat", "float16", "int8", "1bit"):
        index = build_index(kind, rows)
        index.search(queries[:1], K)
        for count, rounds in ((1, 9), (100, 3)):
            sample = queries[:count]
            tasks = partial(product, rows, sample, K), partial(index.search, sample, K)
            print(f"    {kind}, {count} at once: {paired(*tasks, rounds=rounds)}", flush=True)


def codes_of_maps(n: int, d: int = 512) -> None:
    """The codes of a map's index, whose answers are those of ``flat``, by processor time.

    Rows of a slowly falling spectrum, of which 100 answers are wanted, are the hard case; those of
    ``bench_scale.py`` have the spectrum of real descriptors.
    """
    rng, alive = np.random.default_rng(0), np.ones(n, np.bool_)
    hard = photos(rng, rng.normal(size=(n // 10, d)).astype(np.float32), n)
    measured = views(np.arange(n) % (n // 10), d, 1000), views(rng.integers(0, n // 10, 100), d, 99)
    for what, rows, queries, k in (
        ("slowly falling spectrum", hard, hard[:100] + np.float32(0.01), K),
        ("measured spectrum", *measured, 10),
    ):
        exact = build_index("flat", rows).search(queries, k)
        for kind in ("float16", "int8"):
            coder = Coder.learn(kind, rows)
            codes, error = coder.encode(rows)

            def search(
                sample: Array,
                coder: Coder = coder,
                codes: Any = codes,
                error: float = error,
                k: int = k,
                rows: Array = rows,
            ) -> Any:
                return coder.search(codes, sample, k, alive, lambda numbers: rows[numbers], error)

            assert np.array_equal(search(queries)[0], exact.indices)
            for count in (1, 100):
                tasks = partial(product, rows, queries[:count], k), partial(search, queries[:count])
                timed = paired(*tasks, rounds=3, clock=time.process_time)
                print(f"    {kind} codes, {what}, {n} rows, {count} at once: {timed}", flush=True)


def main() -> int:
    if len(sys.argv) > 2 and sys.argv[1] == "--codes":
        print("index: NumPy's product / codes of a map's index, with the answers of exact search")
        codes_of_maps(int(sys.argv[2]))
        return 0
    print(f"index: k={K}; {processor()}")
    coarse()
    for n, q, d in CASES:
        rng = np.random.default_rng(0)
        places = rng.normal(size=(n // 10, d)).astype(np.float32)
        rows, queries = photos(rng, places, n), photos(rng, places, q)
        exact = build_index("flat", rows)
        best = exact.search(queries, K).indices
        print(f"  {n} rows, {q} queries, {d} dimensions")
        tasks = partial(plain, rows, queries, K), partial(exact.search, queries, K)
        print(f"    exact against plain: {paired(*tasks, rounds=3)}")
        memory = [peak_mib(task) for task in tasks]
        print(f"    peak memory: {memory[0]:.0f} and {memory[1]:.0f} MiB: {memory[1] / memory[0]:.2f} of it")
        for kind in KINDS[1:]:
            started = time.perf_counter()
            try:
                index = build_index(kind, rows)
            except MissingExtraError as error:
                print(f"    {kind}: SKIPPED, {error}")
                continue
            built = time.perf_counter() - started
            started = time.perf_counter()
            indices = index.search(queries, K).indices
            seconds = time.perf_counter() - started
            hits = [len(np.intersect1d(a, b)) / K for a, b in zip(indices, best, strict=True)]
            first = (indices[:, 0] == best[:, 0]).mean()
            print(
                f"    {kind}: built in {built:.1f} s, {1000 * seconds / q:.2f} ms a query, "
                f"recall of the best {K} {np.mean(hits):.4f}, of the best {first:.4f}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
