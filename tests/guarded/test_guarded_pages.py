"""Names, reasons and options from files are text on every page: nothing becomes markup or a script."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from kinds import make_run, model

import dejavlad as dv
from dejavlad import cli
from dejavlad.guarded.json_file import with_checksum
from dejavlad.report.training import write_training_page

NAMES = [
    "<img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)" x="',
    "' onclick='alert(1)",
    "<script>alert(1)</script>",
    "]]><!--",
    "{{7*7}}{% raw %}",
    "javascript:alert(1)",
    "=cmd|' -C calc'!A0",
    "a&lt;b&amp;",
    "\u202egnp.exe",
]
"""Without a slash, so that they can be names of files."""


class Markup(HTMLParser):
    """What of a page is not text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.wrong: list[str] = []
        self.scripts: list[str] = []
        self.text: list[str] = []
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        for name, value in attrs:
            leads = name in ("href", "src", "action", "formaction", "xlink:href", "data")
            if name.startswith("on") or (leads and (value or "").strip().lower().startswith("javascript:")):
                self.wrong.append(f"{tag} {name}={value}")
            if tag == "img" and name == "src" and not (value or "").startswith("data:"):
                self.wrong.append(f"{tag} {name}={value}")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        (self.scripts if self._inside == "script" else self.text).append(data)

    def handle_comment(self, data: str) -> None:
        self.wrong.append(f"a comment {data[:60]}")


def check(page: Path, expects_names: bool = True) -> None:
    markup = Markup()
    markup.feed(page.read_text("utf-8"))
    markup.close()
    assert not markup.wrong
    assert not re.search(r"(?<![\"\w<>=( ])alert\(1\)", "".join(markup.scripts))
    for script in markup.scripts:
        assert "<img" not in script and "<script" not in script.lower()
    if expects_names:
        text = " ".join(markup.text)
        assert "<img src=x onerror=alert(1)>" in text


@pytest.fixture
def hostile(tmp_path: Path, make_photo: Callable[..., Path], make_view: Callable[..., object]) -> Path:
    """Folders of photos whose names, and whose folder's name, are markup."""
    rows = ["name,easting,northing,tags"]
    for place, name in enumerate(NAMES):
        for part, shift in (("database", 0), ("queries", 5)):
            try:
                make_photo(tmp_path / part / f"{name}.png", make_view(place, shift))
            except (OSError, AssertionError):
                pytest.skip("this system has no such file names")
        rows.append(f'"{name.replace(chr(34), chr(34) * 2)}.png",{100 * place},{100 * place},')
    (tmp_path / "queries" / "<b>broken<b>.png").write_bytes(b"<script>alert(1)</script>")
    (tmp_path / "where.csv").write_text("\n".join(rows), encoding="utf-8")
    return tmp_path


def run(*words: object) -> None:
    assert cli.main([str(word) for word in words]) == 0


@pytest.mark.slow
def test_pages_of_hostile_names(hostile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--positions", hostile / "where.csv")
    dv.save_model(model(), hostile / "<i>model")
    run("map", "build", hostile / "<i>model", hostile / "database", "--out", hostile / "map", *where)
    run("locate", hostile / "map", hostile / "queries", "--out", hostile / "located")
    check(hostile / "located" / "index.html")
    both = ("--database", hostile / "database", "--queries", hostile / "queries")
    truth = ("--truth", "positions:25")
    run("evaluate", hostile / "<i>model", *both, *truth, "--out", hostile / "<i>results", *where)
    check(hostile / "<i>results" / "index.html")
    results = Markup()
    results.feed((hostile / "<i>results" / "index.html").read_text("utf-8"))
    assert any("1 has none, e.g. '<b>broken<b>.png'" in text for text in results.text)
    run(
        "loops",
        hostile / "database",
        "--model",
        hostile / "<i>model",
        "--window",
        "1",
        "--out",
        hostile / "loops",
    )
    check(hostile / "loops" / "index.html", expects_names=False)
    assert "Traceback" not in capsys.readouterr().err


def test_the_training_page(tmp_path: Path) -> None:
    folder = tmp_path / "<i onmouseover=alert(1)>run"
    make_run(folder.parent / "made")
    (folder.parent / "made" / "run").rename(folder)
    log = folder / "log.jsonl"
    warning = {"kind": "warning", "at": [1, 1], "fault": NAMES[0], "seen": NAMES[2]}
    warning |= {"why": NAMES[3], "do": NAMES[1]}
    with open(log, "a", encoding="utf-8") as file:
        file.write(json.dumps(with_checksum(warning)) + "\n")
    check(write_training_page(folder, command=f"dejavlad train {NAMES[0]}"))
