"""Paired timing: two ways of doing one thing run by turns, so that a busy machine slows both alike."""

from __future__ import annotations

import gc
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Task = Callable[[], object]


@dataclass(frozen=True)
class Paired:
    """Times of a reference and of ours, in seconds, one pair a round."""

    reference: tuple[float, ...]
    ours: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """How many times faster ours is: the median of the rounds' ratios."""
        return statistics.median(r / o for r, o in zip(self.reference, self.ours, strict=True))

    def __str__(self) -> str:
        rounds = sorted(r / o for r, o in zip(self.reference, self.ours, strict=True))
        return (
            f"{statistics.median(self.reference):.4g} s and {statistics.median(self.ours):.4g} s: "
            f"{self.ratio:.2f} times faster (rounds {rounds[0]:.2f} to {rounds[-1]:.2f}, n={len(rounds)})"
        )


def paired(
    reference: Task,
    ours: Task,
    *,
    rounds: int = 7,
    warm: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> Paired:
    """Run both by turns, the order swapped each round, after `warm` untimed rounds.

    ``clock=time.process_time`` counts processor seconds of all threads, which others at work blur less.
    """
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(-warm, rounds):
        for which in (0, 1) if turn % 2 else (1, 0):
            gc.collect()
            started = clock()
            (reference, ours)[which]()
            if turn >= 0:
                times[which].append(clock() - started)
    return Paired(tuple(times[0]), tuple(times[1]))


def peak_bytes(task: Task) -> int:
    """The most memory that PyTorch held for `task` at one moment, beyond what it held before.

    Summed from the allocator's own record (every allocation and release on the processor, scratch space of
    operators included), so that neither the interpreter nor earlier tensors blur it.
    """
    from torch.profiler import ProfilerActivity, profile

    task()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        task()
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    in_use = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        in_use += event.nbytes()
        most = max(most, in_use)
    return most


def processor() -> str:
    """The processor's name as the operating system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
