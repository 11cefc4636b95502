"""What is in a map: its photos, the row of each in ``rows.bin``, and the photos that could not be read.

It lies in ``map.sqlite`` (see `dejavlad.storage`); each change is one transaction, and costs the same however
many photos there are. Maps of format 1 have a ``map.json`` instead, which is read as it is;
the first change gives them the new form.

Legend: N photos of the map, D the descriptor's size.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError, StoreError
from dejavlad.extraction import PhotoTable
from dejavlad.places.map_folder.catalogue import Catalogue
from dejavlad.places.map_folder.moving import Moved, MovingPhotos
from dejavlad.places.map_folder.records import FAILED, Records, folder_of, records_of
from dejavlad.places.map_folder.snapshot import ROW_FILES, Head, MapSnapshot, Rows
from dejavlad.progress import OnProgress, Progress, silent
from dejavlad.storage import MappedRows, PhotoRecord, RowFile, State, photo_blocks, sync_folder
from dejavlad.storage.kept_rows import KeptRows, refuse_dropped
from dejavlad.storage.rows import CHUNKS
from dejavlad.storage.state import put_values

STATE, OLD_STATE = "map.sqlite", "map.json"
KIND, VERSION, COMPACTED = "dejavlad-map", 2, 3
"""Maps whose rows were written anew have the later version."""
DEAD_SHARE, DEAD_BYTES = 0.5, 4 << 20
"""Rows are written anew by themselves where more than this share, and so many bytes, are of no photo."""
AGAIN = "build the map again"
CHECKING = "checking rows"


class MapState:
    """Reads and changes what is in a map. One writer at a time: the caller holds the folder's lock.

    Args:
        folder: the map.
        dims: D.
    """

    def __init__(self, folder: Path, dims: int) -> None:
        self.folder, self.dims = folder, dims
        tables = (*photo_blocks.TABLES, CHUNKS, FAILED)
        self.state = State(folder / STATE, KIND, VERSION, tables, AGAIN, COMPACTED)

    def file(self, head: Head) -> RowFile:
        """The file of rows."""
        return RowFile(self.folder / head.file_name, self.dims, AGAIN)

    def snapshot(self) -> MapSnapshot:
        """The map as it is now.

        Raises:
            StoreError: it is damaged, or of a later version.
        """
        if not self.state.exists():
            return self._old_snapshot()
        state, head = self.state, self._head()

        def rows() -> MappedRows:
            with self._reading() as records:
                self._refuse_other_file(records, head)
                file = self.file(head)
                return MappedRows(file, head.file_rows, file.chunks(records.connection), head.compactions)

        def in_file(rows: Rows) -> Rows:
            if not head.compactions:
                return rows
            with self._reading() as records:
                self._refuse_other_file(records, head)
                kept = KeptRows.read(state, records.connection, head.kept, head.kept_until)
            return refuse_dropped(state, kept, rows)

        def numbers() -> photo_blocks.Numbers:
            with self._reading() as records:
                return photo_blocks.all_numbers(state, records.connection, records.head.records)

        def texts(block: int) -> photo_blocks.Texts:
            with state.reading() as connection:
                return next(photo_blocks.read_blocks(state, connection, [block]))[2]

        return MapSnapshot(head, rows, numbers, texts, self._failed, in_file)

    def _refuse_other_file(self, records: Records, head: Head) -> None:
        if records.head.compactions != head.compactions:
            raise StoreError(
                f"the rows of {str(self.folder)!r} were written anew since it was opened; open it again "
                "(`PlaceMap.refresh`)"
            )

    def change(self) -> int:
        """How often the map was changed; 0 for one of format 1."""
        return self._head().change if self.state.exists() else 0

    def places_of(self, snapshot: MapSnapshot, keys: Sequence[str]) -> dict[str, int]:
        """Key -> where it stands in the snapshot's photos, of those keys that it has."""
        if not self.state.exists():
            known = {snapshot.photo(row).key: row for row in range(snapshot.head.photos)}
            return {key: known[key] for key in keys if key in known}
        with self.state.reading() as connection:
            places = photo_blocks.places_of(connection, keys)
        rows = np.searchsorted(snapshot.places, np.fromiter(places.values(), np.int64, len(places)))
        return {
            key: row
            for (key, place), row in zip(places.items(), rows.tolist(), strict=True)
            if row < len(snapshot.places) and snapshot.places[row] == place
        }

    def validate(self, snapshot: MapSnapshot) -> None:
        """Refuse a file of rows that is cut short.

        Raises:
            StoreError: it is.
        """
        self.file(snapshot.head).map(snapshot.head.file_rows)

    def bytes(self) -> int:
        """Size of the folder on disk."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    def convert(self) -> None:
        """Take on the form of this version; killed anywhere, the map is in one form or the other."""
        old = self.folder / OLD_STATE
        if self.state.exists():
            old.unlink(missing_ok=True)
        elif old.exists():
            self._change(lambda records: None)

    def lookup(self, keys: Sequence[str]) -> dict[str, tuple[int, PhotoRecord]]:
        """Key -> place and record, of those photos that are in the map."""
        if not self.state.exists():
            return {}
        with self._reading() as records:
            return records.lookup(keys)

    def add(self, table: PhotoTable, rows_MD: NDArray[Any], chosen: Rows, failed: dict[str, str]) -> None:
        """Add photos with their rows; where a key is there already, the new photo takes its place.

        Args:
            table: the photos; the root and the name of the map's first list are the map's.
            rows_MD: where their descriptors come from.
            chosen: the row of each there.
            failed: key -> reason, of photos that could not be described.
        """
        self.convert()
        added = records_of(table)
        if len(chosen):
            now = self._head() if self.state.exists() else Head(self.dims)
            self.file(now).append(now.file_rows, rows_MD, chosen)

        def apply(records: Records) -> None:
            records.retire([*(record.photo.key for record in added), *failed])
            head = records.head
            if not head.records:
                head = replace(head, name=table.photos.name)
            if not head.root and any(not record.identity[2] for record in added):
                head = replace(head, root=folder_of(table.photos.root))
            if added:
                self.file(head).note(records.connection, head.file_rows, head.file_rows + len(added))
            records.head = head
            records.append(added)
            records.put_failed(failed)

        self._change(apply)

    def remove(self, keys: Iterable[str]) -> None:
        """Take photos out, and forget those that failed."""
        gone = list(keys)
        self._change(lambda records: records.retire(gone))

    def update(self, facts: Mapping[int, PhotoRecord]) -> None:
        """Other facts of some photos, by place; their keys and rows stay."""
        self._change(lambda records: records.rewrite(facts))

    def move(self, old: Path, new: Path) -> Moved:
        """Photos at `old` or below it lie at `new` now.

        Raises:
            InputError: no photo lies there, none of the new files is there, or two photos would share a name.
        """
        moving = MovingPhotos(old, new, rename=True)
        moved: list[Moved] = []

        def apply(records: Records) -> None:
            facts: dict[int, PhotoRecord] = {}
            renamed: dict[str, tuple[str, int]] = {}
            for place, record in records:
                now = moving(record)
                if now is not None:
                    facts[place] = now
                    if now.photo.key != record.photo.key:
                        renamed[record.photo.key] = now.photo.key, place
            moved.append(moving.result(records.head.root))
            taken = photo_blocks.places_of(records.connection, [key for key, _ in renamed.values()])
            for key, (after, _) in renamed.items():
                if after in taken and after not in renamed:
                    raise InputError(f"{key!r} would become {after!r}, which the map holds already")
            root = Path(records.head.root)
            if records.head.root and root.is_relative_to(moving.old):
                root = moving.new / root.relative_to(moving.old)
                records.head = replace(records.head, root=root.as_posix())
            records.rewrite(facts)
            records.rename(renamed)

        self._change(apply)
        return moved[0]

    def check(self, on_progress: OnProgress = silent) -> bool:
        """Compare all that lies on disk with its checksums.

        Returns:
            Whether there are any: maps of earlier versions have none until they are changed.

        Raises:
            StoreError: something is not what was written.
        """
        if not self.state.exists():
            self._old_snapshot().file_rows.all()
            return False
        with self._reading() as records:
            self.state.check(records.connection)
            head = records.head
            file = self.file(head)
            chunks = file.chunks(records.connection)
            KeptRows.read(self.state, records.connection, head.kept, head.kept_until)
            records.check_names()
            records.failed()
        mapped, count = MappedRows(file, head.file_rows, chunks), head.file_rows
        for first in range(0, count, file.chunk_rows):
            mapped.take(np.array([first]))
            on_progress(Progress(CHECKING, min(first + file.chunk_rows, count), count))
        return True

    def compact(self, *, share: float = 0.0, least_bytes: int = 1) -> int:
        """Write the rows of the photos that are there into a new file; killed anywhere, the map is whole.

        The new file is on the disk before the one transaction that tells of it; the old one goes after that.

        Args:
            share: do it where more than this share of the rows is of no photo,
            least_bytes: and so many bytes.

        Returns:
            How many bytes were freed.
        """
        if not self.state.exists():
            return 0
        snapshot = self.snapshot()
        head, old = snapshot.head, self.file(snapshot.head)
        for name in ROW_FILES:  # what a run that was cut off left
            if name != head.file_name:
                _remove_if_possible(self.folder / name)
        rows, dead = snapshot.rows, head.file_rows - head.photos
        freed = dead * old.row_bytes
        if not dead or dead <= share * head.file_rows or freed < least_bytes:
            return 0
        kept = KeptRows(snapshot.row_numbers, head.rows)
        after = replace(head, compactions=head.compactions + 1, kept=len(rows), kept_until=head.rows)
        new = self.file(after)
        new.append(0, snapshot.file_rows.all(), rows)
        sync_folder(self.folder)
        del snapshot  # its rows may not stay mapped where their file goes

        def apply(records: Records) -> None:
            records.connection.execute("DELETE FROM chunks")
            new.note(records.connection, 0, len(rows))
            kept.write(records.connection)
            put_values(records.connection, {"version": COMPACTED})
            records.head = after

        self._change(apply)
        _remove_if_possible(old.path)
        return freed

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Records]:
        with self.state.reading() as connection:
            yield Records(self.state, connection)

    def _head(self) -> Head:
        with self._reading() as records:
            return records.head

    def _failed(self) -> dict[str, str]:
        with self._reading() as records:
            return records.failed()

    def _change(self, apply: Callable[[Records], None]) -> None:
        """One transaction, which counts as one change; a state that is not there yet is made."""

        def change(records: Records) -> None:
            apply(records)
            records.head = replace(records.head, change=records.head.change + 1)
            records.put_head()

        if self.state.exists():
            with self.state.writing() as connection:
                change(Records(self.state, connection))
            return
        self.state.create(lambda connection: change(self._take_over(connection)))
        (self.folder / OLD_STATE).unlink(missing_ok=True)

    def _take_over(self, connection: sqlite3.Connection) -> Records:
        """Fill a new state from that of an earlier version, where there is one."""
        records = Records(self.state, connection, Head(self.dims))
        if (self.folder / OLD_STATE).exists():
            catalogue = self._old_catalogue()
            records.head, numbers, texts = catalogue.encoded()
            photo_blocks.append(connection, self.state, 0, numbers, texts, catalogue.table.keys)
            records.put_failed(catalogue.failed)
            file, rows = self.file(records.head), records.head.rows
            file.map(rows)  # refuses a file that is cut short
            if rows:
                file.note(connection, 0, rows)
        return records

    def _old_snapshot(self) -> MapSnapshot:
        catalogue = self._old_catalogue()
        head, numbers, texts = catalogue.encoded()
        rows = MappedRows(self.file(head), head.rows, None)
        size = photo_blocks.BLOCK
        return MapSnapshot(
            head,
            lambda: rows,
            lambda: numbers,
            lambda block: texts[block * size : (block + 1) * size],
            lambda: catalogue.failed,
        )

    def _old_catalogue(self) -> Catalogue:
        """What a map of format 1 holds, less photos that show nothing, whose rows of zeros it may have."""
        old = self.folder / OLD_STATE
        if not old.exists():
            return Catalogue.empty(self.dims)
        catalogue = Catalogue.load(old)
        if catalogue.without_zeros or catalogue.dims != self.dims:
            return catalogue
        return catalogue.leave_out_zeros(self.file(Head(self.dims)).map(catalogue.n_rows))


def is_map(folder: Path) -> bool:
    """Whether a map lies there, of this version or an earlier one."""
    return (folder / STATE).is_file() or (folder / OLD_STATE).is_file()


def _remove_if_possible(path: Path) -> None:
    """Remove a file of rows; one that a reader has mapped stays on Windows, and goes with the next change."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
