from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dejavlad.errors import InputError
from dejavlad.geo import Position, Positions, distance, latlon, parse_zone, utm_from_latlon

lats = st.floats(-80, 84)
lons = st.floats(-180, 180)


def on_the_ground(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Metres between two near points by the radii of curvature between them."""
    lat = math.radians((a[0] + b[0]) / 2)
    e2 = 0.00669437999014
    w = 1 - e2 * math.sin(lat) ** 2
    meridian, across = 6378137 * (1 - e2) / w**1.5, 6378137 / math.sqrt(w)
    turn = (a[1] - b[1] + 180) % 360 - 180
    return math.hypot(math.radians(a[0] - b[0]) * meridian, math.radians(turn) * across * math.cos(lat))


def test_a_known_point() -> None:
    tower = utm_from_latlon(43.642567, -79.387139)  # the CN Tower, as Wikipedia's article on UTM has it
    assert tower.zone == "17N"
    assert (tower.east, tower.north) == pytest.approx((630084, 4833438), abs=1)


def test_zones_of_norway_and_of_the_south() -> None:
    assert utm_from_latlon(60.39, 5.32).zone == "32N"
    assert utm_from_latlon(-33.86, 151.21).zone == "56S"
    assert utm_from_latlon(0, 3).zone == "31N"


@given(lats, lons)
def test_there_and_back(lat: float, lon: float) -> None:
    back = latlon(utm_from_latlon(lat, lon))
    assert back[0] == pytest.approx(lat, abs=1e-6)
    turn = (back[1] - lon + 180) % 360 - 180
    assert turn * math.cos(math.radians(lat)) == pytest.approx(0, abs=1e-6)
    assert -180 <= back[1] < 180


@given(lats, st.floats(-179.9, 179.9), st.sampled_from([-1, 1]))
def test_a_zone_may_be_given(lat: float, lon: float, step: int) -> None:
    number, northern = parse_zone(utm_from_latlon(lat, lon).zone or "")
    beside = f"{(number - 1 + step) % 60 + 1}{'S' if northern else 'N'}"
    position = utm_from_latlon(lat, lon, beside)
    assert position.zone == beside
    assert latlon(position)[0] == pytest.approx(lat, abs=1e-4)


@pytest.mark.parametrize(
    ("lat", "lon", "says"),
    [
        (84.5, 0, "outside UTM"),
        (-80.5, 0, "outside UTM"),
        (10, 180.1, "outside UTM"),
        (151.21, -33.86, "swapped"),
        (-122.4, 37.8, "swapped"),
        (math.nan, 0, "not a position"),
        (0, math.inf, "not a position"),
    ],
)
def test_what_is_no_position(lat: float, lon: float, says: str) -> None:
    with pytest.raises(InputError, match=says):
        utm_from_latlon(lat, lon)


@pytest.mark.parametrize("zone", ["", "0N", "61N", "33", "33U", "N33", "-1S"])
def test_what_is_no_zone(zone: str) -> None:
    with pytest.raises(InputError, match="UTM zone"):
        parse_zone(zone)


def test_a_plane_has_no_latitude() -> None:
    with pytest.raises(InputError, match="without a UTM zone"):
        latlon(Position(1, 2))


@given(
    st.floats(-79, 83),
    st.integers(-30, 30).map(lambda k: 6.0 * k),
    st.floats(-1e-3, 1e-3),
    st.floats(-1e-3, 1e-3),
    st.floats(-1e-3, 1e-3),
)
def test_distances_across_zones(lat: float, edge: float, west: float, east: float, up: float) -> None:
    a = (lat, (edge + west + 180) % 360 - 180)
    b = (lat + up, (edge + east + 180) % 360 - 180)
    p, q = utm_from_latlon(*a), utm_from_latlon(*b)
    within = 1e-5 if p.zone != q.zone else 2e-3  # a plane's scale is 0.9996 to 1.001
    assert distance(p, q) == pytest.approx(on_the_ground(a, b), rel=within, abs=0.01)
    assert distance(p, q) == distance(q, p)


def test_the_date_line_and_the_equator() -> None:
    east, west = utm_from_latlon(-17, 179.9999), utm_from_latlon(-17, -179.9999)
    assert (east.zone, west.zone) == ("60S", "1S")
    assert distance(east, west) == pytest.approx(21.3, abs=0.1)
    north, south = utm_from_latlon(1e-4, 9), utm_from_latlon(-1e-4, 9)
    assert (north.zone, south.zone) == ("32N", "32S")
    assert distance(north, south) == pytest.approx(22.1, abs=0.1)


def test_distance_on_a_plane() -> None:
    assert distance(Position(0, 0), Position(3, 4)) == 5
    assert distance(Position(500000, 0, "31N"), Position(500003, 4, "31N")) == 5
    assert math.isnan(distance(Position(0, 0), Position(math.nan, 4)))
    with pytest.raises(InputError, match="UTM zone"):
        distance(Position(0, 0), Position(3, 4, "31N"))


def within_slowly(
    places: list[Position | None], queries: list[Position | None], radius: float
) -> list[list[int]]:
    def near(a: Position | None, b: Position | None) -> bool:
        if a is None or b is None or not math.isfinite(a.east + a.north + b.east + b.north):
            return False
        if a.zone == b.zone:
            return (a.east - b.east) ** 2 + (a.north - b.north) ** 2 <= radius * radius
        return distance(a, b) <= radius

    return [[i for i, place in enumerate(places) if near(place, query)] for query in queries]


grid = st.one_of(
    st.none(),
    st.builds(Position, st.just(math.nan), st.just(0.0)),
    st.builds(Position, st.integers(0, 60).map(float), st.integers(0, 60).map(float)),
)
edges = st.one_of(
    st.none(),
    st.builds(
        utm_from_latlon,
        st.integers(-8, 8).map(lambda k: k * 1e-4),
        st.integers(-8, 8).map(lambda k: 12 + k * 1e-4),
    ),
)


@settings(deadline=None)
@given(
    st.lists(grid, max_size=30), st.lists(grid, max_size=10), st.sampled_from([0.0, 5.0, 13.0, 25.0, 60.5])
)
def test_within_equals_the_slow_way_on_a_plane(
    places: list[Position | None], queries: list[Position | None], radius: float
) -> None:
    rows_of = Positions.from_list(places).within(Positions.from_list(queries), radius)
    assert [rows.tolist() for rows in rows_of] == within_slowly(places, queries, radius)
    assert all(rows.dtype == np.int64 for rows in rows_of)


@settings(deadline=None, max_examples=50)
@given(st.lists(edges, max_size=15), st.lists(edges, max_size=6), st.floats(0.5, 90))
def test_within_equals_the_slow_way_across_zones(
    places: list[Position | None], queries: list[Position | None], radius: float
) -> None:
    rows_of = Positions.from_list(places).within(Positions.from_list(queries), radius)
    assert [rows.tolist() for rows in rows_of] == within_slowly(places, queries, radius)


def test_the_radius_is_included_exactly() -> None:
    here = Position(583000.0, 4477000.0, "17N")
    ring = [Position(here.east + 7, here.north - 24, "17N"), Position(here.east + 25, here.north, "17N")]
    ring.append(Position(np.nextafter(ring[1].east, 1e9), here.north, "17N"))
    rows_of = Positions.from_list(ring).within(Positions.from_list([here]), 25)
    assert rows_of[0].tolist() == [0, 1]


def test_a_stray_photo_of_another_zone_changes_no_answer() -> None:
    places = [Position(500000.0 + 3 * i, 4000000.0, "33N") for i in range(20)]
    queries = Positions.from_list([places[3]])
    alone = Positions.from_list(places).within(queries, 9)
    beside = Positions.from_list([*places, utm_from_latlon(10, 20)]).within(queries, 9)
    assert alone[0].tolist() == beside[0].tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_distances_between_all() -> None:
    places = [
        utm_from_latlon(50, 11.9999),
        utm_from_latlon(50, 12.0001),
        None,
        utm_from_latlon(50.001, 12.0001),
    ]
    apart = Positions.from_list(places).distances()
    for i, a in enumerate(places):
        for j, b in enumerate(places):
            if a is None or b is None:
                assert math.isnan(apart[i, j])
            else:
                assert apart[i, j] == distance(a, b)


def test_empty_and_infinite_positions() -> None:
    nothing, endless = Positions.from_list([]), Positions.from_list([Position(math.inf, 0), Position(1, 1)])
    assert nothing.within(nothing, 1) == []
    assert [len(rows) for rows in nothing.within(endless, 1)] == [0, 0]
    assert [rows.tolist() for rows in endless.within(endless, 1e200)] == [[], [1]]
    assert np.isnan(endless.distances()[0]).all()


@pytest.mark.parametrize("radius", [-1.0, math.nan, math.inf])
def test_what_is_no_radius(radius: float) -> None:
    with pytest.raises(InputError, match="radius"):
        Positions.from_list([]).within(Positions.from_list([]), radius)


def test_planes_are_not_mixed() -> None:
    mine, utm = Positions.from_list([Position(0, 0)]), Positions.from_list([Position(0, 0, "33N")])
    with pytest.raises(InputError, match="some have none"):
        mine.within(utm, 10)
    unknown = Positions.from_list([None, Position(0, 0, "33N")])
    assert [rows.tolist() for rows in utm.within(unknown, 10)] == [[], [0]]


def test_the_shape_of_positions_is_checked() -> None:
    with pytest.raises(InputError, match=r"\[N, 2\]"):
        Positions(np.zeros((2, 3)), [None, None])
    with pytest.raises(InputError, match="1 zones"):
        Positions(np.zeros((2, 2)), [None])


def test_take() -> None:
    taken = Positions.from_list([Position(0, 0, "1N"), None, Position(5, 6, "2S")]).take(np.array([2, 1]))
    assert taken.zones == ("2S", None)
    assert taken.known.tolist() == [True, False]
