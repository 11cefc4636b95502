"""Positions from CSV files, file names and EXIF."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import ExifTags, Image

from dejavlad.datasets import photos
from dejavlad.errors import InputError
from dejavlad.geo import Position, latlon, utm_from_latlon
from dejavlad.photo import Photo, PhotoList, folder_photos
from dejavlad.positions import with_positions
from dejavlad.positions.csv_file import read_positions
from dejavlad.positions.utm_names import from_utm_name


def csv(tmp_path: Path, text: str, name: str = "positions.csv") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


def listing(*names: str) -> PhotoList:
    return PhotoList([Photo(name, Path(name)) for name in names], name="some")


def test_csv_latlon(tmp_path: Path) -> None:
    fixes = read_positions(
        csv(tmp_path, "\ufeffName, Lat ,LON,heading,time,remark\r\n./a.jpg,55.7,13.2,370,12.5,x\r\n")
    )
    fix = fixes["a.jpg"]
    assert fix.position == utm_from_latlon(55.7, 13.2)
    assert (fix.line, fix.heading, fix.time) == (2, 10.0, 12.5)


def test_csv_metres_and_zones(tmp_path: Path) -> None:
    text = (
        "north,east,name,zone,time\n2,1,a,33N,\n4,3,b,56s,2024-05-01T00:00:00\n6,5,c,,\n8,7,d,33U,\n"
        "10,9,e,56H,2024-05-01T02:00:00+02:00\n"
    )
    fixes = read_positions(csv(tmp_path, text))
    assert [fix.position for fix in fixes.values()] == [
        Position(1, 2, "33N"),
        Position(3, 4, "56S"),
        Position(5, 6, None),
        Position(7, 8, "33N"),
        Position(9, 10, "56S"),
    ]
    assert fixes["b"].time == fixes["e"].time == 1714521600.0


def test_csv_quotes_semicolons_and_empty_positions(tmp_path: Path) -> None:
    fixes = read_positions(csv(tmp_path, 'name;lat;lon\n"a ""b"", c.jpg";1;2\n\nd.jpg;;\n'))
    assert list(fixes) == ['a "b", c.jpg', "d.jpg"]
    assert fixes["d.jpg"].position is None and fixes["d.jpg"].line == 4


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "holds no positions"),
        ("name,lat,lon\n", "holds no positions"),
        ("a.jpg,1,2\n", "line 1: the first line should name the columns"),
        ("name,lat\na,1\n", "line 1: the first line should name the columns"),
        ("name,lat,lon\na,1,2\nb,one,2\n", "line 3: lat 'one' is not a number"),
        ("name,lat,lon\na,1,\n", "line 2: 'a' has lat but no lon"),
        ("name,lat,lon\na,1\n", "line 2: 'a' has lat but no lon"),
        ("name,lat,lon\n,1,2\n", "line 2: it has no name"),
        ("name,lat,lon\na,151.2,-33.8\n", "line 2: latitude 151.2 .*swapped"),
        ("name,lat,lon\na,88,10\n", "line 2: .*outside UTM"),
        ("name,lat,lon\na,10,200\n", "line 2: .*outside UTM"),
        ("name,lat,lon\na,inf,10\n", "line 2: lat 'inf' is not a finite number"),
        ("name,lat,lon\n\na,1,2\na,1,2\n", "line 4: 'a' stands twice, first in line 3"),
        ("name,east,north,zone\na,1,2,33\n", "line 2: zone '33' lacks its hemisphere"),
        ("name,east,north,zone\na,1,2,99N\n", "line 2: '99N' is no UTM zone"),
        ("name,lat,lon,time\na,1,2,noon\n", "line 2: time 'noon' is neither"),
        ('name,lat,lon\n"a\nb",1,2\n"c,1,2\n', "line 4"),
    ],
)
def test_csv_errors_name_the_line(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        read_positions(csv(tmp_path, text))
    assert "positions.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_csv_over_several_lines_keeps_count(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 4: lat 'x'"):
        read_positions(csv(tmp_path, 'name,lat,lon\n"a\nb",1,2\nc,x,2\n'))


def test_with_csv_missing_photos_are_told(tmp_path: Path) -> None:
    path = csv(tmp_path, "name,east,north,heading\na.jpg,1,2,90\nz.jpg,1,2,\n")
    placed = with_positions(listing("a.jpg", "b.jpg", "c.jpg"), path)
    assert placed.positions == [Position(1, 2), None, None]
    assert placed[0].heading == 90
    assert "; 2 have none, e.g. 'b.jpg'" in placed.notes[0]
    assert "1 photos that are not in some" in placed.notes[1]
    with pytest.raises(
        InputError, match=r"none of the 1 photos of some \(e.g. 'q.jpg'\) is named in .*'a.jpg'"
    ):
        with_positions(listing("q.jpg"), path)


def test_with_csv_basenames_only_where_they_are_clear(tmp_path: Path) -> None:
    path = csv(tmp_path, "name,east,north\n1.jpg,1,2\n")
    assert with_positions(listing("x/1.jpg", "x/2.jpg"), path).positions == [Position(1, 2), None]
    with pytest.raises(InputError, match="none of the 2"):
        with_positions(listing("x/1.jpg", "y/1.jpg"), path)


def test_csv_with_windows_slashes(tmp_path: Path) -> None:
    path = csv(tmp_path, "name,east,north\nx\\1.jpg,1,2\n")
    assert with_positions(listing("x/1.jpg"), path).positions == [Position(1, 2)]


def test_utm_names() -> None:
    name = "q/@0584825.96@4476945.61@17@T@040.43850@-079.99969@pano7@3@455.5@@@@20150427@note@.jpg"
    photo = from_utm_name(Photo(name, Path(name)))
    assert photo is not None
    assert photo.position == Position(584825.96, 4476945.61, "17N")
    assert (photo.heading, photo.group, photo.time) == (95.5, "pano7", 1430092800.0)
    assert latlon(photo.position)[0] == pytest.approx(40.4385, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "position"),
    [
        ("@1.5@2.5@.jpg", Position(1.5, 2.5)),
        ("@1.5@2.5.jpg", Position(1.5, 2.5)),
        ("@334000@6250000@56@H@@@@@@@@@@@.jpg", Position(334000, 6250000, "56S")),
        ("@334000@3650000@33@S@@@@@@@@@@@.jpg", Position(334000, 3650000, "33N")),  # a band, not a hemisphere
        ("@334000@6250000@56@@-33.9@151.2@@@@@@@@@.jpg", Position(334000, 6250000, "56S")),
        ("@334000@6250000@@@-33.9@151.2@@@@@@@@@.jpg", Position(334000, 6250000, "56S")),
        ("@@@@@-33.9@151.2@@@@@@@@@.jpg", utm_from_latlon(-33.9, 151.2)),
        ("@x@y@.jpg", None),
        ("@1@2@77@N@.jpg", None),
        ("@1@nan@.jpg", None),
        ("@.jpg", None),
        ("plain.jpg", None),
    ],
)
def test_utm_names_with_empty_fields(name: str, position: Position | None) -> None:
    photo = from_utm_name(Photo(name, Path(name)))
    assert (photo.position if photo else None) == position


def test_with_utm_names() -> None:
    assert with_positions(listing("@1@2@.jpg", "x.jpg"), "utm-names").positions == [Position(1, 2), None]
    assert with_positions(listing("@1@2@.jpg"), "auto").positions == [Position(1, 2)]
    with pytest.raises(InputError, match="none of the 1 photos"):
        with_positions(listing("x.jpg"), "utm-names")


def with_gps(path: Path, lat: float, lon: float) -> None:
    exif = Image.Exif()
    gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    gps[ExifTags.GPS.GPSLatitudeRef], gps[ExifTags.GPS.GPSLatitude] = "N", (lat, 0.0, 0.0)
    gps[ExifTags.GPS.GPSLongitudeRef], gps[ExifTags.GPS.GPSLongitude] = "E", (lon, 0.0, 0.0)
    Image.new("RGB", (8, 8)).save(path, exif=exif)


def test_with_exif(tmp_path: Path) -> None:
    with_gps(tmp_path / "1.jpg", 55.5, 13.25)
    Image.new("RGB", (8, 8)).save(tmp_path / "2.jpg")
    (tmp_path / "3.jpg").write_bytes(b"no photo")
    first, *others = photos(tmp_path, positions="exif").positions
    assert first is not None and latlon(first) == pytest.approx((55.5, 13.25), abs=1e-6)
    assert others == [None, None]
    assert photos(tmp_path, positions="auto").positions[0] == first
    assert photos(tmp_path).positions == photos(tmp_path, positions="none").positions == [None] * 3


def test_auto_prefers_the_file_beside(tmp_path: Path) -> None:
    with_gps(tmp_path / "1.jpg", 55.5, 13.25)
    csv(tmp_path, "name,east,north\n1.jpg,1,2\n")
    assert with_positions(folder_photos(tmp_path), "auto").positions == [Position(1, 2)]


def test_unknown_source() -> None:
    with pytest.raises(InputError, match="valid are exif, utm-names"):
        with_positions(listing("a"), "gps")
    with pytest.raises(InputError, match="cannot be read"):
        with_positions(listing("a"), "none_there.csv")


def test_auto_leaves_what_all_photos_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "positions.csv").write_text("name,east,north\na.jpg,7,7\n", encoding="utf-8")
    known = Photo("a.jpg", tmp_path / "a.jpg", position=Position(1, 2))
    assert with_positions(PhotoList([known], root=tmp_path), "auto")[0].position == Position(1, 2)
    unknown = Photo("b.jpg", tmp_path / "b.jpg")
    again = with_positions(PhotoList([known, unknown], root=tmp_path), "auto")
    assert again.positions == [Position(7, 7), None]
