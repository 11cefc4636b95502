"""Datasets as a TOML file says them, and Patch-NetVLAD's lists with its truth files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from dejavlad.cli import main
from dejavlad.datasets import open_dataset
from dejavlad.errors import InputError, UnknownNameError
from dejavlad.ground_truth import read_netvlad_spec
from dejavlad.photo import listed_photos

DATA = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the lists are not beside the project")


def toml_dataset(path: Path, **entries: object) -> Path:
    path.write_text("".join(f"{key} = {value!r}\n" for key, value in entries.items()), encoding="utf-8")
    return path


def lists(folder: Path, database: int = 4, queries: int = 3) -> None:
    for part, count in (("index", database), ("query", queries)):
        text = "".join(f"./city/{part}/{i:03d}.jpg\n" for i in range(count))
        (folder / f"{part}.txt").write_text(text, encoding="utf-8")


def test_lists_and_truth_without_photos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lists(tmp_path)
    at = np.array([[0.0, 0], [3, 4], [100, 0], [200, 0]])
    np.savez(tmp_path / "t.npz", utmDb=at, utmQ=at[:3], posDistThr=5)
    mine = toml_dataset(tmp_path / "mine.toml", database="index.txt", queries="query.txt", truth="t.npz")
    places = open_dataset(mine)
    assert (places.name, places.protocol) == ("mine", "t.npz") and places.truth is not None
    assert places.database.keys == [f"city/index/{i:03d}.jpg" for i in range(4)]
    assert [rows.tolist() for rows in places.truth.positives] == [[0, 1], [0, 1], [2]]
    assert places.database[0].path == tmp_path / "city/index/000.jpg"
    assert (
        open_dataset(mine, root=tmp_path / "there").database[0].path == tmp_path / "there/city/index/000.jpg"
    )
    rooted = toml_dataset(
        tmp_path / "rooted.toml",
        database="index.txt",
        queries="query.txt",
        truth="t.npz:1",
        root="photos",
        name="called",
    )
    places = open_dataset(rooted)
    assert places.name == "called" and places.database[0].path == tmp_path / "photos/city/index/000.jpg"
    assert places.truth is not None and [r.tolist() for r in places.truth.positives] == [[0], [1], [2]]
    np.save(tmp_path / "r.npy", np.array([[1, 0], [3, 2], [2, 1]]))
    words = ("evaluate", "--ranking", tmp_path / "r.npy", "--dataset", mine, "--recall-at", "1,2", "--json")
    assert main([str(word) for word in (*words, "--out", tmp_path / "results")]) == 0
    assert json.loads(capsys.readouterr().out)["recall"] == {"1": 2 / 3, "2": 2 / 3}


def test_folders_and_positions(street: Path, tmp_path: Path) -> None:
    rows = [f"{i:02d}.png,{i * 10},0" for i in range(12)]
    (tmp_path / "p.csv").write_text("name,east,north\n" + "\n".join(rows), encoding="utf-8")
    folders = {"database": str(street / "database"), "queries": str(street / "queries")}
    places = open_dataset(
        toml_dataset(tmp_path / "a.toml", **folders, positions="p.csv", truth="positions:10")
    )
    assert places.truth is not None and places.truth.positives.counts.tolist() == [2, *[3] * 10, 2]
    assert open_dataset(toml_dataset(tmp_path / "b.toml", **folders)).truth is None


@pytest.mark.parametrize("name", ["gone.gpx", "gone.txt", "gone.csv"])
def test_a_file_of_positions_is_sought_beside_the_dataset(street: Path, tmp_path: Path, name: str) -> None:
    folders = {"database": str(street / "database"), "queries": str(street / "queries")}
    with pytest.raises(InputError, match=re.escape(str(tmp_path / name))):
        open_dataset(toml_dataset(tmp_path / "a.toml", **folders, positions=name))


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ({"database": "index.txt"}, "does not say queries"),
        ({"database": "index.txt", "queries": 3}, r"queries is a text; given 3"),
        ({"database": "index.txt", "queries": ""}, "queries is a text"),
        ({"database": "index.txt", "queries": "none.txt"}, r"there is no .*none.txt"),
        ({"database": "index.txt", "queries": "query.txt", "truth": "t.npz"}, r"of 3 database photos and 4"),
        ({"database": "index.txt", "queries": "query.txt", "truth": "near"}, "truth 'near': valid are"),
    ],
)
def test_bad_files(tmp_path: Path, entries: dict[str, object], why: str) -> None:
    lists(tmp_path)
    np.savez(tmp_path / "t.npz", utmDb=np.zeros((3, 2)), utmQ=np.zeros((4, 2)), posDistThr=5)
    with pytest.raises(InputError, match=why):
        open_dataset(toml_dataset(tmp_path / "bad.toml", **entries))


def test_bad_settings(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean database"):
        open_dataset(toml_dataset(tmp_path / "bad.toml", databse="a", queries="b"))
    (tmp_path / "broken.toml").write_text("= 1", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be read as a dataset"):
        open_dataset(tmp_path / "broken.toml")
    with pytest.raises(InputError, match="cannot be read"):
        open_dataset(tmp_path / "none.toml")


@pytest.mark.slow
@needs_data
@pytest.mark.parametrize(
    ("name", "database", "queries", "fewest", "most", "total"),
    [
        ("pitts30k_test", 10_000, 6_816, 24, 360, 968_448),
        ("nordland", 27_592, 27_592, 8, 15, 15 * 27_592 - 7 * 8),
        ("tokyo247", 75_984, 315, 48, 240, 37_260),
    ],
)
def test_truth_files_of_patch_netvlad(
    name: str, database: int, queries: int, fewest: int, most: int, total: int, tmp_path: Path
) -> None:
    for part, count in (("index", database), ("query", queries)):
        shipped = DATA / "lists" / f"{name.removesuffix('_test')}_imageNames_{part}.txt"
        text = shipped.read_text() if shipped.is_file() else "".join(f"{i}.jpg\n" for i in range(count))
        (tmp_path / f"{part}.txt").write_text(text)
    truth = str(DATA / "truth" / f"{name}.npz")
    places = open_dataset(
        toml_dataset(tmp_path / "set.toml", database="index.txt", queries="query.txt", truth=truth)
    )
    assert places.truth is not None
    counts = places.truth.positives.counts
    assert (len(places.database), len(places.queries)) == (database, queries)
    assert (counts.min(), counts.max(), counts.sum()) == (fewest, most, total)


@pytest.mark.slow
@needs_data
def test_the_list_of_pitts30k_goes_in_the_order_of_its_spec() -> None:
    spec = read_netvlad_spec(DATA / "specs" / "pitts30k_test.mat")
    for part, names, folder in (
        ("index", spec.database, "Pittsburgh250k"),
        ("query", spec.queries, "Pittsburgh250k/queries_real"),
    ):
        listed = listed_photos(DATA / "lists" / f"pitts30k_imageNames_{part}.txt", seen=False)
        assert listed.keys == [f"{folder}/{name}" for name in names]
