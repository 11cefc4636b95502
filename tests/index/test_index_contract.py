"""One contract over every index, checked against the slow obvious search in float64."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dejavlad.errors import InputError, MissingExtraError, StoreError, UnknownNameError
from dejavlad.index import KINDS, Index, build_index, codes, faiss_index, nearest, open_index, scan
from dejavlad.ranking import Ranking

RECALL = {
    "flat": 1.0,
    "float16": 0.99,
    "int8": 0.95,
    "faiss-flat": 1.0,
    "faiss-hnsw": 0.9,
    "faiss-sq8": 0.95,
    "faiss-fp16": 0.99,
    "1bit": 0.9,
    "ivf": 0.9,
    "hnsw": 0.9,
}
"""As the package's docstring states."""
EXACT = ("flat", "faiss-flat")

Array = NDArray[Any]


def oracle(rows: Array, queries: Array, k: int, ids: Array | None = None) -> tuple[Array, Array]:
    ids = np.arange(len(rows)) if ids is None else ids
    gap = queries[:, None].astype(np.float64) - rows[None].astype(np.float64)
    distances = np.sqrt((gap**2).sum(axis=2)).astype(np.float32)
    order = np.stack([np.lexsort((ids, row)) for row in distances])[:, :k]
    return ids[order], np.take_along_axis(distances, order, axis=1)


def unit(rows: Array) -> Array:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def places(n: int = 400, q: int = 60, d: int = 64) -> tuple[Array, Array]:
    """Descriptors of views of places: groups of neighbours, and queries between them."""
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(40, d))
    rows = centres[rng.integers(0, 40, n)] + 0.6 * rng.normal(size=(n, d))
    queries = centres[rng.integers(0, 40, q)] + 0.6 * rng.normal(size=(q, d))
    return unit(rows), unit(queries)


def same(ranking: Ranking, expected: tuple[Array, Array]) -> None:
    np.testing.assert_array_equal(ranking.indices, expected[0])
    np.testing.assert_array_equal(ranking.distances, expected[1])


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_kind_states_its_recall() -> None:
    assert set(RECALL) == set(KINDS)


def test_recall_is_as_stated_and_distances_are_about_right(kind: str) -> None:
    rows, queries = places()
    ranking = build_index(kind, rows).search(queries, 10)
    best, distances = oracle(rows, queries, 10)
    recall = np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(ranking.indices, best, strict=True)])
    assert recall >= RECALL[kind]
    assert (np.diff(ranking.distances, axis=1) >= 0).all()
    assert np.abs(ranking.distances - distances).mean() < 0.01
    if kind in EXACT:
        same(ranking, (best, distances))


def test_identical_rows_are_at_distance_0_and_go_by_smaller_id(kind: str) -> None:
    rows, _ = places(50)
    rows = np.concatenate([rows, rows[:20], rows[:20]])
    ids = np.arange(len(rows))[::-1].copy()  # the order of adding does not decide
    ranking = build_index(kind, rows, ids=ids).search(rows[:20], 3)
    expected = np.stack([ids[70:90], ids[50:70], ids[:20]], axis=1)
    np.testing.assert_array_equal(ranking.indices, expected)
    if kind in EXACT:
        assert not ranking.distances.any()
    else:
        assert (ranking.distances[:, :1] == ranking.distances).all()


def test_fewer_rows_than_asked_for_end_in_nothing(kind: str) -> None:
    rows, queries = places(5, 3)
    ranking = build_index(kind, rows).search(queries, 9)
    assert ranking.indices.shape == (3, 9)
    assert (np.sort(ranking.indices[:, :5], axis=1) == np.arange(5)).all()
    assert (ranking.indices[:, 5:] == -1).all() and np.isposinf(ranking.distances[:, 5:]).all()


def test_an_empty_index_and_no_queries(kind: str) -> None:
    index = build_index(kind, np.empty((0, 8), np.float32))
    assert len(index) == 0 and not len(index.ids)
    assert (index.search(np.ones((2, 8)), 3).indices == -1).all()
    index.add(np.eye(8))
    assert index.search(np.empty((0, 8)), 3).indices.shape == (0, 3)
    assert index.search(np.eye(8)[2:3], 1).indices.tolist() == [[2]]


