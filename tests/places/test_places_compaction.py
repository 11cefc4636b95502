"""Rows of a map written anew without those of removed photos: smaller, the same answers, never half."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from pathlib import Path

import numpy as np
import pytest

import dejavlad as dv
from dejavlad.aggregation import GeM
from dejavlad.errors import StoreError
from dejavlad.extraction import PhotoTable
from dejavlad.geo import Position
from dejavlad.model import PlaceModel
from dejavlad.photo import Photo, PhotoList
from dejavlad.places.map_folder import state as map_state
from dejavlad.places.map_folder.state import MapState
from dejavlad.storage import rows as row_files
from dejavlad.storage import state as state_module
from dejavlad.storage.kept_rows import KeptRows

DIMS = 6


def vectors(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, DIMS)).astype(np.float32)


class Story:
    """A map, and the plain dictionary of what it should hold."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.state, self.rows = MapState(folder, DIMS), dict[str, np.ndarray]()

    def add(self, names: list[str], seed: int) -> None:
        photos = PhotoList((Photo(n, Path(n), position=Position(1.0, 2.0)) for n in names), root=Path("x"))
        drawn = vectors(len(names), seed)
        table = PhotoTable.look(photos, lambda _: (0, 0))
        self.state.add(table, drawn, np.arange(len(names)), {})
        for name in names:
            self.rows.pop(name, None)
        self.rows |= dict(zip(names, drawn, strict=True))

    def remove(self, names: list[str]) -> None:
        self.state.remove(names)
        for name in names:
            del self.rows[name]

    def check(self) -> None:
        snapshot = self.state.snapshot()
        assert snapshot.photos.keys == list(self.rows)
        rows = snapshot.file_rows.all()[snapshot.rows].reshape(-1, DIMS)
        np.testing.assert_array_equal(rows, np.array([*self.rows.values()]).reshape(-1, DIMS))
        assert self.state.check()


def test_rows_lie_elsewhere_and_all_else_is_the_same(tmp_path: Path) -> None:
    story = Story(tmp_path / "map")
    rng = np.random.default_rng(0)
    for step in range(12):
        story.add([f"{step}-{i}" for i in range(int(rng.integers(1, 9)))], step)
        if step % 3 == 1:
            story.remove([name for name in story.rows if rng.random() < 0.6])
            story.add([next(iter(story.rows), "again")], 100 + step)  # described anew
        numbers = story.state.snapshot().row_numbers.tolist()
        before = sum(path.stat().st_size for path in (tmp_path / "map").glob("rows*.bin"))
        freed = story.state.compact() if step % 4 == 3 else 0
        assert story.state.snapshot().row_numbers.tolist() == numbers  # what else names them need not change
        files = [path.name for path in (tmp_path / "map").glob("rows*.bin")]
        after = sum(path.stat().st_size for path in (tmp_path / "map").glob("rows*.bin"))
        assert len(files) == 1 and before - after == freed
        if step % 4 == 3:
            assert freed and after == len(story.rows) * DIMS * 4
        story.check()
    assert story.state.compact() == 0  # nothing is dead
    story.remove(list(story.rows))
    assert story.state.compact() > 0
    story.check()
    story.add(["last"], 7)
    story.check()


def test_many_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_files, "CHUNK_BYTES", 3 * DIMS * 4)
    monkeypatch.setattr("dejavlad.storage.kept_rows.PART", 4)
    story = Story(tmp_path / "map")
    story.add([str(i) for i in range(40)], 0)
    story.remove([str(i) for i in range(40) if i % 3])
    assert story.state.compact() == 26 * DIMS * 4
    story.add([f"b{i}" for i in range(11)], 1)
    story.check()
    story.remove(["0", "b0"])
    story.state.compact()
    story.check()


def test_readers_of_before_see_what_they_opened_or_are_told(tmp_path: Path) -> None:
    story = Story(tmp_path / "map")
    story.add([str(i) for i in range(8)], 0)
    read, unread = story.state.snapshot(), story.state.snapshot()
    expected = read.file_rows.all()[read.rows].copy()
    story.remove(["1", "2", "3", "4", "5"])
    story.state.compact()
    np.testing.assert_array_equal(read.file_rows.all()[read.rows], expected)
    assert unread.photos.keys == [str(i) for i in range(8)]
    with pytest.raises(StoreError, match="written anew since it was opened; open it again"):
        unread.file_rows.all()


