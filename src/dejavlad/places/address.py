"""Where a map lies: a folder, or a database by its address.

::

    lance:FOLDER            LanceDB tables in a folder; s3://, gs:// and az:// are LanceDB on an object store
    qdrant://HOST[:PORT]/COLLECTION, qdrant:FOLDER/COLLECTION
    ...@VERSION, ...@2026-11-29   LanceDB: the map as of a version, or at the end of a day (UTC); read only
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dejavlad.errors import InputError
from dejavlad.settings import Settings

LANCE: Final = "lance:"
STORES: Final = ("s3://", "gs://", "az://")
QDRANT: Final = "qdrant:"
VERSION = re.compile(r"^(.+)@(\d{4}-\d\d-\d\d|\d+)$")


@dataclass(frozen=True, slots=True)
class Address:
    """A database that holds a map."""

    text: str
    """As it was given, without the version."""
    kind: str
    """``"lance"`` or ``"qdrant"``."""
    place: str
    """What the database's own library calls it."""
    version: str | None = None
    """A number or a day."""

    @property
    def work(self) -> Path:
        """The folder on this machine where its model and photos being described lie."""
        name = hashlib.sha256(self.place.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        return Settings.load().cache_dir / "maps" / f"{self.kind}-{name}"

    def refuse_version(self) -> None:
        """Refuse to change the map as it was.

        Raises:
            InputError: the address names a version.
        """
        if self.version is not None:
            raise InputError(f"{self} is the map as it was, and stays so; write to {self.text}")

    def __str__(self) -> str:
        return self.text if self.version is None else f"{self.text}@{self.version}"


def is_address(text: str | Path) -> bool:
    """Whether a map is given by its address rather than by its folder."""
    return isinstance(text, str) and text.startswith((LANCE, QDRANT, *STORES))


def refuse_map(given: str | Path, wanted: str) -> None:
    """Say plainly that a map's address is not what a command takes.

    Args:
        wanted: what it takes, in words.

    Raises:
        InputError: it is an address.
    """
    text = str(given)  # a `Path` has joined the slashes
    if is_address(text) or text.startswith(tuple(store.replace("//", "/") for store in STORES)):
        raise InputError(
            f"{text!r} is a map in a database, and what is wanted here is {wanted}; maps are for `dejavlad "
            "locate`, `map` and `serve`"
        )


def parse_address(text: str) -> Address:
    """An address as users write it.

    Raises:
        InputError: nothing behind the scheme, or a version where there are none.
    """
    match = VERSION.match(text)
    base, version = (match[1], match[2]) if match else (text, None)
    if base.startswith(STORES):
        bucket, _, path = base.partition("://")[2].strip("/").partition("/")
        if not bucket or not path:
            raise InputError(f"{text!r} is no address of a map; give a bucket and a path: s3://bucket/town")
        return Address(base, "lance", base.rstrip("/"), version)
    if base.startswith(LANCE):
        folder = base.removeprefix(LANCE)
        if not folder.strip():
            raise InputError(f"{text!r} is no address of a map; give a folder: lance:FOLDER")
        if "://" in folder:
            return parse_address(text.removeprefix(LANCE))
        return Address(base, "lance", str(Path(folder).expanduser().absolute()), version)
    if version is not None:
        raise InputError(f"{text!r}: a Qdrant collection has no versions; give it without @{version}")
    host, _, collection = base.removeprefix(QDRANT).rpartition("/")
    remote = host.startswith("//")
    if not re.fullmatch(r"[\w.-]{1,200}", collection) or not host.strip("/"):
        raise InputError(
            f"{text!r} is no address of a map; give qdrant://HOST[:PORT]/COLLECTION or "
            "qdrant:FOLDER/COLLECTION"
        )
    place = base if remote else f"{Path(host).expanduser().absolute()}/{collection}"
    return Address(base, "qdrant", place)
