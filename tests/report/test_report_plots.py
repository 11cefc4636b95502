"""Drawings: north is up, lengths are true, curves say what the result says."""

import re

import numpy as np
import pytest

from dejavlad.evaluation import evaluate
from dejavlad.geo import Position, Positions, utm_from_latlon
from dejavlad.ground_truth.truth import Truth
from dejavlad.ranking import Ranking
from dejavlad.report.charts.axes import spread
from dejavlad.report.charts.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP
from dejavlad.report.charts.curves import recall_curve
from dejavlad.report.charts.places import MARGIN, WIDTH, Layer, Plane, place_map
from dejavlad.report.charts.regions import regions
from dejavlad.report.templating import asset, render
from dejavlad.report.text import duration, metres, shorten


def points_of(curve: str) -> list[tuple[float, float]]:
    """(x, y) of the curve's corners, as shares of the axes."""
    corners = re.search(r'<polyline class="curve" points="([^"]*)"', curve)
    assert corners
    width, height = 640 - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    pairs = [tuple(map(float, pair.split(","))) for pair in corners[1].split()]
    return [((x - LEFT) / width, 1 - (y - TOP) / height) for x, y in pairs]


@pytest.mark.parametrize("misses", ["count", "drop"])
def test_curve_goes_through_the_recalls(misses: str) -> None:
    rng = np.random.default_rng(1)
    indices = rng.permuted(np.tile(np.arange(40), (30, 1)), axis=1)
    truth = Truth([[i] if i < 25 else [] for i in range(30)], 40, {})
    ranking = Ranking(indices, np.broadcast_to(np.arange(40, dtype=np.float32), (30, 40)))
    result = evaluate(ranking, truth, recall_at=range(1, 41), misses=misses)  # type: ignore[arg-type]
    points = points_of(recall_curve(result, 40))
    assert len(points) == 40
    for n, (x, y) in enumerate(points, 1):
        assert x == pytest.approx(np.log(n) / np.log(40), abs=1e-3)
        assert y == pytest.approx(result.recall[n], abs=1e-3)


def test_curve_of_a_result_without_ranks() -> None:
    ranking = Ranking(np.array([[0, 1], [0, 1]]), np.zeros((2, 2), np.float32))
    result = evaluate(ranking, Truth([[0], [1]], 2, {}), recall_at=[1, 2])
    object.__setattr__(result, "hits_at", None)
    (x0, y0), (x1, y1) = points_of(recall_curve(result, 2))
    assert (x0, x1, y1) == pytest.approx((0, 1, 1))
    assert y0 == pytest.approx(0.5, abs=1e-3)


def test_north_is_up_and_one_scale_holds_both_ways() -> None:
    corners = [Position(100, 2000), Position(700, 2000), Position(100, 2300)]
    plane = Plane.of(corners)
    assert plane is not None
    at = [plane.at(corner) for corner in corners]
    (x0, y0), (x1, y1), (x2, y2) = (point for point in at if point is not None)
    assert y0 == pytest.approx(y1) and x0 == pytest.approx(x2)
    assert x1 > x0 and y2 < y0
    assert (x1 - x0) / 600 == pytest.approx((y0 - y2) / 300)
    for x, y in ((x0, y0), (x1, y1), (x2, y2)):
        assert x + 1e-6 >= MARGIN and x <= WIDTH - MARGIN + 1e-6 and 0 <= y <= plane.height


def test_scale_bar_is_as_long_as_it_says() -> None:
    for size in (3.0, 80.0, 1234.0, 90_000.0):
        positions = [Position(0, 0), Position(size, size / 3)]
        plane, drawing = Plane.of(positions), place_map([Layer("m-db", positions)], alt="map")
        assert drawing is not None
        bar = re.search(r'class="m-rule" d="M[\d.]+ [\d.]+v5h-([\d.]+)v-5"', drawing)
        label = re.search(r"([\d.]+)\xa0(k?m)</text>", drawing)
        assert plane and bar and label
        length = float(label[1]) * (1000 if label[2] == "km" else 1)
        assert float(bar[1]) == pytest.approx(length * plane.scale, abs=0.06)
        assert 40 < float(bar[1]) <= WIDTH / 5


def test_positions_of_two_zones_lie_side_by_side() -> None:
    west, east = utm_from_latlon(55.7, 11.999), utm_from_latlon(55.7, 12.001)
    assert west.zone != east.zone
    plane = Plane.of([west, east])
    assert plane is not None
    a, b = plane.at(west), plane.at(east)
    assert a is not None and b is not None
    assert np.hypot(b[0] - a[0], b[1] - a[1]) / plane.scale == pytest.approx(125.7, abs=0.5)
    assert plane.at(Position(1.0, 2.0)) is None


