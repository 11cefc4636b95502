"""Recall behind filters that leave 1 %, 10 % and 50 % of the rows: our maps, and other programs' own indexes.

    python benchmarks/bench_filters.py --folder FOLDER --rows 20000

Rows are those of ``bench_scale.py``; a filter leaves rows by their number modulo 97, here one view of a place
and there another. Recall is the share of the ten nearest rows that pass, by a plain product, that are among
the ten answers. Maps are asked as ``locate`` asks them. faiss and LanceDB are asked through their own
indexes, with the settings of ``bench_beside.py`` and their own filters (before the search). Qdrant's local
mode syncs each point: a FOLDER in memory (``/dev/shm``) is quicker.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench_lance import opened, table_of
from bench_scale import K, fill, lance_table, made_queries
from dejavlad.index import codes
from dejavlad.places.databases.qdrant_points import close_local
from dejavlad.places.map_folder.index import EXACT, FAISS_KINDS, MapIndex, MapSearch
from dejavlad.places.map_folder.state import MapState

Array = NDArray[np.float32]
Ids = NDArray[np.int64]
Search = Callable[[Array, int], Ids]
"""Queries [Q, D] and below what a row's number modulo `MODULUS` must be -> rows [Q, K]."""
QUERIES, DIMS, MODULUS = 100, 512, 97
SHARES = {"1 %": 1, "10 %": 10, "50 %": 48}
"""What passes: rows whose number modulo `MODULUS` is below that."""


def passing(count: int, below: int) -> Ids:
    """The rows that pass, ascending."""
    return np.flatnonzero(np.arange(count) % MODULUS < below)


def maps(folder: Path, count: int) -> Iterator[tuple[str, Search]]:
    """A map in a folder with each kind of index, then in databases."""
    (folder / "map").mkdir()
    fill(folder / "map", count, DIMS)
    snapshot = MapState(folder / "map", DIMS).snapshot()
    rows = snapshot.file_rows
    for kind in (EXACT, *codes.KINDS, *FAISS_KINDS):
        index = MapIndex(folder / "map", DIMS, "made")
        head = index.follow(rows, snapshot.rows, kind, audited=False)
        search = MapSearch(index, head, rows, snapshot.rows)
        assert search.kind == kind
        yield f"`{kind}`", lambda queries, below, s=search: s(queries, K, passing(count, below)).indices
    everything, table = np.arange(count), table_of([f"{i}" for i in range(count)])
    for kind, name in (("lance", "LanceDB"), ("qdrant", "Qdrant (local mode)")):
        town = opened(folder, DIMS, kind)
        town.add(table, rows.all(), everything, {})
        stored = town.snapshot().file_rows
        search = MapSearch(None, None, stored, everything)
        yield (
            f"a map in {name}",
            lambda queries, below, s=search: s(queries, K, passing(count, below)).indices,
        )
    close_local()


def others(folder: Path, rows: Array) -> Iterator[tuple[str, Search]]:
    """What faiss and LanceDB do themselves."""
    import faiss
    import lancedb

    faiss.omp_set_num_threads(1)
    graph = faiss.IndexHNSWFlat(rows.shape[1], 32)
    lists = faiss.index_factory(rows.shape[1], f"IVF{int(np.sqrt(len(rows)))},PQ64np")
    lists.train(rows)
    for name, index in (("faiss HNSW32, efSearch 128", graph), ("faiss IVF-PQ, nprobe 32", lists)):
        index.add(rows)

        def by_faiss(queries: Array, below: int, index: faiss.Index = index) -> Ids:
            selector = faiss.IDSelectorBatch(passing(len(rows), below))
            if index is graph:
                params = faiss.SearchParametersHNSW(sel=selector, efSearch=128)
            else:
                params = faiss.SearchParametersIVF(sel=selector, nprobe=32)
            return index.search(queries, K, params=params)[1]

        yield name, by_faiss
    lance_table(folder / "own", rows, max_iterations=10, sample_rate=40)
    table = lancedb.connect(str(folder / "own")).open_table("rows")

    def by_lance(queries: Array, below: int, refine: int) -> Ids:
        wanted = f"id % {MODULUS} < {below}"
        best = np.full((len(queries), K), -1, np.int64)
        for query, best_K in zip(queries, best, strict=True):
            request = table.search(query).where(wanted, prefilter=True).nprobes(32).limit(K)
            request = request.select(["id", "_distance"])
            near = (request.refine_factor(refine) if refine else request).to_arrow()["id"].to_numpy()
            best_K[: len(near)] = near[:K]
        return best

    yield "LanceDB IVF-PQ, nprobes 32", lambda queries, below: by_lance(queries, below, 0)
    yield "the same, refined by 10", lambda queries, below: by_lance(queries, below, 10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=20_000)
    given = parser.parse_args()
    folder = given.folder / "filters"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.environ["DEJAVLAD_CACHE_DIR"] = str(folder / "cache")
    queries = made_queries(given.rows, DIMS)[0][:QUERIES]
    right: list[Ids] = []

    def line(name: str, search: Search) -> None:
        recalls = []
        for below, best in zip(SHARES.values(), right, strict=True):
            near = search(queries, below)
            recalls.append(np.mean([len(np.intersect1d(a, b)) / K for a, b in zip(near, best, strict=True)]))
        print(f"| {name} | {' | '.join(f'{recall:.3f}' for recall in recalls)} |", flush=True)

    print(f"| {given.rows:,} rows | {' | '.join(f'{share} pass' for share in SHARES)} |")
    print("|---|--:|--:|--:|")
    rows: Array | None = None
    for name, search in maps(folder, given.rows):
        if rows is None:
            rows = np.array(MapState(folder / "map", DIMS).snapshot().file_rows.all(), np.float32)
            alike = queries.astype(np.float64) @ rows.astype(np.float64).T
            allowed = [passing(given.rows, below) for below in SHARES.values()]
            right = [rows_n[np.argsort(-alike[:, rows_n], axis=1)[:, :K]] for rows_n in allowed]
        line(name, search)
    assert rows is not None
    for name, search in others(folder, rows):
        line(name, search)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
