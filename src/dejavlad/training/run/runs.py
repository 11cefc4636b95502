"""A training run as a folder: its models by name, its records, which epoch is best, and clean-up.

::

    config.toml           all options
    run.json              what it was begun with
    log.jsonl, *.csv      what was written down (see `records`)
    epochs/000, 001 ...   the model before training and after each epoch
    latest/               the model at the last checkpoint
    state.safetensors     where it stands (see `state`)
    cache/                descriptors and frozen maps; can be made again
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dejavlad.errors import InputError
from dejavlad.model.run_folder import (
    RUN,
    best_of_run,
    epoch_folder,
    epochs_of_run,
    is_run,
    model_of_run,
    recalls,
)
from dejavlad.training.config.options import TrainConfig
from dejavlad.training.run.records import read_records

CONFIG, CACHE = "config.toml", "cache"


@dataclass(frozen=True, slots=True)
class Run:
    """A training run.

    Raises:
        InputError: there is none.
    """

    path: Path
    """The run's folder."""

    def __post_init__(self) -> None:
        if not is_run(self.path):
            raise InputError(f"{str(self.path)!r} is no training run: it has no {RUN}")

    @property
    def config(self) -> TrainConfig:
        """All options, as of its last start."""
        return TrainConfig.from_file(self.path / CONFIG)

    @property
    def records(self) -> list[dict[str, Any]]:
        """All that was written down, in order."""
        return read_records(self.path)

    @property
    def losses(self) -> list[float]:
        """The loss of each batch, in order."""
        return [float(record["loss"]) for record in self.records if record["kind"] == "batch"]

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return any(record["kind"] == "finished" for record in self.records)

    def recalls(self, split: str = "val") -> dict[int, dict[int, float]]:
        """Epoch -> N -> recall@N, for ``val`` or ``train``; epoch 0 is before training."""
        return recalls(self.records, split)

    def rank_losses(self, split: str = "val") -> dict[int, float | None]:
        """Epoch -> ranking loss, for ``val`` or ``train``."""
        tests = [record for record in self.records if record["kind"] == "test" and record["set"] == split]
        return {int(record["epoch"]): record["rank_loss"] for record in tests}

    @property
    def epochs(self) -> list[int]:
        """Epochs whose models are kept, ascending; 0 is the model before training."""
        return epochs_of_run(self.path)

    def best(self, n: int | None = None) -> int:
        """The epoch with the best recall@n on the validation set; see `best_epoch`.

        Raises:
            InputError: no epoch was tested on one, or not at n.
        """
        return best_of_run(self.path, n)

    def model(self, which: str = "") -> Path:
        """The folder of one of its models.

        Args:
            which: ``latest``, ``epoch:7``, ``best``, ``best:10``; empty: the best where there are tests, else
                the latest.

        Raises:
            InputError: there is no such model.
        """
        return model_of_run(self.path, which)

    def clean_up(self, keep: Sequence[int] | None = None) -> list[Path]:
        """Delete the models of all epochs but the first and the best, or but those in `keep`, and the cache.

        Equivalent to ``cleanup.m``. A run that is not finished goes on all the same.

        Returns:
            What was deleted.

        Raises:
            InputError: which is best is not known.
        """
        kept = {0, self.best()} if keep is None else {0, *keep}
        gone = [epoch_folder(self.path, epoch) for epoch in self.epochs if epoch not in kept]
        if self.finished:
            gone += [folder for folder in [self.path / CACHE] if folder.is_dir()]
        for folder in gone:
            shutil.rmtree(folder)
        return gone
