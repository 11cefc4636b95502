"""Where a map lies, in a folder or a database: it is opened there, or made ready to be built."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from dejavlad.errors import InputError, UnknownNameError
from dejavlad.model import PlaceModel
from dejavlad.photo import PhotoList
from dejavlad.places.address import is_address
from dejavlad.places.databases.database_map import MADE, DatabaseMap, no_map
from dejavlad.places.databases.row_copy import FOLDER as COPY
from dejavlad.places.fitted_model import fit_cached
from dejavlad.places.map_folder.features_state import FILE as LOCAL
from dejavlad.places.map_folder.index import FOLDER as INDEX
from dejavlad.places.map_folder.index import KINDS as INDEXES
from dejavlad.places.map_folder.rows import SHARES, STAGING, refuse_batch_dependent
from dejavlad.places.map_folder.snapshot import ROW_FILES
from dejavlad.places.map_folder.state import OLD_STATE, STATE
from dejavlad.places.stored_map import refuse_no_map
from dejavlad.progress import OnProgress
from dejavlad.storage import one_writer, refuse_others
from dejavlad.zoo import default_model, load_model

FILES = {
    *(OLD_STATE, f"{OLD_STATE}.partial"),
    *(
        state + ending
        for state in (STATE, LOCAL)
        for ending in ("", "-journal", ".partial", ".partial-journal")
    ),
    *(*ROW_FILES, INDEX, COPY, MADE, STAGING, *SHARES, "writer.lock", "photos"),
    *("model", ".model.partial", ".model.before", "model.json", "model.json.partial"),
}
"""All that a map's folder may hold."""


def open_model(where: str | Path, **options: Any) -> tuple[Path, PlaceModel, DatabaseMap | None]:
    """The folder of a map, its model, and the database if it lies in one; see `PlaceMap.open`.

    Args:
        options: for `dejavlad.load_model`.

    Raises:
        StoreError: there is no map, or it was never finished.
    """
    refuse_no_map(where)
    database, folder = DatabaseMap(str(where)) if is_address(where) else None, Path(where)
    if database is not None:
        if not database.fetch():
            raise no_map(str(where))
        folder = database.work
    return folder, load_model(folder / "model", **options), database


def build_site(
    out: str | Path, photos: PhotoList, index: str | None, min_recall: float | None
) -> tuple[Path, DatabaseMap | None]:
    """The folder in which a map is built, and the database where it lies in one.

    Args:
        out: the folder, or the address of a database.

    Raises:
        InputError: no photos, an index of a database's map, or a recall that is no share.
        UnknownNameError: no such index.
    """
    if not len(photos):
        raise InputError("a map needs at least one photo; given none")
    database = DatabaseMap(str(out)) if is_address(out) else None
    if database is not None and (index is not None or min_recall is not None):
        raise InputError(
            "the rows of a map in a database are compared exactly; --index and --min-recall are for maps "
            "in a folder"
        )
    if index is not None and index not in INDEXES:
        raise UnknownNameError("index", index, INDEXES)
    if min_recall is not None and not 0 <= min_recall <= 1:
        raise InputError(f"--min-recall {min_recall:g}: give a share of 0 to 1")
    return (Path(out), None) if database is None else (database.work, database)


@contextlib.contextmanager
def building(
    model: PlaceModel | str | Path | None,
    photos: PhotoList,
    folder: Path,
    database: DatabaseMap | None,
    *,
    seed: int,
    workers: int,
    on_progress: OnProgress,
) -> Iterator[PlaceModel]:
    """Hold the lock of a map that is being built, with the fitted model that lies in it.

    Args:
        model: as `PlaceMap.build` takes it.
        photos: what it learns from.
        folder: the map, or where a database's files lie on this disk.
        database: where the map lies instead; made there with the first build.

    Raises:
        InputError: the model is batch-dependent.
        StoreMismatchError: the map was begun from another model, other photos or another seed.
    """
    model = default_model()[0] if model is None else model
    base = model if isinstance(model, PlaceModel) else load_model(model, seed=seed)
    refuse_batch_dependent(base)
    exists = database is not None and database.prepare()
    folder.mkdir(parents=True, exist_ok=True)
    with one_writer(folder), nullcontext() if database is None else database.named():
        refuse_others(folder, FILES, "a map")
        fitted = fit_cached(
            base, photos, folder / "model", seed=seed, workers=workers, on_progress=on_progress
        )
        fitted.together = base.together
        if database is not None and not exists:
            database.create(fitted.fingerprint, fitted.descriptor_size, photos.root, photos.name)
        yield fitted
