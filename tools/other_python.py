"""Tests the rooms that need no PyTorch under another Python: ``python3.13 tools/other_python.py``.

PyTorch's packages for Pythons other than CI's are gigabytes; the rest installs in a minute. The whole of the
tests runs under another Python by ``make test PYTHON=python3.13 VENV=.venv-3.13``.
"""

import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / f".venv-{sys.version_info[0]}.{sys.version_info[1]}-without-torch"
ROOMS = ("photo", "positions", "ground_truth", "datasets", "town", "evaluation", "storage")
"""Of the tests. What needs PyTorch in them is skipped, and says so."""
NEEDED = ("h5py", "hypothesis", "pytest", "pytest-xdist")


def main() -> int:
    """Install what is needed, unless it is here, and test."""
    python = FOLDER / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    packages = [package for package in project["dependencies"] if not package.startswith("torch")]
    if not python.exists():
        venv.create(FOLDER, with_pip=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pip += ["--constraint", "constraints.txt"]
    subprocess.run([*pip, *packages, *NEEDED], cwd=ROOT, check=True)
    subprocess.run([*pip, "--no-deps", "--editable", "."], cwd=ROOT, check=True, stderr=subprocess.DEVNULL)
    print(f"Python {sys.version.split()[0]}:", flush=True)
    words = ["-p", "without_torch", "-m", "not slow", "--numprocesses", "2", "--dist", "worksteal", "--quiet"]
    words += ["--ignore", "tests/datasets/test_datasets_retrieval.py"]
    words += [f"tests/{room}" for room in ROOMS]
    tests = [python, "-m", "pytest", *words]
    return subprocess.run(tests, cwd=ROOT, env={**os.environ, "PYTHONPATH": "tests"}).returncode


if __name__ == "__main__":
    sys.exit(main())
