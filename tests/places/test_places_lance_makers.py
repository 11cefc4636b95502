"""Who makes a map in LanceDB: several at once, makers that are killed, earlier versions of dejavlad."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any

import pytest

from database_maps import put
from dejavlad.errors import StoreError
from dejavlad.places.address import parse_address
from dejavlad.places.databases import lance_rows
from dejavlad.places.databases.database_features import LOCAL
from dejavlad.places.databases.database_map import ABOUT, DatabaseMap
from dejavlad.places.databases.lance_store import LanceStore, folder_uri
from small_s3 import SmallS3, small_s3

pytest.importorskip("lancedb")
ADDRESS = "s3://bucket/town"
DIMS = 8


def about_of(fingerprint: str) -> dict[str, Any]:
    return {"format": "dejavlad-map", "version": 1, "root": "/", "name": fingerprint, "dims": DIMS,
            "fingerprint": fingerprint}  # fmt: skip


def documents_of(fingerprint: str) -> dict[str, bytes]:
    """Of another length for each maker, so that a mixture is seen."""
    return {"weights": fingerprint.encode() * 9, ABOUT: json.dumps(about_of(fingerprint)).encode()}


def opened(address: str, fingerprint: str) -> DatabaseMap:
    town = DatabaseMap(address)
    town.about = about_of(fingerprint)
    return town


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallS3]:
    monkeypatch.setenv("DEJAVLAD_CACHE_DIR", str(tmp_path / "cache"))
    with small_s3("bucket") as server:
        monkeypatch.setenv("AWS_ENDPOINT", server.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
        yield server


def whole(fingerprint: str) -> None:
    """The map is this maker's alone, its photo is there, and others can go on with it."""
    town = opened(ADDRESS, fingerprint)
    assert town.engine.documents(list(documents_of("a"))) == documents_of(fingerprint)
    assert town.snapshot().photos.keys == [fingerprint] and town.check()
    put(town, "more")
    assert opened(ADDRESS, fingerprint).snapshot().photos.keys == [fingerprint, "more"]


class SlowMaker(threading.Thread):
    """Makes a map, waits before one of its requests until `goes_on`, and is killed so many requests later."""

    def __init__(self, store: SmallS3, moment: int, left: int = 1000) -> None:
        super().__init__(daemon=True)
        self.town, self.first = opened(ADDRESS, "a"), None
        self.waits, self.goes_on = threading.Event(), threading.Event()
        self.ends, self.buried = threading.Event(), threading.Event()
        self._requests, self._moment, self._left = 0, moment, left
        store.before = self.before
        store.log.clear()

    def before(self) -> bool:
        """Called before each request."""
        self._requests += 1
        if self._requests == self._moment:
            self.waits.set()
            self.goes_on.wait()
        if self._requests >= self._moment + self._left:
            self.ends.set()
            self.buried.wait()
        return True

    def run(self) -> None:
        with suppress(StoreError):  # of one that was killed, whose bucket is another's by now
            self.first = self.town.engine.create(documents_of("a"), DIMS)
        self.waits.set()
        self.ends.set()


