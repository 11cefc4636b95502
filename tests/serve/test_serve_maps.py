import io
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dejavlad.client import Client, ServiceError
from dejavlad.geo import Position, latlon, utm_from_latlon
from dejavlad.photo import Photo, PhotoList
from dejavlad.places import PlaceMap
from dejavlad.serve.photo_id import key_of, photo_id
from dejavlad.serve.uploads import Upload
from dejavlad.serve.writer import store
from dejavlad.storage import one_writer
from made_photos import view

from .conftest import LAT, LON, Runner, Running, Town, build_town, model


def jpeg(pixels: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95, **options)
    return file.getvalue()


@pytest.fixture
def own(tmp_path: Path) -> Town:
    """A small map that a test may change."""
    return build_town(tmp_path, places=4)


def test_a_map_in_figures(running: Running) -> None:
    (fields,) = running.client.maps()
    assert fields == running.client.map("town")
    assert (fields["photos"], fields["with_position"], fields["degrees"]) == (12, 12, True)
    assert fields["bbox"] == pytest.approx([LON, LAT, LON + 0.011, LAT + 0.011], abs=1e-6)


def test_photos_come_page_by_page_and_by_box(running: Running, town: Town) -> None:
    photos = list(running.client.photos("town", at_once=5))
    assert [photo["name"] for photo in photos] == [f"{place:02d}.jpg" for place in range(12)]
    box = (LON + 0.0025, LAT, LON + 0.0065, LAT + 1)
    inside = list(running.client.photos("town", bbox=box, at_once=2))
    assert [photo["name"] for photo in inside] == ["03.jpg", "04.jpg", "05.jpg", "06.jpg"]
    assert list(running.client.photos("town", bbox=(0, 0, 1, 1))) == []
    points = running.client._get("/v1/maps/town/points", {"limit": 3})
    assert [key_of(each) for each in points["ids"]] == ["00.jpg", "06.jpg", "11.jpg"] and points[
        "total"
    ] == 12
    assert points["y"] == pytest.approx([LAT, LAT + 0.006, LAT + 0.011], abs=1e-6) and points["degrees"]
    single = running.client._get(f"/v1/maps/town/photos/{photos[3]['id']}")
    assert single == photos[3] and "path" not in single


@pytest.mark.slow
def test_positions_in_metres_and_across_zones(run: Runner, tmp_path: Path) -> None:
    photos = [
        Photo(str(i), Path(str(i)), pixels=view(i), position=position)
        for i, position in enumerate([Position(10, 20, None), Position(30, 40, None), None])
    ]
    PlaceMap.build(model(), PhotoList(photos), tmp_path / "plane")
    placed = [utm_from_latlon(10.0, 5.99), utm_from_latlon(10.0, 6.01), utm_from_latlon(-10.0, 6.01)]
    assert len({position.zone for position in placed}) == 3
    photos = [replace(photo, position=position) for photo, position in zip(photos, placed, strict=True)]
    PlaceMap.build(model(), PhotoList(photos), tmp_path / "zones")
    client = run(tmp_path / "plane", tmp_path / "zones", writable=True).client
    plane, zones = client.maps()
    assert not plane["degrees"] and plane["bbox"] == [10, 20, 30, 40]
    assert [photo["name"] for photo in client.photos("plane", bbox=(0, 0, 15, 25))] == ["0"]
    assert zones["degrees"] and zones["bbox"] == pytest.approx([5.99, -10, 6.01, 10], abs=1e-6)
    assert [photo["name"] for photo in client.photos("zones", bbox=(6, 0, 7, 11))] == ["1"]
    with pytest.raises(ServiceError, match="metres of a plane"):
        client.wait(client.add("plane", [jpeg(view(5))], lat=1, lon=2))
    exif = Image.Exif()
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 30.0, 0.0), 3: "E", 4: (11.0, 30.0, 0.0)})
    client.wait(client.add("plane", [jpeg(view(5), exif=exif)]))
    assert [photo["position"] for photo in client.photos("plane")][3] is None
    with pytest.raises(ServiceError, match="say which map") as caught:
        client.locate([jpeg(view(1))])
    assert caught.value.status == 400
    with pytest.raises(ServiceError, match="given as an array") as caught:
        client.image("plane", photo_id("0"))
    assert caught.value.status == 404


