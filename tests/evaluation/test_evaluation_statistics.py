"""Intervals and paired tests against their slow or known forms; parts, distances, comparisons with tests."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from dejavlad.cli import main
from dejavlad.errors import InputError, StoreError
from dejavlad.evaluation import Result, compare, evaluate
from dejavlad.evaluation.breakdown import by_distance
from dejavlad.evaluation.statistics import intervals, paired
from dejavlad.geo import Position, utm_from_latlon
from dejavlad.ground_truth import (
    Truth,
    truth_positions,
)
from dejavlad.photo import Photo, PhotoList
from dejavlad.ranking import Ranking


def hits_of(right: np.ndarray) -> np.ndarray:
    return np.where(right, 1, 0).astype(np.int64)


def test_intervals_of_single_queries_are_about_binomial() -> None:
    random = np.random.default_rng(0)
    hits = hits_of(random.random(1000) < 0.8)
    (low, high) = intervals(hits, [1])[1]
    share, half = (hits == 1).mean(), 1.96 * 0.4 / np.sqrt(1000)
    assert low == pytest.approx(share - half, abs=0.004) and high == pytest.approx(share + half, abs=0.004)
    assert intervals(hits, [1]) == intervals(hits, [1])  # seeded


def test_intervals_are_as_wide_as_there_are_few_blocks() -> None:
    blocks = np.repeat(np.arange(10), 100)
    hits = hits_of(np.repeat(np.arange(10) < 7, 100))
    low, high = intervals(hits, [1], blocks)[1]
    assert high - low > 0.4  # ten drives, not a thousand queries
    alone = intervals(hits, [1])[1]
    assert alone[1] - alone[0] < 0.07
    random = np.random.default_rng(1)
    slow = [
        np.concatenate([hits[blocks == b] for b in random.integers(10, size=10)]).mean() for _ in range(2000)
    ]
    assert np.quantile(slow, [0.025, 0.975]) == pytest.approx([low, high], abs=0.1)


def test_all_right_is_not_certain() -> None:
    ones = np.ones(20, np.int64)
    assert intervals(ones, [1])[1] == pytest.approx((0.025 ** (1 / 20), 1.0))
    assert intervals(0 * ones, [1])[1] == pytest.approx((0.0, 1 - 0.025 ** (1 / 20)))
    two = np.repeat([0, 1], 10)
    assert intervals(ones, [1], two)[1][0] == pytest.approx(0.025**0.5)


def test_queries_that_do_not_count_change_nothing() -> None:
    hits = hits_of(np.arange(50) % 3 > 0)
    more = np.concatenate([hits, np.zeros(50, np.int64)])
    blocks = np.concatenate([np.arange(50), np.full(50, -1)])
    assert intervals(hits, [1]) == intervals(more, [1], blocks)
    assert (
        paired(hits, 1 - hits, [1])[0].p == paired(more, np.concatenate([1 - hits, hits]), [1], blocks)[0].p
    )
    for wrong in (np.full(100, -1), np.arange(5)):
        with pytest.raises(InputError):
            intervals(more, [1], wrong)
    with pytest.raises(InputError, match="same queries"):
        paired(hits, more, [1])


def test_mcnemar_is_exact() -> None:
    first = hits_of(np.array([1] * 10 + [0] * 2 + [1] * 30, bool))
    second = hits_of(np.array([0] * 10 + [1] * 2 + [1] * 30, bool))
    (pair,) = paired(first, second, [1])
    assert (pair.first_only, pair.second_only) == (10, 2) and pair.test == "McNemar, exact"
    assert pair.p == pytest.approx(2 * (1 + 12 + 66) / 2**12)  # by hand
    assert pair.difference == pytest.approx(-8 / 42) and pair.low < pair.difference < pair.high
    assert str(pair).endswith("p 0.039 *")
    same = paired(first, first, [1])[0]
    assert same.p == 1.0 and str(same) == "recall@1 is the same on every query"


@pytest.mark.parametrize(("first_only", "second_only"), [(0, 7), (9, 9), (31, 12), (120, 180), (3, 900)])
def test_mcnemar_against_scipy(first_only: int, second_only: int) -> None:
    first = hits_of(np.repeat([True, False], [first_only, second_only]))
    (pair,) = paired(first, 1 - first, [1])
    assert pair.p == pytest.approx(binomtest(first_only, first_only + second_only).pvalue, rel=1e-12)


def test_drives_that_agree_by_chance_are_not_evidence() -> None:
    blocks = np.repeat(np.arange(4), 50)
    first, second = (hits_of(np.repeat(np.array(each, bool), 50)) for each in ([1, 0, 1, 0], [1, 1, 1, 0]))
    alone, together = paired(first, second, [1])[0], paired(first, second, [1], blocks)[0]
    assert alone.p < 1e-10 and together.p > 0.4  # one drive of four
    assert together.test == "random signs of 4 blocks"
    signs = paired(first, second, [1], np.repeat(np.arange(100), 2))[0]
    assert signs.p < 0.01


def street(n: int, **columns: list[object]) -> PhotoList:
    return PhotoList(
        Photo(
            f"{i}",
            Path(f"{i}"),
            position=Position(10.0 * i, 0.0),
            **{what: values[i] for what, values in columns.items()},  # type: ignore[arg-type]
        )
        for i in range(n)
    )


def ranking_of(rows: list[list[int]]) -> Ranking:
    indices = np.array(rows)
    return Ranking(indices, np.tile(np.arange(indices.shape[1], dtype=np.float32), (len(rows), 1)))


def result_of(rows: list[list[int]], queries: PhotoList, misses: str = "count") -> Result:
    database = street(6)
    truth = truth_positions(database, queries, 5)
    return evaluate(
        ranking_of(rows), truth, recall_at=[1, 2], misses=misses, database=database, queries=queries
    )  # type: ignore[arg-type]


ROWS = [[0, 1], [2, 1], [2, 3], [0, 5], [4, 0]]


def test_parts_by_tags(tmp_path: Path) -> None:
    queries = street(5, tags=[("day", "all"), ("day", "all"), ("night", "all"), ("night", "all"), ("all",)])
    result = result_of(ROWS, queries)
    parts = {name: (part.queries, dict(part.recall)) for name, part in result.parts.items()}
    assert parts == {"day": (2, {1: 0.5, 2: 1.0}), "night": (2, {1: 0.5, 2: 0.5})}
    assert "  night  recall@1 0.5000  recall@2 0.5000  (2 queries)" in str(result)
    assert Result.load(result.save(tmp_path)) == result
    description = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert description["parts"]["night"] == {"queries": 2, "recall": {"1": 0.5, "2": 0.5}}


def test_parts_count_what_recall_counts() -> None:
    photos = street(5, tags=[("a",), ("a",), ("b",), ("b",), ("b",)])
    far = replace(photos[1], position=Position(5000.0, 0.0))
    queries = PhotoList([photos[0], far, *photos[2:]])
    assert result_of(ROWS, queries).parts["a"].queries == 2
    assert result_of(ROWS, queries, "drop").parts["a"].queries == 1


def test_recall_against_distance() -> None:
    database, queries = street(6), street(5)
    kept = np.ones((5, 2), np.bool_)
    curve = by_distance(ranking_of(ROWS), kept, database, queries, [1, 2], [0, 10, 29, 30])
    assert curve == {1: {0: 0.6, 10: 0.8, 29: 0.8, 30: 1.0}, 2: {0: 0.8, 10: 0.8, 29: 1.0, 30: 1.0}}
    kept[0, 0] = False  # then its first answer is the second
    assert by_distance(ranking_of(ROWS), kept, database, queries, [1], [0, 10]) == {1: {0: 0.4, 10: 0.8}}
    bare = PhotoList(Photo(str(i), Path(str(i))) for i in range(5))
    assert by_distance(ranking_of(ROWS), kept, database, bare, [1]) == {}
    lost = PhotoList([*queries[:4], *bare[4:]])
    assert by_distance(ranking_of(ROWS), kept, database, lost, [1], [0]) == {1: {0: 0.25}}


def test_distances_across_the_date_line_and_to_nowhere() -> None:
    at = [utm_from_latlon(-16.8, 179.9999), utm_from_latlon(-16.8, -179.9999), None, Position(0, 0)]
    photos = PhotoList(Photo(str(i), Path(str(i)), position=p) for i, p in enumerate(at))
    query = PhotoList([photos[0]])
    for row, share in ((1, 1.0), (2, 0.0), (3, 0.0), (-1, 0.0)):
        ranking = Ranking(np.array([[row]]), np.zeros((1, 1)))
        assert by_distance(ranking, np.ones((1, 1), np.bool_), photos, query, [1], [25]) == {1: {25: share}}


def test_results_have_intervals_over_drives(tmp_path: Path) -> None:
    free = result_of(ROWS, street(5))
    drives = result_of(ROWS, street(5, group=["a", "a", "b", "b", None]))
    assert free.blocks is None and drives.blocks is not None
    assert drives.blocks.tolist() == [0, 0, 1, 1, 2]
    assert "over 3 places or drives" in str(drives) and "(95 % intervals)" in str(free)
    again = Result.load(drives.save(tmp_path))
    assert again.intervals == drives.intervals and set(again.intervals) == {1, 2}
    description = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert description["intervals"]["1"] == list(drives.intervals[1]) and description["blocks"] == [
        0,
        0,
        1,
        1,
        2,
    ]
    (tmp_path / "result.json").write_text(json.dumps({**description, "blocks": [1]}), encoding="utf-8")
    with pytest.raises(StoreError, match="was changed since it was written"):
        Result.load(tmp_path)
    del description["checksum"]
    (tmp_path / "result.json").write_text(json.dumps({**description, "blocks": [1]}), encoding="utf-8")
    with pytest.raises(StoreError, match="blocks holds 1 numbers for 5 queries"):
        Result.load(tmp_path)
    assert replace(free, hits_at=None).intervals == {}


def test_compare_tests_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = Truth([[i] for i in range(40)], 40, {"kind": "x"})
    good = evaluate(ranking_of([[i] for i in range(40)]), truth, recall_at=[1])
    poor = evaluate(ranking_of([[i if i < 30 else 0] for i in range(40)]), truth, recall_at=[1])
    table = compare([poor, good], names=["poor", "good"])
    assert table.paired["good"][0].p == pytest.approx(2 * 0.5**10)
    assert json.loads(json.dumps(table.to_dict()))["against_first"]["good"][0]["second_only"] == 10
    for name, result in (("poor", poor), ("good", good)):
        result.save(tmp_path / f"{name}.json")
    assert main(["compare", str(tmp_path / "poor.json"), str(tmp_path / "good.json")]) == 0
    out = capsys.readouterr().out
    assert "recall@1 +0.2500" in out and "p 0.002 *" in out and "McNemar, exact" in out
    other = evaluate(ranking_of([[i] for i in range(40)]), truth, recall_at=[1], misses="drop")
    assert compare([poor, other], mix=True).paired == {}
    assert compare([poor, replace(good, hits_at=None)]).paired == {}
    assert compare([poor, replace(good, recall={2: 1.0})]).paired == {}
