"""What is in a map: its photos, the row of each in ``rows.bin``, and the photos that could not be read.

It lies in ``map.sqlite`` (see `dejavlad.storage`); each change is one transaction, and costs the same however
many photos there are. Maps of format 1 have a ``map.json`` instead, which is read as it is;
the first change gives them the new form.

Legend: N photos of the map, D the descriptor's size.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError, StoreError
from dejavlad.extraction import PhotoTable
from dejavlad.files import size_and_time
from dejavlad.geo import Positions
from dejavlad.photo import Photo, PhotoList
from dejavlad.places.map_folder.catalogue import Catalogue
from dejavlad.progress import OnProgress, Progress, silent
from dejavlad.storage import MappedRows, PhotoRecord, RowFile, State, photo_blocks, sync_folder
from dejavlad.storage.kept_rows import KeptRows, refuse_dropped
from dejavlad.storage.rows import CHUNKS
from dejavlad.storage.state import checksum, put_values

STATE, OLD_STATE, ROWS = "map.sqlite", "map.json", "rows.bin"
ROW_FILES = (ROWS, "rows.2.bin")
"""Names that the file of rows has by turns."""
KIND, VERSION, COMPACTED = "dejavlad-map", 2, 3
"""Maps whose rows were written anew have the later version."""
DEAD_SHARE, DEAD_BYTES = 0.5, 4 << 20
"""Rows are written anew by themselves where more than this share, and so many bytes, are of no photo."""
FAILED = "CREATE TABLE failed(key BLOB PRIMARY KEY, reason TEXT NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID"
AGAIN = "build the map again"
CHECKING = "checking rows"
REMEMBERED_BLOCKS = 64

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Head:
    """The map in a few numbers; all that is read when it is opened."""

    dims: int
    """D."""
    root: str = ""
    """The folder that photos' paths are relative to."""
    name: str = "map"
    """What the list of photos is called."""
    change: int = 0
    """Counts the changes."""
    records: int = 0
    """Photos that were ever added."""
    photos: int = 0
    """N."""
    with_position: int = 0
    """How many of them have a position."""
    rows: int = 0
    """Rows that were ever added; what lies past them in the file was never finished."""
    compactions: int = 0
    """How often the file of rows was written anew, without those of removed photos."""
    kept: int = 0
    """Rows at the file's beginning, whose numbers the state holds (see `dejavlad.storage.kept_rows`)."""
    kept_until: int = 0
    """The number of the row behind them."""

    @property
    def file_rows(self) -> int:
        """Rows in the file."""
        return self.kept + self.rows - self.kept_until

    @property
    def file_name(self) -> str:
        """The file of rows."""
        return ROW_FILES[self.compactions % 2]

    def to_dict(self) -> dict[str, Any]:
        """For the state; earlier versions read it as long as the file was never written anew."""
        fields = asdict(self)
        if not self.compactions:
            del fields["compactions"], fields["kept"], fields["kept_until"]
        return fields


@dataclass(frozen=True, slots=True)
class Moved:
    """What `PlaceMap.move` did."""

    photos: int
    """Photos that lie elsewhere now."""
    missing: tuple[str, ...]
    """Keys of those whose new file is not there."""
    changed: tuple[str, ...]
    """Keys of those whose new file has another size: the next `add` describes them anew."""


class MapRows(Protocol):
    """The descriptors of a map: those of a file, or of a database."""

    def __len__(self) -> int: ...

    def all(self) -> NDArray[Any]:
        """All rows [N, D]."""
        ...

    def take(self, rows: Rows, /) -> NDArray[Any]:
        """Some rows [n, D], in memory."""
        ...


