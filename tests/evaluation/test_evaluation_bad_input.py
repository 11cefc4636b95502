"""What a user may get wrong, in one line and no traceback; and positions that are hard to compare."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dejavlad.cli import main
from dejavlad.errors import InputError
from dejavlad.geo import Position, utm_from_latlon
from dejavlad.ground_truth import (
    PlaceDataset,
    parse_truth,
    truth_positions,
)
from dejavlad.photo import Photo, PhotoList
from dejavlad.ranking import Ranking

Evaluate = Callable[..., tuple[int, str, str]]


@pytest.fixture
def scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Evaluate:
    """Score a ranking of lists of positions, [N, 2] degrees."""

    def call(
        database: list[str], queries: list[str], rows: list[list[int]], truth: str
    ) -> tuple[int, str, str]:
        for name, lines in (("db", database), ("q", queries)):
            (tmp_path / name).mkdir(exist_ok=True)
            listed = [f"{name}/{i}.jpg,{line}" for i, line in enumerate(lines)]
            (tmp_path / f"{name}.csv").write_text("\n".join(["name,lat,lon", *listed]), encoding="utf-8")
            for i in range(len(lines)):
                (tmp_path / name / f"{i}.jpg").touch()
        indices = np.array(rows, np.int64)
        distances = np.where(indices < 0, np.inf, np.arange(indices.shape[1], dtype=np.float32))
        Ranking(indices, distances).save(tmp_path / "r.npz")
        words = ["--database", str(tmp_path / "db.csv"), "--queries", str(tmp_path / "q.csv")]
        out = ["--out", str(tmp_path / "out"), "--recall-at", "1", "--json"]
        capsys.readouterr()
        status = main(["evaluate", "--ranking", str(tmp_path / "r.npz"), *words, "--truth", truth, *out])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return status, captured.out, captured.err

    return call


FIJI = ["-16.8,179.9999", "-16.8,-179.9999", "-16.8,179.5"]
BORDER = ["52.0,5.9999", "52.0,6.0001", "52.0,6.1"]  # zones 31 and 32


@pytest.mark.parametrize("database", [FIJI, BORDER], ids=["date line", "zone border"])
def test_neighbours_across_a_border(scored: Evaluate, database: list[str]) -> None:
    status, out, err = scored(database, database[:1], [[1, 0, 2]], "positions:25")
    assert status == 0, err
    result = json.loads(out)
    assert result["recall"]["1"] == 1.0  # 21 m and 14 m apart
    assert result["by_distance"]["1"]["25"] == 1.0 and result["by_distance"]["1"]["10"] == 0.0
    status, out, _ = scored(database, database[:1], [[2, 0, 1]], "positions:25")
    assert status == 0 and json.loads(out)["recall"]["1"] == 0.0


def test_rows_of_none(scored: Evaluate) -> None:
    status, out, _ = scored(BORDER, BORDER[:2], [[-1, -1], [1, -1]], "positions:5")
    assert status == 0 and json.loads(out)["recall"]["1"] == 0.5
    assert json.loads(out)["hits_at"] == [0, 1]


@pytest.mark.parametrize(
    ("rows", "truth", "complaint"),
    [
        ([[0]], "positions:25", "the ranking is of 1 queries and rows up to 0, the lists have 2 queries"),
        ([[3], [0]], "positions:25", "rows up to 3, the lists have 2 queries and 3 database photos"),
        ([[0], [1]], "positions:-1", "is not a distance in metres"),
        ([[0], [1]], "positions:nan", "is not a distance in metres"),
        ([[0], [1]], "frames:x", "valid are frames:2"),
        ([[0], [1]], "nowhere.npz", "there is no truth file"),
    ],
)
def test_what_does_not_fit_is_one_line(
    scored: Evaluate, rows: list[list[int]], truth: str, complaint: str
) -> None:
    status, _, err = scored(BORDER, BORDER[:2], rows, truth)
    (error,) = (line for line in err.splitlines() if line.startswith("dejavlad:"))
    assert status == 1 and complaint in error


def test_a_truth_of_other_lists(scored: Evaluate, tmp_path: Path) -> None:
    path = tmp_path / "truth.npz"
    np.savez(path, utmDb=np.zeros((2, 2)), utmQ=np.zeros((3, 2)), posDistThr=25)
    status, _, err = scored(BORDER, BORDER[:2], [[0], [1]], str(path))
    assert status == 1 and "are the two lists swapped?" in err
    np.savez(path, utmDb=np.full((3, 2), np.nan), utmQ=np.zeros((2, 2)), posDistThr=25)
    status, _, err = scored(BORDER, BORDER[:2], [[0], [1]], str(path))
    assert status == 1 and "3 of 3 positions of the database are not finite numbers" in err
    np.savez(path, utmDb=np.zeros((0, 2)), utmQ=np.zeros((0, 2)), posDistThr=25)
    status, _, err = scored(BORDER, BORDER[:2], [[0], [1]], str(path))
    assert status == 1 and "is of 0 database photos and 0 queries" in err


def test_a_truth_without_any_right_answer(scored: Evaluate) -> None:
    far = ["10.0,10.0", "10.0,11.0"]
    status, out, _ = scored(BORDER, far, [[0], [1]], "positions:25")
    result = json.loads(out)
    assert status == 0 and result["recall"]["1"] == 0.0 and result["n_without_truth"] == 2
    assert result["intervals"]["1"][0] == 0.0 and result["intervals"]["1"][1] > 0.5  # two queries tell little


def test_swapped_coordinates_are_told(scored: Evaluate) -> None:
    status, _, err = scored(["5.0,52.0", "100.2,8.1"], ["8.0,98.0"], [[0]], "positions:25")
    assert status == 1 and "are lat and lon swapped?" in err


def test_positions_that_are_no_numbers() -> None:
    sample = [Position(0, 0, "31N"), None, Position(float("nan"), 1, "31N"), Position(10, 0, "31N")]
    truth = truth_positions(sample, sample, 25)
    assert [rows.tolist() for rows in truth.positives] == [[0, 3], [], [], [0, 3]]
    assert truth.description["database_without_position"] == 2
    with pytest.raises(InputError, match="none of the 2 photos of the database has a position"):
        truth_positions([None, None], sample, 25)
    with pytest.raises(InputError, match="some have none"):
        truth_positions([Position(0, 0), Position(0, 0, "31N")], sample, 25)


def test_zones_far_apart_are_not_near() -> None:
    """The same numbers in another zone are another place."""
    here = utm_from_latlon(52.0, 5.0)
    photos = [
        PhotoList([Photo("a", Path("a"), position=Position(here.east, here.north, zone))])
        for zone in (here.zone, "32N")
    ]
    assert parse_truth("positions:25", photos[0], photos[0]).positives[0].tolist() == [0]
    assert parse_truth("positions:25", photos[0], photos[1]).positives[0].tolist() == []


def test_a_dataset_of_other_lengths() -> None:
    lists = [PhotoList(Photo(str(i), Path(str(i))) for i in range(n)) for n in (3, 2)]
    truth = parse_truth("frames:1", *lists)
    with pytest.raises(InputError, match="the truth is of 3 database photos and 2 queries, the lists hold 2"):
        PlaceDataset("x", lists[1], lists[0], truth)
    for wrong in (np.zeros(2, int), np.zeros(4, int), np.zeros((3, 1), int)):
        with pytest.raises(InputError, match="one whole number for each of 3 database photos"):
            truth.grouped(wrong)
