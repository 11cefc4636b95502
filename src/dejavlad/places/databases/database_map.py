"""A map that lies in a database: the same questions and changes as `MapState`.

What is read is a `MapSnapshot`, so that search, confidence and verification are the folder map's own. Rows
are compared exactly, by the folder map's arithmetic (see `DatabaseRows`).

Legend: N photos, D the descriptor's size, K answers.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError, StoreError, StoreMismatchError
from dejavlad.extraction import PhotoTable
from dejavlad.files import write_whole
from dejavlad.guarded.fields import DAMAGED
from dejavlad.guarded.json_file import parse_json_object, read_json_object, with_checksum, without_checksum
from dejavlad.guarded.plain_file import read_bytes
from dejavlad.places.address import Address, is_address, parse_address
from dejavlad.places.databases.columns import columns_of, facts_of, latest, numbers_and_texts, take
from dejavlad.places.databases.engine import MapEngine
from dejavlad.places.databases.row_copy import RowCopy, marks_of
from dejavlad.places.databases.rows import DatabaseRows
from dejavlad.places.map_folder.moving import Moved, MovingPhotos
from dejavlad.places.map_folder.records import records_of
from dejavlad.places.map_folder.snapshot import Head, MapSnapshot
from dejavlad.progress import OnProgress, silent
from dejavlad.storage import PhotoRecord, discard, photo_blocks
from dejavlad.storage.identity import check_format

if TYPE_CHECKING:
    from dejavlad.places.databases.database_features import DatabaseFeatures

FORMAT, VERSION = "dejavlad-map", 1
ABOUT, LEARNT = "about.json", "model.json"
MODEL_FILES = ("spec.json", "weights.safetensors")
MADE: Final = "made"
"""In `work`: that the database has had the map."""
FEW_KEYS: Final = 1000
"""Up to so many keys are looked up one by one."""
Rows = NDArray[np.int64]


def engine_at(address: Address) -> MapEngine:
    """The database of an address."""
    if address.kind == "lance":
        from dejavlad.places.databases.lance_tables import LanceTables

        return LanceTables(address)
    from dejavlad.places.databases.qdrant_points import QdrantPoints

    return QdrantPoints(address)


def no_map(address: str) -> StoreError:
    """What to say where an address has no map."""
    return StoreError(
        f"there is no map at {address!r}: make one with `dejavlad map build PHOTOS --out {address}`"
    )


@dataclass(frozen=True, slots=True)
class MapVersion:
    """A commit of a map's table."""

    version: int
    """Its number."""
    time: str
    """When, by the writer's clock: ISO 8601, UTC."""
    clock_differs: bool
    """Whether its clock was behind that of an earlier commit."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def __str__(self) -> str:
        late = "  (this writer's clock is behind an earlier one's)" if self.clock_differs else ""
        return f"{self.version:>6}  {self.time}{late}"


def list_versions(address: str) -> list[MapVersion]:
    """The versions of a map, oldest first.

    Raises:
        InputError: it is in no database that has versions.
        StoreError: there is no map.
    """
    if not is_address(address) or parse_address(address).kind != "lance":
        raise InputError(f"{address!r} has no versions; a map in LanceDB has: lance:FOLDER, s3://bucket/path")
    engine = engine_at(parse_address(address))
    if not engine.documents([ABOUT]):
        raise no_map(address)
    listed, latest_time = [], 0.0
    for number, moment in engine.versions():
        text = datetime.datetime.fromtimestamp(moment, datetime.UTC).isoformat(timespec="seconds")
        listed.append(MapVersion(number, text, moment < latest_time))
        latest_time = max(latest_time, moment)
    return listed


class DatabaseMap:
    """Reads and changes a map in a database.

    Args:
        address: where.
    """

    def __init__(self, address: str) -> None:
        self.address = parse_address(address)
        self.work = self.address.work
        self.engine = engine_at(self.address)
        self.about: dict[str, Any] = {}
        self.keys: list[str] = []
        self.crcs: Rows = np.empty(0, np.int64)
        self._made = ""
        self._rows: DatabaseRows | None = None
        self._places: dict[str, int] | None = None

    @cached_property
    def features(self) -> DatabaseFeatures:
        """Its local features, whose library is loaded when they are wanted."""
        from dejavlad.places.databases.database_features import DatabaseFeatures

        return DatabaseFeatures(self)

    def another(self) -> DatabaseMap:
        """The same map, for another thread."""
        other = DatabaseMap(str(self.address))
        other.about = self.about
        return other

    @property
    def dims(self) -> int:
        """D."""
        return int(self.about["dims"])

    def fetch(self) -> bool:
        """Bring the model and what it was learnt from to `work`; False where there is no map.

        Raises:
            StoreError: the map is damaged or of a later version.
        """
        documents = self.engine.documents([ABOUT])
        if ABOUT not in documents:
            return False
        try:
            about = without_checksum(parse_json_object(documents[ABOUT]))
            check_format(about, FORMAT, VERSION, str(self.address))
            if not isinstance(about["dims"], int):
                raise ValueError(f"its dims are {about['dims']!r}")
            fingerprint = str(about["fingerprint"])
        except DAMAGED as error:
            raise StoreError(f"{self.address} is not a map: {error}") from error
        self.about = about
        if self._brought() != fingerprint:
            discard(self.work)
            files = self.engine.documents([LEARNT, *MODEL_FILES])
            lost = [name for name in (LEARNT, *MODEL_FILES) if name not in files]
            if lost:
                raise StoreError(f"{self.address} is damaged: {lost[0]} of its model is missing")
            model = self.work / "model"
            model.mkdir(parents=True)
            write_whole(model / MODEL_FILES[1], files[MODEL_FILES[1]])
            write_whole(self.work / LEARNT, files[LEARNT])
            write_whole(model / MODEL_FILES[0], files[MODEL_FILES[0]])
            (self.work / MADE).touch()
        return True

    def create(self, fingerprint: str, dims: int, root: Path, name: str) -> None:
        """Make the map, of the model in `work`.

        Raises:
            StoreMismatchError: another writer made one of another model meanwhile.
        """
        root_text = Path(os.path.abspath(root)).as_posix()
        about = {"format": FORMAT, "version": VERSION, "dims": dims, "root": root_text, "name": name}
        documents = {name: read_bytes(self.work / "model" / name) for name in MODEL_FILES}
        documents[LEARNT] = read_bytes(self.work / LEARNT)
        documents[ABOUT] = json.dumps(with_checksum({**about, "fingerprint": fingerprint})).encode()
        self.engine.create(documents, dims)
        (self.work / MADE).touch()
        self.fetch()
        if self.about["fingerprint"] != fingerprint:
            raise StoreMismatchError(
                str(self.address), {"model": (self.about["fingerprint"][:12], fingerprint[:12])}
            )

    def prepare(self) -> bool:
        """`fetch` before a build; of a map that is gone, what lies in `work` is forgotten.

        Raises:
            InputError: the address names a version.
        """
        self.address.refuse_version()
        if self.fetch():
            return True
        if (self.work / MADE).exists():
            discard(self.work)
        return False

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """Errors that tell of `work` tell of the address instead."""
        try:
            yield
        except StoreMismatchError as error:
            if error.path != str(self.work):
                raise
            raise StoreMismatchError(
                str(self.address), error.differences, "Give another --out for another map."
            ) from None

    def snapshot(self) -> MapSnapshot:
        """The map as it is now."""
        view = self.engine.view()
        self._made = view.made
        version = view.version  # before its rows are read: what changes meanwhile is seen next time
        columns = latest(view.columns())
        good = np.array([why is None for why in columns["failed"]], np.bool_)
        failed = {key: why for key, why in zip(columns["key"], columns["failed"], strict=True) if why}
        columns = take(columns, np.flatnonzero(good))
        others = {model for model in columns["model"] if model != self.about["fingerprint"]}
        if others:
            ours = str(self.about["fingerprint"])[:12]
            raise StoreMismatchError(
                str(self.address),
                {"model of some rows": (str(min(others, key=str))[:12], ours)},
                "Someone else wrote them; open an earlier version, or build it anew.",
            )
        numbers, texts = numbers_and_texts(columns)
        self.keys, self.crcs = columns["key"], np.asarray(columns["crc"], np.int64)
        keys, crcs, commits = self.keys, self.crcs, columns["mark"]
        rows = DatabaseRows(
            view,
            columns["id"],
            crcs,
            self.dims,
            str(self.address),
            lambda: marks_of(keys, commits, crcs),
            RowCopy(self.work, self.dims, str(self.about["fingerprint"])),
            self._rows,
        )
        self._rows, self._places = rows, None
        size = photo_blocks.BLOCK
        head = Head(
            self.dims,
            str(self.about["root"]),
            str(self.about["name"]),
            version,
            len(numbers),
            len(numbers),
            int((numbers["known"] & photo_blocks.POSITION > 0).sum()),
            len(numbers),
        )
        return MapSnapshot(
            head,
            lambda: rows,
            lambda: numbers,
            lambda block: texts[block * size : (block + 1) * size],
            lambda: failed,
        )

    def validate(self, snapshot: MapSnapshot) -> None:
        """A database has looked already whether rows are cut short."""

    def change(self) -> int:
        """How often the map was changed; -1, which no snapshot has, of another map made at the same place."""
        view = self.engine.view()
        return view.version if view.made == self._made else -1

    def places_of(self, snapshot: MapSnapshot, keys: Sequence[str]) -> dict[str, int]:
        """Key -> where it stands in the last snapshot's photos, of those keys that it has."""
        if self._places is None:
            self._places = {key: row for row, key in enumerate(self.keys)}
        return {key: self._places[key] for key in keys if key in self._places}

    def convert(self) -> None:
        """Nothing: a map in a database has no older forms."""

    def bytes(self) -> int:
        """Size of the map."""
        return self.engine.size()

    def lookup(self, keys: Sequence[str]) -> dict[str, tuple[int, PhotoRecord]]:
        """Key -> place and record, of those photos that are in the map; the place says nothing."""
        keys = [key for key in dict.fromkeys(keys) if _is_text(key)]
        columns = self.engine.find(keys) if len(keys) <= FEW_KEYS else self.engine.view().columns()
        columns = latest(columns)
        wanted = set(keys)
        chosen = [
            i
            for i, (key, why) in enumerate(zip(columns["key"], columns["failed"], strict=True))
            if why is None and key in wanted
        ]
        columns = take(columns, np.array(chosen, np.int64))
        numbers, texts = numbers_and_texts(columns)
        return {
            key: (i, photo_blocks.decode(numbers[i], texts[i], Path()))
            for i, key in enumerate(columns["key"])
        }

    def add(self, table: PhotoTable, rows_MD: NDArray[Any], chosen: Rows, failed: dict[str, str]) -> None:
        """Add photos with their rows, in one commit; a new photo takes the place of one of its key.

        Raises:
            InputError: a descriptor that is not finite, which LanceDB would leave out without a word.
        """
        records = records_of(table)
        vectors = np.zeros((len(records) + len(failed), self.dims), np.float32)
        vectors[: len(records)] = rows_MD[chosen]
        if (bad := np.flatnonzero(~np.isfinite(vectors).all(axis=1))).size:
            key = records[int(bad[0])].photo.key
            raise InputError(f"the descriptor of {key!r} holds NaN or infinity; nothing is written")
        columns = columns_of(
            records,
            vectors[: len(records)],
            failed,
            first=self.engine.next_row(),
            model=str(self.about["fingerprint"]),
            mark=uuid.uuid4().hex,
        )
        if len(vectors):
            self.engine.upsert(columns, vectors)

    def remove(self, keys: Iterable[str]) -> None:
        """Take photos out, and forget those that failed."""
        self.engine.delete(list(keys))

    def update(self, facts: Mapping[int, PhotoRecord]) -> None:
        """Other facts of some photos, by place; their keys and rows stay."""
        self.engine.correct({record.photo.key: facts_of(record) for record in facts.values()})

    def move(self, old: Path, new: Path) -> Moved:
        """Photos at `old` or below it lie at `new` now; names in the map stay as they are."""
        snapshot = self.another().snapshot()  # what is open goes on with its own
        moving = MovingPhotos(old, new, rename=False)
        moved = [moving(snapshot.record(i)) for i in range(snapshot.head.photos)]
        result = moving.result(str(self.about["root"]))
        self.engine.correct({record.photo.key: facts_of(record) for record in moved if record is not None})
        return result

    def check(self, on_progress: OnProgress = silent) -> bool:
        """Compare all that lies on disk with its checksums."""
        rows = self.another().snapshot().file_rows
        assert isinstance(rows, DatabaseRows)
        rows.check(on_progress)
        return True

    def _brought(self) -> str | None:
        """The fingerprint of the model in `work`."""
        try:
            spec = read_json_object(self.work / "model" / MODEL_FILES[0])
        except (OSError, *DAMAGED):
            return None
        return str(spec.get("fingerprint"))


def _is_text(key: str) -> bool:
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True
