"""The command as a user types it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dejavlad.cli import main, terminal
from dejavlad.cli.progress_lines import ProgressLines


@pytest.fixture(autouse=True)
def no_progress_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """What commands say does not depend on how busy the machine is."""
    monkeypatch.setattr(terminal, "ProgressLines", lambda write: ProgressLines(write, lambda: 0.0))


@pytest.fixture
def run(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Runs words of the command in `tmp_path`: its exit status, what it printed, and its messages."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str | Path) -> tuple[int, str, str]:
        capfd.readouterr()
        status = main([str(word) for word in words])
        out, err = capfd.readouterr()
        return status, out, err

    return call
