"""A map in LanceDB: in a folder, or on an object store. The one file that imports lancedb and pyarrow.

Three tables: ``photos`` (`columns`, and ``vector``), ``features`` (local features), ``documents`` (the
model's files in parts, and what the map says of itself). A commit is Lance's: it writes a new manifest only
if no other writer has written that one, else it is tried again on top of the other's.

Searches read all rows and compare them exactly; no approximate index is made.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError, MissingExtraError, StoreError, StoreMismatchError
from dejavlad.places.address import Address
from dejavlad.places.databases.columns import COLUMNS, FOR_OTHERS, Columns, filled, missing, seals_of

PHOTOS, FEATURES, DOCUMENTS = "photos", "features", "documents"
PART: Final = 4 << 20
"""Bytes of a document that share a row."""
TRIES: Final = 12
"""Times that a commit is tried where other writers are faster."""
FRAGMENTS = 64
"""Small files from which on they are joined."""
KEPT: Final = datetime.timedelta(days=365)
"""Versions of the table are kept so long."""
MADE: Final = "dejavlad-map"
"""Name of a table's metadata by which a map is told from another one at the same place."""
KEYS_AT_ONCE: Final = 1000
ANEW: Final = "Build it anew, at another address."
READ_ROWS: Final = 8192
SHARED: Final = {"failed", "zone", "group", "tags", "crop", "view", "model"}
"""Columns of which many rows hold the same text."""
CONFLICTS = ("conflict", "contention", "concurrent")
CAUSES: Final = (
    (("no space left", "storagefull", "quota", "disk full", "file too large"), "there is no space left"),
    (
        ("accessdenied", "access denied", "invalidaccesskeyid", "signaturedoesnotmatch", "403", "forbidden",
         "unauthorized", "401", "credentials", "permission denied", "permissiondenied"),
        "access is refused; look at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or those of your store)",
    ),
    (("nosuchbucket", "bucket does not exist"), "there is no such bucket"),
    (("error sending request", "connect", "timed out", "timeout", "dns"), "it cannot be reached"),
    (("not found", "does not exist", "no such file"), "something of it is gone"),
)  # fmt: skip
"""What the library's text holds, and what it means."""

Floats = NDArray[np.float32]


def import_lance() -> tuple[Any, Any]:
    """lancedb and pyarrow.

    Raises:
        MissingExtraError: they are not installed.
    """
    try:
        import lancedb
        import pyarrow
    except ImportError:
        raise MissingExtraError("a map in LanceDB", "lance") from None
    return lancedb, pyarrow


