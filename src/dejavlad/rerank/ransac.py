"""Geometric verification: the share of patches that one homography explains.

Shapes: M matches, P patches of the query.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError, UnknownNameError
from dejavlad.patches import PatchSet
from dejavlad.rerank.draws import find_homography
from dejavlad.rerank.matching import PatchMatch, centres, mutual_groups
from dejavlad.rerank.workers import parallel_map

Points = NDArray[np.float32]

METHODS: Final[Mapping[str, int]] = {
    "ransac": cv2.RANSAC,
    "rho": cv2.RHO,
    "usac": cv2.USAC_DEFAULT,
    "usac-accurate": cv2.USAC_ACCURATE,
    "usac-fast": cv2.USAC_FAST,
    "usac-magsac": cv2.USAC_MAGSAC,
}
"""Name -> OpenCV's search; least medians are left out: they need half of all matches to be right."""
APPROXIMATE_METHOD: Final = "usac-accurate"
"""The search of the approximate pass: about the classic one's inliers, far sooner where there are few."""


def homography(
    candidate_points: Points,
    query_points: Points,
    threshold: float,
    *,
    iterations: int = 2000,
    confidence: float = 0.995,
    method: str = "ransac",
    seed: int | None = None,
) -> tuple[NDArray[np.float64] | None, NDArray[np.bool_]]:
    """The homography that takes most of the candidate's points to the query's, and which it takes there.

    OpenCV's searches begin from one fixed seed at every call: equal points in equal order give equal answers.
    Its findHomography takes no other seed, so one given here puts the points in another order instead, which
    leads every search elsewhere.

    Args:
        candidate_points: float32 [M, 2].
        query_points: float32 [M, 2].
        threshold: largest distance in pixels between a point and where it is taken, above 0.
        iterations: most hypotheses tried.
        confidence: of having found the best, in (0, 1), at which the search ends early.
        method: a name in `METHODS`.
        seed: of the points' order; None keeps theirs.

    Returns:
        [3, 3] and bool [M]; None and no inlier below 4 points, or where there is none.

    Raises:
        UnknownNameError: no such method.
    """
    if method not in METHODS:
        raise UnknownNameError("RANSAC method", method, METHODS)
    nothing = None, np.zeros(len(query_points), dtype=bool)
    if len(query_points) < 4:
        return nothing
    order_M = np.arange(len(query_points))
    if seed is not None:
        order_M = np.random.default_rng(seed).permutation(order_M)
    points = candidate_points[order_M], query_points[order_M]
    quick = find_homography(*points, threshold, iterations, confidence) if method == "ransac" else None
    try:
        matrix, mask = quick or cv2.findHomography(
            *points, METHODS[method], threshold, None, iterations, confidence
        )
    except cv2.error:  # degenerate points: the newer searches raise where the classic one finds nothing
        return nothing
    if matrix is None or mask is None:
        return nothing
    inlier_M = np.zeros(len(order_M), dtype=bool)
    inlier_M[order_M] = mask.ravel() == 1
    return (np.asarray(matrix, dtype=np.float64), inlier_M) if inlier_M.any() else nothing


class RansacMatcher:
    """The share of the query's patches that a homography explains, candidates in parallel.

    Equivalent to ``compare_two_ransac`` in patchnetvlad/tools/patch_matcher.py: the score is minus the
    number of inliers over P, and 0 below 4 mutual matches. OpenCV's inliers changed a little with its 4.12.

    Args:
        threshold: largest error of an inlier, in steps from one patch to the next (the original's 24
            pixels of VGG-16 at stride 1 are 1.5).
        iterations: see `homography`.
        confidence: see `homography`.
        method: a name in `METHODS`; "ransac" is the original's.
        seed: see `homography`.
        threads: 1 verifies candidate by candidate; else as many at once as torch has threads.

    Raises:
        UnknownNameError: no such method.
        InputError: a setting out of its range.
    """

    def __init__(
        self,
        *,
        threshold: float = 1.5,
        iterations: int = 2000,
        confidence: float = 0.995,
        method: str = "ransac",
        seed: int | None = None,
        threads: int = 2,
    ) -> None:
        if method not in METHODS:
            raise UnknownNameError("RANSAC method", method, METHODS)
        if seed is not None and seed < 0:
            raise InputError(f"a seed is a whole number from 0, or none; given {seed}")
        if not threshold > 0 or iterations < 1 or not 0 < confidence < 1 or threads < 1:
            raise InputError(
                "RANSAC needs a threshold above 0, at least 1 iteration and thread, and a confidence between "
                f"0 and 1; given {threshold}, {iterations}, {threads} and {confidence}"
            )
        self.threshold, self.iterations, self.confidence = threshold, iterations, confidence
        self.method, self.seed, self.threads = method, seed, threads

    def __call__(self, query: PatchSet, candidates: Sequence[PatchSet]) -> list[PatchMatch]:
        """Matches with each candidate.

        Raises:
            InputError: patches of another size or other dimensions.
        """
        return self._verified(query, candidates, self.method)

    def approximate(self, query: PatchSet, candidates: Sequence[PatchSet], dims: int) -> NDArray[np.float64]:
        """Scores [C] from the first so many dimensions, by a search that ends sooner.

        Raises:
            InputError: patches of another size or other dimensions.
        """
        return np.array(
            [match.score for match in self._verified(query, candidates, APPROXIMATE_METHOD, dims)]
        )

    def _verified(
        self, query: PatchSet, candidates: Sequence[PatchSet], method: str, dims: int | None = None
    ) -> list[PatchMatch]:
        groups = list(mutual_groups(query, candidates, dims))
        centres_P2 = query.centres.cpu().numpy()
        points = [
            (centres_P2[query_M], centres_R2[candidate_M], mutual.stands_for)
            for alike, mutual in groups
            for centres_R2, (query_M, candidate_M) in zip(centres(alike), mutual.pairs(), strict=True)
        ]

        def verify(pair: tuple[Points, Points, float]) -> PatchMatch:
            matrix, inlier_M = homography(
                pair[1],
                pair[0],
                self.threshold * query.step,
                iterations=self.iterations,
                confidence=self.confidence,
                method=method,
                seed=self.seed,
            )
            score = -float(inlier_M.sum()) * pair[2] / len(query)
            return PatchMatch(score, pair[0][inlier_M], pair[1][inlier_M], matrix)

        return [verify(pair) for pair in points] if self.threads == 1 else parallel_map(verify, points)
