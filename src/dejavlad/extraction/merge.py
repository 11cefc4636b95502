"""One store of all shards of a list, equal in every byte to the store that a single process writes.

All lists are compared before anything is written. Then patches, then rows are copied in the order of the
plan, photo by photo, each compared with its checksum; what is finished is kept, so that a merge that is
killed goes on where it was. Until its end the store says that it is not complete.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import StoreError, StoreMismatchError
from dejavlad.extraction.describing import Describer
from dejavlad.extraction.extract import extract, none_described
from dejavlad.extraction.manifest import Manifest
from dejavlad.extraction.patches.store import PatchStore
from dejavlad.extraction.patches.writer import PatchWriter
from dejavlad.extraction.photo_table import Rows
from dejavlad.extraction.shard import SHARD, WHOLE, Shard, read_whole
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
NAMED = 8
"""Shards that a message names one by one, at most."""


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
    shards, whole = _checked(folders)
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
            todo = batch[state[batch] == NOT_YET]
            if len(todo):
                writer.put(todo, _rows_of(shards[at], np.searchsorted(places[at], todo)), {})
                done += len(todo)
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
        model: a fitted model.
        photos: the whole list.
        out: the store to be made in the end.
        shard: which share.
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
    discard(folder.with_name(folder.name + ".merged"))
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
    folder = _shares(out)
    merged = folder.with_name(folder.name + ".merged")
    discard(merged)
    if folder.exists():
        with disk_errors(folder):
            os.replace(folder, merged)
        discard(merged)


def _shares(out: Path) -> Path:
    return out.with_name(out.name + ".shards")


def _checked(folders: Sequence[Path]) -> tuple[list[DescriptorStore], Manifest]:
    """The shards in their order, and the manifest of the whole.

    Raises:
        StoreError: they do not make one whole store; everything that is wrong is told at once.
    """
    if not folders:
        raise StoreError("give the shards to merge: `dejavlad store merge SHARD... --out STORE`")
    opened = [DescriptorStore.open(folder, shards=True) for folder in dict.fromkeys(folders)]
    wrong = [
        f"{str(store.path)!r} is a whole store, not a shard (`dejavlad extract ... --shard I/N` makes those)"
        for store in opened
        if store.shard is None
    ]
    shards = [store for store in opened if store.shard is not None]
    extractions = [(_count(store), sha256_of(_folder(store) / WHOLE)) for store in shards]
    if not shards:
        raise StoreError("; ".join(wrong))
    extraction = Counter(extractions).most_common(1)[0][0]
    chosen = [store for store, own in zip(shards, extractions, strict=True) if own == extraction]
    whole = read_whole(_folder(chosen[0]))
    for store, own in zip(shards, extractions, strict=True):
        if own != extraction:
            wrong.append(f"{str(store.path)!r} is shard {store.shard} of another extraction: ")
            wrong[-1] += _difference(store, chosen[0], whole)
    by_index: dict[int, DescriptorStore] = {}
    for store in chosen:
        index = store.shard.index if store.shard is not None else 0
        if index in by_index:
            first = str(by_index[index].path)
            wrong.append(f"shard {store.shard} is given twice, as {first!r} and as {str(store.path)!r}")
        by_index.setdefault(index, store)
        if store.shard is not None and store.keys != store.shard.part(whole).table.keys:
            wrong.append(f"{str(store.path)!r} is damaged: its photos are not those of shard {store.shard}")
        if (store.marks == NOT_YET).any():
            left = int((store.marks == NOT_YET).sum())
            wrong.append(
                f"shard {store.shard} in {str(store.path)!r} is not finished, {left} photos are left: run "
                "its `dejavlad extract` again"
            )
    count = extraction[0]
    missing = [index for index in range(1, count + 1) if index not in by_index]
    if missing:
        names = ", ".join(map(str, missing[:NAMED]))
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        verb = "shard {} is" if len(missing) == 1 else "shards {} are"
        wrong.append(
            f"{verb.format(names + more)} missing of {count}: `dejavlad extract {whole.setting.model} "
            f"PHOTOS --shard {missing[0]}/{count} --out STORE`, and give all of them"
        )
    if wrong:
        raise StoreError("cannot merge: " + "; ".join(wrong))
    return [by_index[index] for index in sorted(by_index)], whole


def _difference(store: DescriptorStore, first: DescriptorStore, whole: Manifest) -> str:
    """In what a shard differs from the first of those that most are like, in words."""
    lead = f"unlike {str(first.path)!r}"
    if _count(store) != _count(first):
        return f"of {_count(store)} shards, {lead} of {_count(first)}"
    other = read_whole(_folder(store))
    try:
        whole.setting.check(other.setting, _folder(first))
    except StoreMismatchError as error:
        parts = [f"{name} {now!r}, not {then!r}" for name, (then, now) in error.differences.items()]
        return f"{', '.join(parts)}, {lead}"
    if other.setting.model != whole.setting.model:
        return f"its model is called {other.setting.model!r}, not {whole.setting.model!r}, {lead}"
    if other.batch_size != whole.batch_size:
        return f"--batch-size {other.batch_size}, not {whole.batch_size}, {lead}"
    table, first_table = other.table, whole.table
    if table.keys != first_table.keys:
        apart = sorted(set(table.keys) ^ set(first_table.keys))
        return (
            f"a list of {len(table)} photos, not {len(first_table)}"
            + (f", {apart[0]!r} is in one alone" if apart else ", in another order")
            + f", {lead}"
        )
    unlike = [row for row in range(len(table)) if table.identity(row) != first_table.identity(row)]
    if unlike:
        return (
            f"{len(unlike)} photos have another size or time, e.g. {table.keys[unlike[0]]!r}, {lead} (let "
            "all machines read the same files, or copies that keep their times: `cp -a`, `rsync -a`)"
        )
    unread = np.flatnonzero((table.sizes != first_table.sizes).any(axis=1))
    if len(unread):
        return f"{len(unread)} photos could be read in one alone, e.g. {table.keys[int(unread[0])]!r}, {lead}"
    if table.photos.root.absolute() != first_table.photos.root.absolute():
        return f"photos in {str(table.photos.root)!r}, not in {str(first_table.photos.root)!r}, {lead}"
    return f"other positions, paths or plan, {lead}"


def _rows_of(shard: DescriptorStore, rows: Rows) -> NDArray[Any]:
    """Some rows [n, D] of a shard, read from its file.

    Raises:
        StoreError: one is not what was written.
    """
    path, setting = _folder(shard) / "rows.npy", shard.manifest.setting
    values = np.empty((len(rows), setting.dims), setting.dtype)
    with open_regular(path) as file:
        read_array_header(file)
        start = file.tell()
        for i, row in enumerate(rows.tolist()):
            file.seek(start + row * values[i].nbytes)
            data = file.read(values[i].nbytes)
            if len(data) < values[i].nbytes or row_checksum(data) != _sum(shard, row):
                raise StoreError(
                    f"{str(path)!r} is damaged: the row of {shard.keys[row]!r} is not what was written; "
                    "delete that shard and extract it again"
                )
            values[i] = np.frombuffer(data, setting.dtype)
    return values


def _sum(shard: DescriptorStore, row: int) -> int:
    return int(shard.sums[row]) if shard.sums is not None else -1


def _patches(shards: Sequence[DescriptorStore]) -> list[PatchStore]:
    """The patches of each shard; none where no shard has any.

    Raises:
        StoreError: some shards have patches and some have none, or not all, or they were made otherwise.
    """
    made = [(_folder(shard) / PATCHES / "manifest.json").is_file() for shard in shards]
    if not any(made):
        return []
    if not all(made):
        names = ", ".join(str(s.shard) for s, has in zip(shards, made, strict=True) if not has)
        raise StoreError(f"cannot merge: shards {names} have no patches; run them again with --patches")
    stores = [PatchStore.open(_folder(shard) / PATCHES) for shard in shards]
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
    total = sum(map(len, whole.batches))
    with ExitStack() as stack:
        writer = stack.enter_context(PatchWriter(folder, stores[0].manifest))
        codec = next((p.codec for p in stores if p.entries), stores[0].codec)
        if writer.codec is None:
            writer.learn(codec.centres)  # type: ignore[attr-defined]  # product quantisation alone is learnt
        for done, (number, row) in enumerate(_planned(whole)):
            at, key = number % len(shards), whole.table.keys[row]
            entry = stores[at].entries.get(key)
            if entry is None or writer.has(key, whole.table.identity(row)):
                continue
            if entry.identity == whole.table.identity(row):
                writer.put_encoded(entry, stores[at].encoded(entry))
            on_progress(Progress(MERGING_PATCHES, done + 1, total))


def _planned(whole: Manifest) -> Iterator[tuple[int, int]]:
    """The number of each batch with each of its rows, in the order in which they are described."""
    for number, batch in enumerate(whole.batches):
        for row in batch.tolist():
            yield number, row


def _folder(store: DescriptorStore) -> Path:
    assert store.path is not None
    return store.path


def _count(store: DescriptorStore) -> int:
    return store.shard.count if store.shard is not None else 0
