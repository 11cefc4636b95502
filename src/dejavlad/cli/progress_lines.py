"""Progress of long work as lines for a log, where standard error is no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable

from dejavlad.progress import Progress

SILENCE = 30.0
"""Seconds after which the next report is a line in any case."""
PAUSE = 3.0
"""Seconds between lines at least: what is done sooner needs none."""
PARTS = 10
"""A line at every tenth of a task, where `PAUSE` has passed."""


class ProgressLines:
    """A callback that writes a line now and then: the task, units done and in all, the time left.

    A line is due at a task's first report and at each tenth of it, but not within `PAUSE` of the line before
    (or of the start), so short work writes nothing; and at any report after `SILENCE`. A task that wrote a
    line also writes its last.

    Args:
        write: takes a line, without its end.
        clock: seconds, ascending.
    """

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write, self._clock = write, clock
        self._latest = clock()
        self._started: dict[str, float] = {}
        self._parts: dict[str, int] = {}
        self._spoken: set[str] = set()

    def __call__(self, report: Progress) -> None:
        """Write a line about a report, where one is due."""
        now, task = self._clock(), report.what
        finished = report.total > 0 and report.done >= report.total
        part = PARTS * report.done // report.total if report.total > 0 else 0
        if part < self._parts.get(task, 0):  # a task of the same name anew
            self._started.pop(task), self._parts.pop(task)
            self._spoken.discard(task)
        started = self._started.setdefault(task, now)
        further = part > self._parts.get(task, -1)
        since = now - self._latest
        last = finished and further and task in self._spoken
        self._parts[task] = part
        if not (last or since >= SILENCE or (further and since >= PAUSE)):
            return
        self._latest = now
        self._spoken.add(task)
        self._write(_line(report, now - started, finished))


def _line(report: Progress, seconds: float, finished: bool) -> str:
    parts = [f"{report.what}: {report.done}" + (f"/{report.total}" if report.total > 0 else "")]
    if report.total > 0:
        parts[0] += f" ({100 * report.done // report.total} %)"
    if report.resumed:
        parts.append(f"{report.resumed} done before")
    new = report.done - report.resumed
    if finished:
        parts.append(f"took {_duration(seconds)}")
    elif new > 0 and report.total > 0:
        parts.append(f"about {_duration(seconds / new * (report.total - report.done))} left")
    if report.note:
        parts.append(report.note)
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    """Seconds up to two minutes, then minutes, then hours and minutes."""
    if seconds < 120:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
