"""How far a place stands out, against what order statistics of one sample say."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dejavlad.places.confidence import (
    KNOWN_FROM,
    LARGEST_SURPRISE,
    confidence,
    distinct_places,
    stand_out,
    surprise,
)


def test_chance_of_standing_out_by_chance_is_as_stated() -> None:
    """Distances with an exponential tail to the left: s exceeds -log10 p in a share p of samples."""
    random = np.random.default_rng(0)
    samples = -random.exponential(size=(4000, 60))
    s = np.array([surprise(np.sort(row)[:10].astype(np.float32) + 20) for row in samples])
    for p in (0.5, 0.1, 0.01):
        assert np.mean(s >= -math.log10(p)) == pytest.approx(p, abs=4 * math.sqrt(p / 4000))


@given(
    st.lists(st.floats(0.1, 1.4), min_size=3, max_size=10, unique=True),
    st.floats(0.1, 10),
    st.floats(0, 5),
)
def test_surprise_depends_on_neither_scale_nor_origin(
    distances: list[float], scale: float, origin: float
) -> None:
    ascending = np.sort(np.array(distances, np.float64))
    if np.diff(ascending).min() < 1e-3:
        return
    moved = surprise(ascending * scale + origin)
    assert moved == pytest.approx(surprise(ascending), rel=1e-4, abs=1e-6)


def test_grows_as_the_nearest_place_comes_nearer() -> None:
    others = np.linspace(1.2, 1.4, 9)
    scores = [stand_out(np.array([d, *others], np.float32)) for d in (1.2, 1.1, 0.9, 0.4)]
    assert scores == sorted(scores)
    assert scores[0] == 0


def test_few_places() -> None:
    assert stand_out(np.array([0.1], np.float32)) == 0
    assert (
        stand_out(np.array([0.2, 1.35], np.float32))
        > KNOWN_FROM
        > stand_out(np.array([1.3, 1.35], np.float32))
    )
    assert stand_out(np.array([0.5, 0.5, 0.5], np.float32)) == 0
    assert stand_out(np.zeros(4, np.float32)) == 0
    assert surprise(np.array([0.1, 0.5, 0.5], np.float32)) == LARGEST_SURPRISE


def test_confidence_is_a_probability() -> None:
    confidences = [confidence(s) for s in (0, KNOWN_FROM, 0.3, 1, 3.2)]
    assert confidences == sorted(confidences)
    assert 0 <= confidences[0] < confidences[1] == 0.5 < confidences[2] < confidences[-1] <= 1


def test_places_count_once() -> None:
    distances = np.array([0.5, 0.6, 0.7, 0.9], np.float32)
    apart = np.eye(4, dtype=np.float32)
    nothing_known = np.zeros((4, 4), bool)
    assert distinct_places(distances, nothing_known, apart).tolist() == [0, 1, 2, 3]
    near_on_the_ground = nothing_known.copy()
    near_on_the_ground[0, 2] = near_on_the_ground[2, 0] = True
    assert distinct_places(distances, near_on_the_ground, apart).tolist() == [0, 1, 3]
    alike = apart.copy()
    alike[1] = alike[0]
    assert distinct_places(distances, nothing_known, alike).tolist() == [0, 2, 3]
    assert distinct_places(distances, nothing_known, apart, most=2).tolist() == [0, 1]
