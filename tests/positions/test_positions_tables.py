"""Tables of positions as people and programs write them: numbers, degrees, zones, times, names."""

from __future__ import annotations

from pathlib import Path

import pytest

from dejavlad.errors import InputError
from dejavlad.geo import Position, latlon, utm_from_latlon
from dejavlad.photo import Photo, PhotoList
from dejavlad.positions import with_positions
from dejavlad.positions.coordinates import (
    UNKNOWN_STYLE,
    NumberStyle,
    names_bands,
    parse_degrees,
    read_zone,
)
from dejavlad.positions.csv_file import read_positions
from dejavlad.positions.moments import (
    TimeOffset,
    parse_moment,
    since_1970,
)
from dejavlad.positions.name_matching import match_names

NOON = 1714564800.0  # 2024-05-01T12:00:00Z


def table(tmp_path: Path, text: str, encoding: str = "utf-8") -> Path:
    path = tmp_path / "positions.csv"
    path.write_text(text, encoding=encoding, newline="")
    return path


def listing(*names: str) -> PhotoList:
    return PhotoList([Photo(name, Path(name)) for name in names], name="some")


@pytest.mark.parametrize(
    ("text", "axis", "degrees"),
    [
        ("55 deg 41' 53.80\" N", "lat", 55 + 41 / 60 + 53.8 / 3600),
        ("55°41′53,8″N", "lat", 55 + 41 / 60 + 53.8 / 3600),
        ("55d41m53.8s", "lat", 55 + 41 / 60 + 53.8 / 3600),
        ("N 55 41.896", "lat", 55 + 41.896 / 60),
        ("55:41:53.8", "lat", 55 + 41 / 60 + 53.8 / 3600),
        ("33.8 S", "lat", -33.8),
        ("33,8s", "lat", -33.8),
        ("-33,865", "lat", -33.865),
        ("−33.865", "lat", -33.865),
        ("151.2°W", "lon", -151.2),
        ("0°0'36\"W", "lon", -0.01),
        ("13.1913 East", "lon", 13.1913),
        ("+13.19", "lon", 13.19),
    ],
)
def test_degrees(text: str, axis: str, degrees: float) -> None:
    assert parse_degrees(text, axis) == pytest.approx(degrees, abs=1e-12)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("55 E", "swapped"),
        ("55 61 3", "below 60"),
        ("55.5 30", "whole"),
        ("1 2 3 4", "not a number"),
        ("-5 S", "both a sign and a side"),
        ("1e999", "not a number"),
        ("=1+1", "not a number"),
        ("٥٥", "not a number"),
        ("55..5", "not a number"),
    ],
)
def test_what_are_no_degrees(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_degrees(text, "lat")


def test_numbers_with_marks_of_thousands() -> None:
    german = NumberStyle.of(["615000,5", "6175000", "12,25"])
    assert [german.read(text) for text in ("615.000", "6.175.000,25", "615 000,5", "12,125")] == [
        615000,
        6175000.25,
        615000.5,
        12.125,
    ]
    english = NumberStyle.of(["615,000.50", "12.5"])
    assert [english.read(text) for text in ("615,000", "6,175,000", "615'000.5", "12.125")] == [
        615000,
        6175000,
        615000.5,
        12.125,
    ]
    assert UNKNOWN_STYLE.read("615.000") == 615
    with pytest.raises(ValueError, match=r"may be 615000 or 615\.000"):
        UNKNOWN_STYLE.read("615,000")


def test_decimal_commas_and_what_excel_writes(tmp_path: Path) -> None:
    text = "sep=;\r\nName;Latitude;Longitude;Heading\r\n"
    text += "a.jpg;55,7051;13,1913;-90\r\nb.jpg;NaN;;\r\nc.jpg;-;-;\r\n"
    fixes = read_positions(table(tmp_path, text, "utf-16"))
    assert fixes["a.jpg"].position == utm_from_latlon(55.7051, 13.1913)
    assert (fixes["a.jpg"].heading, fixes["a.jpg"].line) == (270, 3)
    assert fixes["b.jpg"].position is fixes["c.jpg"].position is None
    with pytest.raises(InputError, match=r"line 2: it has 5 fields, the first line 3 .*semicolons"):
        read_positions(table(tmp_path, "name,lat,lon\na.jpg,55,7051,13,1913\n"))
    tabs = read_positions(
        table(tmp_path, "name\tlat\tlon [deg]\theading [rad]\na b.jpg\t1,5\t2\t3.14159265359\n")
    )
    assert tabs["a b.jpg"].position == utm_from_latlon(1.5, 2)
    assert tabs["a b.jpg"].heading == pytest.approx(180)


def test_exiftool(tmp_path: Path) -> None:
    head = (
        "SourceFile,GPSLatitude,GPSLongitude,GPSImgDirection,DateTimeOriginal,OffsetTimeOriginal,"
        "SubSecTimeOriginal\n"
    )
    text = (
        '/home/me/photos/a.jpg,"55 deg 41\' 53.80"" N","13 deg 11\' 28.68"" E",271.5,2024:05:01 14:00:00,'
        "+02:00,50\n"
        "/home/me/photos/b.jpg,-33.8,151.2,,2024:05:01 12:00:00,,\n"
        '/home/me/photos/c.jpg,"0 deg 0\' 0.00"" N","0 deg 0\' 0.00"" E",,0000:00:00 00:00:00,,\n'
        "/home/me/photos/d.jpg,,,,,,\n"
    )
    placed = with_positions(listing("a.jpg", "b.jpg", "c.jpg", "d.jpg"), table(tmp_path, head + text))
    assert placed[0].position is not None and placed[1].position is not None
    assert latlon(placed[0].position) == pytest.approx((55.69828, 13.1913), abs=1e-5)
    assert latlon(placed[1].position) == pytest.approx((-33.8, 151.2), abs=1e-7)
    assert (placed[0].heading, placed[0].time, placed[1].time) == (271.5, NOON + 0.5, NOON)
    assert placed.positions[2:] == [None, None] and placed[2].time is None
    assert placed.notes == (
        "some: 2 of 4 photos have a position (from positions.csv); 2 have none, e.g. 'c.jpg'",
        "some: 1 positions are 0,0, which means none, and are left out, e.g. that of 'c.jpg'",
        "some: 1 of 2 photos' times have no time zone, and are taken for UTC (--time-offset UTC+2 says that "
        "their clocks ran on that)",
    )
    unsigned = (
        "SourceFile,EXIF:GPSLatitude,GPSLatitudeRef,GPSLongitude,GPSLongitudeRef\na,33.8,South,151.2,E\n"
    )
    assert read_positions(table(tmp_path, unsigned))["a"].position == utm_from_latlon(-33.8, 151.2)
    both = 'FileName,GPSPosition\na,"55 deg 41\' 53.80"" N, 13 deg 11\' 28.68"" E"\n'
    assert read_positions(table(tmp_path, both))["a"].position is not None


@pytest.mark.parametrize(
    ("zone", "north", "bands", "expected"),
    [
        ("10S", 4_177_000, None, "10N"),  # San Francisco; there is no land in the south
        ("10S", 4_177_000, False, "10S"),
        ("19S", 4_177_000, True, "19N"),
        ("56S", 6_250_000, None, "56S"),  # Sydney; no northing of the band S
        ("10T", 5_000_000, None, "10N"),
        ("56H", 6_250_000, None, "56S"),
        ("19 south", 4_177_000, None, "19S"),
        ("EPSG:32719", 4_177_000, None, "19S"),
        ("33n", 6_175_000, None, "33N"),
    ],
)
def test_zones(zone: str, north: float, bands: bool | None, expected: str) -> None:
    assert read_zone(zone, north, bands) == expected


def test_a_zone_that_may_be_either_is_refused(tmp_path: Path) -> None:
    rows = "a,500000,4177000,19S\n"  # Patagonia, or Massachusetts
    with pytest.raises(InputError, match=r"line 2: zone '19S' may be the band S .*write 19N .*19south"):
        read_positions(table(tmp_path, f"name,east,north,zone\n{rows}"))
    fixes = read_positions(table(tmp_path, f"name,east,north,zone\n{rows}b,500000,5000000,19T\n"))
    assert fixes["a"].position == Position(500000, 4177000, "19N")
    fixes = read_positions(table(tmp_path, f"name,east,north,zone\n{rows}b,500000,5000000,19S\n"))
    assert fixes["a"].position == Position(500000, 4177000, "19S")
    assert names_bands([("19S", 4e6), ("19N", 5e5)]) is None


@pytest.mark.parametrize(
    ("text", "time", "zoned"),
    [
        ("2024-05-01T12:00:00Z", NOON, True),
        ("2024-05-01T14:00:00.25+02:00", NOON + 0.25, True),
        ("2024-05-01 12:00:00,5", NOON + 0.5, False),
        ("2024:05:01 12:00:00.50+0000", NOON + 0.5, True),
        ("20240501T120000Z", NOON, True),
        ("1714564800", NOON, True),
        ("1714564800.5", NOON + 0.5, True),
        ("1714564800500", NOON + 0.5, True),
        ("1714564800500000", NOON + 0.5, True),
        ("1714564800500000000", NOON + 0.5, True),
        ("12.5", 12.5, True),
    ],
)
def test_times(tmp_path: Path, text: str, time: float, zoned: bool) -> None:
    fix = read_positions(table(tmp_path, f'name,east,north,time\na,1,2,"{text}"\n'))["a"]
    assert fix.time == pytest.approx(time, abs=1e-4) and fix.zoned == zoned


def test_moments_that_are_none() -> None:
    for text in ("", "2024-13-01T00:00:00", "2024-05-01T25:00:00", "12:00", "2024-05-01T12:00:00+99:00", "x"):
        assert parse_moment(text) is None
    date = parse_moment("2024-05-01")
    assert date is not None and not date.dated
    assert since_1970(7, "ns") == 7e-9


def test_time_offsets() -> None:
    assert TimeOffset.parse("-7200").apply(10000, True) == 2800
    assert TimeOffset.parse("-2:00").seconds == -7200 and TimeOffset.parse("0:00:30").seconds == 30
    summer = TimeOffset.parse("UTC+2")
    assert (summer.apply(7200, False), summer.apply(7200, True)) == (0, 7200)
    assert not TimeOffset.parse(None) and TimeOffset.parse("utc-03:30").zone == -12600
    for wrong in ("", "noon", "nan", "UTC+15", "2h"):
        with pytest.raises(InputError, match="--time-offset"):
            TimeOffset.parse(wrong)


def test_bare_names_match_beside_names_with_folders(tmp_path: Path) -> None:
    path = table(
        tmp_path, "name,east,north\nleft/1.jpg,1,1\n2.jpg,2,2\n3.jpg,3,3\nC:\\photos\\right\\4.jpg,4,4\n"
    )
    photos = listing("left/1.jpg", "right/2.jpg", "left/3.jpg", "right/3.jpg", "right/4.jpg")
    placed = with_positions(photos, path)
    assert placed.positions == [Position(1, 1), Position(2, 2), None, None, Position(4, 4)]
    assert any("2 photos (e.g. 'left/3.jpg') share their bare name" in note for note in placed.notes)


def test_name_matches() -> None:
    assert match_names(["1.jpg"], ["a/1.jpg", "b/1.jpg"]).ambiguous == (0,)
    assert match_names(["a/1.jpg", "1.jpg"], ["1.jpg"]).rows == (None, 0)  # the whole name comes first
    assert match_names(["a/1.jpg"], ["b/1.jpg"]).rows == (None,)
    assert match_names(["cafe\u0301.jpg"], ["./caf\u00e9.jpg"]).rows == (0,)
    assert match_names(["11.jpg"], ["1.jpg"]).rows == (None,)


def test_zeros_in_metres(tmp_path: Path) -> None:
    text = "name,east,north,zone\na,615000,6175000,33N\nb,0,0,33N\nc,615010,6175000,33N\n"
    placed = with_positions(listing("a", "b", "c"), table(tmp_path, text))
    assert placed.positions[1] is None and "1 positions are 0,0" in placed.notes[1]
    own = with_positions(listing("a", "b"), table(tmp_path, "name,east,north\na,0,0\nb,5,5\n"))
    assert own.positions == [Position(0, 0), Position(5, 5)]  # a plane of one's own begins there


@pytest.mark.parametrize(
    "text",
    [
        "name,lat,lon\n" + "a" * 200_000 + ",1,2\n",
        "name,lat,lon\n\"=cmd|'/c calc'!A1\",1,2\n",
        "name,lat,lon,\n../../etc/passwd,1,2,\n",
    ],
)
def test_hostile_cells_are_names_like_others_or_refused(tmp_path: Path, text: str) -> None:
    try:
        fixes = read_positions(table(tmp_path, text))
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert [fix.position for fix in fixes.values()] == [utm_from_latlon(1, 2)]
