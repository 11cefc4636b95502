"""Mean average precision and loop closures against the originals' code, run in Octave."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat

from dejavlad.datasets import Truth
from dejavlad.evaluation.average_precision import average_precisions, map_metrics
from dejavlad.evaluation.loops import both_ways_curve
from dejavlad.ranking import Ranking

TESTS = Path(__file__).parents[1]


def golden(name: str):
    places = [os.environ.get("DEJAVLAD_GOLDEN", TESTS.parents[1] / "shared" / "golden"), TESTS / "golden"]
    return loadmat(next(Path(place) / name for place in places if (Path(place) / name).is_file()))


def test_average_precision_of_each_query_as_relja_retrieval_map() -> None:
    told = golden("retrieval_map.mat")
    database, queries = told["dbX"].T.astype(np.float64), told["qX"].T.astype(np.float64)
    far = np.linalg.norm(queries[:, None] - database, axis=2)
    order = np.argsort(far, axis=1, kind="stable")
    ranking = Ranking(order, np.take_along_axis(far, order, axis=1))
    rows = {
        name: [ids.ravel().astype(int) - 1 for ids in told[name].ravel()] for name in ("posIDs", "ignoreIDs")
    }
    truth = Truth(rows["posIDs"], len(database), {}, rows["ignoreIDs"])
    assert truth.positives.counts.tolist() == [len(ids) for ids in rows["posIDs"]]
    assert average_precisions(ranking, truth) == pytest.approx(told["APs"].ravel(), abs=1e-12)
    assert map_metrics(ranking, truth, "oxford")["mAP"] == pytest.approx(told["mAP"].item(), abs=1e-12)


def test_loop_closures_as_evaluate_pr() -> None:
    told = golden("loop_pr.mat")
    positions, best = told["gtpos"], told["midx"].ravel().astype(int) - 1
    apart = np.linalg.norm(positions - positions[best], axis=1)
    found = both_ways_curve(told["md2"], apart, np.sqrt(told["gtd2"]), 5.0)
    assert found.precision == pytest.approx(told["p"].ravel(), abs=1e-11)
    assert found.recall == pytest.approx(told["r"].ravel(), abs=1e-11)
    assert found.auc == pytest.approx(told["auc"].item(), abs=1e-12)
