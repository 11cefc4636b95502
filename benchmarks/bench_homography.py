"""Homographies: OpenCV's RANSAC against our search for the same answer, by how many of the matches agree.

    python benchmarks/bench_homography.py

Positions are of patches on a grid 16 pixels apart, of which a share moves alike (with errors of a step), the
others by chance. Answers are compared bit for bit; times are of the processor, by turns.
"""

from __future__ import annotations

import time

import cv2
import numpy as np

from _timing import paired, processor
from dejavlad.rerank.draws import Points, find_homography

STEP, THRESHOLD, ITERATIONS, CONFIDENCE = 16, 24.0, 2000, 0.995
PAIRS = 10


def matches(seed: int, count: int, agreeing: float) -> tuple[Points, Points]:
    """Positions [M, 2] in two photos, float32."""
    rng = np.random.default_rng(seed)
    cells = np.stack(np.meshgrid(np.arange(36), np.arange(26)), axis=-1).reshape(-1, 2)
    ours, theirs = rng.permutation(cells)[:count], rng.permutation(cells)[:count]
    moved = np.rint((ours - [18, 13]) * rng.uniform(0.7, 1.3) + [18, 13] + rng.normal(0, 0.6, ours.shape))
    theirs = np.where(rng.random((count, 1)) < agreeing, moved, theirs)
    return (STEP * ours + 39.5).astype(np.float32), (STEP * theirs + 39.5).astype(np.float32)


def by_opencv(ours: Points, theirs: Points) -> Points:
    """Which matches are inliers, bool [M]."""
    _, mask = cv2.findHomography(ours, theirs, cv2.RANSAC, THRESHOLD, None, ITERATIONS, CONFIDENCE)
    return mask.ravel() == 1


def main() -> None:
    cv2.setNumThreads(1)
    print(f"homography, {PAIRS} pairs of photos a round: OpenCV's search / ours; {processor()}")
    for count in (100, 300):
        for agreeing in (0.1, 0.3, 0.8):
            pairs = [matches(seed, count, agreeing) for seed in range(PAIRS)]
            answers = [find_homography(*pair, THRESHOLD, ITERATIONS, CONFIDENCE) for pair in pairs]
            known = [(pair, answer[1]) for pair, answer in zip(pairs, answers, strict=True) if answer]
            assert all(np.array_equal(by_opencv(*pair), inliers) for pair, inliers in known)
            pairs = [pair for pair, _ in known]
            timed = paired(
                lambda pairs=pairs: [by_opencv(*pair) for pair in pairs],
                lambda pairs=pairs: [
                    find_homography(*pair, THRESHOLD, ITERATIONS, CONFIDENCE) for pair in pairs
                ],
                rounds=3,
                clock=time.process_time,
            )
            print(f"  {count} matches, {agreeing:.0%} agree, {len(pairs)} pairs: {timed}", flush=True)


if __name__ == "__main__":
    main()
