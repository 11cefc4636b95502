"""Pictures of the service's page for the guide: a made town is served, and a browser looks at it.

`python tools/page_pictures.py docs/serve` needs playwright and a Chromium (the variable CHROMIUM names it).
"""

from __future__ import annotations

import csv
import os
import shutil
import sys
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from dejavlad.photo import Photo, PhotoList
from dejavlad.places import PlaceMap
from dejavlad.positions import with_positions
from dejavlad.serve.options import ServeOptions
from dejavlad.serve.server import RunningServer, build_service
from dejavlad.town import make_town

PHOTOS, SIZE = 240, (360, 480)
EAST, NORTH, ZONE = 372_000.0, 5_330_000.0, "33N"
"""Where on the earth the made town is put."""
QUALITY, MOST_BYTES = 84, 200_000


def place_map(town: Path, out: Path) -> Path:
    """A map of the town's test photos, with positions that have latitude and longitude."""
    database, table = town / "test" / "database", out / "positions.csv"
    with (database / "positions.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    lines = [
        f"{row['name']},{float(row['east']) + EAST},{float(row['north']) + NORTH},{ZONE},{row['heading']}"
        for row in rows
    ]
    table.write_text("\n".join(["name,east,north,zone,heading", *lines]), encoding="utf-8")
    photos = PhotoList([Photo(row["name"], database / row["name"]) for row in rows], root=database)
    PlaceMap.build("rootsift-vlad", with_positions(photos, table), out / "town.map", local="sift")
    return out / "town.map"


def save(page: Page, path: Path, *, full: bool = False) -> None:
    """The page as it is now, as a JPEG."""
    page.wait_for_timeout(400)
    with Image.open(BytesIO(page.screenshot(full_page=full))) as picture:
        picture.convert("RGB").save(path, quality=QUALITY, optimize=True)
    if path.stat().st_size > MOST_BYTES:
        raise SystemExit(f"{path} has {path.stat().st_size} bytes; at most {MOST_BYTES} are wanted")


def ask(page: Page, photos: list[Path]) -> None:
    """Choose photos, and wait for their answers."""
    page.set_input_files("#files", photos)
    expect(page.locator(".asks .chip", has_text="waiting")).to_have_count(0, timeout=60_000)
    page.locator(".answer img").last.evaluate("image => image.decode()")


def take(page: Page, town: Path, out: Path) -> None:
    """All pictures of the guide."""
    known = sorted((town / "test" / "queries" / "evening").glob("*.jpg"))
    unknown = sorted((town / "val" / "queries" / "morning").glob("*.jpg"))
    ask(page, [known[0], known[5], unknown[0]])
    save(page, out / "desk.jpg")
    page.click("#see-matches")
    page.locator(".pair line").first.wait_for(state="attached", timeout=60_000)
    save(page, out / "matches.jpg")
    page.click("#close-viewer")
    page.emulate_media(color_scheme="dark")
    save(page, out / "desk-dark.jpg")
    page.emulate_media(color_scheme="light")
    page.locator(".asks button").nth(2).click()
    save(page, out / "unknown.jpg")
    page.locator(".asks button").nth(0).click()
    page.set_viewport_size({"width": 390, "height": 844})
    page.evaluate("window.scrollTo(0, 0)")
    save(page, out / "phone.jpg")


def main(out: Path, town: Path | None = None) -> None:
    """Make the town where none is given, serve it, and take the pictures."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if town is None:
            town = folder / "town"
            make_town(town, photos=PHOTOS, size=SIZE)
        options = ServeOptions(port=0, writable=True)
        server = RunningServer(build_service([str(place_map(town, folder))], options), options)
        program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=program, args=["--no-sandbox", "--disable-gpu"]
            )
            page = browser.new_page(viewport={"width": 1360, "height": 860}, color_scheme="light")
            page.goto(server.address)
            expect(page.locator("html")).to_have_attribute("data-ready", "yes", timeout=60_000)
            take(page, town, out)
            browser.close()
        server.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(Path, sys.argv[2:3]))
