"""A few dozen damaged files of each kind; `mutations` tries as many as one likes."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from kinds_of_maps import KINDS
from mutations import fresh, targets, try_case

CASES = 24
FEW = (
    *("map again", "run", "run again", "map index again", "map index hnsw again"),
    *("map features", "shards", "map shards", "map in lance"),
)
"""Of which each case takes its time."""
SLOW = ("map in lance", "map features")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in KINDS]
)
def test_damaged_files(name: str, tmp_path: Path) -> None:
    kind, scratch, whole = KINDS[name], tmp_path / "case", tmp_path / "whole"
    kind.make(scratch)
    shutil.copytree(scratch, whole)
    right = kind.answer(fresh(whole, scratch))
    assert kind.answer(fresh(whole, scratch)) == right
    assert targets(kind, scratch)
    outcomes = Counter[str]()
    for case in range(6 if name in FEW else CASES):
        path, outcome = try_case(kind, whole, scratch, case, right)
        assert outcome in ("same", "refused", "other, unchecked"), f"{name} case {case} of {path}: {outcome}"
        outcomes[outcome] += 1
    is_cache = name == "frozen maps" or name.startswith("map index")  # which is passed over, or made anew
    assert is_cache or outcomes["refused"]
