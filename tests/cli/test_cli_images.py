"""Photos of every kind through the command: deep ones, panoramas, and those over the limit of pixels."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dejavlad.cli import main
from dejavlad.places import PlaceMap

Pixels = NDArray[np.uint8]
MODEL = ("squeezenet1_0-max", "--weights", "random:0", "--resize", "96x128")
"""Quick, and sure of what differs by no more than a shift."""


def scene(seed: int, height: int = 96, width: int = 128) -> Pixels:
    """Rectangles, unlike those of another seed."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width), 128, np.uint8)
    for _ in range(30):
        x, y, w, h = rng.integers(0, width), rng.integers(0, height), rng.integers(5, 40), rng.integers(5, 40)
        cv2.rectangle(image, (int(x), int(y)), (int(x + w), int(y + h)), int(rng.integers(0, 256)), -1)
    return cv2.GaussianBlur(image, (0, 0), 1.2)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any, str]:
    status = main([*words, "--json"])
    captured = capsys.readouterr()
    return status, json.loads(captured.out) if captured.out else None, captured.err


def folder(path: Path, photos: dict[str, NDArray[Any]]) -> Path:
    path.mkdir()
    for name, pixels in photos.items():
        assert cv2.imwrite(str(path / name), pixels)
    return path


@pytest.mark.slow
def test_thermal_photos_are_recognised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """14-bit numbers as 7000 + 4 x grey, and queries of another day, when the camera was warmer."""
    grey = [scene(i).astype(np.uint16) for i in range(8)]
    database = folder(tmp_path / "map", {f"{i:02}.png": 7000 + 4 * pixels for i, pixels in enumerate(grey)})
    shaken = [np.roll(pixels, 2, axis=1) for pixels in grey]
    queries = folder(
        tmp_path / "queries", {f"{i:02}.tif": 7900 + 3 * pixels for i, pixels in enumerate(shaken)}
    )
    words = ("--database", str(database), "--queries", str(queries), "--truth", "same-name")
    status, output, _ = run(capsys, "evaluate", *MODEL, *words, "--out", str(tmp_path / "out"))
    assert status == 0 and output["recall"]["1"] == 1.0
    status, output, _ = run(
        capsys, "evaluate", *MODEL, *words, "--out", str(tmp_path / "upper"), "--levels", "upper"
    )
    assert output["recall"]["1"] < 0.9  # as it was: five levels left
    status, output, _ = run(capsys, "dataset", "check", str(database))
    (finding,) = [row for row in output["findings"] if row["what"] == "levels"]
    assert status == 0 and finding["text"].startswith("8 of 8 photos of map have more than 8 bits")
    assert "--levels" in finding["do"]


@pytest.mark.slow
def test_levels_of_a_map_hold_for_its_queries(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grey = {f"{i}.png": 7000 + 4 * scene(i).astype(np.uint16) for i in range(4)}
    photos, town = folder(tmp_path / "photos", grey), tmp_path / "t.map"
    words = ("map", "build", *MODEL, str(photos), "--out", str(town), "--levels", "7000,8020")
    assert run(capsys, *words)[0] == 0
    spec = json.loads((town / "model" / "spec.json").read_text(encoding="utf-8"))
    assert spec["preprocess"]["levels"] == [7000.0, 8020.0]
    status, output, _ = run(capsys, "locate", str(town), str(photos / "2.png"))
    assert status == 0 and json.dumps(output).count('"2.png"')
    status, _, error = run(capsys, *words[:-1], "lower")
    assert status == 1 and "LOW,HIGH" in error


def panorama(seed: int) -> Pixels:
    return np.concatenate([scene(10 * seed + i, 256, 128) for i in range(4)], axis=1)


@pytest.mark.slow
def test_panoramas_become_views(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = folder(tmp_path / "photos", {f"{i}.png": panorama(i) for i in range(2)} | {"n.png": scene(99)})
    (photos / "positions.csv").write_text(
        "name,lat,lon,heading\n0.png,48,11,30\n1.png,48.01,11,350\nn.png,48.02,11,0\n", encoding="utf-8"
    )
    town = tmp_path / "t.map"
    words = (*MODEL, str(photos), "--panorama", "6:70")
    status, _, error = run(capsys, "map", "build", *words, "--out", str(town))
    assert status == 0
    assert "2 panoramas cut into 6 views of 70 degrees; 1 photos are none and stay whole" in error
    status, output, _ = run(capsys, "map", "info", str(town))
    assert output["names"] == [f"{i}.png#view={60 * v},70" for i in range(2) for v in range(6)] + ["n.png"]
    headings = [photo.heading for photo in PlaceMap.open(town).photos]
    assert headings == [30, 90, 150, 210, 270, 330, 350, 50, 110, 170, 230, 290, 0]
    more = folder(tmp_path / "more", {"5.png": panorama(5)})
    status, output, _ = run(capsys, "map", "add", str(town), str(more))
    assert status == 0 and output["added"] == 6  # as the map's own
    status, output, _ = run(capsys, "extract", *words, "--out", str(tmp_path / "store"))
    assert status == 0 and output["photos"] == output["described"] == 13


@pytest.mark.slow
def test_panoramas_in_an_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes = {f"{i}.png": panorama(i) for i in range(4)}
    database = folder(tmp_path / "map", scenes)
    queries = folder(tmp_path / "queries", {name: pixels[64:192, 300:460] for name, pixels in scenes.items()})
    words = ("evaluate", *MODEL, "--database", str(database), "--queries", str(queries))
    how = ("--panorama", "8", "--out", str(tmp_path / "out"))
    status, output, _ = run(capsys, *words, *how, "--truth", "same-name")
    assert status == 0 and output["recall"]["1"] == 1.0
    status, _, error = run(capsys, *words, *how, "--truth", "frames:1")
    assert status == 1 and "compares rows" in error
    status, _, error = run(capsys, "evaluate", *MODEL, *how, "--dataset", str(tmp_path))
    assert status == 1 and "--panorama" in error
    status, _, error = run(capsys, "map", "build", *MODEL, str(queries), "--panorama", "8", "--out", "x")
    assert status == 1 and "twice as wide as high" in error


def test_panoramas_are_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos").mkdir()
    xmp = (
        b'<x xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" GPano:ProjectionType="equirectangular"/>'
    )
    for i in range(2):
        Image.fromarray(panorama(i)).save(tmp_path / "photos" / f"{i}.jpg", xmp=xmp)
    words = ("map", "build", *MODEL, str(tmp_path / "photos"), "--out", str(tmp_path / "t.map"))
    status, _, error = run(capsys, *words)
    assert status == 0 and "--panorama 12 cuts each into 12 views" in error
    _, output, _ = run(capsys, "dataset", "check", str(tmp_path / "photos"))
    assert "panoramas" in [row["what"] for row in output["findings"]]


def test_the_limit_of_pixels_is_an_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEJAVLAD_MAX_PIXELS", "12000")
    photos = folder(tmp_path / "photos", {f"{i}.png": scene(i) for i in range(3)})
    words = ("extract", *MODEL, str(photos), "--out", str(tmp_path / "store"))
    status, _, error = run(capsys, *words)
    assert status == 1 and "--max-pixels 12288" in error and "DEJAVLAD_MAX_PIXELS" in error
    status, output, _ = run(capsys, *words, "--max-pixels", "12288")
    assert status == 0 and output["described"] == 3
    assert os.environ["DEJAVLAD_MAX_PIXELS"] == "12000"
    assert run(capsys, *words, "--max-pixels", "0")[0] == 1
