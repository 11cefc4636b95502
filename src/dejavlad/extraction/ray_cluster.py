"""Planned batches described by the machines of a Ray cluster; what is written does not depend on them.

This process plans, hands out batches and writes what comes back in the order of the plan, so that the store
is in every byte that of one process. Workers are actors: each holds the model and describes whole batches. A
batch whose worker is lost (a machine that dies, a process that is killed) is described by another one.
Workers read photos by their paths, which must lead to the same files on each machine: one that sees another
file, or none, ends the run rather than to leave photos out.

Workers compute with as many threads as this process (a sum's rounding may depend on that), or on one GPU
each, where the model is on one.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import heapq
import io
import os
import platform
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TextIO

import numpy as np
import torch
from numpy.typing import NDArray

from dejavlad.errors import DejavladError, MissingExtraError, StoreError
from dejavlad.extraction.describing import Described, Describer, describe_batch, evaluating, prepared_sizes
from dejavlad.extraction.manifest import PhotoTable, Rows
from dejavlad.extraction.patches.codec import Codec
from dejavlad.extraction.patches.making import PatchExtractor, patches_of
from dejavlad.extraction.patches.store import Entry, Identity
from dejavlad.extraction.patches.writer import encoded
from dejavlad.extraction.seconds import Seconds
from dejavlad.files import size_and_time
from dejavlad.images import load_batches
from dejavlad.model import PatchSetting
from dejavlad.photo import Photo

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


@dataclass(frozen=True, slots=True)
class Setup:
    """All that a worker is made of."""

    model: Any
    """A `Describer`, on the processor."""
    gpu: bool
    """Whether to move it to a GPU."""
    threads: int
    """That it computes with."""
    workers: int
    """Threads that decode photos."""
    fingerprint: str
    """Of the model, as this process sees it."""
    patches: PatchSetting | None
    """Which patches to make."""
    codec: Codec | None
    """How they are written."""


@dataclass(frozen=True, slots=True)
class Task:
    """One planned batch."""

    photos: list[Photo]
    identities: list[Identity]
    """Of each, as this process saw it."""
    size: tuple[int, int] | None
    """Prepared (height, width)."""
    wanted: NDArray[np.bool_]
    """[n] whose patches are not there yet."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker makes of a task; rows count from 0."""

    rows: Rows
    values: NDArray[np.float32]
    failed: dict[int, str]
    patches: list[tuple[int, Entry, bytes]]
    """Row, line and bytes of each photo's patches."""
    unlike: tuple[str, list[int]]
    """The machine's name, and rows of photos whose files are not those that this process saw."""


class Worker:
    """What an actor runs: the model, and one batch after the other.

    Args:
        setup: see `Setup`.

    Raises:
        StoreError: its dejavlad makes another model of it.
    """

    def __init__(self, setup: Setup) -> None:
        torch.set_num_threads(setup.threads)
        self.setup, self._computing = setup, threading.Lock()
        self.model = setup.model.to("cuda") if setup.gpu else setup.model
        if self.model.fingerprint != setup.fingerprint:
            raise StoreError(
                f"dejavlad on {_machine()} makes another model of this one; install the same "
                "version on all machines"
            )
        self.layer = None if setup.patches is None else self.model.patch_layer(setup.patches)

    def ready(self) -> None:
        """Returns once the model is there."""

    def describe(self, task: Task) -> Answer | DejavladError:
        """Describe one batch; an error of ours is returned rather than raised."""
        try:
            return self._describe(task)
        except DejavladError as error:
            return error

    def _describe(self, task: Task) -> Answer:
        setup, made = self.setup, list[tuple[int, Entry, bytes]]()
        rows = np.arange(len(task.photos))
        unlike = [
            row
            for row, (photo, known) in enumerate(zip(task.photos, task.identities, strict=True))
            if _identity(photo, known) != known[:2]
        ]
        loaded = load_batches(
            task.photos, [rows], self.model.preprocess, workers=setup.workers, sizes=[task.size] * len(rows)
        )
        with contextlib.closing(loaded) as stream:
            (batch,) = stream

        def describe(images: torch.Tensor, good: NDArray[np.bool_]) -> torch.Tensor:
            if self.layer is None or setup.patches is None or setup.codec is None:
                return torch.as_tensor(self.model.describe(images))
            rows_nD, patches = patches_of(self.model, setup.patches, self.layer, images, good & task.wanted)
            for row, patch_sets, why in patches:
                key, identity = task.photos[row].key, task.identities[row]
                made.append((row, *encoded(setup.codec, key, identity, patch_sets, why)))
            return rows_nD

        with self._computing, evaluating(self.model):
            done, values, failed = describe_batch(self.model, batch, task.photos, describe)
        return Answer(done, values, failed, made, (_machine(), unlike))


