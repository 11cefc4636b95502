"""Maps larger than memory: their rows are copied to this machine once, and searched exactly."""

from __future__ import annotations

import shutil
import zlib
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from database_maps import address_of, descriptors_alone, put
from dejavlad.index import build_index
from dejavlad.places.databases import row_copy
from dejavlad.places.databases import rows as database_rows
from dejavlad.places.databases.row_copy import CopiedRows, RowCopy, marks_of
from dejavlad.places.databases.rows import DatabaseRows
from dejavlad.places.map_folder import index as map_index
from dejavlad.storage import one_writer

DIMS = 24


class Table:
    """Rows of a database that someone changes; counts the rows that are read."""

    def __init__(self, folder: Path) -> None:
        self.rows: dict[str, tuple[str, NDArray[np.float32]]] = {}
        self.copy = RowCopy(folder, DIMS, "f")
        self.read = 0
        self.rng = np.random.default_rng(0)

    def put(self, *keys: str) -> None:
        for key in keys:
            self.rows.pop(key, None)
            row = self.rng.standard_normal(DIMS).astype(np.float32)
            self.rows[key] = (str(self.rng.integers(1 << 60)), row)

    @property
    def rows_ND(self) -> NDArray[np.float32]:
        return np.array([row for _, row in self.rows.values()], np.float32)

    def follow(self) -> CopiedRows | None:
        rows_ND = self.rows_ND

        def read(sample: NDArray[np.int64]) -> NDArray[np.float32]:
            self.read += len(sample)
            return rows_ND[sample]

        crcs = np.array([zlib.crc32(row.tobytes()) for row in rows_ND], np.int64)
        marks = marks_of(list(self.rows), [mark for mark, _ in self.rows.values()], crcs)
        return self.copy.follow(marks, read)

    def check(self) -> None:
        """The copy answers as the obvious search of all rows does, with filters and without."""
        copied, rows_ND = self.follow(), self.rows_ND
        assert copied is not None
        queries = self.rng.standard_normal((5, DIMS)).astype(np.float32)
        right = build_index("flat", rows_ND).search(queries, 7)
        ranking = copied.search(queries, 7, None)
        np.testing.assert_array_equal(ranking.indices, right.indices)
        np.testing.assert_array_equal(ranking.distances, right.distances)
        allowed = np.flatnonzero(self.rng.random(len(rows_ND)) < 0.3)
        right = build_index("flat", rows_ND[allowed]).search(queries, 3)
        ranking = copied.search(queries, 3, allowed)
        np.testing.assert_array_equal(ranking.indices, allowed[right.indices])
        np.testing.assert_array_equal(ranking.distances, right.distances)
        np.testing.assert_array_equal(copied.take(allowed), rows_ND[allowed])


def test_only_what_is_new_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_copy, "SPARE", 0)
    monkeypatch.setattr(row_copy, "PART_BYTES", 4 * DIMS * 100)
    table = Table(tmp_path)
    table.put(*map(str, range(1000)))
    with monkeypatch.context() as patched:
        patched.setattr(map_index, "audit", lambda *_: pytest.fail("no one asked for an audit"))
        table.check()
    assert table.read == 1000
    table.check()
    assert table.read == 1000
    table.put("1000", "7", "1001")  # one of them anew
    del table.rows["500"]
    table.check()
    assert table.read == 1003
    first = table.rows.pop("3")
    table.rows["3"] = first  # another order, as of writers at once
    table.check()
    assert table.read == 1003


def test_rows_of_gone_photos_go_once_they_are_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_copy, "SPARE", 0)
    monkeypatch.setattr(row_copy, "FEW_DEAD", 10)
    table = Table(tmp_path)
    table.put(*map(str, range(100)))
    table.check()
    for key in range(60):
        del table.rows[str(key)]
    table.check()
    assert table.read == 140 and (tmp_path / "copy/rows/rows.bin").stat().st_size == 40 * 4 * DIMS


@pytest.mark.parametrize("name", ["rows/rows.bin", "rows/marks.bin", "rows/copy.sqlite", "index/codes.bin"])
@pytest.mark.parametrize("how", ["cut", "gone", "other"])
def test_a_damaged_copy_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, how: str
) -> None:
    monkeypatch.setattr(row_copy, "SPARE", 0)
    table = Table(tmp_path)
    table.put(*map(str, range(50)))
    table.check()
    path = tmp_path / "copy" / name
    content = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] if how == "cut" else b"\x55" * len(content))
    if name == "rows/rows.bin" and how == "other":  # which is seen as they are read
        assert table.follow() is None
    table.check()


