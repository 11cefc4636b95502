"""Truth from a GPS track and from poses, as a user types it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., tuple[int, str, str]]


def walk(folder: Path, seconds: range) -> None:
    """Photos whose EXIF tells when they were taken."""
    folder.mkdir(parents=True)
    for i, second in enumerate(seconds):
        exif = Image.Exif()
        exif[0x0132] = f"2024:05:01 12:00:{second:02d}"
        Image.new("RGB", (8, 8)).save(folder / f"{i:06d}.jpg", exif=exif)


def test_truth_from_a_track(run: Run, tmp_path: Path) -> None:
    walk(tmp_path / "map", range(0, 50, 10))
    walk(tmp_path / "new", range(5, 50, 10))
    points = "".join(
        f'<trkpt lat="{50 + 9e-6 * s}" lon="8"><time>2024-05-01T12:00:{s:02d}Z</time></trkpt>'
        for s in range(0, 60, 5)
    )  # about a metre a second
    Path("walk.gpx").write_text(f"<gpx><trk><trkseg>{points}</trkseg></trk></gpx>")
    made = ("dataset", "truth", "map", "new", "--positions", "walk.gpx", "--radius", "6", "--out", "t.npz")
    status, out, err = run(*made)
    assert status == 0 and "5 database photos and 5 queries, right within 6 m: 1 to 2 each" in out
    assert "map: 5 of 5 photos have a position (from walk.gpx)\n" in err
    assert "new: 5 of 5 photos' times have no time zone, and are taken for UTC" in err
    info = json.loads(run("dataset", "info", "map", "--positions", "walk.gpx", "--json")[1])
    assert info["with_position"] == 5 and info["extents"][0]["north_m"] == pytest.approx(40, abs=0.2)
    np.save("r.npy", np.tile(np.arange(5), (5, 1)))
    score = ("evaluate", "--ranking", "r.npy", "--database", "map", "--queries", "new", "--truth", "t.npz")
    status, out, _ = run(*score, "--recall-at", "1,2", "--json", "--out", "results")
    assert status == 0 and json.loads(out)["recall"] == {"1": 0.2, "2": 0.4}
    status, _, err = run(*made[:5], "walk.gpx:86400", *made[6:])
    assert status == 1 and "has a time within the track" in err and err.count("\n") == 1
    Path("walk.gpx").write_text('<gpx><trk><trkseg><trkpt lat="50" lon="8"/></trkseg></trk></gpx>')
    status, _, err = run(*made)
    assert status == 1 and "its 1 points have no time" in err


def test_truth_from_poses(run: Run, tmp_path: Path) -> None:
    walk(tmp_path / "map", range(6))
    rows = np.tile(np.eye(3, 4).ravel(), (6, 1))
    rows[:, 11] = np.arange(6) * 10
    np.savetxt("00.txt", rows)
    made = ("dataset", "truth", "map", "map", "--positions", "00.txt", "--radius", "10", "--out", "t.npz")
    status, out, err = run(*made)
    assert status == 0 and "6 queries, right within 10 m: 2 to 3 each" in out
    assert err == "map: 6 of 6 photos have a position (from 00.txt)\n"
    rows[2, 3] = np.nan
    np.savetxt("00.txt", rows)
    status, _, err = run(*made)
    assert status == 1 and "line 3: a pose is of finite numbers" in err


def test_positions_are_told_wherever_they_are_given(run: Run, tmp_path: Path) -> None:
    walk(tmp_path / "d" / "database", range(0, 50, 10))
    walk(tmp_path / "d" / "queries", range(5, 50, 10))
    table = (
        "name,lat,lon\n" + "".join(f"{i:06d}.jpg,{50 + i * 1e-3},8\n" for i in range(4)) + "000004.jpg,0,0\n"
    )
    for part in ("database", "queries"):
        Path(f"d/{part}/positions.csv").write_text(table)
    message = "database: 4 of 5 photos have a position (from positions.csv)"
    zero = "database: 1 positions are 0,0, which means none, and are left out, e.g. that of '000004.jpg'"
    status, out, _ = run("dataset", "info", "d")
    assert status == 0 and message in out and zero in out
    findings = json.loads(run("dataset", "check", "d", "--json")[1])["findings"]
    assert {"positions"} == {f["what"] for f in findings if f["text"] == zero}
    np.save("r.npy", np.tile(np.arange(5), (5, 1)))
    score = ("evaluate", "--ranking", "r.npy", "--dataset", "d", "--out", "results")
    status, _, err = run(*score)
    assert status == 0 and message in err and zero in err
    assert "database: " not in run(*score, "--quiet")[2]
    rows = "".join(f"{i:06d}.jpg,{i * 100},0\n" for i in range(5))
    Path("other.csv").write_text(f"name,east,north\n{rows}")
    status, out, err = run(*score, "--positions", "other.csv", "--json")
    assert status == 0 and "5 of 5 photos have a position (from other.csv)" in err
    assert json.loads(out)["recall"]["1"] == 0.2
    status, _, err = run("dataset", "info", "d", "--positions", "exif", "--time-offset", "soon")
    assert status == 1 and "--time-offset 'soon'" in err and err.count("\n") == 1
