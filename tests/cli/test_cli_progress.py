"""Progress for logs: lines now and then, none of short work, none under --quiet."""

from __future__ import annotations

import io
import itertools
import sys

import pytest

from dejavlad.cli import terminal
from dejavlad.cli.progress_lines import SILENCE, ProgressLines
from dejavlad.cli.terminal import Output
from dejavlad.progress import Progress, silent


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def lines_of(seconds_each: float, total: int, resumed: int = 0) -> list[tuple[float, str]]:
    clock, written = Clock(), []
    lines = ProgressLines(lambda line: written.append((clock.now, line)), clock)
    for done in range(resumed, total + 1):
        lines(Progress("describing photos", done, total, resumed))
        clock.now += seconds_each
    return written


def test_each_tenth_is_a_line_with_the_time_left() -> None:
    written = lines_of(0.5, 100)
    assert [line.partition(",")[0] for _, line in written] == [
        f"describing photos: {n}/100 ({n} %)" for n in range(10, 101, 10)
    ]
    assert "about 45 s left" in written[0][1]
    assert written[-1][1].endswith("took 50 s")


def test_slow_work_is_heard_of_every_half_minute() -> None:
    written = lines_of(7.0, 1000)
    gaps = [later - earlier for (earlier, _), (later, _) in itertools.pairwise(written)]
    assert max(gaps) <= SILENCE + 7
    assert "about 116 min left" in next(line for at, line in written if at > 60)


def test_short_work_writes_nothing() -> None:
    assert lines_of(0.02, 100) == []


def test_fast_work_is_not_heard_of_too_often() -> None:
    written = lines_of(0.05, 100)  # five seconds in all: a tenth takes half a second
    assert len(written) == 2


def test_time_left_counts_only_what_this_run_did() -> None:
    written = lines_of(0.5, 100, resumed=50)
    assert written[0][1] == "describing photos: 60/100 (60 %), 50 done before, about 20 s left"


def test_a_task_done_again_begins_anew() -> None:
    clock, written = Clock(), []
    lines = ProgressLines(written.append, clock)
    for _ in range(2):
        for done in range(11):
            lines(Progress("looking", done, 10))
            clock.now += 4
    assert sum("(50 %)" in line for line in written) == 2


def test_without_a_total_there_is_no_share() -> None:
    clock, written = Clock(), []
    lines = ProgressLines(written.append, clock)
    clock.now = 100
    lines(Progress("downloading", 5, 0))
    assert written == ["downloading: 5"]


@pytest.mark.parametrize("terminal_there", [False, True])
def test_output_draws_a_bar_on_a_terminal_only(terminal_there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: terminal_there, raising=False)
    monkeypatch.setattr(sys, "stderr", stream)
    with Output().progress() as on_progress:
        assert isinstance(on_progress, ProgressLines) is not terminal_there
    with Output(quiet=True).progress() as on_progress:
        assert on_progress is silent


@pytest.mark.slow
def test_map_build_writes_lines_into_a_log(run, street, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    """Every report is late on a clock that leaps, so even a small map has its lines; --quiet has none."""
    ticks = iter(range(0, 10**9, 40))
    monkeypatch.setattr(
        terminal, "ProgressLines", lambda write: ProgressLines(write, lambda: float(next(ticks)))
    )
    status, _, err = run("map", "build", "rootsift-vlad", street / "database", "--out", "a.map")
    assert status == 0, err
    assert "describing photos: " in err
    status, _, err = run("map", "build", "rootsift-vlad", street / "database", "--out", "b.map", "--quiet")
    assert (status, err) == (0, "")
