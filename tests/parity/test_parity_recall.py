"""recall@N as the original ``recallAtN.m`` computes it, on the official specs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import loadmat
from scipy.spatial import cKDTree

from dejavlad.datasets import Truth, read_netvlad_spec, truth_positions
from dejavlad.evaluation import answers_alone, depth_needed, evaluate
from dejavlad.geo import Position
from dejavlad.ranking import Ranking

SHARED = Path(__file__).parents[3] / "shared"
GOLDEN = Path(os.environ.get("DEJAVLAD_GOLDEN", SHARED / "golden"))
SPECS = SHARED / "data" / "specs"
NS = [*range(1, 6), *range(10, 101, 5)]


def opened(name: str) -> tuple[dict[str, Any], Truth]:
    """What the original answered, and the truth of the spec."""
    golden, spec = GOLDEN / f"recall_{name}.mat", SPECS / f"{name}.mat"
    for path in (golden, spec):
        if not path.is_file():
            pytest.skip(f"there is no {path} (DEJAVLAD_GOLDEN names the golden folder)")
    held = read_netvlad_spec(spec).truth
    database, queries = ([Position(*at) for at in rows.tolist()] for rows in (held.database, held.queries))
    return loadmat(golden), truth_positions(database, queries, held.radius)


def nearest(told: dict[str, Any], depth: int) -> Ranking:
    distances, indices = cKDTree(told["dbF"].T).query(told["qF"].T, k=depth)
    return Ranking(indices, distances)


def check(ranking: Ranking, truth: Truth, told: dict[str, Any]) -> None:
    result = evaluate(ranking, truth, recall_at=NS)
    assert list(result.recall.values()) == pytest.approx(told["recall"].ravel().tolist(), abs=1e-12)
    assert result.hits_at is not None
    hits = result.hits_at[:, None]
    assert np.array_equal((hits > 0) & (hits <= NS), told["allRecalls"] > 0)


def test_recall_of_pitts30k_test() -> None:
    told, truth = opened("pitts30k_test")
    check(nearest(told, 100), truth, told)


def test_recall_of_tokyo247_one_answer_a_panorama() -> None:
    told, truth = opened("tokyo247")
    panoramas = truth.grouped(np.arange(truth.n_database) // 12)
    assert depth_needed(panoramas, 100) == 1200
    deep = nearest(told, 1200)
    check(deep, panoramas, told)
    check(answers_alone(deep, panoramas, 100), panoramas, told)
