"""Points that move as their neighbours do: by hand; one scene against things that look alike."""

import numpy as np
import pytest

from dejavlad.rerank.coherence import FEWEST, MOST, NEIGHBOURS, PIXELS, SLACK, coherent


def by_hand(points, others):
    count = min(NEIGHBOURS, len(points) - 1)
    if count < FEWEST:
        return 0
    total = 0
    for i in range(len(points)):
        apart = [np.inf if j == i else np.linalg.norm(points[j] - points[i]) for j in range(len(points))]
        near = np.argsort(apart)[:count]
        moved = [np.linalg.norm((points[j] - points[i]) - (others[j] - others[i])) for j in near]
        total += np.mean([m <= SLACK * apart[j] + PIXELS for m, j in zip(moved, near, strict=True)]) >= MOST
    return total


def seen(points_P3, aside):
    moved = points_P3 - [aside, 0, 0]
    return moved[:, :2] / moved[:, 2:] * 500


@pytest.fixture
def scene():
    return np.random.default_rng(0).uniform([-4, -3, 6], [4, 3, 14], (80, 3))


@pytest.mark.parametrize("count", [0, 1, 4, 5, 12, 60])
def test_equals_the_loops(count):
    rng = np.random.default_rng(count)
    points = rng.uniform(0, 400, (count, 2))
    others = points + rng.normal(0, 30, (count, 2))
    assert coherent(points, others) == by_hand(points, others)


def test_one_scene_moves_together_and_things_that_look_alike_do_not(scene):
    here, aside = seen(scene, 0), seen(scene, 0.5)
    assert coherent(aside, here) > 70
    # The same epipolar lines (each point stays in its row), but matched with things elsewhere along them.
    elsewhere = here.copy()
    elsewhere[:, 0] = np.random.default_rng(1).permutation(here[:, 0])
    assert coherent(aside, elsewhere) < 15


def test_where_the_origin_is_does_not_matter(scene):
    here, aside = seen(scene, 0), seen(scene, 0.5)
    assert coherent(aside, here) == coherent(aside + 50, here - 300)
