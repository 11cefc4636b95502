"""Mean average precision: by hand, against the slow way, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from dejavlad.errors import InputError, UnknownNameError
from dejavlad.evaluation.average_precision import (
    average_precisions,
    average_precisions_at,
    map_metrics,
    mean,
    measured,
    needs_whole,
    precisions_at,
)
from dejavlad.ground_truth import Truth
from dejavlad.ranking import Ranking


def ranked(*rows: list[int]) -> Ranking:
    indices = np.array(rows)
    return Ranking(indices, np.where(indices < 0, np.inf, np.arange(indices.shape[1])))


def slow_oxford(order: NDArray[np.int64], right: set[int], junk: set[int]) -> float:
    hits, area, precision, recall = 0, 0.0, 1.0, 0.0
    kept = [row for row in order.tolist() if row not in junk]
    for place, row in enumerate(kept, 1):
        hits += row in right
        now, reached = hits / place, hits / len(right)
        area += (reached - recall) * (precision + now) / 2
        precision, recall = now, reached
    return area


def slow_msls(order: NDArray[np.int64], right: set[int], k: int) -> float:
    score, hits = 0.0, 0
    for place, row in enumerate(order.tolist()[:k]):
        if row in right:
            hits += 1
            score += hits / (place + 1)
    return score / min(len(right), k)


def test_by_hand() -> None:
    truth = Truth([[0, 1], [3]], 4, {}, [[2], []])
    # query 0: 2 is junk, so 0 and 3, 1 are ranks 1, 2, 3; query 1: 3 is third
    ranking = ranked([2, 0, 3, 1], [0, 1, 3, 2])
    first = (1 + 1) / 4 + (1 / 2 + 2 / 3) / 4
    assert average_precisions(ranking, truth).tolist() == pytest.approx([first, (0 + 1 / 3) / 2])
    assert precisions_at(ranking, truth, 2).tolist() == pytest.approx([1 / 2, 0])
    assert precisions_at(ranking, truth, 10).tolist() == pytest.approx([2 / 3, 1 / 3])
    assert average_precisions_at(ranking, truth, 2).tolist() == pytest.approx([1 / 2, 0])


def test_against_the_slow_way() -> None:
    random = np.random.default_rng(0)
    n, queries = 50, 40
    order = np.argsort(random.random((queries, n)), axis=1)
    right = [random.choice(n, random.integers(1, 9), replace=False).tolist() for _ in range(queries)]
    junk = [random.choice(n, random.integers(0, 6), replace=False).tolist() for _ in range(queries)]
    truth = Truth(right, n, {}, junk)
    ranking = ranked(*order.tolist())
    valid_answers = [set(a) - set(b) for a, b in zip(right, junk, strict=True)]
    slow = [
        slow_oxford(o, a, set(b)) if a else np.nan for o, a, b in zip(order, valid_answers, junk, strict=True)
    ]
    assert average_precisions(ranking, truth) == pytest.approx(slow, nan_ok=True)
    plain = Truth(right, n, {})
    for k in (1, 5, 20):
        precisions = average_precisions_at(ranking, plain, k)
        assert precisions == pytest.approx(
            [slow_msls(o, set(a), k) for o, a in zip(order, right, strict=True)]
        )


def test_a_query_without_a_right_answer_is_left_out_of_the_mean() -> None:
    truth = Truth([[0], []], 2, {})
    values = average_precisions(ranked([0, 1], [0, 1]), truth)
    assert values[0] == 1.0 and np.isnan(values[1]) and mean(values) == 1.0
    with pytest.raises(InputError, match="no query has a right answer"):
        map_metrics(ranked([0, 1]), Truth([[]], 2, {}), "oxford")


def test_a_photo_that_failed_is_never_found() -> None:
    truth = Truth([[0, 2]], 3, {})
    assert average_precisions(ranked([0, 1, -1]), truth).tolist() == [0.5]
    assert average_precisions(ranked([0, -1]), truth).tolist() == [0.5]


def test_a_ranking_cut_before_the_last_right_answer_is_refused() -> None:
    truth = Truth([[0, 2]], 3, {})
    with pytest.raises(InputError, match="-k 3"):
        average_precisions(ranked([0, 1]), truth)
    assert average_precisions(ranked([0, 2]), truth).tolist() == [1.0]
    with pytest.raises(InputError, match="mAP@3 needs a ranking 3 deep"):
        average_precisions_at(ranked([0, 1]), truth, 3)


def test_bad_input() -> None:
    truth = Truth([[0]], 3, {})
    with pytest.raises(InputError, match="2 queries"):
        average_precisions(ranked([0, 1], [1, 0]), truth)
    with pytest.raises(InputError, match="row 3"):
        average_precisions(ranked([0, 3]), truth)
    with pytest.raises(InputError, match="twice"):
        average_precisions(ranked([1, 0, 0]), truth)
    with pytest.raises(UnknownNameError, match="measure"):
        map_metrics(ranked([0, 1, 2]), truth, "oxfrd")
    with pytest.raises(InputError, match="k of 1"):
        average_precisions_at(ranked([0, 1, 2]), truth, 0)


def test_what_datasets_are_measured_by() -> None:
    truth = Truth([[0, 1]], 30, {})
    ranking = ranked(list(range(30)))
    assert map_metrics(ranking, truth, "oxford") == {"mAP": 1.0}
    assert map_metrics(ranking, truth, "revisited") == {"mAP": 1.0, "mP@1": 1.0, "mP@5": 1.0, "mP@10": 1.0}
    assert map_metrics(ranking, truth, "msls") == {f"mAP@{k}": 1.0 for k in (1, 5, 10, 20)}
    assert set(map_metrics(ranking.top(7), truth, "msls")) == {"mAP@1", "mAP@5"}


def test_a_truth_says_what_it_is_measured_by() -> None:
    ranking = ranked([1, 0, 2])
    assert measured(ranking, Truth([[0]], 3, {"kind": "frames"})) == {}
    assert measured(ranking, Truth([[0]], 3, {"measure": "msls"})) == {"mAP@1": 0.0}
    assert measured(ranking, Truth([[0]], 3, {"measure": "oxford"})) == {"mAP": pytest.approx(1 / 4)}
    assert measured(ranking, Truth([[]], 3, {"measure": "oxford"})) == {}
    assert needs_whole(Truth([[0]], 3, {"measure": "revisited"})) and not needs_whole(None)
    assert not needs_whole(Truth([[0]], 3, {"measure": "msls"}))
