"""Predictions by name: scored and joined however the names are written."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from dejavlad.errors import InputError
from dejavlad.evaluation import evaluate, list_hash
from dejavlad.evaluation.pairs import read_answers
from dejavlad.evaluation.predictions import (
    answers,
    open_ranking,
    ranking_by_name,
    read_predictions,
    write_answers,
    write_predictions,
)
from dejavlad.ground_truth import truth_same_name
from dejavlad.photo import Photo, PhotoList
from dejavlad.ranking import Ranking

NAMES = ["é/1.jpg", "é/2 b.jpg", "é/3.jpg"]
NFC, NFD = ([unicodedata.normalize(form, name) for name in NAMES] for form in ("NFC", "NFD"))


def listing(*names: str) -> PhotoList:
    return PhotoList(Photo(name, Path(name)) for name in names)


def test_a_ranking_by_name_in_the_other_form_scores_the_same(tmp_path: Path) -> None:
    database, queries = listing(*NFD), listing(*NFD)
    path = write_answers(tmp_path / "p.txt", {NFC[i]: [NFC[i], NFC[i - 1]] for i in (2, 0, 1)})
    ranking = open_ranking(path, database, queries)
    assert ranking.indices.tolist() == [[0, 2], [1, 0], [2, 1]]
    assert ranking.distances.tolist() == [[1, 2]] * 3
    assert evaluate(ranking, truth_same_name(database, queries), recall_at=[1]).recall[1] == 1.0


def test_results_of_two_systems_are_of_the_same_lists() -> None:
    assert list_hash(listing(*NFC)) == list_hash(listing(*NFD)) != list_hash(listing(*NFC[::-1]))


def test_a_ranking_there_and_back(tmp_path: Path) -> None:
    database, queries = listing(*NFC, "a,b.jpg", "#c.jpg", "back\\slash.jpg"), listing("q 1.jpg", "q\n2.jpg")
    ranking = Ranking(
        np.array([[3, 4, 5], [1, -1, -1]]), np.array([[1, 2, 3], [1, np.inf, np.inf]], np.float32)
    )
    path = write_predictions(tmp_path / "p.txt", ranking, database, queries)
    again = open_ranking(path, database, queries)
    assert again.indices.tolist() == ranking.indices.tolist()
    assert answers(again, database, queries) == answers(ranking, database, queries)


def test_predictions_made_on_windows(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_bytes(b"# kapture format: 1.0\r\nq\\1.jpg, db\\x\\2.jpg\r\n")
    assert read_predictions(path) == {"q/1.jpg": ["db/x/2.jpg"]}


def test_names_of_no_photo_are_told() -> None:
    database, queries = listing("1.jpg", "2.jpg"), listing("a.jpg")
    with pytest.raises(
        InputError, match=r"1 of 2 map photos of 'p\.txt' are not in the list, first '3\.jpg'"
    ):
        ranking_by_name({"a.jpg": ["1.jpg", "3.jpg"]}, database, queries, "p.txt")
    with pytest.raises(InputError, match=r"1 of 1 queries .*'b\.jpg'.*--root"):
        ranking_by_name({"b.jpg": ["1.jpg"]}, database, queries, "p.txt")


def test_a_photo_named_twice_counts_by_its_better_rank() -> None:
    given = {"a.jpg": ["2.jpg", "2.jpg", "1.jpg"]}
    ranking = ranking_by_name(given, listing("1.jpg", "2.jpg"), listing("a.jpg"), "p.txt")
    assert ranking.indices.tolist() == [[1, 0, -1]]


def test_a_query_in_two_forms_is_answered_twice(tmp_path: Path) -> None:
    both = (NFC[0], NFD[0])
    paths = [write_answers(tmp_path / f"{i}.txt", {name: ["1.jpg"]}) for i, name in enumerate(both)]
    with pytest.raises(InputError, match="answered in a source before it too"):
        read_answers(paths)