class LanceTables:
    """A map in tables of LanceDB (a `dejavlad.places.databases.engine.MapEngine`).

    Args:
        address: where the tables lie.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        lancedb, self._pa = import_lance()
        with self._translated():
            self._db = lancedb.connect(address.place, storage_options=storage_options(address.place))

    def documents(self, names: Sequence[str]) -> dict[str, bytes]:
        """Documents by name, of those that are there; none where there is no map."""
        with self._translated():
            table = self._open(DOCUMENTS)
            if table is None:
                return {}
            lines = table.search().where(_within("name", names)).to_arrow().to_pylist()
        parts: dict[str, list[tuple[int, bytes]]] = {}
        for line in lines:
            parts.setdefault(line["name"], []).append((line["part"], line["data"]))
        return {name: b"".join(data for _, data in sorted(pieces)) for name, pieces in parts.items()}

    def create(self, documents: Mapping[str, bytes], dims: int) -> bool:
        """Make an empty map, the documents last: with them it is whole. False where another was first."""
        with self._translated():
            for name, schema in (
                (PHOTOS, self._photos_schema(dims)),
                (FEATURES, self._small_schema(FEATURES)),
            ):
                if self._open(name) is None:
                    self._made(name, schema.empty_table())
            return self._made(DOCUMENTS, self._document_lines(documents))

    def put_document(self, name: str, content: bytes) -> None:
        """Write a document anew."""
        lines = self._document_lines({name: content})
        self._commit(lambda: self._merge(DOCUMENTS, ["name", "part"], lines))

    def view(self) -> LanceView:
        """The table as it is now, or as of the address's version.

        Raises:
            InputError: there is no such version.
            StoreError: the table is another than was made.
        """
        with self._translated():
            table = self._photos()
            wanted = self.address.version
            table.checkout(table.version if wanted is None else self._numbered(table, wanted))
            self._check_schema(PHOTOS, table)
            return LanceView(self, table)

    def find(self, keys: Sequence[str]) -> Columns:
        """The rows of some keys, as `MapView.columns` gives them."""
        with self._translated():
            table = self._photos()
            parts = [
                self.read_columns(table.search().where(_within("key", keys[i : i + KEYS_AT_ONCE])))
                for i in range(0, len(keys), KEYS_AT_ONCE)
            ] or [self.read_columns(table.search().where("false"))]
        return {
            name: np.concatenate([part[name] for part in parts])
            if isinstance(values, np.ndarray)
            else [value for part in parts for value in part[name]]
            for name, values in parts[0].items()
        }

    def next_row(self) -> int:
        """The next number for a row."""
        with self._translated():
            rows = self._photos().search().select(["row"]).to_arrow()["row"].to_numpy()
        return int(rows.max()) + 1 if len(rows) else 0

    def upsert(self, columns: Columns, vectors_MD: Floats) -> None:
        """Write rows, all finite; those of the same keys are replaced. One commit: all counts, or nothing.

        Raises:
            StoreMismatchError: the table is of other dimensions.
        """
        dims = self._photos().schema.field("vector").type.list_size
        if dims != vectors_MD.shape[1]:
            raise StoreMismatchError(str(self.address), {"dims": (dims, vectors_MD.shape[1])}, ANEW)
        seals = seals_of({name: filled(name, columns[name]) for name in COLUMNS})
        marks = [f"{commit}.{seal}" for commit, seal in zip(columns["mark"], seals, strict=True)]
        lines = self._photo_lines({**columns, "mark": marks}, vectors_MD)
        before = self._photos().version
        self._commit(lambda: self._merge(PHOTOS, ["key"], lines))
        self._read_back(before, lambda: self._leave_latest(columns["key"]))
        self._join_files()

    def correct(self, facts: Mapping[str, Mapping[str, Any]]) -> None:
        """Key -> columns to write anew, of rows that are still there."""
        keys = list(facts)

        def merge() -> None:
            table = self._photos()
            matches = [
                table.search().where(_within("key", keys[i : i + KEYS_AT_ONCE])).to_arrow()
                for i in range(0, len(keys), KEYS_AT_ONCE)
            ]
            lines = self._pa.concat_tables(matches)
            current = lines["key"].to_pylist()
            new = {name: [facts[key][name] for key in current] for name in next(iter(facts.values()))}
            columns = self._columns_of(lines)
            seals = seals_of(columns | {name: filled(name, values) for name, values in new.items()})
            new["mark"] = [f"{commit}.{seal}" for commit, seal in zip(columns["mark"], seals, strict=True)]
            for name, values in new.items():
                place, field = lines.schema.get_field_index(name), lines.schema.field(name)
                lines = lines.set_column(place, field, self._pa.array(values, field.type))
            same = "target.crc = source.crc"  # another machine may have described it anew meanwhile
            table.merge_insert("key").when_matched_update_all(where=same).execute(lines)

        self._commit(merge)
        self._join_files()

    def delete(self, keys: Sequence[str]) -> None:
        """Take rows out by key; one commit."""
        self._commit(lambda: self._photos().delete(_within("key", keys)))

    def feature_marks(self) -> dict[str, int]:
        """Key -> checksum of the vector that local features belong to, of all that are kept."""
        with self._translated():
            lines = self._table(FEATURES).search().select(["key", "mark"]).to_arrow()
        return dict(zip(lines["key"].to_pylist(), lines["mark"].to_pylist(), strict=True))

    def features(self, keys: Sequence[str]) -> dict[str, tuple[int, bytes]]:
        """Key -> mark and record."""
        with self._translated():
            lines = self._table(FEATURES).search().where(_within("key", keys)).to_arrow().to_pylist()
        return {line["key"]: (line["mark"], line["record"]) for line in lines}

    def put_features(self, records: Mapping[str, tuple[int, bytes]]) -> None:
        """Write local features; those of the same keys are replaced."""
        lines = self._pa.table(
            {
                "key": list(records),
                "mark": self._pa.array([mark for mark, _ in records.values()], self._pa.int64()),
                "record": self._pa.array([data for _, data in records.values()], self._pa.large_binary()),
            }
        )
        self._commit(lambda: self._merge(FEATURES, ["key"], lines))

    def drop_features(self, keys: Sequence[str]) -> None:
        """Forget local features."""
        self._commit(lambda: self._table(FEATURES).delete(_within("key", keys)))

    def size(self) -> int:
        """Bytes that it takes, as far as is known."""
        with self._translated():
            tables = [self._open(name) for name in (PHOTOS, FEATURES, DOCUMENTS)]
            return sum(int(table.stats()["total_bytes"]) for table in tables if table is not None)

    def versions(self) -> list[tuple[int, float]]:
        """Version and Unix time of each commit that can be opened."""
        with self._translated():
            listed = self._photos().list_versions()
        return [(int(line["version"]), line["timestamp"].timestamp()) for line in listed]

    def read_columns(self, query: Any, left_out: Sequence[str] = ()) -> Columns:
        """All columns but the vector of a query's rows, and but some; compared with their seals.

        Raises:
            StoreError: someone else changed them.
        """
        names = [name for name in COLUMNS if name not in left_out]
        lines = query.select(names).with_row_id(True).to_arrow()
        return {"id": lines["_rowid"].to_numpy().astype(np.uint64), **self._columns_of(lines)}

    def _columns_of(self, lines: Any) -> Columns:
        """Columns of rows, as `MapView.columns` gives them; `mark` without its seal."""
        columns: Columns = {}
        for name, kind in COLUMNS.items():
            if name not in lines.schema.names:
                continue
            if kind is str and name in SHARED:
                columns[name] = shared_texts(lines[name])
            elif kind is str:
                columns[name] = lines[name].to_pylist()
            else:
                columns[name] = lines[name].fill_null(missing(name)).to_numpy()
        marks = [(mark or "").partition(".") for mark in columns["mark"]]
        for i, ((_, _, written), seal) in enumerate(zip(marks, seals_of(columns), strict=True)):
            if written and written != seal:  # rows of earlier versions have none
                key = columns["key"][i]
                raise StoreError(
                    f"{self.address} was changed by someone else: what it says of {key!r} is not what was "
                    f"written; open an earlier version ({self.address.text}@VERSION), or build it anew, at "
                    "another address (versions of dejavlad that write no checksums must not write to it)"
                )
        known: dict[str, str] = {}  # of which many rows hold the same text
        columns["mark"] = [known.setdefault(commit, commit) for commit, _, _ in marks]
        return columns

    def _photos_schema(self, dims: int) -> Any:
        pa = self._pa
        types = {str: pa.string(), int: pa.int64(), float: pa.float64()}
        fields = [pa.field(name, types[kind]) for name, kind in COLUMNS.items()]
        return pa.schema([*fields, pa.field("vector", pa.list_(pa.float32(), dims))])

    def _small_schema(self, name: str) -> Any:
        pa = self._pa
        types = {
            FEATURES: {"key": pa.string(), "mark": pa.int64(), "record": pa.large_binary()},
            DOCUMENTS: {"name": pa.string(), "part": pa.int64(), "data": pa.large_binary()},
        }[name]
        return pa.schema([pa.field(field, kind) for field, kind in types.items()])

    def _photo_lines(self, columns: Columns, vectors_MD: Floats) -> Any:
        pa, schema = self._pa, self._photos_schema(vectors_MD.shape[1])
        arrays = [pa.array(columns[name], schema.field(name).type) for name in COLUMNS]
        flat = pa.array(np.ascontiguousarray(vectors_MD, np.float32).ravel())
        arrays.append(pa.FixedSizeListArray.from_arrays(flat, vectors_MD.shape[1]))
        return pa.table(arrays, schema=schema)

    def _document_lines(self, documents: Mapping[str, bytes]) -> Any:
        parts = [
            (name, i, data[i * PART : (i + 1) * PART])
            for name, data in documents.items()
            for i in range(max(1, -(-len(data) // PART)))
        ]
        pa = self._pa
        names, numbers, contents = zip(*parts, strict=True)
        return pa.table(
            {
                "name": list(names),
                "part": pa.array(list(numbers), pa.int64()),
                "data": pa.array(list(contents), pa.large_binary()),
            }
        )

    def _check_schema(self, name: str, table: Any) -> None:
        """Refuse a table whose columns someone else has changed."""
        schema = table.schema
        vector = schema.field("vector").type if "vector" in schema.names else None
        dims = getattr(vector, "list_size", 1)
        wanted = self._photos_schema(max(1, dims)) if name == PHOTOS else self._small_schema(name)
        what = "the table" if name == PHOTOS else f"the table {name!r}"
        missing = [field.name for field in wanted if field.name not in schema.names]
        changed = [
            f"{f.name} ({schema.field(f.name).type}, not {f.type})"
            for f in wanted
            if f.name in schema.names and schema.field(f.name).type != f.type
        ]
        if missing or changed:
            why = [f"it has no column {', '.join(missing)}"] if missing else []
            why += [f"another type: {', '.join(changed)}"] if changed else []
            raise StoreError(
                f"{what} of {self.address} was changed by someone else: {'; '.join(why)}; open an "
                f"earlier version ({self.address.text}@VERSION), or build the map again"
            )

    def _photos(self) -> Any:
        return self._table(PHOTOS)

    def _table(self, name: str) -> Any:
        table = self._open(name)
        if table is None:
            raise StoreError(f"{self.address} has no table {name!r} (any more); build the map again")
        return table

    def _open(self, name: str) -> Any:
        try:
            table = self._db.open_table(name)
        except (ValueError, OSError, RuntimeError) as error:
            if f"Table '{name}' was not found" in str(error):
                return None
            raise
        self._check_schema(name, table)
        return table

    def _made(self, name: str, lines: Any) -> bool:
        """Make a table; False where it is there already.

        Of writers that make a table at the same moment, LanceDB may let one write over another's. The first
        version says whose it is; whoever wrote over it goes back to the latest that is not a rival's.
        """
        identity = uuid.uuid4().hex
        try:
            table = self._db.create_table(
                name, data=lines.replace_schema_metadata({MADE: identity}), mode="create"
            )
            table.checkout(1)
        except (ValueError, OSError, RuntimeError) as error:
            text = str(error).lower()
            if "already exists" not in text and not any(word in text for word in CONFLICTS):
                raise
            return False
        if (first := _identity_of(table)) != identity:
            self._commit(lambda: _go_back(table, first))
        return first == identity

    def _merge(self, name: str, keys: list[str], lines: Any) -> None:
        merge = self._table(name).merge_insert(keys if len(keys) > 1 else keys[0])
        merge.when_matched_update_all().when_not_matched_insert_all().execute(lines)

    def _commit(self, write: Callable[[], Any]) -> None:
        """Write; where another writer was faster, again on top of what it wrote."""
        if self.address.version is not None:
            raise InputError(
                f"{self.address} is the map as it was, and stays so; write to {self.address.text}"
            )
        for attempt in range(TRIES):
            try:
                with self._translated():
                    write()
                return
            except StoreError as error:
                text = str(error.__cause__).lower()
                if attempt == TRIES - 1 or not any(word in text for word in CONFLICTS):
                    raise
            time.sleep(random.uniform(0, 0.05 * 2 ** min(attempt, 6)))

    def _leave_latest(self, keys: Sequence[str]) -> None:
        """Of rows of one key, written by two machines at once, leave the latest."""
        columns = self.find(keys)
        if len(set(columns["key"])) == len(columns["key"]):
            return
        counts: Counter[str] = Counter(columns["key"])
        wanted = _within("key", [key for key, count in counts.items() if count > 1])

        def leave() -> None:
            table = self._photos()
            rows = table.search().where(wanted).select(["key", "row", "mark"]).with_row_id(True).to_arrow()
            names = ("key", "row", "mark", "_rowid")
            lines = sorted(zip(*(rows[name].to_pylist() for name in names), strict=True))
            last = {line[0]: line[-1] for line in lines}
            if stale := [line[-1] for line in lines if line[-1] != last[line[0]]]:
                table.delete(f"_rowid IN ({', '.join(map(str, stale))}) AND {wanted}")

        self._commit(leave)

    def _join_files(self) -> None:
        """Join small files, once there are many; what fails here loses nothing and is tried next time."""
        with contextlib.suppress(StoreError), self._translated():
            table = self._photos()
            if table.stats()["fragment_stats"]["num_fragments"] >= FRAGMENTS:
                before = table.version
                table.optimize(cleanup_older_than=KEPT)
                self._read_back(before, self.next_row)

    def _read_back(self, before: int, read: Callable[[], Any]) -> None:
        """Read what was written; in a folder, go back to the version before where that cannot be done.

        On a full disk the library may commit a file that is cut short.

        Raises:
            StoreError: it cannot be read.
        """
        try:
            read()
        except StoreError as error:
            if "://" in self.address.place:
                raise
            with self._translated():
                table = self._photos()
                alone = table.version == before + 1
                if alone:
                    table.checkout(before)
                    table.restore()
            state = "is taken back" if alone else "stays, for others have written since; look at the map"
            raise StoreError(
                f"cannot use {self.address}: what was written cannot be read, and {state}; is there space "
                "left?"
            ) from error

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

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """The library's errors in one line each."""
        try:
            yield
        except (StoreError, InputError):
            raise
        except MemoryError:
            raise
        except Exception as error:  # a native library's errors come as RuntimeError, OSError, ValueError ...
            text = str(error).lower()
            why = next((why for words, why in CAUSES if any(word in text for word in words)), "")
            first = str(error).strip().split("\n")[0][:200]
            raise StoreError(f"cannot use {self.address}: {why or first}") from error


