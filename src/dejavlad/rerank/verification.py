"""Do the matching points of two photos agree in space, and how near to each other are the two views?

OpenCV's USAC searches, scored by MAGSAC (Barath et al., CVPR 2019, 2020), seeded: equal input gives equal
answers. All is computed in pixels of photos whose longer side is `UNIT` pixels, so that thresholds mean the
same for photos of any size; points and models go in and come out in pixels of the photos themselves.

Shapes: M matches, of which I agree (the inliers).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError, UnknownNameError
from dejavlad.local_features import LocalFeatures
from dejavlad.rerank.nearness import Nearness, nearness
from dejavlad.rerank.point_matching import PointMatches

Model = Literal["fundamental", "homography", "essential"]
MODELS: Final = ("fundamental", "homography", "essential")
LEAST: Final[dict[str, int]] = {"fundamental": 8, "homography": 4, "essential": 8}
"""Matches below which a model says nothing."""
UNIT = 640.0
"""Pixels of the longer side at which thresholds are meant."""
STORED = 1.5
"""No threshold is below so many pixels of the photo as it is: points of small photos are less exact."""
FLAT = 8.0
"""Inliers that lie within so many pixels (standard deviation, at `UNIT`) of one line say nothing: a horizon,
or a caption that photos of many places have."""

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class VerifySetting:
    """How matches are verified.

    Raises:
        UnknownNameError: no such model.
        InputError: a setting out of its range.
    """

    model: Model = "fundamental"
    """What the points must obey: ``fundamental`` for any rigid scene, ``homography`` for a flat one or a
    camera that only turned, ``essential`` for a rigid scene and cameras of known focal length."""
    threshold: float = 3.0
    """Largest error of an inlier, in pixels where the longer side has `UNIT`, at least `STORED`."""
    iterations: int = 1000
    """How many models are tried at most."""
    confidence: float = 0.999
    """Of having found the best, at which the search ends early."""
    seed: int = 0
    """Decides which matches each model is tried from."""

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise UnknownNameError("model of verification", str(self.model), MODELS)
        if not self.threshold > 0 or self.iterations < 1 or not 0 < self.confidence < 1 or self.seed < 0:
            raise InputError(
                "verification needs a threshold above 0, an iteration, a confidence between 0 and 1, and "
                f"a seed from 0; given {self.threshold}, {self.iterations}, {self.confidence}, {self.seed}"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Verified:
    """What two photos have in common."""

    matches: PointMatches
    """[I] the matches that agree."""
    tried: int
    """M, how many matches there were."""
    model: Model
    """What they agree with."""
    matrix: Matrix | None = None
    """float64 [3, 3]: for F ``q' F c = 0`` in pixels of the photos, for E the same in rays; a homography
    takes the candidate's points to the query's. None where nothing agrees."""
    nearness: Nearness = field(default_factory=Nearness)
    """How near to each other the two views are."""
    kind: str = ""
    """Of the local features; points of one kind agree by chance more often than those of another."""

    @property
    def inliers(self) -> int:
        """I, how many matches agree with the model."""
        return len(self.matches)

    @property
    def share(self) -> float:
        """I / M; 0 of no matches."""
        return self.inliers / self.tried if self.tried else 0.0


def verify(
    query: LocalFeatures,
    candidate: LocalFeatures,
    matches: PointMatches,
    setting: VerifySetting = VerifySetting(),
    *,
    focal: tuple[float, float] | None = None,
) -> Verified:
    """The matches that agree in space.

    None do where there are too few of them, all lie on one line, or one photo mirrors the other (which no
    camera can).

    Args:
        query: the query's points.
        candidate: the candidate's.
        matches: which of them look alike.
        setting: how they are verified.
        focal: focal lengths of query and candidate in pixels of the photos, for the essential matrix; their
            principal points are taken to be the centres.

    Raises:
        InputError: an essential matrix without focal lengths, or focal lengths that are none.
    """
    if setting.model == "essential" and (focal is None or not all(f > 0 for f in focal)):
        raise InputError(f"an essential matrix needs both focal lengths in pixels above 0; given {focal}")
    scales = UNIT / max(query.size), UNIT / max(candidate.size)
    points_M2 = query.keypoints[matches.query] * scales[0]
    others_M2 = candidate.keypoints[matches.candidate] * scales[1]
    matrix, inlier_M = None, np.zeros(len(matches), dtype=bool)
    if len(matches) >= LEAST[setting.model]:
        cameras = _cameras(query, candidate, scales, focal) if setting.model == "essential" else None
        threshold = max(setting.threshold, STORED * max(scales))
        matrix, inlier_M = _search(points_M2, others_M2, setting, threshold, cameras)
    agreeing = matches.take(inlier_M)
    none = matches.take(np.zeros(len(matches), dtype=bool))
    nothing = Verified(none, len(matches), setting.model, kind=query.kind)
    if matrix is None or inlier_M.sum() < LEAST[setting.model]:
        return nothing
    sizes = (
        (query.size[0] * scales[0], query.size[1] * scales[0]),
        (candidate.size[0] * scales[1], candidate.size[1] * scales[1]),
    )
    if min(_width(points_M2[inlier_M]), _width(others_M2[inlier_M])) < FLAT:
        return nothing
    near = nearness(points_M2[inlier_M], others_M2[inlier_M], *sizes)
    if near.mirrored:
        return nothing
    full_size = _at_full_size(matrix, scales, setting.model)
    return Verified(agreeing, len(matches), setting.model, full_size, near, query.kind)


def _search(
    points_M2: NDArray[np.float32],
    others_M2: NDArray[np.float32],
    setting: VerifySetting,
    threshold: float,
    cameras: tuple[Matrix, Matrix] | None,
) -> tuple[Matrix | None, NDArray[np.bool_]]:
    """The model, from the candidate's points to the query's, and which matches obey it."""
    params = cv2.UsacParams()
    params.randomGeneratorState = setting.seed
    params.confidence, params.maxIterations = setting.confidence, setting.iterations
    params.threshold, params.isParallel = threshold, False
    params.score, params.loMethod = cv2.SCORE_METHOD_MAGSAC, cv2.LOCAL_OPTIM_SIGMA
    params.final_polisher = cv2.MAGSAC
    first, second = (np.ascontiguousarray(xy_M2, np.float64) for xy_M2 in (others_M2, points_M2))
    matrix: Any
    mask: Any
    try:
        if setting.model == "homography":
            matrix, mask = cv2.findHomography(first, second, params)
        elif cameras is not None:
            none = np.zeros(0)
            matrix, mask = cv2.findEssentialMat(first, second, cameras[1], cameras[0], none, none, params)
        else:
            matrix, mask = cv2.findFundamentalMat(first, second, params)
    except cv2.error:  # degenerate points
        matrix = mask = None
    if matrix is None or mask is None or matrix.shape != (3, 3) or not np.isfinite(matrix).all():
        return None, np.zeros(len(first), dtype=bool)
    return np.asarray(matrix, np.float64), mask.ravel() == 1


def _cameras(
    query: LocalFeatures,
    candidate: LocalFeatures,
    scales: tuple[float, float],
    focal: tuple[float, float] | None,
) -> tuple[Matrix, Matrix]:
    """Camera matrices of both photos at `UNIT`."""
    assert focal is not None
    made = []
    for features, scale, length in zip((query, candidate), scales, focal, strict=True):
        y, x = ((side - 1) / 2 * scale for side in features.size)
        made.append(np.array([[length * scale, 0, x], [0, length * scale, y], [0, 0, 1]]))
    return made[0], made[1]


def _at_full_size(matrix: Matrix, scales: tuple[float, float], model: Model) -> Matrix:
    """A model of photos at `UNIT` as one of the photos themselves."""
    query, candidate = (np.diag([scale, scale, 1.0]) for scale in scales)
    if model == "homography":
        full_size = np.linalg.inv(query) @ matrix @ candidate
        return np.asarray(full_size / full_size[2, 2] if full_size[2, 2] else full_size)
    return matrix if model == "essential" else np.asarray(query @ matrix @ candidate)


def _width(points_M2: NDArray[np.float32]) -> float:
    """Standard deviation of points across the line that they follow best."""
    spread = np.linalg.svd(points_M2 - points_M2.mean(axis=0), compute_uv=False)
    return float(spread[-1] / np.sqrt(len(points_M2)))
