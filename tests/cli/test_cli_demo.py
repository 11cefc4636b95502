"""`dejavlad demo`: from a made town to a page, a training among it."""

import json
from pathlib import Path

import pytest

import dejavlad.pipelines.demo
from dejavlad.cli import main
from dejavlad.errors import InputError


@pytest.mark.slow
def test_the_demo_trains_where_the_town_is_large_enough(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
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
