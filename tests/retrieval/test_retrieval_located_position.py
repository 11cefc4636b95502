"""The position from all photos that agree: between them, near the best, and honest about one alone."""

import numpy as np
import pytest

from dejavlad.geo import Position
from dejavlad.places.located_position import (
    ALONE,
    LEAST,
    located_position,
)
from dejavlad.rerank import PointMatches, Verified


def verified(inliers: int, tried: int) -> Verified:
    rows = np.arange(inliers)
    return Verified(PointMatches(rows, rows, np.ones(inliers, np.float32)), tried, "fundamental")


def test_one_photo_alone_is_where_it_is():
    pairs = {0: verified(80, 200), 1: verified(9, 100)}
    where = {0: Position(10, 20), 1: Position(14, 20)}
    assert located_position(0, pairs, where) == (Position(10, 20), ALONE)
    assert located_position(0, pairs, {0: None, 1: Position(0, 0)}) == (None, None)


def test_it_lies_between_those_that_agree_nearer_to_the_better():
    where = {0: Position(0, 0, "33N"), 1: Position(10, 0, "33N")}
    middle, spread = located_position(0, {0: verified(80, 200), 1: verified(80, 200)}, where)
    assert (middle.east, middle.north, middle.zone) == (pytest.approx(5), 0, "33N")
    assert spread == pytest.approx(5)
    nearer, less = located_position(0, {0: verified(80, 300), 1: verified(80, 200)}, where)
    assert 0 < nearer.east < 5 and LEAST <= less < 5


def test_far_ones_and_other_zones_have_no_say():
    pairs = {0: verified(80, 200), 1: verified(80, 200), 2: verified(80, 200), 3: verified(80, 200)}
    where = {0: Position(0, 0, "33N"), 1: Position(500, 0, "33N"), 2: Position(2, 0, "32N"), 3: None}
    assert located_position(0, pairs, where) == (Position(0, 0, "33N"), ALONE)


def test_equal_positions_are_still_no_better_than_positions_are():
    pairs = {at: verified(80, 200) for at in range(3)}
    assert located_position(1, pairs, dict.fromkeys(range(3), Position(3, 4))) == (Position(3, 4), LEAST)
