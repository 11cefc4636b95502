"""The one loop from pixels to rows.

Batches are planned once, from the list and the photos' sizes, and a photo that cannot be decoded keeps its
slot in its batch (zeros); so the rows do not depend on where a run was cut off, nor on the number of workers:
a store is a function of the model, the list and the batch size.

Running again over what is there:

- the same list: the recorded plan goes on; a complete store is left as it is;
- a photo changed (size or time; content, for arrays): its whole batch is computed anew;
- photos added, removed or moved: the list is planned again, and batches that come out the same are kept;
- a photo had failed: it is tried again, and its batch is computed anew once it can be decoded and shows
  something;
- another batch size: finished batches are kept, the rest is planned again with the new size;
- another model, preprocessing, precision, size or dtype of descriptors: refused.

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

from dejavlad.errors import DejavladError, InputError
from dejavlad.extraction.describing import Describer, Stream, described, prepared_sizes
from dejavlad.extraction.manifest import Manifest, PhotoTable, Rows, Setting, batch_set
from dejavlad.extraction.seconds import Seconds
from dejavlad.extraction.shard import Shard, read_whole
from dejavlad.extraction.store import DONE, FAILED, NOT_YET, REASON_LOST, DescriptorStore
from dejavlad.extraction.writer import StoreWriter
from dejavlad.failures import NO_DESCRIPTOR, blank
from dejavlad.images import Preprocess, plan_batches, read_content, read_size
from dejavlad.names import Names
from dejavlad.photo import Photo, PhotoList
from dejavlad.progress import OnProgress, Progress, silent

if TYPE_CHECKING:
    from dejavlad.model import PatchSetting

LOOKING, DESCRIBING = "looking at photos", "describing photos"


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
    stream: Stream = described
    if ray is not None:
        from dejavlad.extraction.ray_cluster import RayCluster

        if getattr(model, "engine", None) is not None:
            raise InputError("the machines of a cluster run models by PyTorch; leave the runtime away")
        stream = RayCluster(ray).described
    _check(model, photos, batch_size)
    seconds = seconds if seconds is not None else Seconds()
    batch_size = _companions(model, batch_size)
    shard = Shard.of(shard)
    setting = Setting(
        getattr(model, "title", model.name),
        model.fingerprint,
        model.preprocess.to_dict(),
        model.precision,
        model.descriptor_size,
        dtype,
    )
    extra = None
    if patches is not None:
        from dejavlad.extraction.patches.making import PatchExtractor

        extra = PatchExtractor(model, patches, patch_dtype, Path(out) / "patches")
    with StoreWriter(Path(out)) as writer, extra or contextlib.nullcontext():
        known = writer.existing
        writer.require(shard)
        if known is not None:
            known.manifest.setting.check(setting, writer.path)
        known_table = None if known is None else known.manifest.table
        if known is not None and shard is not None:
            known_table = read_whole(writer.path).table
        listed = table = _look(model.preprocess, photos, known_table, on_progress)
        part = None
        if shard is not None:
            readable = np.flatnonzero(listed.sizes.all(axis=1))
            whole = Manifest(
                setting, listed, batch_size, _batches(model.preprocess, listed, readable, batch_size)
            )
            part, table = (shard, whole), shard.part(whole).table
        batches, state, old_rows = _plan(model.preprocess, table, batch_size, known, part)
        reasons: dict[int, str] = dict(table.unreadable)
        if known is not None:
            failed_before = np.flatnonzero(state == FAILED).tolist()
            why = list(known.failed.values())
            at = Names(known.failed).match([table.keys[row] for row in failed_before], loosely=False)
            reasons |= {row: why[i] for row, i in zip(failed_before, at, strict=True) if i is not None}
        state[list(table.unreadable)] = FAILED
        del known  # its rows may not stay mapped while files are replaced
        writer.begin(Manifest(setting, table, batch_size, batches), state, reasons, old_rows, part)
        done = int((state != NOT_YET).sum())
        without = np.zeros(len(table), bool) if extra is None else extra.missing(table) & (state != FAILED)
        if extra is not None and without.any():
            extra.prepare(listed, np.flatnonzero(listed.sizes.all(axis=1)))
        todo = [batch for batch in batches if (state[batch] == NOT_YET).any() or without[batch].any()]
        again = [row for batch in todo for row in batch if state[row] != NOT_YET]
        resumed = done = done - len(again)
        on_progress(Progress(DESCRIBING, done, len(table), resumed))
        for rows, values, failed in stream(model, table, todo, workers, extra, seconds):
            with seconds.of("write"):
                writer.put(rows, values, failed)
            done += len(rows) + len(failed)
            on_progress(Progress(DESCRIBING, done, len(table), resumed))
    store = DescriptorStore.open(out, shards=True)
    if not (allow_none or shard is not None or store.done.any()):
        raise none_described(photos.name, store.failed)
    return store


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
        photos: the list.
        batch_size: photos described together, at most.
        workers: threads that decode ahead.
        blank_too: be content where no photo could be described, but some can be read and show nothing.
        on_progress: called with reports of `LOOKING` and `DESCRIBING`.

    Returns:
        float32 [N, D] (zeros where a photo failed), and key -> reason of the photos that failed.

    Raises:
        InputError: as `extract`.
    """
    _check(model, photos, batch_size)
    batch_size = _companions(model, batch_size)
    table = _look(model.preprocess, photos, None, on_progress)
    batches, _, _ = _plan(model.preprocess, table, batch_size, None)
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


