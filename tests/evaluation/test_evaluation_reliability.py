"""Confidence against what is right: bins, known shares, ROC area and errors of positions, by hand."""

import json

import numpy as np
import pytest

from dejavlad.errors import InputError
from dejavlad.evaluation.reliability import Reliability, reliability, roc_area

SURE = [0.05, 0.1, 0.45, 0.6, 0.9, 1.0]
RIGHT = [False, False, True, False, True, True]
METRES = [900, np.nan, 3, 700, 5, 2]


def test_by_hand():
    made = reliability(SURE, RIGHT, METRES, [1, 1, 1, 25, 4, np.nan])
    assert (made.right, made.wrong) == (3, 3)
    assert made.known_right == pytest.approx(2 / 3) and made.known_wrong == pytest.approx(1 / 3)
    assert [(b.low, b.answers) for b in made.bins] == [(0.0, 2), (0.4, 1), (0.6, 1), (0.8, 2)]
    first, last = made.bins[0], made.bins[-1]
    assert (first.confidence, first.right, first.position_error) == (pytest.approx(0.075), 0, 900)
    assert (last.confidence, last.right, last.position_error) == (pytest.approx(0.95), 1, 3.5)
    assert last.off == pytest.approx(-0.05)
    assert made.position_error == (5, pytest.approx(np.quantile([700, 5, 2], 0.9)))
    assert made.within_stated == 0  # of 700 within 25 and 5 within 4
    text = str(made)
    assert "66.7% of 3 right answers and 33.3% of 3 wrong ones" in text and "position error of known" in text
    assert Reliability.from_dict(json.loads(json.dumps(made.to_dict()))) == made


def test_roc_area_is_the_share_of_pairs_in_order():
    rng = np.random.default_rng(0)
    right, wrong = rng.integers(0, 9, 40), rng.integers(0, 6, 30)
    pairs = [(a > b) + (a == b) / 2 for a in right for b in wrong]
    assert roc_area(right, wrong) == pytest.approx(np.mean(pairs))
    assert roc_area([], wrong) is None and roc_area(right, []) is None


def test_calibrated_answers_are_not_off():
    rng = np.random.default_rng(0)
    sure = rng.random(20_000)
    made = reliability(sure, rng.random(20_000) < sure)
    assert len(made.bins) == 5 and max(abs(b.off) for b in made.bins) < 0.03
    made = reliability(sure, rng.random(20_000) < sure**3)
    assert made.bins[2].off > 0.3


def test_without_positions_or_answers_nothing_is_made_up():
    made = reliability([0.7], [True])
    assert made.position_error is None and made.known_wrong is None and made.roc_area is None
    assert "position error" not in str(made)
    empty = reliability([], [])
    assert empty.bins == () and str(empty) == "known: no answers"


@pytest.mark.parametrize(
    ("sure", "right", "bins"), [([0.5], [], 5), ([1.5], [True], 5), ([np.nan], [True], 5), ([0.5], [True], 0)]
)
def test_refusals(sure, right, bins):
    with pytest.raises(InputError):
        reliability(sure, right, bins=bins)
