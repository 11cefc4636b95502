"""What goes wrong with maps in databases: each is one line, and nothing that was acknowledged is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from database_maps import address_of, descriptors_alone, put
from dejavlad.errors import InputError, StoreError, StoreMismatchError
from dejavlad.places.databases import rows as database_rows
from dejavlad.places.databases.database_map import DatabaseMap, list_versions
from dejavlad.places.databases.lance_tables import LanceTables


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEJAVLAD_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture(params=["lance", "qdrant", "engine"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with address_of(request.param, tmp_path) as given:
        yield given


def table_of(address: str) -> Any:
    import lancedb

    return lancedb.connect(address.removeprefix("lance:")).open_table("photos")


@pytest.mark.parametrize("in_memory", [1 << 30, 0])
def test_rows_of_other_dims(address: str, in_memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_rows, "IN_MEMORY", in_memory)
    put(descriptors_alone(address), "a", "b")
    other = descriptors_alone(address, dims=16)  # its model makes 16 numbers, the table holds 8
    rows = other.snapshot().file_rows
    with pytest.raises(StoreMismatchError, match="dims: 8 there, 16 now"):
        rows.take(np.array([0]))
    with pytest.raises(StoreError, match="16"):
        put(other, "c")
    assert descriptors_alone(address).snapshot().photos.keys == ["a", "b"]


def test_rows_of_another_model(address: str) -> None:
    put(descriptors_alone(address), "a")
    put(descriptors_alone(address, fingerprint="g"), "b")  # a writer that looked at nothing
    with pytest.raises(StoreMismatchError, match="model of some rows: 'g' there, 'f' now"):
        descriptors_alone(address).snapshot()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none(address: str, value: float) -> None:
    town = descriptors_alone(address)
    put(town, "a")
    with pytest.raises(InputError, match="'b' holds NaN or infinity; nothing is written"):
        put(town, "b", value=value)
    assert town.snapshot().photos.keys == ["a"]


def test_numbers_that_someone_else_wrote(tmp_path: Path) -> None:
    with address_of("lance", tmp_path) as address:
        town = descriptors_alone(address)
        put(town, "a", "b")
        table = table_of(address)
        lines = table.search().where("key = 'b'").to_arrow()
        import pyarrow as pa

        bad = pa.array([[float("nan")] * 8], lines.schema.field("vector").type)
        lines = lines.set_column(lines.schema.get_field_index("vector"), "vector", bad)
        table.delete("key = 'b'")
        table.add(lines, on_bad_vectors="fill", fill_value=float("inf"))
        with pytest.raises(StoreError, match="changed by someone else: a vector is not finite"):
            town.snapshot().file_rows.all()


def test_clocks_that_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with address_of("lance", tmp_path) as address:
        with pytest.raises(StoreError, match=f"there is no map at '{address}': make one with"):
            list_versions(address)
        town = descriptors_alone(address)
        put(town, "a")
        put(town, "b")
        numbers = [number for number, _ in town.engine.versions()]
        wrong = [(number, 2e9 - 3600 * (i == 2)) for i, number in enumerate(numbers)]
        monkeypatch.setattr(LanceTables, "versions", lambda _: wrong)
        listed = list_versions(address)
        assert [each.clock_differs for each in listed] == [i == 2 for i in range(len(numbers))]
        assert "clock is behind" in str(listed[2]) and [each.version for each in listed] == numbers
        # rows of one key: what counts is the order of commits, not of clocks
        put(town, "a", value=3.0)
        monkeypatch.setattr(time, "time", lambda: 1e9)
        put(town, "a", value=4.0)
        snapshot = town.snapshot()
        assert snapshot.photos.keys == ["b", "a"] and snapshot.file_rows.all()[1, 0] == 4.0


@pytest.mark.parametrize("attempt", range(5))
def test_two_maps_of_one_name(address: str, attempt: int) -> None:
    """Of writers at once one makes the map, and the others see which."""
    made: list[int] = []
    towns = [DatabaseMap(address) for _ in range(3)]

    def make(number: int) -> None:
        if towns[number].engine.create({"about.json": str(number).encode()}, 8):
            made.append(number)

    threads = [threading.Thread(target=make, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    content = towns[0].engine.documents(["about.json"])["about.json"]
    assert made == [int(content)]
    town = descriptors_alone(address)
    put(town, "a")
    assert town.snapshot().photos.keys == ["a"]


@pytest.mark.parametrize("kind", ["qdrant", "engine"])
def test_a_maker_in_qdrant_that_is_killed(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its documents never count, and the next makes the map; maps of earlier versions name no maker."""
    from dejavlad.places.databases import qdrant_points

    with address_of(kind, tmp_path) as address:
        first, next_maker, other = (DatabaseMap(address) for _ in range(3))
        with monkeypatch.context() as patch:
            patch.setattr(
                qdrant_points, "MAKER", None
            )  # fails when it is about to say that its documents count
            with pytest.raises(StoreError, match="encode"):
                first.engine.create({"weights": b"first", "about.json": b"1"}, 8)
        assert first.engine.documents(["weights", "about.json"]) == {}
        documents = {"weights": b"next", "about.json": b"2"}
        assert next_maker.engine.create(documents, 8) and not first.engine.create({"about.json": b"1"}, 8)
        assert other.engine.documents(["weights", "about.json"]) == documents
    with address_of(kind, tmp_path / "earlier") as address:
        town = descriptors_alone(address)
        town.engine._delete(town.engine._documents, ["maker"])  # type: ignore[attr-defined]
        assert town.engine.documents(["about.json"]) == {}
        town.engine.put_document("about.json", b"3")
        assert town.engine.documents(["about.json"]) == {"about.json": b"3"}
        assert not town.engine.create({"about.json": b"4"}, 8)