def _check(model: Describer, photos: PhotoList, batch_size: int) -> None:
    if not len(photos):
        raise InputError(f"{photos.name}: there are no photos to describe")
    if batch_size < 1:
        raise InputError(f"a batch needs at least one photo; given --batch-size {batch_size}")
    model.require_fitted()


def _companions(model: Describer, batch_size: int) -> int:
    """How many photos go through the network together."""
    apart = not getattr(model, "alone", True) and not getattr(model, "together", False)
    return 1 if apart else batch_size


def none_described(name: str, failed: dict[str, str]) -> InputError:
    """The error of a list of which no photo could be described, with one of the reasons."""
    key, reason = next(iter(failed.items()))
    return InputError(f"none of the {len(failed)} photos of {name} could be described; {key!r}: {reason}")


def _look(
    preprocess: Preprocess, photos: PhotoList, known: PhotoTable | None, on_progress: OnProgress
) -> PhotoTable:
    def size(photo: Photo) -> tuple[int, int]:
        height, width = read_size(photo, rotate=preprocess.rotate)
        preprocess.output_size(height, width)  # refuses a size it cannot make
        return height, width

    def report_row(row: int) -> None:
        if row % 100 == 0 or row == len(photos):
            on_progress(Progress(LOOKING, row, len(photos)))

    return PhotoTable.look(photos, size, known, report_row)


def _plan(
    preprocess: Preprocess,
    table: PhotoTable,
    batch_size: int,
    known: DescriptorStore | None,
    part: tuple[Shard, Manifest] | None = None,
) -> tuple[list[Rows], NDArray[np.uint8], Rows | None]:
    """Batches of all readable photos, what is there of them, and in which rows of `known` (None: same).

    Of a shard the batches are its share of the whole plan, which is always made anew.
    """
    n = len(table)
    state = np.zeros(n, np.uint8)
    readable = np.flatnonzero(table.sizes.all(axis=1))
    if known is None:
        if part is not None:
            return part[0].part(part[1]).batches, state, None
        return _batches(preprocess, table, readable, batch_size), state, None
    old_rows = table.rows_in(known.manifest.table)
    same_list = len(known) == n and np.array_equal(old_rows, np.arange(n))
    for row in np.flatnonzero(old_rows >= 0):
        if known.state[old_rows[row]] != FAILED:
            continue
        reason = known.failed[known.keys[int(old_rows[row])]]  # its key may have another Unicode form
        if reason == NO_DESCRIPTOR:
            continue
        if reason == REASON_LOST or _decodes(table.photos[int(row)], preprocess):
            old_rows[row] = -1
    # A photo's descriptor depends a little, by rounding, on the photos in its batch. A batch counts as
    # finished only if the same photos, unchanged, were described together: then the store ends as a fresh
    # run's would.
    finished = batch_set([b for b in known.manifest.batches if (known.state[b] != NOT_YET).all()])
    kept: list[Rows] = []
    # The same photos keep their plan; a new batch size applies to what is not described yet.
    if part is not None:
        batches = part[0].part(part[1]).batches
    elif same_list and not len(np.setdiff1d(readable, np.concatenate([*known.manifest.batches, [-1]]))):
        batches = known.manifest.batches
        if batch_size != known.manifest.batch_size:
            kept = [b for b in batches if b.tobytes() in finished and (old_rows[b] >= 0).all()]
            rest = np.setdiff1d(readable, np.concatenate([*kept, np.empty(0, np.int64)]))
            batches = kept + _batches(preprocess, table, rest, batch_size)
    else:
        batches = _batches(preprocess, table, readable, batch_size)
    for batch in batches:
        if old_rows[batch].tobytes() in finished:
            state[batch] = known.state[old_rows[batch]]
    moved = len(known) != n or bool((old_rows != np.arange(n))[state == DONE].any())
    return batches, state, old_rows if moved else None


def _batches(preprocess: Preprocess, table: PhotoTable, rows: Rows, batch_size: int) -> list[Rows]:
    sizes = prepared_sizes(preprocess, table)
    return [rows[batch] for batch in plan_batches([sizes[row] for row in rows], batch_size)]


def _decodes(photo: Photo, preprocess: Preprocess) -> bool:
    """Whether it can be read, and shows anything."""
    try:
        read_content(photo, rotate=preprocess.rotate)
    except DejavladError:
        return False
    return True