def test_rows_removed_are_gone_and_may_come_back(kind: str) -> None:
    rows, queries = places()
    index = build_index(kind, rows)
    before = index.search(queries, 10)
    gone = np.unique(before.indices[:, 0])
    index.remove(gone)
    assert len(index) == len(rows) - len(gone)
    assert not np.isin(index.search(queries, 10).indices, gone).any()
    with pytest.raises(InputError, match=f"id {gone[0]} is not in the index"):
        index.remove(gone[:1])
    index.add(rows[gone], gone)
    after = index.search(queries, 10)
    np.testing.assert_array_equal(after.indices[:, 0], before.indices[:, 0])
    if kind in EXACT:
        same(after, (before.indices, before.distances))
    index.remove(index.ids)
    assert len(index) == 0
    assert (index.search(queries, 2).indices == -1).all()


def test_ids_given_and_next(kind: str) -> None:
    rows, _ = places(12)
    index = build_index(kind, rows[:4], ids=[7, 3, 100, 5])
    index.add(rows[4:6])
    assert index.ids.tolist() == [7, 3, 100, 5, 101, 102]
    assert index.search(rows[:6], 1).indices[:, 0].tolist() == [7, 3, 100, 5, 101, 102]
    for ids, message in (
        ([3, 8], "id 3 is in the index already"),
        ([8, 8], "id 8 is given twice"),
        ([-1, 8], "given -1"),
        ([8], "2 rows need 2 whole numbers"),
        ([0.5, 1.5], "2 rows need 2 whole numbers"),
    ):
        with pytest.raises(InputError, match=message):
            index.add(rows[6:8], ids)
    assert len(index) == 6


def test_saved_and_opened_it_answers_alike_and_grows(kind: str, tmp_path: Path) -> None:
    rows, queries = places()
    index = build_index(kind, rows[:300], ids=np.arange(300) * 2)
    index.remove(np.arange(0, 80, 2))
    index.save(tmp_path / "index")
    opened = open_index(tmp_path / "index")
    assert opened.kind == kind and opened.dims == 64 and len(opened) == 260
    np.testing.assert_array_equal(opened.ids, index.ids)
    before = index.search(queries, 7)
    after = opened.search(queries, 7)
    same(after, (before.indices, before.distances))
    opened.add(rows[300:], ids=np.arange(100) * 2 + 1)
    opened.remove([80, 82])
    opened.save(tmp_path / "index")  # over the files that it has mapped
    again = open_index(tmp_path / "index").search(queries, 7)
    assert (again.indices % 2 == 1).any() and not np.isin(again.indices, (80, 82)).any()
    expected = opened.search(queries, 7)
    same(again, (expected.indices, expected.distances))
    assert len([p for p in (tmp_path / "index").iterdir() if p.name.startswith("rows")]) == 1


def test_an_empty_index_can_be_saved(kind: str, tmp_path: Path) -> None:
    build_index(kind, np.empty((0, 8), np.float32)).save(tmp_path / "index")
    index = open_index(tmp_path / "index")
    index.add(np.eye(8))
    assert index.search(np.eye(8), 1).indices[:, 0].tolist() == list(range(8))


