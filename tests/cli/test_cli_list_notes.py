"""What lists left out or assumed, in results and pages; `dataset check`; panoramas; `--reduce`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import dejavlad as dv
from dejavlad.evaluation import Result
from dejavlad.extraction import DescriptorStore

Run = Callable[..., tuple[int, str, str]]
FAST = ("--device", "cpu", "--quiet")


@pytest.mark.slow
def test_results_and_pages_tell_what_lists_left_out(street: Path, run: Run) -> None:
    (street / "queries" / "raw.cr2").write_bytes(b"not read")
    lines = [f"{i:02d}.png,{48 + i / 1000},11" for i in range(12)]
    lines[3] = "03.png,0,0"
    (street / "database" / "positions.csv").write_text("\n".join(["name,lat,lon", *lines]))
    lists = ("--database", street / "database", "--queries", street / "queries", "--truth", "same-name")
    words = ("evaluate", "rootsift-vlad", *lists, "-k", "10", "--out", "r", *FAST)
    assert run(*words)[0] == 0
    notes = json.loads(Path("r/result.json").read_text(encoding="utf-8"))["notes"]
    assert any("1 positions are 0,0" in line and "03.png" in line for line in notes["database"])
    assert any(".cr2" in line for line in notes["queries"])
    assert Result.load("r").notes == notes
    page = Path("r/index.html").read_text(encoding="utf-8")
    assert "Notes on the photos" in page and "1 positions are 0,0" in page
    (street / "queries" / "raw.cr2").unlink()
    (street / "database" / "positions.csv").unlink()
    assert run(*words)[0] == 0
    assert "notes" not in json.loads(Path("r/result.json").read_text(encoding="utf-8"))
    assert "Notes on the photos" not in Path("r/index.html").read_text(encoding="utf-8")


GPX = (
    '<gpx version="1.1"><trk><trkseg><trkpt lat="48" lon="11"><time>2024-05-01T12:00:00Z</time></trkpt>'
    '<trkpt lat="48.01" lon="11"><time>2024-05-01T12:00:40Z</time></trkpt></trkseg></trk></gpx>'
)


def test_dataset_check_and_info_take_positions_and_a_time_offset(
    tmp_path: Path, run: Run, make_view: Callable[..., NDArray[np.uint8]]
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(3):
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9003] = f"2024:05:01 14:00:{10 * i:02d}"  # a clock two hours ahead
        Image.fromarray(make_view(i)).save(folder / f"{i}.jpg", exif=exif)
    (tmp_path / "track.gpx").write_text(GPX)
    status, out, err = run("dataset", "check", folder, "--positions", "track.gpx", "--time-offset=-7200")
    assert status == 0, err
    assert "3 with a position" in out or "3 of 3" in out, out
    assert run("dataset", "check", folder, "--positions", "nowhere.gpx")[0] == 1
    info = json.loads(
        run("dataset", "info", folder, "--positions", "track.gpx", "--time-offset=-7200", "--json")[1]
    )
    assert info["with_position"] == 3
    assert run("dataset", "info", folder, "--positions", "track.gpx")[0] == 1  # two hours off: not assumed


def panorama(views: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Twice as wide as high, with these side by side around the horizon."""
    around = np.concatenate(views, axis=1)
    height, width = around.shape[:2]
    whole = np.full((width // 2, width, 3), 90, np.uint8)
    top = (width // 2 - height) // 2
    whole[top : top + height] = around
    return whole


@pytest.mark.slow
def test_a_panorama_is_located_by_its_surest_view(
    tmp_path: Path, run: Run, make_view: Callable[..., NDArray[np.uint8]], make_photo: Callable[..., Path]
) -> None:
    whole = panorama([make_view(place, 0, 160, 160) for place in (30, 31, 32, 33)])
    make_photo(tmp_path / "pano.png", whole)
    make_photo(tmp_path / "plain.png", make_view(3, 0, 96, 128))
    cut = ("--panorama", "4:90")
    built = ("map", "build", "rootsift-vlad", "pano.png", "--out", "town.map", "--resize", "none", *cut)
    for place in range(12):
        make_photo(tmp_path / "map" / f"{place}.png", make_view(place, 0, 96, 128))
    assert run(*built[:3], "map", *built[4:8], *FAST)[0] == 0
    assert run("map", "add", "town.map", "pano.png", "--panorama", "4:90", *FAST)[0] == 0
    words = ("locate", "town.map", "pano.png", "plain.png", "--verify", "none", "-k", "1", "--json", *FAST)
    answers = json.loads(run(*words, *cut)[1])
    assert len(answers) == 2
    assert answers[0]["name"].startswith("pano.png") and answers[0]["name"] != "pano.png"
    assert answers[0]["matches"][0]["name"] == answers[0]["name"]
    assert answers[0]["matches"][0]["distance"] < 1e-3
    assert answers[1]["name"] == "plain.png" and answers[1]["matches"][0]["name"] == "3.png"
    assert len(json.loads(run(*words)[1])) == 2  # whole, as before
    status, _, err = run("locate", "town.map", "plain.png", *cut, *FAST)
    assert status == 1 and "--panorama 4:90" in err
    assert run(*words, *cut, "--out", "page")[0] == 0 and Path("page/index.html").exists()


@pytest.mark.slow
def test_large_photos_are_decoded_smaller_where_that_is_asked_for(
    tmp_path: Path, run: Run, make_view: Callable[..., NDArray[np.uint8]]
) -> None:
    (tmp_path / "photos").mkdir()
    for place in range(2):
        Image.fromarray(make_view(place, 0, 800, 800)).save(tmp_path / "photos" / f"{place}.jpg", quality=95)
    words = (
        "extract",
        "mobilenet_v2-gem",
        "photos",
        "--weights",
        "random:0",
        "--resize",
        "longest:64",
        *FAST,
    )
    for name, more in (("whole", ("--no-reduce",)), ("small", ("--reduce",)), ("plain", ())):
        status, _, err = run(*words, "--out", name, *more)
        assert status == 0, err
    stores = {name: DescriptorStore.open(tmp_path / name) for name in ("whole", "small", "plain")}
    assert [stores[name].manifest.setting.preprocess.get("reduce") for name in ("whole", "small")] == [
        None,
        True,
    ]
    far = np.linalg.norm(stores["whole"].rows - stores["small"].rows, axis=1)
    assert (far > 0).all() and (far < 0.3).all()  # not quite the same pixels
    default = dv.load_model("mobilenet_v2-gem", weights="random:0", resize="longest:64", device="cpu")
    same = "small" if default.preprocess.reduce else "whole"
    np.testing.assert_array_equal(stores["plain"].rows, stores[same].rows)
    status, _, err = run(*words, "--out", "whole", "--reduce")
    assert status == 1 and "reduce" in err
