"""How long work reports itself: a callback, so that library code never prints."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """One report of a long piece of work."""

    what: str
    """The task in a word or two, the same text throughout one task: ``"describing photos"``."""
    done: int
    """Units finished so far, those found finished at the start included."""
    total: int
    """Units in all."""
    resumed: int = 0
    """Units that had been finished by an earlier run (so that the time left is told rightly)."""
    note: str = ""
    """How it goes, in a few words."""


OnProgress = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """The default callback: says nothing."""


@contextlib.contextmanager
def timed(seconds: dict[str, float], what: str) -> Iterator[None]:
    """Note how long something took, in seconds to a hundredth."""
    started = time.perf_counter()
    yield
    seconds[what] = round(time.perf_counter() - started, 2)
