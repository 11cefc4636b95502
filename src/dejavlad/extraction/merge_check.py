"""Whether shards make one whole store; everything that is wrong with them is told at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dejavlad.errors import StoreError, StoreMismatchError
from dejavlad.extraction.manifest import Manifest
from dejavlad.extraction.shard import WHOLE, read_whole
from dejavlad.extraction.store import NOT_YET, DescriptorStore
from dejavlad.files import sha256_of

NAMED = 8
"""Shards that a message names one by one, at most."""


def checked_shards(folders: Sequence[Path]) -> tuple[list[DescriptorStore], Manifest]:
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
    extractions = [(_count(store), sha256_of(folder_of(store) / WHOLE)) for store in shards]
    if not shards:
        raise StoreError("; ".join(wrong))
    extraction = Counter(extractions).most_common(1)[0][0]
    chosen = [store for store, own in zip(shards, extractions, strict=True) if own == extraction]
    whole = read_whole(folder_of(chosen[0]))
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
    other = read_whole(folder_of(store))
    try:
        whole.setting.check(other.setting, folder_of(first))
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


def _count(store: DescriptorStore) -> int:
    return store.shard.count if store.shard is not None else 0


def folder_of(store: DescriptorStore) -> Path:
    """Where a shard lies."""
    assert store.path is not None
    return store.path
