"""recall@N as the original ``recallAtN.m`` computes it, on the official Pitts30k test spec."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat
from scipy.spatial import cKDTree

from dejavlad.datasets import truth_positions
from dejavlad.evaluation import evaluate
from dejavlad.geo import Position
from dejavlad.ranking import Ranking

SHARED = Path(__file__).parents[3] / "shared"
GOLDEN = Path(os.environ.get("DEJAVLAD_GOLDEN", SHARED / "golden"))
SPEC = SHARED / "data" / "specs" / "pitts30k_test.mat"


def test_recall_of_pitts30k_test() -> None:
    golden = GOLDEN / "recall_pitts30k_test.mat"
    for path in (golden, SPEC):
        if not path.is_file():
            pytest.skip(f"there is no {path} (DEJAVLAD_GOLDEN names the golden folder)")
    told = loadmat(golden)
    spec = loadmat(SPEC, squeeze_me=True, struct_as_record=False)["dbStruct"]
    database, queries = (
        [Position(east, north) for east, north in utm.T.tolist()] for utm in (spec.utmDb, spec.utmQ)
    )
    truth = truth_positions(database, queries, float(spec.posDistThr))
    distances, indices = cKDTree(told["dbF"].T).query(told["qF"].T, k=100)
    ns = [*range(1, 6), *range(10, 101, 5)]
    result = evaluate(Ranking(indices, distances), truth, recall_at=ns)
    assert list(result.recall.values()) == pytest.approx(told["recall"].ravel().tolist(), abs=1e-12)
    assert result.hits_at is not None
    hits = result.hits_at[:, None]
    assert np.array_equal((hits > 0) & (hits <= ns), told["allRecalls"] > 0)
