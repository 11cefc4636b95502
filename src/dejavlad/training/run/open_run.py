"""How a run begins, and how it goes on: the folder, its lock, the model, and what may have changed since."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from dejavlad.errors import CheckpointError, InputError, StoreBusyError, StoreError
from dejavlad.files import write_whole
from dejavlad.ground_truth import PlaceDataset
from dejavlad.guarded.json_file import read_json_object, with_checksum, without_checksum
from dejavlad.model import PlaceModel, load_folder, save_model
from dejavlad.model.run_folder import RUN, epoch_folder, is_run
from dejavlad.names import same_form
from dejavlad.storage import disk_errors
from dejavlad.training.config.options import TrainConfig
from dejavlad.training.context import RunContext
from dejavlad.training.run.initial_model import initial_model, prepare
from dejavlad.training.run.runs import CONFIG
from dejavlad.training.run.state import State
from dejavlad.training.steps.trainable import merged
from dejavlad.versions import versions

FORMAT = 1
CANNOT_WRITE = "{path} cannot be written: {error}"
LOCK = "writer.lock"
RUN_FILES = {CONFIG, LOCK, "epochs", f"{CONFIG}.partial", f"{RUN}.partial"}
"""What a run that broke off while it began may have left."""


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run whose folder is locked: what it goes on with."""

    model: PlaceModel
    """The model as it was before training, with its pooling fitted and without whitening."""
    state: State | None
    """Where it stands; None at the very beginning."""
    changed: dict[str, tuple[Any, Any]]
    """Option -> (value before, value now), of those that differ from the run's last start."""
    commit: Callable[[], None]
    """Writes down what the run begins with, or its changed options; to be called once all is found sound."""


@contextlib.contextmanager
def open_run(
    context: RunContext, model: PlaceModel | None, train: PlaceDataset, val: PlaceDataset | None, out: Path
) -> Iterator[OpenRun]:
    """Begin a run, or go on with the one in the folder, which is locked meanwhile.

    Of several processes the first does so; the others get a copy of its model (on the processor) and state.

    Args:
        context: how the run computes and reports.
        model: what to begin with; None: what the options name, or what the run began with.
        train: queries and database that are learnt from.
        val: tested on; None for none.
        out: the run's folder.

    Yields:
        Model and state; nothing of a new run is written before its `OpenRun.commit`.

    Raises:
        InputError: something else lies there; options, model or photos are others than the run began with.
        StoreBusyError: another process writes there.
        StoreError: the folder cannot be written, or is damaged.
        PeerError: on the other processes, where the first could not begin.
    """
    own: list[OpenRun] = []
    with contextlib.ExitStack() as stack:

        def open_here() -> OpenRun:
            stack.enter_context(_locked(out))
            if is_run(out):
                opened = _go_on(context.config, model, train, val, out)
            else:
                opened = _new(context, model, train, val, out)
            own.append(opened)
            sent = opened.model if context.processes.alone else copy.deepcopy(opened.model).cpu()
            return OpenRun(sent, opened.state, opened.changed, _nothing)

        shared = context.processes.share(open_here)
        yield own[0] if own else shared


@contextlib.contextmanager
def _locked(out: Path) -> Iterator[None]:
    """The folder of a run, made where there is none, with its writer's lock."""
    if out.exists() and not is_run(out) and (not out.is_dir() or {p.name for p in out.iterdir()} - RUN_FILES):
        raise InputError(f"{str(out)!r} is there and is no training run; give another --out")
    lock = filelock.FileLock(out / LOCK, timeout=0)
    with disk_errors(out, CANNOT_WRITE):
        out.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise StoreBusyError(out) from None
    try:
        yield
    finally:
        lock.release()


def _nothing() -> None:
    """The commit of processes that do not write: the first writes for all."""


