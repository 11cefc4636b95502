"""One store of all shards of a list, equal in every byte to the store that a single process writes.

All lists are compared before anything is written. Then patches, then rows are copied in the order of the
plan, photo by photo, each compared with its checksum; what is finished is kept, so that a merge that is
killed goes on where it was. Until its end the store says that it is not complete.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import StoreError, StoreMismatchError
from dejavlad.extraction.describing import Describer
from dejavlad.extraction.extract import extract, none_described
from dejavlad.extraction.manifest import Manifest
from dejavlad.extraction.merge_check import checked_shards, folder_of
from dejavlad.extraction.patches.store import PatchStore
from dejavlad.extraction.patches.writer import PatchWriter
from dejavlad.extraction.photo_table import Rows
from dejavlad.extraction.shard import SHARD, Shard
from dejavlad.extraction.store import DONE, FAILED, NOT_YET, DescriptorStore
from dejavlad.extraction.writer import StoreWriter
from dejavlad.files import sha256_of
from dejavlad.guarded.npy_file import read_array_header
from dejavlad.guarded.plain_file import open_regular
from dejavlad.photo import PhotoList
from dejavlad.progress import OnProgress, Progress, silent
from dejavlad.storage import discard, disk_errors
from dejavlad.storage.rows import row_checksum

MERGING_PATCHES, MERGING = "merging patches", "merging shards"
PATCHES = "patches"


def merge_stores(
    stores: Iterable[Path | str], out: Path | str, *, on_progress: OnProgress = silent
) -> DescriptorStore:
    """One store of all shards that `extract` made of a list; run again, it goes on where it was cut off.

    Photos that failed in a shard stay failed. The shards are left as they are. Memory holds the lists and one
    batch of rows.

    Args:
        stores: the folders of all shards, in any order.
        out: the store to make.
        on_progress: called with reports of `MERGING_PATCHES` and `MERGING`.

    Returns:
        The complete store, opened.

    Raises:
        StoreError: shards are missing, given twice, of another list, model or plan, or not finished: all of
            them are named; or one is damaged, or `out` cannot be written.
        StoreMismatchError: `out` holds something else.
        InputError: no photo of the whole list could be described.
    """
    folders, out = [Path(folder) for folder in stores], Path(out)
    if out.absolute() in [folder.absolute() for folder in folders]:
        raise StoreError(f"{str(out)!r} is one of the shards; give another --out")
    shards, whole = checked_shards(folders)
    patches = _patches(shards)
    with StoreWriter(out) as writer:
        known = writer.existing
        writer.require(None)
        state, reasons = np.zeros(len(whole.table), np.uint8), dict[int, str]()
        if known is not None:
            if known.manifest.to_json() != whole.to_json():
                raise StoreMismatchError(out, {"store": ("another list or model", "these shards")})
            state = known.marks.copy()
        places = [shard.shard.rows(whole) for shard in shards if shard.shard is not None]
        for shard, rows in zip(shards, places, strict=True):
            failed = np.flatnonzero(shard.marks == FAILED)
            reasons |= {int(rows[i]): shard.reasons[shard.keys[i]] for i in failed.tolist()}
            state[rows[failed]] = FAILED
        del known
        writer.begin(whole, state, reasons)
        if patches:
            _merge_patches(whole, shards, patches, out / PATCHES, on_progress)
        done = resumed = int((state != NOT_YET).sum())
        on_progress(Progress(MERGING, done, len(state), resumed))
        for number, batch in enumerate(whole.batches):
            at = number % len(shards)
            pending = batch[state[batch] == NOT_YET]
            if len(pending):
                writer.put(pending, _rows_of(shards[at], np.searchsorted(places[at], pending)), {})
                done += len(pending)
                on_progress(Progress(MERGING, done, len(state), resumed))
    store = DescriptorStore.open(out)
    if not (store.marks == DONE).any():
        raise none_described(whole.table.photos.name, store.reasons)
    return store


def extract_share(
    model: Describer, photos: PhotoList, out: Path, shard: Shard, **options: Any
) -> DescriptorStore:
    """Describe one share of a list into ``OUT.shards/I-of-N``, beside the store that `gather_shares` makes.

    Args:
        photos: the whole list.
        out: the store to be made in the end.
        options: of `extract`.
    """
    folder = _shares(out)
    folder.mkdir(parents=True, exist_ok=True)
    return extract(model, photos, folder / f"{shard.index}-of-{shard.count}", shard=shard, **options)


def gather_shares(out: Path, *, on_progress: OnProgress = silent) -> None:
    """Merge the shares that `extract_share` made for a store, where there are any, and clear them away.

    Raises:
        StoreError: see `merge_stores`.
    """
    folder = _shares(out)
    discard(_shares(out, ".merged"))
    shares = sorted(path.parent for path in folder.glob(f"*/{SHARD}")) if folder.is_dir() else []
    if not shares:
        return
    try:
        merge_stores(shares, out, on_progress=on_progress)
    except StoreError as error:
        raise StoreError(
            f"{error}. The shards lie in {str(folder)!r}; delete that folder to go on without them"
        ) from None
    drop_shares(out)


def drop_shares(out: Path) -> None:
    """Clear away the shares of a store, all of them at once, wherever the process is killed."""
    folder, merged = _shares(out), _shares(out, ".merged")
    discard(merged)
    if folder.exists():
        with disk_errors(folder):
            os.replace(folder, merged)
        discard(merged)


def _shares(out: Path, state: str = "") -> Path:
    return out.with_name(f"{out.name}.shards{state}")


def _rows_of(shard: DescriptorStore, rows: Rows) -> NDArray[Any]:
    """Some rows [n, D] of a shard, read from its file; StoreError where one is not what was written."""
    path, setting, sums = folder_of(shard) / "rows.npy", shard.manifest.setting, shard.sums
    values = np.empty((len(rows), setting.dims), setting.dtype)
    with open_regular(path) as file:
        read_array_header(file)
        start = file.tell()
        for i, row in enumerate(rows.tolist()):
            file.seek(start + row * values[i].nbytes)
            data = file.read(values[i].nbytes)
            if len(data) < values[i].nbytes or (sums is None or row_checksum(data) != sums[row]):
                raise StoreError(
                    f"{str(path)!r} is damaged: the row of {shard.keys[row]!r} is not what was written; "
                    "delete that shard and extract it again"
                )
            values[i] = np.frombuffer(data, setting.dtype)
    return values


def _patches(shards: Sequence[DescriptorStore]) -> list[PatchStore]:
    """The patches of each shard; none where no shard has any.

    Raises:
        StoreError: some shards have patches and some have none, or not all, or they were made otherwise.
    """
    made = [(folder_of(shard) / PATCHES / "manifest.json").is_file() for shard in shards]
    if not any(made):
        return []
    if not all(made):
        names = ", ".join(str(s.shard) for s, has in zip(shards, made, strict=True) if not has)
        raise StoreError(f"cannot merge: shards {names} have no patches; run them again with --patches")
    stores = [PatchStore.open(folder_of(shard) / PATCHES) for shard in shards]
    for shard, patches in zip(shards, stores, strict=True):
        stores[0].manifest.check(patches.manifest, stores[0].path)
        table = shard.manifest.table
        for row in np.flatnonzero(shard.marks == DONE).tolist():
            entry = patches.entries.get(table.keys[row])
            if entry is None or entry.identity != table.identity(row):
                raise StoreError(
                    f"cannot merge: {str(patches.path)!r} has no patches of {table.keys[row]!r}; run shard "
                    f"{shard.shard} again with --patches"
                )
    learnt = [path for path in (patches.path / "centres.npy" for patches in stores) if path.is_file()]
    if len({sha256_of(path) for path in learnt}) > 1:
        raise StoreError(
            "cannot merge: product quantisation was learnt to other centres on another kind of machine; "
            "extract with --patch-dtype int8, or all shards on machines of one kind"
        )
    return stores


def _merge_patches(
    whole: Manifest,
    shards: Sequence[DescriptorStore],
    stores: Sequence[PatchStore],
    folder: Path,
    on_progress: OnProgress,
) -> None:
    """The patches of all shards in the order of the plan."""
    with ExitStack() as stack:
        writer = stack.enter_context(PatchWriter(folder, stores[0].manifest))
        codec = next((p.codec for p in stores if p.entries), stores[0].codec)
        if writer.codec is None:
            writer.learn(codec.centres)  # type: ignore[attr-defined]  # product quantisation alone is learnt
        planned = [(number, row) for number, batch in enumerate(whole.batches) for row in batch.tolist()]
        for done, (number, row) in enumerate(planned, 1):
            at, key = number % len(shards), whole.table.keys[row]
            entry = stores[at].entries.get(key)
            if entry is None or writer.has(key, whole.table.identity(row)):
                continue
            if entry.identity == whole.table.identity(row):
                writer.put_encoded(entry, stores[at].encoded(entry))
            on_progress(Progress(MERGING_PATCHES, done, len(planned)))
