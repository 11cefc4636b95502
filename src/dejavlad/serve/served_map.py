"""A map that is served: one reader that computes, one for browsing; both see what others change.

A map in a folder is looked at before each answer, one in a database at most once in `SECONDS`. Where the
database cannot be reached, answers are of the map as it was, which the log says.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar

from dejavlad.errors import InputError, StoreBusyError, StoreError, StoreMismatchError
from dejavlad.model import PlaceModel
from dejavlad.places import PlaceMap
from dejavlad.places.address import is_address, parse_address
from dejavlad.places.map_folder.state import STATE
from dejavlad.serve.catalogue import MapCatalogue
from dejavlad.serve.refusal import BUSY_AGAIN, Refusal

SECONDS: Final = 1.0
"""A database is asked at most so often whether its map has changed."""
ATTEMPTS: Final = 4
"""How often a map is read that another process changes in the middle of it."""
PAUSE: Final = 0.05
"""Seconds before the second of them; twice as many before the next."""

log = logging.getLogger("dejavlad.serve")
Reader = TypeVar("Reader")
Result = TypeVar("Result")
Signature = tuple[tuple[int, int], ...]
Models = weakref.WeakValueDictionary[tuple[str, str], PlaceModel]
"""Models by fingerprint and precision, while a map uses them: maps of one model share it."""


class ServedMap:
    """One map of a service.

    Args:
        name: what it is called in addresses.
        source: the map.
        models: of all maps.
        device: where the model computes.
        precision: how.

    Raises:
        StoreError: there is no map, or it is damaged.
    """

    def __init__(self, name: str, source: str, models: Models, device: str, precision: str) -> None:
        self.name, self.source, self.models = name, source, models
        self.device, self.precision = device, precision
        self._browse_lock, self._open_lock = threading.Lock(), threading.Lock()
        self.in_database = is_address(source)
        self._opened: Signature = ()
        self._opened_browsing: Signature = ()
        self._looked = self._looked_browsing = 0.0
        self._noted: set[str] = set()
        self._open()
        self._browse()

    @property
    def model(self) -> PlaceModel:
        """What describes its photos."""
        return self._computing.model

    @property
    def reader(self) -> PlaceMap:
        """The map as `computing` last saw it; for the computing thread alone, but for its length."""
        return self._computing

    @property
    def folder(self) -> Path:
        """The map's folder."""
        return self._computing.folder

    def computing(self) -> PlaceMap:
        """The map as it is now; for the computing thread alone."""
        if self.in_database:
            if time.monotonic() - self._looked >= SECONDS:
                self._looked = time.monotonic()
                with self._or_as_it_was("answered"):
                    try:
                        refresh(self._computing)
                    except StoreMismatchError:  # it was made anew, of another model
                        self._open()
            return self._computing
        if self._signature() != self._opened:
            self._open()
        refresh(self._computing)
        return self._computing

    def answer(self, make: Callable[[PlaceMap], Result]) -> Result:
        """What is made of the map as it is now; for the computing thread alone.

        Args:
            make: called again where another process writes the map anew while it reads.

        Raises:
            Refusal: the map cannot be read now (503).
        """
        return self._steady(self.computing, make)

    def look(self, make: Callable[[MapCatalogue], Result]) -> Result:
        """What is made of the map's photos as they are now; for any thread.

        Args:
            make: as for `answer`.

        Raises:
            Refusal: the map cannot be read now (503).
        """
        with self._browse_lock:
            return self._steady(self._browsed, make)

    def _browsed(self) -> MapCatalogue:
        if self.in_database:
            if time.monotonic() - self._looked_browsing >= SECONDS:
                self._looked_browsing = time.monotonic()
                with self._or_as_it_was("shown"):
                    if self._browsing.model is not self.model:  # it was made anew
                        self._browse()
                    self._refresh_catalogue()
            return self._catalogue
        signature = self._signature()
        if signature != self._opened:
            self._open()
        if signature != self._opened_browsing:
            self._browse()
        self._refresh_catalogue()
        return self._catalogue

    def _refresh_catalogue(self) -> None:
        if refresh(self._browsing):
            self._catalogue = MapCatalogue(self._browsing)

    @contextlib.contextmanager
    def _or_as_it_was(self, what: str) -> Iterator[None]:
        """Where the database is away, the map is `what` as it was, which the log says once."""
        try:
            yield
            self._noted.discard(what)
        except StoreError as error:
            if what not in self._noted:
                self._noted.add(what)
                log.error("map %s is %s as it was: %s", self.name, what, error)

    def _steady(self, read: Callable[[], Reader], make: Callable[[Reader], Result]) -> Result:
        """Reading is lazy: a map that is compacted or built anew meanwhile fails, and is read again."""
        for attempt in range(ATTEMPTS):
            try:
                return make(read())
            except StoreBusyError:
                raise
            except (StoreError, OSError) as error:
                last = attempt + 1 == ATTEMPTS
                log.log(logging.ERROR if last else logging.INFO, "%s: %s", self.name, error)
            if not last:
                time.sleep(PAUSE * 2**attempt)
            if attempt:  # reading on did not help: open it anew
                self._opened = self._opened_browsing = ()
        raise Refusal(
            503,
            f"the map {self.name!r} cannot be read now: it is being made anew, was removed, or is damaged",
            BUSY_AGAIN,
        )

    def writer(self) -> PlaceMap:
        """The map to change; for the writing thread alone."""
        return self._computing.another()

    def _open(self) -> None:
        with self._open_lock:
            signature = self._signature_of(Path(self.source))
            opened = PlaceMap.open(self.source, device=self.device, precision=self.precision)
            self.fingerprint = opened.model.fingerprint
            opened.share_model(self.models.setdefault((self.fingerprint, self.precision), opened.model))
            self._computing, self._opened, self._looked = opened, signature, time.monotonic()

    def _browse(self) -> None:
        signature = self._signature()
        self._browsing = self.writer()
        self._catalogue, self._opened_browsing = MapCatalogue(self._browsing), signature
        self._looked_browsing = time.monotonic()

    def _signature(self) -> Signature:
        return self._signature_of(self._computing.folder)

    def _signature_of(self, folder: Path) -> Signature:
        """Changes when the map is made anew, or its model is another one."""
        signs = []
        for path in (folder / STATE, folder / "model" / "spec.json"):
            try:
                status = path.stat()
            except OSError:
                signs.append((0, 0))
                continue
            signs.append((status.st_ino, status.st_mtime_ns if path.name != STATE else 0))
        return tuple(signs)


def refresh(place_map: PlaceMap) -> bool:
    """Take in what others have changed in a map; whether they have."""
    changed = not place_map.is_current()
    if changed:
        place_map.refresh()
    return changed


def map_names(sources: Sequence[str]) -> list[str]:
    """What maps are called in addresses: by their folders, without ``.map``; doubles are numbered.

    Raises:
        InputError: one map is given twice.
    """
    if len(set(sources)) < len(sources):
        raise InputError("one map is given twice; give each once")
    names: list[str] = []
    for source in sources:
        stem = _stem(source)
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", stem.removesuffix(".map")).strip("-.") or "map"
        name, number = stem, 2
        while name in names:
            name, number = f"{stem}-{number}", number + 1
        names.append(name)
    return names


def _stem(source: str) -> str:
    if not is_address(source):
        return Path(source).resolve().name
    address = parse_address(source)
    return Path(address.place).name + ("" if address.version is None else f"-{address.version}")