FULL = """
import resource, signal, sys
sys.path[:0] = {path!r}
from lancedb.merge import LanceMergeInsertBuilder
from database_maps import descriptors_alone, put
from dejavlad.errors import StoreError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
town, other = descriptors_alone({address!r}), descriptors_alone({address!r})
put(town, "a")
execute = LanceMergeInsertBuilder.execute

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

def and_then_another_writes(builder, lines):
    LanceMergeInsertBuilder.execute = execute
    try:
        return execute(builder, lines)
    finally:
        limit(resource.RLIM_INFINITY)
        put(other, *names[-1])

names = [["a"]]
for size, count in ((4096, 3000), (2000, 3), (1000, 1)):  # to a plain path, it commits the second
    names.append([*names[-1], "other %d" % size])
    LanceMergeInsertBuilder.execute = and_then_another_writes
    limit(size)
    try:
        put(town, *map(str, range(count)))
    except StoreError as error:
        print(error)
    assert sorted(town.snapshot().photos.keys) == sorted(names[-1]) and town.check()
put(town, "b")
assert sorted(town.snapshot().photos.keys) == sorted([*names[-1], "b"]) and town.check()
"""


@pytest.mark.slow
def test_a_full_disk(tmp_path: Path) -> None:
    """Stood in for by a limit on the size of files, which fails in the same call; others write meanwhile."""
    pytest.importorskip("resource")
    import subprocess
    import sys

    with address_of("lance", tmp_path) as address:
        code = FULL.format(path=[str(Path(__file__).parents[1])], address=address)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == 3 * [f"cannot use {address}: there is no space left"]


def test_a_file_in_the_place_of_a_folder(tmp_path: Path) -> None:
    with address_of("lance", tmp_path) as address:
        (tmp_path / "db").touch()
        with pytest.raises(StoreError, match=r"cannot use lance:\S+: a file lies there, not a folder"):
            descriptors_alone(address)


def test_a_folder_that_vanishes(tmp_path: Path) -> None:
    import shutil

    with address_of("lance", tmp_path) as address:
        town = descriptors_alone(address)
        put(town, "a")
        shutil.rmtree(tmp_path / "db")
        for ask in (town.snapshot, town.check, lambda: put(town, "b")):
            with pytest.raises(StoreError, match=r"has no table 'photos' \(any more\); build the map again"):
                ask()


CHANGES = {"name": "'other'", "path": "'/elsewhere'", "east": "1.5", "zone": "'34N'", "time": "7.0",
           "heading": "90.0", "tags": "'[\"night\"]'", "failed": "'is blank'", "row": "7", "crc": "7",
           "frame": "3", "group": "'g'", "width": "7"}  # fmt: skip


@pytest.mark.parametrize("column", CHANGES)
def test_facts_that_someone_else_changed(tmp_path: Path, column: str) -> None:
    with address_of("lance", tmp_path) as address:
        town = descriptors_alone(address)
        put(town, "a", "b")
        version = town.engine.view().version
        table_of(address).update(where="key = 'b'", values_sql={column: CHANGES[column]})
        for look in (town.snapshot, lambda: town.lookup(["b"]), lambda: town.check()):
            with pytest.raises(StoreError, match="changed by someone else: what it says of 'b' is not what"):
                look()
        assert town.lookup(["a"]).keys() == {"a"}
        before = descriptors_alone(f"{address}@{version}")
        assert before.snapshot().photos.keys == ["a", "b"] and before.check()
        put(town, "b")  # described anew, it is whole again
        assert town.snapshot().photos.keys == ["a", "b"] and town.check()


def test_a_vector_that_someone_else_changed(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is seen when it is read, not only by a check."""
    town = descriptors_alone(address)
    put(town, "a", "b")
    snapshot = town.snapshot()
    honest = type(snapshot.file_rows.view).vectors

    def changed(self: Any, ids: Any = None) -> Iterator[Any]:
        for numbers, values in honest(self, ids):
            yield numbers, np.where(np.arange(len(values))[:, None] == len(values) - 1, 2.0, values)

    monkeypatch.setattr(type(snapshot.file_rows.view), "vectors", changed)
    with pytest.raises(StoreError, match=r"row . is not what was written; open it again"):
        snapshot.file_rows.take(np.array([1]))


def test_rows_of_earlier_versions_have_no_seal(tmp_path: Path) -> None:
    with address_of("lance", tmp_path) as address:
        town = descriptors_alone(address)
        put(town, "a", "b")
        table_of(address).update(where="key = 'b'", values_sql={"mark": "'c0ffee'"})
        _, record = town.lookup(["b"])["b"]
        town.update({0: replace(record, photo=replace(record.photo, heading=20.0))})  # which seals it
        assert town.snapshot().photos[1].heading == 20.0 and town.check()
        table_of(address).update(where="key = 'b'", values_sql={"heading": "30.0"})
        with pytest.raises(StoreError, match="what it says of 'b'"):
            town.snapshot()
