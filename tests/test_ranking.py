"""Rankings: written, read, and what is none."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from dejavlad.errors import InputError, StoreError
from dejavlad.ranking import Ranking


def sample() -> Ranking:
    random = np.random.default_rng(0)
    return Ranking(random.integers(-1, 50, (7, 5)), np.sort(random.random((7, 5)), axis=1))


def test_a_ranking_comes_back(tmp_path: Path) -> None:
    ranking = sample()
    again = Ranking.load(ranking.save(tmp_path / "r.npz"))
    assert np.array_equal(again.indices, ranking.indices)
    assert np.array_equal(again.distances, ranking.distances)
    np.save(tmp_path / "r.npy", ranking.indices)
    assert Ranking.load(tmp_path / "r.npy").distances[3].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("form", ["stored", "deflated", "rows"])
def test_damaged_files_are_refused_and_closed(tmp_path: Path, form: str) -> None:
    """Warnings are errors: a file left open would be one."""
    path = tmp_path / ("r.npy" if form == "rows" else "r.npz")
    if form == "rows":
        np.save(path, sample().indices)
    else:
        write = np.savez if form == "stored" else np.savez_compressed
        write(path, indices=sample().indices, distances=sample().distances)
    whole = path.read_bytes()
    random = np.random.default_rng(1)
    refused = 0
    for trial in range(400):
        damaged = bytearray(whole)
        if trial % 4 == 0:
            damaged = damaged[: int(random.integers(len(damaged)))]
        for _ in range(int(random.integers(1, 6))):
            if damaged:
                damaged[int(random.integers(len(damaged)))] = int(random.integers(256))
        path.write_bytes(bytes(damaged))
        try:
            assert isinstance(Ranking.load(path), Ranking)
        except StoreError as error:
            assert str(error).count("\n") == 0
            refused += 1
    assert refused > 100


def test_what_is_no_ranking(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no ranking"):
        Ranking.load(tmp_path / "none.npz")
    with pytest.raises(StoreError, match="is not a ranking"):
        Ranking.load(tmp_path)
    for name, arrays in (
        ("fractions", {"indices": np.zeros((2, 2)), "distances": np.zeros((2, 2))}),
        ("words", {"indices": np.zeros((2, 2), int), "distances": np.full((2, 2), "x")}),
        ("shapes", {"indices": np.zeros((2, 2), int), "distances": np.zeros((2, 3))}),
        ("below", {"indices": np.full((2, 2), -2), "distances": np.zeros((2, 2))}),
        ("nan", {"indices": np.zeros((2, 2), int), "distances": np.full((2, 2), np.nan)}),
        ("lacking", {"indices": np.zeros((2, 2), int)}),
    ):
        np.savez(tmp_path / f"{name}.npz", **arrays)
        with pytest.raises(StoreError, match="is not a ranking"):
            Ranking.load(tmp_path / f"{name}.npz")
    np.save(tmp_path / "one.npy", np.int64(3))
    with pytest.raises(StoreError, match="is not a ranking"):
        Ranking.load(tmp_path / "one.npy")
    with zipfile.ZipFile(tmp_path / "other.npz", "w") as file:
        file.writestr("indices.npy", b"x")
    with pytest.raises(StoreError, match="is not a ranking"):
        Ranking.load(tmp_path / "other.npz")
    with pytest.raises(InputError, match="one shape"):
        Ranking(np.zeros((2, 2), int), np.zeros((2, 3)))


def test_rows_that_seem_to_be_counted_from_one_are_named() -> None:
    """As MATLAB counts them."""
    from_one = Ranking(np.array([[3, 1], [2, -1]]), np.zeros((2, 2)))
    assert from_one.misfit(2, 4) == "" and "subtract 1" in from_one.misfit(2, 3)
    assert "subtract 1" not in from_one.misfit(2, 2)  # beyond the database either way
    assert "subtract 1" not in Ranking(np.array([[3, 0], [2, 1]]), np.zeros((2, 2))).misfit(2, 3)
    assert "subtract 1" not in Ranking(np.empty((2, 0)), np.empty((2, 0))).misfit(3, 0)
