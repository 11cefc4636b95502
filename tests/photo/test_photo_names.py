"""Lists, tables and truth whose names are written otherwise than the photos on disk."""

from __future__ import annotations

import gzip
import io
import logging
import sys
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from dejavlad.datasets import (
    joined,
    open_dataset,
    photo_lists,
    photos,
)
from dejavlad.errors import InputError, UnknownNameError
from dejavlad.ground_truth import (
    parse_truth,
    read_netvlad_spec,
    truth_same_name,
)
from dejavlad.photo import (
    Photo,
    PhotoList,
    folder_photos,
    listed_photos,
    write_list,
)
from dejavlad.photo.folder import natural_order
from dejavlad.photo.near import near_paths
from dejavlad.positions import with_positions


def form(how: str, text: str) -> str:
    return unicodedata.normalize(how, text)


NAMES = ["Église/é 1.jpg", "Église/é 2.jpg", "Église/é 10.jpg"]
NFC, NFD = [form("NFC", name) for name in NAMES], [form("NFD", name) for name in NAMES]


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def names(listed: PhotoList) -> list[str]:
    return [photo.name for photo in listed]


def listing(*names: str) -> PhotoList:
    return PhotoList(Photo(name, Path(name)) for name in names)


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    return path


def csv_of(path: Path, named: list[str]) -> Path:
    """A table in which the i-th name lies i metres east."""
    return written(path, "name,east,north\n" + "".join(f"{n},{i},0\n" for i, n in enumerate(named)))


def test_a_list_in_one_form_finds_photos_in_the_other(tmp_path: Path) -> None:
    for on_disk, in_list, folder in ((NFD, NFC, "mac"), (NFC, NFD, "linux")):
        root = touch(tmp_path / folder, *on_disk)
        listed = listed_photos(written(tmp_path / f"{folder}.txt", "\n".join(in_list)), root=root)
        assert all(photo.path.is_file() for photo in listed)
        if sys.platform == "linux":
            assert names(listed) == on_disk  # photos keep the names that they have on disk


def test_positions_and_same_name_in_two_forms(tmp_path: Path) -> None:
    root = touch(tmp_path / "db", *NFD)
    table = csv_of(tmp_path / "t.csv", NFC)
    placed = with_positions(folder_photos(root), table)
    assert [at.east if at else None for at in placed.positions] == [0, 1, 2]
    (root / "positions.csv").write_text(table.read_text("utf-8"), encoding="utf-8")
    assert all(photos(root, positions="auto").positions)
    truth = truth_same_name(listing(*NFD), listing(*NFC[::-1]))
    assert [rows.tolist() for rows in truth.positives] == [[2], [1], [0]]
    assert truth.n_without_truth == 0


def test_photos_that_differ_in_form_alone_stay_apart(tmp_path: Path) -> None:
    table = written(tmp_path / "t.csv", f"name,east,north\n{NFC[0]},1,0\n{NFD[0]},2,0\n")
    placed = with_positions(listing(NFD[0], NFC[0]), table)
    assert [at.east if at else None for at in placed.positions] == [2, 1]


def test_natural_order_is_one_for_both_forms() -> None:
    assert natural_order(reversed(NFC)) == NFC and natural_order(reversed(NFD)) == NFD


ODD = "a b.jpg"


