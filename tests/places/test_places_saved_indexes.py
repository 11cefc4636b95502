"""Saved maps and indexes of every kind: random rows, changes and filters, against the flat ranking."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from database_maps import address_of, descriptors_alone
from dejavlad.errors import InputError
from dejavlad.extraction import PhotoTable
from dejavlad.index import KINDS, build_index, open_index
from dejavlad.photo import Photo, PhotoList
from dejavlad.places.databases import rows as database_rows
from dejavlad.places.map_folder.index import KINDS as MAP_KINDS
from dejavlad.places.map_folder.index import MapIndex, MapSearch
from dejavlad.places.map_folder.state import MapState
from dejavlad.ranking import Ranking

Array = NDArray[np.float32]
DIMS = 8
LOSSLESS = ("flat", "faiss-flat")
"""Indexes whose ranking is the flat one; those of maps are so for all but `PROPOSING`."""
PROPOSING = ("1bit", "ivf", "hnsw")
LEAST = 0.85
"""Share of the nearest rows that the others must rank, of all cases of a test together."""


def rows_of(seed: int, count: int) -> Array:
    """Unit rows, some of them equal, some zeros, some of equal distance from others."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(-2, 3, (count, DIMS)) + 0.01 * rng.normal(size=(count, DIMS)) * (seed % 2)
    rows[rng.random(count) < 0.1] = 0
    if count:
        rows[rng.random(count) < 0.2] = rows[0]
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1), np.float32)


def flat(rows: Array, queries: Array, k: int, allowed: NDArray[np.int64]) -> Ranking:
    """Every distance in float64, ties by row number; rows and queries of zeros answer nothing."""
    allowed = allowed[rows[allowed].any(axis=1)]
    gaps = queries[:, None].astype(np.float64) - rows[allowed][None].astype(np.float64)
    distances = np.sqrt((gaps**2).sum(axis=2)).astype(np.float32)
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    indices = np.full((len(queries), k), -1, np.int64)
    best = np.full((len(queries), k), np.inf, np.float32)
    if len(allowed):
        indices[:, : order.shape[1]] = allowed[order]
        best[:, : order.shape[1]] = np.take_along_axis(distances, order, axis=1)
    blank = ~queries.any(axis=1)
    indices[blank], best[blank] = -1, np.inf
    return Ranking(indices, best)


def compare(seen: Ranking, right: Ranking, lossless: bool) -> float:
    """The share of the right distances that are reached; all are equal where nothing may be lost."""
    if lossless:
        np.testing.assert_array_equal(seen.indices, right.indices)
        np.testing.assert_array_equal(seen.distances, right.distances)
        return 1.0
    assert seen.indices.shape == right.indices.shape
    wanted = right.indices >= 0
    assert not (seen.indices[~wanted] >= 0).any()
    return float((seen.distances <= right.distances + 0.02)[wanted].mean()) if wanted.any() else 1.0


def put(state: Any, rows: Array, names: list[str]) -> None:
    photos = PhotoList([Photo(name, Path("/photos") / name) for name in names])
    state.add(PhotoTable.look(photos, lambda _: (0, 0)), rows, np.arange(len(names)), {})


class Story:
    """A map, and the plain dictionary of what it should hold, in the order of its photos."""

    def __init__(self, state: Any) -> None:
        self.state, self.rows = state, dict[str, Array]()

    def add(self, rows: Array, first: int) -> None:
        names = [f"{first + i}" for i in range(len(rows))]
        put(self.state, rows, names)
        for name, row in zip(names, rows, strict=True):
            self.rows.pop(name, None)
            self.rows[name] = row

    def remove(self, names: list[str]) -> None:
        self.state.remove(names)
        for name in names:
            del self.rows[name]

    @property
    def array(self) -> Array:
        return np.array([*self.rows.values()], np.float32).reshape(-1, DIMS)


CASES = st.tuples(st.integers(0, 2**16), st.integers(1, 60), st.integers(1, 80))
"""Seed, rows, K."""
FEW = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))


