"""Positions by time and by frame: KITTI, TUM, EuRoC, COLMAP, GPX, KML and KMZ as they really come."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dejavlad.datasets import (
    open_dataset,
    photos,
)
from dejavlad.errors import InputError
from dejavlad.geo import latlon
from dejavlad.ground_truth import PlaceDataset
from dejavlad.ground_truth.loop_truth import loop_truth
from dejavlad.ground_truth.truth_npz import (
    TruthPositions,
    write_truth_npz,
)
from dejavlad.photo import Photo, PhotoList
from dejavlad.positions import with_positions
from dejavlad.positions.poses import (
    centres_of,
    is_poses,
    read_poses,
    split_poses,
)
from dejavlad.positions.tracks import read_track

NOON = 1714564800.0  # 2024-05-01T12:00:00Z


def frames(folder: Path, *names: str, times: tuple[float | None, ...] = ()) -> PhotoList:
    """Photos that need not be there."""
    times = times or (None,) * len(names)
    return PhotoList(
        (Photo(name, folder / name, time=time) for name, time in zip(names, times, strict=True)),
        root=folder,
        name="drive",
    )


def tum(path: Path, times: np.ndarray) -> Path:
    """A trajectory that goes 10 m a second along x."""
    path.write_text("".join(f"{t:.6f} {10 * (t - times[0]):.6f} 0 0 0 0 0 1\n" for t in times))
    return path


def east(placed: PhotoList) -> list[float | None]:
    return [None if at is None else round(at.east, 6) for at in placed.positions]


SIX = tuple(f"{i:06d}.jpg" for i in (0, 10, 27))


def test_frame_numbers_are_no_seconds(tmp_path: Path) -> None:
    path = tum(tmp_path / "poses.txt", np.arange(0, 60, 0.1))
    folder = tmp_path / "drive" / "image_2"
    folder.mkdir(parents=True)
    with pytest.raises(InputError, match=r"'000000.jpg' has none: its name is a number.*times\.txt.*:10hz"):
        with_positions(frames(folder, *SIX), path)
    with pytest.raises(InputError, match=r"its name is a number"):
        loop_truth(str(path), frames(folder, *SIX))
    assert east(with_positions(frames(folder, *SIX), f"{path}:10hz")) == [0, 10, 27]
    assert east(with_positions(frames(folder, "frame_000010.jpg"), f"{path}:5hz")) == [20]
    (folder.parent / "times.txt").write_text("".join(f"{i / 10:.6e}\n" for i in range(30)))
    assert east(with_positions(frames(folder, *SIX), path)) == [0, 10, 27]
    right, _ = loop_truth(str(path), frames(folder, *SIX), radius=11)
    assert [rows.tolist() for rows in right] == [[1], [0], []]
    beside = with_positions(frames(folder, *SIX), path, time_offset="0.5")
    assert east(beside) == [5, 15, 32]


def test_names_that_are_times(tmp_path: Path) -> None:
    path = tum(tmp_path / "poses.txt", NOON + np.arange(0, 5, 0.5))
    names = ("1714564800.250000.png", "1714564801.png", "1714564801500.png", "1714564802000000000.png")
    assert east(with_positions(frames(tmp_path, *names), path)) == [2.5, 10, 15, 20]
    (tmp_path / "rgb.txt").write_text("# color images\n1714564800.5 rgb/a.png\n1714564801.0 rgb/b.png\n")
    placed = with_positions(frames(tmp_path / "rgb", "a.png", "b.png", "c.png"), path)
    assert east(placed) == [5, 10, None]


def test_a_doubled_pose_and_one_out_of_order(tmp_path: Path) -> None:
    path = tmp_path / "poses.txt"
    path.write_text("1 0 0 0 0 0 0 1\n1 0 0 0 0 0 0 1\n2 5 0 0 0 0 0 1\n")
    placed = with_positions(frames(tmp_path, "1.5.png"), path)
    assert east(placed) == [2.5] and "1 poses stand twice, and count once" in "\n".join(placed.notes)
    path.write_text("1 0 0 0 0 0 0 1\n1 9 0 0 0 0 0 1\n")
    with pytest.raises(InputError, match=r"line 2: time 1\.000000 stands twice, with two different poses"):
        read_poses(path)
    path.write_text("2 0 0 0 0 0 0 1\n1 9 0 0 0 0 0 1\n")
    with pytest.raises(InputError, match=r"line 2.*sort the file by time"):
        read_poses(path)


def test_a_gap_is_called_a_gap(tmp_path: Path) -> None:
    path = tmp_path / "poses.txt"
    path.write_text("1 0 0 0 0 0 0 1\n9 9 0 0 0 0 0 1\n")
    with pytest.raises(InputError, match=r"within 1 s of two points.*1 fall into gaps, as of 8 s"):
        with_positions(frames(tmp_path, "5.0.png"), path)
    with pytest.raises(InputError, match=r"they are of 50\.000 to 50\.000 s, it of 1\.000 to 9\.000 s"):
        with_positions(frames(tmp_path, "50.0.png"), path)


def test_euroc(tmp_path: Path) -> None:
    start = 1403636579763555584
    path = tmp_path / "data.csv"
    head = "#timestamp [ns], p_RS_R_x [m], p_RS_R_y [m], p_RS_R_z [m], q_RS_R_w [], q_RS_R_x []\n"
    path.write_text(head + "".join(f"{start + i * 500_000_000},{5 * i},0,1,1,0\n" for i in range(5)))
    assert is_poses(path) and read_poses(path).kind == "euroc"
    names = (f"{start}.png", f"{start + 250_000_000}.png", f"{start + 9 * 10**9}.png")
    placed = east(with_positions(frames(tmp_path / "cam0" / "data", *names), path))
    assert placed[:2] == pytest.approx([0, 2.5], abs=1e-4) and placed[2] is None  # times to a quarter of a µs
    path.write_text("".join(f"{start + i * 500_000_000},{5 * i},0,1\n" for i in range(5)))
    assert is_poses(path)
    trajectory = tmp_path / "estimate.txt"
    trajectory.write_text("".join(f"{start + i * 500_000_000} {5 * i} 0 0 0 0 0 1\n" for i in range(5)))
    assert east(with_positions(frames(tmp_path, *names[:2]), trajectory)) == pytest.approx([0, 2.5], abs=1e-4)
    listed = tmp_path / "positions.csv"
    listed.write_text("name,east,north\na,1,2\n")
    assert not is_poses(listed)


def test_options_of_poses() -> None:
    given = split_poses("C:\\run\\00.txt:xz:2.5hz")
    assert (given.path, given.axes, given.rate) == (Path("C:\\run\\00.txt"), "xz", 2.5)
    for wrong in ("a.txt:0hz", "a.txt:1.2.3hz"):
        with pytest.raises(InputError, match="more than 0"):
            split_poses(wrong)


def test_colmap_with_and_without_lines_of_points(tmp_path: Path) -> None:
    path = tmp_path / "images.txt"
    rows = [f"{i} 1 0 0 0 {-i} 0 0 1 {i} a photo.jpg" for i in range(1, 6)]
    names = tuple(f"{i} a photo.jpg" for i in range(1, 6))
    for points in ("", "\n", "\n1.5 2.5 -1 3.5 4.5 7 1 2 3 4 5 6", "\n1 2 -1"):
        path.write_text("# Image list\n" + "".join(f"{row}{points}\n" for row in rows))
        centres = centres_of(frames(tmp_path, *names), read_poses(path), path)
        assert [c[0] for c in centres if c is not None] == [1, 2, 3, 4, 5]
    path.write_text(f"{rows[0]}\n{rows[1]}\n\n{rows[2]}\n1 2 3\n")
    assert len(read_poses(path)) == 3
    path.write_text(f"{rows[0]}\nnonsense\n")
    with pytest.raises(InputError, match=r"line 2: neither a photo of COLMAP .* nor its points"):
        read_poses(path)


def test_kitti_raw(tmp_path: Path) -> None:
    drive = tmp_path / "2011_09_26_drive_0001_sync"
    for folder in ("oxts/data", "image_02/data"):
        (drive / folder).mkdir(parents=True)
    stamps = "".join(f"2011-09-26 13:02:{25 + i}.964389445\n" for i in range(3))
    for i in range(3):
        (drive / f"oxts/data/{i:010d}.txt").write_text(
            f"{49 + i * 1e-4} 8.4 116.4 0.03 0.0 {np.pi / 2} 1 2 3\n"
        )
        Image.new("RGB", (8, 8)).save(drive / f"image_02/data/{i:010d}.png")
    for name in ("oxts", "image_02"):
        (drive / name / "timestamps.txt").write_text(stamps)
    for source in ("auto", str(drive), str(drive / "oxts")):
        placed = photos(drive / "image_02" / "data", positions=source)
        at = [latlon(p) for p in placed.positions if p]
        assert at == [pytest.approx((49 + i * 1e-4, 8.4), abs=1e-7) for i in range(3)]
        assert placed[2].time == pytest.approx(1317042147.964389, abs=1e-5)
        assert placed[0].heading == pytest.approx(0, abs=1e-9)
    (drive / "oxts" / "data" / f"{0:010d}.txt").unlink()
    placed = photos(drive / "image_02" / "data", positions="auto")
    assert [p is None for p in placed.positions] == [True, False, False]
    poses = tmp_path / "poses.txt"
    poses.write_text("".join(f"1 0 0 {i} 0 1 0 0 0 0 1 0\n" for i in range(9)))
    assert east(with_positions(frames(tmp_path, f"{4:010d}.png"), poses)) == [4]


def gpx(path: Path, *points: tuple[str, str, str]) -> Path:
    inside = "".join(
        f'<trkpt lat="{lat}" lon="{lon}"><time>{time}</time></trkpt>' for lat, lon, time in points
    )
    path.write_text(f"<gpx><trk><trkseg>{inside}</trkseg></trk></gpx>")
    return path


def walk(*changes: tuple[int, tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """A point each 10 s, on the way north; some of them changed."""
    points = [(f"{55 + i * 1e-4:.6f}", "13", f"2024-05-01T12:{i // 6:02d}:{i % 6}0Z") for i in range(30)]
    for i, point in changes:
        points[i] = point
    return points


@pytest.mark.parametrize(
    ("point", "why"),
    [
        (("", "", "2024-05-01T12:00:30Z"), "1 points have no latitude and longitude"),
        (("x", "13", "2024-05-01T12:00:30Z"), "1 points have no latitude and longitude"),
        (("95", "13", "2024-05-01T12:00:30Z"), "1 points have no latitude and longitude"),
        (("nan", "13", "2024-05-01T12:00:30Z"), "1 points have no latitude and longitude"),
        (("0.0", "0.0", "2024-05-01T12:00:30Z"), "1 points lie at 0,0"),
        (("55", "13", ""), "1 points have no time"),
        (("55", "13", "2024-05-01"), "1 points have no time as"),
        (("55", "13", "1970-01-01T00:00:00Z"), "1 points have a time that goes backwards"),
    ],
)
def test_one_bad_point_is_passed_over(tmp_path: Path, point: tuple[str, str, str], why: str) -> None:
    path = gpx(tmp_path / "walk.gpx", *walk((3, point)))
    placed = with_positions(frames(tmp_path, "a.jpg", times=(NOON + 30,)), path)
    assert placed.positions[0] is not None
    assert latlon(placed.positions[0]) == pytest.approx((55.0003, 13), abs=1e-7)
    assert why in "\n".join(placed.notes)


KML = (
    '<kml xmlns="http://www.opengis.net/kml/2.2" xmlns:gx="http://www.google.com/kml/ext/2.2"><Document>'
    "{}</Document></kml>"
)
TRACK = (
    "<gx:Track><when>2024-05-01T12:00:00Z</when><when>2024-05-01T12:00:20Z</when>"
    "<when>2024-05-01T12:00:40Z</when><gx:coord>13 55 0</gx:coord>{}"
    "<gx:coord>13 55.004 0</gx:coord></gx:Track>"
)


def test_an_empty_coordinate_and_a_kmz(tmp_path: Path) -> None:
    text = KML.format(TRACK.format("<gx:coord></gx:coord>"))
    with zipfile.ZipFile(tmp_path / "walk.kmz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("files/photo.jpg", b"x")
        archive.writestr("doc.kml", text)
    placed = with_positions(frames(tmp_path, "a.jpg", times=(NOON + 20,)), tmp_path / "walk.kmz")
    assert placed.positions[0] is not None
    assert latlon(placed.positions[0]) == pytest.approx((55.002, 13), abs=1e-7)
    assert "walk.kmz: 1 points have no latitude and longitude, and are passed over" in "\n".join(placed.notes)
    whole = KML.format(TRACK.format("<gx:coord>13 55.002 0</gx:coord>"))
    (tmp_path / "two.kml").write_text(whole.replace("</Document>", f"{TRACK.format('')}</Document>"))
    track = read_track(tmp_path / "two.kml")  # of the other track a coordinate is missing
    assert len(track) == 3 and "3 times and 2 positions" in track.notes[0]


def test_kmz_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.kmz"
    path.write_bytes(b"PK no zip")
    with pytest.raises(InputError, match="is no KMZ"):
        read_track(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "x")
    with pytest.raises(InputError, match=r"holds no \.kml"):
        read_track(path)


def test_a_time_span_holds_from_its_begin_to_its_end(tmp_path: Path) -> None:
    def stay(lat: float, begin: str, end: str) -> str:
        span = f"<TimeSpan><begin>2024-05-01T{begin}Z</begin><end>2024-05-01T{end}Z</end></TimeSpan>"
        return f"<Placemark>{span}<Point><coordinates>13,{lat},0</coordinates></Point></Placemark>"

    marks = stay(56, "12:10:30", "12:20:00") + stay(55, "12:00:00", "12:10:00")
    (tmp_path / "a.kml").write_text(KML.format(marks))
    times = (NOON + 300, NOON + 615, NOON + 900, NOON + 1201)
    placed = with_positions(frames(tmp_path, *"abcd", times=times), tmp_path / "a.kml")
    lats = [None if at is None else round(latlon(at)[0], 6) for at in placed.positions]
    assert lats == [55, 55.5, 56, None]


def test_gaps_and_zones_are_named(tmp_path: Path) -> None:
    path = gpx(
        tmp_path / "t.gpx", ("55", "13", "2024-05-01T12:00:00Z"), ("55", "13.1", "2024-05-01T12:05:00Z")
    )
    single = frames(tmp_path, "a.jpg", times=(NOON + 150,))
    with pytest.raises(InputError, match=r"within 60 s of two points.*gaps, as of 300 s \(.*t\.gpx:gap=300"):
        with_positions(single, path)
    at = with_positions(single, f"{path}:gap=300").positions[0]
    assert at is not None and latlon(at) == pytest.approx((55, 13.05), abs=1e-7)
    exif = Image.Exif()
    exif[0x0132] = "2024:05:01 14:00:30"
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "photos" / "a.jpg", exif=exif)
    walked = gpx(tmp_path / "w.gpx", *walk())
    with pytest.raises(InputError, match=r"clocks without a time zone.*--time-offset UTC\+2 1 of them would"):
        photos(tmp_path / "photos", positions=walked)
    placed = photos(tmp_path / "photos", positions=walked, time_offset="UTC+2")
    assert placed.positions[0] is not None and placed[0].time == NOON + 30
    assert "1 of 1 photos' times have no time zone, and are taken for UTC+2" in "\n".join(placed.notes)
    again = with_positions(photos(tmp_path / "photos", positions="exif"), walked, time_offset="UTC+2")
    assert again.positions == placed.positions  # that the clock told no zone is not forgotten
    shifted = photos(tmp_path / "photos", positions=f"{walked}:-7200")
    assert shifted.positions == placed.positions and "-7200 s were added" in "\n".join(shifted.notes)
    with pytest.raises(InputError, match=r"'b\.jpg'.* has a time, which the track"):
        with_positions(frames(tmp_path, "b.jpg"), walked)


def test_zeros_in_truth_files(tmp_path: Path) -> None:
    database = np.array([[615000.0, 6175000], [0, 0], [615100, 6175000]])
    queries = np.array([[615001.0, 6175000], [0, 0]])
    truth = TruthPositions(database, queries, 25.0)
    assert [rows.tolist() for rows in truth.right()] == [[0], []]
    path = write_truth_npz(tmp_path / "t.npz", truth)
    for part, count in (("database", 3), ("queries", 2)):
        (tmp_path / part).mkdir()
        for i in range(count):
            Image.new("RGB", (8, 8)).save(tmp_path / part / f"{i}.jpg")
    (tmp_path / "d.toml").write_text(f'database = "database"\nqueries = "queries"\ntruth = "{path.name}"\n')
    made = open_dataset(tmp_path / "d.toml").truth
    assert made is not None and [rows.tolist() for rows in made.positives] == [[0], []]
    assert (made.description["database_without_position"], made.description["queries_without_position"]) == (
        1,
        1,
    )
    places = PlaceDataset.from_arrays(["a", "b"], np.array([[55.7, 13.2], [0, 0]]), degrees=True)
    assert places.database.positions[1] is None and "1 positions are 0,0" in places.database.notes[0]
    rows = np.stack([np.arange(4.0), np.zeros(4)], axis=1)  # numbers of frames begin at 0,0
    assert [r.tolist() for r in TruthPositions(rows, rows, 0.0).right()] == [[0], [1], [2], [3]]
