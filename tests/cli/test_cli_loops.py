"""`loops` as a user types it: files, figures, the page, and what is refused in one line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dejavlad.errors import InputError
from dejavlad.extraction import DescriptorStore
from dejavlad.ground_truth.row_sets import RowSets
from dejavlad.photo import Photo, PhotoList
from dejavlad.pipelines import LoopSetting, LoopTruth, loops

Run = Callable[..., tuple[int, str, str]]
FAST = ("--device", "cpu", "--resize", "none", "--quiet")
PLACES, LAPS = 12, 2


@pytest.fixture
def drive(tmp_path: Path, make_view, make_photo) -> Path:
    """A drive of two laps past twelve places, and its truth among the photos."""
    for lap in range(LAPS):
        for place in range(PLACES):
            make_photo(tmp_path / "drive" / f"{lap * PLACES + place + 1}.png", make_view(place, 4 * lap))
    n = LAPS * PLACES
    truth = np.zeros((n, n), np.uint8)
    truth[np.arange(PLACES, n), np.arange(PLACES)] = 255
    Image.fromarray(truth).save(tmp_path / "drive" / "truth.bmp")
    return tmp_path / "drive"


@pytest.mark.slow
def test_a_drive_round_and_round(run: Run, drive: Path, tmp_path: Path) -> None:
    words = (
        "loops",
        drive,
        "--model",
        "rootsift-vlad",
        "--window",
        "6",
        "--truth",
        drive / "truth.bmp",
        *FAST,
    )
    status, out, err = run(*words, "--json", "--out", "results")
    assert (status, err) == (0, "")
    output = json.loads(out)
    assert output["recall_at_100_precision"] == 1.0 and output["auc"] == 1.0
    assert (output["n_frames"], output["n_with_loop"]) == (24, 12)
    assert output["protocol"]["window"] == 6 and output["protocol"]["truth"] == {"kind": "matrix"}
    written = json.loads(Path("results/result.json").read_text())
    assert written["auc"] == 1.0 and "--window 6" in written["made_with"]["command"]
    assert {"dejavlad", "numpy"} <= written["made_with"]["versions"].keys()
    with open("results/loops.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    closed = [row for row in rows if int(row["i"]) >= PLACES]
    assert all(int(row["i"]) - int(row["j"]) == PLACES and row["right"] == "1" for row in closed)
    assert closed[0]["frame"] == "13.png" and closed[0]["closes"] == "1.png"
    page = Path("results/index.html").read_text(encoding="utf-8")
    assert (
        "recall at 100 % precision" in page
        and "dejavlad loops" in page
        and "http://" not in page.replace("http://www.w3.org", "")
    )
    before = Path("results/frames/rows.npy").stat().st_mtime_ns
    assert run(*words, "--out", "results")[0] == 0  # again: nothing is described anew
    assert Path("results/frames/rows.npy").stat().st_mtime_ns == before

    given = (
        "loops",
        "results/frames",
        "--window",
        "6",
        "--sequence",
        "3",
        "--threshold",
        "0.2",
        "--json",
        "--out",
        "more",
    )
    status, out, err = run(*given)
    assert status == 0
    output = json.loads(out)
    assert "auc" not in output and output["n_given"] >= 10
    assert run("pairs", "more", "--format", "colmap", "--out", "pairs.txt")[0] == 0
    assert "24.png 12.png" in Path("pairs.txt").read_text().splitlines()
    assert "Without truth" in Path("more/index.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_drive_without_loops_has_none(run: Run, tmp_path: Path, make_view, make_photo) -> None:
    wall = make_view(3, width=128 + 14 * 32)
    for place in range(14):
        make_photo(tmp_path / "straight" / f"{place}.png", wall[:, 32 * place : 32 * place + 128])
    words = ("loops", "straight", "--model", "rootsift-vlad", "--window", "5", *FAST, "--json")
    checked, looks = (
        json.loads(run(*words, "--out", out, "--verify", kind)[1])
        for out, kind in (("a", "auto"), ("b", "none"))
    )
    made = run("map", "build", "a/frames", "--out", "drive.map", "--quiet")  # the model is a/model
    assert made[:2] == (0, "")
    as_is = json.loads(run(*words, "--out", "a")[1])
    assert as_is["n_given"] == checked["n_given"] == 0 and "verified_by" in as_is["protocol"]
    assert "verified_by" not in looks["protocol"]
    measured = json.loads(run(*words, "--out", "a", "--threshold", "0.9")[1])
    assert "verified_by" not in measured["protocol"]


def test_positions_tell_the_truth_and_the_page_shows_where(run: Run, drive: Path) -> None:
    rng = np.random.default_rng(0)
    (drive / "truth.bmp").unlink()
    places = [(np.cos(a) * 100, np.sin(a) * 100) for a in np.linspace(0, 6, PLACES)] * LAPS
    lines = [f"{i + 1}.png,{x:.1f},{y:.1f}\n" for i, (x, y) in enumerate(places)]
    (drive / "positions.csv").write_text("name,east,north\n" + "".join(lines))
    np.save("d.npy", np.tile(rng.normal(size=(PLACES, 64)), (LAPS, 1)).astype(np.float32))
    words = ("loops", drive, "--model", "rootsift-vlad", "--window", "6", "--truth", "positions:5", *FAST)
    status, out, _ = run(*words, "--json", "--out", "results")
    assert status == 0 and json.loads(out)["n_with_loop"] == PLACES
    assert 'id="track"' in Path("results/index.html").read_text(encoding="utf-8")


def test_both_ways_as_the_tensorflow_port(run: Run) -> None:
    angle = np.arange(40) / 20 * 2 * np.pi  # two rounds
    at = np.stack([50 * np.cos(angle), np.zeros(40), 50 * np.sin(angle)], axis=1)
    Path("poses.txt").write_text("".join(f"1 0 0 {x} 0 1 0 {y} 0 0 1 {z}\n" for x, y, z in at.tolist()))
    rows = np.tile(np.random.default_rng(0).normal(size=(20, 8)), (2, 1)).astype(np.float32)
    rows[25] = rows[3]
    np.save("rows.npy", rows)
    words = ("loops", "rows.npy", "--window", "5", "--truth", "poses.txt", "--both-ways", "--json", "--quiet")
    status, out, err = run(*words, "--out", "results")
    assert (status, err) == (0, "")
    output = json.loads(out)
    assert output["n_with_loop"] == 20 and output["both_ways"]["n_with_loop"] == 40
    assert 0.8 < output["both_ways"]["auc"] < 1
    np.save("square.npy", np.ones((40, 40)))
    status, _, err = run(*("square.npy" if word == "poses.txt" else word for word in words), "--out", "more")
    assert status == 1 and "poses are needed as truth" in err


def test_both_ways_needs_every_number(tmp_path: Path) -> None:
    frames = PhotoList(Photo(f"{i:03d}.jpg", Path(f"{i:03d}.jpg")) for i in range(40) if i != 7)
    store = DescriptorStore.from_arrays(np.eye(39, dtype=np.float32), frames.keys)
    square = np.ones((39, 39), np.bool_)
    np.fill_diagonal(square, False)
    right = RowSets.of([np.flatnonzero(row) for row in square], 39)
    truth = LoopTruth(right, {"radius_m": 5.0}, np.zeros((39, 3)))
    with pytest.raises(InputError, match="numbers are missing among the frames' names"):
        loops(store, frames, tmp_path / "out", LoopSetting(window=3), truth=truth)


def test_what_is_refused(run: Run, drive: Path) -> None:
    np.save("rows.npy", np.random.default_rng(0).normal(size=(24, 8)).astype(np.float32))
    np.save("wide.npy", np.ones((24, 23)))
    np.save("nan.npy", np.full((24, 8), np.nan, np.float32))
    Path("poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 nan\n" * 24)
    for words, message in (
        ((drive, "--verify", "sift", "--threshold", "0.5"), "--threshold"),
        (("rows.npy", "--model", "rootsift-vlad"), "leave --model"),
        (("rows.npy", "--truth", "wide.npy"), "24 x 23"),
        (("rows.npy", "--truth", drive / "truth.bmp", "--window", "20"), "nothing to measure"),
        (("rows.npy", "--truth", "poses.txt"), "NaN"),
        (("rows.npy", "--truth", "frames:2"), "valid are"),
        (("rows.npy", "--truth", "positions:5"), "has a position"),
        (("rows.npy", "--window", "-1"), "0 frames or more"),
        (("rows.npy", "--sequence", "40"), "1 to 31 frames"),
        (("rows.npy", "--radius", "3"), "give --truth"),
        (("nan.npy",), "NaN"),
    ):
        status, out, err = run("loops", *words, "--out", "results", "--quiet")
        assert (status, out) == (1, "") and message in err and err.count("\n") == 1, (words, err)
