"""Maps in LanceDB on an object store, with writers on several machines, and writers that are killed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dejavlad.errors import StoreError
from dejavlad.extraction import PhotoTable
from dejavlad.photo import Photo, PhotoList
from dejavlad.places.databases.database_map import ABOUT, DatabaseMap
from small_s3 import SmallS3, small_s3
from warm_processes import start

pytest.importorskip("lancedb")
DIMS = 8


def made(address: str) -> DatabaseMap:
    """An open map of descriptors alone, made if need be."""
    town = DatabaseMap(address)
    about = b'{"format":"dejavlad-map","version":1,"dims":8,"root":"/","name":"town","fingerprint":"f"}'
    town.engine.create({ABOUT: about}, DIMS)
    town.about = {"fingerprint": "f", "dims": DIMS, "root": "/", "name": "town"}
    return town


def add(town: DatabaseMap, names: list[str], value: float = 1.0) -> None:
    photos = PhotoList([Photo(name, Path("/photos") / name) for name in names])
    rows = np.full((len(names), DIMS), value, np.float32)
    town.add(PhotoTable.look(photos, lambda _: (0, 0)), rows, np.arange(len(names)), {})


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallS3]:
    monkeypatch.setenv("DEJAVLAD_CACHE_DIR", str(tmp_path / "cache"))
    with small_s3("bucket") as server:
        for name, value in (
            ("AWS_ENDPOINT", server.url),
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_REGION", "us-east-1"),
        ):
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
        yield server


def test_a_map_on_an_object_store(store: SmallS3) -> None:
    town = made("s3://bucket/town")
    add(town, ["a", "b"])
    reader = DatabaseMap("s3://bucket/town")
    reader.about = town.about
    before = reader.snapshot()
    add(town, ["c"], 2.0)
    town.remove(["a"])
    assert before.photos.keys == ["a", "b"]
    np.testing.assert_array_equal(before.file_rows.all(), np.ones((2, DIMS), np.float32))
    after = reader.snapshot()
    assert after.photos.keys == ["b", "c"]
    np.testing.assert_array_equal(after.file_rows.take(np.array([1])), np.full((1, DIMS), 2, np.float32))
    assert town.check()


@pytest.mark.slow
def test_trouble_with_the_store_is_one_line(store: SmallS3) -> None:
    town = made("s3://bucket/town")
    add(town, ["a"])
    store.refused = True
    with pytest.raises(StoreError, match="access is refused"):
        DatabaseMap("s3://bucket/town").snapshot()
    store.refused = False
    with pytest.raises(StoreError, match="there is no such bucket"):
        DatabaseMap("s3://other/town").engine.create({ABOUT: b"{}"}, DIMS)
    del store.buckets["bucket"]
    with pytest.raises(StoreError, match=r"s3://bucket/town"):
        town.snapshot()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", pytest.param("s3", marks=pytest.mark.slow)])
def test_writers_at_once_lose_nothing(store: SmallS3, tmp_path: Path, kind: str) -> None:
    address = "s3://bucket/town" if kind == "s3" else f"lance:{tmp_path / 'db'}"
    made(address)
    errors: list[BaseException] = []

    def write(writer: int) -> None:
        try:
            town = made(address)
            for i in range(4):
                add(town, [f"{writer}-{i}", "shared"], float(writer + 1))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert store.conditional > 12 or kind == "folder"  # a commit is a conditional put
    town = made(address)
    stored = town.engine.view().columns()["key"]  # what two machines wrote at once is one row
    assert sorted(stored) == sorted([*(f"{w}-{i}" for w in range(3) for i in range(4)), "shared"])
    assert town.snapshot().photos.keys.count("shared") == 1 and town.check()


def test_rows_of_one_key_count_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As writers of earlier versions left them, also where one more has written to both."""
    monkeypatch.setenv("DEJAVLAD_CACHE_DIR", str(tmp_path / "cache"))
    town = made(f"lance:{tmp_path / 'db'}")
    add(town, ["a", "b"], 1.0)
    table = town.engine._photos()  # type: ignore[attr-defined]
    twin = table.search().where("key = 'a'").to_arrow()
    table.add(twin)
    assert town.snapshot().photos.keys == ["a", "b"]
    add(town, ["a"], 2.0)  # gives both one mark
    snapshot = town.snapshot()
    assert snapshot.photos.keys == ["b", "a"] and town.lookup(["a"]).keys() == {"a"}
    assert snapshot.file_rows.all()[:, 0].tolist() == [1.0, 2.0] and town.check()
    town.remove(["a"])
    assert town.snapshot().photos.keys == ["b"]


KILLED = """
import sys
sys.path.insert(0, {here!r})
from test_places_lance_writers import add, made
town = made({address!r})
for i in range({first}, {first} + 10000):
    add(town, [f"{{i}}-{{j}}" for j in range(3)])
    print(i, flush=True)
"""


@pytest.mark.slow
def test_killed_writers_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEJAVLAD_CACHE_DIR", str(tmp_path / "cache"))
    address = f"lance:{tmp_path / 'db'}"
    acknowledged: list[int] = []
    for kill in range(2):  # the second writes to what the first left
        code = KILLED.format(here=str(Path(__file__).parent), address=address, first=10000 * kill)
        with start(code, stdout=True) as child:
            assert child.stdout is not None
            acknowledged.append(int(child.stdout.readline()))
            time.sleep(0.3 + 0.13 * kill)
            child.kill()
            acknowledged += [int(line) for line in child.stdout if line.endswith("\n")]
        town = made(address)
        keys = town.snapshot().photos.keys
        commits = {key.partition("-")[0] for key in keys}
        assert {str(i) for i in acknowledged} <= commits
        assert len(keys) == 3 * len(commits)  # no half of a commit
        assert town.check()
