"""Twins by bytes and by picture; what is merely alike, dark or missing is none."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from dejavlad.datasets import photos
from dejavlad.datasets.audit.near_duplicates import (
    NearDuplicate,
    find_near_duplicates,
    near_duplicates_text,
    small_picture,
    summarize_near_duplicates,
)
from dejavlad.photo import Photo, PhotoList
from dejavlad.photo.photo import View as View360

View = Callable[..., np.ndarray]


@pytest.fixture
def folders(tmp_path: Path, make_view: View, make_photo: Callable[..., Path]) -> Path:
    for i in range(4):
        make_photo(tmp_path / "db" / f"{i}.png", make_view(i, height=240, width=320))
        make_photo(tmp_path / "q" / f"{i}.png", make_view(i, 9, height=240, width=320))
    return tmp_path


def test_the_same_bytes_are_found_under_any_name(folders: Path) -> None:
    shutil.copy(folders / "db" / "2.png", folders / "q" / "0.png")
    shutil.copy(folders / "db" / "2.png", folders / "db" / "also.png")
    database, queries = photos(folders / "db"), photos(folders / "q")
    twins = find_near_duplicates(database, queries)
    assert twins == [NearDuplicate(0, 2, "bytes"), NearDuplicate(0, 4, "bytes")]
    summary = summarize_near_duplicates(twins, database, queries)
    assert summary["queries"] == 1 and summary["bytes"] == 2 and summary["pictures"] == 0
    assert near_duplicates_text(summary).startswith(
        "1 queries are in the database too (e.g. '0.png' is '2.png', the same"
    )
    assert (
        near_duplicates_text(summarize_near_duplicates([], database, queries))
        == ""
        == near_duplicates_text({})
    )


def test_only_files_of_a_shared_size_are_read(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [{(folders / part / f"{i}.png").stat().st_size for i in range(4)} for part in ("db", "q")]
    assert not sizes[0] & sizes[1]
    monkeypatch.setattr(
        "dejavlad.datasets.audit.near_duplicates._identity", lambda *_: pytest.fail("a file was read")
    )
    assert find_near_duplicates(photos(folders / "db"), photos(folders / "q")) == []


def test_the_same_picture_is_found_among_the_pairs(folders: Path, make_view: View) -> None:
    view = make_view(1, height=240, width=320)
    cv2.imwrite(
        str(folders / "q" / "1.png"), cv2.resize(view, (200, 150), interpolation=cv2.INTER_AREA)[:, :, ::-1]
    )
    (folders / "q" / "3.png").unlink()
    soft = cv2.GaussianBlur(make_view(3, height=240, width=320), (0, 0), 2)[:, :, ::-1]
    cv2.imwrite(str(folders / "db" / "3.png"), soft)
    cv2.imwrite(str(folders / "q" / "3.jpg"), soft, [1, 75])
    database, queries = photos(folders / "db"), photos(folders / "q")
    every = [(q, row) for q in range(4) for row in range(4)]
    assert find_near_duplicates(database, queries) == []
    assert find_near_duplicates(database, queries, pairs=every) == [
        NearDuplicate(1, 1, "picture"),
        NearDuplicate(3, 3, "picture"),
    ]
    assert find_near_duplicates(database, queries, pairs=[(1, 0), (1, -1)]) == []


def test_what_is_no_twin(folders: Path) -> None:
    dark = [np.full((60, 80, 3), level, np.uint8) for level in (0, 1)]
    database, queries = PhotoList.from_arrays(dark[:1]), PhotoList.from_arrays(dark[1:])
    assert find_near_duplicates(database, queries, pairs=[(0, 0)]) == []  # two pictures of the night
    assert find_near_duplicates(database, PhotoList.from_arrays(dark[:1])) == [NearDuplicate(0, 0, "bytes")]
    (folders / "broken.png").write_bytes(b"no picture")
    lost = PhotoList(Photo(name, folders / name) for name in ("lost.png", "broken.png"))
    assert find_near_duplicates(photos(folders / "db"), lost, pairs=[(0, 0), (1, 0)]) == []
    assert small_picture(lost[0]) is None and small_picture(Photo("v", Path("v.mp4"), frame=0)) is None


def test_crops_of_one_file_are_other_photos(folders: Path) -> None:
    path = folders / "db" / "0.png"
    crops = [(0, 0, 160, 240), (160, 0, 320, 240)]
    cut = [PhotoList([Photo("0.png", path, crop=crop)]) for crop in crops]
    assert find_near_duplicates(cut[0], cut[1], pairs=[(0, 0)]) == []
    assert find_near_duplicates(cut[0], cut[0]) == [NearDuplicate(0, 0, "bytes")]


def test_views_of_a_panorama_in_memory_are_not_compared_by_the_whole_of_it(make_view: View) -> None:
    whole = make_view(1, height=120, width=240)
    north, south = (
        PhotoList([Photo("0", Path("0"), pixels=whole, view=View360(yaw, 90.0))]) for yaw in (0.0, 180.0)
    )
    assert find_near_duplicates(north, south, pairs=[(0, 0)]) == []


def test_jpeg_at_an_eighth_is_the_same_picture(folders: Path, make_view: View) -> None:
    view = cv2.GaussianBlur(make_view(2, height=960, width=1280), (0, 0), 5)
    cv2.imwrite(str(folders / "a.jpg"), view, [1, 95])
    cv2.imwrite(str(folders / "a.png"), view)
    a, b = (small_picture(Photo(name, folders / name)) for name in ("a.jpg", "a.png"))
    assert a is not None and b is not None and np.abs(a - b).mean() < 2
