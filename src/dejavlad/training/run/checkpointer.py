"""Where a run stands, taken down and taken on again: the parts that `state` is made of, and their files."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch

from dejavlad.model import save_model
from dejavlad.model.run_folder import LATEST, epoch_folder
from dejavlad.storage import disk_errors
from dejavlad.training.config.options import TrainConfig
from dejavlad.training.data.photo_pool import PhotoPool
from dejavlad.training.run.runs import CACHE
from dejavlad.training.run.state import CANNOT_WRITE, State, load_model_tensors, model_tensors
from dejavlad.training.sampling.tuples import Rows
from dejavlad.training.steps.classifiers import Classifiers
from dejavlad.training.steps.network import Network
from dejavlad.training.steps.optim import load_optimizer, optimizer_tensors
from dejavlad.training.steps.trainable import merged


class HasMemory(Protocol):
    """What has a memory, as mining does."""

    memory: list[Rows]
    """Of each query, the rows of the database (int64) that mining remembers as its hardest negatives."""


class Checkpointer:
    """Keeps what a run has reached."""

    def __init__(
        self,
        out: Path,
        config: TrainConfig,
        network: Network,
        optimizer: torch.optim.Optimizer,
        miner: HasMemory,
        pool: PhotoPool,
        classifiers: Classifiers | None = None,
    ) -> None:
        self._out, self._config = out, config
        self._network, self._optimizer, self._miner, self._pool = network, optimizer, miner, pool
        self._classifiers = classifiers
        self._unreadable = dict(pool.failed)

    def state(
        self,
        epoch: int,
        batch: int,
        descriptors: str,
        memory: Sequence[Rows] | None = None,
        failed: Mapping[int, str] | None = None,
    ) -> State:
        """Where the run stands, copied.

        Args:
            epoch: that goes on.
            batch: how many of its batches are done.
            descriptors: the file that mining goes by.
            memory: of mining; as it is now, unless given.
            failed: number of a photo -> why it was left out; those known now, unless given.
        """
        learnt = self._network.learnt
        tensors = model_tensors(self._network.model, list(learnt))
        tensors |= optimizer_tensors(self._optimizer, learnt)
        if self._classifiers is not None:
            tensors |= self._classifiers.tensors()
        return State(
            epoch,
            batch,
            tensors,
            list(self._miner.memory if memory is None else memory),
            descriptors,
            dict(self._pool.failed if failed is None else failed),
        )

    def restore(self, state: State) -> None:
        """Bring back weights, optimiser, mining's memory and failed photos; not the place in the run.

        Raises:
            CheckpointError: it is of another network.
        """
        learnt = self._network.learnt
        load_model_tensors(self._network.model, state.tensors, list(learnt))
        self._optimizer.state.clear()
        if state.batch or not self._config.quirk("momentum_lost"):
            load_optimizer(self._optimizer, learnt, state.tensors)
        if self._classifiers is not None:
            self._classifiers.restore(state.tensors)
        self._miner.memory = list(state.memory)
        self.restore_failed(state.failed)

    def restore_failed(self, failed: Mapping[int, str]) -> None:
        """Forget the photos that failed since; those whose size cannot be read stay among the failed.

        Args:
            failed: number of a photo -> why it was left out.
        """
        kept = {**self._unreadable, **failed}
        self._pool.failed.clear()
        self._pool.failed.update(kept)

    def save(self, state: State, used: Sequence[str]) -> None:
        """Write a checkpoint: the latest model, then the state, which counts; then delete old descriptors.

        Args:
            state: as the network is now.
            used: files of descriptors that are still needed.

        Raises:
            StoreError: it cannot be written; the one before it is whole.
        """
        self._save_model(self._out / LATEST)
        state.save(self._out)
        for path in (self._out / CACHE).glob("descriptors-*.npy*"):
            if not any(name and path.name.startswith(name) for name in used):
                with contextlib.suppress(OSError):  # still mapped, on Windows; the next time
                    path.unlink()

    def save_epoch(self, epoch: int) -> None:
        """Write the model after an epoch.

        Raises:
            StoreError: it cannot be written.
        """
        self._save_model(epoch_folder(self._out, epoch))

    def _save_model(self, folder: Path) -> None:
        model = merged(self._network.model)
        with disk_errors(self._out, CANNOT_WRITE):
            save_model(
                model if self._network.dtype == torch.float32 else copy.deepcopy(model).float(), folder
            )
