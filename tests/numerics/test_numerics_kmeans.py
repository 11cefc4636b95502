import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dejavlad.errors import InputError
from dejavlad.numerics import kmeans, nearest


def blobs(n, k, d, seed=0, spread=0.05):
    rng = np.random.default_rng(seed)
    middles = rng.normal(size=(k, d)) * 3
    which = rng.integers(k, size=n)
    return (middles[which] + rng.normal(size=(n, d)) * spread).astype(np.float32), middles


def slow_lloyd(points, centres, iterations):
    points, centres = points.astype(np.float64), centres.astype(np.float64)
    for _ in range(iterations):
        squared = ((points[:, None] - centres[None]) ** 2).sum(axis=2)
        labels = squared.argmin(axis=1)
        centres = np.stack([points[labels == k].mean(axis=0) for k in range(len(centres))])
    return centres


def cost(points, centres):
    return ((points[:, None].astype(np.float64) - centres[None]) ** 2).sum(axis=2).min(axis=1).sum()


def test_blobs_are_found():
    points, middles = blobs(600, 6, 4)
    centres = kmeans(points, 6, seed=1)
    gaps = np.linalg.norm(centres[:, None] - middles[None], axis=2)
    assert centres.dtype == np.float32
    assert (np.sort(gaps.argmin(axis=1)) == np.arange(6)).all()
    assert gaps.min(axis=1).max() < 0.05


def test_one_iteration_is_lloyds():
    points, _ = blobs(300, 5, 3, spread=1.0)
    start = kmeans(points, 5, seed=3, iterations=0)
    assert np.allclose(kmeans(points, 5, seed=3, iterations=1), slow_lloyd(points, start, 1), atol=1e-5)
    assert np.allclose(
        kmeans(points, 5, seed=3, iterations=7, tolerance=0), slow_lloyd(points, start, 7), atol=1e-4
    )


def test_iterations_end_at_a_fixed_point():
    points, _ = blobs(400, 8, 5, spread=2.0)
    centres = kmeans(points, 8, iterations=500, tolerance=0)
    assert np.allclose(centres, slow_lloyd(points, centres, 1), atol=1e-5)


def test_chunks_change_nothing(monkeypatch):
    points, _ = blobs(300, 5, 3, spread=1.0)
    whole = kmeans(points, 5)
    monkeypatch.setattr(sys.modules["dejavlad.numerics.kmeans"], "CHUNK_VALUES", 64)
    assert np.allclose(kmeans(points, 5), whole, atol=1e-5)


@pytest.mark.parametrize("init", ["k-means++", "random"])
def test_the_seed_decides(init):
    points, _ = blobs(500, 10, 6, spread=2.0)
    first = kmeans(points, 10, seed=7, init=init)
    assert np.array_equal(first, kmeans(points, 10, seed=7, init=init))
    assert not np.array_equal(first, kmeans(points, 10, seed=8, init=init))


def test_a_far_origin_loses_no_precision():
    points, _ = blobs(400, 4, 3)
    moved = kmeans(points + np.float32(1000), 4, seed=2) - 1000
    assert np.allclose(np.sort(moved, axis=0), np.sort(kmeans(points, 4, seed=2), axis=0), atol=2e-3)


def test_plus_plus_starts_better_than_random_points():
    points, _ = blobs(600, 20, 4)
    costs = {
        init: np.mean([cost(points, kmeans(points, 20, seed=s, init=init, iterations=0)) for s in range(8)])
        for init in ("k-means++", "random")
    }
    assert costs["k-means++"] < 0.5 * costs["random"]


def test_as_many_clusters_as_points():
    points = np.arange(10, dtype=np.float32).reshape(5, 2)
    assert np.array_equal(np.sort(kmeans(points, 5), axis=0), points)


def test_repeated_points_do_not_end_it():
    points = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    centres = kmeans(points, 6)
    assert np.isfinite(centres).all()
    assert cost(points, centres) == pytest.approx(0, abs=1e-9)


def test_an_empty_cluster_goes_to_the_farthest_point():
    from dejavlad.numerics.kmeans import _means

    points = np.array([[0.0], [1.0], [9.0]], dtype=np.float32)
    labels = np.zeros(3, dtype=np.int64)
    centres = _means(points, labels, np.array([0, 1, 81], dtype=np.float32), 2)
    assert centres[1] == 9


@pytest.mark.parametrize("k", [0, 4])
def test_impossible_numbers_of_clusters(k):
    with pytest.raises(InputError, match="3 points"):
        kmeans(np.zeros((3, 2), np.float32), k)


def test_points_must_be_finite_and_flat():
    with pytest.raises(InputError, match="finite"):
        kmeans(np.array([[1.0], [np.nan]], np.float32), 1)
    with pytest.raises(InputError, match=r"\[N, D\]"):
        kmeans(np.zeros(3, np.float32), 1)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 7), st.integers(1, 6), st.integers(0, 1000))
def test_nearest_is_the_plain_search(n, k, d, seed):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, d)).astype(np.float32)
    centres = rng.normal(size=(k, d)).astype(np.float32)
    labels, squared = nearest(points, centres)
    plain = ((points[:, None] - centres[None]) ** 2).sum(axis=2)
    assert np.allclose(squared, plain.min(axis=1), atol=1e-4)
    assert np.allclose(plain[np.arange(n), labels], plain.min(axis=1), atol=1e-4)
