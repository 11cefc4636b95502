"""A map in LanceDB: in a folder, or on an object store.

Three tables: ``photos`` (`columns`, and ``vector``); ``features-ID`` (local features); ``documents-ID`` (the
model's files in parts, and what the map says of itself). ID is another for each map that is made, and the
schema of ``photos`` names it: that table is published last, and only if there is none, so that of writers
that make a map at once the first has made it, whole, and nothing of the others is ever seen. Maps of earlier
versions have no ID.

Searches read all rows and compare them exactly; no approximate index is made.
"""

from __future__ import annotations

import contextlib
import datetime
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError, StoreError, StoreMismatchError
from dejavlad.places.address import Address
from dejavlad.places.databases import lance_rows
from dejavlad.places.databases.columns import COLUMNS, FOR_OTHERS, Columns, filled
from dejavlad.places.databases.lance_rows import DOCUMENTS, FEATURES, KEYS, PHOTOS, Floats
from dejavlad.places.databases.lance_store import LanceStore

FRAGMENTS = 64
"""Small files from which on they are joined."""
KEPT: Final = datetime.timedelta(days=365)
"""Versions of the table are kept so long."""
MADE, ID = "dejavlad-map", "dejavlad-tables"
"""Names of metadata of photos: by which a map is told from another one at the same place, and the ID."""
BESIDE: Final = re.compile(rf"({PHOTOS}|{FEATURES}|{DOCUMENTS})-[0-9a-f]{{32}}")
"""Tables of a map beside photos, and of one that is being made."""
KEYS_AT_ONCE: Final = 1000
ANEW: Final = "Build it anew, at another address."


