"""Where the rows of a map come from: described here or on a cluster, in shards, or stored already.

Photos that are added are described aside, in ``MAP/extracting``, where a run that is cut off goes on; shards
of a map lie beside that, in ``MAP/extracting.shards``, until `PlaceMap.build` makes one store of them.

Legend: N photos, D the model's descriptor size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError, StoreBusyError, StoreError, StoreMismatchError
from dejavlad.extraction import DescriptorStore, PhotoTable, Shard, extract
from dejavlad.extraction.describing import setting_of
from dejavlad.extraction.merge import extract_share, gather_shares
from dejavlad.extraction.writer import StoreWriter
from dejavlad.model import PlaceModel
from dejavlad.model.checkpoint import is_model
from dejavlad.model.spec import read_spec
from dejavlad.photo import PhotoList
from dejavlad.places.address import is_address
from dejavlad.places.fitted_model import fit_cached
from dejavlad.progress import OnProgress, silent
from dejavlad.storage import discard, one_writer
from dejavlad.zoo import load_model

STAGING, SHARES = "extracting", ("extracting.shards", "extracting.shards.merged")

Part = tuple[PhotoTable, NDArray[Any], NDArray[np.int64], dict[str, str]]
"""Photos, rows, the row of each photo, and the photos that failed."""


@dataclass(frozen=True, slots=True)
class RowOptions:
    """How the photos of a map are described."""

    batch_size: int = 8
    """Photos described at once."""
    workers: int = 0
    """Threads that decode photos."""
    ray: str | None = None
    """The Ray cluster that describes them; None for this process."""
    descriptors: DescriptorStore | None = None
    """Rows that are there already; photos that it lacks, or that have changed since, are described."""


def rows_of(
    model: PlaceModel,
    photos: PhotoList,
    staging: Path,
    options: RowOptions,
    *,
    allow_none: bool = False,
    on_progress: OnProgress = silent,
) -> Iterator[Part]:
    """The rows of photos, in one part or two.

    Args:
        model: the map's.
        photos: what to describe.
        staging: the folder in which photos are described aside.
        options: how.
        allow_none: be content where no photo could be described.
        on_progress: called with each step.

    Raises:
        StoreMismatchError: the descriptors that are there are of another model.
    """
    if options.descriptors is not None:
        stored = options.descriptors
        check_model(stored, model)
        table = PhotoTable.look(photos, lambda _: (0, 0), stored.manifest.table)
        rows = table.rows_in(stored.manifest.table)
        taken = np.flatnonzero((rows >= 0) & stored.done[rows])
        same = {table.keys[i]: stored.keys[rows[i]] for i in np.flatnonzero(rows >= 0).tolist()}
        failed = {key: stored.failed[name] for key, name in same.items() if name in stored.failed}
        yield table.take(taken), stored.rows, rows[taken], failed
        photos = photos.take(np.flatnonzero(rows < 0))
        if not len(photos):
            return
        allow_none = True
    gather_shares(staging, on_progress=on_progress)
    store = _described_aside(model, photos, staging, options, allow_none, on_progress)
    done = np.flatnonzero(store.done)
    yield store.manifest.table.take(done), store.rows, done, store.failed


def check_model(store: DescriptorStore, model: PlaceModel) -> None:
    """Refuse descriptors that another model made, or the same with other options.

    Raises:
        StoreMismatchError: they are.
    """
    made = store.manifest.setting
    made.check(setting_of(model, made.dtype), store.path or Path("these descriptors"))


def build_share(
    model: PlaceModel,
    photos: PhotoList,
    out: Path | str,
    shard: Shard,
    *,
    batch_size: int = 8,
    workers: int = 0,
    seed: int = 0,
    ray: str | None = None,
    on_progress: OnProgress = silent,
) -> DescriptorStore:
    """Describe one share of a map's photos; once all are described, `PlaceMap.build` makes the map of them.

    Several processes may do that at once for one map, each its share; `out` lies where all of them see it.
    What the model learns from photos, the first of them learns from the whole list.

    Args:
        model: as `PlaceMap.build` takes it, and so the others.
        photos: the whole list.
        out: the map's folder.
        shard: which share.
        batch_size: photos described at once.
        workers: threads that decode photos.
        seed: of what is learnt.
        ray: describe on a Ray cluster.
        on_progress: called with each step.

    Raises:
        InputError: a model that is batch-dependent, or no photos.
        StoreMismatchError: `out` was begun from another model, other photos or another seed.
    """
    if is_address(out):
        raise InputError(
            f"shards of a map lie beside it in a folder of all machines, and {str(out)!r} is a database: "
            "use `dejavlad extract --shard I/N --out STORE`, `dejavlad store merge`, and then `dejavlad map "
            f"build STORE --out {out}`; or `dejavlad map add` on each machine"
        )
    refuse_batch_dependent(model)
    folder, together = Path(out), model.together
    folder.mkdir(parents=True, exist_ok=True)
    with one_writer(folder, wait=True):
        model = fit_cached(
            model, photos, folder / "model", seed=seed, workers=workers, on_progress=on_progress
        )
    model.together = together
    return extract_share(
        model,
        photos,
        folder / STAGING,
        shard,
        batch_size=batch_size,
        workers=workers,
        ray=ray,
        on_progress=on_progress,
    )


def refuse_batch_dependent(model: PlaceModel) -> None:
    """Refuse a model whose descriptors depend on chance, unless that is wanted.

    Raises:
        InputError: it is one.
    """
    if not model.alone and not model.together:
        raise InputError(
            f"model {model.name!r} is batch-dependent: what it says of a photo depends on the photos "
            "described beside it, so that its maps depend on chance; take another model, or insist with "
            "--batch-dependent (model.together = True)"
        )


def model_of_store(store: DescriptorStore, **options: Any) -> PlaceModel:
    """The model that made a store: the one kept beside it, as ``STORE.model`` or (by `dejavlad loops` and
    `evaluate`) as ``model``, else by its name.

    Raises:
        StoreMismatchError: the model of that name is another one now.
    """
    path, made = store.path, store.manifest.setting
    source: str | Path = made.model
    if path is not None:
        beside, own = path.with_name("model"), path.with_name(path.name + ".model")
        if is_model(own):
            source = own
        elif is_model(beside) and read_spec(beside).get("fingerprint") == made.fingerprint:
            source = beside  # any model may be called so, in a folder of several stores
    model = load_model(source, **options)
    model.require_fitted()
    check_model(store, model)
    return model


def _described_aside(
    model: PlaceModel,
    photos: PhotoList,
    staging: Path,
    options: RowOptions,
    allow_none: bool,
    on_progress: OnProgress,
) -> DescriptorStore:
    def described() -> DescriptorStore:
        return extract(
            model,
            photos,
            staging,
            batch_size=options.batch_size,
            workers=options.workers,
            allow_none=allow_none,  # photos that failed before are tried again
            ray=options.ray,
            on_progress=on_progress,
        )

    _throw_away_unless_usable(staging)
    try:
        return described()
    except StoreMismatchError:  # left by a run at another precision
        discard(staging)
        return described()


def _throw_away_unless_usable(staging: Path) -> None:
    """What an earlier run described aside is taken up; half-cleared or damaged, it goes."""
    if not staging.exists():
        return
    try:
        with StoreWriter(staging):
            pass
    except StoreBusyError:
        raise
    except StoreError:
        discard(staging)
