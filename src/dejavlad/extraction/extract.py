"""The one loop from pixels to rows.

Batches are planned once, from the list and the photos' sizes, and a photo that cannot be decoded keeps its
slot in its batch (zeros); so the rows do not depend on where a run was cut off, nor on the number of workers:
a store is a function of the model, the list and the batch size.

What running again over a store does, `planning` tells.

A model whose descriptors depend on the photos beside them (`PlaceModel.alone` is false) describes photos one
at a time, unless its `together` says otherwise; the store names it as such.

With `patches`, the same pass makes the patches of each photo (see `patches`), which reach the disk before
their photo's row counts.

Legend: N photos, D the descriptor's size, n photos of one batch.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError
from dejavlad.extraction.describing import Describer, Stream, described, setting_of
from dejavlad.extraction.planning import Plan, look_at, plan_extraction, plan_list
from dejavlad.extraction.seconds import Seconds
from dejavlad.extraction.shard import Shard
from dejavlad.extraction.store import FAILED, NOT_YET, DescriptorStore
from dejavlad.extraction.writer import StoreWriter
from dejavlad.failures import blank
from dejavlad.photo import PhotoList
from dejavlad.progress import OnProgress, Progress, silent

if TYPE_CHECKING:
    from dejavlad.extraction.patches.making import PatchExtractor
    from dejavlad.model import PatchSetting

DESCRIBING = "describing photos"


def extract(
    model: Describer,
    photos: PhotoList,
    out: Path | str,
    *,
    batch_size: int = 8,
    workers: int = 0,
    dtype: str = "float32",
    patches: PatchSetting | None = None,
    patch_dtype: str = "float16",
    allow_none: bool = False,
    shard: Shard | tuple[int, int] | str | None = None,
    ray: str | None = None,
    seconds: Seconds | None = None,
    on_progress: OnProgress = silent,
) -> DescriptorStore:
    """Describe photos into the folder `out`; run again, it goes on where it was cut off.

    Photos that cannot be described, or show nothing, are listed in the store's `failed`; they do not end the
    run.

    Args:
        model: a fitted model.
        photos: the list, files or arrays.
        out: the store's folder, made if need be.
        batch_size: photos described together, at most.
        workers: threads that decode ahead; 0 decodes when asked. The rows do not depend on it.
        dtype: how rows are stored, ``"float32"`` or ``"float16"``.
        patches: also make these patches of each photo, in the folder ``patches`` of `out` (a `PatchStore`).
        patch_dtype: how patches are stored: ``"float32"``, ``"float16"``, ``"int8"`` or ``"pq"``.
        allow_none: be content where no photo could be described.
        shard: describe share I of N alone, ``(I, N)`` or ``"I/N"``; `merge_stores` makes one store of all
            shares, equal in every byte to that of a single process. `out` is the shard's own folder.
        ray: describe on the machines of a Ray cluster: its address, or ``"auto"`` for the one that this
            machine belongs to (see `ray_cluster`). The rows do not depend on it.
        seconds: is added to: what the steps took.
        on_progress: called with reports of `LOOKING` (file sizes and times) and `DESCRIBING`
            (``resumed``: photos of earlier runs).

    Returns:
        The complete store, opened.

    Raises:
        InputError: no photos, none of them readable, a model that is not fitted, or rows that are not finite.
        StoreMismatchError: `out` holds rows of another setting.
        StoreBusyError: another run writes there.
        StoreError: `out` cannot be written, or is damaged; or the cluster cannot do it.
    """
    stream = _stream(model, ray)
    batch_size, shard = _checked(model, photos, batch_size), Shard.of(shard)
    setting, seconds = setting_of(model, dtype), seconds if seconds is not None else Seconds()
    extra = _patch_extractor(model, patches, patch_dtype, Path(out) / "patches")
    with StoreWriter(Path(out)) as writer, extra or contextlib.nullcontext():
        plan = plan_extraction(setting, model.preprocess, photos, batch_size, shard, writer, on_progress)
        writer.begin(plan.manifest, plan.state, plan.reasons, plan.old_rows, plan.share)
        _describe_rest(model, plan, writer, stream, workers, extra, seconds, on_progress)
    store = DescriptorStore.open(out, shards=True)
    if not (allow_none or shard is not None or store.done.any()):
        raise none_described(photos.name, store.failed)
    return store


def _patch_extractor(
    model: Describer, patches: PatchSetting | None, dtype: str, path: Path
) -> PatchExtractor | None:
    """What makes the photos' patches in the same pass, if any are to be made; it needs torch."""
    if patches is None:
        return None
    from dejavlad.extraction.patches.making import PatchExtractor

    return PatchExtractor(model, patches, dtype, path)


