"""The map's photos on the page: by place, in a grid, added and removed; tiles; several maps."""

import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Route, expect

from made_photos import view, write
from serve.conftest import LAT, LON, TOKEN, Runner, Running, Town
from serve.page.conftest import Visit, answered, drop

pytestmark = pytest.mark.slow


def test_a_click_on_the_map_shows_the_photos_of_that_place(
    visit: Visit, running: Running, town: Town
) -> None:
    page = visit.open(running.address)
    drop(page, {"where.jpg": town.query(6)})
    dot = page.locator(".rank-dot.current").bounding_box()
    assert dot
    page.mouse.click(dot["x"] + dot["width"] / 2 + 16, dot["y"] + dot["height"] / 2)
    expect(page.locator("#here-title")).to_have_text("1 photo here")
    expect(page.locator("#here .name")).to_have_text("06.jpg")
    page.locator("#here .photos button").click()
    expect(page.locator("#viewer-title")).to_have_text("06.jpg")
    expect(page.locator("#viewer .facts")).to_contain_text(f"{LAT + 0.006:.6f}, {LON + 0.006:.6f}")
    expect(page.locator("#remove")).to_have_count(0)


def test_photos_are_added_with_progress_and_removed(
    visit: Visit, run: Runner, town: Town, tmp_path: Path
) -> None:
    shutil.copytree(town.map, tmp_path / "own.map")
    running = run(tmp_path / "own.map", writable=True)
    page = visit.open(running.address)
    expect(page.locator("#count")).to_have_text("12 photos")
    page.click("#mode-add")
    page.fill("#where-lat", "48.2")
    page.fill("#where-lon", "11.6")
    page.press("#where-lon", "Tab")
    new = {f"new-{i}.jpg": write(tmp_path / f"new-{i}.jpg", view(100 + i)) for i in range(3)}
    drop(page, {**new, "bad.jpg": b"no photo"})
    expect(page.locator("#progress-text")).to_have_text("3 photos added, 1 not", timeout=30_000)
    expect(page.locator("#progress li")).to_contain_text("bad.jpg")
    expect(page.locator("#count")).to_have_text("15 photos")
    page.click("#mode-ask")
    drop(page, {"again.jpg": write(tmp_path / "again.jpg", view(101, 4))})
    expect(page.locator("#position")).to_have_text("48.200000, 11.600000")
    page.click("#show-grid")
    page.locator("#grid-pane [title$='new-1.jpg']").first.click()
    page.click("#remove")
    page.get_by_role("button", name="Cancel").click()
    page.click("#remove")
    page.get_by_role("button", name="Remove it").click()
    expect(page.locator("#count")).to_have_text("14 photos")
    assert all(
        "new-1" not in photo["name"] for photo in running.client.photos(running.client.maps()[0]["name"])
    )


def test_a_map_without_positions_is_a_grid_and_maps_are_switched(
    visit: Visit, several: Running, town: Town
) -> None:
    page = visit.open(several.address)
    expect(page.locator("#place-map")).to_be_hidden()
    expect(page.locator("#grid-pane > .photos li")).to_have_count(11)
    drop(page, {"where.jpg": town.query(5)})
    expect(page.locator("#verdict")).to_have_text("A place of this map")
    expect(page.locator("#matched li").first).to_contain_text("05.jpg")
    expect(page.locator("#export-gpx")).to_be_disabled()
    page.select_option("#switcher", "town")
    expect(page.locator("#place-map .leaflet-control-scale-line")).to_be_visible()
    page.locator(".asks button").first.click()
    expect(page.locator("#switcher")).to_have_value("flat")


def test_a_plane_in_metres_is_drawn_too(visit: Visit, several: Running, town: Town) -> None:
    page = visit.open(several.address)
    page.select_option("#switcher", "plane")
    drop(page, {"where.jpg": town.query(7)})
    expect(page.locator("#position")).to_have_text("140.0 m east, 21.0 m north")
    expect(page.locator(".pin")).to_be_visible()
    expect(page.locator("#save-placed")).to_have_count(0)


def test_tiles_come_only_from_the_chosen_host(browser: Browser, guarded: Running, town: Town) -> None:
    visit = Visit(browser)
    tile = town.photo(0).read_bytes()

    def fulfil(route: Route) -> None:
        route.fulfill(body=tile, content_type="image/jpeg")

    visit.context.route("https://tiles.example/**", fulfil)
    visit.page.goto(guarded.address)
    visit.page.locator("#small input").fill(TOKEN)
    visit.page.get_by_role("button", name="Go on").click()
    page = visit.ready()
    page.locator("img.leaflet-tile-loaded").first.wait_for()
    expect(page.locator(".leaflet-control-attribution")).to_have_text("© <b>somebody</b>")
    drop(page, {"where.jpg": town.query(1)})
    answered(page, 1)
    assert visit.errors == []
    assert visit.elsewhere() and all(url.startswith("https://tiles.example/") for url in visit.elsewhere())
    visit.context.close()
