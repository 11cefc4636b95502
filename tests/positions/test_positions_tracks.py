"""Positions of photos and videos from GPX and KML tracks, and from poses."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from dejavlad.datasets import photos
from dejavlad.errors import InputError
from dejavlad.geo import distance, latlon, utm_from_latlon
from dejavlad.photo import Photo, PhotoList
from dejavlad.positions import with_positions
from dejavlad.positions.tracks import (
    TrackGiven,
    read_track,
    split_track,
)

NOON = 1714564800.0  # 2024-05-01T12:00:00Z


def gpx(path: Path, *points: str) -> Path:
    path.write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n<gpx version="1.1" creator="test" '
        'xmlns="http://www.topografix.com/GPX/1/1"><wpt lat="1" lon="1"><name>here</name></wpt>'
        "<trk><trkseg>\n" + "\n".join(points) + "</trkseg></trk></gpx>\n"
    )
    return path


def point(lat: float, lon: float, time: str | None) -> str:
    when = f"<ele>12.5</ele><time>{time}</time>" if time else ""
    return f'<trkpt lat="{lat}" lon="{lon}">{when}</trkpt>'


WALK = (
    point(55.70, 13.19, "2024-05-01T12:00:00Z"),
    point(55.71, 13.20, "2024-05-01T12:00:50Z"),
    point(55.71, 13.20, "2024-05-01T12:00:50.000Z"),
    point(55.75, 13.30, "2024-05-01T12:10:00+00:00"),
)


def listed(*times: float | None) -> PhotoList:
    return PhotoList(Photo(f"{i}.jpg", Path(f"{i}.jpg"), time=time) for i, time in enumerate(times))


def test_photos_lie_between_the_points_of_a_track(tmp_path: Path) -> None:
    path = gpx(tmp_path / "walk.gpx", *WALK)
    assert len(read_track(path)) == 3
    placed = with_positions(listed(NOON, NOON + 25, NOON + 50, NOON + 300, NOON - 1, NOON + 9999, None), path)
    at = [None if p is None else latlon(p) for p in placed.positions]
    assert at[0] == pytest.approx((55.70, 13.19)) and at[1] == pytest.approx((55.705, 13.195))
    assert at[2] == pytest.approx((55.71, 13.20)) and at[3:] == [None] * 4
    assert "; 4 have none, e.g. " in placed.notes[0]
    why = "2 photos were taken before or after the track"
    assert any(
        "1 photos fall into a gap of the track of over 60 s" in note and why in note for note in placed.notes
    )


def test_a_clock_that_runs_otherwise_and_a_video(tmp_path: Path) -> None:
    path = gpx(tmp_path / "walk.gpx", *WALK)
    ahead = with_positions(listed(NOON + 7200), f"{path}:-7200")
    assert latlon(ahead.positions[0]) == pytest.approx((55.70, 13.19))  # type: ignore[arg-type]
    film = with_positions(listed(0.0, 25.0), f"{path}:2024-05-01T14:00:00+02:00")
    assert latlon(film.positions[1]) == pytest.approx((55.705, 13.195))  # type: ignore[arg-type]
    assert film[1].time == NOON + 25
    with pytest.raises(
        InputError, match=r"none of the 1 photos.*2024-05-01 12:00:00 to 2024-05-01 12:10:00 UTC"
    ):
        with_positions(listed(5.0), path)
    for wrong in ("noon", "nan"):
        with pytest.raises(InputError, match=r"walk\.gpx"):
            with_positions(listed(5.0), f"{path}:{wrong}")


def test_time_of_exif(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0132] = "2024:05:01 12:00:25"
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "photos" / "a.jpg", exif=exif)
    placed = photos(tmp_path / "photos", positions=gpx(tmp_path / "walk.gpx", *WALK))
    assert latlon(placed.positions[0]) == pytest.approx((55.705, 13.195))  # type: ignore[arg-type]


def test_across_the_date_line(tmp_path: Path) -> None:
    path = gpx(
        tmp_path / "t.gpx",
        point(-17, 179.999, "2024-05-01T12:00:00Z"),
        point(-17, -179.999, "2024-05-01T12:00:10Z"),
    )
    track = read_track(path)
    middle, end = track.at(NOON + 5), track.at(NOON + 10)
    assert middle is not None and end is not None and end.zone == "1S"
    assert distance(middle, utm_from_latlon(-17, 180)) < 0.01


def test_kml_as_google_and_loggers_write_it(tmp_path: Path) -> None:
    head = '<?xml version="1.0"?><kml xmlns="http://www.opengis.net/kml/2.2" xmlns:gx="http://www.google.com/kml/ext/2.2"><Document>'
    (tmp_path / "a.kml").write_text(
        head + "<Placemark><gx:Track><when>2024-05-01T12:00:00Z</when><when>2024-05-01T12:00:50Z</when>"
        "<gx:coord>13.19 55.70 0</gx:coord><gx:coord>13.20 55.71 0</gx:coord></gx:Track>"
        "</Placemark></Document></kml>"
    )
    (tmp_path / "b.kml").write_text(
        head
        + "".join(
            f"<Placemark><TimeStamp><when>2024-05-01T12:00:{s:02d}Z</when></TimeStamp>"
            f"<Point><coordinates>{lon},{lat},0</coordinates></Point></Placemark>"
            for lat, lon, s in ((55.71, 13.20, 50), (55.70, 13.19, 0))
        )
        + "</Document></kml>"
    )
    for name in ("a.kml", "b.kml"):
        placed = with_positions(listed(NOON + 25), tmp_path / name)
        assert latlon(placed.positions[0]) == pytest.approx((55.705, 13.195))  # type: ignore[arg-type]
    (tmp_path / "c.kml").write_text(
        head + "<Placemark><LineString><coordinates>13.19,55.70,0 13.20,55.71,0</coordinates></LineString>"
        "</Placemark></Document></kml>"
    )
    with pytest.raises(InputError, match="its 2 points have no time"):
        read_track(tmp_path / "c.kml")
    (tmp_path / "d.kml").write_text(
        head + "<gx:Track><when>2024-05-01T12:00:00Z</when></gx:Track></Document></kml>"
    )
    with pytest.raises(InputError, match="1 times and 0 positions"):
        read_track(tmp_path / "d.kml")


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ((), "it holds no track"),
        ((point(1, 1, None), point(1, 2, None)), "its 2 points have no time"),
        ((WALK[1], WALK[0]), "times go backwards at 2024-05-01T12:00:00Z"),
        ((point(13, 255, "2024-05-01T12:00:00Z"),), "no latitude and longitude"),
        ((point(float("nan"), 2, "2024-05-01T12:00:00Z"),), "no latitude and longitude"),
        ((point(1, 1, "yesterday"),), "have no time as 2024-05-01"),
    ],
)
def test_bad_tracks(tmp_path: Path, points: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_track(gpx(tmp_path / "t.gpx", *points))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no XML"),
        ("<gpx><trk>", "is no XML"),
        ("<html></html>", "neither GPX nor KML"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><gpx>&a;</gpx>', "declares a document type"),
    ],
)
def test_what_is_no_track(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.gpx").write_text(text)
    with pytest.raises(InputError, match=message):
        read_track(tmp_path / "t.gpx")
    with pytest.raises(InputError, match="cannot be read"):
        read_track(tmp_path / "none.gpx")


def test_what_a_track_is() -> None:
    assert split_track("exif") is None and split_track("poses.txt") is None
    assert split_track("C:\\walks\\a.GPX") == TrackGiven(Path("C:\\walks\\a.GPX"))
    assert split_track("C:\\walks\\a.gpx:3600") == TrackGiven(Path("C:\\walks\\a.gpx"), 3600.0)
    assert split_track("a.kmz:gap=300") == TrackGiven(Path("a.kmz"), 0.0, 300.0)
    moment = split_track("a.kml:2024-05-01T12:00:00Z:gap=90")
    assert moment == TrackGiven(Path("a.kml"), NOON, 90.0)
    with pytest.raises(InputError, match="a gap is a number of seconds"):
        split_track("a.gpx:gap=-1")


def test_positions_from_poses(tmp_path: Path) -> None:
    path = tmp_path / "00.txt"
    path.write_text("1 0 0 1 0 1 0 2 0 0 1 3\n1 0 0 4 0 1 0 2 0 0 1 9\n")
    two = listed(None, None)
    placed = with_positions(two, path)
    assert [(p.east, p.north, p.zone) for p in placed.positions if p] == [(1, 3, None), (4, 9, None)]
    placed = with_positions(two, f"{path}:xy")
    assert [(p.east, p.north) for p in placed.positions if p] == [(1, 2), (4, 2)]
    assert any("extends far along the axis" in note for note in placed.notes)
    with pytest.raises(InputError, match="2 poses"):
        with_positions(PhotoList([Photo("a.jpg", Path("a.jpg"))]), path)
    tum = tmp_path / "tum.txt"
    tum.write_text("1.5 1 2 3 0 0 0 1\n")
    placed = with_positions(listed(1.5, 9.0), tum)
    assert placed.positions[0] is not None and placed.positions[1] is None
    assert (placed.positions[0].east, placed.positions[0].north) == (1, 2)


def test_a_csv_file_of_any_ending_is_still_one(tmp_path: Path) -> None:
    path = tmp_path / "where.txt"
    path.write_text("name,east,north\n0.jpg,1,2\n")
    at = with_positions(listed(None), path).positions[0]
    assert at is not None and (at.east, at.north) == (1, 2)
    with pytest.raises(InputError, match="a track"):
        with_positions(listed(None), "nowhere")


def waypoints(*points: str) -> str:
    return "".join(point.replace("trkpt", "wpt") for point in points)


def test_waypoints_with_times_are_a_track_where_there_is_no_other(tmp_path: Path) -> None:
    head = '<gpx version="1.1" xmlns="http://www.topografix.com/GPX/1/1">'
    (tmp_path / "marks.gpx").write_text(f"{head}{waypoints(*WALK[::-1], point(1, 1, None))}</gpx>")
    track = gpx(tmp_path / "walk.gpx", *WALK)
    marks, walk = read_track(tmp_path / "marks.gpx"), read_track(track)
    assert marks.times.tolist() == walk.times.tolist() and marks.degrees.tolist() == walk.degrees.tolist()
    assert any("1 points have no time" in note for note in marks.notes)
    photos_at = listed(NOON + 25)
    positions = [with_positions(photos_at, tmp_path / name)[0].position for name in ("marks.gpx", "walk.gpx")]
    assert positions[0] is not None and positions[0] == positions[1]


def test_waypoints_with_times_beside_a_track_are_passed_over_and_told(tmp_path: Path) -> None:
    mark = point(10.0, 20.0, "2024-05-01T12:00:25Z").replace("trkpt", "wpt")
    path = gpx(tmp_path / "walk.gpx", *WALK)
    plain = read_track(path)
    path.write_text(path.read_text().replace("<trk>", f"{mark}<trk>"))
    marked = read_track(path)
    assert marked.degrees.tolist() == plain.degrees.tolist() and not plain.notes
    assert marked.notes == ("walk.gpx: 1 points are waypoints beside a track, and are passed over",)
