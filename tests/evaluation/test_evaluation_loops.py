"""Precision and recall, and loop closures scored."""

from __future__ import annotations

import numpy as np
import pytest

from dejavlad.errors import InputError
from dejavlad.evaluation.loops import both_ways, reachable, score_loops
from dejavlad.evaluation.precision_recall import precision_recall
from dejavlad.ground_truth import RowSets


def test_curve_by_hand() -> None:
    curve = precision_recall([0.9, 0.5, 0.8, 0.7], [True, True, True, False], relevant=5)
    assert curve.scores.tolist() == [0.9, 0.8, 0.7, 0.5]
    assert curve.precision.tolist() == pytest.approx([1, 1, 2 / 3, 3 / 4])
    assert curve.recall.tolist() == pytest.approx([0.2, 0.4, 0.4, 0.6])
    assert curve.auc == pytest.approx(0.2 + 0.2 + 0.2 * 3 / 4)
    assert curve.recall_at_full_precision == pytest.approx(0.4)
    assert curve.score_at_full_precision == 0.8
    assert curve.recall_at(0.75) == pytest.approx(0.6)
    figures = curve.to_dict()
    assert figures["max_f1"] == pytest.approx(2 * 3 / 9) and figures["max_f1_score"] == 0.5


def test_answers_of_one_score_are_given_together() -> None:
    curve = precision_recall([0.9, 0.9, 0.1], [True, False, True], relevant=2)
    assert curve.given.tolist() == [2, 3] and curve.precision.tolist() == pytest.approx([0.5, 2 / 3])
    assert curve.recall_at_full_precision == 0 and curve.score_at_full_precision is None


def test_no_answer_is_no_curve() -> None:
    figures = precision_recall([], [], relevant=3).to_dict()
    assert figures["auc"] == 0 and figures["recall_at_100_precision"] == 0 and "max_f1" not in figures


@pytest.mark.parametrize(
    ("scores", "right", "relevant", "message"),
    [
        ([1, 2], [True], 3, "one score an answer"),
        ([np.nan, 2], [True, False], 3, "NaN"),
        ([1, 2], [True, True], 1, "only 1"),
    ],
)
def test_bad_curves(scores, right, relevant, message) -> None:
    with pytest.raises(InputError, match=message):
        precision_recall(scores, right, relevant)


def circle(turns: int = 2, length: int = 40) -> RowSets:
    """A drive round and round: frame i is at the place of i - length."""
    n = turns * length
    return RowSets.of([[j for j in range(n) if j % length == i % length and j != i] for i in range(n)], n)


def test_only_frames_before_the_window_count() -> None:
    right = circle()
    assert reachable(right, 10).sum() == 40 and not reachable(right, 10)[:40].any()
    assert reachable(right, 39).sum() == 40 and reachable(right, 40).sum() == 0


def test_score_of_loops() -> None:
    right = circle()
    score = score_loops([40, 41, 50], [0, 1, 11], [0.9, 0.8, 0.7], right, window=10, protocol={"truth": "x"})
    assert score.right.tolist() == [True, True, False]
    description = score.to_dict()
    assert (description["n_frames"], description["n_with_loop"], description["n_answers"]) == (80, 40, 3)
    assert description["recall_at_100_precision"] == pytest.approx(2 / 40)
    assert description["protocol"]["window"] == 10 and len(description["protocol"]["truth_hash"]) == 64
    other = RowSets.of([[] if i < 40 else [i - 40] for i in range(80)], 80)
    assert (
        score_loops([40], [0], [1], other, window=10).to_dict()["protocol"]["truth_hash"]
        != description["protocol"]["truth_hash"]
    )


@pytest.mark.parametrize(
    ("frames", "closes", "message"),
    [
        ([40, 40], [0, 1], "one loop at most"),
        ([80], [0], "80 frames"),
        ([40], [-1], "80 frames"),
        ([40], [30], "window"),
        ([10], [40], "window"),
    ],
)
def test_bad_answers(frames, closes, message) -> None:
    with pytest.raises(InputError, match=message):
        score_loops(frames, closes, [1.0] * len(frames), circle(), window=10)


def test_a_truth_without_any_loop_measures_nothing() -> None:
    with pytest.raises(InputError, match="nothing to measure"):
        score_loops([], [], [], RowSets.of([[]] * 5, 5), window=1)


def test_protocol_of_the_tensorflow_port_against_the_slow_way() -> None:
    random = np.random.default_rng(0)
    n, window, radius = 120, 15, 3.0
    centres = random.normal(size=(n, 3)) * 4
    rows = np.concatenate([centres + random.normal(size=(n, 3)) * 2, random.normal(size=(n, 9)) * 50], axis=1)
    measured = both_ways(rows.astype(np.float32), centres, radius=radius, window=window, dims=3)
    rows3 = rows.astype(np.float32).astype(np.float64)[:, :3]
    best, far, apart, near = [], [], [], []
    for i in range(n):
        others = [j for j in range(n) if abs(i - j) > window]
        j = min(others, key=lambda j: np.linalg.norm(rows3[i] - rows3[j]))
        best.append(j)
        far.append(np.linalg.norm(rows3[i] - rows3[j]))
        apart.append(np.linalg.norm(centres[i] - centres[j]))
        near.append(min(np.linalg.norm(centres[i] - centres[j]) for j in others))
    true = [a < radius for a in apart]
    relevant = sum(a < radius for a in near)
    hits, precision, recall = 0, [], []
    for given, i in enumerate(np.argsort(far), 1):
        hits += true[i]
        precision.append(hits / given)
        recall.append(hits / relevant)
    assert 0 < sum(true) < n
    assert measured.precision == pytest.approx(precision) and measured.recall == pytest.approx(recall)
    area = sum((recall[i] - recall[i - 1]) * precision[i] for i in range(1, n))
    assert measured.auc == pytest.approx(area)


def test_protocol_of_the_tensorflow_port_refuses() -> None:
    rows, centres = np.zeros((30, 4), np.float32), np.zeros((30, 3))
    with pytest.raises(InputError, match="30 frames are described"):
        both_ways(rows, centres[:29], window=5)
    with pytest.raises(InputError, match="NaN"):
        both_ways(rows, np.full((30, 3), np.nan), window=5)
    with pytest.raises(InputError, match="within the window"):
        both_ways(rows, centres)
