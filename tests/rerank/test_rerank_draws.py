"""The quick search for a homography: what OpenCV's own answers, bit for bit."""

import cv2
import numpy as np
import pytest

from dejavlad.rerank import draws
from dejavlad.rerank.draws import find_homography
from dejavlad.rerank.ransac import homography

STEP = 16


def matches(seed, count, agreeing, offset=39.5):
    """Positions on a grid, of which some move alike (with errors of a step), the others by chance."""
    rng = np.random.default_rng(seed)
    cells = np.stack(np.meshgrid(np.arange(36), np.arange(26)), axis=-1).reshape(-1, 2)
    ours, theirs = rng.permutation(cells)[:count], rng.permutation(cells)[:count]
    moved = np.rint((ours - [18, 13]) * rng.uniform(0.7, 1.3) + [18, 13] + rng.normal(0, 0.6, ours.shape))
    theirs = np.where(rng.random((count, 1)) < agreeing, moved, theirs)
    return (STEP * ours + offset).astype(np.float32), (STEP * theirs + offset).astype(np.float32)


def by_opencv(ours, theirs, threshold, iterations, confidence):
    matrix, mask = cv2.findHomography(ours, theirs, cv2.RANSAC, threshold, None, iterations, confidence)
    return matrix, np.zeros(len(ours), bool) if matrix is None else mask.ravel() == 1


@pytest.mark.parametrize("count", [5, 7, 12, 40, 150, 300])
def test_the_answer_is_that_of_opencv(count):
    quick = 0
    for seed, agreeing in enumerate([0, 0.1, 0.2, 0.5, 1]):
        setting = (24.0, 2000, 0.995) if seed % 2 else (8.5, 300, 0.9)
        pair = matches(seed + count, count, agreeing)
        matrix, inlier_M = by_opencv(*pair, *setting)
        answer = find_homography(*pair, *setting)
        if answer is not None:
            quick += 1
            np.testing.assert_array_equal(answer[0], matrix)
            np.testing.assert_array_equal(answer[1], inlier_M)
        np.testing.assert_array_equal(
            homography(*pair, setting[0])[1], by_opencv(*pair, setting[0], *(2000, 0.995))[1]
        )
    assert quick >= (3 if count > 7 else 0)


def test_the_draws_are_a_plain_loop():
    for count in (5, 9, 77, 1131):
        numbers, at = draws._numbers() % count, 0
        expected = []
        for _ in range(700):
            taken = []
            while len(taken) < 4:
                if numbers[at] not in taken:
                    taken.append(numbers[at])
                at += 1
            expected.append(taken)
        first, start = draws._draws(count, 0, 300)
        second, _ = draws._draws(count, start, 800)
        np.testing.assert_array_equal(np.concatenate([first, second], axis=1).T[:500], expected[:500])


def test_what_only_opencv_can_tell_is_left_to_it():
    ours, theirs = matches(0, 50, 0.2)
    line = np.stack([ours[:, 0], np.full(50, 39.5, np.float32)], axis=1)
    for pair in (
        (ours + 0.3, theirs),
        (ours[:4], theirs[:4]),
        (line, theirs),
        (line, line),
        (3 * ours, theirs),
    ):
        pair = tuple(np.ascontiguousarray(points, np.float32) for points in pair)
        assert find_homography(*pair, 24.0, 2000, 0.995) is None
        np.testing.assert_array_equal(homography(*pair, 24.0)[1], by_opencv(*pair, 24.0, 2000, 0.995)[1])


def test_matches_too_close_to_tell_do_not_matter_where_a_later_draw_is_better(monkeypatch):
    monkeypatch.setattr(draws, "TIE", 30 * draws.TIE)
    answers, close = 0, []
    tell = draws._inliers
    monkeypatch.setattr(draws, "_inliers", lambda *given: close.append(tell(*given)[1].any()) or tell(*given))
    for seed in range(12):
        pair = matches(seed, 60, 0.3)
        close.clear()
        answer = find_homography(*pair, 24.0, 1000, 0.995)
        if answer is not None:
            matrix, inlier_M = by_opencv(*pair, 24.0, 1000, 0.995)
            np.testing.assert_array_equal(answer[0], matrix)
            np.testing.assert_array_equal(answer[1], inlier_M)
            answers += any(close)
    assert answers


def test_an_opencv_that_searches_otherwise_is_asked_itself(monkeypatch):
    pair = matches(3, 60, 0.2)
    assert find_homography(*pair, 24.0, 2000, 0.995) is not None
    monkeypatch.setattr(draws, "_numbers", lambda: np.arange(draws.KNOWN, dtype=np.uint32))
    caches = draws._draws, draws._draws_alike
    for cached in caches:
        cached.cache_clear()
    try:
        assert find_homography(*pair, 24.0, 2000, 0.995) is None
    finally:
        for cached in caches:
            cached.cache_clear()
