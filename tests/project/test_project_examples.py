"""The examples, and every command of the README, run."""

import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from dejavlad.cli import main

ROOT = Path(__file__).parents[2]
ELSEWHERE = {"ros2_node.py"}
"""Examples with a test of their own."""
EXAMPLES = sorted({path.name for path in (ROOT / "examples").glob("*.py")} - ELSEWHERE)


@pytest.fixture
def here(street: Path, demo_town: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the README speaks of: photos/, where_was_this.jpg, left/, right/, town/ (made)."""
    shutil.copytree(demo_town, tmp_path / "town")
    for name, part in (("photos", "database"), ("left", "database"), ("right", "queries")):
        shutil.copytree(street / part, tmp_path / name)
    shutil.copy(street / "queries" / "03.png", tmp_path / "where_was_this.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_example(
    name: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = {
        "evaluate_walks.py": ["left", "right", "out"],
        "locate_photos.py": ["photos", "town.map", "where_was_this.jpg"],
        "own_backbone.py": ["photos", "model"],
        "place_recognition.py": ["street", "gardens@2f", "out"],
        "rerank_walks.py": ["left", "right", "out"],
        "retrieval.py": ["holidays", "out"],
        "train_town.py": ["town", "run", "60"],
    }[name]
    monkeypatch.setattr(sys, "argv", [name, *words])
    runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
    output = capsys.readouterr().out
    assert {
        "evaluate_walks.py": "recall@1 1.0",
        "rerank_walks.py": "by patches: recall@1 1.0",
        "locate_photos.py": "like 03.png",
        "place_recognition.py": "gardens@2f, where right is within 2 frames",
        "retrieval.py": "16 dims  mAP ",
    }.get(name, "dims") in output


def readme_blocks(language: str) -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_commands_of_the_readme(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands = [
        line for block in readme_blocks("sh") for line in block.splitlines() if line.startswith("dejavlad")
    ]
    assert len(commands) >= 5
    for command in commands:
        if command.startswith("dejavlad serve"):  # goes on until it is stopped; see tests/serve
            continue
        if command.startswith("dejavlad compare"):
            shutil.copytree("results", "other-results")
        command = command.replace("--photos 120", "--photos 60")  # a smaller town shows the same
        assert main(shlex.split(command)[1:]) == 0, (command, capsys.readouterr().err)
    assert Path("answer/index.html").is_file()


@pytest.mark.slow
def test_python_of_the_readme(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for block in readme_blocks("python"):
        exec(compile(block, "README.md", "exec"), {})
    assert "03.png" in capsys.readouterr().out


def test_make_targets_of_the_readme() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for block in readme_blocks("sh"):
        for target in re.findall(r"^make (\w+)", block, re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE)