class LanceTables:
    """A map in tables of LanceDB (a `dejavlad.places.databases.engine.MapEngine`).

    Args:
        address: where the tables lie.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self._store = LanceStore(address)
        self._id: str | None = None

    def documents(self, names: Sequence[str]) -> dict[str, bytes]:
        """Documents by name, of those that are there; none where there is no map."""
        with self._store.translated():
            if self._opened() is None:
                return {}
            query = self._beside(DOCUMENTS).search().where(_within("name", names))
            lines = query.with_row_id(True).to_arrow().sort_by("_rowid").to_pylist()
        parts: dict[str, dict[int, bytes]] = {}
        for line in lines:  # of a part that two writers of earlier versions wrote at once, the later counts
            parts.setdefault(line["name"], {})[line["part"]] = line["data"]
        return {
            name: b"".join(data for _, data in sorted(of_name.items())) for name, of_name in parts.items()
        }

    def create(self, documents: Mapping[str, bytes], dims: int) -> bool:
        """Make an empty map. False where another was first."""
        with self._store.translated():
            if self._opened() is not None:
                return False
            left = [name for name in self._store.names() if BESIDE.fullmatch(name)]  # by makers before
            made, failure = uuid.uuid4().hex, None
            photos, features, texts = (f"{name}-{made}" for name in (PHOTOS, FEATURES, DOCUMENTS))
            schema = lance_rows.schema_of(PHOTOS, dims).with_metadata({MADE: made, ID: made})
            try:
                self._store.make(texts, lance_rows.document_lines(documents))
                self._store.make(features, lance_rows.schema_of(FEATURES).empty_table())
                self._store.make(photos, schema.empty_table())
                self._store.publish(photos, PHOTOS)
            except Exception as error:  # what counts is which table is there now
                failure = error
            if (table := self._opened()) is None:
                raise failure or StoreError(f"{self.address} was removed while it was made")
        first = _metadata(table, ID) == made
        with contextlib.suppress(StoreError), self._store.translated():
            for name in [photos, *left] if first else [photos, features, texts]:
                self._store.drop(name)
        return first

    def put_document(self, name: str, content: bytes) -> None:
        """Write a document anew."""
        self._merge(DOCUMENTS, lance_rows.document_lines({name: content}))

    def view(self) -> LanceView:
        """The table as it is now, or as of the address's version.

        Raises:
            InputError: there is no such version.
            StoreError: the table is another than was made.
        """
        with self._store.translated():
            table = self._photos()
            wanted = self.address.version
            table.checkout(table.version if wanted is None else self._numbered(table, wanted))
            lance_rows.check_schema(PHOTOS, table, self.address)
            return LanceView(self._store, table)

    def find(self, keys: Sequence[str]) -> Columns:
        """The rows of some keys, as `MapView.columns` gives them."""
        with self._store.translated():
            return lance_rows.columns_of(self._rows(keys, list(COLUMNS)), self.address)

    def next_row(self) -> int:
        """The next number for a row."""
        with self._store.translated():
            rows = self._photos().search().select(["row"]).to_arrow()["row"].to_numpy()
        return int(rows.max()) + 1 if len(rows) else 0

    def upsert(self, columns: Columns, vectors_MD: Floats) -> None:
        """Write rows, all finite; those of the same keys are replaced. One commit: all counts, or nothing.

        Raises:
            StoreMismatchError: the table is of other dimensions.
        """
        with self._store.translated():
            dims = self._photos().schema.field("vector").type.list_size
        if dims != vectors_MD.shape[1]:
            raise StoreMismatchError(str(self.address), {"dims": (dims, vectors_MD.shape[1])}, ANEW)
        marks = lance_rows.sealed(columns["mark"], {name: filled(name, columns[name]) for name in COLUMNS})
        self._merge(PHOTOS, lance_rows.photo_lines({**columns, "mark": marks}, vectors_MD))
        self._join_files()

    def correct(self, facts: Mapping[str, Mapping[str, Any]]) -> None:
        """Key -> columns to write anew, of rows that are still there."""

        def merge() -> None:
            lines = lance_rows.corrected(self._rows(list(facts)), facts, self.address)
            same = "target.crc = source.crc"  # another machine may have described it anew meanwhile
            self._photos().merge_insert("key").when_matched_update_all(where=same).execute(lines)

        self._store.commit(merge)
        self._join_files()

    def delete(self, keys: Sequence[str]) -> None:
        """Take rows out by key; one commit."""
        self._store.commit(lambda: self._photos().delete(_within("key", keys)))

    def feature_marks(self) -> dict[str, int]:
        """Key -> checksum of the vector that local features belong to, of all that are kept."""
        with self._store.translated():
            lines = self._beside(FEATURES).search().select(["key", "mark"]).to_arrow()
        return dict(zip(lines["key"].to_pylist(), lines["mark"].to_pylist(), strict=True))

    def features(self, keys: Sequence[str]) -> dict[str, tuple[int, bytes]]:
        """Key -> mark and record."""
        with self._store.translated():
            lines = self._beside(FEATURES).search().where(_within("key", keys)).to_arrow().to_pylist()
        return {line["key"]: (line["mark"], line["record"]) for line in lines}

    def put_features(self, records: Mapping[str, tuple[int, bytes]]) -> None:
        """Write local features; those of the same keys are replaced."""
        self._merge(FEATURES, lance_rows.feature_lines(records))

    def drop_features(self, keys: Sequence[str]) -> None:
        """Forget local features."""
        self._store.commit(lambda: self._beside(FEATURES).delete(_within("key", keys)))

    def size(self) -> int:
        """Bytes that it takes, as far as is known."""
        with self._store.translated():
            tables = [self._photos(), self._beside(FEATURES), self._beside(DOCUMENTS)]
            return sum(int(table.stats()["total_bytes"]) for table in tables)

    def versions(self) -> list[tuple[int, float]]:
        """Version and Unix time of each commit that can be opened."""
        with self._store.translated():
            listed = self._photos().list_versions()
        return [(int(line["version"]), line["timestamp"].timestamp()) for line in listed]

    def _opened(self) -> Any:
        """Photos as they are now; None where there is no map."""
        table = self._store.open(PHOTOS)
        if table is not None:
            lance_rows.check_schema(PHOTOS, table, self.address)
            self._id = _metadata(table, ID)
        return table

    def _photos(self) -> Any:
        table = self._opened()
        if table is None:
            raise self._gone(PHOTOS)
        return table

    def _beside(self, name: str) -> Any:
        """The map's table of features or documents, as it is now."""
        table = None
        if self._id is not None:
            table = self._store.open(f"{name}-{self._id}" if self._id else name)
        if table is None:  # it is not known yet which, or another map is made at the same place
            self._photos()
            table = self._store.open(f"{name}-{self._id}" if self._id else name)
        if table is None:
            raise self._gone(name)
        lance_rows.check_schema(name, table, self.address)
        return table

    def _rows(self, keys: Sequence[str], columns: list[str] | None = None) -> Any:
        """Rows of some keys, of some columns or all, with ``_rowid``."""
        query = self._photos().search().with_row_id(True)
        if columns is not None:
            query = query.select(columns)
        parts = (keys[first : first + KEYS_AT_ONCE] for first in range(0, max(1, len(keys)), KEYS_AT_ONCE))
        return lance_rows.joined([query.where(_within("key", part)).to_arrow() for part in parts])

    def _gone(self, name: str) -> StoreError:
        return StoreError(f"{self.address} has no table {name!r} (any more); build the map again")

    def _merge(self, name: str, lines: Any) -> None:
        """Write rows; those of the same keys are replaced."""

        def merge() -> None:
            table = self._photos() if name == PHOTOS else self._beside(name)
            merging = table.merge_insert(KEYS[name]).when_matched_update_all()
            merging.when_not_matched_insert_all().execute(lines)

        self._store.commit(merge)

    def _join_files(self) -> None:
        """Join small files, once there are many; what fails here loses nothing and is tried next time."""
        with contextlib.suppress(StoreError), self._store.translated():
            table = self._photos()
            if table.stats()["fragment_stats"]["num_fragments"] >= FRAGMENTS:
                table.optimize(cleanup_older_than=KEPT)

    def _numbered(self, table: Any, wanted: str) -> int:
        versions = table.list_versions()
        numbers = [int(line["version"]) for line in versions]
        if wanted.isdecimal():
            if int(wanted) not in numbers:
                raise InputError(
                    f"{self.address.text} has no version {wanted}; it has {min(numbers)} to {max(numbers)}"
                )
            return int(wanted)
        try:
            day = datetime.date.fromisoformat(wanted)
        except ValueError:
            raise InputError(f"{wanted!r} is no day; give it as 2026-11-29") from None
        end = datetime.datetime.combine(day, datetime.time.max)
        before = [
            n
            for n, line in zip(numbers, versions, strict=True)
            if datetime.datetime.fromtimestamp(line["timestamp"].timestamp(), datetime.UTC).replace(
                tzinfo=None
            )
            <= end
        ]
        if not before:
            raise InputError(
                f"{self.address.text} was made after {wanted}; `map info --versions` lists its days"
            )
        return max(before)


