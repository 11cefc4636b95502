"""The command as a user types it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dejavlad.cli import main, terminal
from dejavlad.cli.progress_lines import ProgressLines


@pytest.fixture
def run(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Runs words of the command in `tmp_path`: its exit status, what it printed, and its messages.

    Without the lines of progress that a busy machine would write.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(terminal, "ProgressLines", lambda write: ProgressLines(write, lambda: 0.0))

    def call(*words: str | Path) -> tuple[int, str, str]:
        capfd.readouterr()
        status = main([str(word) for word in words])
        out, err = capfd.readouterr()
        return status, out, err

    return call
