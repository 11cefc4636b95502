"""recall@N against the obvious loop, results, comparisons and predictions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dejavlad.errors import InputError, StoreError
from dejavlad.evaluation import (
    Result,
    compare,
    depth_needed,
    evaluate,
    filter_ranking,
    first_hits,
    list_hash,
    write_predictions,
)
from dejavlad.ground_truth import (
    Truth,
    groups_of,
    truth_text,
)
from dejavlad.photo import Photo, PhotoList
from dejavlad.ranking import Ranking


def ranking_of(rows: list[list[int]]) -> Ranking:
    indices = np.array(rows, np.int64)
    return Ranking(indices, np.tile(np.arange(indices.shape[1], dtype=np.float32), (len(rows), 1)))


def listing(*names: str) -> PhotoList:
    return PhotoList(Photo(name, Path(name)) for name in names)


def slow_recall(rows: list[list[int]], truth: Truth, n: int, misses: str) -> float:
    hits = queries = 0
    for query, ranked in enumerate(rows):
        right = set(truth.positives[query].tolist())
        out = set(truth.ignored[query].tolist()) if truth.ignored is not None else set()
        if misses == "drop" and not right:
            continue
        queries += 1
        kept, seen = [], set()
        for row in ranked:
            group = -1 if truth.groups is None or row < 0 else truth.groups[row]
            if row in out or group in seen:
                continue
            kept.append(row)
            if group >= 0:
                seen.add(group)
        hits += any(row in right for row in kept[:n])
    return hits / queries


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[list[int]], Truth]:
    n_database, n_queries = draw(st.integers(1, 8)), draw(st.integers(1, 6))
    rows_of = st.lists(st.integers(0, n_database - 1), max_size=4)
    rows = []
    for _ in range(n_queries):
        ranked = draw(st.permutations(range(n_database)))
        cut = draw(st.integers(0, n_database))
        rows.append([*ranked[:cut], *[-1] * (n_database - cut)])
    positives = draw(st.lists(rows_of, min_size=n_queries, max_size=n_queries))
    ignored = draw(st.none() | st.lists(rows_of, min_size=n_queries, max_size=n_queries))
    groups = draw(st.none() | st.lists(st.integers(-1, 3), min_size=n_database, max_size=n_database))
    return rows, Truth(positives, n_database, {"kind": "drawn"}, ignored, groups)


@pytest.mark.slow
@given(cases(), st.sampled_from(["count", "drop"]))
@settings(max_examples=200, deadline=None)
def test_recall_against_the_loop(case: tuple[list[list[int]], Truth], misses: str) -> None:
    rows, truth = case
    if misses == "drop" and not truth.answerable.any():
        with pytest.raises(InputError, match="nothing to count"):
            evaluate(ranking_of(rows), truth, misses="drop")
        return
    result = evaluate(ranking_of(rows), truth, recall_at=range(1, 11), misses=misses)  # type: ignore[arg-type]
    assert result.recall == {n: slow_recall(rows, truth, n, misses) for n in range(1, 11)}
    assert result.n_without_truth == sum(not len(rows) for rows in truth.positives)
    assert result.n_counted == len(rows) - (result.n_without_truth if misses == "drop" else 0)


def test_hits_are_ranks_from_one_after_ignored_rows() -> None:
    truth = Truth([[3], [0], [], [2]], 4, {}, ignored=[[0, 1], [], [1], [1]])
    hits = first_hits(ranking_of([[0, 1, 3], [0, 1, 2], [1, 2, 3], [3, -1, -1]]), truth)
    assert hits.tolist() == [1, 1, 0, 0] and hits.dtype == np.int64


def test_of_each_group_the_best_ranked_row_counts() -> None:
    truth = Truth([[2], [1], [4], [3]], 5, {"kind": "x"}, groups=[7, 7, 0, 0, -1])
    ranking = ranking_of([[0, 1, 2, 3, 4], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4], [-1, -1, -1, -1, -1]])
    assert first_hits(ranking, truth).tolist() == [2, 0, 3, 0]
    alone = filter_ranking(ranking, truth, 4)
    assert alone.indices.tolist() == [[0, 2, 4, -1]] * 3 + [[-1] * 4]
    assert alone.distances[0].tolist() == [0, 2, 4, np.inf]
    assert first_hits(alone, truth).tolist() == [2, 0, 3, 0]
    assert depth_needed(truth, 2) == 4 and depth_needed(truth.grouped(None), 2) == 2
    out = Truth([[1]], 3, {}, ignored=[[0]], groups=[0, 0, -1])  # an ignored row does not stand for its group
    assert first_hits(ranking_of([[0, 1, 2]]), out).tolist() == [1]


def test_groups_are_part_of_the_truth() -> None:
    plain = Truth([[0], [1]], 3, {"kind": "x"})
    grouped, same, other = (plain.grouped(groups) for groups in ([5, 5, -1], [0, 0, -1], [0, -1, -1]))
    assert grouped.hash == same.hash and len({plain.hash, grouped.hash, other.hash}) == 3
    assert grouped.description == {"kind": "x", "groups": 1} and plain.description == {"kind": "x"}
    assert grouped.grouped(None).hash == plain.hash and "groups" not in grouped.grouped(None).description
    assert truth_text(Truth([], 0, {"kind": "same-name"}, groups=[]).description).endswith("of 0 groups")
    for wrong in ([0, 0], [0.0, 0, 0], [[0, 0, 0]], [-2, 0, 0], ["a", "b", "c"]):
        with pytest.raises(InputError, match="group"):
            plain.grouped(wrong)
    tagged = PhotoList(Photo(str(i), Path(str(i)), group=g) for i, g in enumerate(["b", None, "a", "b"]))
    assert groups_of(tagged).tolist() == [0, -1, 1, 0]


def test_a_ranking_too_shallow_for_what_is_left_out_is_refused() -> None:
    truth = Truth([[3], [3]], 9, {}, groups=[0, 0, 0, 1, -1, -1, -1, -1, -1])
    shallow = ranking_of([[0, 1, 2], [3, 0, 1]])
    with pytest.raises(
        InputError, match=r"of 1 queries the first 3 hold only 1 or more: ask for N up to 1 .*-k 6"
    ):
        evaluate(shallow, truth, recall_at=[2])
    assert evaluate(shallow, truth, recall_at=[1]).recall == {1: 0.5}
    with pytest.raises(InputError, match=r"ignored photos do not count.*-k 3"):
        evaluate(ranking_of([[0, 1]]), Truth([[8]], 9, {}, ignored=[[0]]), recall_at=[2])


def test_queries_without_an_answer_are_misses_unless_told() -> None:
    truth = Truth([[0], []], 2, {"kind": "x"})
    ranking = ranking_of([[0, 1], [0, 1]])
    counted = evaluate(ranking, truth, recall_at=[1])
    dropped = evaluate(ranking, truth, recall_at=[1], misses="drop")
    assert (counted.recall, dropped.recall) == ({1: 0.5}, {1: 1.0})
    assert [(r.n_queries, r.n_without_truth, r.n_counted) for r in (counted, dropped)] == [
        (2, 1, 2),
        (2, 1, 1),
    ]
    assert (counted.protocol["misses"], dropped.protocol["misses"]) == ("count", "drop")


def test_a_small_database_needs_no_deep_ranking() -> None:
    truth = Truth([[1]], 2, {})
    assert evaluate(ranking_of([[0, 1]]), truth).recall == {1: 0.0, 5: 1.0, 10: 1.0}


def test_what_does_not_fit_is_refused() -> None:
    truth = Truth([[0], [1]], 20, {})
    with pytest.raises(InputError, match="the ranking is of 1 queries, the truth of 2"):
        evaluate(ranking_of([[0]]), truth)
    with pytest.raises(InputError, match="row 20; the truth is of a database of 20"):
        evaluate(ranking_of([[0], [20]]), truth)
    with pytest.raises(
        InputError, match=r"recall@10 needs a ranking 10 deep; this one is 2 deep: ask for N up to 2"
    ):
        evaluate(ranking_of([[0, 1], [0, 1]]), truth)
    with pytest.raises(InputError, match="valid are count and drop"):
        evaluate(ranking_of([[0], [1]]), truth, misses="skip")  # type: ignore[arg-type]
    for wrong in ([], [0], [-1]):
        with pytest.raises(InputError, match="N of 1 or more"):
            evaluate(ranking_of([[0], [1]]), truth, recall_at=wrong)
    with pytest.raises(InputError, match="20 database photos, the list holds 1"):
        evaluate(ranking_of([[0], [1]]), truth, recall_at=[1], database=listing("a"))
    with pytest.raises(InputError, match="at least one query"):
        evaluate(Ranking(np.empty((0, 1), np.int64), np.empty((0, 1), np.float32)), Truth([], 1, {}))


def some_result(**changes: object) -> Result:
    truth = Truth([[0], [1], []], 3, {"kind": "frames", "tolerance": 2})
    made = evaluate(
        ranking_of([[0, 1, 2], [2, 1, 0], [0, 1, 2]]),
        truth,
        recall_at=[2, 1],
        database=listing("a", "b", "ü, c"),
        queries=listing("q", "r", "s"),
        model={"name": "rootsift-vlad", "fingerprint": "ab"},
        seconds={"describe": 1.5},
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_result_json_is_as_promised(tmp_path: Path) -> None:
    result = some_result()
    for path in (result.save(tmp_path), result.save(tmp_path / "other.json")):
        assert Result.load(path) == result
        assert Result.load(path).hits_at is not None and Result.load(path).hits_at.tolist() == [1, 2, 0]
    assert Result.load(tmp_path) == result
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other.json", "result.json"]
    description = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert description["recall"] == {"1": 1 / 3, "2": 2 / 3}
    assert (description["n_database"], description["n_queries"], description["n_without_truth"]) == (3, 3, 1)
    assert description["model"] == {"name": "rootsift-vlad", "fingerprint": "ab"}
    assert description["rerank"] is None and description["seconds"] == {"describe": 1.5}
    assert description["protocol"]["truth"] == {"kind": "frames", "tolerance": 2}
    assert description["hits_at"] == [1, 2, 0]
    bare = some_result(hits_at=None, model=None)
    assert Result.load(bare.save(tmp_path)).hits_at is None


def test_result_with_fewer_dims(tmp_path: Path) -> None:
    result = some_result(dims={64: {1: 0.25}, 128: {1: 0.5}})
    assert Result.load(result.save(tmp_path)) == result
    assert "recall@1 0.3333" in str(result) and "64 dims  recall@1 0.2500" in str(result)


def test_result_with_further_figures(tmp_path: Path) -> None:
    result = some_result(metrics={"mAP": 0.25, "recall@1/night": 0.5})
    assert Result.load(result.save(tmp_path)) == result
    assert str(result).endswith("mAP 0.2500\nrecall@1/night 0.5000")
    assert "metrics" not in some_result().to_dict()


def test_result_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no result"):
        Result.load(tmp_path)
    for text in ("", "[]", '{"recall": {}}', '{"recall": {"x": 1}}', "\x00"):
        (tmp_path / "result.json").write_text(text, encoding="utf-8")
        with pytest.raises(StoreError, match="is not a result"):
            Result.load(tmp_path)


def test_list_hash_tells_names_and_order() -> None:
    hashes = {list_hash(listing(*names)) for names in (("a", "b"), ("b", "a"), ("ab",), ("a",), ())}
    assert len(hashes) == 5
    assert list_hash(listing("a")) == list_hash(PhotoList([Photo("a", Path("elsewhere/a"))], name="other"))


def test_compare() -> None:
    first, second = some_result(), some_result(recall={1: 0.5, 10: 1.0}, model=None, rerank="rapid")
    table = compare([first, second], names=["one", "two"])
    assert table.header == [
        "result",
        "model",
        "recall@1",
        "recall@2",
        "recall@10",
        "queries",
        "without truth",
        "database",
    ]
    assert table.rows == [
        ["one", "rootsift-vlad", "0.3333", "0.6667", "-", "3", "1", "3"],
        ["two", "- + rapid", "0.5000", "-", "1.0000", "3", "1", "3"],
    ]
    description = json.loads(json.dumps(table.to_dict()))
    assert description["differences"] == {} and [r["name"] for r in description["results"]] == ["one", "two"]


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("truth", {"kind": "frames", "tolerance": 5}),
        ("misses", "drop"),
        ("truth_hash", "0"),
        ("database_hash", "0"),
        ("queries_hash", "0"),
        ("ignored", 3),
    ],
)
def test_compare_refuses_other_protocols_and_names_them(what: str, value: object) -> None:
    first = some_result()
    other = some_result(protocol={**first.protocol, what: value})
    with pytest.raises(InputError, match=rf"different protocols: {what} is .* in A but .* in C; .*--mix"):
        compare([first, first, other], names=["A", "B", "C"])
    assert list(compare([first, other], mix=True).differences) == [what]


def test_compare_names_protocols_in_words() -> None:
    first = some_result()
    named, other = (some_result(protocol={**first.protocol, "name": name}) for name in ("a@1", "a@2"))
    assert compare([first, named]).differences == {}
    with pytest.raises(InputError, match=r"the protocol is a@1 in A but a@2 in B; to put"):
        compare([named, other], names=["A", "B"])
    groups = some_result(
        protocol={
            **other.protocol,
            "truth": {"kind": "frames", "tolerance": 2, "groups": 3},
            "truth_hash": "0" * 64,
        }
    )
    with pytest.raises(InputError, match=r"\(also different: truth, truth_hash\)"):
        compare([named, groups])
    with pytest.raises(InputError, match=r"truth is 'same frame number within 2' in 1 but '.* 3 groups' in"):
        compare([other, groups])


def test_compare_does_not_hold_ns_or_unknown_hashes_against_anyone() -> None:
    first = some_result()
    other = some_result(protocol={**first.protocol, "recall_at": [1, 100], "database_hash": None})
    assert compare([other, first]).differences == {}
    third = some_result(protocol={**first.protocol, "database_hash": "0"})
    with pytest.raises(InputError, match=r"database_hash is .{12} \(other photos.* in 2 but .* in 3"):
        compare([other, first, third])
    with pytest.raises(InputError, match="n_database"):
        compare([first, some_result(n_database=9)])


def test_compare_needs_results_and_names() -> None:
    with pytest.raises(InputError, match="one result or more"):
        compare([])
    with pytest.raises(InputError, match="given 1 and 2"):
        compare([some_result()], names=["a", "b"])


def test_predictions_in_kapture_form(tmp_path: Path) -> None:
    database, queries = listing("x/a b.jpg", "b,c.jpg", "#d\n.jpg"), listing("q'1.jpg", "ж#.jpg")
    path = write_predictions(tmp_path / "p.txt", ranking_of([[2, 0, 1], [1, -1, -1]]), database, queries)
    assert path.read_bytes().decode() == (
        "# kapture format: 1.0\n# query_image, map_image\n"
        "q'1.jpg, %23d%0A.jpg\nq'1.jpg, x/a b.jpg\nq'1.jpg, b%2Cc.jpg\nж#.jpg, b%2Cc.jpg\n"
    )
    write_predictions(path, ranking_of([[2, 0, 1], [1, -1, -1]]), database, queries, top=1)
    assert len(path.read_text(encoding="utf-8").splitlines()) == 4
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(InputError, match="the lists have 2 queries and 1 database photos"):
        write_predictions(path, ranking_of([[0], [2]]), listing("a"), queries)


def test_a_ranking_too_shallow_for_groups_that_count_once_is_refused() -> None:
    truth = Truth([np.array([30])], 36, {}).grouped(np.arange(36) // 12)  # 3 panoramas of 12 cut-outs
    shallow = ranking_of([[*range(10), 12]])  # cut-outs of two panoramas, none of them right
    assert evaluate(shallow, truth, recall_at=[2]).recall == {2: 0.0}
    with pytest.raises(InputError, match=r"cut-outs of one group count once.*hold only 2.*-k 36"):
        evaluate(shallow, truth, recall_at=[3])
