"""recall@N as the original ``recallAtN.m`` computes it, on the official specs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import loadmat
from scipy.spatial import cKDTree

from dejavlad.evaluation import depth_needed, evaluate, filter_ranking
from dejavlad.geo import Position
from dejavlad.ground_truth import (
    Truth,
    read_netvlad_spec,
    truth_positions,
)
from dejavlad.ranking import Ranking
from goldens import golden_path

SPECS = Path(__file__).parents[3] / "shared" / "data" / "specs"
NS = [*range(1, 6), *range(10, 101, 5)]


def opened(name: str) -> tuple[dict[str, Any], Truth]:
    """What the original answered, and the truth of the spec."""
    golden, spec = golden_path(f"recall_{name}.mat"), SPECS / f"{name}.mat"
    if not spec.is_file():
        pytest.skip(f"no {spec}")
    positions = read_netvlad_spec(spec).truth
    database, queries = (
        [Position(*at) for at in rows.tolist()] for rows in (positions.database, positions.queries)
    )
    return loadmat(golden), truth_positions(database, queries, positions.radius)


def nearest(original: dict[str, Any], depth: int) -> Ranking:
    distances, indices = cKDTree(original["dbF"].T).query(original["qF"].T, k=depth)
    return Ranking(indices, distances)


def check(ranking: Ranking, truth: Truth, original: dict[str, Any]) -> None:
    result = evaluate(ranking, truth, recall_at=NS)
    assert list(result.recall.values()) == pytest.approx(original["recall"].ravel().tolist(), abs=1e-12)
    assert result.hits_at is not None
    hits = result.hits_at[:, None]
    assert np.array_equal((hits > 0) & (hits <= NS), original["allRecalls"] > 0)


@pytest.mark.slow
def test_recall_of_pitts30k_test() -> None:
    original, truth = opened("pitts30k_test")
    check(nearest(original, 100), truth, original)


@pytest.mark.slow
def test_recall_of_tokyo247_one_answer_a_panorama() -> None:
    original, truth = opened("tokyo247")
    panoramas = truth.grouped(np.arange(truth.n_database) // 12)
    deep = nearest(original, depth_needed(panoramas, 100))
    check(deep, panoramas, original)
    check(filter_ranking(deep, panoramas, 100), panoramas, original)
