"""LanceDB in a folder or on an object store: its tables, commits and errors. Imports lancedb and pyarrow.

A commit is Lance's: it writes a new manifest only if no other writer has written that one, else it is tried
again on top of the other's. In a folder, files are written as on an object store (``file-object-store``):
what lancedb writes to a plain path it may commit cut short where the disk is full.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from typing import Any, Final

from dejavlad.errors import InputError, MissingExtraError, StoreError, first_line
from dejavlad.places.address import Address

TRIES: Final = 12
"""Times that a commit is tried where other writers are faster."""
CONFLICTS = ("conflict", "contention", "concurrent")
CAUSES: Final = (
    (("no space left", "storagefull", "quota", "disk full", "file too large"), "there is no space left"),
    (("os error 13", "read-only file system"), "this user may not write there"),
    (("not a directory",), "a file lies there, not a folder"),
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


class LanceStore:
    """The tables at an address.

    Args:
        address: where they lie.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        lancedb, _ = import_lance()
        self.uri = address.place if "://" in address.place else folder_uri(Path(address.place))
        with self.translated():
            self._db = lancedb.connect(self.uri, storage_options=storage_options(self.uri))

    def open(self, name: str) -> Any:
        """A table as it is now; None where there is none."""
        try:
            return self._db.open_table(name)
        except (ValueError, OSError, RuntimeError) as error:
            if f"Table '{name}' was not found" in str(error):
                return None
            raise

    def make(self, name: str, lines: Any) -> None:
        """Make a table of a name that no other writer uses: LanceDB lets a later one write over it."""
        self._db.create_table(name, data=lines, mode="create")

    def publish(self, source: str, name: str) -> None:
        """Make an empty table of the schema of `source`, if there is none of this name; else an error.

        A clone is the one way to make a table by which Lance never writes over another.
        """
        self._db.clone_table(name, f"{self.uri}/{source}.lance")

    def drop(self, name: str) -> None:
        """Remove a table."""
        self._db.drop_table(name, ignore_missing=True)

    def names(self) -> list[str]:
        """The tables."""
        return list(self._db.list_tables().tables)

    def commit(self, write: Callable[[], Any]) -> None:
        """Write; where another writer was faster, again on top of what it wrote.

        Raises:
            InputError: the address names a version.
        """
        self.address.refuse_version()
        for attempt in range(TRIES):
            try:
                with self.translated():
                    write()
                return
            except StoreError as error:
                text = str(error.__cause__).lower()
                if attempt == TRIES - 1 or not any(word in text for word in CONFLICTS):
                    raise
            time.sleep(random.uniform(0, 0.05 * 2 ** min(attempt, 6)))

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """The library's errors in one line each."""
        try:
            yield
        except (StoreError, InputError, MemoryError):
            raise
        except Exception as error:  # a native library's errors come as RuntimeError, OSError, ValueError ...
            text = str(error).lower()
            why = next((why for words, why in CAUSES if any(word in text for word in words)), "")
            raise StoreError(f"cannot use {self.address}: {why or first_line(error)}") from error


def folder_uri(folder: PurePath) -> str:
    """What makes lancedb write to an absolute folder as to an object store.

    Such an address has no place for a machine: a folder of another, as Windows names it, keeps its path.
    """
    uri = folder.as_uri()
    return "file-object-store" + uri.removeprefix("file") if uri.startswith("file:///") else str(folder)


def storage_options(uri: str) -> dict[str, str] | None:
    """What an object store needs beside the environment: plain HTTP, where its endpoint is so."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL", os.environ.get("AWS_ENDPOINT", ""))
    if not uri.startswith("s3://"):
        return None
    options = {"client_max_retries": "3", "retry_timeout": "20"}
    if endpoint:
        options["aws_endpoint"] = endpoint
        if endpoint.startswith("http://"):
            options["allow_http"] = "true"
    return options
