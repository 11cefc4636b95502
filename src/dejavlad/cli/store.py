"""`dejavlad store`: shards of an extraction to one store, and what is in a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from dejavlad.cli.terminal import Output
from dejavlad.failures import failures_dict

app = App(name="store", help="Stores of descriptors and patches: merge shards, look at them, check them.")


@app.command
def merge(
    stores: Annotated[list[Path], Parameter(name="SHARD", negative=())],
    /,
    *,
    out: Path,
    output: Output = Output(),
) -> None:
    """Make one store of all shards of an extraction; run it again and it goes on where it stopped.

    The store equals in every byte what one process would have written. The shards are left as they are. A
    model that was learnt for them (`SHARD.model`) is copied to `OUT.model`.

    Examples:

        dejavlad store merge town.1 town.2 town.3 town.4 --out town.desc

    Parameters
    ----------
    stores
        The stores that `dejavlad extract ... --shard I/N` made, all of them, in any order.
    out
        The store to make, a folder.
    """
    from dejavlad.extraction import merge_stores
    from dejavlad.extraction.shard_model import copy_fitted

    with output.progress() as on_progress:
        store = merge_stores(stores, out, on_progress=on_progress)
        copy_fitted(stores[0], out)
    described = int(store.done.sum())
    output.answer(
        {
            "store": str(out),
            "shards": len(stores),
            "photos": len(store),
            "described": described,
            **failures_dict(store.failed),
        },
        f"{described} of {len(store)} photos described, {store.dims} dims, from {len(stores)} shards: {out}",
    )
    output.failures(store.failed)


@app.command
def info(store: Annotated[str, Parameter(name="STORE")], /, *, output: Output = Output()) -> None:
    """What is in a store: photos, model, how far it is.

    Example: `dejavlad store info town.desc`

    Parameters
    ----------
    store
        A store of descriptors or of patches, a shard, or another program's `.npy` or `.bin`.
    """
    from dejavlad.pipelines.stores import store_info

    description = store_info(store)
    lines = [f"{name.replace('_', ' ')}: {value}" for name, value in description.items()]
    output.answer(description, "\n".join(lines))


@app.command
def check(
    stores: Annotated[list[str], Parameter(name="STORE", negative=())], /, *, output: Output = Output()
) -> None:
    """Compare all numbers of stores with their checksums: are they as they were written?

    Status 1 with the first that is not. Knows stores of descriptors and patches, shards, maps, and the frozen
    maps of a training run; files of other programs have no checksums, and are looked through for numbers
    that are not finite.

    Example: `dejavlad store check town.desc`

    Parameters
    ----------
    stores
        One or more of these folders and files.
    """
    from dejavlad.pipelines.stores import check_store

    reports = []
    with output.progress() as on_progress:
        for store in stores:
            reports.append(check_store(store, on_progress))
    output.answer([report.to_dict() for report in reports], "\n".join(map(str, reports)))