def filters(count: int, seed: int) -> Iterator[NDArray[np.int64] | None]:
    """Nothing passes, one row, some, all, and no filter."""
    rng = np.random.default_rng(seed)
    yield from (np.empty(0, np.int64), np.array([count - 1]), np.flatnonzero(rng.random(count) < 0.4))
    yield from (np.arange(count), None)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    if request.param in ("ivf", "hnsw") or request.param.startswith("faiss"):
        pytest.importorskip("faiss")
    return str(request.param)


@pytest.mark.slow
def test_indexes_saved_changed_and_moved(kind: str, tmp_path: Path) -> None:
    shares: list[float] = []

    @FEW
    @given(case=CASES, form=st.sampled_from(["float64", "float16", "part", "fortran"]))
    def each(case: tuple[int, int, int], form: str) -> None:
        seed, count, k = case
        whole = rows_of(seed, 2 * count).astype(np.float16).astype(np.float32)  # every form holds it exactly
        queries = np.concatenate([whole[:3], rows_of(seed + 1, 4), np.zeros((1, DIMS), np.float32)])
        given_rows: NDArray[Any] = {
            "float64": whole.astype(np.float64),
            "float16": whole.astype(np.float16),
            "part": np.repeat(whole, 2, axis=1)[:, ::2],
            "fortran": np.asfortranarray(whole),
        }[form]
        shutil.rmtree(tmp_path, ignore_errors=True)
        tmp_path.mkdir()
        index = build_index(kind, given_rows[:count])
        index.save(tmp_path / "saved")
        shutil.move(tmp_path / "saved", tmp_path / "moved")
        index = open_index(tmp_path / "moved")
        removed = np.flatnonzero(np.random.default_rng(seed).random(count) < 0.3)
        removed = removed[whole[removed].any(axis=1)]
        index.remove(removed)
        alive = np.setdiff1d(np.arange(count), removed)
        shares.append(compare(index.search(queries, k), flat(whole, queries, k, alive), kind in LOSSLESS))
        index.add(given_rows[removed], removed)
        index.add(given_rows[count:], np.arange(count, 2 * count))
        index.save(tmp_path / "moved")
        index = open_index(tmp_path / "moved")
        right = flat(whole, queries, k, np.arange(2 * count))
        shares.append(compare(index.search(queries.astype(np.float64), k), right, kind in LOSSLESS))
        for value in (np.nan, np.inf):
            with pytest.raises(InputError, match=r"not finite|NaN|inf"):
                index.add(np.full((1, DIMS), value, np.float32), np.array([9999]))
        shares.append(compare(index.search(queries, k), right, kind in LOSSLESS))

    each()
    assert np.mean(shares) >= LEAST


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in MAP_KINDS if kind != "auto"])
def test_indexes_of_maps_changed_compacted_and_moved(kind: str, tmp_path: Path) -> None:
    if kind in ("ivf", "hnsw"):
        pytest.importorskip("faiss")
    shares: list[float] = []

    @FEW
    @given(case=CASES)
    def each(case: tuple[int, int, int]) -> None:
        seed, count, k = case
        shutil.rmtree(tmp_path, ignore_errors=True)
        (tmp_path / "map").mkdir(parents=True)
        folder = tmp_path / "map"
        story = Story(MapState(folder, DIMS))
        queries = np.concatenate([rows_of(seed, 3), rows_of(seed + 1, 4)])

        def look() -> None:
            state = MapState(folder, DIMS)
            snapshot = state.snapshot()
            assert snapshot.photos.keys == [*story.rows]
            index = MapIndex(folder, DIMS, "f")
            head = index.follow(snapshot.file_rows, snapshot.rows, kind, audited=False)
            search = MapSearch(index, head, snapshot.file_rows, snapshot.rows)
            for allowed in filters(len(snapshot.rows), seed):
                chosen = None if allowed is None else snapshot.rows[allowed]
                ranking = search(queries, k, chosen)
                place = np.full(int(snapshot.rows.max()) + 1, -1)
                place[snapshot.rows] = np.arange(len(snapshot.rows))
                indices = np.where(ranking.indices < 0, -1, place[ranking.indices])
                everything = np.arange(len(snapshot.rows)) if allowed is None else allowed
                exactly = kind not in PROPOSING or allowed is not None
                right = flat(story.array, queries, k, everything)
                shares.append(compare(Ranking(indices, ranking.distances), right, exactly))

        story.add(rows_of(seed, count), 0)
        look()
        gone = [name for name in [*story.rows][1:] if (int(name) + seed) % 3 == 0]
        story.remove(gone)
        look()
        story.add(rows_of(seed + 2, count), count // 2)  # some anew, some new
        look()
        story.state.compact()
        folder = folder.rename(tmp_path / "moved")
        story.state = MapState(folder, DIMS)
        look()

    each()
    assert np.mean(shares) >= LEAST


@contextmanager
def fresh(kind: str, folder: Path) -> Iterator[str]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with address_of(kind, folder) as address:
        yield address


@pytest.mark.slow
@pytest.mark.parametrize("in_memory", [1 << 30, 0], ids=["memory", "copy"])
@pytest.mark.parametrize("kind", ["lance", "qdrant", "engine"])
def test_databases_changed(
    kind: str, in_memory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_rows, "IN_MEMORY", in_memory)

    @settings(FEW, max_examples=2)
    @given(case=CASES)
    def each(case: tuple[int, int, int]) -> None:
        seed, count, k = case
        monkeypatch.setenv("DEJAVLAD_CACHE_DIR", str(tmp_path / "db" / "cache"))
        with fresh(kind, tmp_path / "db") as address:
            story = Story(descriptors_alone(address, DIMS))
            queries = np.concatenate([rows_of(seed, 3), rows_of(seed + 1, 4)])

            def look() -> None:
                snapshot = descriptors_alone(address, DIMS).snapshot()
                assert snapshot.photos.keys == [*story.rows]
                search = MapSearch(None, None, snapshot.file_rows, snapshot.rows)
                for allowed in filters(len(snapshot.rows), seed):
                    everything = np.arange(len(snapshot.rows)) if allowed is None else allowed
                    ranking = search(queries, k, allowed)
                    compare(ranking, flat(story.array, queries, k, everything), True)

            story.add(rows_of(seed, count), 0)
            look()
            story.remove([name for name in [*story.rows][1:] if (int(name) + seed) % 3 == 0])
            story.add(rows_of(seed + 2, count), count // 2)
            look()

    each()


@pytest.mark.slow
def test_a_saved_map_is_searched_without_torch(tmp_path: Path) -> None:
    (tmp_path / "map").mkdir()
    put(MapState(tmp_path / "map", DIMS), rows_of(1, 50), [f"{i}" for i in range(50)])
    snapshot = MapState(tmp_path / "map", DIMS).snapshot()
    kinds = ["exact", "1bit"]
    code = f"""
import sys
sys.modules["torch"] = None
from pathlib import Path
import numpy as np
from dejavlad.index import build_index
from dejavlad.places.databases.database_map import DatabaseMap
from dejavlad.places.map_folder.index import MapIndex, MapSearch
from dejavlad.places.map_folder.state import MapState
folder = Path({str(tmp_path / "map")!r})
snapshot = MapState(folder, {DIMS}).snapshot()
for kind in {kinds!r}:
    head = MapIndex(folder, {DIMS}, "f").follow(snapshot.file_rows, snapshot.rows, kind, audited=False)
    search = MapSearch(MapIndex(folder, {DIMS}, "f"), head, snapshot.file_rows, snapshot.rows)
    print(*search(np.ones((1, {DIMS}), np.float32), 3).indices[0])
"""
    right = flat(snapshot.file_rows.all(), np.ones((1, DIMS), np.float32), 3, np.arange(50))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [" ".join(map(str, right.indices[0]))] * len(kinds)
