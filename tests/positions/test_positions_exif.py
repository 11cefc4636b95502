from __future__ import annotations

import math
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from dejavlad.decoders import open_image
from dejavlad.geo import latlon
from dejavlad.images.decode import exif_orientation
from dejavlad.positions.exif import (
    Exif,
    orientation_of,
    read_exif,
)

GPS, Base = ExifTags.GPS, ExifTags.Base
LUND: dict[int, Any] = {
    GPS.GPSLatitudeRef: "N",
    GPS.GPSLatitude: (55.0, 42.0, 18.36),
    GPS.GPSLongitudeRef: "E",
    GPS.GPSLongitude: (13.0, 11.0, 28.68),
}
HERE = (55.7051, 13.1913)


def saved(
    path: Path,
    gps: dict[int, Any] | None = None,
    tags: dict[int, Any] | None = None,
    details: dict[int, Any] | None = None,
) -> Path:
    exif = Image.Exif()
    exif.update({Base.Make: "a camera"} | (tags or {}))  # Pillow leaves out what has no plain tag
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(gps or {})
    exif.get_ifd(ExifTags.IFD.Exif).update(details or {})
    if path.suffix == ".tif":  # where Pillow writes no other parts
        exif[ExifTags.IFD.GPSInfo] = 0
    Image.new("RGB", (4, 3)).save(path, exif=exif)
    return path


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
def test_position_and_heading(tmp_path: Path, ending: str) -> None:
    exif = read_exif(saved(tmp_path / f"a.{ending}", LUND | {GPS.GPSImgDirection: 271.5}))
    assert exif.position is not None
    assert exif.position.zone == "33N"
    assert latlon(exif.position) == pytest.approx(HERE, abs=1e-6)
    assert exif.heading == 271.5


@pytest.mark.parametrize(("ns", "ew", "zone"), [("S", "E", "33S"), ("N", "W", "28N"), ("s", "w\0", "28S")])
def test_hemispheres(tmp_path: Path, ns: str, ew: str, zone: str) -> None:
    gps = LUND | {GPS.GPSLatitudeRef: ns, GPS.GPSLongitudeRef: ew}
    exif = read_exif(saved(tmp_path / "a.jpg", gps))
    assert exif.position is not None
    assert exif.position.zone == zone
    assert [abs(x) for x in latlon(exif.position)] == pytest.approx(HERE, abs=1e-6)


@pytest.mark.parametrize(
    "parts", [(55.0, 42.306, 0.0), (55.0, 42.306), (55.7051,), (IFDRational(557051, 10000), 0.0, 0.0)]
)
def test_forms_of_degrees(tmp_path: Path, parts: tuple[Any, ...]) -> None:
    exif = read_exif(saved(tmp_path / "a.jpg", LUND | {GPS.GPSLatitude: parts}))
    assert exif.position is not None
    assert latlon(exif.position)[0] == pytest.approx(HERE[0], abs=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        {GPS.GPSLatitude: (95.0, 0.0, 0.0)},
        {GPS.GPSLatitude: (85.0, 0.0, 0.0)},
        {GPS.GPSLatitude: (1.0, 2.0, 3.0, 4.0)},
        {GPS.GPSLatitude: (IFDRational(0, 0), 0.0, 0.0)},
        {GPS.GPSLatitudeRef: "X"},
        {GPS.GPSLatitudeRef: ""},
        {GPS.GPSLatitude: (0.0, 0.0, 0.0), GPS.GPSLongitude: (0.0, 0.0, 0.0)},
    ],
)
def test_what_is_no_position(tmp_path: Path, change: dict[int, Any]) -> None:
    assert read_exif(saved(tmp_path / "a.jpg", LUND | change)).position is None


@pytest.mark.parametrize(
    ("given_", "heading"), [(0.0, 0.0), (360.0, 0.0), (361.0, None), (IFDRational(1, 0), None)]
)
def test_headings(tmp_path: Path, given_: Any, heading: float | None) -> None:
    assert read_exif(saved(tmp_path / "a.jpg", {GPS.GPSImgDirection: given_})).heading == heading


