"""A row of zeros is of a photo that shows nothing: in no index is it an answer, nor has it any as a query."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dejavlad.errors import InputError
from dejavlad.extraction import DescriptorStore
from dejavlad.index import KINDS, build_index, open_index, scan

ZEROS = [0, 7, 8, 30]


def rows_ND() -> np.ndarray:
    drawn = np.random.default_rng(0).normal(size=(40, 16)).astype(np.float32)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    drawn[ZEROS] = 0
    return drawn


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    if str(request.param).startswith("faiss"):
        pytest.importorskip("faiss")
    return str(request.param)


@pytest.mark.parametrize("of_store", [False, True])
def test_zeros_answer_nothing(kind: str, of_store: bool, tmp_path: Path) -> None:
    rows = rows_ND()
    source = DescriptorStore.from_arrays(rows) if of_store else rows
    index = build_index(kind, source)
    index.save(tmp_path / "index")
    for opened in (index, open_index(tmp_path / "index")):
        assert len(opened) == 36 and not set(opened.ids.tolist()) & set(ZEROS)
        ranking = opened.search(source, 40)
        nonzero = np.setdiff1d(np.arange(40), ZEROS)
        assert ranking.indices[nonzero, 0].tolist() == nonzero.tolist()
        assert not np.isin(ranking.indices, ZEROS).any()
        assert (ranking.indices[ZEROS] == -1).all() and np.isinf(ranking.distances[ZEROS]).all()
        assert ((ranking.indices[nonzero] >= 0).sum(axis=1) == 36).all()
    index.add(rows[1:2], ids=[7])
    assert 7 in index.search(rows[1:2], 2).indices


def test_an_index_of_before_with_zeros_in_it(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_ND()
    small = rows.copy()
    small[ZEROS] = 1e-30  # what is written is what an older version wrote of zeros, or decodes to it
    if kind in scan.KINDS and kind != "flat":
        pytest.skip("coded rows of 1e-30 are zeros already")
    build_index(kind, small).save(tmp_path / "index")
    head = json.loads((tmp_path / "index" / "index.json").read_text())
    assert head["count"] == 40
    for name in ("without_zeros", "checksum", "sums"):
        head.pop(name, None)
    (tmp_path / "index" / "index.json").write_text(json.dumps(head))
    if kind == "flat":
        for name in ("rows.npy", "squares.npy"):
            path = tmp_path / "index" / head["files"][name]
            array = np.load(path)
            array[ZEROS] = 0
            np.save(path, array)
    index = open_index(tmp_path / "index")
    assert len(index) == 36
    ranking = index.search(rows, 40)
    assert not np.isin(ranking.indices, ZEROS).any() and ranking.indices[1, 0] == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_the_row_that_is_not_finite_is_named(kind: str, value: float) -> None:
    rows = rows_ND()
    rows[21, 3] = value
    with pytest.raises(InputError, match="row 21 holds NaN or infinity"):
        build_index(kind, rows)
    index = build_index(kind, rows_ND())
    with pytest.raises(InputError, match="query 21 holds NaN or infinity"):
        index.search(rows, 3)


def test_rows_are_named_as_in_the_store_though_others_failed(kind: str) -> None:
    rows = rows_ND()
    rows[21, 3] = np.nan
    with pytest.raises(InputError, match=r"rows: 1 of 40 rows of descriptors hold NaN.*: rows 21 \(from 0\)"):
        build_index(kind, DescriptorStore.from_arrays(rows))


def test_nothing_but_zeros(kind: str) -> None:
    index = build_index(kind, np.zeros((3, 4)))
    assert len(index) == 0
    assert (index.search(np.eye(4), 2).indices == -1).all()