@pytest.mark.slow
@pytest.mark.parametrize("left", [1000, 6], ids=["slow", "killed"])
def test_makers_at_once(store: SmallS3, left: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a request of one that makes a map, another makes it too, and adds a photo; the first goes on."""
    monkeypatch.setattr(lance_rows, "PART", 4)
    alone = SlowMaker(store, 0)
    alone.run()
    names = ("documents-", "/photos.lance")  # of tables on which they may meet
    moments = [i for i, line in enumerate(store.log, 1) if any(name in line for name in names)]
    assert alone.first and len(moments) > 7
    makers: list[SlowMaker] = []
    for moment in [moments[1], *moments[-5:]]:
        store.buckets["bucket"].clear()
        maker = SlowMaker(store, moment, left)
        maker.start()
        makers.append(maker)
        maker.waits.wait()
        store.before = lambda: True
        other, winner = opened(ADDRESS, "bb"), "a"
        if other.engine.create(documents_of("bb"), DIMS):
            winner = "bb"
            put(other, "bb")
        store.before = maker.before
        maker.goes_on.set()
        maker.ends.wait()
        store.before = lambda: True
        if left > 6:
            maker.join()
            assert maker.first is (winner == "a")
            assert len({key.split("/")[1] for key in store.buckets["bucket"]}) == 3  # all else is swept up
        if winner == "a":
            put(opened(ADDRESS, "a"), "a")
        whole(winner)
    for maker in makers:
        maker.buried.set()
        maker.join()


def test_two_writers_of_one_document(store: SmallS3) -> None:
    town = opened(ADDRESS, "a")
    town.engine.create(documents_of("a"), DIMS)
    again = [True]

    def other_between() -> bool:
        if again and store.puts_of("_versions"):
            again.clear()
            opened(ADDRESS, "a").engine.put_document(LOCAL, b'{"kind": "sift"}')
        return True

    store.before = other_between
    store.log.clear()
    town.engine.put_document(LOCAL, b'{"kind": "rootsift"}')
    assert not again
    assert town.engine.documents([LOCAL]) == {LOCAL: b'{"kind": "rootsift"}'}


def earlier_version(folder: Path) -> Callable[[str], Any]:
    """The tables of a map as earlier versions made them; gives each by name."""
    import lancedb
    import pyarrow as pa

    database = lancedb.connect(str(folder))
    for name in ("photos", "features", "documents"):
        schema = pa.schema([pa.field(f.name, f.type) for f in lance_rows.schema_of(name, DIMS)])
        lines = schema.empty_table()
        if name == "documents":
            lines = pa.table(lance_rows.document_lines(documents_of("a")).columns, schema=schema)
        database.create_table(name, lines.replace_schema_metadata({"dejavlad-map": "c0ffee"}))
    return database.open_table


def test_maps_of_earlier_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEJAVLAD_CACHE_DIR", str(tmp_path / "cache"))
    table = earlier_version(tmp_path / "db")
    town = opened(f"lance:{tmp_path / 'db'}", "a")
    assert not town.engine.create(documents_of("bb"), DIMS)
    assert town.engine.documents(list(documents_of("a"))) == documents_of("a")
    put(town, "x", "y")
    put(town, "y", value=2.0)
    town.engine.put_features({"x": (7, b"record")})
    town.engine.put_document(LOCAL, b"{}")
    assert town.snapshot().file_rows.all()[:, 0].tolist() == [1.0, 2.0] and town.check()
    assert town.engine.features(["x"]) == {"x": (7, b"record")} == {"x": (7, b"record")}
    assert town.engine.documents([LOCAL]) == {LOCAL: b"{}"}
    assert town.engine.view().made == "c0ffee" and table("photos").count_rows() == 2
    table("documents").add(table("documents").search().where(f"name = '{LOCAL}'").to_arrow())
    assert town.engine.documents([LOCAL]) == {LOCAL: b"{}"}  # written twice at once, it is one
    town.remove(["x"])
    assert town.snapshot().photos.keys == ["y"]


@pytest.mark.parametrize(
    ("folder", "uri"),
    [
        (PurePosixPath("/maps/old town"), "file-object-store:///maps/old%20town"),
        (PureWindowsPath("C:\\maps\\old town"), "file-object-store:///C:/maps/old%20town"),
        (PureWindowsPath("\\\\machine\\maps\\town"), "\\\\machine\\maps\\town"),
    ],
)
def test_a_folder_as_lancedb_names_it(folder: PurePath, uri: str) -> None:
    assert folder_uri(folder) == uri


@pytest.mark.parametrize("name", ["50%25 üb#er", "a+b [c]"])
def test_a_folder_of_any_name_is_the_one_on_disk(name: str, tmp_path: Path) -> None:
    store = LanceStore(parse_address(f"lance:{tmp_path / name}"))
    store.make("documents", lance_rows.document_lines({"a": b"b"}))
    store.publish("documents", "copy")
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    assert {entry.name for entry in (tmp_path / name).iterdir()} == {"documents.lance", "copy.lance"}
