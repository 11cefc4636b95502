"""What is passed over when a folder is listed: counted, told, and found by `dataset check`."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import pytest

from dejavlad.datasets import photos
from dejavlad.datasets.audit.report import check_photos
from dejavlad.errors import InputError
from dejavlad.photo import PhotoList, folder_photos
from dejavlad.photo.photo import PassedOver
from dejavlad.photo.search import passed_over_text


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def link(at: Path, to: Path) -> None:
    try:
        at.symlink_to(to)
    except OSError:
        pytest.skip("this machine makes no symbolic links")


def names(listed: PhotoList) -> list[str]:
    return [photo.name for photo in listed]


def passed(listed: PhotoList) -> PassedOver:
    assert listed.passed_over is not None
    return listed.passed_over


def test_files_passed_over_are_counted_by_ending(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "1.jpg", *(f"{i}.txt" for i in range(9)), *(f"a/{i}.XMP" for i in range(3)), "README")
    touch(tmp_path, "positions.csv", ".DS_Store")
    with caplog.at_level(logging.WARNING, "dejavlad"):
        listed = photos(tmp_path)
    assert names(listed) == ["1.jpg"]
    assert passed(listed).files == {".txt": 9, ".xmp": 3, "": 1}
    assert caplog.messages == [f"{tmp_path}: 13 files passed over: 9 .txt, 3 .xmp, 1 without ending"]


def test_nothing_passed_over_is_not_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "dejavlad"):
        listed = folder_photos(touch(tmp_path, "1.jpg", "a/2.jpg"))
    assert passed(listed) == PassedOver() and not caplog.messages


SPECIAL = [
    ("@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg", "@eaDir (thumbnails)"),
    (".@__thumb/s1.jpg", ".@__thumb (thumbnails)"),
    (".thumbnails/1.jpg", ".thumbnails (thumbnails)"),
    ("$RECYCLE.BIN/1.jpg", "$RECYCLE.BIN (bin)"),
    ("#recycle/1.jpg", "#recycle (bin)"),
    ("@Recycle/1.jpg", "@Recycle (bin)"),
    (".Trash-1000/files/1.jpg", ".Trash-1000 (bin)"),
    (".Trashes/501/1.jpg", ".Trashes (bin)"),
    ("#snapshot/1.jpg", "#snapshot (snapshots)"),
    ("files_trashbin/1.jpg", "files_trashbin (bin)"),
    ("__MACOSX/a/1.jpg", "__MACOSX (system)"),
    ("lost+found/1.jpg", "lost+found (system)"),
    ("Mine Previews.lrdata/1.jpg", "Mine Previews.lrdata (previews)"),
]


@pytest.mark.parametrize(("name", "folder"), SPECIAL)
def test_thumbnails_and_bins(tmp_path: Path, name: str, folder: str) -> None:
    touch(tmp_path, "trip/1.jpg", f"trip/{name}")
    listed = folder_photos(tmp_path)
    assert names(listed) == ["trip/1.jpg"]
    assert passed(listed).folders == {folder: 1}
    assert passed_over_text(passed(listed)) == f"1 folder passed over: {folder} (--all-folders takes them)"
    everything = folder_photos(tmp_path, all_folders=True)
    assert sorted(names(everything)) == sorted(["trip/1.jpg", f"trip/{name}"])
    # asked for by itself, such a folder is a folder of photos
    assert len(folder_photos(tmp_path / "trip" / name.split("/")[0])) == 1


def test_a_photo_library_is_its_originals(tmp_path: Path) -> None:
    library = touch(
        tmp_path / "Photos Library.photoslibrary",
        "originals/0/A.jpeg",
        "resources/derivatives/0/A_1_105_c.jpeg",
        "resources/renders/0/A_1_201_a.jpeg",
        "database/Photos.sqlite",
    )
    assert names(folder_photos(library)) == ["originals/0/A.jpeg"]
    listed = folder_photos(tmp_path)
    assert names(listed) == ["Photos Library.photoslibrary/originals/0/A.jpeg"]
    assert passed(listed).folders == {"database (previews)": 1, "resources (previews)": 1}
    assert len(folder_photos(tmp_path, all_folders=True)) == 3
    # outside of a library these are names like others
    assert len(folder_photos(touch(tmp_path / "plain", "resources/1.jpg", "database/2.jpg"))) == 2


def test_hidden_photos_are_counted_and_a_macs_notes_are_not(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "._1.jpg", ".trashed-17-2.jpg", ".git/3.jpg", ".4.HEIC.icloud")
    listed = folder_photos(tmp_path)
    assert names(listed) == ["1.jpg"] and passed(listed).hidden == 1
    assert passed(listed).files == {".icloud": 1}  # not fetched yet


def test_links_to_nothing_are_told_and_make_a_folder_not_whole(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "a/2.jpg")
    link(tmp_path / "3.jpg", tmp_path / "gone" / "3.jpg")
    link(tmp_path / "a" / "self.jpg", tmp_path / "a" / "self.jpg")
    link(tmp_path / "disk", tmp_path / "not mounted")
    link(tmp_path / "notes.txt", tmp_path / "gone.txt")
    listed = photos(tmp_path, positions="auto")
    assert names(listed) == ["1.jpg", "a/2.jpg"]
    assert set(passed(listed).nowhere) == {"3.jpg", "a/self.jpg", "disk"}
    assert "3 links to nothing, e.g. '" in passed_over_text(passed(listed))
    checked = check_photos(listed)
    assert not checked.whole
    assert [finding.what for finding in checked.findings if finding.wrong] == ["links"]
    assert "unlisted" not in {finding.what for finding in checked.findings}


def test_links_in_a_ring_end(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/2.jpg")
    link(tmp_path / "a" / "to_b", tmp_path / "b")
    link(tmp_path / "b" / "to_a", tmp_path / "a")
    link(tmp_path / "b" / "up", tmp_path)
    assert names(folder_photos(tmp_path)) == ["a/1.jpg", "b/2.jpg"]


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="whoever reads all is refused none")
def test_a_folder_that_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "private/2.jpg")
    (tmp_path / "private").chmod(0)
    try:
        listed = folder_photos(tmp_path)
        assert names(listed) == ["1.jpg"] and passed(listed).unreadable == ("private",)
    finally:
        (tmp_path / "private").chmod(0o700)


def test_unreadable_folders_are_told_whoever_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "1.jpg", "lost/2.jpg")
    plain = os.scandir

    def scandir(path: Path) -> object:
        if Path(path).name == "lost":
            raise PermissionError(13, "Permission denied")
        return plain(path)

    monkeypatch.setattr("dejavlad.photo.search.os.scandir", scandir)
    listed = folder_photos(tmp_path)
    assert names(listed) == ["1.jpg"] and passed(listed).unreadable == ("lost",)
    monkeypatch.setattr("dejavlad.photo.search.os.scandir", lambda path: scandir(Path("lost")))
    with pytest.raises(InputError, match="cannot be read: Permission denied"):
        folder_photos(tmp_path)


def test_only_other_files_says_which(tmp_path: Path) -> None:
    touch(tmp_path, "a.xyz", "b.xyz", "#recycle/1.jpg")
    with pytest.raises(InputError, match=r"2 files passed over: 2 \.xyz; 1 folder .*#recycle.*--all-folders"):
        folder_photos(tmp_path)
