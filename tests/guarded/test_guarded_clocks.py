"""Clocks that jump: files of the future, of before 1970, and files that change while the clock goes back."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from kinds import model, photos, photos_of_tests

import dejavlad as dv

MOMENTS = (-86_400.0, 0.0, 1e9, 4e9, 32_503_680_000.0)
"""A day before 1970, its first second, 2001, 2096 and the year 3000."""


def set_times(folder: Path, moment: float) -> None:
    for path in folder.glob("*.png"):
        try:
            os.utime(path, (moment, moment))
        except (OSError, OverflowError):
            pytest.skip("this system has no such times")


@pytest.mark.parametrize("moment", MOMENTS)
def test_files_of_any_time_are_described_once(moment: float, tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos")
    set_times(folder, moment)
    first = dv.PlaceMap.build(model(), dv.photos(folder), tmp_path / "map")
    rows = np.array(first.descriptors)
    os.utime(tmp_path / "map" / "map.sqlite", (moment, moment))  # nothing of the map goes by its times
    again = dv.PlaceMap.open(tmp_path / "map", device="cpu")
    assert again.check() and again.add(dv.photos(folder)) == 0 and again.updated == 0
    np.testing.assert_array_equal(again.descriptors, rows)


@pytest.mark.parametrize("step", [-3600.0, -1.0, 1.0])
def test_a_photo_that_changes_while_the_clock_jumps_is_described_anew(step: float, tmp_path: Path) -> None:
    """Of the same number of bytes, and older than before: what counts is that its time is another."""
    folder = tmp_path / "photos"
    for place in range(3):
        photos_of_tests.write(folder / f"{place}.bmp", photos_of_tests.view(place, 0, 32, 40))
    store = dv.extract(model(), dv.photos(folder), tmp_path / "store")
    before, changed = np.array(store.rows), folder / "1.bmp"
    status = changed.stat()
    photos_of_tests.write(changed, photos_of_tests.view(7, 0, 32, 40))
    assert changed.stat().st_size == status.st_size
    os.utime(changed, (status.st_mtime + step, status.st_mtime + step))
    del store
    after = dv.extract(model(), dv.photos(folder), tmp_path / "store")
    anew = dv.extract(model(), dv.photos(folder), tmp_path / "anew")
    np.testing.assert_array_equal(after.rows, anew.rows)
    assert not np.array_equal(after.rows[1], before[1]) and np.array_equal(after.rows[0], before[0])


def test_an_interrupted_run_goes_on_after_the_clock_was_set_back(tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos")

    def stop(report: object) -> None:
        if getattr(report, "done", 0) >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dv.extract(model(), dv.photos(folder), tmp_path / "store", batch_size=1, on_progress=stop)
    for path in (tmp_path / "store").rglob("*"):
        os.utime(path, (1e9, 1e9) if path.name != "done.npy" else (4e9, 4e9))
    resumed = dv.extract(model(), dv.photos(folder), tmp_path / "store", batch_size=1)
    whole = dv.extract(model(), dv.photos(folder), tmp_path / "whole", batch_size=1)
    np.testing.assert_array_equal(resumed.rows, whole.rows)
