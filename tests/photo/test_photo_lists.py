"""Folders, lists, CSV files and videos as photos."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dejavlad.datasets import photos
from dejavlad.errors import InputError
from dejavlad.photo import (
    Photo,
    PhotoList,
    folder_photos,
    listed_photos,
    video_photos,
    write_list,
)
from dejavlad.photo.folder import natural_order


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def link(at: Path, to: Path) -> None:
    try:
        at.symlink_to(to, target_is_directory=True)
    except OSError:
        pytest.skip("this machine makes no symbolic links")


def names(listed: PhotoList) -> list[str]:
    return [photo.name for photo in listed]


def test_folder_natural_order_endings_and_hidden(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "10.jpg",
        "2.JPG",
        "a10/1.png",
        "a2/1.png",
        "a2/notes.txt",
        ".hidden.jpg",
        ".git/3.jpg",
        "1.jpeg",
    )
    listed = folder_photos(tmp_path)
    assert names(listed) == ["1.jpeg", "2.JPG", "10.jpg", "a2/1.png", "a10/1.png"]
    assert listed[3].path == tmp_path / "a2" / "1.png"
    assert listed.name == tmp_path.name


def test_folder_equal_basenames(tmp_path: Path) -> None:
    touch(tmp_path, "day/1.jpg", "night/1.jpg")
    assert names(folder_photos(tmp_path)) == ["day/1.jpg", "night/1.jpg"]


def test_folder_odd_names(tmp_path: Path) -> None:
    odd = ["a b.jpg", "it's.jpg", "улица 2.jpg", "улица 10.jpg", "写真.png"]
    if os.name == "posix":
        odd += ['quo"te.jpg', "new\nline.jpg", "back\\slash.jpg"]
    touch(tmp_path, *odd)
    listed = folder_photos(tmp_path)
    assert sorted(names(listed)) == sorted(odd)
    assert names(listed).index("улица 2.jpg") < names(listed).index("улица 10.jpg")
    assert all(photo.path.is_file() for photo in listed)


def test_folder_symlink_loops_and_doubles(tmp_path: Path) -> None:
    root = touch(tmp_path / "up" / "photos", "a/1.jpg", "b/2.jpg")
    touch(tmp_path, "elsewhere/3.jpg", "up/beside.jpg")
    link(root / "a" / "loop", root)
    link(root / "a" / "above", tmp_path)
    link(root / "a" / "again", root / "b")
    link(root / "out", tmp_path / "elsewhere")
    link(root / "out2", tmp_path / "elsewhere")
    link(root / "broken.jpg", tmp_path / "nothing.jpg")
    link(root / "self.jpg", root / "self.jpg")
    link(root / "self", root / "self")
    assert names(folder_photos(root)) == ["a/1.jpg", "b/2.jpg", "out/3.jpg"]


def test_folder_linked_photos_stay(tmp_path: Path) -> None:
    root = touch(tmp_path / "set", "1.jpg")
    touch(tmp_path, "kept/2.jpg")
    link(root / "2.jpg", tmp_path / "kept" / "2.jpg")
    assert names(folder_photos(root)) == ["1.jpg", "2.jpg"]


def test_folder_without_photos_says_what_it_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"it is empty .*\.jpg"):
        folder_photos(tmp_path)
    touch(tmp_path, "a.txt", "b/c.doc")
    with pytest.raises(InputError, match=r"2 files passed over: 1 \.doc, 1 \.txt") as caught:
        folder_photos(tmp_path)
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(InputError, match="there is no folder"):
        folder_photos(tmp_path / "none")


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text elsewhere")
def test_folder_name_that_is_no_text(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/\xff.jpg", "wb"):
        pass
    with pytest.raises(InputError, match="not UTF-8"):
        folder_photos(tmp_path)


@given(st.lists(st.text("ab01/. é", min_size=1, max_size=8), unique=True), st.randoms())
@settings(max_examples=50, deadline=None)
def test_natural_order_does_not_depend_on_the_order_given(words: list[str], random: object) -> None:
    shuffled = list(words)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert natural_order(shuffled) == natural_order(words)


def test_natural_order_ties_are_settled() -> None:
    assert natural_order(["a1.jpg", "a01.jpg"]) == natural_order(["a01.jpg", "a1.jpg"])


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.encode(),
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.replace("\n", "\r\n").encode("utf-8-sig"),
        lambda text: text.encode("utf-16"),
    ],
)
def test_list_encodings_and_blank_lines(tmp_path: Path, encode: object) -> None:
    touch(tmp_path, "b 2.jpg", "x/it's.jpg", "улица\u2028.jpg", "a.jpg")
    text = "./b 2.jpg\n\nx/it's.jpg\n   \nулица\u2028.jpg\na.jpg"
    (tmp_path / "list.txt").write_bytes(encode(text))  # type: ignore[operator]
    listed = listed_photos(tmp_path / "list.txt")
    assert names(listed) == ["b 2.jpg", "x/it's.jpg", "улица\u2028.jpg", "a.jpg"]
    assert listed.root == tmp_path and listed.name == "list"


def test_list_roots_and_slashes(tmp_path: Path) -> None:
    touch(tmp_path / "data", "x/1.jpg", "x/2.jpg", "3.jpg", "4.jpg")
    (tmp_path / "list.txt").write_text(
        f"x\\1.jpg\n x/2.jpg \n{tmp_path / 'data' / '3.jpg'}\nx/../4.jpg\n", encoding="utf-8"
    )
    listed = listed_photos(tmp_path / "list.txt", root=tmp_path / "data")
    assert names(listed) == ["x/1.jpg", "x/2.jpg", "3.jpg", "4.jpg"]
    assert all(photo.path.is_file() for photo in listed)


def test_list_missing_photos_are_counted_and_named(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg")
    (tmp_path / "list.txt").write_text("1.jpg\n2.jpg\n3.jpg\n4.jpg\n5.jpg\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"4 of 5 photos .*'2.jpg' \(line 2\).*--root"):
        listed_photos(tmp_path / "list.txt")


def test_list_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    with pytest.raises(InputError, match="cannot be read"):
        listed_photos(path)
    path.write_text("\n \n", encoding="utf-8")
    with pytest.raises(InputError, match="is empty"):
        listed_photos(path)
    path.write_bytes(b"\xff\xd8\x00\x01")
    with pytest.raises(InputError, match="not a text file"):
        listed_photos(path)
    path.write_text("x" * 5000, encoding="utf-8")
    with pytest.raises(InputError, match="1 of 1 photos"):
        listed_photos(path)
    touch(tmp_path, "a.jpg")
    path.write_text("a.jpg\n./a.jpg\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"line 2: .* listed twice, first in line 1"):
        listed_photos(path)


def test_written_list_is_read_again_from_relative_and_absolute_roots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "set/10.jpg", "set/2.jpg", "set/a b/1.jpg")
    monkeypatch.chdir(tmp_path)
    for folder in (Path("set"), tmp_path / "set"):
        written = write_list(folder_photos(folder), tmp_path / "list.txt", root=folder)
        assert written.read_text(encoding="utf-8") == "2.jpg\n10.jpg\na b/1.jpg\n"
        assert names(listed_photos(written, root=folder)) == ["2.jpg", "10.jpg", "a b/1.jpg"]
        write_list(folder_photos(folder), Path("list.txt"))
        assert names(listed_photos("list.txt")) == ["set/2.jpg", "set/10.jpg", "set/a b/1.jpg"]


def test_write_list_refuses_what_cannot_be_listed(tmp_path: Path) -> None:
    for photo in (
        Photo("a", Path("a"), frame=1),
        Photo("a", Path("a"), crop=(0, 0, 1, 1)),
        Photo("a", Path("a"), pixels=np.zeros((1, 1, 3), np.uint8)),
        Photo("a\nb", Path("a\nb")),
    ):
        with pytest.raises(InputError, match="cannot stand in a list"):
            write_list(PhotoList([photo]), tmp_path / "list.txt")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "drive 1.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (32, 24))
    for level in range(7):
        writer.write(np.full((24, 32, 3), level * 30, np.uint8))
    writer.release()
    return path


def test_video_frames(film: Path) -> None:
    listed = photos(film)
    assert [photo.frame for photo in listed] == list(range(7))
    assert listed.keys[3] == "drive 1.avi#frame=3"
    assert listed[5].time == pytest.approx(0.5)
    assert [photo.frame for photo in photos(film, step=3)] == [0, 3, 6]


def test_video_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "fake.mp4").write_bytes(b"no video")
    with pytest.raises(InputError, match="cannot be read as a video"):
        video_photos(tmp_path / "fake.mp4")
    with pytest.raises(InputError, match="there is no video"):
        video_photos(tmp_path / "none.mp4")
    with pytest.raises(InputError, match="step"):
        video_photos(tmp_path / "fake.mp4", step=0)


def test_photos_by_what_the_path_is(tmp_path: Path) -> None:
    touch(tmp_path, "set/1.jpg", "set/2.jpg")
    (tmp_path / "list.txt").write_text("2.jpg\n", encoding="utf-8")
    (tmp_path / "where.csv").write_text("name,east,north\n2.jpg,5,6\n./1.jpg,1,2\n", encoding="utf-8")
    assert names(photos(tmp_path / "set")) == ["1.jpg", "2.jpg"]
    assert names(photos(tmp_path / "set" / "1.jpg")) == ["1.jpg"]
    assert names(photos(str(tmp_path / "list.txt"), root=tmp_path / "set")) == ["2.jpg"]
    placed = photos(tmp_path / "where.csv", root=tmp_path / "set")
    assert [(p.name, p.position.east if p.position else None) for p in placed] == [
        ("2.jpg", 5.0),
        ("1.jpg", 1.0),
    ]
    with pytest.raises(InputError, match=r"there is no .*NAME:database"):
        photos(tmp_path / "nothing")
    (tmp_path / "where.csv").write_text("name,east,north\n9.jpg,5,6\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"1 of 1 photos .*'9.jpg' \(line 2\)"):
        photos(tmp_path / "where.csv", root=tmp_path / "set")


@pytest.mark.slow
def test_datasets_and_evaluation_load_no_torch() -> None:
    code = (
        "import sys, dejavlad.datasets, dejavlad.evaluation;"
        "sys.exit(bool({'torch', 'cv2', 'faiss'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
