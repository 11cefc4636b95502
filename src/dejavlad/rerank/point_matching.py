"""Points of two photos matched by their descriptors: mutual nearest neighbours.

Shapes: P points of the query, R of the candidate, M matches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError
from dejavlad.local_features import LocalFeatures

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class PointMatches:
    """Which points of two photos look like each other; each point is in one match at most."""

    query: Rows
    """int64 [M], rows of the query's points."""
    candidate: Rows
    """int64 [M], rows of the candidate's."""
    scores: NDArray[np.float32]
    """float32 [M]: cosine of the descriptors, or how sure the matcher is; larger is better."""

    def __len__(self) -> int:
        return len(self.query)

    def take(self, rows: NDArray[np.bool_] | Rows) -> PointMatches:
        """The matches at these rows, or where a mask [M] is True."""
        return PointMatches(self.query[rows], self.candidate[rows], self.scores[rows])


class PointMatcher(Protocol):
    """Matches points of two photos."""

    def __call__(self, query: LocalFeatures, candidate: LocalFeatures) -> PointMatches:
        """The matches; raises InputError where the two were not made alike."""
        ...


@dataclass(frozen=True, slots=True)
class MutualNearest:
    """Mutual nearest neighbours by cosine.

    Raises:
        InputError: a setting out of its range.
    """

    threshold: float = -1.0
    """Pairs below this cosine are left out; -1 keeps all."""
    ratio: float = 1.0
    """Lowe's test, on Euclidean distances: pairs are left out whose distance is above this share of the query
    point's distance to its second neighbour; 1 keeps all."""

    def __post_init__(self) -> None:
        if not (-1 <= self.threshold <= 1 and 0 < self.ratio <= 1):
            raise InputError(
                f"a cosine is -1 to 1 and a ratio above 0 to 1; given {self.threshold} and {self.ratio}"
            )

    def __call__(self, query: LocalFeatures, candidate: LocalFeatures) -> PointMatches:
        """The matches, in the order of the query's points; among equals the first point is taken.

        Raises:
            InputError: features of two kinds.
        """
        check_alike(query, candidate)
        if not len(query) or not len(candidate):
            return PointMatches(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
        similarity_PR = query.descriptors @ candidate.descriptors.T
        nearest_P = similarity_PR.argmax(axis=1)
        rows_P = np.arange(len(query))
        best_P = similarity_PR[rows_P, nearest_P]
        # The largest of each column is found ten times quicker than where it stands.
        good_P = (best_P == similarity_PR.max(axis=0)[nearest_P]) & (best_P >= self.threshold)
        mutual = np.flatnonzero(good_P)
        good_P[np.delete(mutual, np.unique(nearest_P[mutual], return_index=True)[1])] = False
        if self.ratio < 1 and len(candidate) > 1:
            kept = np.flatnonzero(good_P)
            second = np.partition(similarity_PR[kept], -2, axis=1)[:, -2]
            apart, second_apart = (
                np.sqrt(np.maximum(2 - 2 * cosine_K, 0)) for cosine_K in (best_P[kept], second)
            )
            good_P[kept[apart > self.ratio * second_apart]] = False
        rows = np.flatnonzero(good_P).astype(np.int64)
        return PointMatches(rows, nearest_P[rows].astype(np.int64), best_P[rows].astype(np.float32))


MUTUAL: Final[Mapping[str, MutualNearest]] = {
    "sift": MutualNearest(ratio=0.85),
    "xfeat": MutualNearest(threshold=0.8),
    "aliked": MutualNearest(threshold=0.75),
    "disk": MutualNearest(ratio=0.95),
}
"""Kind of local features -> how they are matched, unless another way is given."""


def check_alike(query: LocalFeatures, candidate: LocalFeatures) -> None:
    """Raises InputError unless both are of one kind and as many dimensions."""
    if (query.kind, query.dims) != (candidate.kind, candidate.dims):
        raise InputError(
            f"local features by {query.kind} ({query.dims} dimensions) and {candidate.kind} "
            f"({candidate.dims}) cannot be matched with each other"
        )
