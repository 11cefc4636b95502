"""`dejavlad demo`: from a made town to a page, a training among it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import dejavlad.pipelines.demo
from dejavlad.cli import main
from dejavlad.errors import InputError


@pytest.fixture(autouse=True)
def town(demo_town: Path, tmp_path: Path) -> None:
    """What the demo would make first (`tests/town` makes towns); it goes on with it."""
    shutil.copytree(demo_town, tmp_path / "town")


@pytest.mark.slow
def test_the_demo_trains_where_the_town_is_large_enough(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = dejavlad.pipelines.demo.load_recipe
    monkeypatch.setattr(dejavlad.pipelines.demo, "load_recipe", lambda name: replace(recipe(name), epochs=2))
    words = ["demo", "--out", str(tmp_path), "--full", "--photos", "60", "--device", "cpu", "--json"]
    assert main(words) == 0
    trained = json.loads(capsys.readouterr().out)["training"]
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert set(trained["before"]["recall"]) == set(trained["after"]["recall"]) == {"1", "5", "10"}
    assert page.index('id="training"') < page.index('id="recall"')
    assert "A NetVLAD layer over dense RootSIFT" in page
    assert (tmp_path / "training" / "index.html").is_file()

    def refused(*_: object, **__: object) -> None:
        raise InputError("there are no negatives")

    monkeypatch.setattr(dejavlad.pipelines.demo, "train", refused)
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["training"] is None
    assert "too small to learn from: there are no negatives" in err
    assert 'id="training"' not in (tmp_path / "index.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_short_story_trains_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--out", str(tmp_path), "--photos", "60", "--device", "cpu", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert document["training"] is None and len(document["answers"]) == 8
    assert set(document["result"]["recall"]) == {"1", "5", "10"}
    assert 'id="recall"' in page and 'id="training"' not in page
    assert not (tmp_path / "training").exists()
