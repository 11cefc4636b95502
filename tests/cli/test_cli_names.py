"""Names as the command meets them: photos of two folders, mistyped paths, odd names in what is written."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dejavlad.evaluation.predictions import read_predictions
from dejavlad.places.loops import (
    Loop,
    write_loops,
)

Run = Callable[..., tuple[int, str, str]]
FAST = ("--device", "cpu", "--resize", "none", "--quiet")


@pytest.mark.slow
def test_locate_takes_two_folders_with_photos_of_one_name(
    run: Run, street: Path, make_view: Callable[..., NDArray[np.uint8]], make_photo: Callable[..., Path]
) -> None:
    assert run("map", "build", "rootsift-vlad", street / "database", "--out", "town.map", *FAST)[0] == 0
    for place, folder in ((3, "100APPLE"), (7, "101APPLE")):
        make_photo(street / folder / "IMG_1.png", make_view(place, 5))
    words = ("locate", "town.map", street / "100APPLE", street / "101APPLE", "--device", "cpu", "--json")
    status, out, _ = run(*words)
    assert status == 0
    best = [(answer["name"], answer["matches"][0]["name"]) for answer in json.loads(out)]
    assert best == [("100APPLE/IMG_1.png", "03.png"), ("101APPLE/IMG_1.png", "07.png")]
    (street / "list.txt").write_text("100APPLE/IMG_1.png\n", encoding="utf-8")
    status, out, _ = run("locate", "town.map", street / "list.txt", *words[-3:])
    assert [answer["matches"][0]["name"] for answer in json.loads(out)] == ["03.png"]


def test_mistyped_paths_are_one_short_line(run: Run, street: Path) -> None:
    for words in (("dataset", "info", "stret"), ("dataset", "check", street / "databas")):
        status, out, err = run(*words)
        assert (status, out) == (1, "")
        assert "did you mean 'str" in err.replace(str(street.parent.as_posix()) + "/", "") and len(err) < 300


def test_thumbnails_are_told_and_taken_when_asked_for(
    run: Run, street: Path, make_view: Callable[..., NDArray[np.uint8]], make_photo: Callable[..., Path]
) -> None:
    make_photo(street / "database" / "@eaDir" / "00.png", make_view(0))
    counts = [
        json.loads(run("dataset", "info", street / "database", "--json", *more)[1])["photos"]
        for more in ((), ("--all-folders",))
    ]
    assert counts == [12, 13]
    status, out, _ = run("dataset", "check", street / "database")
    assert status == 0 and "1 folder passed over: @eaDir (thumbnails)" in out


def test_a_link_to_nothing_is_not_whole(run: Run, street: Path) -> None:
    try:
        (street / "database" / "99.png").symlink_to(street / "gone.png")
    except OSError:
        pytest.skip("this machine makes no symbolic links")
    status, out, err = run("dataset", "check", street / "database")
    assert status == 1 and "not whole" in out and "1 links among the photos" in err


def test_predictions_by_name_are_scored(run: Run, street: Path) -> None:
    lines = "".join(f"{i:02d}.png, {i:02d}.png\n" for i in range(12))
    Path("mine.txt").write_text(lines, encoding="utf-8")
    lists = ("--database", street / "database", "--queries", street / "queries")
    words = ("evaluate", "--ranking", "mine.txt", *lists, "--truth", "same-name", "--recall-at", "1")
    status, out, _ = run(*words, "--out", "out", "--json")
    assert status == 0 and json.loads(out)["recall"] == {"1": 1.0}
    assert read_predictions("out/predictions.txt") == {f"{i:02d}.png": [f"{i:02d}.png"] for i in range(12)}


ODD = ["new\nline.jpg", "com,ma.jpg", 'quo"te.jpg', "=1+1.jpg", " space.jpg", "é.jpg", "<b>.jpg"]


def test_odd_names_come_back_from_a_table(tmp_path: Path) -> None:
    loops = [Loop(i, 0, 0.5, 0.5) for i in range(1, len(ODD))]
    path = write_loops(tmp_path / "loops.csv", loops, ODD)
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["frame"] for row in rows] == ODD[1:]
    assert {row["closes"] for row in rows} == {ODD[0]}


def test_truth_by_frames_says_what_to_do(run: Run, tmp_path: Path) -> None:
    for season, first in (("summer", 0), ("winter", 105)):
        (tmp_path / season).mkdir()
        for n in range(first, first + 20):
            (tmp_path / season / f"{n:03d}.jpg").write_bytes(b"x")
    words = ("dataset", "truth", "summer", "winter", "--out", "t.npz")
    status, _, err = run(*words, "--frames", "2")
    assert status == 1 and "frames:2+105" in err and "frames:2@rows" in err
    (tmp_path / "winter" / "110.jpg").unlink()
    status, out, _ = run(*words, "--frames", "2+105")
    lists = ("--database", "summer", "--queries", "winter", "--truth", "frames:2+105")
    Path("mine.txt").write_text("105.jpg, 000.jpg\n", encoding="utf-8")
    for more in (("--near", "48.1,11.5,100"), ("--before", "2024-05-31"), ("--shard", "1/2")):
        failed, _, err = run("evaluate", "--ranking", "mine.txt", *lists, *more, "--out", "out")
        assert failed == 1 and "leave filters, --shard and --ray out" in err
    err = run("evaluate", "--ranking", "mine.txt", *lists, "--recall-at", "1", "--out", "out")[2]
    assert (
        "right is same frame number within 2, frames by the numbers in names, queries' numbers 105 more"
        in err
    )
    assert status == 0 and "20 database photos and 19 queries, right within 2 frames, frames by the" in out


def test_too_many_words_are_named_with_what_to_type(run: Run, street: Path) -> None:
    photos = [street / "database" / f"{i:02d}.png" for i in range(4)]
    status, _, err = run("map", "build", *photos, "--out", "town.map")
    expected = f"unexpected words: {str(photos[2])!r} and 1 more; photos are given as one folder"
    assert status == 2 and expected in err
    status, _, err = run("map", "build", *photos[:2], "--out", "town.map")
    assert status == 1 and "is a photo, and a model comes first: dejavlad map build [MODEL] PHOTOS" in err
    status, _, err = run("map", "build", street / "database", street / "queries", "--out", "town.map")
    assert status == 1 and "is a folder without a model, and a model comes first" in err
    assert "unexpected word 'x' (see: dejavlad map info --help)" in run("map", "info", "town.map", "x")[2]
    assert "(see: dejavlad map --help)" in run("map", "bild", street)[2]


def test_several_photos_are_added_and_only_their_failures_told(run: Run, street: Path) -> None:
    bad = street / "database" / "bad.png"
    bad.write_text("no photo", encoding="utf-8")
    (street / "database" / "notes.txt").write_text("-", encoding="utf-8")
    assert run("map", "build", "rootsift-vlad", street / "database", "--out", "town.map", *FAST)[0] == 0
    names = ((i, street / "queries" / f"{i:02d}.png") for i in (1, 2))
    photos = [path.rename(path.with_name(f"new{i}.png")) for i, path in names]
    status, out, err = run("map", "add", "town.map", *photos, street / "database", "--device", "cpu")
    assert status == 0 and "2 photos added, 14 in the map" in out and "bad.png" in err
    status, out, err = run("map", "add", "town.map", photos[0], "--device", "cpu")
    assert "0 photos added, 14 in the map" in out and "bad.png" not in err
    status, _, err = run("locate", "town.map", bad, *FAST)
    assert status == 1 and "bad.png' could not be described: it is no image" in err
    (street / "where.csv").write_text("name,lat,lon\nnew1.png,55.7,13.2\n", encoding="utf-8")
    words = ("map", "add", "town.map", *photos, "--positions", street / "where.csv", "--device", "cpu")
    status, out, err = run(*words)  # the table is of all of them, and one line tells so
    assert status == 0 and "1 photos that were there have other positions" in out, err
    assert "queries: 1 of 2 photos have a position (from where.csv); 1 has none, e.g. 'new2.png'" in err
    photos[0].write_text("damaged since", encoding="utf-8")
    (street / "list.txt").write_text("queries/new1.png\n", encoding="utf-8")  # not as the map calls it
    status, out, err = run("map", "add", "town.map", street / "list.txt", "--device", "cpu")
    assert "0 photos added, 13 in the map" in out and "left out 'new1.png'" in err and "bad.png" not in err
