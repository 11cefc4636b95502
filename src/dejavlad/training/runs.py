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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dejavlad.errors import InputError
from dejavlad.model.checkpoint import is_model
from dejavlad.training.config import TrainConfig
from dejavlad.training.records import read_records

CONFIG, RUN, EPOCHS, LATEST, CACHE = "config.toml", "run.json", "epochs", "latest", "cache"
BEST_AT = 5
"""N of the recall by which an epoch is best, unless told."""
SAME = 1e-6
"""Recalls that differ by less are the same."""
FORMS = "RUN, RUN@latest, RUN@epoch:7, RUN@best or RUN@best:10"


@dataclass(frozen=True, slots=True)
class Run:
    """A training run.

    Raises:
        InputError: there is none.
    """

    path: Path
    """Its folder."""

    def __post_init__(self) -> None:
        if not is_run(self.path):
            raise InputError(f"{str(self.path)!r} is no training run: it has no {RUN}")

    @property
    def config(self) -> TrainConfig:
        """Its options, as they are now."""
        return TrainConfig.from_file(self.path / CONFIG)

    @property
    def records(self) -> list[dict[str, Any]]:
        """All that was written down, in order."""
        return read_records(self.path)

    @property
    def losses(self) -> list[float]:
        """The loss of each batch, in order."""
        return [float(one["loss"]) for one in self.records if one["kind"] == "batch"]

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return any(one["kind"] == "finished" for one in self.records)

    def recalls(self, of: str = "val") -> dict[int, dict[int, float]]:
        """Epoch -> N -> recall@N, for ``val`` or ``train``; epoch 0 is before training."""
        return {
            int(one["epoch"]): {int(n): float(value) for n, value in one["recall"].items()}
            for one in self.records
            if one["kind"] == "test" and one["set"] == of
        }

    def rank_losses(self, of: str = "val") -> dict[int, float | None]:
        """Epoch -> ranking loss, for ``val`` or ``train``."""
        tests = [one for one in self.records if one["kind"] == "test" and one["set"] == of]
        return {int(one["epoch"]): one["rank_loss"] for one in tests}

    @property
    def epochs(self) -> list[int]:
        """Epochs whose models are there."""
        held = (self.path / EPOCHS).glob("[0-9]*")
        return sorted(int(path.name) for path in held if path.name.isdecimal() and is_model(path))

    def best(self, n: int = BEST_AT) -> int:
        """The epoch with the best recall@n on the validation set; see `best_epoch`.

        Raises:
            InputError: no epoch was tested on one, or not at n.
        """
        found = {epoch: recall for epoch, recall in self.recalls().items() if epoch > 0}
        if not found:
            raise InputError(f"{str(self.path)!r}: no epoch was tested on a validation set")
        return best_epoch(found, n)

    def model(self, which: str = "") -> Path:
        """The folder of one of its models.

        Args:
            which: ``latest``, ``epoch:7``, ``best``, ``best:10``; empty: the best where there are tests, else
                the latest.

        Raises:
            InputError: there is no such model.
        """
        kind, _, number = which.partition(":")
        if not which:
            tested = any(epoch > 0 for epoch in self.recalls())
            return self.model("best" if tested else "latest")
        if which == "latest":
            folder = self.path / LATEST
        elif kind == "epoch" and number.isdecimal():
            folder = epoch_folder(self.path, int(number))
        elif kind == "best" and (number.isdecimal() or which == "best"):
            folder = epoch_folder(self.path, self.best(int(number or BEST_AT)))
        else:
            raise InputError(f"{which!r} is none of a run's models; valid: {FORMS}")
        if not is_model(folder):
            told = ", ".join(map(str, self.epochs)) or "none"
            raise InputError(f"{str(self.path)!r} has no model {which!r}; epochs there: {told}")
        return folder

    def clean_up(self, keep: Sequence[int] | None = None) -> list[Path]:
        """Delete the models of all epochs but the first and the best, or those told, and the cache.

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


def is_run(folder: Path) -> bool:
    """Whether a run lies there."""
    return (folder / RUN).is_file()


def epoch_folder(run: Path, epoch: int) -> Path:
    """Where the model after an epoch lies."""
    return run / EPOCHS / f"{epoch:03d}"


def resolve(text: str | Path) -> Path | None:
    """``RUN``, ``RUN@latest``, ``RUN@epoch:7`` or ``RUN@best:10`` to a model folder; None: RUN is no run.

    Raises:
        InputError: the run has no such model.
    """
    if is_run(Path(text)):
        return Run(Path(text)).model()
    folder, at, which = str(text).rpartition("@")
    if at and is_run(Path(folder)):
        return Run(Path(folder)).model(which)
    return None


def best_epoch(recalls: Mapping[int, Mapping[int, float]], n: int) -> int:
    """The epoch with the highest recall@n.

    Among the same, recall at the next smaller N decides, and so on down to the smallest; then at the larger
    ones, ascending; then the earlier epoch. Equivalent to ``getBestEpoch.m``.

    Args:
        recalls: epoch -> N -> recall@N.
        n: one of the Ns.

    Raises:
        InputError: recall was not taken at n.
    """
    ns = sorted(next(iter(recalls.values())))
    if n not in ns:
        raise InputError(f"recall@{n} was not taken; valid: {', '.join(map(str, ns))}")
    order = [n, *reversed([one for one in ns if one < n]), *(one for one in ns if one > n)]
    left = sorted(recalls)
    for one in order:
        most = max(recalls[epoch].get(one, 0.0) for epoch in left)
        left = [epoch for epoch in left if most - recalls[epoch].get(one, 0.0) < SAME]
    return left[0]
