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
import io
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import Any, TextIO

import numpy as np
import torch

from dejavlad.errors import MissingExtraError, StoreError
from dejavlad.extraction.describing import Described, Describer, prepared_sizes
from dejavlad.extraction.patches.making import PatchExtractor
from dejavlad.extraction.photo_table import PhotoTable, Rows
from dejavlad.extraction.ray_actors import Actors
from dejavlad.extraction.ray_worker import Setup, Task, refuse_other_photos
from dejavlad.extraction.seconds import Seconds
from dejavlad.photo import Photo


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
            with contextlib.closing(Actors(self.ray, setup)) as cluster:

                def task(number: int) -> Task:
                    rows = batches[number]
                    photos = [_anywhere(table.photos[row]) for row in rows.tolist()]
                    identities = [table.identity(row) for row in rows.tolist()]
                    wanted = np.zeros(len(rows), np.bool_)
                    if patching is not None:
                        wanted = patching.missing_of(rows, table)
                    return Task(photos, identities, sizes[int(rows[0])], wanted)

                answers = cluster.answers([partial(task, number) for number in range(len(batches))])
                waited = answers if seconds is None else seconds.waited(answers)
                for rows, answer in zip(batches, waited, strict=True):
                    refuse_other_photos(answer, rows, table)
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


def _anywhere(photo: Photo) -> Photo:
    """A photo whose path does not depend on the folder that a process was started in."""
    return photo if photo.pixels is not None else replace(photo, path=photo.path.absolute())


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


def _on_gpu(model: Describer) -> bool:
    return getattr(getattr(model, "device", None), "type", "cpu") == "cuda"


def _import_ray() -> ModuleType:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise MissingExtraError("--ray", "ray") from None
    module: ModuleType = ray
    return module