@pytest.mark.parametrize(
    "line",
    [
        "x/a b.jpg",
        "./x/a b.jpg",
        "x/../x/a b.jpg",
        "x//a b.jpg",
        "x\\a b.jpg",
        ".\\x\\a b.jpg",
        "  x/a b.jpg\t",
        "x/a%20b.jpg",
        '"x/a b.jpg"',
        "'x/a b.jpg' ",
        '"x\\a b.jpg"',
        "x/a b.jpg SIMPLE_RADIAL 1600 1200 1469.2 800 600 -0.0353",
        "x/a b.jpg PINHOLE 640 480 525.0 525.0 319.5 239.5",
        '"x/a b.jpg" OPENCV 640 480 1 1 1 1 1e-3 -1 0 0',
        "X/A B.JPG",
        "{root}/x/a b.jpg",
    ],
)
def test_each_way_of_writing_a_path(tmp_path: Path, line: str, caplog: pytest.LogCaptureFixture) -> None:
    root = touch(tmp_path / "data", "x/a b.jpg", "y.jpg")
    source = written(tmp_path / "l.txt", f"# a comment\r\n#\r\n{line.format(root=root)}\r\n\r\ny.jpg")
    with caplog.at_level(logging.WARNING, "dejavlad"):
        listed = listed_photos(source, root=root)
    assert names(listed) == ["x/a b.jpg", "y.jpg"]
    assert all(photo.path.is_file() for photo in listed)
    assert ("other letter case" in caplog.text) == (line == "X/A B.JPG")


def test_names_that_look_like_something_else_are_taken_as_they_stand(tmp_path: Path) -> None:
    odd = ["#1.jpg", "'q'.jpg", "100%25.jpg", "a%20b.jpg", "x PINHOLE 1 2 3", "comma,.jpg", 'say "no".jpg']
    root = touch(tmp_path / "data", *odd)
    assert names(listed_photos(written(tmp_path / "l.txt", "\n".join(odd)), root=root)) == odd


