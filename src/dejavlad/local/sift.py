"""OpenCV's SIFT (Lowe, IJCV 2004) with Arandjelović & Zisserman's square root (CVPR 2012): no weights."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dejavlad.images.preprocess import LUMA
from dejavlad.local.base import LONGEST, POINTS, DetectedPoints


class Sift:
    """RootSIFT at the points of largest contrast.

    Args:
        points: kept of a photo, at most.
        longest: pixels of the longer side of prepared photos.
    """

    kind = "sift"
    dims = 128

    def __init__(self, *, points: int = POINTS, longest: int = LONGEST) -> None:
        self.points, self.longest = points, longest
        self._sift = cv2.SIFT.create(nfeatures=points)

    def __call__(self, images_NCHW: NDArray[np.float32]) -> list[DetectedPoints]:
        """The points of each photo; see `LocalExtractor`."""
        grey_NHW = np.tensordot(np.asarray(LUMA, np.float32), images_NCHW, axes=(0, 1))
        return [self._detect(np.clip(grey_HW * 255 + 0.5, 0, 255).astype(np.uint8)) for grey_HW in grey_NHW]

    def _detect(self, grey_HW: NDArray[np.uint8]) -> DetectedPoints:
        points, described = self._sift.detectAndCompute(grey_HW, None)
        if described is None or not len(points):
            return DetectedPoints(
                np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32), np.zeros(0, np.float32)
            )
        scores = np.array([point.response for point in points], np.float32)
        order = np.argsort(-scores, kind="stable")[: self.points]
        keypoints = np.array([point.pt for point in points], np.float32)[order]
        shares = described[order] / np.maximum(described[order].sum(axis=1, keepdims=True), 1e-12)
        return DetectedPoints(keypoints, np.sqrt(shares), scores[order])