def test_earlier_versions_read_a_map_until_it_is_compacted(tmp_path: Path) -> None:
    story = Story(tmp_path / "map")
    story.add(["a", "b"], 0)

    def values() -> tuple[dict[str, object], int]:
        with sqlite3.connect(tmp_path / "map" / "map.sqlite") as connection:
            meta = dict(connection.execute("SELECT name, value FROM meta").fetchall())
        connection.close()
        return json.loads(meta["map"]), json.loads(meta["version"])

    fields, version = values()
    assert version == 2 and "compactions" not in fields
    story.remove(["a"])
    story.state.compact()
    fields, version = values()
    assert version == 3 and fields["compactions"] == 1
    older = map_state.State(tmp_path / "map" / "map.sqlite", map_state.KIND, 2, ())
    with pytest.raises(StoreError, match="written by a later dejavlad"), older.reading():
        pass


def test_a_damaged_list_of_rows_is_refused(tmp_path: Path) -> None:
    story = Story(tmp_path / "map")
    story.add(["a", "b", "c"], 0)
    story.remove(["a", "b"])
    story.state.compact()
    with sqlite3.connect(tmp_path / "map" / "map.sqlite") as connection:
        connection.execute("UPDATE kept_rows SET rows=zeroblob(8)")
    connection.close()
    with pytest.raises(StoreError, match="the numbers of rows is wrong"):
        story.state.check()
    with pytest.raises(StoreError, match="the numbers of rows is wrong"):
        _ = story.state.snapshot().rows
    kept = KeptRows(np.array([2, 5, 9]), 12)
    assert kept.positions(np.array([9, 12, 2, 14])).tolist() == [2, 3, 0, 5]
    with pytest.raises(IndexError):
        kept.positions(np.array([3]))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_step_the_map_is_whole(tmp_path: Path) -> None:
    killed, step = True, 0
    while killed:
        folder = tmp_path / str(step)
        story = Story(folder)
        story.add([str(i) for i in range(8)], 0)
        story.remove(["0", "1", "2", "4", "6"])
        child = os.fork()
        if not child:
            steps = iter(range(10**6))

            def hooked(real):  # type: ignore[no-untyped-def]
                def call(*args, **options):  # type: ignore[no-untyped-def]
                    if next(steps) == step:  # noqa: B023
                        os.kill(os.getpid(), signal.SIGKILL)
                    return real(*args, **options)

                return call

            for owner, name in ((os, "fsync"), (Path, "unlink"), (state_module, "commit")):
                setattr(owner, name, hooked(getattr(owner, name)))
            story.state.compact()
            os._exit(0)
        killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        story.check()
        story.state.compact()
        story.check()
        assert len(list(folder.glob("rows*.bin"))) == 1
        step += 1
    assert step > 5


@pytest.mark.slow
def test_a_whole_map_answers_as_before(street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = dv.load_model("rootsift-vlad", device="cpu")
    model = PlaceModel(base.backbone, GeM(128), base.preprocess, fitted=True, source=base.source)
    town = dv.PlaceMap.build(model, dv.photos(street / "database"), tmp_path / "town.map", local="sift")
    reader = dv.PlaceMap(tmp_path / "town.map", model)
    assert len(reader.descriptors) == 12
    town.remove(["00.png", "03.png", "04.png", "08.png"])
    assert (tmp_path / "town.map" / "rows.bin").exists()  # small maps are left as they are
    queries = dv.photos(street / "queries")[:2]
    before = [answer.to_dict() for answer in town.locate(queries)]
    features = {
        key: town.features.get(int(n))
        for key, n in zip(town.photos.keys, town.snapshot.row_numbers, strict=True)
    }
    assert town.compact() == 4 * model.descriptor_size * 4
    assert [answer.to_dict() for answer in town.locate(queries)] == before
    for key, number in zip(town.photos.keys, town.snapshot.row_numbers, strict=True):
        kept, expected = town.features.get(int(number)), features[key]
        assert kept is not None and expected is not None
        np.testing.assert_array_equal(kept.keypoints, expected.keypoints)
    assert reader.locate(queries)[0].matches[0].name == "00.png"  # it sees what it opened
    assert town.add(dv.photos(street / "database")) == 4
    assert town.check() and len(town) == 12
    monkeypatch.setattr("dejavlad.places.stored_map.DEAD_BYTES", 1)
    town.remove([f"0{i}.png" for i in range(7)])  # more than half: by itself
    assert (tmp_path / "town.map" / "rows.bin").stat().st_size == 5 * model.descriptor_size * 4
    assert dv.PlaceMap.build(model, dv.photos(street / "database"), tmp_path / "town.map").check()