def test_maps_of_one_model_share_it(run: Runner, tmp_path: Path, town: Town) -> None:
    import shutil

    shutil.copytree(town.map, tmp_path / "again" / "town.map")
    service = run(town.map, tmp_path / "again" / "town.map").service
    assert list(service.maps) == ["town", "town-2"]
    first, second = service.maps["town"], service.maps["town-2"]
    assert first.model is second.model and first.reader.view.model is second.reader.view.model


@pytest.mark.slow
def test_pictures_are_small_upright_and_tell_nothing_else(run: Runner, tmp_path: Path) -> None:
    pixels = view(0)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned to the right
    exif[0x010E] = "a secret of the photographer"
    path = tmp_path / "photos" / "turned.jpg"
    path.parent.mkdir()
    path.write_bytes(jpeg(np.ascontiguousarray(np.rot90(pixels)), exif=exif))
    PlaceMap.build(model(), PhotoList([Photo("turned.jpg", path)]), tmp_path / "map")
    running = run(tmp_path / "map")
    client = running.client
    identity = photo_id("turned.jpg")
    content = client.image("map", identity, size=100)
    picture = Image.open(io.BytesIO(content))
    assert picture.format == "JPEG" and picture.size == (128, 96)  # 100 becomes 160, and it is not enlarged
    assert np.abs(np.asarray(picture, float) - pixels).mean() < 20
    assert b"secret" not in content and not picture.getexif()
    assert Image.open(io.BytesIO(client.image("map", identity, size=96))).size == (96, 72)
    assert running.service.thumbnails.bytes > 0
    path.unlink()
    with pytest.raises(ServiceError, match="not there any more") as caught:
        client.image("map", identity, size=96)
    assert caught.value.status == 404


@pytest.mark.slow
def test_what_another_process_adds_is_seen_at_once(run: Runner, own: Town) -> None:
    client = run(own.map).client
    query = jpeg(view(7, 5))
    (before,) = client.locate([query])
    assert before["matches"][0]["name"] != "07.png" and client.map("town")["photos"] == 4
    path = own.folder / "database" / "07.png"
    Image.fromarray(view(7)).save(path)
    other = PlaceMap.open(own.map)
    other.add(PhotoList([Photo("07.png", path)], root=path.parent))
    (after,) = client.locate([query])
    assert after["known"] and after["matches"][0]["name"] == "07.png"
    assert client.map("town")["photos"] == 5
    other.remove(["07.png"])
    (again,) = client.locate([query])
    assert [m["name"] for m in again["matches"]] == [m["name"] for m in before["matches"]]


@pytest.mark.slow
def test_photos_are_added_and_removed(run: Runner, own: Town) -> None:
    client = run(own.map, writable=True).client
    exif = Image.Exif()
    gps = exif.get_ifd(0x8825)
    gps.update({1: "N", 2: (48.0, 30.0, 0.0), 3: "E", 4: (11.0, 30.0, 0.0)})
    new = own.folder / "new 7.jpg"
    new.write_bytes(jpeg(view(7), exif=exif))
    job = client.wait(client.add("town", [new, b"nonsense", jpeg(np.zeros((96, 128, 3), np.uint8))]))
    assert job["state"] == "done" and job["total"] == 2
    (added,) = job["added"]
    assert added["name"] == "new 7.jpg" and added["photo"] == "added/new 7.jpg"
    assert "it is no image" in job["failed"]["1.jpg"] and "shows nothing" in job["failed"]["2.jpg"]
    stored = own.map / "photos" / "added"
    assert [path.name for path in stored.iterdir()] == ["new 7.jpg"]  # no file of a photo that failed stays
    (answer,) = client.locate([jpeg(view(7, 5))])
    assert answer["known"] and answer["matches"][0]["id"] == added["id"]
    assert (answer["position"]["lat"], answer["position"]["lon"]) == pytest.approx((48.5, 11.5), abs=1e-6)
    assert client.image("town", added["id"], size=96)
    again = client.wait(client.add("town", [new]))
    assert again["added"] == job["added"] and client.map("town")["photos"] == 5
    new.write_bytes(jpeg(view(8)))  # another photo of the same name, as cameras make them
    other = client.wait(client.add("town", [new], lat=-10, lon=20))
    assert other["added"][0]["photo"].startswith("added/new 7-") and client.map("town")["photos"] == 6
    position = client._get(f"/v1/maps/town/photos/{other['added'][0]['id']}")["position"]
    assert (position["lat"], position["lon"]) == pytest.approx((-10, 20), abs=1e-6)
    assert client.remove("town", added["id"]) == 5
    assert [path.name for path in stored.iterdir()] == [other["added"][0]["photo"].removeprefix("added/")]
    assert client.remove("town", photo_id("01.jpg")) == 4
    assert own.photo(1).exists()  # a photo that lies elsewhere stays
    with pytest.raises(ServiceError) as caught:
        client.remove("town", added["id"])
    assert caught.value.status == 404
    build_town(own.folder, places=4)  # the folder is still a map's: `map build` goes on with it


