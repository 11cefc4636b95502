"""Mean average precision and loop closures against the originals' code, run in Octave."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.io import loadmat

from dejavlad.evaluation.average_precision import average_precisions, map_metrics
from dejavlad.evaluation.loops import both_ways_curve
from dejavlad.ground_truth import Truth
from dejavlad.ranking import Ranking
from goldens import golden_path


def test_average_precision_of_each_query_as_relja_retrieval_map() -> None:
    golden = loadmat(golden_path("retrieval_map.mat"))
    database, queries = golden["dbX"].T.astype(np.float64), golden["qX"].T.astype(np.float64)
    far = np.linalg.norm(queries[:, None] - database, axis=2)
    order = np.argsort(far, axis=1, kind="stable")
    ranking = Ranking(order, np.take_along_axis(far, order, axis=1))
    rows = {
        name: [ids.ravel().astype(int) - 1 for ids in golden[name].flat] for name in ["posIDs", "ignoreIDs"]
    }
    truth = Truth(rows["posIDs"], len(database), {}, rows["ignoreIDs"])
    assert truth.positives.counts.tolist() == [len(ids) for ids in rows["posIDs"]]
    assert average_precisions(ranking, truth) == pytest.approx(golden["APs"].ravel(), abs=1e-12)
    assert map_metrics(ranking, truth, "oxford")["mAP"] == pytest.approx(golden["mAP"].item(), abs=1e-12)


def test_loop_closures_as_evaluate_pr() -> None:
    golden = loadmat(golden_path("loop_pr.mat"))
    positions, best = golden["gtpos"], golden["midx"].ravel().astype(int) - 1
    apart = np.linalg.norm(positions - positions[best], axis=1)
    curve = both_ways_curve(golden["md2"], apart, np.sqrt(golden["gtd2"]), 5.0)
    assert curve.precision == pytest.approx(golden["p"].ravel(), abs=1e-11)
    assert curve.recall == pytest.approx(golden["r"].ravel(), abs=1e-11)
    assert curve.auc == pytest.approx(golden["auc"].item(), abs=1e-12)
