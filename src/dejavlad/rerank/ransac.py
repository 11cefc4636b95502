"""Geometric verification: the share of patches that one homography explains.

Shapes: M matches, P patches of the query.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError
from dejavlad.patches import PatchSet
from dejavlad.rerank.matching import Match, mutual_blocks

Points = NDArray[np.float32]


def homography(
    candidate_points: Points,
    query_points: Points,
    threshold: float,
    *,
    iterations: int = 2000,
    confidence: float = 0.995,
    method: int = cv2.RANSAC,
) -> tuple[NDArray[np.float64] | None, NDArray[np.bool_]]:
    """The homography that takes most of the candidate's points to the query's, and which it takes there.

    OpenCV's search begins from one fixed seed at every call: equal points in equal order give equal answers.

    Args:
        candidate_points: float32 [M, 2].
        query_points: float32 [M, 2].
        threshold: largest distance in pixels between a point and where it is taken, above 0.
        iterations: most hypotheses tried.
        confidence: of having found the best, in (0, 1), at which the search ends early.
        method: ``cv2.RANSAC``, or another robust one of OpenCV's.

    Returns:
        [3, 3] and bool [M]; None and no inlier below 4 points, or where there is none.
    """
    nothing = None, np.zeros(len(query_points), dtype=bool)
    if len(query_points) < 4:
        return nothing
    try:
        found, mask = cv2.findHomography(
            candidate_points, query_points, method, threshold, None, iterations, confidence
        )
    except cv2.error:  # degenerate points: the newer searches raise where the classic one finds nothing
        return nothing
    if found is None or mask is None:
        return nothing
    inlier_M = mask.ravel() == 1
    return (np.asarray(found, dtype=np.float64), inlier_M) if inlier_M.any() else nothing


class RansacMatcher:
    """The share of the query's patches that a homography explains, candidates in parallel.

    Equivalent to ``compare_two_ransac`` in patchnetvlad/tools/patch_matcher.py: the score is minus the
    number of inliers over P, and 0 below 4 mutual matches. OpenCV's inliers changed a little with its 4.12.

    Args:
        threshold: largest error of an inlier, in steps from one patch to the next (the original's 24
            pixels of VGG-16 at stride 1 are 1.5).
        iterations: see `homography`.
        confidence: see `homography`.
        method: see `homography`.
        threads: candidates verified at once.

    Raises:
        InputError: a setting out of its range.
    """

    def __init__(
        self,
        *,
        threshold: float = 1.5,
        iterations: int = 2000,
        confidence: float = 0.995,
        method: int = cv2.RANSAC,
        threads: int = 2,
    ) -> None:
        if not threshold > 0 or iterations < 1 or not 0 < confidence < 1 or threads < 1:
            raise InputError(
                "RANSAC needs a threshold above 0, at least 1 iteration and thread, and a confidence between "
                f"0 and 1; given {threshold}, {iterations}, {threads} and {confidence}"
            )
        self.threshold, self.iterations, self.confidence = threshold, iterations, confidence
        self.method, self.threads = method, threads

    def __call__(self, query: PatchSet, candidates: Sequence[PatchSet]) -> list[Match]:
        """Matches with each candidate.

        Raises:
            InputError: patches of another size or other dimensions.
        """
        centres_P2 = query.centres.cpu().numpy()
        points = [
            (centres_P2[here_M], of.centres.cpu().numpy()[there_M])
            for block, mutual in mutual_blocks(query, candidates)
            for of, (here_M, there_M) in zip(block, mutual.pairs(), strict=True)
        ]
        with ThreadPoolExecutor(self.threads) as pool:
            return list(pool.map(lambda pair: self._verified(pair[0], pair[1], query), points))

    def _verified(self, query_points: Points, candidate_points: Points, query: PatchSet) -> Match:
        found, inlier_M = homography(
            candidate_points,
            query_points,
            self.threshold * query.step,
            iterations=self.iterations,
            confidence=self.confidence,
            method=self.method,
        )
        score = -float(inlier_M.sum()) / len(query)
        return Match(score, query_points[inlier_M], candidate_points[inlier_M], found)
