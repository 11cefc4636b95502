import importlib.util

import pytest

from dejavlad.cli import main


def test_without_the_extra_it_says_what_to_type(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "uvicorn" else before(name, *rest)
    )
    assert main(["serve", "town.map"]) == 1
    assert "pip install 'dejavlad[serve]'" in capsys.readouterr().err


def test_wrong_options_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("starlette")
    for words, reason in (
        (["serve", "no.map"], "nothing at 'no.map'"),
        (["serve", "no.map", "--port", "70000"], "--port 70000"),
        (["serve", "no.map", "--host", "0.0.0.0"], "--token FILE"),
        (["serve", "no.map", "--batch-size", "0"], "--batch-size 0"),
        (["serve", "no.map", "--tiles", "https://x"], "--tiles"),
    ):
        assert main(words) == 1
        error = capsys.readouterr().err
        assert reason in error and len(error.splitlines()) == 1
