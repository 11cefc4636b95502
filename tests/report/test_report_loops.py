"""The page of loops: what it shows, and that it is whole and harmless whatever frames are called."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from dejavlad.evaluation.loops import reachable, score_loops
from dejavlad.evaluation.precision_recall import precision_recall
from dejavlad.geo import Position
from dejavlad.ground_truth import RowSets
from dejavlad.photo import Photo, PhotoList
from dejavlad.places.loops import Loop
from dejavlad.report.charts.curves import precision_recall_curve, sequence_chart
from dejavlad.report.charts.matrix import matrix_chart
from dejavlad.report.loops import LoopStory, write_loops_page

VOID = {"meta", "link", "input", "br", "img"}


class Parsed(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def sequence(make_view, n: int = 20, positions: bool = False) -> PhotoList:
    names = [f"{i}.png" for i in range(n)]
    names[12] = '<script>alert(1)</script>"><img src=http://example.com/x>.png'
    return PhotoList(
        Photo(
            name,
            Path(name),
            pixels=make_view(i % 10),
            position=Position(10.0 * (i % 10), 0.0) if positions else None,
        )
        for i, name in enumerate(names)
    )


def story(make_view, positions: bool = False) -> LoopStory:
    frames = sequence(make_view, positions=positions)
    right = RowSets.of([[j for j in range(20) if j % 10 == i % 10 and j != i] for i in range(20)], 20)
    loops = [Loop(i, i - 10, 0.9 - i / 100, 0.9) for i in range(10, 20)]
    loops[3] = Loop(13, 0, 0.99, 0.99)
    given = [True] * 8 + [False] * 2
    score = score_loops(
        [loop.frame for loop in loops],
        [loop.closes for loop in loops],
        [loop.score for loop in loops],
        right,
        window=5,
    )
    similar = np.random.default_rng(0).random((20, 20)).astype(np.float32)
    return LoopStory(frames, loops, given, {"Model": "m<b>"}, score, reachable(right, 5), similar)


@pytest.mark.parametrize("positions", [False, True])
def test_the_page(tmp_path: Path, make_view, positions: bool) -> None:
    page = write_loops_page(
        story(make_view, positions), tmp_path / "index.html", command="dejavlad loops <x>"
    )
    text = page.read_text(encoding="utf-8")
    read = Parsed(text)
    assert sum(tag == "script" for tag, _ in read.tags) == 1
    assert not any(tag == "img" for tag, _ in read.tags)
    for tag, attrs in read.tags:
        assert not any(name.startswith("on") for name in attrs), tag
        for name in ("src", "href"):
            assert (attrs.get(name) or "#").startswith(("#", "data:image/")), (tag, attrs)
    words = " ".join(read.words)
    assert "10 loops" not in words and "8 loops" in words and "1 of them wrong" in words
    states = [attrs["data-state"] for tag, attrs in read.tags if tag == "article"]
    assert states == ["wrong"] + ["right"] * 7 + ["missed"] * 2
    assert ('id="track"' in text) == positions
    assert "dejavlad loops &lt;x&gt;" in text and "m&lt;b&gt;" in text


def test_without_truth_and_without_loops(tmp_path: Path, make_view) -> None:
    frames = sequence(make_view)
    text = write_loops_page(LoopStory(frames, [], [], {}), tmp_path / "a.html").read_text(encoding="utf-8")
    Parsed(text)
    assert "Without truth" in text and 'id="loops"' not in text and 'id="curve"' not in text
    given = LoopStory(frames, [Loop(19, 2, 0.5, 0.6)], [True], {})
    text = write_loops_page(given, tmp_path / "b.html").read_text(encoding="utf-8")
    assert 'data-state="open"' in text and "Wrong ones" not in text


def test_a_small_budget_shows_fewer(tmp_path: Path, make_view) -> None:
    text = write_loops_page(story(make_view), tmp_path / "a.html", budget=20_000).read_text(encoding="utf-8")
    shown = len(re.findall("<article", text))
    assert shown < 10 and f"it shows {shown} of 10" in text


def test_drawings_of_nothing_and_of_much() -> None:
    assert "aria-label" in precision_recall_curve(precision_recall([], [], 3))
    assert sequence_chart([], 5, None, None) is None and matrix_chart(np.ones((1, 1)), 1, [], "") is None
    many = precision_recall(np.arange(50_000.0), np.arange(50_000) % 3 == 0, 20_000)
    assert len(precision_recall_curve(many)) < 40_000
    dots = [(i, 0.5, "good", "x") for i in range(100_000)]
    drawn = sequence_chart(dots, 100_000, [False] * 100_000, 0.5)
    assert drawn is not None and drawn.count("<circle") == 5000
    for given_from, n_lines in ((None, 0), (0.0, 1), (0.25, 1)):  # a score of 0 is one too
        drawn = sequence_chart([(0, -0.5, "bad", "x"), (1, 0.5, "good", "y")], 2, None, given_from)
        assert drawn is not None and drawn.count("curve dash t2") == n_lines