def _stream(model: Describer, ray: str | None) -> Stream:
    """What describes batches: this process, or a cluster."""
    if ray is None:
        return described
    from dejavlad.extraction.ray_cluster import RayCluster

    if getattr(model, "engine", None) is not None:
        raise InputError("the machines of a cluster run models by PyTorch; leave the runtime away")
    return RayCluster(ray).described


def _describe_rest(
    model: Describer,
    plan: Plan,
    writer: StoreWriter,
    stream: Stream,
    workers: int,
    extra: PatchExtractor | None,
    seconds: Seconds,
    on_progress: OnProgress,
) -> None:
    """Describe what is left of a plan, batch by batch."""
    pending, done = _left(plan, extra)
    resumed, total = done, len(plan.state)
    on_progress(Progress(DESCRIBING, done, total, resumed))
    for rows, values, failed in stream(model, plan.manifest.table, pending, workers, extra, seconds):
        with seconds.of("write"):
            writer.put(rows, values, failed)
        done += len(rows) + len(failed)
        on_progress(Progress(DESCRIBING, done, total, resumed))


def _left(plan: Plan, extra: PatchExtractor | None) -> tuple[list[NDArray[np.int64]], int]:
    """The batches of which rows or patches are missing, and how many photos are done already."""
    table, state = plan.manifest.table, plan.state
    without = np.zeros(len(table), bool) if extra is None else extra.missing(table) & (state != FAILED)
    if extra is not None and without.any():
        extra.prepare(*plan.readable)
    batches = plan.manifest.batches
    pending = [batch for batch in batches if (state[batch] == NOT_YET).any() or without[batch].any()]
    again = sum(int((state[batch] != NOT_YET).sum()) for batch in pending)
    return pending, int((state != NOT_YET).sum()) - again


def describe(
    model: Describer,
    photos: PhotoList,
    *,
    batch_size: int = 8,
    workers: int = 0,
    blank_too: bool = False,
    on_progress: OnProgress = silent,
) -> tuple[NDArray[np.float32], dict[str, str]]:
    """Describe photos in memory, with the same batches as `extract`.

    Args:
        model: as `extract` takes it, and so the others.
        blank_too: be content where no photo could be described, but some can be read and show nothing.
        on_progress: called with reports of `LOOKING` and `DESCRIBING`.

    Returns:
        float32 [N, D] (zeros where a photo failed), and key -> reason of the photos that failed.

    Raises:
        InputError: as `extract`.
    """
    batch_size = _checked(model, photos, batch_size)
    table = look_at(model.preprocess, photos, None, on_progress)
    batches = plan_list(model.preprocess, table, batch_size)
    rows_ND = np.zeros((len(photos), model.descriptor_size), np.float32)
    reasons = dict(table.unreadable)
    done = len(reasons)
    for rows, values, failed in described(model, table, batches, workers):
        rows_ND[rows] = values
        reasons.update(failed)
        done += len(rows) + len(failed)
        on_progress(Progress(DESCRIBING, done, len(photos)))
    failed_keys = {table.keys[row]: reasons[row] for row in sorted(reasons)}
    if len(reasons) == len(photos) and not (blank_too and blank(failed_keys)):
        raise none_described(photos.name, failed_keys)
    return rows_ND, failed_keys


def _checked(model: Describer, photos: PhotoList, batch_size: int) -> int:
    """How many photos go through the network together.

    Raises:
        InputError: no photos, a batch of none, or a model that is not fitted.
    """
    if not len(photos):
        raise InputError(f"{photos.name}: there are no photos to describe")
    if batch_size < 1:
        raise InputError(f"a batch needs at least one photo; given --batch-size {batch_size}")
    model.require_fitted()
    apart = not getattr(model, "alone", True) and not getattr(model, "together", False)
    return 1 if apart else batch_size


def none_described(name: str, failed: dict[str, str]) -> InputError:
    """The error of a list of which no photo could be described, with one of the reasons."""
    key, reason = next(iter(failed.items()))
    if len(failed) == 1:
        return InputError(f"{key!r} could not be described: {reason}")
    return InputError(f"none of the {len(failed)} photos of {name} could be described; {key!r}: {reason}")