def test_lists_of_photos_that_are_not_there(tmp_path: Path) -> None:
    text = '# c\n"a b.jpg"\nx\\1.jpg PINHOLE 640 480 1 2 3 4\n#2.jpg\n#  old.jpg\n ./y.jpg \n'
    listed = listed_photos(written(tmp_path / "l.txt", text), seen=False)
    assert names(listed) == ["a b.jpg", "x/1.jpg", "#2.jpg", "y.jpg"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems know one letter case")
def test_letter_case_that_may_be_two_photos_is_refused(tmp_path: Path) -> None:
    root = touch(tmp_path / "data", "img_1.jpg", "Img_1.jpg")
    with pytest.raises(InputError, match="1 of 1 photos"):
        listed_photos(written(tmp_path / "l.txt", "IMG_1.JPG"), root=root)


def test_doubled_lines_in_two_forms_are_one_photo(tmp_path: Path) -> None:
    root = touch(tmp_path / "data", NFD[0])
    with pytest.raises(InputError, match=r"line 2: .*listed twice, first in line 1"):
        listed_photos(written(tmp_path / "l.txt", f"{NFC[0]}\n./{NFD[0]}"), root=root)


def test_whole_paths_of_another_computer_are_told(tmp_path: Path) -> None:
    for line in ("/home/else/1.jpg", "C:\\photos\\1.jpg", '"D:/1.jpg"', "\\\\nas\\photos\\1.jpg"):
        with pytest.raises(InputError, match="whole paths, perhaps of another computer"):
            listed_photos(written(tmp_path / "l.txt", line))


def test_only_comments_is_empty(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is empty"):
        listed_photos(written(tmp_path / "l.txt", "# nothing\n\n"))


def test_tables_of_whole_and_odd_paths(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = touch(tmp_path / "db", "x/1.jpg", "x/2.jpg", "x/3 4.jpg", "x/5.JPG")
    rows = [f"{root}/x/1.jpg", ".\\x\\2.jpg", "x/3%204.jpg", "x/../x/5.jpg"]
    table = csv_of(tmp_path / "t.csv", rows)
    with caplog.at_level(logging.WARNING, "dejavlad"):
        placed = with_positions(folder_photos(root), table)
    assert [at.east if at else None for at in placed.positions] == [0, 1, 2, 3]
    assert "1 photos were found in other letter case" in caplog.text


def test_same_name_in_other_letter_case_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "dejavlad"):
        truth = parse_truth("same-name", listing("IMG_1.JPG", "b.jpg"), listing("img_1.png", "b.png"))
    assert [rows.tolist() for rows in truth.positives] == [[0], [1]]
    assert "1 names of queries were found in other letter case, e.g. 'img_1' is 'IMG_1'" in caplog.text


def spec_of(path: Path, database: list[str], queries: list[str]) -> Path:
    cells = [np.array([[name] for name in names], dtype=object) for names in (database, queries)]
    scipy.io.savemat(
        path,
        {
            "dbStruct": {
                "whichSet": "test",
                "dbImageFns": cells[0],
                "qImageFns": cells[1],
                "utmDb": np.zeros((2, len(database))),
                "utmQ": np.zeros((2, len(queries))),
                "posDistThr": 25.0,
            }
        },
    )
    return path


def test_a_spec_made_on_windows(tmp_path: Path) -> None:
    touch(tmp_path / "images", "000/a.jpg")
    touch(tmp_path / "queries", "q/b.jpg")
    path = spec_of(tmp_path / "mine.mat", ["000\\a.jpg"], ["q\\b.jpg"])
    assert read_netvlad_spec(path).database == ("000/a.jpg",)
    places = open_dataset(path)
    assert all(photo.path.is_file() for part in (places.database, places.queries) for photo in part)


def test_a_spec_in_another_form(tmp_path: Path) -> None:
    touch(tmp_path / "images", *NFD)
    touch(tmp_path / "queries", "b.jpg")
    places = open_dataset(spec_of(tmp_path / "mine.mat", NFC, ["b.jpg"]))
    assert names(places.database) == NFC and all(photo.path.is_file() for photo in places.database)


def zipped(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, "x")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zipped("photos/1.jpg"), "a zip archive: unpack it"),
        (zipped("[Content_Types].xml"), "an Office document .* save it as text"),
        (zipped("utmQ.npy"), "arrays of NumPy"),
        (gzip.compress(b"x", mtime=0), "packed by gzip: unpack it"),
        (b"\x89HDF\r\n\x1a\n" + bytes(20), "an HDF5 file"),
        (b"MATLAB 5.0 MAT-file\0\0", "a MATLAB file"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC photo: .*give the photo itself"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "an AVIF picture"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "a video"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "a JPEG photo"),
        (b"\x89PNG\r\n\x1a\n\0\0", "a PNG picture"),
        (b"RIFF\0\0\0\0WEBP\0", "a WebP picture"),
        (b"SQLite format 3\0", "an SQLite database"),
        (b"%PDF-1.7\n\xe2\xe3\0", "a PDF"),
        ("a.jpg\nb.jpg\n".encode("utf-16-le"), "UTF-16 or UTF-32 without its mark: save it as UTF-8"),
        ("a.jpg\né.jpg\n".encode("latin-1"), r"not a text file in UTF-8: .*line 2.*save it as UTF-8"),
    ],
)
def test_what_is_no_text_is_told_by_what_it_is(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        listed_photos(path)


def test_a_mistyped_path_is_told_by_what_is_near(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "photos/database/1.jpg", "photos/queries/1.jpg")
    monkeypatch.chdir(tmp_path)
    assert near_paths("phtos") == ["'photos'"]
    assert near_paths(tmp_path / "Photo" / "database") == [repr((tmp_path / "photos").as_posix())]
    assert near_paths("photos/databse") == ["'photos/database'"]
    assert near_paths("photos") == [] and near_paths("xyzzy") == []
    with pytest.raises(InputError, match=r"there is no 'phtos'; did you mean 'photos'\?"):
        photos("phtos")
    with pytest.raises(UnknownNameError, match=r"no such folder.* did you mean 'photos'\?"):
        open_dataset("phtos")
    with pytest.raises(UnknownNameError, match="did you mean pitts30k-test") as caught:
        open_dataset("pits30k-test")
    with pytest.raises(UnknownNameError, match="`dejavlad dataset protocols` lists the names") as caught:
        open_dataset("/data/xyzzy/qqqq")
    assert len(str(caught.value)) < 300


def test_a_dataset_file_written_on_windows(tmp_path: Path) -> None:
    touch(tmp_path, "map/1.jpg", "new/2.jpg", f"lists/{NFD[0]}")
    written(tmp_path / "lists" / "é q.txt", "2.jpg")
    text = 'database = "map"\nqueries = "lists\\\\é q.txt"\nroot = ".\\\\new"\n'
    places = open_dataset(written(tmp_path / "mine.toml", form("NFD", text)))
    assert names(places.database) == ["1.jpg"] and places.queries[0].path == tmp_path / "new" / "2.jpg"


def test_a_table_of_photos_takes_no_name_for_a_comment(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg")
    table = written(tmp_path / "t.csv", "name,east,north\n1.jpg,1,2\n# gone,3,4\n")
    with pytest.raises(InputError, match=r"1 of 2 photos .*'# gone' \(line 3\)"):
        photos(table)


def test_photos_of_two_folders_of_a_camera(tmp_path: Path) -> None:
    for folder in ("100APPLE", "101APPLE"):
        touch(tmp_path / folder, *(f"IMG_{i}.JPG" for i in (1, 2)), f"only_{folder}.jpg")

    def given(*paths: Path) -> list[tuple[str, PhotoList]]:
        return [(str(path), photos(path)) for path in paths]

    first, other = tmp_path / "100APPLE", tmp_path / "101APPLE"
    both = joined(given(first, other))
    assert both.keys == [
        f"{folder}/{name}"
        for folder in ("100APPLE", "101APPLE")
        for name in ("IMG_1.JPG", "IMG_2.JPG", f"only_{folder}.jpg")
    ]
    assert all(photo.path.is_file() for photo in both)
    assert joined(given(first)).keys == ["IMG_1.JPG", "IMG_2.JPG", "only_100APPLE.jpg"]
    assert len(joined(given(first, first, first / "IMG_1.JPG"))) == 3  # a photo given twice is asked for once
    touch(tmp_path / "b" / "100APPLE", "IMG_1.JPG")
    same = joined(given(first, tmp_path / "b" / "100APPLE"))
    assert same.keys[0] == f"{first.as_posix()}/IMG_1.JPG" and len(set(same.keys)) == 4


def test_single_photos_of_a_folder_are_one_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So their positions are looked for together: poses go by the order of the photos."""
    monkeypatch.chdir(tmp_path)
    touch(tmp_path / "a", "a1.jpg", "a2.jpg")
    touch(tmp_path / "b", "b1.jpg")
    written(tmp_path / "poses.txt", "1 0 0 10 0 1 0 0 0 0 1 20\n1 0 0 30 0 1 0 0 0 0 1 40\n")
    words = ["a/a2.jpg", "b", "a/a1.jpg", "./a/a2.jpg"]
    (first, singles), (second, folder) = photo_lists(words)
    assert (first, singles.keys, singles.name) == ("a", ["a2.jpg", "a1.jpg"], "a")
    assert (second, folder.keys) == ("b", ["b1.jpg"])
    ((_, placed),) = photo_lists(["a/a1.jpg", "a/a2.jpg"], positions="poses.txt")
    assert [(p.east, p.north) for p in placed.positions if p is not None] == [(10, 20), (30, 40)]


def test_a_list_that_we_wrote_is_read_again_whatever_the_names(tmp_path: Path) -> None:
    odd = ["a b.jpg", "#1.jpg", "é.jpg", "100%25.jpg", "x FOV 1 2 3.jpg", " lead.jpg"]
    root = touch(tmp_path / "data", *odd)
    path = write_list(folder_photos(root), tmp_path / "l.txt", root=root)
    assert names(listed_photos(path, root=root)) == names(folder_photos(root))
