"""What users get wrong in datasets: told in one line, with what to do; and what only looks wrong is right."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dejavlad.cli import main
from dejavlad.datasets import (
    open_dataset,
    photos,
)
from dejavlad.errors import InputError
from dejavlad.geo import Position, utm_from_latlon
from dejavlad.ground_truth import (
    PlaceDataset,
    Truth,
    truth_positions,
)
from dejavlad.photo import Photo, PhotoList

LUND = (55.7, 13.19)


def listing(count: int) -> PhotoList:
    return PhotoList(Photo(f"{i}.jpg", Path(f"{i}.jpg")) for i in range(count))


def folders(root: Path, database: str, queries: str) -> Path:
    """Two photos of each, with these positions."""
    for part, text in (("database", database), ("queries", queries)):
        (root / part).mkdir(parents=True)
        for i in range(2):
            (root / part / f"{i}.jpg").write_bytes(b"x")
        (root / part / "positions.csv").write_text(text, encoding="utf-8")
    return root


@pytest.fixture
def fails(capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The one line that a command ends with when it fails."""

    def call(*words: str | Path) -> str:
        capfd.readouterr()
        assert main([str(word) for word in words]) == 1
        line = capfd.readouterr().err.strip().splitlines()
        assert len(line) == 1 and "Traceback" not in line[0]
        return line[0]

    return call


def test_lists_and_truth_of_different_length(street: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    with pytest.raises(
        InputError, match="the truth is of 3 database photos and 1 queries, the lists hold 2 and"
    ):
        PlaceDataset("x", listing(2), listing(1), Truth([[0]], 3, {}))
    np.savez(tmp_path / "t.npz", utmDb=np.zeros((12, 2)), utmQ=np.zeros((11, 2)), posDistThr=5)
    assert "12 database photos and 11 queries, the lists hold 12 and 12" in fails(
        "dataset", "info", street, "--truth", tmp_path / "t.npz"
    )
    np.savez(tmp_path / "t.npz", utmDb=np.zeros((3, 2)), utmQ=np.zeros((12, 2)), posDistThr=5)
    (tmp_path / "few.txt").write_text("".join(f"0{i}.png\n" for i in range(3)), encoding="utf-8")
    np.save(tmp_path / "r.npy", np.zeros((3, 1), np.int64))
    swapped = ("--database", street / "database", "--queries", tmp_path / "few.txt", "--root")
    score = ("evaluate", "--ranking", tmp_path / "r.npy", *swapped, street / "queries", "--recall-at", "1")
    message = fails(*score, "--truth", tmp_path / "t.npz", "--out", tmp_path / "out")
    assert "are the two lists swapped?" in message


def test_missing_parts(tmp_path: Path, fails: Callable[..., str]) -> None:
    (tmp_path / "database").mkdir()
    (tmp_path / "database" / "a.jpg").write_bytes(b"x")
    assert "holds the folders database (or map) and queries" in fails(
        "evaluate", "--ranking", "r.npy", "--dataset", tmp_path, "--out", tmp_path / "out"
    )
    (tmp_path / "queries").mkdir()
    assert "it is empty" in fails("dataset", "check", tmp_path)
    assert "there is no" in fails("dataset", "info", tmp_path / "nowhere" / "images")


def test_an_empty_truth(tmp_path: Path, fails: Callable[..., str]) -> None:
    places = folders(
        tmp_path / "d", "name,east,north\n0.jpg,0,0\n1.jpg,9,0\n", "name,east,north\n0.jpg,500,0\n"
    )
    np.save(tmp_path / "r.npy", np.array([[0], [1]]))
    score = (
        "evaluate",
        "--ranking",
        tmp_path / "r.npy",
        "--dataset",
        places,
        "--recall-at",
        "1",
        "--misses",
        "drop",
    )
    assert main(["evaluate", *map(str, score[1:-1]), "count", "--out", str(tmp_path / "a"), "--quiet"]) == 0
    assert main([*map(str, score), "--out", str(tmp_path / "b")]) == 1
    with pytest.raises(InputError, match="none of the 2 photos of the queries has a position"):
        truth_positions([Position(0, 0)], [None, None], 25)
    assert truth_positions([], [], 25).n_queries == 0


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("name,lat,lon\n0.jpg,139.7,35.6\n", "latitude 139.7 is beyond 90 degrees; are lat and lon swapped?"),
        ("name,lat,lon\n0.jpg,95,200\n", "is outside UTM"),
        (
            "name,east,north,zone\n0.jpg,6170000,390000,33N\n",
            "nowhere in zone 33N; are east and north swapped?",
        ),
        ("name,east,north,zone\n0.jpg,390000,6170000,61N\n", "'61N' is no UTM zone"),
        ("name,east,north,zone\n0.jpg,390000,6170000,33\n", "lacks its hemisphere"),
        ("name,east,north\n0.jpg,inf,0\n", "not a finite number"),
        ("name,east,north\n0.jpg,1,\n", "has east but no north"),
        ("name,east,north\n0.jpg,one,2\n", "'one' is not a number"),
        ("name,east\n0.jpg,1\n", "should name the columns"),
    ],
)
def test_bad_positions(tmp_path: Path, rows: str, message: str, fails: Callable[..., str]) -> None:
    places = folders(tmp_path / "d", rows, "name,east,north\n0.jpg,0,0\n")
    line = fails("dataset", "info", places)
    assert message in line and "positions.csv" in line


