"""The model that was learnt for a shard, ``SHARD.model``, as that of the merged store."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from dejavlad.files import write_whole
from dejavlad.guarded.plain_file import read_bytes
from dejavlad.storage import discard


def copy_fitted(store: Path, out: Path) -> Path | None:
    """Copy the model that was learnt for a shard, ``STORE.model``, beside the merged store, if there is one.

    Returns:
        The model folder; None where there is none.
    """
    source, target = (path.with_name(path.name + ".model") for path in (store, out))
    if not (source / "spec.json").exists():
        return None
    if not (target / "spec.json").exists():
        partial = target.with_name(f"{target.name}.partial")
        discard(partial)
        shutil.copytree(source, partial)
        note = source.with_name(source.name + ".json")
        if note.exists():
            write_whole(target.with_name(target.name + ".json"), read_bytes(note))
        os.replace(partial, target)
    return target