def test_regions_far_apart_are_drawn_by_themselves() -> None:
    lund = [utm_from_latlon(55.7 + 1e-4 * i, 13.19) for i in range(20)]
    arezzo = [utm_from_latlon(43.47, 11.88 + 1e-3 * i) for i in range(6)]
    lisbon = [utm_from_latlon(38.72, -9.14 - 1e-3 * i) for i in range(5)]  # too far for the zone of Lund
    every = [*lund, None, *arezzo, *lisbon]
    parts = regions(Positions.from_list(every))
    assert [part.tolist() for part in parts] == [
        list(range(20)),
        list(range(21, 27)),
        list(range(27, 32)),
    ]
    drawing = place_map([Layer("m-db", every)], alt="map")
    assert drawing is not None and drawing.count("<svg") == 3
    assert sum(dots.count("h0") for dots in re.findall(r'class="m-db few" d="([^"]+)"', drawing)) == 31
    with_query = place_map(
        [Layer("m-db", every), Layer("m-ask", [None, arezzo[2]], 7, ["a", "b"])], alt="map"
    )
    assert with_query is not None and with_query.count("<svg") == 1 and with_query.count("<circle") == 1
    without_place = place_map([Layer("m-db", every), Layer("m-ask", [None])], alt="map")
    assert without_place is not None and without_place.count("<svg") == 3


def test_regions_in_opposite_corners_are_two() -> None:
    """Whatever cells they lie in: the numbers of two groups are never the same."""
    for low in range(0, 60_000, 10_000):
        corner = [Position(10.0 * i, 160_000.0) for i in range(5)]
        other = [Position(low + 10.0 * i, 0.0) for i in range(5)]
        parts = regions(Positions.from_list(corner + other))
        assert sorted(part.tolist() for part in parts) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]


def test_a_line_to_another_region_ends_at_the_edge_of_its_map() -> None:
    lund = [utm_from_latlon(55.7 + 1e-4 * i, 13.19) for i in range(6)]
    malmo = [utm_from_latlon(55.4, 13.0 + 1e-4 * i) for i in range(6)]
    layers = [Layer("m-db", [*lund, *malmo]), Layer("m-bad", lund[:1])]
    drawing = place_map(layers, [(lund[0], malmo[0])], alt="map")
    assert drawing is not None and drawing.count('<svg class="map"') == 1
    _, end = re.findall(r'class="m-line" d="M([^L]+)L([^"]+)"', drawing)[0]
    assert any(not -WIDTH < float(number) < 2 * WIDTH for number in end.split())
    assert "svg.map { overflow: hidden }" in asset("style.css")


@pytest.mark.parametrize(
    "positions",
    [
        [utm_from_latlon(-17.0, side * (179.99 - 1e-3 * i)) for i in range(5) for side in (-1, 1)],
        [Position(1000.0 * i, 0.0) for i in range(200)],  # one drive
        [Position(3e4 * i, 0.0) for i in range(12)],  # a photo now and then
        [Position(1e5 * (i % 9), float(i)) for i in range(90)],  # more towns than anybody scrolls through
        [Position(10.0 * i, 4000.0 * (i % 2)) for i in range(40)],  # two streets of one town
        [Position(0.0, 0.0)] * 4 + [utm_from_latlon(55.7, 13.19)],  # two planes
    ],
)
def test_what_lies_together_is_one_region(positions: list[Position]) -> None:
    assert len(regions(Positions.from_list(positions))) == 1
    assert regions(Positions.from_list([None] * 3)) == []


@pytest.mark.slow
def test_a_drawing_stays_small_and_is_left_out_without_positions() -> None:
    rng = np.random.default_rng(0)
    crowd = [Position(*at) for at in rng.uniform(0, 1000, (60_000, 2)).tolist()]
    lines = [(crowd[i], crowd[-i - 1]) for i in range(20_000)]
    drawn = place_map([Layer("m-db", crowd), Layer("m-bad", crowd)], lines, alt="")
    assert drawn is not None and len(drawn) < 600_000
    assert place_map([Layer("m-db", [None, Position(float("nan"), 1)])], alt="") is None
    alike = place_map([Layer("m-db", [Position(5, 5)] * 3)], alt="one spot")
    assert alike is not None and "nan" not in alike


def test_spread_is_even() -> None:
    assert spread(3, 5) == [0, 1, 2]
    assert spread(10, 5) == [0, 2, 4, 6, 8]
    assert spread(0, 5) == []


def test_words() -> None:
    written = render("demo", "map", model="<a href='x'>\n\ud800&", tiles=[])
    assert "<b>&lt;a href=&#39;x&#39;&gt;\ufffd\ufffd&amp;</b>" in written
    assert shorten("abc", 3) == "abc"
    assert len(shorten("x" * 1000, 100)) == 100
    assert shorten("folder/" * 40 + "photo.jpg").endswith("photo.jpg")
    lengths = [metres(length) for length in (0.04, 9.94, 9.96, 9999, 123456)]
    assert lengths == ["0.0\xa0m", "9.9\xa0m", "10\xa0m", "9,999\xa0m", "123.5\xa0km"]
    times = [duration(seconds) for seconds in (0.5, 59.6, 75, 7200)]
    assert times == ["0.50 s", "1 min 0 s", "1 min 15 s", "2 h 0 min"]