def at(*when: int) -> float:
    return datetime(*when, tzinfo=UTC).timestamp()  # type: ignore[arg-type]


def test_times(tmp_path: Path) -> None:
    clock = {Base.DateTimeOriginal: "2019:05:06 07:08:09"}
    fix = {GPS.GPSDateStamp: "2018:01:02", GPS.GPSTimeStamp: (3.0, 4.0, 5.5)}
    offset = {Base.OffsetTimeOriginal: "-02:30"}
    path = tmp_path / "a.jpg"
    assert read_exif(saved(path)).time is None
    assert read_exif(saved(path, None, {Base.DateTime: "2020:01:01 00:00:00"})).time == at(2020, 1, 1)
    assert read_exif(saved(path, None, None, clock)).time == at(2019, 5, 6, 7, 8, 9)
    assert read_exif(saved(path, None, None, clock | offset)).time == at(2019, 5, 6, 9, 38, 9)
    stale = read_exif(saved(path, fix, None, clock))  # of another year than the clock
    assert (stale.time, stale.zoned, stale.stale) == (at(2019, 5, 6, 7, 8, 9), False, True)
    assert read_exif(saved(path, fix)).time == at(2018, 1, 2, 3, 4, 5) + 0.5


@pytest.mark.parametrize(
    "change",
    [
        {GPS.GPSTimeStamp: (25.0, 0.0, 0.0)},
        {GPS.GPSTimeStamp: (IFDRational(0, 0), 0.0, 0.0)},
        {GPS.GPSTimeStamp: (1.0,)},
        {GPS.GPSDateStamp: "0000:00:00"},
        {GPS.GPSDateStamp: "today"},
    ],
)
def test_a_broken_fix_leaves_the_clock(tmp_path: Path, change: dict[int, Any]) -> None:
    fix = {GPS.GPSDateStamp: "2018:01:02", GPS.GPSTimeStamp: (3.0, 4.0, 5.0)}
    clock = {Base.DateTimeOriginal: "2019:05:06 07:08:09"}
    assert read_exif(saved(tmp_path / "a.jpg", fix | change, None, clock)).time == at(2019, 5, 6, 7, 8, 9)


@pytest.mark.parametrize(("given_", "orientation"), [(1, 1), (6, 6), (8, 8), (0, 1), (9, 1)])
def test_orientations(tmp_path: Path, given_: int, orientation: int) -> None:
    with Image.open(saved(tmp_path / "a.jpg", None, {Base.Orientation: given_})) as image:
        assert orientation_of(image.getexif()) == orientation


def test_nothing_is_told_by_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no photo", encoding="utf-8")
    (tmp_path / "empty.jpg").touch()
    for name in ("text.jpg", "empty.jpg", "missing.jpg", "."):
        assert read_exif(tmp_path / name) == Exif()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"]))
def test_hostile_bytes(tmp_path: Path, junk: bytes, head: bytes) -> None:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (4, 3)).save(path, exif=b"Exif\0\0" + head + junk)
    assert isinstance(read_exif(path), Exif)
    with open_image(path) as image:
        assert 1 <= exif_orientation(image) <= 8


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=12))
def test_damaged_tags(tmp_path: Path, damage: list[tuple[int, int]]) -> None:
    whole = BytesIO()
    exif = Image.Exif()
    exif.update({Base.Orientation: 6, Base.DateTime: "2020:01:01 00:00:00"})
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(LUND | {GPS.GPSImgDirection: 90.0})
    Image.new("RGB", (4, 3)).save(whole, "JPEG", exif=exif)
    data = bytearray(whole.getvalue())
    start = data.index(b"Exif")
    stop = data.index(b"\xff\xdb")
    for place, value in damage:
        data[start + place % (stop - start)] = value
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    read = read_exif(path)
    assert read.heading is None or 0 <= read.heading < 360
    assert read.position is None or math.isfinite(read.position.east + read.position.north)
    assert read.time is None or math.isfinite(read.time)
