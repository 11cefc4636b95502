"""Each known mistake is planted in a ranking, and found by the number that was expected."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from natsort import natsorted

from dejavlad.cli import main
from dejavlad.errors import InputError
from dejavlad.evaluation import evaluate
from dejavlad.evaluation.explain import Expected, explain
from dejavlad.evaluation.hypotheses import turned
from dejavlad.evaluation.protocols import protocol
from dejavlad.geo import Position
from dejavlad.ground_truth import (
    PlaceDataset,
    leave_one_out,
    truth_frames,
    truth_positions,
)
from dejavlad.photo import Photo, PhotoList
from dejavlad.ranking import Ranking

N, Q = 130, 110
RNG = np.random.default_rng(5)
THERE = RNG.uniform(0, 1500, (N, 2))
ASKED = THERE[RNG.permutation(N)[:Q]] + RNG.normal(0, 9, (Q, 2))


def listing(points: np.ndarray, folder: str, **columns: list[object]) -> PhotoList:
    return PhotoList(
        Photo(
            f"{folder}/image-{i}.jpg",
            Path(f"{folder}/image-{i}.jpg"),
            position=Position(*at),
            **{what: values[i] for what, values in columns.items()},  # type: ignore[arg-type]
        )
        for i, at in enumerate(points.tolist())
    )


def places_of(database: PhotoList, queries: PhotoList, metres: float = 25.0) -> PlaceDataset:
    return PlaceDataset("somewhere", database, queries, truth_positions(database, queries, metres))


def ranked(
    database: np.ndarray, queries: np.ndarray, noise: float = 30.0, k: int = 60, seed: int = 0
) -> Ranking:
    """The nearest by positions that are a little off."""
    random = np.random.default_rng(seed)
    a, b = (points + random.normal(0, noise, points.shape) for points in (database, queries))
    apart = np.linalg.norm(b[:, None] - a[None], axis=2)
    rows = np.argsort(apart, axis=1)[:, :k]
    return Ranking(rows, np.take_along_axis(apart, rows, 1).astype(np.float32))


PLACES = places_of(listing(THERE, "map"), listing(ASKED, "new"))
TRUE = ranked(THERE, ASKED)


def number(ranking: Ranking, places: PlaceDataset, misses: str = "count") -> str:
    assert places.truth is not None
    result = evaluate(ranking, places.truth, recall_at=[1], misses=misses)  # type: ignore[arg-type]
    return f"{result.recall[1]:.4f}"


def alphabetic(n: int) -> np.ndarray:
    return np.array(sorted(range(n), key=lambda i: f"image-{i}.jpg"))


def from_alphabetic(ranking: Ranking, database: bool, queries: bool) -> Ranking:
    """The ranking that is made when a list is read in alphabetic order."""
    indices, distances = ranking.indices, ranking.distances
    if database:
        indices = np.argsort(alphabetic(N))[indices]
    if queries:
        indices, distances = indices[alphabetic(Q)], distances[alphabetic(Q)]
    return Ranking(indices, distances)


PLANTED: dict[str, Callable[[], Ranking]] = {
    "rows counted from 1": lambda: Ranking(TRUE.indices + 1, TRUE.distances),
    "the first photo of the database's list left out": lambda: Ranking(
        np.maximum(TRUE.indices - 1, -1), np.where(TRUE.indices < 1, np.inf, TRUE.distances)
    ),
    "answers of the query before": lambda: Ranking(
        np.roll(TRUE.indices, 1, axis=0), np.roll(TRUE.distances, 1, axis=0)
    ),
    "answers of the query after": lambda: Ranking(
        np.roll(TRUE.indices, -1, axis=0), np.roll(TRUE.distances, -1, axis=0)
    ),
    "the database in alphabetic order": lambda: from_alphabetic(TRUE, True, False),
    "the queries in alphabetic order": lambda: from_alphabetic(TRUE, False, True),
    "both lists in alphabetic order": lambda: from_alphabetic(TRUE, True, True),
    "the database in reverse order": lambda: Ranking(N - 1 - TRUE.indices, TRUE.distances),
    "rows and columns swapped": lambda: Ranking(TRUE.indices.T, np.zeros(TRUE.indices.T.shape, np.float32)),
}


@pytest.mark.parametrize("mistake", PLANTED)
def test_a_planted_mistake_is_found(mistake: str) -> None:
    wrong = PLANTED[mistake]()
    expected = number(TRUE, PLACES)
    right = PLACES.truth.positives.contains(TRUE.indices[:, :1])  # type: ignore[union-attr]
    if mistake == "answers of the query before":  # the last query's answers are lost
        expected = f"{right[:-1].sum() / Q:.4f}"
    if mistake == "answers of the query after":  # the first query's
        expected = f"{right[1:].sum() / Q:.4f}"
    if mistake.startswith("the first photo"):  # which is no one's answer any more
        lost = Ranking(np.where(TRUE.indices < 1, -1, TRUE.indices), TRUE.distances)
        expected = number(lost, PLACES)
    explanation = explain(wrong, PLACES, expect=expected)
    assert [finding.mistake for finding in explanation.met] == [mistake]
    assert explanation.met[0].advice and explanation.met[0].kind == "mistake"
    assert mistake in [finding.mistake for finding in explanation.likely]
    assert "given" not in [finding.kind for finding in explanation.met]
    without = explain(wrong, PLACES)
    assert mistake in [finding.mistake for finding in without.likely] and not without.met


def test_worst_first_is_found() -> None:
    whole = ranked(THERE, ASKED, k=N)
    wrong = Ranking(whole.indices[:, ::-1], np.zeros(whole.indices.shape, np.float32))
    explanation = explain(wrong, PLACES, expect=number(whole, PLACES))
    assert [finding.mistake for finding in explanation.met] == ["worst answers first"]


def test_swapped_lists_are_found() -> None:
    swapped = ranked(ASKED, THERE, seed=3)
    truth = truth_positions(PLACES.queries, PLACES.database, 25)
    expected = f"{evaluate(swapped, truth, recall_at=[1]).recall[1]:.4f}"
    explanation = explain(swapped, PLACES, expect=expected)
    assert [finding.mistake for finding in explanation.met] == ["database and queries swapped"]
    assert explanation.unfit == (
        f"the ranking is of {N} queries and rows up to {Q - 1}, the lists have {Q} queries and {N} database "
        "photos"
    )
    assert PLACES.truth is not None and turned(PLACES.truth).hash == truth.hash
    assert turned(turned(PLACES.truth)).positives == PLACES.truth.positives


def test_a_natural_order_is_found() -> None:
    order = alphabetic(N)
    places = places_of(PLACES.database.take(order), PLACES.queries)
    explanation = explain(TRUE, places, expect=number(TRUE, PLACES))
    assert [finding.mistake for finding in explanation.met] == ["the database in natural order"]
    assert natsorted(f"{i}" for i in order)[:3] == ["0", "1", "2"]


def test_an_order_by_basenames_is_found() -> None:
    """Photos of three folders, read as if they were of one."""
    names = [f"{'cab'[i % 3]}/{i:03d}.jpg" for i in range(N)]
    by_path = sorted(range(N), key=lambda i: names[i])
    photos = PhotoList(replace(PLACES.database[i], name=names[i], path=Path(names[i])) for i in by_path)
    places = places_of(photos, PLACES.queries)  # `TRUE` has the rows of the basenames' order
    explanation = explain(TRUE, places, expect=number(TRUE, PLACES))
    assert [finding.mistake for finding in explanation.met] == ["the database in basenames' order"]


@pytest.mark.parametrize("metres", [5, 10, 50])
def test_another_radius_is_found(metres: float) -> None:
    expected = number(TRUE, places_of(PLACES.database, PLACES.queries, metres))
    explanation = explain(TRUE, PLACES, expect=expected)
    assert [finding.text for finding in explanation.met] == [f"within {metres} m"]


@pytest.mark.parametrize("frames", [0, 1, 5, 10])
def test_another_tolerance_is_found(frames: int) -> None:
    line = np.stack([np.arange(N) * 1.0, np.zeros(N)], axis=1)
    photos = [PhotoList(Photo(str(i), Path(str(i))) for i in range(N)) for _ in range(2)]
    places = PlaceDataset("sequence", photos[0], photos[1], truth_frames(N, N, 2))
    ranking = ranked(line, line, noise=3, k=30)
    expected = number(ranking, replace(places, truth=truth_frames(N, N, frames)))
    explanation = explain(ranking, places, expect=expected)
    assert f"within {frames} frames" in [finding.text for finding in explanation.met]
    assert all(finding.kind == "other measure" for finding in explanation.met)


def test_dropped_misses_are_found() -> None:
    far = listing(np.concatenate([ASKED, RNG.uniform(5000, 6000, (20, 2))]), "new")
    places = places_of(PLACES.database, far)
    ranking = Ranking(
        np.concatenate([TRUE.indices, TRUE.indices[:20]]), np.concatenate([TRUE.distances] * 2)[: Q + 20]
    )
    assert places.truth is not None and places.truth.n_without_truth >= 20
    explanation = explain(ranking, places, expect=number(ranking, places, "drop"))
    assert [finding.text for finding in explanation.met] == [
        "as given, queries without a right answer dropped"
    ]


def test_suppression_is_found() -> None:
    database = listing(THERE, "map", group=[str(i // 3) for i in range(N)])
    moved = np.repeat(THERE[::3], 3, axis=0)[:N] + np.tile([[0, 0], [40, 0], [0, 40]], (44, 1))[:N]
    places = places_of(listing(moved, "map", group=[photo.group for photo in database]), PLACES.queries)
    ranking = ranked(moved, ASKED, noise=15)
    assert places.truth is not None
    grouped = replace(places, truth=places.truth.grouped([i // 3 for i in range(N)]))
    at = 5
    want = evaluate(ranking, grouped.truth, recall_at=[at]).recall[at]  # type: ignore[arg-type]
    explanation = explain(ranking, places, expect=f"{want:.4f}", at=at)
    assert [finding.text for finding in explanation.met] == ["one answer a panorama"]
    back = explain(
        ranking,
        grouped,
        expect=f"{evaluate(ranking, places.truth, recall_at=[at]).recall[at]:.4f}",
        at=at,
    )
    assert "every photo an answer" in back.met[0].text


def test_self_matches_are_found() -> None:
    own = PlaceDataset("own", PLACES.database, PLACES.database)
    own = replace(own, truth=truth_positions(own.database, own.queries, 25))
    near = ranked(THERE, THERE, noise=0)
    assert own.truth is not None
    alone = leave_one_out(own.truth, own.database, own.queries)
    expected = f"{evaluate(near, alone, recall_at=[1]).recall[1]:.4f}"
    explanation = explain(near, own, expect=expected)
    assert [finding.text for finding in explanation.met] == ["a query's own photo left out"]
    assert explain(near, own).findings[0].recall[1] == 1.0
    back = explain(near, replace(own, truth=alone), expect="1.0")
    assert "a query's own photo among the answers" in [n for finding in back.met for n in finding.measure]


def test_a_mistake_and_another_measure_together() -> None:
    wrong = PLANTED["rows counted from 1"]()
    expected = number(TRUE, places_of(PLACES.database, PLACES.queries, 50))
    explanation = explain(wrong, PLACES, expect=expected)
    assert ("both", "rows counted from 1", ("within 50 m",)) in [
        (finding.kind, finding.mistake, finding.measure) for finding in explanation.met
    ]


def test_protocols_that_fit_are_told() -> None:
    photos = [PhotoList(Photo(str(i), Path(str(i))) for i in range(200)) for _ in range(2)]
    places = PlaceDataset("gardens-point", photos[0], photos[1], truth_frames(200, 200, 5))
    line = np.stack([np.arange(200.0), np.zeros(200)], axis=1)
    ranking = ranked(line, line, noise=3)
    under = protocol("gardens@2f").under(places)
    explanation = explain(ranking, places, expect=number(ranking, under))
    assert explanation.met[0].kind == "protocol"
    assert explanation.met[0].measure == ("within 2 frames", "gardens@2f")


def test_a_shallow_ranking_says_so() -> None:
    explanation = explain(TRUE.top(3), PLACES)
    assert not explanation.findings[0].whole and explain(TRUE, PLACES).findings[0].whole


def test_what_cannot_be_explained() -> None:
    with pytest.raises(InputError, match=r"the ranking is of 7 queries .* nor does it fit with any known"):
        explain(Ranking(np.zeros((7, 2)), np.zeros((7, 2))), PLACES)
    with pytest.raises(InputError, match="what is right is not known"):
        explain(TRUE, replace(PLACES, truth=None))
    for wrong in ("-0.1", "101", "much", "nan", ""):
        with pytest.raises(InputError, match="a recall is a share"):
            explain(TRUE, PLACES, expect=wrong)
    with pytest.raises(InputError, match="N of 1 or more"):
        explain(TRUE, PLACES, at=0)
    assert explain(TRUE, PLACES, expect="0.123456").met == []


def test_expected_numbers_are_as_exact_as_written() -> None:
    assert Expected.parse("0.85") == Expected(0.85, pytest.approx(0.005))  # type: ignore[arg-type]
    for text in ("85.0", "85.0%", " 85.0 % "):
        assert Expected.parse(text) == Expected(0.85, pytest.approx(0.0005))  # type: ignore[arg-type]
    assert Expected.parse("1").value == 1.0 and Expected.parse("0.5%").value == 0.005
    assert Expected.parse("0.85").met(0.8549) and not Expected.parse("0.850").met(0.8549)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, points in (("map", THERE), ("new", ASKED)):
        lines = [f"{name}/image-{i}.jpg,{e},{n}" for i, (e, n) in enumerate(points.tolist())]
        (tmp_path / f"{name}.csv").write_text("\n".join(["name,east,north", *lines]), encoding="utf-8")
        (tmp_path / name).mkdir()
        for i in range(len(points)):
            (tmp_path / name / f"image-{i}.jpg").touch()
    PLANTED["rows counted from 1"]().save(tmp_path / "r.npz")
    lists = ["--database", str(tmp_path / "map.csv"), "--queries", str(tmp_path / "new.csv")]
    words = ["explain", str(tmp_path / "r.npz"), *lists, "--truth", "positions:25"]
    assert main([*words, "--expect", number(TRUE, PLACES)]) == 0
    out = capsys.readouterr().out
    assert "would come of:\n  rows counted from 1\n      subtract 1" in out and "Not tried" in out
    assert main([*words, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["does_not_fit"] and answer["likely_mistakes"][0]["mistake"] == "rows counted from 1"
    assert main([*words, "--expect", "0.99999"]) == 0
    out = capsys.readouterr().out
    assert (
        "comes of none of these" in out
        and f"Nearest to it is {number(TRUE, PLACES)}: rows counted from 1" in out
    )
    assert main([*words, "--database-store", "x"]) == 1
    assert "give both" in capsys.readouterr().err


def test_descriptors_that_were_not_brought_to_unit_length(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    here = random.normal(size=(N, 8)).astype(np.float32)
    lengths = random.uniform(0.3, 3, (2, N, 1)).astype(np.float32)
    a, b = here * lengths[0], (here + random.normal(0, 0.5, here.shape).astype(np.float32)) * lengths[1]
    for name, rows in (("db", a), ("q", b)):
        np.save(tmp_path / f"{name}.npy", rows)
    raw = np.argsort(np.linalg.norm(b[:, None] - a[None], axis=2), axis=1)[:, :20]
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (a, b)]
    right = np.argsort(-(unit[1] @ unit[0].T), axis=1)[:, :20]
    np.save(tmp_path / "raw.npy", raw)
    expected = (right[:, 0] == np.arange(N)).mean()
    assert expected > (raw[:, 0] == np.arange(N)).mean() + 0.1
    lists = ["--database", str(tmp_path / "db.npy"), "--queries", str(tmp_path / "q.npy")]
    words = ["explain", str(tmp_path / "raw.npy"), *lists, "--truth", "frames:0"]
    assert main([*words, "--expect", f"{expected:.4f}", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [finding["mistake"] for finding in answer["explained_by"]] == [
        "descriptors brought to unit length"
    ]
    assert answer["not_tried"] is None
