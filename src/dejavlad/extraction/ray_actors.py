"""The workers of a Ray cluster: as many as it has room for, what each is doing, and those that are lost."""

from __future__ import annotations

import contextlib
import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

from dejavlad.errors import DejavladError, StoreError
from dejavlad.extraction.ray_worker import Answer, Setup, Task, Worker

RESOURCES = {"num_cpus": "CPU", "num_gpus": "GPU"}
"""What an actor asks for, and how Ray calls it on a machine."""
IN_FLIGHT = 2
"""Batches of a worker: one is decoded while the other is described."""
AHEAD = 16
"""Batches of each worker that may be finished before their turn to be written."""
LOOK_SECONDS = 2.0
"""So often the cluster is asked for machines that have come or gone."""
START_SECONDS = 600.0
"""So long this waits for a first worker, which loads the model."""
MOST_LOSSES = 3
"""A batch whose worker was lost so often is given up."""


class Actors:
    """The actors, as many as the cluster has room for, and what each is doing."""

    def __init__(self, ray: ModuleType, setup: Setup) -> None:
        self._ray, self._setup = ray, ray.put(setup)
        self._needs = {"num_gpus": 1} if setup.gpu else {"num_cpus": setup.threads}
        self._kind = ray.remote(Worker).options(
            max_restarts=0, max_task_retries=0, max_concurrency=IN_FLIGHT, **self._needs
        )
        self._starting: dict[Any, Any] = {}
        self._ready: list[Any] = []
        self._running: dict[Any, tuple[Any, int]] = {}
        self._looked, self._since = 0.0, time.monotonic()
        self._failures = 0

    def answers(self, tasks: Sequence[Callable[[], Task]]) -> Iterator[Answer]:
        """The answers to all tasks in their order; a task is made when it is handed out.

        Raises:
            StoreError: no worker can be started, or a batch cost too many.
        """
        pending, finished, losses, due = list(range(len(tasks))), dict[int, Answer](), Counter[int](), 0
        while due < len(tasks):
            self._start(len(tasks) - due - len(finished))
            for actor in self._ready:
                busy = sum(running is actor for running, _ in self._running.values())
                while busy < IN_FLIGHT and pending and pending[0] < due + AHEAD * max(1, len(self._ready)):
                    number = heapq.heappop(pending)
                    self._running[actor.describe.remote(tasks[number]())] = actor, number
                    busy += 1
            references = [*self._running, *self._starting]
            if not references:
                self._complain()
                time.sleep(LOOK_SECONDS)
                continue
            done, _ = self._ray.wait(references, num_returns=1, timeout=LOOK_SECONDS)
            for reference in done:
                if reference in self._starting:
                    self._started(reference)
                    continue
                actor, number = self._running.pop(reference)
                answer = self._answer(reference, actor)
                if answer is not None:
                    finished[number] = answer
                    continue
                heapq.heappush(pending, number)
                losses[number] += 1
                if losses[number] >= MOST_LOSSES:
                    photos = tasks[number]().photos
                    raise StoreError(
                        f"{MOST_LOSSES} workers were lost while they described {photos[0].key!r} and the "
                        f"{len(photos) - 1} photos beside it (out of memory?); give a smaller "
                        "--batch-size, or run without --ray to see why"
                    )
            if not self._ready:
                self._complain()
            while due in finished:
                yield finished.pop(due)
                due += 1

    def close(self) -> None:
        """End all actors."""
        for actor in (*self._ready, *self._starting.values()):
            with contextlib.suppress(Exception):
                self._ray.kill(actor)
        self._ready, self._starting, self._running = [], {}, {}

    def _start(self, left: int) -> None:
        """Start actors for machines that have come, or whose actor was lost; now and then."""
        if self._looked and time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        slots = sum(_slots(node, self._needs) for node in self._ray.nodes())
        if not slots and not self._ready:
            name, count = next(iter(self._needs.items()))
            raise StoreError(
                f"no machine of the Ray cluster has {count} {RESOURCES[name]}: this "
                "process computes with as many threads (OMP_NUM_THREADS sets them), and workers need the same"
            )
        for _ in range(min(slots, left) - len(self._ready) - len(self._starting)):
            actor = self._kind.remote(self._setup)
            self._starting[actor.ready.remote()] = actor

    def _started(self, reference: Any) -> None:
        actor = self._starting.pop(reference)
        try:
            self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            self._failures += 1
            cause = getattr(error, "cause", None)
            if isinstance(cause, DejavladError):
                raise cause from None
            if self._failures >= MOST_LOSSES and not self._ready:
                raise StoreError(
                    f"workers of the Ray cluster cannot be started: {_last_line(error)}"
                ) from None
            return
        self._ready.append(actor)

    def _answer(self, reference: Any, actor: Any) -> Answer | None:
        """What a worker answered; None where it is lost."""
        errors = self._ray.exceptions
        try:
            answer = self._ray.get(reference)
        except errors.RayTaskError as error:
            raise StoreError(f"a worker of the Ray cluster failed: {_last_line(error)}") from None
        except errors.RayError:
            if actor in self._ready:
                self._ready.remove(actor)
                self._since, self._looked = time.monotonic(), 0.0
            return None
        if isinstance(answer, DejavladError):
            raise answer
        assert isinstance(answer, Answer)
        return answer

    def _complain(self) -> None:
        if not self._ready and time.monotonic() - self._since > START_SECONDS:
            raise StoreError(
                f"no worker of the Ray cluster was free for {START_SECONDS:.0f} seconds; `ray status` "
                "tells what runs there"
            )


def _slots(node: dict[str, Any], needs: dict[str, int]) -> int:
    """Actors that a machine has room for."""
    ((name, count),) = needs.items()
    return int(node["Resources"].get(RESOURCES[name], 0) // count) if node["Alive"] else 0


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