class LanceView:
    """The table, which stays at its version (a `dejavlad.places.databases.engine.MapView`)."""

    def __init__(self, store: LanceStore, table: Any) -> None:
        self._store, self._table = store, table

    @property
    def version(self) -> int:
        """Another after each change; counts commits where the database does."""
        return int(self._table.version)

    @property
    def made(self) -> str:
        """Another for each map that is made, also at the same place; empty where that is not known."""
        return _metadata(self._table, MADE)

    def columns(self) -> Columns:
        """All rows but their vectors and what follows from other columns, and ``id`` (uint64 [M])."""
        with self._store.translated():
            names = [name for name in COLUMNS if name not in FOR_OTHERS]
            lines = self._table.search().select(names).with_row_id(True).to_arrow()
            return lance_rows.columns_of(lines, self._store.address)

    def vectors(self, ids: NDArray[np.uint64] | None = None) -> Iterator[tuple[NDArray[np.uint64], Floats]]:
        """Parts of all rows, or of those of these ids, in any order: ids [n], vectors float32 [n, D]."""
        with self._store.translated():
            if ids is None:
                query = self._table.search().select(["vector"]).with_row_id(True)
            else:
                query = self._table.take_row_ids(ids.tolist()).select(["vector"]).with_row_id()
            dims = self._table.schema.field("vector").type.list_size
            batches = query.to_batches() if ids is None else query.to_arrow().to_batches()
            for batch in batches:
                if batch.num_rows:
                    values = batch["vector"].flatten().to_numpy().reshape(-1, dims)
                    yield batch["_rowid"].to_numpy().astype(np.uint64), values


def _within(column: str, values: Sequence[str]) -> str:
    quoted = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
    return f"{column} IN ({quoted})" if quoted else "false"


def _metadata(table: Any, name: str) -> str:
    """What the table's metadata says; empty where it says nothing."""
    return str((table.schema.metadata or {}).get(name.encode(), b"").decode("ascii", "replace"))