class LanceView:
    """The table, which stays at its version (a `dejavlad.places.databases.engine.MapView`)."""

    def __init__(self, tables: LanceTables, table: Any) -> None:
        self._tables, self._table = tables, table

    @property
    def version(self) -> int:
        """Another after each change; counts commits where the database does."""
        return int(self._table.version)

    @property
    def made(self) -> str:
        """Another for each map that is made, also at the same place; empty where that is not known."""
        return _identity_of(self._table)

    def columns(self) -> Columns:
        """All rows but their vectors and what follows from other columns, and ``id`` (uint64 [M])."""
        with self._tables._translated():
            return self._tables.read_columns(self._table.search(), FOR_OTHERS)

    def vectors(self, ids: NDArray[np.uint64] | None = None) -> Iterator[tuple[NDArray[np.uint64], Floats]]:
        """Parts of all rows, or of those of these ids, in any order: ids [n], vectors float32 [n, D]."""
        with self._tables._translated():
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


def shared_texts(column: Any) -> list[str | None]:
    """The texts of a column, of which equal ones are one object in memory."""
    texts: list[str | None] = []
    for part in column.dictionary_encode().chunks:
        known = [*part.dictionary.to_pylist(), None]
        texts += [known[i] for i in part.indices.fill_null(len(known) - 1).to_numpy().tolist()]
    return texts


def storage_options(place: str) -> dict[str, str] | None:
    """What an object store needs beside the environment: plain HTTP, where its endpoint is so."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL", os.environ.get("AWS_ENDPOINT", ""))
    if not place.startswith("s3://"):
        return None
    options = {"client_max_retries": "3", "retry_timeout": "20"}
    if endpoint:
        options["aws_endpoint"] = endpoint
        if endpoint.startswith("http://"):
            options["allow_http"] = "true"
    return options


def _within(column: str, values: Sequence[str]) -> str:
    quoted = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
    return f"{column} IN ({quoted})" if quoted else "false"


def _identity_of(table: Any) -> str:
    """What tells a table from another one at the same place; empty where it says nothing."""
    return str((table.schema.metadata or {}).get(MADE.encode(), b"").decode("ascii", "replace"))


def _go_back(table: Any, identity: str) -> None:
    """Make the latest version of this identity the table's, if it is not."""
    table.checkout_latest()
    latest = int(table.version)
    for number in range(latest, 0, -1):
        table.checkout(number)
        if _identity_of(table) == identity:
            break
    if number != latest:
        table.restore()
