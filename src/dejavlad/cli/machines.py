"""What `map build` and `evaluate` share of work over machines: stores as photos, and answers of shards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dejavlad.cli.options import MachineOptions
from dejavlad.cli.sources import PhotoOptions
from dejavlad.cli.terminal import Output
from dejavlad.errors import InputError
from dejavlad.failures import failures_dict

if TYPE_CHECKING:
    from dejavlad.extraction import DescriptorStore, Shard
    from dejavlad.photo import PhotoList


def stored_photos(
    given: str, machines: MachineOptions, sources: PhotoOptions, panorama: str | None
) -> tuple[PhotoList, DescriptorStore] | None:
    """The photos of a store of descriptors, with their positions, and the store; None where it is no store.

    Raises:
        InputError: options that are for photos that are yet to be described.
        StoreError: it is damaged, not complete, or a shard.
    """
    from dejavlad.extraction import DescriptorStore

    if not (Path(given) / "manifest.json").is_file():
        return None
    store = DescriptorStore.open(given)
    if machines.shard is not None or machines.ray is not None or panorama is not None:
        raise InputError(
            f"{given!r} is a store, whose photos are described already: leave --shard, --ray and --panorama "
            "out, or give them to `dejavlad extract`"
        )
    if not store.complete:
        raise InputError(f"{given!r} is not complete; run its `dejavlad extract` or `store merge` again")
    return sources.of_store(store), store


def answer_shard(output: Output, shard: Shard, stores: Sequence[DescriptorStore], verb: str) -> None:
    """Say what a shard has described, and how the whole is made."""
    described = sum(int(store.done.sum()) for store in stores)
    failed = {key: reason for store in stores for key, reason in store.failed.items()}
    document = {
        "shard": str(shard),
        "stores": [str(store.path) for store in stores],
        "described": described,
        **failures_dict(failed),
    }
    output.answer(
        document,
        f"shard {shard}: {described} photos described; once all {shard.count} are, run the same "
        f"`dejavlad {verb}` without --shard",
    )
    output.failures(failed)
