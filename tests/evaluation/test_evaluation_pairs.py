"""Predictions read and written, and pairs for other tools."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dejavlad.errors import InputError, UnknownNameError
from dejavlad.evaluation import (
    read_answers,
    read_predictions,
    write_pairs,
    write_patch_netvlad,
    write_predictions,
)
from dejavlad.evaluation.pairs import FORMS, count_pairs, in_folders
from dejavlad.evaluation.predictions import HEADER, answers, write_answers
from dejavlad.photo import Photo, PhotoList
from dejavlad.ranking import Ranking

ANSWERS = {"q/1.jpg": ["db/a.png", "db/b.cc.jpeg"], "q/2.jpg": ["db/c.jpg", "db/a.png"], "q/3.jpg": []}


def ranking_of(rows: list[list[int]]) -> Ranking:
    indices = np.array(rows, np.int64)
    return Ranking(indices, np.tile(np.arange(indices.shape[1], dtype=np.float32), (len(rows), 1)))


def listing(*names: str) -> PhotoList:
    return PhotoList(Photo(name, Path(name)) for name in names)


def text(path: Path) -> str:
    return path.read_bytes().decode()


any_name = st.text(st.sampled_from("a#%,\r\n 2C0A35ж'"), min_size=1, max_size=8).filter(str.strip)


@pytest.mark.slow
@given(st.dictionaries(any_name, st.lists(any_name, min_size=1, max_size=3), min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_any_name_comes_back(
    tmp_path_factory: pytest.TempPathFactory, given_answers: dict[str, list[str]]
) -> None:
    path = write_answers(tmp_path_factory.mktemp("p") / "p.txt", given_answers)
    assert read_predictions(path) == given_answers
    assert list(read_predictions(path)) == list(given_answers)


def test_what_write_predictions_wrote(tmp_path: Path) -> None:
    database, queries = listing("x/a b.jpg", "b,c.jpg", "#d.jpg"), listing("q%2C1.jpg", "2.jpg")
    ranking = ranking_of([[2, 0, 1], [1, -1, -1]])
    path = write_predictions(tmp_path / "p.txt", ranking, database, queries)
    want = {"q%2C1.jpg": ["#d.jpg", "x/a b.jpg", "b,c.jpg"], "2.jpg": ["b,c.jpg"]}
    assert read_predictions(path) == want == answers(ranking, database, queries)
    assert answers(ranking, database, queries, top=1) == {"q%2C1.jpg": ["#d.jpg"], "2.jpg": ["b,c.jpg"]}


def test_files_of_others(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_bytes(
        b"\xef\xbb\xbf# kapture\r\nq.jpg,a.jpg, 0.5\r\n\r\nr.jpg, b.jpg\r\nq.jpg, 100%.jpg, 1e-3\r\n"
    )
    assert read_predictions(path) == {"q.jpg": ["a.jpg", "100%.jpg"], "r.jpg": ["b.jpg"]}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("only one", "line 3: 'only one' is not as 'query.jpg, map_photo.jpg'"),
        ("a, b, c", "line 3: .* a comma in a name is written %2C"),
        ("a, ", "line 3"),
        (", b", "line 3"),
        ("# nothing else", "holds no predictions"),
    ],
)
def test_bad_predictions(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "p.txt").write_text(HEADER + line, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_predictions(tmp_path / "p.txt")


def test_no_predictions(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_predictions(tmp_path / "none.txt")
    (tmp_path / "p.txt").write_bytes(b"\x93NUMPY\xff\x00")
    with pytest.raises(InputError, match="not a text file"):
        read_predictions(tmp_path / "p.txt")


def test_several_sources_one_after_the_other(tmp_path: Path) -> None:
    for name, given_answers in (("cph", {"c": ["1", "2"]}), ("sf", {"s": ["3"]})):
        (tmp_path / name).mkdir()
        write_answers(tmp_path / name / "NetVLAD_predictions.txt", {"other": ["x"]})
        write_answers(tmp_path / name / "PatchNetVLAD_predictions.txt", given_answers)
    write_answers(tmp_path / "sf" / "predictions.txt", {"t": ["4"]})
    joined = read_answers([tmp_path / "sf", tmp_path / "cph", tmp_path / "sf" / "NetVLAD_predictions.txt"])
    assert joined == {"t": ["4"], "c": ["1", "2"], "other": ["x"]}
    assert list(joined) == ["t", "c", "other"]
    with pytest.raises(
        InputError, match=r"1 queries of '.*cph' are answered in a source before it too, first 'c'"
    ):
        read_answers([tmp_path / "cph", tmp_path / "cph"])
    with pytest.raises(
        InputError, match=r"holds none of predictions.txt, PatchNetVLAD_pred.*dejavlad evaluate"
    ):
        read_answers([tmp_path])
    with pytest.raises(InputError, match="give predictions"):
        read_answers([])


@pytest.mark.parametrize(
    ("form", "want"),
    [
        ("hloc", "q/1.jpg db/a.png\nq/1.jpg db/b.cc.jpeg\nq/2.jpg db/c.jpg\nq/2.jpg db/a.png\n"),
        ("colmap", "q/1.jpg db/a.png\nq/1.jpg db/b.cc.jpeg\nq/2.jpg db/c.jpg\nq/2.jpg db/a.png\n"),
        ("msls", "1 a b.cc\n2 c a\n"),
        (
            "kapture",
            HEADER + "q/1.jpg, db/a.png\nq/1.jpg, db/b.cc.jpeg\nq/2.jpg, db/c.jpg\nq/2.jpg, db/a.png\n",
        ),
    ],
)
def test_every_form(tmp_path: Path, form: str, want: str) -> None:
    path = write_pairs(tmp_path / "new" / "p.txt", ANSWERS, form)
    assert text(path) == want
    assert list(path.parent.iterdir()) == [path]
    lines = [line for line in text(write_pairs(path, ANSWERS, form, top=1)).splitlines() if line[0] != "#"]
    assert len(lines) == 2 == count_pairs(ANSWERS, 1)
    assert count_pairs(ANSWERS) == 4
    with pytest.raises(InputError, match="give 1 or more"):
        write_pairs(path, ANSWERS, form, top=0)
    with pytest.raises(InputError, match="there are no pairs"):
        write_pairs(path, {"q": []}, form)


def test_every_form_is_tested() -> None:
    assert set(FORMS) == {"hloc", "colmap", "msls", "kapture"}
    with pytest.raises(UnknownNameError, match="hloc"):
        write_pairs("p.txt", ANSWERS, "hlok")


def test_folders_before_the_names() -> None:
    assert in_folders({"1.jpg": ["1.jpg", "x/2.jpg"]}, "new/", "map") == {
        "new/1.jpg": ["map/1.jpg", "map/x/2.jpg"]
    }
    assert in_folders(ANSWERS) == ANSWERS


@pytest.mark.parametrize("form", ["hloc", "colmap", "msls"])
@pytest.mark.parametrize("name", ["a b.jpg", " a.jpg", "a\tb.jpg", "a\u3000b.jpg"])
def test_spaces_are_refused_but_by_kapture(tmp_path: Path, form: str, name: str) -> None:
    for given_answers in ({name: ["b"]}, {"q": ["b", name]}):
        with pytest.raises(InputError, match=f"1 names hold a space.*the {form} form cannot.*kapture"):
            write_pairs(tmp_path / "p.txt", given_answers, form)
        assert read_predictions(write_pairs(tmp_path / "k.txt", given_answers, "kapture")) == given_answers
    assert not (tmp_path / "p.txt").exists()


def test_comments_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    with pytest.raises(InputError, match="begin with #"):
        write_pairs(path, {"#q.jpg": ["a"]}, "colmap")
    with pytest.raises(InputError, match="hold a #"):
        write_pairs(path, {"q.jpg": ["a#frame=3"]}, "msls")
    assert text(write_pairs(path, {"q.jpg": ["#a"]}, "colmap")) == "q.jpg #a\n"


def test_msls_keys(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    given_answers = {"a folder/-x_Y.JPG": ["t/1418133934.5", "t/z.tiff"]}
    assert text(write_pairs(path, given_answers, "msls")) == "-x_Y 1418133934.5 z\n"
    rows = np.loadtxt(path, ndmin=2, dtype=str)  # as mapillary_sls reads it
    assert rows.tolist() == [["-x_Y", "1418133934.5", "z"]]
    with pytest.raises(InputError, match=r"'day/1.jpg' and 'night/1.png' would both be '1'"):
        write_pairs(path, {"day/1.jpg": ["a"], "night/1.png": ["a"]}, "msls")
    with pytest.raises(InputError, match="would both be '1'"):
        write_pairs(path, {"q": ["day/1.jpg", "night/1.jpg"]}, "msls")
    with pytest.raises(InputError, match="here are 1 to 3: give --top 1"):
        write_pairs(path, {"q": ["1", "2", "3"], "r": ["1"]}, "msls")


def test_the_originals_three_files(tmp_path: Path) -> None:
    database, queries = listing("a.jpg", "b.jpg"), listing("q.jpg")
    first, reranked = ranking_of([[0, 1]]), ranking_of([[1, 0]])
    folder = tmp_path / "new" / "results"
    written = write_patch_netvlad(
        folder,
        first,
        reranked,
        database,
        queries,
        first_recall={1: 0.0, 5: 2 / 3},
        reranked_recall={1: 1.0, 5: 0.99996},
    )
    names = ["NetVLAD_predictions.txt", "PatchNetVLAD_predictions.txt", "recalls.txt"]
    assert [path.name for path in written] == names == sorted(path.name for path in folder.iterdir())
    assert text(written[0]) == HEADER + "q.jpg, a.jpg\nq.jpg, b.jpg\n"
    assert text(written[1]) == HEADER + "q.jpg, b.jpg\nq.jpg, a.jpg\n"
    assert text(written[2]) == (
        "Recall NetVLAD@1: 0.0000\nRecall NetVLAD@5: 0.6667\n"
        "Recall PatchNetVLAD@1: 1.0000\nRecall PatchNetVLAD@5: 1.0000\n"
    )
    written = write_patch_netvlad(
        folder, first, None, database, queries, first_recall={1: 0.5}, reranked_recall=None
    )
    assert sorted(path.name for path in folder.iterdir()) == [names[0], names[2]]
    assert text(folder / names[2]) == "Recall NetVLAD@1: 0.5000\n"
    written = write_patch_netvlad(
        folder, first, reranked, database, queries, first_recall=None, reranked_recall=None
    )
    assert [path.name for path in written] == names[:2] == sorted(path.name for path in folder.iterdir())


def test_the_originals_files_are_all_or_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the lists have"):
        write_patch_netvlad(
            tmp_path / "r",
            ranking_of([[0]]),
            ranking_of([[1]]),
            listing("a"),
            listing("q"),
            first_recall=None,
            reranked_recall=None,
        )
    assert not (tmp_path / "r").exists()
