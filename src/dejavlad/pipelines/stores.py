"""Stores of every kind that is written here: what is in one, and whether it is as it was written."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dejavlad.errors import StoreError
from dejavlad.extraction import DescriptorStore, is_bin, read_bin
from dejavlad.extraction.patches import PatchStore
from dejavlad.extraction.store import DONE
from dejavlad.places.address import is_address
from dejavlad.progress import OnProgress, silent

AT_ONCE = 1 << 22
"""Numbers that are looked at together."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A store that is as it was written."""

    store: str
    """Its path."""
    kind: str
    """What it is, in words."""
    photos: int
    """How many photos it is of."""
    checksums: bool
    """Whether all that it holds has checksums; what earlier versions and other programs wrote has none."""
    complete: bool = True
    """Whether every photo is described or has failed."""

    def __str__(self) -> str:
        text = f"{self.store}: {self.kind} of {self.photos} photos"
        text += ", all as they were written" if self.checksums else "; it has no checksums to compare with"
        return text + ("" if self.complete else "; it is not finished: run the same again")

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def check_store(path: Path | str, on_progress: OnProgress = silent) -> Checked:
    """Compare all that a store holds with its checksums.

    Args:
        path: a store of descriptors (with its patches), a shard, a store of patches, a map (also in a
            database, by its address), the frozen maps of a training run, or another program's ``.npy`` or
            ``.bin``.
        on_progress: told of rows that are compared.

    Raises:
        StoreError: something is not what was written, or there is no store.
    """
    from dejavlad.places.map_folder.state import is_map
    from dejavlad.places.stored_map import open_stored

    folder, name = Path(path), str(path)
    if is_address(path) or is_map(folder):
        town = open_stored(path)
        return Checked(name, "a map", len(town), town.check(on_progress))
    if (folder / "maps.bin").is_file() and (folder / "key.txt").is_file():
        from dejavlad.training.data.frozen_maps import check_frozen_maps

        photos, checksums = check_frozen_maps(folder)
        return Checked(name, "frozen maps", photos, checksums)
    if (folder / "photos.jsonl").is_file():
        patches = PatchStore.open(folder)
        return Checked(name, "patches", len(patches), patches.check())
    store = open_any(path)
    complete = store.complete
    if store.path is None or not store.path.is_dir():
        _check_finite(store, name)
        return Checked(name, "descriptors of another program", len(store), False)
    checksums, kind = store.check(on_progress), "descriptors"
    if (store.path / "patches" / "manifest.json").is_file():
        checksums &= PatchStore.open(store.path / "patches").check()
        kind = "descriptors and patches"
    if store.shard is not None:
        kind = f"shard {store.shard}, {kind},"
    return Checked(name, kind, len(store), checksums, complete)


def store_info(path: Path | str) -> dict[str, Any]:
    """What is in a store of descriptors or patches, in figures.

    Raises:
        StoreError: there is none, or it is damaged.
    """
    folder = Path(path)
    if (folder / "photos.jsonl").is_file():
        patches = PatchStore.open(folder)
        return {"kind": "patches", "photos": len(patches), **_patches_info(patches)}
    store = open_any(path)
    setting = store.manifest.setting
    described = int((store.marks == DONE).sum())
    info: dict[str, Any] = {
        "kind": "descriptors" if store.shard is None else f"shard {store.shard}",
        "photos": len(store),
        "described": described,
        "failed": len(store.reasons),
        "left": len(store) - described - len(store.reasons),
        "dims": setting.dims,
        "dtype": setting.dtype,
        "model": setting.model,
        "fingerprint": setting.fingerprint,
        "precision": setting.precision,
        "batch_size": store.manifest.batch_size,
        "list": store.photos.name,
    }
    if store.path is not None and (store.path / "patches" / "manifest.json").is_file():
        info |= {f"patch_{key}": value for key, value in _patches_info(PatchStore.open(store.path)).items()}
    return info


def open_any(path: Path | str) -> DescriptorStore:
    """A store of descriptors, a shard of one, or another program's file of them.

    Raises:
        StoreError: there is none, or it is damaged.
    """
    return read_bin(path) if is_bin(path) else DescriptorStore.open(path, shards=True)


def _patches_info(patches: PatchStore) -> dict[str, Any]:
    kind = patches.manifest
    return {"sizes": list(kind.sizes), "dims": kind.dims, "dtype": kind.dtype, "bytes": patches.bytes}


def _check_finite(store: DescriptorStore, name: str) -> None:
    step = max(1, AT_ONCE // store.dims)
    for first in range(0, len(store), step):
        bad = np.flatnonzero(~np.isfinite(store.rows[first : first + step]).all(axis=1))
        if len(bad):
            raise StoreError(f"{name!r} is damaged: row {first + int(bad[0])} is not finite; make it again")