class RayCluster:
    """The machines of a Ray cluster.

    Args:
        address: ``"auto"`` for the cluster that this machine belongs to, ``HOST:PORT``, or ``ray://HOST:PORT``.

    Raises:
        MissingExtraError: Ray is not installed.
    """

    def __init__(self, address: str) -> None:
        self.address, self.ray = address, _import_ray()

    def described(
        self,
        model: Describer,
        table: PhotoTable,
        batches: list[Rows],
        workers: int,
        patching: PatchExtractor | None = None,
        seconds: Seconds | None = None,
        /,
    ) -> Iterator[Described]:
        """As `dejavlad.extraction.describing.described`, in the same order.

        Of `seconds` only `wait` is counted.

        Raises:
            StoreError: there is no such cluster, no worker can be started, or one sees other photos.
            DejavladError: what describing raised.
        """
        if not batches:
            return
        with self._connected():
            gpu = _on_gpu(model)
            setup = Setup(
                model=copy.deepcopy(model).to("cpu") if gpu else model,  # type: ignore[attr-defined]
                gpu=gpu,
                threads=torch.get_num_threads(),
                workers=workers,
                fingerprint=model.fingerprint,
                patches=None if patching is None else patching.setting,
                codec=None if patching is None else patching.writer.codec,
            )
            sizes = prepared_sizes(model.preprocess, table)
            with contextlib.closing(_Workers(self.ray, setup)) as cluster:

                def task(number: int) -> Task:
                    rows = batches[number]
                    photos = [table.photos[row] for row in rows.tolist()]
                    identities = [table.identity(row) for row in rows.tolist()]
                    wanted = np.zeros(len(rows), np.bool_)
                    if patching is not None:
                        wanted = patching.missing_of(rows, table)
                    return Task(photos, identities, sizes[int(rows[0])], wanted)

                answers = cluster.answers([functools.partial(task, number) for number in range(len(batches))])
                waited = answers if seconds is None else seconds.waited(answers)
                for rows, answer in zip(batches, waited, strict=True):
                    _refuse_other_photos(answer, rows, table)
                    if patching is not None:
                        for _, entry, data in answer.patches:
                            patching.writer.put_encoded(entry, data)
                        patching.writer.commit()
                    failed = {int(rows[row]): reason for row, reason in answer.failed.items()}
                    yield rows[answer.rows], answer.values, failed

    @contextlib.contextmanager
    def _connected(self) -> Iterator[None]:
        ray = self.ray
        if ray.is_initialized():  # the program that calls this has its own connection
            yield
            return
        try:
            ray.init(address=self.address, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, ValueError, OSError, RuntimeError, AssertionError) as error:
            reason = " ".join(str(error).split())[:200]
            hint = "start one (`ray start --head`)" if self.address == "auto" else "give --ray HOST:PORT"
            raise StoreError(f"no Ray cluster answers at --ray {self.address}: {reason}; {hint}") from None
        try:
            with contextlib.redirect_stdout(_WithoutThreads(sys.stdout)):
                yield
        finally:
            with contextlib.redirect_stdout(io.StringIO()):  # what Ray kept back is said now
                ray.shutdown()


class _Workers:
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
        todo, finished, losses, due = list(range(len(tasks))), dict[int, Answer](), Counter[int](), 0
        while due < len(tasks):
            self._start(len(tasks) - due - len(finished))
            for actor in self._ready:
                busy = sum(running is actor for running, _ in self._running.values())
                while busy < IN_FLIGHT and todo and todo[0] < due + AHEAD * max(1, len(self._ready)):
                    number = heapq.heappop(todo)
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
                heapq.heappush(todo, number)
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


class _WithoutThreads(io.TextIOBase):
    """Standard output without what Ray's own threads print there: pages about machines that died."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str, /) -> int:
        """Write, unless a thread of Ray's does."""
        if threading.current_thread().name.startswith("ray_"):
            return len(text)
        return self._stream.write(text)

    def flush(self) -> None:
        """Flush what is written."""
        self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _slots(node: dict[str, Any], needs: dict[str, int]) -> int:
    """Actors that a machine has room for."""
    ((name, count),) = needs.items()
    return int(node["Resources"].get(RESOURCES[name], 0) // count) if node["Alive"] else 0


def _refuse_other_photos(answer: Answer, rows: Rows, table: PhotoTable) -> None:
    """Refuse an answer of a machine that sees other files than this one does.

    Raises:
        StoreError: it does.
    """
    machine, unlike = answer.unlike
    for row in unlike:
        number = int(rows[row])
        photo = table.photos[number]
        known = table.identity(number)
        if _identity(photo, known) == known[:2]:  # else it has changed for all of them
            raise StoreError(
                f"{machine} sees another file than this machine at {str(photo.path)!r}, or none: photos must "
                "lie at the same paths on all machines of the cluster (a shared folder)"
            )


def _identity(photo: Photo, known: Identity) -> tuple[int, int]:
    """Size and time of a photo's file as they are now; of an array as they were."""
    if photo.pixels is not None:
        return known[:2]
    try:
        stat = photo.path.stat()
    except (OSError, ValueError):
        return -1, 0
    return size_and_time(stat)


def _on_gpu(model: Describer) -> bool:
    return getattr(getattr(model, "device", None), "type", "cpu") == "cuda"


def _machine() -> str:
    return platform.node() or "a machine of the cluster"


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__


def _import_ray() -> ModuleType:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise MissingExtraError("--ray", "ray") from None
    module: ModuleType = ray
    return module
