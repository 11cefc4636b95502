from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import dejavlad.images.loader as loader
from dejavlad.errors import InputError, PhotoError
from dejavlad.images import Batch, Preprocess, load_batches, plan_batches, read_size
from dejavlad.photo import Photo

Size = tuple[int, int]
RNG = np.random.default_rng(3)
WORKERS = [0, 1, 2, 5]


@pytest.fixture
def photos(tmp_path: Path) -> list[Photo]:
    """Eleven photos of two sizes; number 4 is cut short, number 6 is text, number 9 is not there."""
    listed = []
    for i in range(11):
        path = tmp_path / f"{i}.png"
        size = (20, 30) if i % 3 else (12, 16)
        Image.fromarray(RNG.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
        listed.append(Photo(path.name, path))
    listed[4].path.write_bytes(listed[4].path.read_bytes()[:600])
    listed[6].path.write_text("text", encoding="utf-8")
    listed[9].path.unlink()
    return listed


def sizes_of(photos: Sequence[Photo], preprocess: Preprocess) -> list[Size | None]:
    sizes: list[Size | None] = []
    for photo in photos:
        try:
            sizes.append(preprocess.output_size(*read_size(photo)))
        except PhotoError:
            sizes.append(None)
    return sizes


def test_a_plan_groups_by_size() -> None:
    a, b = (2, 3), (4, 5)
    plan = plan_batches([a, b, None, a, a, b, a], 3)
    assert [rows.tolist() for rows in plan] == [[0, 3, 4], [6], [1, 5]]
    assert all(rows.dtype == np.int64 for rows in plan)
    assert plan_batches([], 3) == []
    assert plan_batches([None], 3) == []
    with pytest.raises(InputError, match="batch"):
        plan_batches([a], 0)


@given(st.lists(st.sampled_from([None, (1, 2), (3, 4), (5, 6)]), max_size=40), st.integers(1, 7))
def test_a_plan_holds_each_row_once(sizes: list[Size | None], batch_size: int) -> None:
    plan = plan_batches(sizes, batch_size)
    rows = [row for batch in plan for row in batch.tolist()]
    assert sorted(rows) == [row for row, size in enumerate(sizes) if size is not None]
    for batch in plan:
        assert 1 <= len(batch) <= batch_size
        assert batch.tolist() == sorted(batch.tolist())
        assert len({sizes[row] for row in batch.tolist()}) == 1


@pytest.mark.parametrize("workers", WORKERS)
def test_batches_come_as_planned(photos: list[Photo], workers: int) -> None:
    preprocess = Preprocess(resize="longest:15", mean=(0.5, 0.5, 0.5))
    sizes = sizes_of(photos, preprocess)
    assert [row for row, size in enumerate(sizes) if size is None] == [6, 9]
    plan = plan_batches(sizes, 2)
    batches = list(load_batches(photos, plan, preprocess, workers=workers, sizes=sizes))
    assert [batch.rows.tolist() for batch in batches] == [rows.tolist() for rows in plan]
    for batch in batches:
        assert batch.images.dtype == np.float32
        for slot, row in enumerate(batch.rows.tolist()):
            assert batch.images[slot].shape == (3, *(sizes[row] or ()))
            if row == 4:
                assert not batch.images[slot].any()
                assert batch.failed[4].reason == "it is cut short"
            else:
                with Image.open(photos[row].path) as image:
                    assert np.array_equal(batch.images[slot], preprocess(np.asarray(image)))
    assert sorted(row for batch in batches for row in batch.failed) == [4]


@pytest.mark.parametrize("workers", WORKERS)
def test_a_photo_that_changed_fails_alone(tmp_path: Path, workers: int) -> None:
    photos = [Photo(str(i), Path(str(i)), pixels=np.full((6, 8, 3), i, np.uint8)) for i in range(6)]
    plan = plan_batches([(6, 8)] * 6, 3)
    photos[0] = Photo("0", Path("0"), pixels=np.zeros((7, 8, 3), np.uint8))
    batches = list(load_batches(photos, plan, Preprocess(), workers=workers, sizes=[(6, 8)] * 6))
    assert list(batches[0].failed) == [0]
    assert "7x8" in batches[0].failed[0].reason
    assert batches[0].failed[0].path == "0"
    assert not batches[0].images[0].any()
    assert batches[0].images[1].any()
    assert batches[1].failed == {}
    most = list(load_batches(photos, plan, Preprocess(), workers=workers))
    assert list(most[0].failed) == [0]


def test_all_of_a_batch_may_have_changed() -> None:
    photos = [Photo(str(i), Path(str(i)), pixels=np.ones((6, 8, 3), np.uint8)) for i in range(2)]
    plan = plan_batches([(5, 5)] * 2, 2)
    batch = next(load_batches(photos, plan, Preprocess(), sizes=[(5, 5)] * 2))
    assert list(batch.failed) == [0, 1]
    assert batch.images.shape == (2, 3, 5, 5)


def test_a_failed_batch_has_the_size_of_its_headers(photos: list[Photo]) -> None:
    batch = next(load_batches(photos, [np.array([4])], Preprocess(resize="longest:15")))
    assert batch.images.shape == (1, 3, 10, 15)
    assert list(batch.failed) == [4]
    gone = next(load_batches(photos, [np.array([9])], Preprocess()))
    assert gone.images.shape == (1, 3, 1, 1)
    assert list(gone.failed) == [9]


def test_memory_that_runs_out_is_a_failure_of_that_photo(
    photos: list[Photo], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Preprocess, "__call__", full)
    batch = next(load_batches(photos, [np.array([1])], Preprocess(), sizes=[(20, 30)] * 11))
    assert "memory" in batch.failed[1].reason


class Counting:
    """Counts the photos decoded, in place of `read_image`."""

    def __init__(self) -> None:
        self.started = 0
        self.lock = threading.Lock()

    def __call__(self, photo: Photo, *, rotate: bool) -> NDArray[np.uint8]:
        with self.lock:
            self.started += 1
        return np.zeros((4, 4, 3), np.uint8)


@pytest.mark.parametrize(("workers", "batch_size"), [(0, 4), (1, 4), (3, 1), (4, 8)])
def test_no_more_is_decoded_ahead_than_needed(
    workers: int, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = Counting()
    monkeypatch.setattr(loader, "read_image", counting)
    photos = [Photo(str(i), Path(str(i))) for i in range(500)]
    plan = plan_batches([(4, 4)] * 500, batch_size)
    stream = load_batches(photos, plan, Preprocess(), workers=workers)
    for taken in range(1, 6):
        next(stream)
        ahead = counting.started - taken * batch_size
        assert ahead <= (max(2 * batch_size, 2 * workers + batch_size) if workers else 0)
    stream.close()
    assert counting.started < 100


def decoders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("dejavlad-decode")]


def test_no_thread_is_left_behind(photos: list[Photo]) -> None:
    plan = plan_batches(sizes_of(photos, Preprocess()), 1)
    stream = load_batches(photos, plan, Preprocess(), workers=2)
    assert isinstance(next(stream), Batch)
    assert decoders()
    stream.close()
    assert not decoders()
    list(load_batches(photos, plan, Preprocess(), workers=2))
    assert not decoders()


def test_a_mistake_of_ours_is_not_a_failed_photo(
    photos: list[Photo], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(loader, "read_image", broken)
    with pytest.raises(ZeroDivisionError):
        list(load_batches(photos, [np.array([0])], Preprocess(), workers=2))
    assert not decoders()


def test_workers_are_counted_from_zero(photos: list[Photo]) -> None:
    with pytest.raises(InputError, match="workers"):
        load_batches(photos, [], Preprocess(), workers=-1)
    assert list(load_batches(photos, [], Preprocess(), workers=2)) == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot send itself Ctrl-C there")
def test_an_interrupt_ends_it() -> None:
    script = """
        import os, signal, sys
        from pathlib import Path
        import numpy as np
        import dejavlad.images.loader as loader
        from dejavlad.photo import Photo

        def read(photo, *, rotate):
            if photo.name == "40":
                os.kill(os.getpid(), signal.SIGINT)
            return np.zeros((4, 4, 3), np.uint8)

        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background of a shell
        loader.read_image = read
        photos = [Photo(str(i), Path(str(i))) for i in range(10**5)]
        plan = loader.plan_batches([(4, 4)] * len(photos), 8)
        came = 0
        try:
            for batch in loader.load_batches(photos, plan, loader.Preprocess(), workers=3, keep_blank=True):
                came += 1
        except KeyboardInterrupt:
            sys.exit(7 if came < 10000 else 8)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], timeout=60, check=False)
    assert done.returncode == 7
