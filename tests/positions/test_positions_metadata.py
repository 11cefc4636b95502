"""What photos and files beside them tell: EXIF, XMP, Google Takeout; `auto` over a whole list."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import ExifTags, Image

from dejavlad.datasets import photos
from dejavlad.errors import InputError
from dejavlad.geo import Position, latlon
from dejavlad.photo import folder_photos
from dejavlad.positions import with_positions
from dejavlad.positions.exif import (
    read_exif,
    zone_of,
)
from dejavlad.positions.sidecars import (
    Sidecars,
    parse_xmp,
)

GPS, Base = ExifTags.GPS, ExifTags.Base
NOON = 1714564800.0  # 2024-05-01T12:00:00Z
HERE = (55.7051, 13.1913)


def photo(path: Path, where: tuple[float, float] | None = None, **tags: Any) -> Path:
    """A photo with a position and tags of EXIF by their names; `stamp` is its GPS time."""
    exif = Image.Exif()
    exif[Base.Make] = "a camera"
    gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    if where is not None:
        gps |= {GPS.GPSLatitudeRef: "N", GPS.GPSLatitude: (where[0], 0.0, 0.0)}
        gps |= {GPS.GPSLongitudeRef: "E", GPS.GPSLongitude: (where[1], 0.0, 0.0)}
        exif.get_ifd(ExifTags.IFD.GPSInfo).update(gps)
    if (stamp := tags.pop("stamp", None)) is not None:
        at = datetime.fromtimestamp(stamp, UTC)
        exif.get_ifd(ExifTags.IFD.GPSInfo).update(
            {
                GPS.GPSDateStamp: f"{at:%Y:%m:%d}",
                GPS.GPSTimeStamp: (float(at.hour), float(at.minute), float(at.second)),
            }
        )
    exif.get_ifd(ExifTags.IFD.Exif).update({Base[name].value: value for name, value in tags.items()})
    Image.new("RGB", (8, 8)).save(path, exif=exif)
    return path


@pytest.mark.parametrize(
    ("tags", "time", "zoned", "stale"),
    [
        ({"SubsecTimeOriginal": "50", "OffsetTimeOriginal": "+02:00"}, NOON + 0.5, True, False),
        ({"OffsetTimeOriginal": "+02:00", "stamp": NOON - 2100}, NOON, True, True),  # a fix of 35 minutes ago
        ({"OffsetTimeOriginal": "+02:00", "stamp": 0.0}, NOON, True, False),  # of 1970: none
        ({"OffsetTimeOriginal": "+0200"}, NOON, True, False),
        ({"stamp": NOON - 3, "SubsecTimeOriginal": "25"}, NOON + 0.25, True, False),  # the fix tells the zone
        ({"stamp": NOON - 2100}, NOON + 7200, False, True),
        ({"stamp": 0.0}, NOON + 7200, False, False),
        ({}, NOON + 7200, False, False),
    ],
)
def test_clocks_and_fixes(
    tmp_path: Path, tags: dict[str, Any], time: float, zoned: bool, stale: bool
) -> None:
    exif = read_exif(photo(tmp_path / "a.jpg", DateTimeOriginal="2024:05:01 14:00:00", **tags))
    assert (exif.time, exif.zoned, exif.stale) == (time, zoned, stale)


def test_a_clock_that_was_never_set(tmp_path: Path) -> None:
    exif = read_exif(photo(tmp_path / "a.jpg", DateTimeOriginal="1970:01:01 00:00:00", stamp=NOON))
    assert (exif.time, exif.zoned) == (NOON, True)
    assert zone_of(NOON + 19800 + 10, NOON) == 19800 and zone_of(NOON + 3000, NOON) is None


def test_times_without_a_zone_are_told(tmp_path: Path) -> None:
    for i in range(3):
        photo(tmp_path / f"{i}.jpg", HERE, DateTimeOriginal="2024:05:01 14:00:00")
    photo(tmp_path / "3.jpg", (0.0, 0.0), DateTimeOriginal="2024:05:01 14:00:00", OffsetTimeOriginal="+02:00")
    placed = photos(tmp_path, positions="auto")
    assert [p.time for p in placed] == [NOON + 7200] * 3 + [NOON]
    text = "\n".join(placed.notes)
    assert "3 of 4 photos have a position (from EXIF)" in text
    assert "1 positions are 0,0, which means none, and are left out, e.g. that of '3.jpg'" in text
    assert "3 of 4 photos' times have no time zone, and are taken for UTC (--time-offset" in text
    summer = photos(tmp_path, positions="exif", time_offset="UTC+2")
    assert [p.time for p in summer] == [NOON] * 4
    assert "3 of 4 photos' times have no time zone, and are taken for UTC+2" in "\n".join(summer.notes)
    slow = photos(tmp_path, positions="exif", time_offset="10")
    assert slow[3].time == NOON + 10 and "+10 s were added" in "\n".join(slow.notes)
    with pytest.raises(InputError, match="--time-offset 10: "):
        photos(tmp_path, positions="none", time_offset="10")


XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:exif="http://ns.adobe.com/exif/1.0/" exif:GPSLatitude="{lat}" '
    'exif:GPSImgDirection="543/2"><exif:GPSLongitude>{lon}</exif:GPSLongitude>'
    "<exif:DateTimeOriginal>2024-05-01T14:00:00.5+02:00</exif:DateTimeOriginal>"
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
)


@pytest.mark.parametrize(
    ("lat", "lon"),
    [("55,42.306N", "13,11.478E"), ("55,42,18.36N", "13,11,28.68E"), HERE, ("55.7051N", "13.1913")],
)
def test_xmp(lat: Any, lon: Any) -> None:
    sidecar = parse_xmp(XMP.format(lat=lat, lon=lon).encode())
    assert sidecar.position is not None and latlon(sidecar.position) == pytest.approx(HERE, abs=1e-6)
    assert (sidecar.heading, sidecar.time, sidecar.zoned) == (271.5, NOON + 0.5, True)


def test_xmp_that_tells_nothing() -> None:
    zero = parse_xmp(XMP.format(lat="0,0.0N", lon="0,0.0E").encode())
    assert zero.position is None and zero.zero
    for packet in (
        b"",
        b"<x",
        b"\0",
        b'<!DOCTYPE a [<!ENTITY b "c">]><a/>',
        XMP.format(lat="x", lon="y").encode(),
    ):
        assert parse_xmp(packet).position is None


def test_xmp_beside_and_inside_photos(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        photo(tmp_path / name, (10.0, 10.0) if name == "c.jpg" else None)
    packet = XMP.format(lat="55,42.306N", lon="13,11.478E").encode()
    (tmp_path / "a.JPG.XMP").write_bytes(packet)
    (tmp_path / "c.xmp").write_bytes(packet)
    Image.new("RGB", (8, 8)).save(tmp_path / "b.jpg", xmp=packet)
    placed = with_positions(folder_photos(tmp_path), "auto")
    assert [latlon(at) for at in placed.positions if at] == [pytest.approx(HERE, abs=1e-6)] * 3
    assert "3 of 3 photos have a position (2 from XMP files and 1 from XMP)" in placed.notes[0]


def takeout(path: Path, lat: float, lon: float, title: str = "", exif: tuple[float, float] = (0, 0)) -> None:
    content = {
        "title": title,
        "photoTakenTime": {"timestamp": str(int(NOON)), "formatted": "1 May 2024, 12:00:00 UTC"},
        "geoData": {"latitude": lat, "longitude": lon, "altitude": 0.0},
        "geoDataExif": {"latitude": exif[0], "longitude": exif[1], "altitude": 0.0},
    }
    path.write_text(json.dumps(content))


LONG = "PXL_20240501_120000123.PORTRAIT-01.COVER.jpg"


@pytest.mark.parametrize(
    ("name", "beside"),
    [
        ("IMG_1.jpg", "IMG_1.jpg.json"),
        ("IMG_1.jpg", "IMG_1.jpg.supplemental-metadata.json"),
        ("IMG_1.jpg", "IMG_1.jpg.supplemental-meta.json"),
        ("IMG_1(2).jpg", "IMG_1.jpg(2).json"),
        ("IMG_1(2).jpg", "IMG_1.jpg.supplemental-metadata(2).json"),
        ("IMG_1(2).jpg", "IMG_1(2).jpg.json"),
        ("IMG_1-edited.jpg", "IMG_1.jpg.supplemental-metadata.json"),
        (LONG, f"{LONG}.supplemental-metadata"[:46] + ".json"),
        (f"very_{LONG}", f"very_{LONG}"[:46] + ".json"),
    ],
)
def test_takeout_names(tmp_path: Path, name: str, beside: str) -> None:
    takeout(tmp_path / beside, *HERE, title=name)
    takeout(tmp_path / "IMG_2.jpg.json", 1, 1)
    sidecar = Sidecars().takeout(tmp_path / name)
    assert sidecar is not None and sidecar.position is not None and sidecar.time == NOON
    assert latlon(sidecar.position) == pytest.approx(HERE, abs=1e-6)
    assert Sidecars().takeout(tmp_path / "IMG_10.jpg") is None
    other = Sidecars().takeout(tmp_path / "IMG_1(3).jpg")
    assert other is None


def test_takeout_names_that_are_cut_go_by_their_titles(tmp_path: Path) -> None:
    names = [f"{'a' * 50}{i}.jpg" for i in (1, 2)]
    takeout(tmp_path / f"{'a' * 46}.json", 1, 1, names[0])
    takeout(tmp_path / f"{'a' * 46}(1).json", 2, 2, names[1])
    sidecars = [Sidecars().takeout(tmp_path / name) for name in names]
    assert [round(latlon(f.position)[0]) for f in sidecars if f and f.position] == [1, 2]


def test_takeout_positions(tmp_path: Path) -> None:
    for i in range(4):
        photo(tmp_path / f"{i}.jpg", DateTimeOriginal="2024:05:01 14:00:01")
    takeout(tmp_path / "0.jpg.json", 0.0, 0.0, exif=HERE)
    takeout(tmp_path / "1.jpg.json", 0.0, 0.0)
    (tmp_path / "2.jpg.json").write_text("[" * 100_000)
    (tmp_path / "3.jpg.json").write_text(
        '{"geoData": {"latitude": "x", "longitude": 1e999}, "photoTakenTime": 5}'
    )
    placed = photos(tmp_path, positions="auto")
    assert [at is not None for at in placed.positions] == [True, False, False, False]
    assert placed[0].time == placed[1].time == NOON + 1  # the clock, with the zone that Takeout tells
    assert placed[2].time == NOON + 7201
    text = "\n".join(placed.notes)
    assert (
        "(from Google Takeout)" in text
        and "0,0" not in text
        and "2 of 4 photos' times have no time zone" in text
    )


def test_auto_judges_the_whole_list(tmp_path: Path) -> None:
    photo(tmp_path / "00_cover.jpg")
    for i in range(3):
        photo(tmp_path / f"@615000.00@617500{i}.00@33@U@.jpg")
    placed = with_positions(folder_photos(tmp_path), "auto")
    assert [at is not None for at in placed.positions] == [False, True, True, True]
    assert "3 of 4 photos have a position (from names)" in placed.notes[0]
    photo(tmp_path / "00_cover.jpg", HERE)
    placed = with_positions(folder_photos(tmp_path), "auto")
    assert all(placed.positions) and "3 from names and 1 from EXIF" in placed.notes[0]
    (tmp_path / "plain").mkdir()
    for i in range(3):
        photo(tmp_path / "plain" / f"@1@{i}@.jpg")
    photo(tmp_path / "plain" / "a.jpg", HERE)
    placed = with_positions(folder_photos(tmp_path / "plain"), "auto")
    assert placed.positions.count(None) == 1 and "on another kind of plane" in "\n".join(placed.notes)


def test_zeros_in_names(tmp_path: Path) -> None:
    for name in (
        "@615000@6175000@33@U@.jpg",
        "@0@0@33@U@.jpg",
        "@615001@6175000@33@U@.jpg",
        "@@@@@0.0@0.0@@.jpg",
    ):
        photo(tmp_path / name)
    placed = with_positions(folder_photos(tmp_path), "utm-names")
    assert sorted(at.east for at in placed.positions if at) == [615000, 615001]
    assert "2 positions are 0,0" in "\n".join(placed.notes)


def test_nothing_is_said_of_photos_that_tell_nothing(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")
    assert photos(tmp_path, positions="auto").notes == ()
    assert "0 of 1 photos have a position" in photos(tmp_path, positions="exif").notes[0]


def test_notes_stay_with_a_part_of_the_list(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg", HERE)
    placed = photos(tmp_path, positions="exif")
    assert placed.notes and placed[:1].notes == placed.take([0]).notes == placed.notes
    assert placed.positions != [Position(0, 0)]
