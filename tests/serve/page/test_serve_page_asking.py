"""Photos asked about on the page: dropped, pasted, chosen, photographed; known, unknown and bad ones."""

import re
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect

from made_photos import view, write
from serve.conftest import LAT, LON, TOKEN, Runner, Running, Town
from serve.page.conftest import HOSTILE, Visit, answered, drop

pytestmark = pytest.mark.slow

PLAYING = """video => new Promise((done) => {
  const look = () => (video.videoWidth && video.currentTime > 0 ? done() : requestAnimationFrame(look));
  look();
})"""


def test_a_dropped_photo_is_seen_at_its_place(visit: Visit, running: Running, town: Town) -> None:
    page = visit.open(running.address)
    expect(page.locator("#drop-title")).to_have_text("Where was this taken?")
    drop(page, {"where.jpg": town.query(4)})
    expect(page.locator("#verdict")).to_have_text("A place of this map")
    lat, lon = map(float, page.locator("#position").inner_text().split(","))
    assert (lat, lon) == pytest.approx((LAT + 0.004, LON + 0.004), abs=2e-5)
    assert "04.jpg" in (page.locator("#candidate-0 img").get_attribute("alt") or "")
    expect(page.locator(".answer .sure")).to_contain_text(
        re.compile(r"(certain|likely).*confidence .*%", re.I)
    )
    pin, dot = (page.locator(each).bounding_box() for each in (".pin", ".rank-dot.current"))
    assert pin and dot and abs(pin["x"] + pin["width"] / 2 - dot["x"] - dot["width"] / 2) < 4
    page.click("#copy")
    assert page.evaluate("navigator.clipboard.readText()") == f"{lat:.6f}, {lon:.6f}"


def test_an_unknown_place_is_as_clear_as_an_answer(visit: Visit, running: Running, tmp_path: Path) -> None:
    page = visit.open(running.address)
    drop(page, {"elsewhere.jpg": write(tmp_path / "elsewhere.jpg", view(500))})
    expect(page.locator("#verdict")).to_have_text("Not a place of this map")
    expect(page.locator(".answer.unknown")).to_contain_text("Only the most alike, not the same place")
    for absent in (".pin", "#position", "#save-placed"):
        expect(page.locator(absent)).to_have_count(0)


def test_lines_join_the_points_of_both_photos(visit: Visit, running: Running, town: Town) -> None:
    page = visit.open(running.address)
    drop(page, {"where.jpg": town.query(2)})
    page.click("#see-matches")
    page.locator(".pair line").first.wait_for(state="attached")
    expect(page.locator("#match-note")).to_contain_text("the same place")
    frame, *boxes = (page.locator(each).bounding_box() for each in (".pair svg", "canvas.shown", "img.shown"))
    assert frame and all(boxes)
    ends = page.eval_on_selector_all(
        ".pair line", "all => all.map(l => ['x1', 'y1', 'x2', 'y2'].map(n => +l.getAttribute(n)))"
    )
    assert len(ends) >= 8
    moved = []
    for x1, y1, x2, y2 in ends:
        points = ((x1, y1), (x2, y2))
        shares = [
            ((x + frame["x"] - box["x"]) / box["width"], (y + frame["y"] - box["y"]) / box["height"])
            for (x, y), box in zip(points, boxes, strict=True)
            if box
        ]
        assert all(0 <= each <= 1 for share in shares for each in share)
        moved.append(np.subtract(shares[1], shares[0]))
    # The query is the same wall, five of 128 pixels aside.
    assert np.median(moved, axis=0) == pytest.approx((5 / 128, 0), abs=0.01)
    page.click("#next")
    expect(page.locator("#viewer-title")).to_contain_text("candidate 2 of 5")


def test_photos_are_pasted_and_photographed(visit: Visit, running: Running, town: Town) -> None:
    page = visit.open(running.address)
    drop(page, {"": town.query(1)}, "paste")
    answered(page, 1)
    page.click("#take")
    page.locator("video").evaluate(PLAYING)
    page.get_by_role("button", name="Take the photo").click()
    answered(page, 2)
    expect(page.locator(".asks .name").first).to_have_text(re.compile(r"camera-.*\.jpg"))


