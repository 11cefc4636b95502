"""Lists and a truth are enough to score a ranking: the photos need not be there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def lists(tmp_path: Path) -> tuple[str, ...]:
    """Options that name two lists of frames, of which there is not one, and a ranking of them."""
    for name in ("summer", "winter"):
        (tmp_path / f"{name}.txt").write_text("".join(f"{name}/images-{i:05d}.png\n" for i in range(8)))
    rows = np.arange(8)[:, None] + [3, 1, 0]
    np.save(tmp_path / "mine.npy", rows % 8)
    return ("--database", str(tmp_path / "summer.txt"), "--queries", str(tmp_path / "winter.txt"))


def test_a_ranking_is_scored(run: Run, lists: tuple[str, ...], tmp_path: Path) -> None:
    ranking = tmp_path / "mine.npy"
    words = ("evaluate", "--ranking", ranking, *lists, "--recall-at", "1,2,3", "--out", tmp_path / "out")
    status, out, _ = run(*words, "--truth", "frames:1", "--json")
    assert status == 0 and json.loads(out)["recall"] == {"1": 0.0, "2": 0.875, "3": 1.0}
    status, out, _ = run(*words, "--protocol", "nordland@2f-27592", "--json")
    assert status == 0 and json.loads(out)["recall"] == {"1": 0.0, "2": 0.875, "3": 1.0}
    status, out, _ = run("explain", ranking, *lists, "--truth", "frames:1", "--recall-at", "2")
    assert status == 0 and "0.8750" in out


def test_photos_to_be_described_must_be_there(run: Run, lists: tuple[str, ...], tmp_path: Path) -> None:
    status, _, err = run("evaluate", "rootsift-vlad", *lists, "--truth", "frames:1", "--out", tmp_path / "o")
    assert status == 1 and "8 of 8 photos of" in err and "--root" in err