def test_positions_that_are_not_numbers_are_not_known(tmp_path: Path) -> None:
    text = "name,east,north\n0.jpg,nan,nan\n1.jpg,0,0\n"
    places = open_dataset(folders(tmp_path / "d", text, "name,east,north\n0.jpg,0,0\n1.jpg,nan,nan\n"))
    assert places.truth is not None
    assert [rows.tolist() for rows in places.truth.positives] == [[1], []]
    made = PlaceDataset.from_arrays(
        ["a", "b"], np.array([[np.nan, 0], [1.0, 1.0]]), ["q"], np.array([[1.0, 1.0]])
    )
    assert made.truth is not None and made.truth.positives[0].tolist() == [1]


def csv(*at: Position) -> str:
    lines = [f"{i}.jpg,{p.east},{p.north},{p.zone}" for i, p in enumerate(at)]
    return "\n".join(["name,east,north,zone", *lines])


@pytest.mark.parametrize(
    ("turn", "why"),
    [
        (lambda lat, lon: utm_from_latlon(lon, lat), "latitude and longitude of the queries swapped"),
        (lambda lat, lon: Position(*_numbers(lat, lon), "32N"), "their zones are 33N and 32N: one is wrong"),
        (lambda lat, lon: utm_from_latlon(lat + 3, lon), "km apart: are they of the same town?"),
    ],
)
def test_mistakes_that_are_no_errors_are_told(
    turn: Callable[[float, float], Position],
    why: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    database = csv(*(utm_from_latlon(LUND[0], LUND[1] + i * 1e-4) for i in range(2)))
    queries = csv(*(turn(LUND[0], LUND[1] + i * 1e-4) for i in range(2)))
    places = folders(tmp_path / "d", database, queries)
    with caplog.at_level(logging.WARNING, "dejavlad"):
        truth = open_dataset(places).truth
    assert truth is not None and not truth.answerable.any()
    assert why in caplog.text and "no query has a photo of the database within 25 m" in caplog.text
    made = ("dataset", "truth", places / "database", places / "queries", "--out", tmp_path / "t.npz")
    assert main([str(word) for word in made]) == 0
    assert why in capsys.readouterr().err
    assert main(["dataset", "check", str(places)]) == 1
    assert why in capsys.readouterr().out


def _numbers(lat: float, lon: float) -> tuple[float, float]:
    at = utm_from_latlon(lat, lon)
    return at.east, at.north


@pytest.mark.parametrize(
    ("lat", "lon"),
    [(48.0, 6.0), (0.0, 33.0), (-17.0, 180.0), (0.0, 180.0)],
    ids=["zones", "equator", "date", "both"],
)
def test_borders_of_zones_are_no_borders(lat: float, lon: float, tmp_path: Path) -> None:
    """Photos 11 m apart on both sides of a zone's edge, of the equator, of the date line."""
    apart = 5e-5
    east = (lon + apart + 180) % 360 - 180
    database = f"name,lat,lon\n0.jpg,{lat + apart},{lon - apart}\n1.jpg,{lat + 1},{lon - apart}\n"
    queries = f"name,lat,lon\n0.jpg,{lat - apart},{east}\n1.jpg,{lat + 1 - apart},{east}\n"
    places = open_dataset(folders(tmp_path / "d", database, queries))
    assert places.truth is not None
    assert [rows.tolist() for rows in places.truth.positives] == [[0], [1]]
    assert len({at.zone for at in (*places.database.positions, *places.queries.positions) if at}) > 1


def test_zones_beside_none(tmp_path: Path, fails: Callable[..., str]) -> None:
    places = folders(tmp_path / "d", csv(utm_from_latlon(*LUND)), "name,east,north\n0.jpg,0,0\n")
    assert "some positions have a UTM zone and some have none" in fails("dataset", "info", places)


def test_lists_that_name_a_photo_twice_or_none(tmp_path: Path, fails: Callable[..., str]) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "twice.txt").write_text("a.jpg\n./a.jpg\n", encoding="utf-8")
    assert "line 2: './a.jpg' is listed twice" in fails("dataset", "info", tmp_path / "twice.txt")
    (tmp_path / "lost.txt").write_text("a.jpg\nb.jpg\n", encoding="utf-8")
    assert "1 of 2 photos" in fails("dataset", "check", tmp_path / "lost.txt")
    with pytest.raises(InputError, match="there is no 'nothing'"):
        photos("nothing")
