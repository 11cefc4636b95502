"""Matching patches, drawn: in the figure of a pair, in a video, and on pages."""

import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from test_report_pages import HOSTILE, dataset, ranking, read, scored

from dejavlad.errors import InputError
from dejavlad.photo import Photo
from dejavlad.places.live import LiveFrame
from dejavlad.places.pair import PairMatch
from dejavlad.report import ShownMatch, write_page
from dejavlad.report.figures.drawing import Place, draw_pair
from dejavlad.report.figures.figure import match_figure, write_match_figure
from dejavlad.report.figures.lines import COLOURS, MOST_LINES, shown_matches, spread_rows
from dejavlad.report.figures.video import MatchVideo, live_picture
from dejavlad.report.matches import LINES, matches_section
from dejavlad.report.templating import asset
from dejavlad.report.thumbnails import Thumbnails
from dejavlad.rerank import PatchMatch

View = Callable[..., NDArray[np.uint8]]
SHIFT = np.array([[1.0, 0, 10], [0, 1, 0], [0, 0, 1]])


def grid_match(n: int, homography: NDArray[np.float64] | None = None) -> PatchMatch:
    """n matches on a grid of 12 columns, the candidate's 10 pixels to the left."""
    points = np.array([[16 + 8 * (i % 12), 8 + 8 * (i // 12)] for i in range(n)], np.float32).reshape(-1, 2)
    return PatchMatch(-n / 100, points, points - np.array([10, 0], np.float32), homography)


def pair_of(make_view: View, *matches: PatchMatch, name: str = "a.jpg") -> PairMatch:
    query = Photo(name, Path(name), pixels=make_view(1))
    candidate = Photo("b.jpg", Path("b.jpg"), pixels=make_view(1, 10, height=120, width=90))
    sizes = tuple(range(2, 2 + len(matches)))
    sides = tuple(8.0 * size for size in sizes)
    counts = (100,) * len(sizes)
    score = -sum(match.score for match in matches)
    return PairMatch(query, candidate, score, 1.0, list(matches), sizes, sides, counts, (96, 128), (120, 90))


def shown(make_view: View, right: bool | None, *counts: int, name: str = "q", view: int = 1) -> ShownMatch:
    return ShownMatch(
        Photo(name, Path(name), pixels=make_view(view)),
        Photo(name + " answer", Path("x"), pixels=make_view(view, 5)),
        right,
        [grid_match(n) for n in counts],
        (96, 128),
        (96, 128),
        -0.25,
        tuple(range(2, 2 + len(counts))),
        (100,) * len(counts),
    )


def test_a_subset_is_spread_over_the_photo() -> None:
    points = np.array([[x, y] for y in range(40) for x in range(40)], np.float32)
    rows = spread_rows(points, 16)
    assert len(set(rows.tolist())) == 16
    chosen = points[rows]
    for corner in ((0, 0), (0, 39), (39, 0), (39, 39)):
        assert np.hypot(*(chosen - corner).T).min() < 10
    apart = np.hypot(*(chosen[:, None] - chosen[None]).transpose(2, 0, 1)) + 99 * np.eye(16)
    assert apart.min() > 6
    assert sorted(spread_rows(points[:5]).tolist()) == [0, 1, 2, 3, 4]
    assert len(spread_rows(points[:0])) == 0
    assert sorted(spread_rows(np.zeros((3, 2), np.float32)).tolist()) == [0, 1, 2]


def test_ends_are_shares_of_the_photos_and_colours_follow_the_query() -> None:
    match = PatchMatch(-1, np.array([[0, 0], [63.5, 47.5], [127, 95]]), np.array([[9, 0], [5, 5], [0, 19]]))
    lines, colours = shown_matches(match, (96, 128), (20, 10))
    order = np.argsort(lines[:, 0])
    np.testing.assert_allclose(lines[order][1], [0.5, 0.5, 0.55, 5.5 / 20])
    np.testing.assert_allclose(lines[order][2, 2:], [0.05, 19.5 / 20])
    assert colours[order].tolist() == sorted(colours.tolist())
    assert colours.min() == 0 and colours.max() == len(COLOURS) - 1


def test_lines_join_the_patches(make_view: View) -> None:
    place = Place.of((96, 128), (96, 128), 800, 400)
    black = np.zeros((96, 128, 3), np.uint8)
    match = PatchMatch(-1, np.array([[64.0, 48.0]], np.float32), np.array([[64.0, 48.0]], np.float32))
    drawn = draw_pair(black, black, match, (96, 128), (96, 128), place).astype(int)
    start = place.query[0] + place.query[1] // 2
    end = place.candidate[0] + place.candidate[1] // 2
    middle = drawn[place.height // 2 - 4 : place.height // 2 + 8]
    coloured = (middle.max(axis=2) - middle.min(axis=2)).max(axis=0) > 30
    assert coloured[start : end + 1].mean() > 0.97  # all but the white rings of its ends
    assert not coloured[: start - 20].any() and not coloured[end + 20 :].any()


@pytest.mark.slow
def test_the_figure_changes_with_the_matches(make_view: View) -> None:
    few, many = (match_figure(pair_of(make_view, grid_match(n), grid_match(5))) for n in (3, 40))
    assert few.shape == many.shape
    changed = (few != many).any(axis=2)
    assert changed.mean() > 0.005
    top_of_second_row = few.shape[0] // 2 + 100
    assert not changed[top_of_second_row:].any()  # the other size is drawn as it was


@pytest.mark.slow
def test_the_homography_lays_one_over_the_other(make_view: View) -> None:
    without = match_figure(pair_of(make_view, grid_match(30)))
    laid = match_figure(pair_of(make_view, grid_match(30, SHIFT)))
    assert laid.shape[0] > without.shape[0] + 300
    flat = np.array([[1.0, 0, 0], [0, 1e-9, 0], [0, 0, 1]])
    mirrored = np.diag([-1.0, 1, 1])
    for absurd in (flat, mirrored):
        assert match_figure(pair_of(make_view, grid_match(30, absurd))).shape == without.shape


def test_a_pair_that_does_not_match_has_a_figure(make_view: View) -> None:
    sample = match_figure(pair_of(make_view, grid_match(4), grid_match(0)))
    none = match_figure(pair_of(make_view, grid_match(0), grid_match(0)))
    assert none.shape[0] < 0.7 * sample.shape[0]  # one row, not one a size
    assert (none == 255).all(axis=2).sum() > 5000  # the remark's white ground


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.png", "deep/er/b.JPG"])
def test_the_figure_is_written_whole(tmp_path: Path, make_view: View, name: str) -> None:
    pair = pair_of(make_view, grid_match(200), name=HOSTILE[4] + "x" * 300)
    path = write_match_figure(pair, tmp_path / name)
    with Image.open(path) as image:
        assert image.size[0] == 1600
        assert image.format == ("PNG" if path.suffix == ".png" else "JPEG")
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_another_ending_is_refused(tmp_path: Path, make_view: View) -> None:
    with pytest.raises(InputError, match=r"\.png.*given 'a\.gif'"):
        write_match_figure(pair_of(make_view, grid_match(3)), tmp_path / "a.gif")
    with pytest.raises(InputError, match=r"\.mp4"):
        MatchVideo(tmp_path / "a.gif", 10)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_video_of_frames(tmp_path: Path, make_view: View) -> None:
    pictures = [
        live_picture(LiveFrame(i, pair_of(make_view, grid_match(n)), n > 10, 2.0))
        for i, n in enumerate((0, 5, 30))
    ]
    assert all(picture.shape == pictures[0].shape for picture in pictures)
    assert not np.array_equal(pictures[1], pictures[2])
    with MatchVideo(tmp_path / "a.avi", 5) as video:
        for picture in pictures:
            video.write(picture)
        assert not (tmp_path / "a.avi").exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.avi"]
    capture = cv2.VideoCapture(str(tmp_path / "a.avi"))
    frames = [capture.read()[1] for _ in range(3)]
    capture.release()
    for frame, picture in zip(frames, pictures, strict=True):
        assert np.abs(frame[:, :, ::-1].astype(int) - picture).mean() < 8


def test_a_video_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="in between"), MatchVideo(tmp_path / "a.avi", 5) as video:
        video.write(np.zeros((32, 48, 3), np.uint8))
        raise RuntimeError("in between")
    assert not list(tmp_path.iterdir())


def test_pages_show_matches_with_wrong_answers_first(tmp_path: Path, make_view: View) -> None:
    places = dataset(4, view=make_view)
    ranked = ranking(places)
    pairs = [
        shown(make_view, True, 10, 90, name="one"),
        shown(make_view, None, 0, 0, name="two"),
        shown(make_view, False, 80, 20, name="three"),
        shown(make_view, True, 200, name="four"),
    ]
    page = read(write_page(scored(places, ranked), ranked, places, tmp_path / "p.html", matches=pairs))
    headings = [" ".join(words.split()) for words in page.inside["h2"]]
    assert headings.index("Queries and their best answers") < headings.index("Patch matches")
    assert page.states[4:] == ["wrong", "right", "right", "open"]
    assert page.classes("f-good") == 2 and page.classes("f-bad") == 1
    assert page.classes("l-ring") == 3  # of the pair where nothing matches there is none
    for words in ("size 2: 10 of 100", "size 3: 90 of 100", "Nothing matches", "score -0.25"):
        assert words in page.prose, words
    bold = [words for words in page.inside["b"] if words.startswith("size")]
    assert bold == ["size 2: 80 of 100", "size 3: 90 of 100", "size 2: 200 of 100"]
    for attributes in page.of("path"):
        if "l-ring" in attributes["class"]:
            assert attributes["d"].count("M") <= 2 * LINES < 2 * MOST_LINES
    without = read(write_page(scored(places, ranked), ranked, places, tmp_path / "q.html"))
    assert "Patch matches" not in without.prose


def test_names_of_pairs_are_escaped(tmp_path: Path, make_view: View) -> None:
    places = dataset(3, view=make_view)
    ranked = ranking(places)
    pairs = [shown(make_view, bool(i % 2), 3, name=name) for i, name in enumerate(HOSTILE)]
    path = write_page(None, ranked, places, tmp_path / "p.html", matches=pairs)
    page = read(path)
    assert len(page.of("script")) == 1 and not page.of("img")
    assert "<script>alert(1)</script>.jpg" in page.prose
    assert "\x1b" not in path.read_text(encoding="utf-8")


def test_lines_stay_within_what_is_shown_of_a_very_wide_photo(make_view: View) -> None:
    wide = np.tile(make_view(1), (1, 4, 1))  # 96 x 512: of its width the middle 41 % is shown
    points = np.array([[10, 48], [256, 48], [500, 48]], np.float32)
    pair = ShownMatch(
        Photo("wide", Path("w"), pixels=wide),
        Photo("answer", Path("a"), pixels=wide),
        True,
        [PatchMatch(-1, points, points)],
        (96, 512),
        (96, 512),
        -1,
    )
    thumbnails = Thumbnails()
    section = matches_section([pair], thumbnails)
    assert section is not None
    assert 'aria-label="1 line between' in section.html
    drawn = re.findall(r'class="l-edge" d="M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)"', section.html)
    (ends,) = drawn
    np.testing.assert_allclose([float(end) for end in ends], [331.6, 151.6, 331.6 + 674, 151.6], atol=0.2)


def test_pairs_stay_within_the_budget(make_view: View) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 2, 90, 120, 3), dtype=np.uint8)
    pairs = [
        ShownMatch(
            Photo(f"q{i}", Path("q"), pixels=noise[i, 0]),
            Photo(f"a{i}", Path("a"), pixels=noise[i, 1]),
            i % 3 == 0,
            [grid_match(4)],
            (90, 120),
            (90, 120),
            0.5,
        )
        for i in range(20)
    ]
    section = matches_section(pairs, Thumbnails(budget=100_000))
    assert section is not None
    number = section.html.count("<article")
    assert 2 < number < 20
    assert f"it shows {number} of 20 pairs" in section.html
    assert {"wrong", "right"} <= set(section.html.split('"'))
    most = matches_section(pairs, Thumbnails(), most=5)
    assert most is not None and most.html.count("<article") == 5
    assert matches_section([], Thumbnails()) is None
    assert matches_section(pairs, Thumbnails(budget=10)) is None


def test_the_pages_colours_are_those_of_the_figure() -> None:
    for i, colour in enumerate(COLOURS):
        assert f".c{i} {{ stroke: {colour} }}" in asset("style.css")
