"""Two photos compared by local features: do they show one place, and which points agree?

The probability is that of `locate` in a map of one photo: nothing but geometry speaks for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import BlankPhotoError, PhotoError
from dejavlad.images import blank_reason
from dejavlad.local.base import LocalExtractor, describe_local
from dejavlad.local_features import LocalFeatures
from dejavlad.photo import Photo
from dejavlad.places.verification.confidence import (
    KNOWN,
    Evidence,
    reason,
    verified_confidence,
)
from dejavlad.rerank import PointReranker, Verified

FEW_POINTS: Final = 32
"""A photo with as many points as this shows something."""


@dataclass(frozen=True, slots=True, eq=False)
class PointPair:
    """What two photos have in common. The first plays the query."""

    query: Photo
    candidate: Photo
    features: tuple[LocalFeatures, LocalFeatures]
    """Of the query and of the candidate."""
    verified: Verified
    """The matches that agree in space."""
    blank: dict[str, str]
    """Key -> reason, of those of the two that show nothing."""

    @property
    def evidence(self) -> Evidence:
        """What speaks for one place."""
        return Evidence(0.0, 1).verified(self.verified)

    @property
    def confidence(self) -> float:
        """Probability that both show the same place, 0 to 1."""
        return verified_confidence(self.evidence)

    @property
    def same_place(self) -> bool:
        """Whether the probability is at least one half."""
        return self.confidence >= KNOWN

    @property
    def reason(self) -> str:
        """Why: how many points agree."""
        return reason(self.evidence, self.candidate.key)

    def points(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """float32 [I, 2] twice: the points that agree, in pixels (x, y) of the query and of the candidate."""
        matches = self.verified.matches
        query, candidate = self.features
        return query.keypoints[matches.query], candidate.keypoints[matches.candidate]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        matrix = self.verified.matrix
        return {
            "query": self.query.key,
            "candidate": self.candidate.key,
            "same_place": self.same_place,
            "confidence": self.confidence,
            "reason": self.reason,
            "score": self.confidence,
            "inliers": self.verified.inliers,
            "tried": self.verified.tried,
            "points": [len(features) for features in self.features],
            "model": {"name": self.verified.model, "matrix": None if matrix is None else matrix.tolist()},
            "blank": self.blank,
        }

    def __str__(self) -> str:
        verdict = "the same place" if self.same_place else "not the same place, as far as can be seen"
        return (
            f"{verdict} (confidence {self.confidence:.2f})\n  {self.reason}, of {self.verified.tried:,} that "
            f"look alike"
        )


def match_points(
    extractor: LocalExtractor, query: Photo, candidate: Photo, reranker: PointReranker
) -> PointPair:
    """Two photos, of any size and aspect, compared by local features.

    Args:
        extractor: what makes the features.
        query: the first photo.
        candidate: the second.
        reranker: what matches and verifies them.

    Raises:
        PhotoError: a photo cannot be read.
    """
    photos = (query, candidate)
    features: dict[int, LocalFeatures] = {}
    for row, made in describe_local(extractor, photos, batch_size=1):
        if isinstance(made, PhotoError) and not isinstance(made, BlankPhotoError):
            raise made
        if isinstance(made, LocalFeatures):
            features[row] = made
    blank = {
        photo.key: why
        for row, photo in enumerate(photos)
        if len(features[row]) < FEW_POINTS and (why := blank_reason(photo))
    }
    return PointPair(
        query, candidate, (features[0], features[1]), reranker.verified(features[0], features[1]), blank
    )
