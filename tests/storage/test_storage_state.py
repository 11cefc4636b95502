"""The storage room: a state that is whole or not there, rows with checksums, one writer."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import sys
import threading
from pathlib import Path

import filelock
import numpy as np
import pytest

from dejavlad.errors import InputError, StoreBusyError, StoreError
from dejavlad.geo import Position
from dejavlad.photo import Photo
from dejavlad.storage import MappedRows, PhotoRecord, RowFile, State, discard, one_writer, photo_blocks
from dejavlad.storage.rows import CHUNKS
from dejavlad.storage.state import put_values

TABLES = (CHUNKS, *photo_blocks.TABLES, "CREATE TABLE numbers(n INTEGER)")


@pytest.fixture
def state(tmp_path: Path) -> State:
    made = State(tmp_path / "a b#%?.sqlite", "test", 3, TABLES, "make it again")
    made.create(lambda connection: put_values(connection, {"answer": [1, None, "ä"]}))
    return made


def numbers(state: State) -> list[int]:
    with state.reading() as connection:
        return [n for (n,) in connection.execute("SELECT n FROM numbers ORDER BY n")]


def test_values_come_back_and_a_change_counts_whole_or_not_at_all(state: State, tmp_path: Path) -> None:
    with state.reading() as connection:
        assert state.value(connection, "answer") == [1, None, "ä"]
        with pytest.raises(StoreError, match="has no 'question'; make it again"):
            state.value(connection, "question")
    with contextlib.suppress(ZeroDivisionError), state.writing() as connection:
        connection.execute("INSERT INTO numbers VALUES (1)")
        1 / 0  # noqa: B018
    assert numbers(state) == []
    with state.writing() as connection:
        connection.execute("INSERT INTO numbers VALUES (2)")
    assert numbers(state) == [2]
    assert [p.name for p in tmp_path.iterdir()] == [state.path.name]  # at rest there is one file


def test_one_that_cannot_be_made_is_not_there(tmp_path: Path) -> None:
    made = State(tmp_path / "s.sqlite", "test", 1, TABLES)

    def fail(_: sqlite3.Connection) -> None:
        raise InputError("no")

    with pytest.raises(InputError):
        made.create(fail)
    assert not list(tmp_path.iterdir())
    (tmp_path / "s.sqlite.partial").write_bytes(b"left by a run that was killed")
    (tmp_path / "s.sqlite.partial-journal").write_bytes(b"this too")
    made.create(lambda _: None)
    assert [p.name for p in tmp_path.iterdir()] == ["s.sqlite"]


def test_other_kinds_later_formats_and_damage_are_told(state: State) -> None:
    other = State(state.path, "other", 3, TABLES)
    with pytest.raises(StoreError, match="its format is 'test'"), other.reading():
        pass
    earlier = State(state.path, "test", 2, TABLES)
    with (
        pytest.raises(StoreError, match=r"later dejavlad \(format 3, this one reads up to 2\)"),
        earlier.reading(),
    ):
        pass
    with contextlib.closing(sqlite3.connect(state.path)) as connection:
        connection.execute("UPDATE meta SET value='[2]' WHERE name='answer'")
        connection.commit()
    with state.reading() as connection, pytest.raises(StoreError, match="checksum of 'answer' is wrong"):
        state.check(connection)
    state.path.write_bytes(state.path.read_bytes()[:3000])
    with pytest.raises(StoreError, match=r"is damaged: .*; make it again"), state.reading():
        pass
    state.path.unlink()
    with pytest.raises(StoreError, match="cannot open"), state.reading():
        pass


def test_a_long_reader_makes_a_writer_wait_and_then_give_up(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dejavlad.storage import state as module

    monkeypatch.setattr(module, "WAIT_SECONDS", 0.05)
    with state.writing(), pytest.raises(StoreBusyError), state.writing():
        pass
    with state.reading(), pytest.raises(StoreBusyError), state.writing() as connection:
        connection.execute("INSERT INTO numbers VALUES (1)")
    assert numbers(state) == []


def test_readers_see_whole_changes_while_a_writer_writes(state: State) -> None:
    """Each change adds two equal numbers; a reader never sees an odd count."""
    ended, odd = threading.Event(), []

    def read() -> None:
        while not ended.is_set():
            seen = numbers(state)
            if len(seen) % 2 or seen[::2] != seen[1::2]:
                odd.append(seen)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for n in range(20):
        with state.writing() as connection:
            connection.execute("INSERT INTO numbers VALUES (?)", (n,))
            connection.execute("INSERT INTO numbers VALUES (?)", (n,))
    ended.set()
    for reader in readers:
        reader.join()
    assert not odd and len(numbers(state)) == 40


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
def test_a_writer_killed_before_its_commit_leaves_nothing(state: State) -> None:
    child = os.fork()
    if not child:
        with state.writing() as connection:
            connection.execute("PRAGMA cache_size=1")  # pages reach the file before the commit
            for n in range(20_000):
                connection.execute("INSERT INTO numbers VALUES (?)", (n,))
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert state.path.with_name(state.path.name + "-journal").exists()
    assert numbers(state) == []
    with state.writing() as connection:
        connection.execute("INSERT INTO numbers VALUES (5)")
    assert numbers(state) == [5]


# Rows


def stored(state: State, file: RowFile, rows: np.ndarray, *parts: int) -> MappedRows:
    start = 0
    for part in parts:
        chosen = np.arange(start, start + part)
        file.append(start, rows, chosen)
        with state.writing() as connection:
            file.note(connection, start, start + part)
        start += part
    with state.reading() as connection:
        return MappedRows(file, start, file.chunks(connection))


@pytest.mark.parametrize("parts", [(100,), (1, 1, 98), (37, 26, 37), (64, 36)])
def test_checksums_do_not_depend_on_how_rows_came(
    state: State, tmp_path: Path, parts: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dejavlad.storage import rows as module

    monkeypatch.setattr(module, "CHUNK_BYTES", 32 * 5 * 4)
    rows = np.random.default_rng(0).normal(size=(100, 5)).astype(np.float32)
    file = RowFile(tmp_path / "rows.bin", 5, "make it again")
    mapped = stored(state, file, rows, *parts)
    np.testing.assert_array_equal(mapped.all(), rows)
    with state.reading() as connection:
        chunks = file.chunks(connection)
    assert chunks[:, 0].tolist() == [32, 32, 32, 4]
    import zlib

    assert chunks[0, 1] == zlib.crc32(rows[:32].tobytes())
    data = bytearray(file.path.read_bytes())
    data[40 * 20] ^= 1  # row 40
    file.path.write_bytes(data)
    mapped = MappedRows(file, 100, chunks)
    np.testing.assert_array_equal(mapped.take(np.array([3, 99])), rows[[3, 99]])  # other chunks are fine
    for _ in range(2):
        with pytest.raises(StoreError, match="rows 32 to 63 are not what was written; make it again"):
            mapped.take(np.array([33]))
    with pytest.raises(StoreError, match="cut short: 101 rows of 5 are missing"):
        file.map(101)
    with pytest.raises(StoreError, match="only 100 of 101"):
        file.path.write_bytes(bytes(101 * 20))
        MappedRows(file, 101, chunks)


def test_rows_that_do_not_count_are_written_over(state: State, tmp_path: Path) -> None:
    rows = np.arange(20, dtype=np.float32).reshape(10, 2)
    file = RowFile(tmp_path / "rows.bin", 2, "make it again")
    stored(state, file, rows, 4)
    file.append(4, rows[::-1], np.arange(6))  # killed before its commit
    file.append(4, rows, np.arange(4, 7))
    with state.writing() as connection:
        file.note(connection, 4, 7)
    with state.reading() as connection:
        mapped = MappedRows(file, 7, file.chunks(connection))
    np.testing.assert_array_equal(mapped.all(), rows[:7])


# Photos


def records(count: int) -> list[PhotoRecord]:
    return [
        PhotoRecord(
            Photo(f"{i}.jpg", Path(f"/r/{i}.jpg") if i % 3 else Path(f"/other/{i}.jpg"), time=float(i)),
            (i, i, ""),
            (4, 5),
        )
        for i in range(count)
    ]


def test_photos_in_blocks_come_back_in_order(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photo_blocks, "BLOCK", 4)
    made, root, at = records(23), Path("/r"), 0
    for part in (1, 9, 13):
        sample = made[at : at + part]
        lines, texts = photo_blocks.encode(sample, range(at, at + part), 1, root)
        with state.writing() as connection:
            photo_blocks.append(connection, state, at, lines, texts, [r.photo.key for r in sample])
        at += part
    with state.reading() as connection:
        stored = [
            photo_blocks.decode(line, text, root)
            for _, lines, texts in photo_blocks.read_blocks(state, connection, range(6))
            for line, text in zip(lines, texts, strict=True)
        ]
        assert photo_blocks.all_numbers(state, connection, 23)["row"].tolist() == [*range(23)]
        assert photo_blocks.places_of(connection, ["7.jpg", "x", "22.jpg"]) == {"7.jpg": 7, "22.jpg": 22}
        with pytest.raises(StoreError, match="holds 23 records of photos, not 24"):
            photo_blocks.all_numbers(state, connection, 24)
    assert stored == made


def test_a_zone_that_is_none_is_refused() -> None:
    photo = Photo("a", Path("a"), position=Position(0, 0, "thirty-three"))
    with pytest.raises(InputError, match="no UTM zone"):
        photo_blocks.encode([PhotoRecord(photo, (0, 0, ""), (0, 0))], [0], 0, Path())


# Folders and texts


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with one_writer(tmp_path), pytest.raises(StoreBusyError), one_writer(tmp_path):
        pass
    with filelock.FileLock(tmp_path / "writer.lock"), pytest.raises(StoreBusyError), one_writer(tmp_path):
        pass
    with one_writer(tmp_path):
        pass
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot write to"), one_writer(tmp_path / "file"):
        pass


def test_a_folder_is_thrown_away_however_much_of_it_is_left(tmp_path: Path) -> None:
    discard(tmp_path / "nothing")
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_text("x")
    discard(tmp_path / "a")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32" or not hasattr(os, "geteuid"), reason="rights of files")
def test_a_state_in_a_read_only_folder_is_read(state: State) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    state.path.chmod(0o444)
    state.path.parent.chmod(0o555)
    try:
        assert numbers(state) == []
        with pytest.raises(StoreError, match="cannot write"), state.writing() as connection:
            connection.execute("INSERT INTO numbers VALUES (1)")
    finally:
        state.path.parent.chmod(0o755)