def test_a_service_that_is_not_writable_changes_nothing(running: Running, town: Town) -> None:
    for call in (
        lambda: running.client.add("town", [town.query(1)]),
        lambda: running.client.remove("town", photo_id("01.jpg")),
    ):
        with pytest.raises(ServiceError, match="--writable") as caught:
            call()
        assert caught.value.status == 403
    with pytest.raises(ServiceError) as caught:
        running.client.job("abc")
    assert caught.value.status == 404


@pytest.mark.slow
def test_the_second_of_two_writers_is_refused(run: Runner, own: Town) -> None:
    client = run(own.map, writable=True).client
    with one_writer(own.map):
        for call in (
            lambda: client.add("town", [own.query(0)]),
            lambda: client.remove("town", photo_id("01.jpg")),
        ):
            with pytest.raises(ServiceError, match="another process") as caught:
                call()
            assert caught.value.status == 409 and caught.value.retry_after is not None
        assert client.locate([own.query(0)])[0]["known"]  # readers need no lock
    assert client.wait(client.add("town", [own.query(0)]))["state"] == "done"


@pytest.mark.slow
def test_changes_of_many_clients_come_one_after_the_other(run: Runner, own: Town) -> None:
    running = run(own.map, writable=True)
    jobs, errors = [], []
    uploads = [jpeg(view(20 + i)) for i in range(6)]  # all of one name
    left = own.map / "photos" / "added" / ".abc.partial"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"of a service that was killed")

    def add(place: int) -> None:
        with Client(running.address) as client:
            try:
                jobs.append(client.wait(client.add("town", [uploads[place]])))
            except ServiceError as error:
                errors.append(error.status)

    threads = [threading.Thread(target=add, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and len({job["added"][0]["id"] for job in jobs}) == 6
    assert running.client.map("town")["photos"] == 10
    assert sorted(path.read_bytes() for path in left.parent.iterdir()) == sorted(uploads)


def test_long_names_of_photos_can_be_stored(tmp_path: Path) -> None:
    for name in ("\u8def" * 85 + ".jpg", "x" * 251 + ".jpg", "\U0001f5fc" * 60 + ".jpg"):
        photos = [store(tmp_path, Upload(name, content)) for content in (b"one", b"two", b"one")]
        assert [photo.path.read_bytes() for photo in photos] == [b"one", b"two", b"one"]
        assert len({photo.key for photo in photos}) == 2


@pytest.mark.parametrize(
    "key", ["a.jpg", "street/ü ß.jpg", "..", "../../etc/passwd", "x" * 300, "\udcff.jpg"]
)
def test_ids_are_keys_and_nothing_else(key: str) -> None:
    assert key_of(photo_id(key)) == key
    assert set(photo_id(key)) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def test_latlon_of_all_positions_is_that_of_each() -> None:
    from dejavlad.geo import Positions, longitudes_latitudes

    random = np.random.default_rng(0)
    lats, lons = random.uniform(-79, 83, 50).tolist(), random.uniform(-180, 180, 50).tolist()
    placed = [utm_from_latlon(*xy) for xy in zip(lats, lons, strict=True)]
    positions = [*placed, Position(3, 4, None), None]
    rows = longitudes_latitudes(Positions.from_list(positions))
    for row, position in zip(rows[:50], placed, strict=True):
        assert tuple(row[::-1]) == pytest.approx(latlon(position), abs=1e-9)
    assert rows[50].tolist() == [3, 4] and np.isnan(rows[51]).all()
