"""Filters lose nothing, whatever the kind; coarse rows keep their true order; signs are compared rightly."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dejavlad.errors import InputError
from dejavlad.index import KINDS, build_index, open_index, products, scan, signs
from dejavlad.index.one_bit import OneBitIndex
from dejavlad.index.signs import SignCoder, nearest_signs, turn

Array = NDArray[Any]


def drawn(n: int, d: int = 64, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, d)) * (1 + np.arange(d)) ** -0.25
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def brute(rows: Array, queries: Array, ids: Array, k: int) -> Array:
    apart = np.sqrt(((queries[:, None].astype(np.float64) - rows[None]) ** 2).sum(2)).astype(np.float32)
    return ids[np.stack([np.lexsort((ids, row))[:k] for row in apart])]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    if str(request.param).startswith(("faiss", "ivf", "hnsw")):
        pytest.importorskip("faiss")
    return str(request.param)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_filtered_recall_is_one(kind: str, share: float, tmp_path: Path) -> None:
    rows, queries = drawn(2000), drawn(12, seed=1)
    allowed = np.random.default_rng(2).choice(2000, round(2000 * share), replace=False)
    index = build_index(kind, rows)
    index.remove([int(allowed[0])])
    left = np.sort(allowed[1:])
    stored = rows
    if kind in ("float16", "int8"):
        assert isinstance(index, scan.ScanIndex)
        stored = index._segments[0].decode(slice(0, 2000))
    elif kind in ("faiss-sq8", "faiss-fp16"):
        stored = index._index.reconstruct_n(0, 2000)  # type: ignore[attr-defined]
    index.save(tmp_path / "index")
    for each in (index, open_index(tmp_path / "index")):
        ranking = each.search(queries, 10, allowed=allowed)
        np.testing.assert_array_equal(ranking.indices, brute(stored[left], queries, left, 10))
    assert (index.search(queries, 3, allowed=[]).indices == -1).all()
    with pytest.raises(InputError, match="whole numbers"):
        index.search(queries, 3, allowed=[0.5])


@pytest.mark.parametrize("kind", ["float16", "int8"])
@pytest.mark.parametrize("count", [1, 5, 40])
def test_coarse_rows_are_ranked_as_they_are_stored(kind: str, count: int) -> None:
    rows = np.concatenate([drawn(3000), drawn(50)])  # the last repeat the first
    queries = np.concatenate([drawn(count, seed=3), rows[:2]])
    index = build_index(kind, rows)
    assert isinstance(index, scan.ScanIndex)
    stored = index._segments[0].decode(slice(0, len(rows)))
    np.testing.assert_array_equal(
        index.search(queries, 20).indices, brute(stored, queries, np.arange(len(rows)), 20)
    )


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e3])
def test_errors_of_coarse_products_are_bounded(scale: float) -> None:
    rows, queries = drawn(500, 128) * np.float32(scale), drawn(4, 128, seed=1)
    halves = rows.astype(np.float16)
    longest = float(np.linalg.norm(halves.astype(np.float64), axis=1).max())
    made = products.half_products(queries, halves, longest)
    if made is not None:
        off = np.abs(made[0] - queries.astype(np.float64) @ halves.astype(np.float64).T).max(axis=1)
        assert (off <= made[1]).all()
    scales = np.abs(rows).max(axis=1) / 127
    codes = np.rint(rows / scales[:, None]).astype(np.int8)
    longest = float(np.linalg.norm(rows, axis=1).max()) * 1.01
    for sample in (queries, queries[:1]):
        made = products.byte_products(sample, codes, scales, longest)
        if made is not None:
            exact = sample.astype(np.float64) @ (codes * scales[:, None].astype(np.float64)).T
            assert (np.abs(made[0] - exact).max(axis=1) <= made[1]).all()
            assert made[1].max() < (1e-3 if len(sample) > 1 else 1e-1) * scale


@pytest.mark.parametrize("dims", [64, 100])
def test_signs_that_differ_are_counted(dims: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, queries = drawn(900, dims), drawn(5, dims, seed=1)
    coder = SignCoder.learn(rows)
    codes, query_codes = coder.encode(rows), coder.encode(queries)
    apart = ((coder.project(rows) > 0) != (coder.project(queries) > 0)[:, None]).sum(axis=2)
    alive, few_gone = np.random.default_rng(0).random(900) < 0.7, np.ones(900, bool)
    few_gone[[3, *np.argsort(apart[0])[:4]]] = False
    for with_faiss in (True, False):
        if not with_faiss:
            monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        for mask in (None, alive, few_gone):
            places = nearest_signs(codes, query_codes, 50, mask)
            reach = np.where(True if mask is None else mask, apart, 10**6)
            got = np.sort(np.take_along_axis(reach, places, axis=1), axis=1)
            np.testing.assert_array_equal(got, np.sort(reach, axis=1)[:, :50])
            assert (np.diff(places, axis=1) > 0).all()
    assert nearest_signs(codes, query_codes, 10, np.zeros(900, bool)).shape == (5, 0)


def test_one_bit_finds_what_lies_near_in_a_long_list(tmp_path: Path) -> None:
    rows = drawn(6000, 128)
    queries = rows[::60] + 0.4 * drawn(100, 128, seed=5)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    index = build_index("1bit", rows)
    exact = build_index("exact", rows).search(queries, 5)
    ranking = index.search(queries, 5)
    assert (ranking.indices[:, 0] == exact.indices[:, 0]).mean() >= 0.99
    both = ranking.indices == exact.indices
    np.testing.assert_array_equal(ranking.distances[both], exact.distances[both])
    index.save(tmp_path)
    again = open_index(tmp_path).search(queries, 5)
    np.testing.assert_array_equal(again.indices, ranking.indices)
    next(tmp_path.glob("codes-*")).write_bytes(b"\x93NUMPY")
    with pytest.raises(Exception, match="damaged"):
        open_index(tmp_path)


@pytest.mark.parametrize("dims", [5, 64, 100, 600])
def test_turning_keeps_lengths_and_angles(dims: int) -> None:
    rows = drawn(30, dims) * np.float32(3)
    turned = turn(rows)
    assert turned.shape == (30, max(64, 1 << (dims - 1).bit_length()))
    np.testing.assert_allclose(turned @ turned.T, rows @ rows.T, atol=1e-4)
    np.testing.assert_array_equal(turned[:3], turn(rows[:3]))
    spread = turn(np.eye(dims, dtype=np.float32))  # one number becomes about as large in all places
    assert np.abs(spread).max() < 8 / np.sqrt(spread.shape[1])


@pytest.mark.slow
def test_signs_of_turned_rows_find_places_that_few_numbers_tell_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signs, "WIDE", 256)
    monkeypatch.setattr(signs, "CANDIDATES", 64)
    rng = np.random.default_rng(0)
    total = np.arange(1, 257) ** -0.7
    share = 1 / (1 + (40 / np.arange(1, 257)) ** 2)  # of it that differs from view to view
    place, view = np.sqrt(total * (1 - share)), np.sqrt(total * share)

    def seen(numbers: Array) -> Array:
        views = places[numbers] * place + rng.normal(size=(len(numbers), 256)) * view
        return (views / np.linalg.norm(views, axis=1, keepdims=True)).astype(np.float32)

    places = rng.normal(size=(6000, 256))
    rows, queries = seen(np.arange(24000) % 6000), seen(np.arange(100))
    exact = build_index("exact", rows).search(queries, 1).indices
    index = build_index("1bit", rows)
    assert (index.search(queries, 1).indices == exact).mean() >= 0.99
    index.save(tmp_path)
    assert (open_index(tmp_path).search(queries, 1).indices == exact).mean() >= 0.99
    assert isinstance(index, OneBitIndex)
    index._signs, index._coder = [], SignCoder(np.zeros(256, np.float32), turned=False)
    before = index.search(queries, 1).indices
    assert (before == exact).mean() < 0.9
    index.save(tmp_path)  # as older versions did
    np.testing.assert_array_equal(open_index(tmp_path).search(queries, 1).indices, before)


def test_one_bit_needs_no_faiss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    rows = drawn(2000)
    assert (build_index("1bit", rows).search(rows[:5], 1).indices[:, 0] == np.arange(5)).all()