def test_where_it_cannot_be_made_the_database_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Table(tmp_path)
    table.put(*map(str, range(50)))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1 << 40, 1 << 40, row_copy.SPARE))
    assert table.follow() is None
    monkeypatch.undo()
    monkeypatch.setattr(row_copy, "SPARE", 0)
    (tmp_path / "copy").mkdir(exist_ok=True)
    with one_writer(tmp_path / "copy"):  # another process brings it up to date
        assert table.follow() is None
    table.check()


class View:
    """A table that stays as it is."""

    version = 1

    def __init__(self, rows_ND: NDArray[np.float32]) -> None:
        self.rows, self.read = rows_ND, 0

    def vectors(self, ids: NDArray[np.uint64] | None = None) -> Iterator[Any]:
        chosen = np.arange(len(self.rows)) if ids is None else ids.astype(np.int64)
        for first in range(0, len(chosen), 7):
            sample = chosen[first : first + 7][::-1]
            self.read += len(sample)
            yield sample.astype(np.uint64), self.rows[sample]


class NoCopy:
    def follow(self, *_: object) -> None:
        return None


def rows_through(view: View, copy: RowCopy | NoCopy) -> DatabaseRows:
    ids = np.arange(len(view.rows), dtype=np.uint64)
    crcs = np.array([zlib.crc32(row.tobytes()) for row in view.rows], np.int64)
    return DatabaseRows(view, ids, crcs, DIMS, "somewhere", lambda: ids, copy)  # type: ignore[arg-type]


def check(rows: DatabaseRows, rows_ND: NDArray[np.float32]) -> None:
    queries = np.random.default_rng(1).standard_normal((3, DIMS)).astype(np.float32)
    for allowed in (None, np.array([3, 9]), np.arange(4, len(rows_ND) - 1)):
        sample = np.arange(len(rows_ND)) if allowed is None else allowed
        right = build_index("flat", rows_ND[sample]).search(queries, 2)
        ranking = rows.search(queries, 2, allowed)
        np.testing.assert_array_equal(ranking.indices, sample[right.indices])
        np.testing.assert_array_equal(ranking.distances, right.distances)
    np.testing.assert_array_equal(rows.take(np.array([5, 2, 5])), rows_ND[[5, 2, 5]])


def test_rows_are_read_by_themselves_where_nothing_can_be_copied() -> None:
    rows_ND = np.random.default_rng(0).standard_normal((50, DIMS)).astype(np.float32)
    view = View(rows_ND)
    check(rows_through(view, NoCopy()), rows_ND)
    assert view.read > 100


def test_a_copy_damaged_meanwhile_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_copy, "SPARE", 0)
    monkeypatch.setattr(database_rows, "IN_MEMORY", 0)
    rows_ND = np.random.default_rng(0).standard_normal((50, DIMS)).astype(np.float32)
    view = View(rows_ND)
    check(rows_through(view, RowCopy(tmp_path, DIMS, "f")), rows_ND)
    assert view.read == 50
    (tmp_path / "copy/rows/rows.bin").write_bytes(bytes(4 * DIMS * 50))
    check(rows_through(view, RowCopy(tmp_path, DIMS, "f")), rows_ND)
    check(rows_through(view, RowCopy(tmp_path, DIMS, "f")), rows_ND)


@pytest.mark.parametrize("kind", ["lance", "qdrant"])
@pytest.mark.parametrize("in_memory", [1 << 30, 0])
def test_after_a_change_only_what_is_new_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, in_memory: int
) -> None:
    monkeypatch.setenv("DEJAVLAD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(database_rows, "IN_MEMORY", in_memory)
    monkeypatch.setattr(row_copy, "SPARE", 0)
    with address_of(kind, tmp_path) as address:
        town = descriptors_alone(address)
        read: list[int] = []

        def look() -> NDArray[np.float32]:
            snapshot = town.snapshot()
            rows = snapshot.file_rows
            assert isinstance(rows, DatabaseRows)
            before = rows.view.vectors

            def vectors(ids: NDArray[np.uint64] | None = None) -> Iterator[Any]:
                for part in before(ids):
                    read.append(len(part[0]))
                    yield part

            view = SimpleNamespace(vectors=vectors, version=rows.view.version)
            monkeypatch.setattr(rows, "view", view)
            if not in_memory:
                rows.search(np.ones((1, town.dims), np.float32), 1)
            return rows.take(np.arange(snapshot.head.photos))

        put(town, *map(str, range(40)), value=2.0)
        assert (look() == 2).all() and sum(read) == 40
        put(town, "40", value=3.0)
        put(town, "7", value=4.0)
        town.remove(["0"])
        town.snapshot()  # seen, but not searched
        read.clear()
        values = look()
        assert sum(read) == 2 and values[:, 0].tolist() == [2.0] * 38 + [3.0, 4.0]
        read.clear()
        look()
        assert not read
