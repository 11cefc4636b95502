"""The wheel, built and installed in an environment of nothing but what it asks for, works."""

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterable
from email.parser import Parser
from importlib.metadata import distribution
from pathlib import Path

import cv2
import numpy as np
import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
BUILD_AND_LOCATE = """
import sys
from importlib.metadata import entry_points
(command,) = entry_points(group="console_scripts", name="dejavlad")
main = command.load()
assert main(["map", "build", "rootsift-vlad", sys.argv[1], "--out", "town.map", "--quiet"]) == 0
sys.exit(main(["locate", "town.map", sys.argv[2], "--json", "--out", "located"]))
"""
"""Both by one process: PyTorch is loaded once."""


def link_requirements(requirements: Iterable[str], packages: Path) -> None:
    """Put the installed packages that are required, and those that these require, into `packages`, by links.

    What pip would do, without unpacking gigabytes anew; a package that no requirement names is not there.
    """
    waiting, seen = list(requirements), set()
    while waiting:
        requirement = Requirement(waiting.pop())
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        package = distribution(requirement.name)
        assert requirement.specifier.contains(package.version, prereleases=True), requirement
        if package.name in seen:
            continue
        seen.add(package.name)
        waiting += package.requires or []
        for name in {path.parts[0] for path in package.files or [] if path.parts[0] != ".."}:
            source, link = Path(str(package.locate_file(name))), packages / name
            if link.exists() or name == "__pycache__":
                continue
            try:
                link.symlink_to(source)
            except OSError:  # Windows, for users who may not
                (shutil.copytree if source.is_dir() else shutil.copy)(source, link)


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
        (metadata,) = (name for name in packed if name.endswith(".dist-info/METADATA"))
        required = Parser().parsestr(archive.read(metadata).decode()).get_all("Requires-Dist")
    assert required
    templates = (ROOT / "src" / "dejavlad" / "report" / "templates").iterdir()
    assert {f"dejavlad/report/templates/{path.name}" for path in templates} <= packed
    venv.create(tmp_path / "env")
    bin_folder = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin")
    folder = run(bin_folder / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
    packages = Path(folder.strip())
    link_requirements(required, packages)
    assert (packages / "torch").exists() and not (packages / "pytest").exists()
    pip = (sys.executable, "-m", "pip", "--python", bin_folder / "python", "install", "--quiet")
    run(*pip, "--disable-pip-version-check", "--no-index", "--no-deps", "--no-compile", wheel)

    photos = tmp_path / "photos"
    photos.mkdir()
    random = np.random.default_rng(0)
    for i in range(4):
        blocks = random.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        picture = cv2.resize(blocks, (160, 120), interpolation=cv2.INTER_NEAREST)
        assert cv2.imwrite(str(photos / f"{i}.png"), picture)
    assert run(bin_folder / "dejavlad", "--version").strip() == wheel.name.split("-")[1]
    (answer,) = json.loads(run(bin_folder / "python", "-c", BUILD_AND_LOCATE, photos, photos / "2.png"))
    assert answer["matches"][0]["name"] == "2.png"
    page = (tmp_path / "located" / "index.html").read_text(encoding="utf-8")
    assert "Where was it taken?" in page and ":root {" in page and "querySelectorAll" in page
