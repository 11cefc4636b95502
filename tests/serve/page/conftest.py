"""A Chromium that sees the page; each error of a script and each request to elsewhere fails the test."""

import base64
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from dejavlad.photo import Photo, PhotoList
from dejavlad.places import PlaceMap
from dejavlad.positions import with_positions
from serve.conftest import TOKEN, Runner, Running, Town, model

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import Browser, Page, expect, sync_playwright

expect.set_options(timeout=20_000)  # machines that test are busy

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
LOCAL = {"127.0.0.1", "localhost"}


def chromium() -> str | None:
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    program = chromium()
    if program is None:
        pytest.skip("no Chromium: install one, or name it in the variable CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        yield browser
        browser.close()


HOSTILE = "<img src=x onerror='hacked=1'>.jpg"
"""A name of a photo, where the file system takes it."""


@pytest.fixture(scope="package")
def several(town: Town, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service over four maps: without positions, in metres, with a hostile name, and the town."""
    folder = tmp_path_factory.mktemp("several")
    PlaceMap.build(model(), [town.photo(place) for place in range(11)], folder / "flat.map")
    table = folder / "plane.csv"
    rows = [f"{place:02d}.jpg,{20 * place},{3 * place}" for place in range(12)]
    table.write_text("\n".join(["name,east,north", *rows]), encoding="utf-8")
    photos = [Photo(f"{place:02d}.jpg", town.photo(place)) for place in range(12)]
    placed = with_positions(PhotoList(photos, root=town.photo(0).parent), table)
    PlaceMap.build(model(), placed, folder / "plane.map")
    photo = folder / HOSTILE
    try:
        photo.write_bytes(town.photo(0).read_bytes())
    except OSError:
        photo = folder / "'hacked'&amp;.jpg"
        photo.write_bytes(town.photo(0).read_bytes())
    PlaceMap.build(model(), [photo], folder / "hostile.map")
    runner = Runner()
    yield runner(*(folder / f"{name}.map" for name in ("flat", "plane", "hostile")), town.map)
    runner.stop()


@pytest.fixture(scope="package")
def guarded(town: Town) -> Iterator[Running]:
    """A service with a token and with tiles of a host that no test reaches."""
    runner = Runner()
    tiles = "https://tiles.example/{z}/{x}/{y}.png"
    yield runner(town.map, token=TOKEN, tiles=tiles, attribution="© <b>somebody</b>")
    runner.stop()


class Visit:
    """One browser window, and what it did."""

    def __init__(self, browser: Browser, **options: object) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        self.context.grant_permissions(["clipboard-read", "clipboard-write", "camera"])
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(30_000)
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.context.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._record)

    def _record(self, message: object) -> None:
        text = message.text  # type: ignore[attr-defined]
        if message.type == "error" and "Failed to load resource" not in text:  # type: ignore[attr-defined]
            self.errors.append(text)

    def open(self, address: str) -> Page:
        self.page.goto(address)
        return self.ready()

    def ready(self) -> Page:
        """The page, once it shows the service's map."""
        expect(self.page.locator("html")).to_have_attribute("data-ready", "yes", timeout=30_000)
        return self.page

    def elsewhere(self) -> list[str]:
        """Requests that left the machine."""
        hosts = ((url, urlsplit(url)) for url in self.requests)
        return [
            url for url, parts in hosts if parts.scheme in ("http", "https") and parts.hostname not in LOCAL
        ]


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    visit = Visit(browser)
    yield visit
    visit.context.close()
    assert visit.errors == []
    assert visit.elsewhere() == []


DROP = """([names, contents, type]) => {
  const transfer = new DataTransfer();
  names.forEach((name, i) => {
    const bytes = Uint8Array.from(atob(contents[i]), (letter) => letter.charCodeAt(0));
    transfer.items.add(new File([bytes], name, { type: "image/jpeg" }));
  });
  const target = document.getElementById("drop");
  if (type === "paste") {
    return dispatchEvent(new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true }));
  }
  for (const each of ["dragenter", "dragover", "drop"]) {
    target.dispatchEvent(new DragEvent(each, { dataTransfer: transfer, bubbles: true, cancelable: true }));
  }
}"""


def drop(page: Page, photos: dict[str, Path | bytes], kind: str = "drop") -> None:
    """Drop (or paste) files on the page: name -> file or bytes."""
    contents = [each if isinstance(each, bytes) else each.read_bytes() for each in photos.values()]
    page.evaluate(DROP, [list(photos), [base64.b64encode(each).decode() for each in contents], kind])


def answered(page: Page, photos: int) -> None:
    """Wait until so many photos were answered."""
    expect(page.locator(".asks .chip")).to_have_count(photos)
    expect(page.locator(".asks .chip", has_text="waiting")).to_have_count(0, timeout=30_000)
