"""The candidates of one query, and how sure the first of them is: by the search, then by geometry.

Legend: K candidates, nearest first; J places; D the model's descriptor size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dejavlad.geo import Position
from dejavlad.places.confidence import distinct_places, stand_out
from dejavlad.places.located_position import located_position
from dejavlad.places.verification.confidence import CHANCE, Evidence, verified_confidence
from dejavlad.places.verification.rivals import rivals
from dejavlad.rerank import Verified


@dataclass(frozen=True, slots=True)
class VerifiedPlace:
    """How sure a candidate is to show the query's place, and where that is."""

    evidence: Evidence
    """What speaks for it."""
    confidence: float
    """Estimated probability, 0 to 1."""
    agreed: Position | None
    """Where the verified candidates together say that the query was taken; None where none has a position."""
    uncertainty_m: float | None
    """How far off that may be, in metres (one standard deviation)."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """The photos of the map that a query is compared with, nearest first."""

    photos_K: NDArray[np.int64]
    """Where they stand in the map's photos."""
    distances_K: NDArray[np.float32]
    """Euclidean, to the query's descriptor."""
    same_KK: NDArray[np.bool_]
    """Whether two of them are known to show one place."""
    best_J: NDArray[np.int64]
    """The nearest of each place, at most `confidence.PLACES`."""

    @classmethod
    def of(
        cls,
        photos_K: NDArray[np.int64],
        distances_K: NDArray[np.float32],
        same_KK: NDArray[np.bool_],
        descriptors_KD: NDArray[np.float32],
    ) -> Self:
        """The candidates, parted into places; their descriptors are of unit length."""
        best_J = distinct_places(distances_K, same_KK, descriptors_KD)
        return cls(photos_K, distances_K, same_KK, best_J)

    @property
    def evidence(self) -> Evidence:
        """What the search says for the nearest place: how far it stands out from the others."""
        return Evidence(stand_out(self.distances_K[self.best_J]), len(self.best_J))

    def others(self, at: int) -> list[int]:
        """The candidates that are not known to show the place of one of them."""
        return np.flatnonzero(~self.same_KK[at]).tolist()

    def verified(
        self,
        first: int,
        compared: Mapping[int, Verified],
        between: Callable[[int, int], Verified],
        positions: Mapping[int, Position | None],
    ) -> VerifiedPlace:
        """How sure the first candidate is by the search and by geometry.

        Args:
            first: the candidate that is the answer.
            compared: candidate -> what it has in common with the query; the first is among them.
            between: what two candidates have in common.
            positions: where each that was compared was taken; None where that is not known.
        """
        elsewhere = set(self.others(first))
        by_chance = rivals(first, compared, elsewhere.__contains__, between, least=CHANCE)
        evidence = self.evidence.verified(compared[first], by_chance)
        agreed, uncertainty_m = located_position(first, compared, positions)
        return VerifiedPlace(evidence, verified_confidence(evidence), agreed, uncertainty_m)