def test_hostile_names_and_files_are_only_text(visit: Visit, several: Running, town: Town) -> None:
    page = visit.open(several.address)
    page.select_option("#switcher", "hostile")
    shown = page.locator("#grid-pane > .photos .name")
    expect(shown).to_have_count(1)
    expect(shown).to_contain_text("hacked")
    drop(page, {HOSTILE: town.query(0), "<b>bold</b>.jpg": b"no photo at all"})
    answered(page, 2)
    expect(page.locator(".asks .name")).to_have_text([HOSTILE, "<b>bold</b>.jpg"])
    page.locator(".asks button").nth(1).click()
    expect(page.locator("#problem")).to_contain_text("Not a photo")
    page.locator(".asks button").nth(0).click()
    page.click("#see-matches")
    expect(page.locator("#viewer")).to_contain_text(shown.inner_text())
    assert page.evaluate("typeof hacked") == "undefined"
    expect(page.locator("img[src=x], #viewer b, .asks b")).to_have_count(0)


def test_many_photos_each_get_their_own_answer(visit: Visit, running: Running, town: Town) -> None:
    page = visit.open(running.address)
    drop(page, {f"{place:02d}-{again}.jpg": town.query(place) for again in range(2) for place in range(7)})
    answered(page, 14)
    expect(page.locator(".asks .chip.known")).to_have_count(14)
    for row in (0, 9, 13):
        button = page.locator(".asks button").nth(row)
        place = button.locator(".name").inner_text()[:2]
        button.click()
        expect(page.locator("#candidate-0 img")).to_have_attribute("alt", f"Candidate 1: {place}.jpg")


def test_only_photos_that_are_let_through_may_be_answers(visit: Visit, running: Running, town: Town) -> None:
    page = visit.open(running.address)
    page.click("#only-title")
    page.fill("#only-where", f"{LAT + 0.010:.6f}, {LON + 0.010:.6f}")
    page.fill("#only-metres", "150")
    expect(page.locator("#only-title")).to_have_text("Only photos … (1 set)")
    drop(page, {"where.jpg": town.query(4)})
    expect(page.locator("#verdict")).to_contain_text("ot a place of this map")
    expect(page.locator("#searched")).to_contain_text("Among the 3 photos")
    expect(page.locator(".candidates li")).to_have_count(3)
    page.fill("#only-where", f"{LAT + 0.004:.6f}, {LON + 0.004:.6f}")
    page.click("#only-again")
    expect(page.locator("#verdict")).to_have_text("A place of this map")
    page.select_option("#only-heading", "north")
    page.click("#only-again")  # the map knows no headings
    expect(page.locator("#verdict")).to_have_text("No photo of this map to compare with")
    expect(page.locator(".answer .sure")).to_contain_text("12 without heading")
    page.click("#only-clear")
    expect(page.locator("#only-title")).to_have_text("Only photos …")
    page.click("#only-here")
    assert re.fullmatch(r"48\.\d+, 11\.\d+", page.input_value("#only-where"))


def test_errors_are_plain_words(visit: Visit, run: Runner, town: Town) -> None:
    from dejavlad.serve.limits import Limits

    running = run(town.map, limits=Limits(photo=20_000))
    page = visit.open(running.address)
    drop(page, {"large.jpg": b"\xff\xd8" + bytes(30_000)})
    expect(page.locator("#problem")).to_contain_text("Too large")
    run.stop()
    run._servers.clear()
    drop(page, {"late.jpg": town.query(1)})
    expect(page.locator("#problem")).to_contain_text("does not answer")
    expect(page.locator("#banner")).to_contain_text("Is `dejavlad serve` still running?")


def test_a_service_with_a_token_asks_for_it(visit: Visit, guarded: Running, town: Town) -> None:
    page = visit.page
    visit.context.route("https://tiles.example/**", lambda route: route.abort())
    page.goto(guarded.address)
    for given in ("a wrong secret of the tests", TOKEN):
        page.locator("#small input").fill(given)
        page.get_by_role("button", name="Go on").click()
    expect(page.locator("html")).to_have_attribute("data-ready", "yes")
    drop(page, {"where.jpg": town.query(3)})
    expect(page.locator("#verdict")).to_have_text("A place of this map")
    picture = page.locator("#candidate-0 img")
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    visit.requests = [url for url in visit.requests if not url.startswith("https://tiles.example/")]
