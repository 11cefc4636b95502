"""What the page saves: GeoJSON, GPX, CSV, and a copy of the photo with its position."""

import csv
import io
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page

from made_photos import view, write
from serve.conftest import LAT, LON, Running, Town
from serve.page.conftest import Visit, answered, drop

pytestmark = pytest.mark.slow

NAMES = ('=1+1, "x" & <b>.jpg', "plain.jpg", "elsewhere.jpg")


def saved(page: Page, button: str) -> bytes:
    with page.expect_download() as download:
        page.click(button)
    return Path(download.value.path()).read_bytes()


def test_answers_are_saved_in_three_forms(visit: Visit, running: Running, town: Town, tmp_path: Path) -> None:
    page = visit.open(running.address)
    elsewhere = write(tmp_path / "elsewhere.jpg", view(500))
    drop(page, dict(zip(NAMES, (town.query(2), town.query(8), elsewhere), strict=True)))
    answered(page, 3)

    collection = json.loads(saved(page, "#export-geojson"))
    assert [each["properties"]["name"] for each in collection["features"]] == list(NAMES[:2])
    for place, feature in zip((2, 8), collection["features"], strict=True):
        lon_lat = (LON + 0.001 * place, LAT + 0.001 * place)
        assert feature["geometry"]["coordinates"] == pytest.approx(lon_lat, abs=2e-5)
        assert feature["properties"]["match"] == f"{place:02d}.jpg"

    track = ElementTree.fromstring(saved(page, "#export-gpx"))
    space = {"gpx": "http://www.topografix.com/GPX/1/1"}
    points = track.findall("gpx:wpt", space)
    assert [point.findtext("gpx:name", namespaces=space) for point in points] == list(NAMES[:2])
    assert float(points[1].attrib["lat"]) == pytest.approx(LAT + 0.008, abs=2e-5)

    rows = list(csv.DictReader(io.StringIO(saved(page, "#export-csv").decode(), newline="")))
    assert [row["name"] for row in rows] == ["'" + NAMES[0], *NAMES[1:]]  # a spreadsheet must not run it
    assert [row["known"] for row in rows] == ["true", "true", "false"]
    assert rows[2]["lat"] == "" and float(rows[0]["lon"]) == pytest.approx(LON + 0.002, abs=2e-5)


def test_a_copy_of_the_photo_gets_the_position(
    visit: Visit, running: Running, town: Town, tmp_path: Path
) -> None:
    page = visit.open(running.address)
    drop(page, {"where.jpg": town.query(9)})
    copy = tmp_path / "copy.jpg"
    copy.write_bytes(saved(page, "#save-placed"))
    with Image.open(copy) as placed, Image.open(town.query(9)) as original:
        gps = placed.getexif().get_ifd(0x8825)
        assert placed.tobytes() == original.tobytes()
    degrees, minutes, seconds = (float(each) for each in gps[2])
    assert degrees + minutes / 60 + seconds / 3600 == pytest.approx(LAT + 0.009, abs=2e-5)
