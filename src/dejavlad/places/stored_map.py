"""A map as it lies on disk: what is done with it without its model, which needs no torch.

Legend: N photos of the map.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dejavlad.errors import CheckpointError, InputError, StoreError, StoreMismatchError, UnknownNameError
from dejavlad.guarded.fields import DAMAGED
from dejavlad.model.spec import WEIGHTS, check_weights, read_spec
from dejavlad.names import Names
from dejavlad.photo import PhotoList
from dejavlad.places.address import is_address
from dejavlad.places.info import MapInfo
from dejavlad.places.map_folder.index import MapIndex
from dejavlad.places.map_folder.moving import Moved
from dejavlad.places.map_folder.snapshot import MapSnapshot
from dejavlad.places.map_folder.state import DEAD_BYTES, DEAD_SHARE, STATE, MapState, is_map
from dejavlad.places.verification.map_features import MapFeatures
from dejavlad.progress import OnProgress, silent
from dejavlad.storage import MappedRows, one_writer

if TYPE_CHECKING:
    from dejavlad.places.databases.database_features import DatabaseFeatures
    from dejavlad.places.databases.database_map import DatabaseMap

MAYBE_DEPENDENT = ("cricavpr", "supervlad")
"""Heads that may be batch-dependent, which is seen once they are made."""


class StoredMap:
    """A map without its model: it is looked at, checked, moved, and photos are taken out of it.

    Args:
        folder: the map, or where a database's files lie on this disk.
        dims: the descriptors' size.
        model: its model's title and fingerprint.
        database: where the map lies instead.
    """

    def __init__(
        self, folder: Path, dims: int, model: tuple[str, str], database: DatabaseMap | None = None
    ) -> None:
        self.folder = folder
        self.address = str(folder) if database is None else str(database.address)
        """The folder, or where its database is."""
        self.features: MapFeatures | DatabaseFeatures
        """The local features that the map keeps, if any."""
        self.features = MapFeatures(folder) if database is None else database.features
        self.index = None if database else MapIndex(folder, dims, model[1])
        """The search index of a map in a folder."""
        self._dims, self._model = dims, model
        self._state = database or MapState(folder, dims)
        self.refresh()

    def refresh(self) -> None:
        """Take in what another process has added or removed since."""
        snapshot = self._state.snapshot()
        if snapshot.head.dims != self._dims:
            hint = "Its model was changed after it was built; build it anew in another folder."
            raise StoreMismatchError(self.address, {"dims": (snapshot.head.dims, self._dims)}, hint)
        self._show(snapshot)
        self._state.validate(snapshot)

    def _read_rows(self) -> None:
        """Read the rows for the first time; where the map was compacted before that, those of now."""
        if isinstance(self._state, MapState):
            try:
                self.snapshot.file_rows  # noqa: B018  (kept from now on)
            except StoreError:
                self.refresh()

    @property
    def snapshot(self) -> MapSnapshot:
        """The map as of the last `refresh`, whose photos and positions are read as they are needed."""
        return self._snapshot

    @property
    def photos(self) -> PhotoList:
        """The photos of the map, in the order in which they came."""
        return self.snapshot.photos

    @property
    def failed(self) -> dict[str, str]:
        """Key -> reason, of the photos that could not be described, or show nothing (see `failures`)."""
        return self.snapshot.failed

    def __len__(self) -> int:
        return self.snapshot.head.photos

    def info(self) -> MapInfo:
        """What is in the map, in figures."""
        index = None if self.index is None else self.index.head()
        return MapInfo.of(
            self.address, self._model, self.snapshot, self.features.kind(), self._state.bytes(), index
        )

    def remove(self, names: Sequence[str]) -> int:
        """Take photos out of the map by their keys, however written (`dejavlad.names`).

        The files of the photos stay where they are.

        Returns:
            How many were removed.

        Raises:
            UnknownNameError: the map has no such photo; nothing is removed.
            StoreBusyError: another process is writing there.
        """
        with self._changing():
            self.refresh()
            self._state.convert()
            keys = self._keys_of(names)
            self._state.remove(keys)
            self._refresh_compacted()
            self.features.keep(self.snapshot.row_numbers.tolist())
        return len(keys)

    def move(self, old: str | Path, new: str | Path) -> Moved:
        """Photos that lay at `old` (a file, or a folder with all below it) lie at `new` now.

        Nothing is described anew: a file of the same size counts as the same photo. Names in the map stay,
        but for photos that moved within the folder that their names are relative to.

        Raises:
            InputError: no photo of the map lies at `old`, nothing is at `new`, or two would share a name.
            StoreBusyError: another process is writing there.
        """
        with self._changing():
            self._state.convert()
            moved = self._state.move(Path(old), Path(new))
            self.refresh()
        return moved

    def compact(self) -> int:
        """Free the rows of photos that were removed or described anew; `remove` and `add` do it by themselves
        once more than half of the rows, and 4 MB, are of no photo.

        Returns:
            How many bytes were freed.

        Raises:
            StoreBusyError: another process is writing there.
        """
        if not isinstance(self._state, MapState):
            raise InputError(f"{self.address} keeps its own disk in order; compact a map in a folder")
        with self._changing():
            self._state.convert()
            return self._compact(self._state)

    def check(self, on_progress: OnProgress = silent) -> bool:
        """Compare all numbers of the map, and its model's weights, with their checksums.

        Returns:
            Whether there are any: a map of format 1 has none until it is changed.

        Raises:
            CheckpointError: the model's weights are not what was written.
            StoreError: something else is not.
        """
        if (self.folder / "model" / WEIGHTS).is_file():
            check_weights(self.folder / "model")
        self.features.check()
        return self._state.check(on_progress)

    def _show(self, snapshot: MapSnapshot) -> None:
        """Be the map as of that moment."""
        self._snapshot = snapshot

    def _release(self) -> None:
        """Let go of the file of rows: one that is mapped cannot be removed on Windows."""
        del self._snapshot

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Hold the map's lock; a version of a map in a database cannot be changed."""
        if not isinstance(self._state, MapState):
            self._state.address.refuse_version()
        with one_writer(self.folder):
            yield

    def _keys_of(self, names: Sequence[str]) -> set[str]:
        """The keys of photos that the map holds, or that failed, by their names, however written.

        Raises:
            UnknownNameError: the map has no such photo.
        """
        records, failed = self._state.lookup(names), self.failed
        keys = {name for name in names if name in records or name in failed}
        if unknown := [name for name in names if name not in keys]:
            known = [*self.photos.keys, *failed]
            written_otherwise = Names(known)
            for name in unknown:
                row = written_otherwise.find(name)
                if row is None:
                    listed = f"it has {len(known):,} names, which `dejavlad map info MAP --json` lists"
                    raise UnknownNameError("photo in the map", name, known, listed=listed)
                keys.add(known[row])
        return keys

    def _compact(self, state: MapState, share: float = 0.0, least_bytes: int = 1) -> int:
        self._release()
        try:
            freed = state.compact(share=share, least_bytes=least_bytes)
        finally:
            self.refresh()
        if freed:
            self._follow(None, silent)
        return freed

    def _refresh_compacted(self) -> None:
        """Take in the map as it is now, its rows compacted where that is worth it."""
        if not isinstance(self._state, MapState):
            self.refresh()
            return
        with contextlib.suppress(StoreError):  # a full disk, say: the map is whole without it
            self._compact(self._state, DEAD_SHARE, DEAD_BYTES)

    def _follow(
        self, index: str | None, on_progress: OnProgress, *, check: bool = False, least: float = 0.0
    ) -> None:
        """Bring the index up to the photos."""
        rows = self.snapshot.file_rows
        if self.index is not None and isinstance(rows, MappedRows):
            self.index.follow(rows, self.snapshot.rows, index, on_progress, check=check, least=least)


