"""The state of a folder: one SQLite file, every change one transaction, every value with a checksum.

Connections are short: one for each look or change. So at rest there is one file, no handle is held across
forks and threads, and folders that are read-only or on a network work. That is why the journal is SQLite's
rollback journal and not its write-ahead log, which needs two more files, shared memory and a reader that may
write. A process killed in the middle leaves the journal; whoever opens the state next rolls it back.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dejavlad.errors import StoreBusyError, StoreError
from dejavlad.guarded.json_file import parse_json
from dejavlad.storage.folder import disk_errors, sync_folder
from dejavlad.storage.identity import check_format

META = "CREATE TABLE meta(name TEXT PRIMARY KEY, value TEXT NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID"
WAIT_SECONDS = 60.0
"""A reader waits so long for a writer's commit, and a writer for readers."""


class State:
    """One SQLite file.

    Args:
        kind: what it is, e.g. ``"dejavlad-map"``; another kind is refused.
        version: of its format; a later one is refused.
        tables: SQL that makes its tables, besides that of single values.
        again: what to do where it is damaged, in words.
        newest: the latest version that is read, where a change may give it a later one than it is made with.
    """

    def __init__(
        self,
        path: Path,
        kind: str,
        version: int,
        tables: tuple[str, ...],
        again: str = "make it again",
        newest: int | None = None,
    ) -> None:
        self.path, self.kind, self.version, self.tables, self.again = path, kind, version, tables, again
        self.newest = version if newest is None else newest

    def exists(self) -> bool:
        """Whether it is there; if so it is whole."""
        return self.path.is_file()

    def create(self, fill: Callable[[sqlite3.Connection], None]) -> None:
        """Make it, filled; it is there whole or not at all, whenever the process is killed.

        Raises:
            StoreError: it cannot be written.
        """
        partial = self.path.with_name(self.path.name + ".partial")
        for leftover in (partial, *(p.with_name(p.name + "-journal") for p in (partial, self.path))):
            leftover.unlink(missing_ok=True)
        try:
            with self._translated(), contextlib.closing(_connect(partial, "rwc")) as connection:
                connection.execute("PRAGMA journal_mode=OFF")
                connection.execute("PRAGMA synchronous=OFF")
                connection.execute("BEGIN")
                for table in (META, *self.tables):
                    connection.execute(table)
                put_values(connection, {"format": self.kind, "version": self.version})
                fill(connection)
                commit(connection)
            with disk_errors(self.path):
                with open(partial, "r+b") as file:
                    os.fsync(file.fileno())
                os.replace(partial, self.path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        sync_folder(self.path.parent)

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees one moment of the state.

        Raises:
            StoreError: it is damaged, of another kind or of a later version.
        """
        with self._translated(), contextlib.closing(_connect(self.path, "rw")) as connection:
            connection.execute("BEGIN")
            self._check_version(connection)
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A connection whose changes count all together, on the disk, once the block ends; or not at all.

        Raises:
            StoreError: it cannot be written, or see `reading`.
            StoreBusyError: another process writes there.
        """
        with self._translated(), contextlib.closing(_connect(self.path, "rw")) as connection:
            connection.execute("PRAGMA synchronous=EXTRA")
            connection.execute("BEGIN IMMEDIATE")
            self._check_version(connection)
            yield connection
            commit(connection)

    def damaged(self, why: object) -> StoreError:
        """The error of a state that contradicts itself."""
        return StoreError(f"{str(self.path)!r} is damaged: {why}; {self.again}")

    def value(self, connection: sqlite3.Connection, name: str) -> Any:
        """A single value.

        Raises:
            StoreError: it is not there, or is not what was written.
        """
        line = connection.execute("SELECT value, crc FROM meta WHERE name=?", (name,)).fetchone()
        if line is None:
            raise self.damaged(f"it has no {name!r}")
        if checksum(name, line[0]) != line[1]:
            raise self.damaged(f"the checksum of {name!r} is wrong")
        return parse_json(line[0])

    def check(self, connection: sqlite3.Connection) -> None:
        """SQLite's own look at the whole file, and every value; StoreError where something is wrong."""
        (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if verdict != "ok":
            raise self.damaged(verdict)
        for (name,) in connection.execute("SELECT name FROM meta").fetchall():
            self.value(connection, name)

    def _check_version(self, connection: sqlite3.Connection) -> None:
        fields = {name: self.value(connection, name) for name in ("format", "version")}
        try:
            check_format(fields, self.kind, self.newest, self.path)
        except ValueError as error:
            raise self.damaged(error) from None

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise StoreBusyError(self.path.parent) from error
            if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY):
                raise StoreError(
                    f"cannot write to {str(self.path)!r}: {error}; what was finished is kept, run the same "
                    "again when it can be written"
                ) from error
            if code == sqlite3.SQLITE_CANTOPEN:
                raise StoreError(f"cannot open {str(self.path)!r}: {error}") from error
            raise self.damaged(error) from error
        except (sqlite3.DatabaseError, sqlite3.InterfaceError) as error:
            raise self.damaged(error) from error
        except UnicodeDecodeError as error:
            raise self.damaged("a text is not UTF-8") from error


def put_values(connection: sqlite3.Connection, values: Mapping[str, Any]) -> None:
    """Write single values (JSON) with their checksums."""
    for name, value in values.items():
        text = json.dumps(value)
        connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", (name, text, checksum(name, text)))


def checksum(*parts: object) -> int:
    """CRC-32 of texts, numbers and bytes, one after the other; a change of place changes it too."""
    total = 0
    for part in parts:
        data = part if isinstance(part, bytes) else repr(part).encode("utf-8", "surrogatepass")
        total = zlib.crc32(b"\0", zlib.crc32(data, total))
    return total


def commit(connection: sqlite3.Connection) -> None:
    """Make a transaction permanent."""
    connection.execute("COMMIT")


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=WAIT_SECONDS, isolation_level=None
    )
