"""Writers of a map's index killed at every step: the map answers as before, the next run makes it whole."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dejavlad.extraction import PhotoTable
from dejavlad.geo import Position
from dejavlad.photo import Photo, PhotoList
from dejavlad.places.map_folder import index as map_index
from dejavlad.places.map_folder.index import MapIndex, MapSearch
from dejavlad.places.map_folder.state import MapState
from dejavlad.storage import state as state_module

DIMS, FIRST, MORE, K = 16, 90, 40, 5

Rows = NDArray[np.float32]


def drawn(seed: int, count: int) -> Rows:
    return np.random.default_rng(seed).normal(size=(count, DIMS)).astype(np.float32)


def add(folder: Path, seed: int, count: int) -> None:
    """What `map build` and `map add` do once photos are described: rows, then the index."""
    photos = PhotoList(
        (Photo(f"{seed}-{i}", Path(f"{i}"), position=Position(1.0, 2.0)) for i in range(count)),
        root=Path("x"),
    )
    table = PhotoTable.look(photos, lambda _: (0, 0))
    MapState(folder, DIMS).add(table, drawn(seed, count), np.arange(count), {})


def follow(folder: Path, kind: str | None) -> None:
    snapshot = MapState(folder, DIMS).snapshot()
    MapIndex(folder, DIMS, "model").follow(snapshot.file_rows, snapshot.rows, kind)


def build(folder: Path, kind: str) -> None:
    add(folder, 0, FIRST)
    follow(folder, kind)


def grow(folder: Path, kind: str) -> None:
    add(folder, 1, MORE)
    follow(folder, None)


def check(folder: Path, least: int, kind: str | None = None) -> int:
    """A reader sees all rows of some commit, and answers rightly; how many rows there are."""
    state, index = MapState(folder, DIMS), MapIndex(folder, DIMS, "model")
    if not (folder / "map.sqlite").exists():
        assert not least
        return 0
    snapshot = state.snapshot()
    rows = np.concatenate([drawn(0, FIRST), drawn(1, MORE)])[: len(snapshot.rows)]
    np.testing.assert_array_equal(snapshot.file_rows.all(), rows)
    assert len(rows) in (0, FIRST, FIRST + MORE) and len(rows) >= least
    search = MapSearch(index, index.head(), snapshot.file_rows, snapshot.rows)
    assert kind is None or search.kind == kind
    if len(rows):
        queries = drawn(2, 6)
        apart = ((queries[:, None].astype(np.float64) - rows) ** 2).sum(axis=2)
        np.testing.assert_array_equal(search(queries, K).indices, np.argsort(apart, axis=1)[:, :K])
    return len(rows)


def killed_at(step: int, action: Callable[[], None]) -> bool:
    """Run it in a process that ends at its step-th write; False where it came to its end before."""
    child = os.fork()
    if not child:
        steps = iter(range(10**6))

        def hooked(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **options: Any) -> Any:
                if next(steps) == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **options)

            return call

        for owner, name in (
            *((os, name) for name in ("fsync", "replace", "unlink", "rmdir", "mkdir")),
            (state_module, "commit"),
        ):
            setattr(owner, name, hooked(getattr(owner, name)))
        try:
            action()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(map_index, "AT_ONCE", 32)
    yield


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("kind", ["int8", "1bit"])
def test_an_index_killed_at_any_step_is_made_whole(kind: str, tmp_path: Path) -> None:
    kills = 0
    for action, before in ((build, 0), (grow, FIRST)):
        step, killed = 0, True
        start = tmp_path / action.__name__
        start.mkdir()
        if before:
            build(start, kind)
        while killed:
            folder = shutil.copytree(start, tmp_path / f"{action.__name__}-{step}")
            killed = killed_at(step, lambda: action(folder, kind))  # noqa: B023
            rows = check(folder, before)
            if rows < before + (MORE if before else FIRST):  # its photos were not in the map yet
                action(folder, kind)
            else:
                follow(folder, kind)
            check(folder, before + (MORE if before else FIRST), kind)
            kills += killed
            step += 1
    assert kills >= 10


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_graph_killed_at_any_step_is_made_whole(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    step, killed = 0, True
    start = tmp_path / "start"
    start.mkdir()
    add(start, 0, FIRST)
    while killed:
        folder = shutil.copytree(start, tmp_path / str(step))
        killed = killed_at(step, lambda: follow(folder, "ivf"))  # noqa: B023
        check(folder, FIRST)
        follow(folder, "ivf")
        check(folder, FIRST, "ivf")
        step += 1
    assert step > 5
