"""Candidates of a query: their places, what speaks for the first, and where it was taken."""

from __future__ import annotations

import numpy as np
import pytest

from dejavlad.geo import Position
from dejavlad.places.candidates import Candidates
from dejavlad.places.confidence import stand_out
from dejavlad.places.verification.confidence import Evidence, verified_confidence
from dejavlad.rerank import Nearness, PointMatches, Verified


def pair(coherent: int) -> Verified:
    matches = PointMatches(np.arange(coherent), np.arange(coherent), np.ones(coherent, np.float32))
    return Verified(matches, coherent, "fundamental", None, Nearness(coverage=(0.4, 0.5), coherent=coherent))


@pytest.fixture
def near() -> Candidates:
    """Five photos: 0 and 1 of one place, 2 and 3 of another, 4 alone; descriptors at right angles."""
    place = np.array([0, 0, 1, 1, 2])
    distances = np.array([0.5, 0.6, 0.9, 1.0, 1.1], np.float32)
    same = place[:, None] == place
    return Candidates.of(np.arange(10, 15), distances, same, np.eye(5, dtype=np.float32))


def test_each_place_counts_once(near: Candidates) -> None:
    assert near.best_J.tolist() == [0, 2, 4]
    assert near.evidence == Evidence(stand_out(np.array([0.5, 0.9, 1.1], np.float32)), 3)
    assert near.others(0) == [2, 3, 4] and near.others(4) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("in_common", "by_chance"),
    [
        (20, 40),  # 2 shows another scene: its points come by chance
        (200, 9),  # 2 shows the scene of the best photo, wherever it stands
    ],
)
def test_chance_is_what_photos_of_other_places_have(near: Candidates, in_common: int, by_chance: int) -> None:
    compared = {0: pair(100), 1: pair(80), 2: pair(40), 4: pair(9)}
    positions = {0: Position(0.0, 0.0), 1: Position(10.0, 0.0), 2: Position(400.0, 0.0), 4: None}
    looked_at: list[tuple[int, int]] = []

    def between(at: int, other: int) -> Verified:
        looked_at.append((at, other))
        return pair(in_common)

    place = near.verified(0, compared, between, positions)
    assert place.evidence == near.evidence.verified(compared[0], [pair(by_chance)])
    assert place.confidence == verified_confidence(place.evidence)
    assert looked_at == [(0, 2)]  # never the photo of the same place
    assert place.agreed is not None and 0 < place.agreed.east < 5  # between 0 and 1, nearer to 0
    assert place.uncertainty_m is not None and 1 <= place.uncertainty_m < 10


def test_without_a_position_there_is_no_place(near: Candidates) -> None:
    place = near.verified(0, {0: pair(100)}, lambda at, other: pair(0), {0: None})
    assert (place.agreed, place.uncertainty_m) == (None, None) and place.confidence > 0.5
