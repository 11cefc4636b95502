"""The wheel, built and installed in an empty environment elsewhere, works."""

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_wheel_works_elsewhere(tmp_path: Path) -> None:
    def run(*words: str | Path) -> str:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=clean)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", ROOT)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    templates = (ROOT / "src" / "dejavlad" / "report" / "templates").iterdir()
    assert {f"dejavlad/report/templates/{path.name}" for path in templates} <= packed
    venv.create(tmp_path / "env", with_pip=True)
    bin_folder = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin")
    run(bin_folder / "python", "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel)

    photos = tmp_path / "photos"
    photos.mkdir()
    random = np.random.default_rng(0)
    for i in range(4):
        blocks = random.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        picture = cv2.resize(blocks, (160, 120), interpolation=cv2.INTER_NEAREST)
        assert cv2.imwrite(str(photos / f"{i}.png"), picture)
    run(bin_folder / "dejavlad", "map", "build", "rootsift-vlad", photos, "--out", "town.map", "--quiet")
    locate = (bin_folder / "dejavlad", "locate", "town.map", photos / "2.png", "--json", "--out", "located")
    (answer,) = json.loads(run(*locate))
    assert answer["matches"][0]["name"] == "2.png"
    page = (tmp_path / "located" / "index.html").read_text(encoding="utf-8")
    assert "Where was it taken?" in page and ":root {" in page and "querySelectorAll" in page
