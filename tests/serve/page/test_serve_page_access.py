"""The page for everybody: keyboard, screen readers, narrow screens, both themes, no JavaScript."""

from importlib.resources import files
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from serve.conftest import Running, Town
from serve.page.conftest import Visit, answered, drop

pytestmark = pytest.mark.slow


def faults(page: Page) -> list[str]:
    """What axe calls serious or critical."""
    pytest.importorskip("axe_playwright_python")
    script = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    page.evaluate(script)
    violations = page.evaluate("axe.run().then(result => result.violations)")
    return [
        f"{fault['id']}: {node['html'][:160]}"
        for fault in violations
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_sees_no_serious_fault(visit: Visit, running: Running, town: Town, theme: str) -> None:
    page = visit.page
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    visit.open(running.address)
    page.click("#only-title")
    assert not (seen := faults(page)), seen
    drop(page, {"where.jpg": town.query(4), "bad.jpg": b"no photo"})
    answered(page, 2)
    assert not (seen := faults(page)), seen
    page.click("#see-matches")
    page.locator(".pair line").first.wait_for(state="attached")
    assert not (seen := faults(page)), seen
    page.click("#close-viewer")
    page.locator(".asks button").nth(1).click()
    page.click("#show-grid")
    page.locator("#grid-pane img").first.wait_for()
    assert not (seen := faults(page)), seen


def test_the_theme_can_be_switched_and_is_kept(visit: Visit, running: Running) -> None:
    visit.page.emulate_media(color_scheme="light")
    page = visit.open(running.address)

    def background() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    before = background()
    while page.locator("#theme").inner_text() != "Theme: dark":
        page.click("#theme")
    dark = background()
    assert dark != before
    page.reload()
    expect(page.locator("#theme")).to_have_text("Theme: dark")
    assert background() == dark


def test_back_closes_what_is_open_and_keeps_the_answers(visit: Visit, running: Running, town: Town) -> None:
    page = visit.open(running.address)
    drop(page, {"where.jpg": town.query(4)})
    answered(page, 1)
    opened = page.locator("dialog[open]")
    for _ in range(2):
        page.click("#see-matches")
        page.go_back()
        expect(opened).to_have_count(0)
        page.click("#see-matches")
        page.click("#close-viewer")
        page.click("#see-matches")  # before the browser has gone back by itself
        expect(opened).to_have_count(1)
        page.keyboard.press("Escape")
        expect(opened).to_have_count(0)
        page.wait_for_function("!history.state")
    expect(page.locator(".asks .chip")).to_have_count(1)
    page.go_back()
    assert page.url == "about:blank"  # as without all that


def test_everything_is_reached_by_keyboard(visit: Visit, running: Running, town: Town) -> None:
    page = visit.open(running.address)

    def tab_to(identifier: str, most: int = 40) -> None:
        for _ in range(most):
            if page.evaluate("document.activeElement.id") == identifier:
                return
            page.keyboard.press("Tab")
        raise AssertionError(f"{identifier} is not reached by Tab")

    tab_to("choose")
    page.eval_on_selector(
        "#files", "input => input.addEventListener('click', event => { event.preventDefault(); chosen = 1 })"
    )
    page.keyboard.press("Enter")
    assert page.evaluate("typeof chosen") == "number"
    page.set_input_files("#files", [town.query(3)])
    answered(page, 1)
    expect(page.locator("#status")).to_contain_text("A place of this map")
    tab_to("see-matches")
    page.keyboard.press("Enter")
    expect(page.locator("#viewer-title")).to_contain_text("candidate 1 of 5")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#viewer-title")).to_contain_text("candidate 2 of 5")
    page.keyboard.press("Escape")
    expect(page.locator("#viewer")).to_be_hidden()
    tab_to("to-map")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "place-map"
    page.keyboard.press("Enter")
    expect(page.locator("#here .name")).to_have_text("03.jpg")
    page.keyboard.press("Escape")
    expect(page.locator("#here")).to_be_hidden()


def test_a_narrow_screen_holds_everything(browser: Browser, running: Running, town: Town) -> None:
    visit = Visit(browser, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = visit.open(running.address)
    drop(page, {"a name that is longer than the screen is wide, and then some more.jpg" * 2: town.query(4)})
    expect(page.locator("#verdict")).to_have_text("A place of this map")
    wide = "document.documentElement.scrollWidth"
    assert page.evaluate(wide) <= 390
    page.tap("#to-map")
    expect(page.locator(".pin")).to_be_in_viewport()
    page.tap("#see-matches")
    page.locator(".pair line").first.wait_for(state="attached")
    box = page.locator("#viewer").bounding_box()
    assert box and box["x"] >= 0 and box["x"] + box["width"] <= 390
    assert visit.errors == [] and visit.elsewhere() == []
    visit.context.close()


def test_without_javascript_the_page_says_what_to_type(browser: Browser, running: Running) -> None:
    visit = Visit(browser, java_script_enabled=False)
    visit.page.goto(running.address)
    expect(visit.page.get_by_role("heading", name="This page needs JavaScript")).to_be_visible()
    expect(visit.page.get_by_text("dejavlad locate MAP photo.jpg")).to_be_visible()
    expect(visit.page.locator("main")).to_be_hidden()
    visit.context.close()


def test_the_page_has_no_inline_script_or_style() -> None:
    folder = Path(__file__).parents[3] / "src/dejavlad/serve/page"
    index = (folder / "index.html").read_text(encoding="utf-8")
    assert "style=" not in index and "<style" not in index and " on" + "click" not in index
    assert index.count("<script") == index.count("<script src=")
    for script in (folder / "js").glob("*.js"):
        text = script.read_text(encoding="utf-8")
        assert "innerHTML =" not in text and "insertAdjacentHTML" not in text and "eval(" not in text
        assert len(text.splitlines()) <= 300
