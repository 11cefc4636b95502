"""The loop of weakly supervised training: mine, step, describe anew, test, and keep what was reached.

Equivalent to ``trainWeakly.m``. What happens in an epoch and a batch follows from the options, the seed and
the place in the run alone, so a run that was cut off goes on from its last checkpoint as if it had not been.

Legend: Q queries.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from dejavlad.errors import DivergedError, InputError, StoreError
from dejavlad.ground_truth import PlaceDataset
from dejavlad.images import Preprocess
from dejavlad.model import PlaceModel
from dejavlad.model.device import resolve_device
from dejavlad.model.run_folder import best_epoch, is_run
from dejavlad.progress import OnProgress, Progress, silent
from dejavlad.training.config import schedule
from dejavlad.training.config.options import TrainConfig
from dejavlad.training.context import RunContext
from dejavlad.training.data.augment import kornia_augmentation
from dejavlad.training.data.descriptor_file import read_rows
from dejavlad.training.data.descriptors import read_descriptors, write_descriptors
from dejavlad.training.data.split import Split, keep_maps
from dejavlad.training.diagnostics.doctor import candidates_of, check_start
from dejavlad.training.diagnostics.monitor import Monitor, never_tested, refresh_statistics
from dejavlad.training.distributed import Processes, join
from dejavlad.training.run.checkpointer import Checkpointer
from dejavlad.training.run.open_run import OpenRun, open_run
from dejavlad.training.run.records import DiscardedRecords, OnRecord, Records, ignore
from dejavlad.training.run.runs import CACHE, Run
from dejavlad.training.run.state import State
from dejavlad.training.run.validation import score
from dejavlad.training.sampling.batches import make_batch_sampler
from dejavlad.training.sampling.classes import Grouping, in_groups
from dejavlad.training.sampling.mining import Descriptors
from dejavlad.training.sampling.subcache import subcache_of
from dejavlad.training.sampling.tuples import Candidates, Rows
from dejavlad.training.steps.network import Network
from dejavlad.training.steps.optim import make_optimizer, set_rate

TRAINING = "training"


def train(
    config: TrainConfig,
    model: PlaceModel | None,
    train: PlaceDataset,
    val: PlaceDataset | None,
    out: str | Path,
    *,
    device: str | None = None,
    on_progress: OnProgress = silent,
    on_record: OnRecord = ignore,
) -> Run:
    """Learn a descriptor from photos and their rough positions; run again, it goes on where it was cut off.

    In processes that ``torchrun`` started it is one training by all of them: the first writes and reports.

    Args:
        config: all options. Those that a run keeps from its beginning cannot be changed when it goes on; the
            others hold from there.
        model: what to begin with, and where to compute; it is not changed. Its pooling becomes that of the
            options, its whitening is set aside. None: what the options name, or a run that goes on.
        train: queries and database with positions.
        val: tested on after each epoch; None for none.
        out: the run's folder.
        device: where to compute; the model's, unless given.
        on_progress: called with each step of what takes long.
        on_record: called with each record once it is written (see `records`).

    Returns:
        The run.

    Raises:
        InputError: options, model or photos that cannot be learnt with, or options changed that cannot be.
        DivergedError: the loss is no number; the last good state is kept.
        StoreBusyError: another process writes there.
        StoreError: the folder cannot be written, or is damaged.
        PeerError: another of several processes has ended.
        MissingExtraError: photos are to be augmented, and kornia is not installed.
        KeyboardInterrupt: after a checkpoint of the last whole batch.
    """
    if config.augments:
        kornia_augmentation()
    train, grouping = in_groups(train, config)
    candidates = candidates_of(train, config)
    processes, target = _join_processes(config, model, device)
    context = RunContext(config, processes, on_progress, on_record)
    if not processes.first:
        context = replace(context, on_progress=silent, on_record=ignore)
    with open_run(context, model, train, val, Path(out)) as opened:
        if target is not None:
            opened.model.to(target)
        preprocess = opened.model.preprocess
        learns = Split(train, candidates, preprocess, context, queries=config.mining != "classes")
        tested = None if val is None else _tested_split(val, preprocess, context)
        for split in (learns, tested):
            if split is not None:
                split.pool.synchronize(processes)
        _Training(context, opened, learns, tested, Path(out), grouping).run()
    return Run(Path(out))


def _join_processes(
    config: TrainConfig, model: PlaceModel | None, device: str | None
) -> tuple[Processes, torch.device | None]:
    """The processes that train together, and where this one computes; None: where its model is.

    Raises:
        InputError: options or a device that do not go with several processes.
        MissingExtraError: Lightning Fabric is not installed.
    """
    target = None if model is None else model.device
    if device is not None:
        target = resolve_device(device)
    processes = join(target)
    if processes.alone:
        return processes, target
    if config.batch_norm == "learnt":
        raise InputError("batch_norm = 'learnt' needs the photos of a step in one process")
    return processes, processes.device


def _tested_split(val: PlaceDataset, preprocess: Preprocess, context: RunContext) -> Split:
    """The validation set, which needs no tuples, but must say what is right."""
    split = Split(val, Candidates.of(val, context.config, required=False), preprocess, context)
    _ = split.truth  # made now, so that what is missing is said before training
    return split


@dataclass(frozen=True, slots=True)
class _BatchStart:
    """What a batch begins with and may change before it is done, so that an interrupted one is taken back."""

    epoch: int = 0
    batch: int = 0
    """Batches of the epoch that are done."""
    memory: list[Rows] = field(default_factory=list)
    """Of each query, the negatives that mining remembers."""
    descriptors: str = ""
    """Name of the file of descriptors that mining goes by."""
    failed: Mapping[int, str] = field(default_factory=dict)
    """Number of a photo -> why it was left out."""


class _Training:
    """A run while it goes on; `epoch` (from 1) and `batch` (done, from 0) are where it stands.

    Args:
        context: how the run computes and reports.
        opened: its model and, where it goes on, its state.
        train: the photos that are learnt from.
        val: the photos that are tested on; None for none.
        out: the run's folder.
        grouping: where classes are learnt, these.
    """

    def __init__(
        self,
        context: RunContext,
        opened: OpenRun,
        train: Split,
        val: Split | None,
        out: Path,
        grouping: Grouping | None,
    ) -> None:
        config, processes = context.config, context.processes
        self.context, self.config, self.processes, self.out = context, config, processes, out
        self.records = (Records if processes.first else DiscardedRecords)(
            out, context.on_record, Monitor(config)
        )
        self.network = Network(opened.model, config)
        self.train, self.val, self._grouping = train, val, grouping
        self.splits = {"train": train, **({} if val is None else {"val": val})}
        self.optimizer = make_optimizer(self.network.learnt, config)
        self.sampler = make_batch_sampler(train, context)
        self.classifiers = self.sampler.classifiers(self.network)
        self.checkpointer = Checkpointer(
            out, config, self.network, self.optimizer, self.sampler, train.pool, self.classifiers
        )
        self.n = self.sampler.n
        self.epoch, self.batch = 1, 0
        self.descriptors_file = ""
        self.good: State | None = None
        """Where the run stood before its last step, known to be sound."""
        self.before = _BatchStart()
        """Where the last batch began."""
        self.saved = 0, 0
        """Epoch and batch of the last checkpoint."""
        self.descriptors: Descriptors | None = None
        """Descriptors that mining goes by; None where it needs none now."""
        if opened.state is not None:
            self._go_back_to(opened.state)
            self.saved = self.epoch, self.batch
        self._open_records(opened)
        self._keep_maps()
        self.step = self.sampler.step(self.network, train.maps)
        self._note_failed()
        self._open_descriptors(opened.state)
        if opened.state is None:
            self._check_start()
            self._test(0, (1, 0), whole=config.test_before)
            self._checkpoint()

    def _open_records(self, opened: OpenRun) -> None:
        """Write down what the run begins with, take back records after its checkpoint, and note new options.

        Raises:
            InputError: the processes do not share the folder.
            StoreError: it cannot be written.
        """
        opened.commit()
        self.processes.share(lambda: None)
        if not is_run(self.out):
            raise InputError(f"{str(self.out)!r} must be a folder that the machines of all processes share")
        self.records.begin((self.epoch, self.batch) if opened.state else (0, 0))
        if opened.changed:
            changed = {key: list(values) for key, values in opened.changed.items()}
            self.records.add("options", (self.epoch, self.batch), changed=changed)

    def _keep_maps(self) -> None:
        """Compute what the frozen layers make of all photos, and note for each split whether that is kept."""
        for fields in keep_maps(self.splits, self.network, self.context, self.out / CACHE):
            self.records.add("frozen maps", (self.epoch, self.batch), **fields)

    def run(self) -> None:
        """To the end.

        Raises:
            DivergedError: see `train`; what is on disk then is sound.
        """
        try:
            self._run()
        except DivergedError:
            if self.good is not None:
                self._go_back_to(self.good)
                self._checkpoint()
            raise
        except KeyboardInterrupt:
            with contextlib.suppress(StoreError):  # the checkpoint before it is whole
                self._save_whole_batches()
            raise

    def _save_whole_batches(self) -> None:
        """A checkpoint after the last whole batch, wherever the run was cut off."""
        at = self.epoch, self.batch
        if at == self.saved:
            return
        if self.good is not None and (self.good.epoch, self.good.batch) == at:
            self._go_back_to(self.good)  # its step may be half taken
        elif (self.before.epoch, self.before.batch) == at:
            self.sampler.memory, self.descriptors_file = self.before.memory, self.before.descriptors
            self.checkpointer.restore_failed(self.before.failed)
        self._checkpoint()

    def _run(self) -> None:
        done_before = (self.epoch - 1) * self.n + self.batch
        while self.epoch <= self.config.epochs and not self._out_of_patience():
            first = self.batch
            for batch in range(self.batch + 1, self.n + 1):
                if schedule.saves(self.config, batch) and self.batch > first:
                    self._checkpoint()
                self.before = _BatchStart(
                    self.epoch,
                    self.batch,
                    list(self.sampler.memory),
                    self.descriptors_file,
                    dict(self.train.pool.failed),
                )
                if schedule.refreshes(self.config, self.epoch, batch, self.n):
                    self._refresh(self.epoch, batch)
                self._batch(batch)
                self.batch = batch
                done = (self.epoch - 1) * self.n + batch
                self.context.on_progress(Progress(TRAINING, done, self.config.epochs * self.n, done_before))
            self._end_epoch(saved=first == self.n)
        self.records.add("finished", (self.epoch, 0), epochs=self.epoch - 1)

    def _go_back_to(self, state: State) -> None:
        self.checkpointer.restore(state)
        self.epoch, self.batch, self.descriptors_file = state.epoch, state.batch, state.descriptors

    def _batch(self, batch: int) -> None:
        started = time.monotonic()
        drawn = self.sampler.draw(self.epoch, batch, self.descriptors)
        rate = schedule.rate(self.config, self.epoch, batch, self.n)
        set_rate(self.optimizer, rate)
        outcome = self.step(drawn.work, [self.config.seed, self.epoch, batch])
        losses = [*outcome.losses, *[0.0] * drawn.easy]
        loss = sum(losses) / len(losses) if losses else 0.0
        gradients = [
            parameter.grad for parameter in self.network.learnt.values() if parameter.grad is not None
        ]
        if not math.isfinite(loss) or not _finite(gradients):
            self._diverged(batch, drawn.first)
        if outcome.violating:
            before = self.before
            self.good = self.checkpointer.state(
                self.epoch, self.batch, before.descriptors, before.memory, before.failed
            )
            self.optimizer.step()
            if not _finite(self.network.learnt.values()) or not self._step_classifiers():
                self._diverged(batch, drawn.first)
        self.records.add(
            "batch",
            (self.epoch, batch),
            epoch=self.epoch,
            batch=batch,
            loss=loss,
            tuples=len(losses),
            triplets=outcome.triplets,
            violating=outcome.violating,
            very_hard=outcome.very_hard,
            rate=rate,
            seconds=round(time.monotonic() - started, 4),
            **({} if outcome.spread is None else {"spread": outcome.spread}),
        )
        self._note_failed(batch)

    def _step_classifiers(self) -> bool:
        """A step of what learns beside the network, which the first process has; whether it stays finite."""
        classifiers = self.classifiers
        if classifiers is None:
            return True
        classifiers.step()
        return self.processes.share(lambda: classifiers.finite)

    def _end_epoch(self, *, saved: bool) -> None:
        if not saved:
            self._checkpoint()
        ended, at = self.epoch, (self.epoch + 1, 0)
        whole = ended == self.config.epochs or ended % self.config.test_every == 0
        if self.config.mining == "all":
            self._refresh(ended + 1, 0)
        self._test(ended, at, whole=whole)
        if self.processes.first:
            self.checkpointer.save_epoch(ended)
        self.epoch, self.batch = at
        if self.config.mining == "all":
            self.good = None  # the checkpoint itself is: all photos were described after its last step
        self._checkpoint()

    def _test(self, epoch: int, at: tuple[int, int], *, whole: bool) -> None:
        """Test the descriptors: of the validation set where it is its turn, and of the training set.

        Training photos are described already, or never all of them.
        """
        if whole and self.val is not None:
            started, file = time.monotonic(), self.out / CACHE / "val.npy"
            self._describe(self.val, file)
            self._note_failed()
            if self.processes.first:
                self._score("val", self.val, read_descriptors(file, self.val.pool), epoch, at, started)
                file.unlink(missing_ok=True)
        if (whole or epoch) and self.config.mining == "all" and self.processes.first:
            assert self.descriptors is not None
            self._score("train", self.train, self.descriptors, epoch, at, time.monotonic())

    def _score(
        self,
        name: str,
        split: Split,
        descriptors: Descriptors,
        epoch: int,
        at: tuple[int, int],
        started: float,
    ) -> None:
        """Write down how good descriptors are on a split, and the seconds since `started`."""
        scores = score(descriptors, split.truth, split.candidates, list(split.pool.failed), self.config)
        self.records.add(
            "test",
            at,
            epoch=epoch,
            set=name,
            recall={str(n): value for n, value in scores.recall.items()},
            rank_loss=scores.rank_loss,
            seconds=round(time.monotonic() - started, 4),
        )

    def _refresh(self, epoch: int, batch: int) -> None:
        """Describe the training photos anew, before a batch of an epoch; batch 0: before all of them.

        With a subcache, those that the next queries need.
        """
        started = time.monotonic()
        name = f"descriptors-e{epoch:03d}-b{batch:06d}.npy"
        before = None
        if self.config.mining == "subcache":
            self._describe(self.train, self.out / CACHE / name, self.sampler.wanted(epoch, batch))
        else:
            before = self.descriptors
            self._describe(self.train, self.out / CACHE / name)
        descriptors = self._read(self.out / CACHE / name)
        seconds = round(time.monotonic() - started, 4)
        if self.processes.first:
            self.records.add(
                "refresh", (epoch, batch), seconds=seconds, **refresh_statistics(before, descriptors)
            )
        self.descriptors, self.descriptors_file = descriptors, name
        self._note_failed()

    def _describe(self, split: Split, path: Path, among: Rows | None = None) -> None:
        write_descriptors(self.network, split.pool, split.maps, self.context, path, among=among)

    def _read(self, path: Path) -> Descriptors:
        if self.config.mining == "subcache":
            return subcache_of(*read_rows(path), self.train.candidates, self.train.pool.n_queries)
        return read_descriptors(path, self.train.pool)

    def _open_descriptors(self, state: State | None) -> None:
        """Have the descriptors that mining goes by when the run begins or goes on."""
        path = self.out / CACHE / self.descriptors_file
        if self.config.mining != "all":
            if self.descriptors_file and self.batch:
                self.descriptors = self._read(path)
        elif state is not None and (state.batch or self.processes.share(path.is_file)):
            self.descriptors = self._read(path)
        else:
            self._refresh(self.epoch, self.batch)

    def _check_start(self) -> None:
        if not self.processes.first:
            return
        split, model = self.train, self.network.model
        findings = check_start(
            model, split.pool.dataset, split.candidates, self.descriptors, self.config, self._grouping
        )
        if self.config.patience and self.val is None:
            findings.append(never_tested(self.config.patience))
        for finding in findings:
            self.records.add("warning", (1, 0), **finding.to_dict())

    def _note_failed(self, batch: int = 0) -> None:
        for split in self.splits.values():
            for number, why in split.newly_failed().items():
                key = split.pool.photos[number].key
                self.records.add("photo", (self.epoch, batch or self.batch), key=key, reason=why)

    def _checkpoint(self) -> None:
        """Keep where the run stands; descriptors of before are deleted."""
        if self.processes.first:
            used = [self.descriptors_file, *([self.good.descriptors] if self.good else [])]
            self.checkpointer.save(
                self.checkpointer.state(self.epoch, self.batch, self.descriptors_file), used
            )
        self.saved = self.epoch, self.batch

    def _out_of_patience(self) -> bool:
        if not self.config.patience or self.val is None:
            return False
        tested = self.processes.share(Run(self.out).recalls)
        recalls = {epoch: recall for epoch, recall in tested.items() if epoch}
        if not recalls:
            return False
        return self.epoch - 1 - best_epoch(recalls) >= self.config.patience

    def _diverged(self, batch: int, first: int) -> None:
        key = self.train.pool.photos[first].key
        raise DivergedError(
            f"training broke down in epoch {self.epoch}, batch {batch} of {self.n} (its first photo is "
            f"{key!r}): the loss or a weight is not finite. {self.out!s}@latest is sound. Go on with a "
            f"smaller step: the same command with --set learning_rate={self.config.learning_rate / 10:g}"
        )


def _finite(tensors: Iterable[torch.Tensor]) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)