def test_a_save_cut_off_leaves_the_old_index(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, queries = places(100)
    build_index(kind, rows[:50]).save(tmp_path / "index")
    before = open_index(tmp_path / "index").search(queries, 3)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    for owner, name in ((os, "replace"), (Path, "mkdir")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, full)
            with pytest.raises(StoreError, match="No space left on device; what was there is kept"):
                build_index(kind, rows).save(tmp_path / "index")
        after = open_index(tmp_path / "index").search(queries, 3)
        same(after, (before.indices, before.distances))
        assert len([p for p in (tmp_path / "index").iterdir() if p.name.startswith("rows")]) == 1


def test_bad_input_is_told(kind: str) -> None:
    rows, queries = places(20, 2)
    index = build_index(kind, rows)
    queries[1, 3] = np.nan
    with pytest.raises(InputError, match="query 1 holds NaN"):
        index.search(queries, 3)
    with pytest.raises(InputError, match="query 0 is too long"):
        index.search(np.full((1, 64), 1e30), 3)
    with pytest.raises(InputError, match="3 dimensions, the index has 64"):
        index.search(np.ones((2, 3)), 3)
    with pytest.raises(InputError, match="k = 0"):
        index.search(rows, 0)
    with pytest.raises(InputError, match=r"queries must be \[N, D\]; given \[64\]"):
        index.search(rows[0], 1)
    bad = rows.copy()
    bad[7, 0] = np.inf
    with pytest.raises(InputError, match="row 7 holds NaN or infinity"):
        index.add(bad, np.arange(100, 120))
    with pytest.raises(InputError, match="rows have 2 dimensions"):
        index.add(np.ones((1, 2)))
    assert len(index) == 20
    with pytest.raises(InputError, match="row 7"):
        build_index(kind, bad)


class Store:
    """A source of rows as a store of descriptors is, with two failed photos."""

    def __init__(self, rows: Array, complete: bool = True) -> None:
        self.rows, self.complete = rows, complete
        self.done = np.ones(len(rows), bool)
        self.done[[3, 11]] = False
        self.rows[[3, 11]] = 0


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_failed_photos_of_a_store_are_never_found_and_find_nothing(kind: str, dtype: type) -> None:
    rows, _ = places(30)
    store = Store(rows.astype(dtype))
    index = build_index(kind, store)
    assert index.ids.tolist() == [i for i in range(30) if i not in (3, 11)]
    ranking = index.search(store, 28)
    good = store.done
    assert not np.isin(ranking.indices, (3, 11)).any()
    assert (ranking.indices[~good] == -1).all() and (ranking.indices[good] >= 0).all()
    np.testing.assert_array_equal(ranking.indices[good, 0], np.flatnonzero(good))
    if kind in EXACT:
        kept = np.asarray(store.rows[good], np.float32)
        same(
            Ranking(ranking.indices[good], ranking.distances[good]),
            oracle(kept, kept, 28, np.flatnonzero(good)),
        )
    with pytest.raises(StoreError, match="not complete"):
        build_index(kind, Store(rows, complete=False))


def test_memory_maps_are_kept_as_they_are(tmp_path: Path) -> None:
    rows, queries = places()
    np.save(tmp_path / "rows.npy", rows.astype(np.float16))
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    index = build_index("flat", mapped)
    assert isinstance(index, scan.ScanIndex) and index._segments[0].codes is mapped
    same(index.search(queries, 5), oracle(mapped.astype(np.float32), queries, 5))
    index.save(tmp_path / "index")
    opened = open_index(tmp_path / "index")
    assert isinstance(opened, scan.ScanIndex)
    assert isinstance(opened._segments[0].codes, np.memmap) and opened._segments[0].codes.dtype == np.float16
    opened.add(rows[:1])
    opened.save(tmp_path / "mixed")
    same(open_index(tmp_path / "mixed").search(queries, 5), opened_answer(opened, queries))


def opened_answer(index: Index, queries: Array) -> tuple[Array, Array]:
    ranking = index.search(queries, 5)
    return ranking.indices, ranking.distances


def near_ties(rng: np.random.Generator) -> Array:
    return (100 + rng.integers(-2, 3, (60, 6)) * 2.0**-17).astype(np.float32)


HARD: dict[str, Callable[[np.random.Generator], Array]] = {
    "all alike": lambda rng: np.ones((60, 6), np.float32),
    "near ties far from the origin": near_ties,
    "few values": lambda rng: rng.integers(0, 2, (60, 6)).astype(np.float32),
    "zeros": lambda rng: np.zeros((60, 6), np.float32),
    "tiny": lambda rng: (rng.normal(size=(60, 6)) * 1e-18).astype(np.float32),
    "huge": lambda rng: (rng.normal(size=(60, 6)) * 1e16).astype(np.float32),
    "of all lengths": lambda rng: (rng.normal(size=(60, 6)) * 10.0 ** rng.integers(-8, 8, (60, 1))).astype(
        "f4"
    ),
    "one dimension": lambda rng: rng.normal(size=(60, 1)).astype(np.float32),
}


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    name=st.sampled_from(sorted(HARD)),
    k=st.integers(1, 70),
    chunk=st.integers(1, 70),
)
def test_exact_is_exact_however_hard_the_rows_and_however_cut(
    seed: int, name: str, k: int, chunk: int
) -> None:
    rng = np.random.default_rng(seed)
    rows = HARD[name](rng)
    queries = np.concatenate([rows[rng.integers(0, 60, 5)], rows[:5] + np.float32(1e-7) * rows[5:10]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "LONGEST_CHUNK", chunk)
        patch.setattr(scan, "NARROW", 0.1 * (chunk % 2))
        patch.setattr(nearest, "PAIRS", chunk * 3)
        patch.setattr(nearest, "CACHED_VALUES", chunk * 5)
        index = build_index("flat", rows)
        index.remove(np.intersect1d([4, 9], index.ids))
        ranking = index.search(queries, k)
    left = np.setdiff1d(np.flatnonzero(rows.any(axis=1)), [4, 9])
    valid_queries = queries.any(axis=1)
    n_answers = min(k, len(left))
    if valid_queries.any() and n_answers:
        expected = oracle(rows[left], queries[valid_queries], k, left)
        same(
            Ranking(ranking.indices[valid_queries, :n_answers], ranking.distances[valid_queries, :n_answers]),
            expected,
        )
    assert (ranking.indices[:, n_answers:] == -1).all() and (ranking.indices[~valid_queries] == -1).all()


def test_values_that_do_not_fit_float16_are_told() -> None:
    with pytest.raises(InputError, match="float16 row 0 holds NaN or infinity"):
        build_index("float16", np.full((1, 4), 1e6))


def test_int8_keeps_zeros_and_the_largest_values() -> None:
    rows = np.array([[0, 0, 0], [1e-42, 0, 0], [-127, 64, 1], [1e-20, 0, -1e-20]], np.float32)
    index = build_index("int8", rows)
    assert isinstance(index, scan.ScanIndex)
    np.testing.assert_allclose(index._segments[0].decode(slice(0, 4)), rows, atol=1e-41)


def test_unknown_names_and_missing_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownNameError, match="did you mean flat"):
        build_index("flatt", np.eye(3))
    with pytest.raises(StoreError, match="there is no index"):
        open_index(tmp_path)
    build_index("flat", np.eye(3)).save(tmp_path)
    next(tmp_path.glob("rows-*")).write_bytes(b"")
    with pytest.raises(StoreError, match="damaged"):
        open_index(tmp_path)
    (tmp_path / "index.json").write_text("{}")
    with pytest.raises(StoreError, match="is not an index"):
        open_index(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(MissingExtraError, match=r"dejavlad\[faiss\]"):
        build_index("faiss-flat", np.eye(3))


def test_a_damaged_faiss_index_is_told(tmp_path: Path) -> None:
    build_index("faiss-flat", np.eye(3)).save(tmp_path)
    next(tmp_path.glob("rows-*")).write_bytes(b"not faiss at all")
    with pytest.raises(StoreError, match="damaged"):
        open_index(tmp_path)


def test_hnsw_takes_its_settings(tmp_path: Path) -> None:
    rows, queries = places()
    index = build_index("faiss-hnsw", rows, neighbours=8, effort_build=40, effort=300)
    assert isinstance(index, faiss_index.FaissIndex)
    index.save(tmp_path)
    opened = open_index(tmp_path)
    assert isinstance(opened, faiss_index.FaissIndex) and opened.effort == 300
    assert (index.search(queries, 3).indices == oracle(rows, queries, 3)[0]).mean() > 0.9


@pytest.mark.parametrize("pairs", [40, 1 << 20])
@pytest.mark.parametrize("count", [1, 5, 20])
@pytest.mark.parametrize("kind", ["float16", "int8"])
def test_codes_of_rows_lose_nothing(
    monkeypatch: pytest.MonkeyPatch, kind: str, count: int, pairs: int
) -> None:
    """However many pairs may be in doubt before they are measured."""
    monkeypatch.setattr(codes, "LONGEST_CHUNK", 64)
    monkeypatch.setattr(nearest, "PAIRS", pairs)
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(500, 64)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows[400:420] = rows[:20]  # equal distances go by row
    queries = rows[:count] + np.float32(0.01)
    coder = codes.Coder.learn(kind, rows)
    made, error = coder.encode(rows)
    alive = np.arange(500) % 7 > 0
    ids, distances = coder.search(made, queries, 30, alive, lambda numbers: rows[numbers], error)
    right = build_index("flat", rows).search(queries, 30, allowed=np.flatnonzero(alive))
    np.testing.assert_array_equal(ids, right.indices)
    np.testing.assert_array_equal(distances, right.distances)


def test_rows_in_doubt_are_read_last() -> None:
    """Of rows that come nearer and nearer, most that the codes leave in doubt are settled unread."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(40_000, 64)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows[np.argsort(rows[:, 0])]
    query = np.eye(64, dtype=np.float32)[:1]
    coder, taken = codes.Coder.learn("int8", rows), []
    made, error = coder.encode(rows)

    def take(numbers: np.ndarray) -> np.ndarray:
        taken.extend(numbers.tolist())
        return rows[numbers]

    coder.search(made, query, 10, np.ones(len(rows), bool), take, error)
    assert len(taken) == len(set(taken))
    alike, at_once = rows @ query[0], 0
    for first in range(0, len(rows), codes.LONGEST_CHUNK):
        last = first + codes.LONGEST_CHUNK
        at_once += (alike[first:last] > np.sort(alike[:last])[-10] - 2 * error).sum()
    assert len(taken) < at_once / 2
