"""Sets of rows of which many are the same, against the same sets kept one by one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dejavlad.datasets import Truth
from dejavlad.datasets.row_sets import RowSets, SharedRowSets


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
    assert [one.tolist() for one in shared] == [one.tolist() for one in plain]
    assert [one.tolist() for one in shared[::-1]] == [one.tolist() for one in plain[::-1]]
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
