"""Options that would change nothing: refused, or noted, rather than passed over in silence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dejavlad.extraction import DescriptorStore

Run = Callable[..., tuple[int, str, str]]
N, D = 6, 8


@pytest.fixture
def stores(tmp_path: Path) -> tuple[str, ...]:
    """Descriptors of two lists of six photos: alike in all dimensions, but not in the first two."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(N, D)).astype(np.float32)
    rows[:, :2] *= 0.1
    near = rows + 0.01 * random.normal(size=(N, D)).astype(np.float32)
    near[:, :2] = near[::-1, :2]
    for name, rows_ND in (("db", rows), ("q", near)):
        np.save(tmp_path / f"{name}.npy", rows_ND)
        assert len(DescriptorStore.open(tmp_path / f"{name}.npy")) == N
    return "--database", "db.npy", "--queries", "q.npy", "--truth", "frames:0", "--recall-at", "1", "-k", "3"


def test_dims_of_stores_are_measured(run: Run, stores: tuple[str, ...]) -> None:
    status, out, err = run("evaluate", *stores, "--dims", "2", "--out", "r", "--json")
    assert status == 0, err
    result = json.loads(out)
    database, queries = (np.load(name)[:, :2] for name in ("db.npy", "q.npy"))
    database, queries = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (database, queries))
    first = (queries @ database.T).argmax(axis=1)
    assert result["dims"]["2"]["1"] == pytest.approx((first == np.arange(N)).mean())
    assert result["dims"]["2"]["1"] < result["recall"]["1"] == 1


@pytest.mark.parametrize("option", [("--resize", "240x320"), ("--weights", "random:0"), ("--no-reduce",)])
def test_what_describes_photos_is_refused_with_stores(
    run: Run, stores: tuple[str, ...], option: tuple[str, ...]
) -> None:
    status, out, err = run("evaluate", *stores, *option, "--out", "r")
    assert (status, out) == (1, "") and f"described already: leave {option[0]} out" in err
    status, _, err = run("loops", "db.npy", *option, "--out", "loops")
    assert status == 1 and f"'db.npy' is described already: leave {option[0]} out" in err


def test_dims_of_a_store_are_refused_where_they_change_nothing(run: Run, stores: tuple[str, ...]) -> None:
    status, _, err = run("loops", "db.npy", "--dims", "2", "--out", "loops")
    assert status == 1 and "leave --dims out" in err


def test_several_dims_are_for_evaluate_alone(run: Run, street: Path) -> None:
    words = ("extract", "rootsift-vlad", street / "database", "--out", "store", "--dims", "8,16")
    status, _, err = run(*words)
    assert status == 1 and "--dims 8,16: give one number of dimensions; only `evaluate` takes several" in err


def test_an_index_of_a_ranking_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "predictions.txt").write_text("a.jpg, b.jpg\n", encoding="utf-8")
    words = ("pairs", "predictions.txt", "--format", "hloc", "--out", "pairs.txt")
    status, _, err = run(*words, "--index", "1bit")
    assert status == 1 and "--index 1bit is how stores are searched" in err
    assert run(*words)[0] == 0


@pytest.mark.slow
def test_a_map_says_that_its_model_stays_as_it_is(run: Run, street: Path) -> None:
    build = ("map", "build", "rootsift-vlad", street / "database", "--out", "m", "--device", "cpu", "--quiet")
    assert run(*build)[0] == 0
    locate = ("locate", "m", street / "queries" / "03.png", "--verify", "none", "--json")
    status, out, err = run(*locate, "--resize", "64x64")
    assert status == 0 and "no effect of --resize" in err
    status, plain, err = run(*locate)
    assert (status, plain) == (0, out) and "no effect" not in err
