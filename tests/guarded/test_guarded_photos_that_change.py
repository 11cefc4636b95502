"""Photos that vanish, grow or become something else while they are described."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from kinds import model, photos, photos_of_tests

import dejavlad as dv
from dejavlad.errors import InputError
from dejavlad.progress import Progress


def vanish(folder: Path) -> None:
    (folder / "03.png").unlink(missing_ok=True)


def grow(folder: Path) -> None:
    photos_of_tests.write(folder / "03.png", photos_of_tests.view(9, 0, 64, 80))


def change(folder: Path) -> None:
    photos_of_tests.write(folder / "03.png", photos_of_tests.view(9, 0, 32, 40))


def cut(folder: Path) -> None:
    (folder / "03.png").write_bytes((folder / "03.png").read_bytes()[:300])


def folder_instead(folder: Path) -> None:
    vanish(folder)
    (folder / "03.png").mkdir(exist_ok=True)


def pipe_instead(folder: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    if not (folder / "03.png").is_fifo():
        vanish(folder)
        os.mkfifo(folder / "03.png")


@pytest.mark.parametrize("at", [1, 3, 5])
@pytest.mark.parametrize("act", [vanish, grow, change, cut, folder_instead, pipe_instead])
def test_one_photo_changes(act: Callable[[Path], None], at: int, tmp_path: Path) -> None:
    """The run ends; the next one has the rows of a run over what is there then."""
    calls = [0]

    def watch(_: Progress) -> None:
        calls[0] += 1
        if calls[0] == at:
            act(tmp_path / "photos")

    photos(tmp_path / "photos")
    first = dv.extract(
        model(), dv.photos(tmp_path / "photos"), tmp_path / "store", batch_size=2, on_progress=watch
    )
    assert first.complete and len(first) == 5 and set(first.failed) <= {"03.png"}
    del first
    again = dv.extract(model(), dv.photos(tmp_path / "photos"), tmp_path / "store", batch_size=2)
    anew = dv.extract(model(), dv.photos(tmp_path / "photos"), tmp_path / "anew", batch_size=2)
    np.testing.assert_array_equal(again.rows, anew.rows)
    assert again.failed == anew.failed


def test_the_whole_folder_vanishes(tmp_path: Path) -> None:
    photos(tmp_path / "photos")
    listed = dv.photos(tmp_path / "photos")
    shutil.rmtree(tmp_path / "photos")
    with pytest.raises(InputError, match="none of the 5 photos"):
        dv.extract(model(), listed, tmp_path / "store")