def _new(
    context: RunContext, model: PlaceModel | None, train: PlaceDataset, val: PlaceDataset | None, out: Path
) -> OpenRun:
    config, on_progress = context.config, context.on_progress
    given = initial_model(config, on_progress=on_progress) if model is None else model
    fields: dict[str, Any] = {"format": FORMAT, "model": given.fingerprint, **_datasets(config, train, val)}
    fields["versions"] = versions()
    prepared = prepare(given, config, train, on_progress=on_progress)

    def commit() -> None:
        with disk_errors(out, CANNOT_WRITE):
            save_model(copy.deepcopy(merged(prepared)).float(), epoch_folder(out, 0))
            write_whole(out / CONFIG, config.to_toml())
            write_whole(out / RUN, json.dumps(with_checksum(fields), indent=2) + "\n")

    return OpenRun(prepared, None, {}, commit)


def _go_on(
    config: TrainConfig, model: PlaceModel | None, train: PlaceDataset, val: PlaceDataset | None, out: Path
) -> OpenRun:
    changed = config.changes_from(TrainConfig.from_file(out / CONFIG))
    try:
        fields = without_checksum(read_json_object(out / RUN))
    except (OSError, ValueError) as error:
        raise StoreError(f"{str(out / RUN)!r} cannot be read: {error}") from None
    if fields.get("format") != FORMAT:
        raise CheckpointError(f"{str(out)!r} is a run of another format: {fields.get('format')!r}")
    for what, dataset in (("train", train), ("val", val)):
        if fields.get(what) not in _known_hashes(dataset, what == "train" and not config.mines):
            raise InputError(
                f"{str(out)!r} was begun with other photos or positions ({what}); give those, or another "
                "--out"
            )
    if model is not None and model.fingerprint != fields.get("model"):
        raise InputError(
            f"{str(out)!r} was begun with another model than {model.name!r}; give that or none, or "
            "another --out"
        )
    backbone = None if model is None else copy.deepcopy(model.backbone)
    opened = load_folder(epoch_folder(out, 0), backbone=backbone)
    if model is not None:
        opened = opened.to(model.device)

    def commit() -> None:
        if changed:
            with disk_errors(out, CANNOT_WRITE):
                write_whole(out / CONFIG, config.to_toml())

    return OpenRun(opened, State.load(out), changed, commit)


def _datasets(config: TrainConfig, train: PlaceDataset, val: PlaceDataset | None) -> dict[str, str | None]:
    return {"train": _hash(train, not config.mines), "val": None if val is None else _hash(val)}


def _known_hashes(dataset: PlaceDataset | None, by_place: bool) -> Iterator[str | None]:
    """What `_hash` of a dataset is, and what it was in runs that took names in the form in which they came.

    Those were as the photos were listed, which on macOS is decomposed Unicode.
    """
    if dataset is None:
        yield None
        return
    for form in (same_form, str, _decomposed):
        yield _hash(dataset, by_place, form)


def _decomposed(name: str) -> str:
    return unicodedata.normalize("NFD", same_form(name))


def _hash(dataset: PlaceDataset, by_place: bool = False, form: Callable[[str], str] = same_form) -> str:
    """SHA-256 of the photos in their order, where and when they were taken, and what counts as right.

    Args:
        dataset: the photos.
        by_place: whether what makes places (groups and headings) counts too.
        form: of names, tags and groups, so that the same photos listed on another computer are the same.
    """
    digest = hashlib.sha256()
    for photos in (dataset.queries, dataset.database):
        for photo in photos:
            position = photo.position
            coordinates = None if position is None else [position.east, position.north, position.zone]
            group = None if photo.group is None else form(photo.group)
            place = [group, photo.heading] if by_place else []
            tags = [form(tag) for tag in photo.tags]
            digest.update(json.dumps([form(photo.key), coordinates, photo.time, *tags, *place]).encode())
        digest.update(b"end")
    digest.update((dataset.truth.hash if dataset.truth is not None else "none").encode())
    return digest.hexdigest()
