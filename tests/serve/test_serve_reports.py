import json
import os
import re
from pathlib import Path

import pytest

from dejavlad.places import PlaceMap
from dejavlad.report import write_locate_page
from dejavlad.serve.report_pages import policy_of

from .conftest import Runner, Town
from .raw import request

RECORDS = [
    {"kind": "batch", "epoch": 1, "batch": i, "loss": 0.5 / (i + 1), "rate": 0.1, "tuples": 4, "triplets": 40,
     "violating": 20, "very_hard": 1, "seconds": 1.0, "at": [1, i]}
    for i in range(6)
]  # fmt: skip


@pytest.fixture
def a_run(tmp_path: Path) -> Path:
    folder = tmp_path / "run 1"
    folder.mkdir()
    (folder / "run.json").write_text("{}", encoding="utf-8")
    (folder / "config.toml").write_text("margin = 0.1\n", encoding="utf-8")
    (folder / "state.safetensors").write_bytes(b"weights")
    write_log(folder, 3)
    return folder


def write_log(folder: Path, count: int) -> None:
    lines = "".join(json.dumps(record) + "\n" for record in RECORDS[:count])
    (folder / "log.jsonl").write_text(lines, encoding="utf-8")


@pytest.fixture
def results(tmp_path: Path, town: Town) -> Path:
    folder = tmp_path / "results"
    place_map = PlaceMap.open(town.map)
    answers = place_map.locate([town.query(1)])
    write_locate_page(answers, place_map, folder / "index.html")
    (folder / "result.json").write_text("{}", encoding="utf-8")
    (folder / "ranking.npz").write_bytes(b"PK")
    (folder / ".secret.json").write_text("{}", encoding="utf-8")
    (folder.parent / "outside.json").write_text("{}", encoding="utf-8")
    (folder / "link.json").symlink_to(folder.parent / "outside.json")
    return folder


def test_a_run_is_shown_live_and_nothing_is_written_into_it(run: Runner, a_run: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in a_run.iterdir()}
    port = run(a_run).port
    (page,) = request(port, "/v1/service").json["pages"]
    assert page == {"name": "run-1", "kind": "run", "address": "/pages/run-1/"}
    assert request(port, "/").headers["location"] == "/pages/run-1/"
    first = request(port, page["address"])
    assert first.status == 200 and first.headers["refresh"] == "5" and b"<svg" in first.body
    write_log(a_run, 6)
    second = request(port, page["address"])
    assert second.status == 200 and second.body != first.body
    assert request(port, page["address"]).body == second.body
    now = {path: path.stat().st_mtime_ns for path in a_run.iterdir() if path.name != "log.jsonl"}
    assert now == {path: at for path, at in before.items() if path.name != "log.jsonl"}
    assert request(port, "/pages/run-1/state.safetensors").status == 404
    live = request(port, page["address"]).headers["etag"]
    os.utime(a_run / "log.jsonl", (0, 0))  # it has ended: the same page, but not to be asked for again
    ended = request(port, page["address"], If_None_Match=live)
    assert ended.status == 200 and "refresh" not in ended.headers


@pytest.mark.slow
def test_results_are_shown_and_nothing_beside_them(run: Runner, results: Path) -> None:
    port = run(results).port
    page = request(port, "/pages/results/")
    assert page.status == 200 and page.body == (results / "index.html").read_bytes()  # alone: no way back
    assert "refresh" not in page.headers
    assert request(port, "/pages/results/result.json").json == {}
    hidden = ("ranking.npz", ".secret.json", "link.json", "../outside.json", "..%2foutside.json", "%00")
    for name in (*hidden, "no.json", "%2fetc/passwd.json", ""):
        reply = request(port, f"/pages/results/{name}")
        assert reply.status == (200 if name == "" else 404)
    assert request(port, "/pages/other/").status == 404
    for method in ("POST", "DELETE"):
        assert request(port, "/pages/results/", method=method).status == 405


@pytest.mark.slow
def test_maps_and_pages_are_served_together(run: Runner, results: Path, a_run: Path, town: Town) -> None:
    running = run(results, town.map, a_run)
    assert [fields["name"] for fields in running.client.maps()] == ["town"]
    assert {p["name"] for p in running.client._get("/v1/service")["pages"]} == {"results", "run-1"}
    for name in ("results", "run-1"):
        reply = request(running.port, f"/pages/{name}/")
        assert reply.body.count(b'<a href="/">') == 1 and reply.headers["content-security-policy"]


def test_the_policy_allows_what_the_page_has_and_no_more(results: Path) -> None:
    page = (results / "index.html").read_bytes()
    policy = policy_of(page)
    assert "'unsafe-inline'" not in policy and "'unsafe-eval'" not in policy and "*" not in policy
    count = len(set(re.findall(r"<style\b[^>]*>(.*?)</style>", page.decode(), re.S)))
    assert len(re.findall(r"sha256-", policy.partition("style-src-elem")[2].partition(";")[0])) == count
    assert "script-src 'none'" in policy_of(b"<p>nothing")
    evil = page.replace(b"</body>", b"<script src=//evil.example></script></body>")
    assert "evil" not in policy_of(evil)


@pytest.mark.slow
def test_browsers_show_them_without_a_complaint(run: Runner, results: Path, a_run: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = Path("/usr/bin/chromium")
    if not chromium.exists():
        pytest.skip("there is no Chromium here")
    address = run(results, a_run).address
    with playwright.sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=str(chromium), args=["--no-sandbox"])
        page = browser.new_page()
        complaints: list[str] = []
        page.on(
            "console", lambda message: complaints.append(message.text) if message.type == "error" else None
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        for name in ("results", "run-1"):
            page.goto(f"{address}pages/{name}/")
            page.wait_for_load_state("load")
            assert page.inner_text("body").strip()
        browser.close()
    assert not complaints
