"""Sets of rows of which many are the same, against the same sets kept one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dejavlad.evaluation import answers_of, filter_ranking, recall
from dejavlad.ground_truth import Truth
from dejavlad.ground_truth.row_sets import (
    Rows,
    RowSets,
    SharedRowSets,
)
from dejavlad.ranking import Ranking


@pytest.mark.slow
@given(st.data())
def test_shared_sets_are_as_others(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 12))
    rows = st.lists(st.integers(0, n - 1))
    few = data.draw(st.lists(rows, min_size=1, max_size=4))
    which = np.array(data.draw(st.lists(st.integers(-1, len(few) - 1), max_size=8)), np.int64)
    shared = SharedRowSets(RowSets.of(few, n), which)
    plain = RowSets.of([few[i] if i >= 0 else [] for i in which.tolist()], n)
    assert shared == plain and len(shared) == len(plain)
    assert shared.counts.tolist() == plain.counts.tolist() and shared.keys.tolist() == plain.keys.tolist()
    assert [members.tolist() for members in shared] == [members.tolist() for members in plain]
    assert [members.tolist() for members in shared[::-1]] == [members.tolist() for members in plain[::-1]]
    ranked = np.array(
        data.draw(
            st.lists(
                st.lists(st.integers(-1, n - 1), min_size=3, max_size=3),
                min_size=len(which),
                max_size=len(which),
            )
        ),
        np.int64,
    ).reshape(-1, 3)
    assert np.array_equal(shared.contains(ranked), plain.contains(ranked))
    right = RowSets.of([data.draw(rows) for _ in which], n)
    assert right.minus(shared) == right.minus(plain) and shared.minus(right) == plain.minus(right)
    truths = [Truth(right, n, {}, ignored=out) for out in (shared, plain)]
    assert truths[0].hash == truths[1].hash and truths[0].positives == truths[1].positives
    most = 4 if len(which) else 0
    rows_of = st.lists(st.integers(0, max(0, len(which) - 1)), max_size=most)
    sample = np.array(data.draw(rows_of), np.int64)
    assert shared.take(sample) == plain.take(sample) == RowSets.of([plain[i] for i in sample.tolist()], n)


def test_answers_of_some_queries_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of all at once: queries and database photos of few months, in groups of two."""
    random = np.random.default_rng(0)
    n, count = 60, 37
    distances = random.random((count, n), np.float32)
    order = np.argsort(distances, axis=1)
    whole = Ranking(order, np.take_along_axis(distances, order, 1))
    months = RowSets.of([np.flatnonzero(random.integers(0, 4, n) == 0) for _ in range(5)], n)
    out = SharedRowSets(months, random.integers(-1, 5, count))
    truth = Truth(
        RowSets.of([random.integers(0, n, 3) for _ in range(count)], n), n, {}, out, np.arange(n) // 2
    )
    sizes: list[int] = []

    def search(sample: Rows, depth: int) -> Ranking:
        sizes.append(len(sample))
        return Ranking(whole.indices[sample, :depth], whole.distances[sample, :depth])

    monkeypatch.setattr(recall, "ENTRIES", 5 * n)
    answers = answers_of(search, truth, 6)
    assert np.array_equal(answers.indices, filter_ranking(whole, truth, 6).indices) and max(sizes) < count
    assert not truth.ignored.contains(answers.indices).any()  # type: ignore[union-attr]
