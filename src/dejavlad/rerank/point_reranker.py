"""A ranking in a better order by verified local features: one more member of the re-ranking family.

Counting the points that agree in space is not enough: frames of one walk ahead and behind show the same
things, and agree as well. Three figures fall as the view moves away, each in its own way: how many points
look alike, how many of those agree, and how much of both photos they cover; their product is taken. What
tells ahead and behind apart best is the scale of what is seen; a shift sideways says nothing, as one walk may
be on the other side of the path. Scale says how near a view is, not which place it is, so it never counts for
more than `FARTHER`. All that is added to the distances of the first ranking; where fewer than `DECISIVE`
agree it is nothing: photos of different places reach that.

Shapes: C candidates of one query.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError
from dejavlad.local_features import LocalFeatures
from dejavlad.rerank.point_matching import MUTUAL, PointMatcher
from dejavlad.rerank.verification import Verified, VerifySetting, verify

DECISIVE: Final = 20
"""Matches that must agree in space before they change the order."""
COVERED: Final = 0.3
"""Share of both photos in which points lie that speaks neither for nor against."""
SCALED: Final = 0.2
"""Logarithm of the scale (1.22 times larger, or smaller) from which on a view is as far as `FARTHER` says."""
FARTHER: Final = 0.4
"""What such a change of scale takes from the evidence: as much as 1.5 times fewer points would."""
WEIGHT: Final = 7.0
"""Standard deviations of the candidates' distances that e times as many matches count for, where e times as
many agree."""


class PointReranker:
    """Puts the first candidates of each query in the order of how near their views are.

    Args:
        matcher: matches points of two photos; default: mutual nearest neighbours, as `MUTUAL` has it for the
            kind of the features.
        setting: how matches are verified.
        k: how many of each query's candidates are compared; the others stay behind them, as they were.
        remembered: how many pairs of photos are not compared again, of 2 to 20 kB.

    Raises:
        InputError: k below 1.
    """

    def __init__(
        self,
        matcher: PointMatcher | None = None,
        setting: VerifySetting = VerifySetting(),
        *,
        k: int = 20,
        remembered: int = 0,
    ) -> None:
        if k < 1:
            raise InputError(f"at least 1 candidate must be re-ranked; given k={k}")
        self.matcher, self.setting, self.k, self.remembered = matcher, setting, k, remembered
        self._pairs: OrderedDict[bytes, Verified] = OrderedDict()

    def verified(self, query: LocalFeatures, candidate: LocalFeatures) -> Verified:
        """What two photos have in common.

        Raises:
            InputError: features of two kinds.
        """
        pair = _digest(query) + _digest(candidate) if self.remembered else b""
        if pair in self._pairs:
            return self._pairs[pair]
        matcher = self.matcher or MUTUAL[query.kind]
        made = verify(query, candidate, matcher(query, candidate), self.setting)
        if self.remembered:
            self._pairs[pair] = made
            if len(self._pairs) > self.remembered:
                self._pairs.popitem(last=False)
        return made

    def scores(
        self,
        query: LocalFeatures,
        candidates: Sequence[LocalFeatures],
        distances_C: NDArray[np.floating] | None = None,
    ) -> NDArray[np.float64]:
        """Scores [C] of one query's candidates, smaller being better.

        Args:
            query: its points.
            candidates: those of each candidate.
            distances_C: of the first ranking, on any scale; None where there is none.

        Raises:
            InputError: features of two kinds.
        """
        return nearness_scores([self.verified(query, other) for other in candidates], distances_C)


def _digest(features: LocalFeatures) -> bytes:
    """What tells one photo's features from another's."""
    digest = hashlib.sha256(f"{features.kind} {features.size}".encode())
    digest.update(features.keypoints.tobytes())
    digest.update(features.scores.tobytes())
    return digest.digest()


def evidence(verified: Verified) -> float:
    """How much speaks for one place seen from nearby: a logarithm from 0, which is nothing.

    It grows with the matches, those that agree and the share of both photos that these cover, and falls with
    the change of scale. 0 where fewer than `DECISIVE` agree.
    """
    near = verified.nearness
    covered = min(near.coverage)
    if verified.inliers < DECISIVE or not covered > 0 or not near.scale > 0:
        return 0.0
    common = verified.tried / DECISIVE * verified.inliers / DECISIVE * covered / COVERED
    farther = FARTHER * min(1.0, (math.log(near.scale) / SCALED) ** 2)
    return max(0.0, math.log(common) / 2 - farther)


def nearness_scores(
    verified: Sequence[Verified], distances_C: NDArray[np.floating] | None = None
) -> NDArray[np.float64]:
    """Scores [C] of candidates, smaller being better.

    Args:
        verified: what each has in common with the query.
        distances_C: of the first ranking, on any scale; None where there is none.
    """
    gained_C = np.array([evidence(result) for result in verified], np.float64)
    if distances_C is None or not len(gained_C):
        return -gained_C
    first_C = np.asarray(distances_C, np.float64)
    spread = float(first_C.std())
    first_C = (first_C - first_C.min()) / spread if spread > 0 else np.zeros_like(first_C)
    return np.asarray(first_C - WEIGHT * gained_C)