class MapSnapshot:
    """A map as of one moment; photos, positions and rows are read when they are asked for."""

    def __init__(
        self,
        head: Head,
        rows: Callable[[], MapRows],
        numbers: Callable[[], photo_blocks.Numbers],
        texts: Callable[[int], photo_blocks.Texts],
        failed: Callable[[], dict[str, str]],
        in_file: Callable[[Rows], Rows] = lambda rows: rows,
    ) -> None:
        self.head, self._read_rows, self._read_numbers = head, rows, numbers
        self._in_file = in_file
        self._read_texts, self._read_failed = texts, failed
        self._texts: dict[int, photo_blocks.Texts] = {}

    @cached_property
    def file_rows(self) -> MapRows:
        """All rows of the file, removed photos' among them."""
        return self._read_rows()

    @cached_property
    def places(self) -> Rows:
        """[N] the place of each photo's record."""
        return np.flatnonzero(self._alive)

    @cached_property
    def numbers(self) -> photo_blocks.Numbers:
        """[N] numbers of each photo."""
        return self._records[self._alive]

    @cached_property
    def row_numbers(self) -> Rows:
        """[N] the number of each photo's row, ascending; it never changes."""
        return np.asarray(self.numbers["row"], np.int64)

    @cached_property
    def rows(self) -> Rows:
        """[N] where in the file the row of each photo lies, ascending."""
        return self._in_file(self.row_numbers)

    @cached_property
    def positions(self) -> Positions:
        """Where the photos were taken."""
        known = (self.numbers["known"] & photo_blocks.POSITION) > 0
        east_north = np.stack([self.numbers["east"], self.numbers["north"]], axis=1).astype(np.float64)
        east_north[~known] = np.nan
        names, zones = np.unique(self.numbers["zone"], return_inverse=True)
        decoded = [name.decode() or None for name in names.tolist()]
        return Positions(east_north, [decoded[i] for i in zones.tolist()])

    @cached_property
    def failed(self) -> dict[str, str]:
        """Key -> reason, of the photos that could not be described."""
        return self._read_failed()

    @cached_property
    def photos(self) -> PhotoList:
        """The photos, in the order in which they came."""
        return PhotoList(
            map(self.photo, range(len(self.places))), root=Path(self.head.root), name=self.head.name
        )

    def photo(self, i: int) -> Photo:
        """One of `photos`, without the others."""
        return self.record(i).photo

    def record(self, i: int) -> PhotoRecord:
        """One of the photos, with what identifies its pixels."""
        place = int(self.places[i])
        block, within = divmod(place, photo_blocks.BLOCK)
        if block not in self._texts:
            if len(self._texts) >= REMEMBERED_BLOCKS:
                self._texts.pop(next(iter(self._texts)))
            self._texts[block] = self._read_texts(block)
        text = self._texts[block][within]
        return photo_blocks.decode(self.numbers[i], text, Path(self.head.root))

    @cached_property
    def _records(self) -> photo_blocks.Numbers:
        return self._read_numbers()[: self.head.records]

    @cached_property
    def _alive(self) -> NDArray[np.bool_]:
        records, change = self._records, self.head.change
        alive: NDArray[np.bool_] = (records["added"] <= change) & (records["removed"] > change)
        return alive


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
            with state.reading() as connection:
                self._refuse_other_file(connection, head)
                file = self.file(head)
                return MappedRows(file, head.file_rows, file.chunks(connection), head.compactions)

        def in_file(rows: Rows) -> Rows:
            if not head.compactions:
                return rows
            with state.reading() as connection:
                self._refuse_other_file(connection, head)
                kept = KeptRows.read(state, connection, head.kept, head.kept_until)
            return refuse_dropped(state, kept, rows)

        def numbers() -> photo_blocks.Numbers:
            with state.reading() as connection:
                count = self._head_of(connection).records
                return photo_blocks.all_numbers(state, connection, count)

        def texts(block: int) -> photo_blocks.Texts:
            with state.reading() as connection:
                return next(photo_blocks.read_blocks(state, connection, [block]))[2]

        return MapSnapshot(head, rows, numbers, texts, self._failed, in_file)

    def _refuse_other_file(self, connection: sqlite3.Connection, head: Head) -> None:
        if self._head_of(connection).compactions != head.compactions:
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
            self._change(lambda connection, head: head)

    def lookup(self, keys: Sequence[str]) -> dict[str, tuple[int, PhotoRecord]]:
        """Key -> place and record, of those photos that are in the map."""
        if not self.state.exists():
            return {}
        with self.state.reading() as connection:
            return self._lookup(connection, self._head_of(connection), keys)

    def add(self, table: PhotoTable, rows_MD: NDArray[Any], chosen: Rows, failed: dict[str, str]) -> None:
        """Add photos with their rows; where a key is there already, the new photo takes its place.

        Args:
            table: the photos; the root and the name of the map's first list are the map's.
            rows_MD: where their descriptors come from.
            chosen: the row of each there.
            failed: key -> reason, of photos that could not be described.
        """
        self.convert()
        records = records_of(table)
        if len(chosen):
            now = self._head() if self.state.exists() else Head(self.dims)
            self.file(now).append(now.file_rows, rows_MD, chosen)

        def apply(connection: sqlite3.Connection, head: Head) -> Head:
            keys = [record.photo.key for record in records]
            head = self._retire(connection, head, [*keys, *failed])
            if not head.records:
                head = replace(head, name=table.photos.name)
            if not head.root and any(not record.identity[2] for record in records):
                head = replace(head, root=Path(os.path.abspath(table.photos.root)).as_posix())
            rows = range(head.rows, head.rows + len(records))
            if len(records):
                self.file(head).note(connection, head.file_rows, head.file_rows + len(records))
            numbers, texts = photo_blocks.encode(records, rows, head.change + 1, Path(head.root))
            photo_blocks.append(connection, self.state, head.records, numbers, texts, keys)
            _put_failed(connection, failed)
            return replace(
                head,
                records=head.records + len(records),
                photos=head.photos + len(records),
                with_position=head.with_position + sum(r.photo.position is not None for r in records),
                rows=rows.stop,
            )

        self._change(apply)

    def remove(self, keys: Iterable[str]) -> None:
        """Take photos out, and forget those that failed."""
        gone = list(keys)
        self._change(lambda connection, head: self._retire(connection, head, gone))

    def update(self, facts: dict[int, PhotoRecord]) -> None:
        """Other facts of some photos, by place; their keys and rows stay."""

        def apply(connection: sqlite3.Connection, head: Head) -> Head:
            change = self._rewrite(connection, head, facts)
            return replace(head, with_position=head.with_position + change)

        self._change(apply)

    def move(self, old: Path, new: Path) -> Moved:
        """Photos at `old` or below it lie at `new` now.

        Raises:
            InputError: no photo lies there, none of the new files is there, or two photos would share a name.
        """
        old, new = (Path(os.path.abspath(path)) for path in (old, new))
        moved: list[str] = []
        missing: list[str] = []
        changed: list[str] = []

        def apply(connection: sqlite3.Connection, head: Head) -> Head:
            before = Path(head.root)
            facts: dict[int, PhotoRecord] = {}
            renamed: dict[str, tuple[str, int]] = {}
            for place, record in self._records(connection, head):
                photo = record.photo
                path = Path(os.path.abspath(photo.path))
                if record.identity[2] or not path.is_relative_to(old):
                    continue
                after = new / path.relative_to(old)
                name = _moved_name(photo.name, path, old, after)
                now = replace(photo, path=after, name=name)
                moved.append(now.key)
                stat = file_status(after)
                identity = record.identity
                if stat is None:
                    missing.append(now.key)
                elif stat[0] == identity[0]:
                    identity = (*stat, "")
                else:
                    changed.append(now.key)
                facts[place] = replace(record, photo=now, identity=identity)
                if now.key != photo.key:
                    renamed[photo.key] = now.key, place
            if not moved:
                raise InputError(
                    f"no photo of the map lies in {str(old)!r}; they lie in {head.root or 'memory'!r}"
                )
            if len(missing) == len(moved):
                raise InputError(
                    f"none of the {len(moved)} photos is there, e.g. {str(_first_path(facts))!r}"
                )
            taken = photo_blocks.places_of(connection, [key for key, _ in renamed.values()])
            for key, (after_key, _) in renamed.items():
                if after_key in taken and after_key not in renamed:
                    raise InputError(f"{key!r} would become {after_key!r}, which the map holds already")
            root = new / before.relative_to(old) if before.is_relative_to(old) else before
            if not head.root:
                root = before
            head = replace(head, root=root.as_posix() if head.root else "")
            self._rewrite(connection, head, facts)
            connection.executemany(
                "DELETE FROM keys WHERE key=?", [(photo_blocks.encode_key(key),) for key in renamed]
            )
            connection.executemany(
                "INSERT INTO keys VALUES (?, ?)",
                [(photo_blocks.encode_key(key), place) for key, place in renamed.values()],
            )
            return head

        self._change(apply)
        return Moved(len(moved), tuple(missing), tuple(changed))

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
        with self.state.reading() as connection:
            self.state.check(connection)
            head = self._head_of(connection)
            file = self.file(head)
            chunks = file.chunks(connection)
            KeptRows.read(self.state, connection, head.kept, head.kept_until)
            places = dict(self._keys(connection, head))
            if len(places) != head.photos:
                raise self.state.damaged(f"it holds {len(places)} photos, not {head.photos}")
            kept = {
                bytes(key): int(place) for key, place in connection.execute("SELECT key, place FROM keys")
            }
            if kept != {photo_blocks.encode_key(key): place for key, place in places.items()}:
                raise self.state.damaged("the list of names is not that of the photos")
        self._failed()
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

        def apply(connection: sqlite3.Connection, _: Head) -> Head:
            connection.execute("DELETE FROM chunks")
            new.note(connection, 0, len(rows))
            kept.write(connection)
            put_values(connection, {"version": COMPACTED})
            return after

        self._change(apply)
        _remove_if_possible(old.path)
        return freed

    def _head(self) -> Head:
        with self.state.reading() as connection:
            return self._head_of(connection)

    def _head_of(self, connection: sqlite3.Connection) -> Head:
        values = self.state.value(connection, "map")
        try:
            return Head(**values)
        except TypeError as error:
            raise self.state.damaged(error) from None

    def _failed(self) -> dict[str, str]:
        reasons = {}
        with self.state.reading() as connection:
            for key, reason, crc in connection.execute("SELECT key, reason, crc FROM failed ORDER BY key"):
                if checksum(key, reason) != crc:
                    raise self.state.damaged("the checksum of a photo that failed is wrong")
                reasons[key.decode("utf-8", "surrogatepass")] = reason
        return reasons

    def _change(self, apply: Callable[[sqlite3.Connection, Head], Head]) -> None:
        """One transaction: `apply` changes the tables and returns the new head."""

        def change(connection: sqlite3.Connection, head: Head) -> None:
            after = replace(apply(connection, head), change=head.change + 1)
            put_values(connection, {"map": after.to_dict()})

        if self.state.exists():
            with self.state.writing() as connection:
                change(connection, self._head_of(connection))
            return
        self.state.create(lambda connection: change(connection, self._take_over(connection)))
        (self.folder / OLD_STATE).unlink(missing_ok=True)

    def _take_over(self, connection: sqlite3.Connection) -> Head:
        """Fill a new state from that of an earlier version, where there is one."""
        old = self.folder / OLD_STATE
        head = Head(self.dims)
        if old.exists():
            catalogue = self._old_catalogue()
            head, numbers, texts = _from_catalogue(catalogue)
            photo_blocks.append(connection, self.state, 0, numbers, texts, catalogue.table.keys)
            _put_failed(connection, catalogue.failed)
            file = self.file(head)
            file.map(head.rows)  # refuses a file that is cut short
            if head.rows:
                file.note(connection, 0, head.rows)
        put_values(connection, {"map": head.to_dict()})
        return head

    def _old_snapshot(self) -> MapSnapshot:
        catalogue = self._old_catalogue()
        head, numbers, texts = _from_catalogue(catalogue)
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

    def _retire(self, connection: sqlite3.Connection, head: Head, keys: Sequence[str]) -> Head:
        """Take photos of these keys out, and forget that they failed."""
        places = sorted(photo_blocks.places_of(connection, keys).values())
        lines, with_position = {}, 0
        for number, numbers, texts in self._blocks(connection, places):
            for place in _of_block(places, number):
                line = numbers[place % photo_blocks.BLOCK].copy()
                line["removed"] = head.change + 1
                with_position += int(line["known"] & photo_blocks.POSITION > 0)
                lines[place] = line, texts[place % photo_blocks.BLOCK]
        photo_blocks.change(connection, self.state, lines)
        encoded = [(photo_blocks.encode_key(key),) for key in keys]
        connection.executemany("DELETE FROM keys WHERE key=?", encoded)
        connection.executemany("DELETE FROM failed WHERE key=?", encoded)
        return replace(
            head, photos=head.photos - len(places), with_position=head.with_position - with_position
        )

    def _rewrite(self, connection: sqlite3.Connection, head: Head, facts: dict[int, PhotoRecord]) -> int:
        """Write records at their places anew; returns how many more have a position now."""
        lines, more = {}, 0
        by_place = sorted(facts)
        for number, numbers, _ in self._blocks(connection, by_place):
            chosen = _of_block(by_place, number)
            before = [numbers[p % photo_blocks.BLOCK] for p in chosen]
            records = [facts[p] for p in chosen]
            fresh, texts = photo_blocks.encode(records, [0] * len(records), 0, Path(head.root))
            for place, old, new, text in zip(chosen, before, fresh, texts, strict=True):
                for name in ("row", "added", "removed"):
                    new[name] = old[name]
                more += int(new["known"] & photo_blocks.POSITION > 0)
                more -= int(old["known"] & photo_blocks.POSITION > 0)
                lines[place] = new, text
        photo_blocks.change(connection, self.state, lines)
        return more

    def _blocks(
        self, connection: sqlite3.Connection, places: Sequence[int]
    ) -> Iterable[tuple[int, photo_blocks.Numbers, photo_blocks.Texts]]:
        numbers = sorted({place // photo_blocks.BLOCK for place in places})
        return photo_blocks.read_blocks(self.state, connection, numbers)

    def _lookup(
        self, connection: sqlite3.Connection, head: Head, keys: Sequence[str]
    ) -> dict[str, tuple[int, PhotoRecord]]:
        places = photo_blocks.places_of(connection, keys)
        by_block: dict[int, list[tuple[str, int]]] = {}
        for key, place in places.items():
            by_block.setdefault(place // photo_blocks.BLOCK, []).append((key, place))
        records = {}
        for number, numbers, texts in photo_blocks.read_blocks(self.state, connection, sorted(by_block)):
            for key, place in by_block[number]:
                within = place % photo_blocks.BLOCK
                record = photo_blocks.decode(numbers[within], texts[within], Path(head.root))
                if record.photo.key != key:
                    raise self.state.damaged("the list of names is not that of the photos")
                records[key] = place, record
        return records

    def _records(self, connection: sqlite3.Connection, head: Head) -> Iterable[tuple[int, PhotoRecord]]:
        """The photos that are there, with their places."""
        count = -(-head.records // photo_blocks.BLOCK)
        for number, numbers, texts in photo_blocks.read_blocks(self.state, connection, range(count)):
            for within in np.flatnonzero(numbers["removed"] == photo_blocks.STILL_THERE).tolist():
                place = number * photo_blocks.BLOCK + within
                yield place, photo_blocks.decode(numbers[within], texts[within], Path(head.root))

    def _keys(self, connection: sqlite3.Connection, head: Head) -> Iterable[tuple[str, int]]:
        for place, record in self._records(connection, head):
            yield record.photo.key, place


def records_of(table: PhotoTable) -> list[PhotoRecord]:
    """The photos of a table as records."""
    return [
        PhotoRecord(photo, table.identity(row), (int(table.sizes[row, 0]), int(table.sizes[row, 1])))
        for row, photo in enumerate(table.photos)
    ]


def _from_catalogue(catalogue: Catalogue) -> tuple[Head, photo_blocks.Numbers, photo_blocks.Texts]:
    table = catalogue.table
    arrays = table.sha256 is not None and all(table.sha256)
    root = "" if arrays or not len(table) else Path(os.path.abspath(table.photos.root)).as_posix()
    numbers, texts = photo_blocks.encode(records_of(table), catalogue.rows.tolist(), 0, Path(root))
    positions = sum(position is not None for position in table.photos.positions)
    head = Head(
        catalogue.dims,
        root,
        table.photos.name,
        records=len(table),
        photos=len(table),
        with_position=positions,
        rows=catalogue.n_rows,
    )
    return head, numbers, texts


def _put_failed(connection: sqlite3.Connection, failed: dict[str, str]) -> None:
    connection.executemany(
        "INSERT OR REPLACE INTO failed VALUES (?, ?, ?)",
        (
            (encoded, reason, checksum(encoded, reason))
            for encoded, reason in ((photo_blocks.encode_key(key), why) for key, why in failed.items())
        ),
    )


def _moved_name(name: str, path: Path, old: Path, after: Path) -> str:
    """The name of a photo that moved: another only where it stays in the folder of its list."""
    parts = Path(name).parts
    if path.parts[-len(parts) :] != parts:
        return name
    root = Path(*path.parts[: -len(parts)])
    if old != root and old.is_relative_to(root) and after.is_relative_to(root):
        return after.relative_to(root).as_posix()
    return name


def _of_block(places: Sequence[int], number: int) -> Sequence[int]:
    """Those of ascending places that lie in a block."""
    size = photo_blocks.BLOCK
    return places[bisect_left(places, number * size) : bisect_left(places, (number + 1) * size)]


def _remove_if_possible(path: Path) -> None:
    """Remove a file of rows; one that a reader has mapped stays on Windows, and goes with the next change."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def is_map(folder: Path) -> bool:
    """Whether a map lies there, of this version or an earlier one."""
    return (folder / STATE).is_file() or (folder / OLD_STATE).is_file()


def file_status(path: Path) -> tuple[int, int] | None:
    """Size and modification time (ns) of a file; None where there is none."""
    try:
        stat = path.stat()
    except (OSError, ValueError):
        return None
    return size_and_time(stat)


def _first_path(facts: dict[int, PhotoRecord]) -> Path:
    return next(iter(facts.values())).photo.path
