"""What runs on a machine of a Ray cluster: the model, which describes one batch after the other."""

from __future__ import annotations

import contextlib
import platform
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dejavlad.errors import DejavladError, StoreError
from dejavlad.extraction.describing import describe_batch, evaluating
from dejavlad.extraction.patches.codec import Codec
from dejavlad.extraction.patches.making import patches_of
from dejavlad.extraction.patches.store import Entry, Identity
from dejavlad.extraction.patches.writer import encoded
from dejavlad.extraction.photo_table import PhotoTable, Rows
from dejavlad.files import size_and_time
from dejavlad.images import load_batches
from dejavlad.model import PatchSetting
from dejavlad.photo import Photo


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
        unlike = [row for row in rows.tolist() if _identity(task, row) != task.identities[row][:2]]
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


def refuse_other_photos(answer: Answer, rows: Rows, table: PhotoTable) -> None:
    """Refuse an answer of a machine that sees other files than this one does.

    Raises:
        StoreError: it does.
    """
    machine, unlike = answer.unlike
    for row in unlike:
        number = int(rows[row])
        photo = table.photos[number]
        here = Task([photo], [table.identity(number)], None, np.zeros(1, np.bool_))
        if _identity(here, 0) == table.identity(number)[:2]:  # else it has changed for all of them
            raise StoreError(
                f"{machine} sees another file than this machine at {str(photo.path)!r}, or none: photos must "
                "lie at the same paths on all machines of the cluster (a shared folder)"
            )


def _identity(task: Task, row: int) -> tuple[int, int]:
    """Size and time of a photo's file as they are now; of an array as they were."""
    photo = task.photos[row]
    if photo.pixels is not None:
        return task.identities[row][:2]
    try:
        stat = photo.path.stat()
    except (OSError, ValueError):
        return -1, 0
    return size_and_time(stat)


def _machine() -> str:
    return platform.node() or "a machine of the cluster"