def refuse_no_map(where: str | Path) -> None:
    """Raises StoreError where no finished map lies in a folder; addresses of databases are passed over."""
    if is_address(where) or is_map(Path(where)):
        return
    hint = "make one with `dejavlad map build PHOTOS --out MAP`"
    if (Path(where) / "model.json").exists():
        hint = "it was never finished; run the same `dejavlad map build` again"
    raise StoreError(f"there is no map at {str(where)!r}: {hint}")


def open_stored(where: str | Path) -> StoredMap:
    """A map that describes nothing: without its model, where it lies in a folder.

    Args:
        where: the map's folder, or the address of a database.

    Raises:
        StoreError: there is no map, it was never finished, or what it says of itself is damaged; weights and
            rows are not read (`StoredMap.check` reads all).
    """
    refuse_no_map(where)
    folder = Path(where)
    model = _model_of(folder / "model") if (folder / STATE).is_file() else None
    if model is None:
        from dejavlad.places.place_map import PlaceMap

        return PlaceMap.open(where, device="cpu")
    return StoredMap(folder, MapState(folder, 0).snapshot().head.dims, model)


def _model_of(folder: Path) -> tuple[str, str] | None:
    """A model's title and fingerprint; None where these are seen only once it is made, or it is damaged."""
    try:
        fields = read_spec(folder)
        if not (folder / WEIGHTS).is_file():
            return None  # opening it says what is wrong
        name, fingerprint = str(fields["name"]), str(fields["fingerprint"])
        return None if fields["aggregation"]["name"] in MAYBE_DEPENDENT else (name, fingerprint)
    except (CheckpointError, *DAMAGED):
        return None
