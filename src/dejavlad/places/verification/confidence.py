"""One probability that an answer is right, from what the search says and from what the geometry says.

The search tells how far the best place stands out from the map's others (`confidence.stand_out`); that says
little where there are few others, so it counts by how many there are. The geometry tells how many points of
the best photo agree with the query's and move as their neighbours do, over how much of both photos they
spread, and how many times what comes by chance they are. What comes by chance differs: among leaves a dozen
points, in a street of houses built alike sixty. The photos of other places tell it, compared with the very
same query. A logistic curve that rises with each of these puts all four together.
Its few numbers are fitted by ``benchmarks/fit_verified_confidence.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

from dejavlad.places.confidence import PLACES
from dejavlad.rerank import Verified

KNOWN = 0.5
"""An answer counts as known from this probability on."""
CURVE = 0.65, 2.19, 5.13, 8.9, -5.09
"""The logistic curve: what the logarithm of 1 + coherent points, the logarithm of how many times chance they
are, the smaller coverage and the standing count, and the offset. Fitted with XFeat."""
SIFT_CURVE = 0.63, 1.98, 4.48, 9.94, -0.94
"""The same with SIFT, of whose points fewer agree, and far fewer by chance."""
CHANCE = 15
"""Coherent points that photos of different places reach in any case, however few of them were compared."""
LONE_CHANCE = 30
"""The same where no photo of another place was compared, so that chance is not known: the most that unrelated
photos reached."""
MOST_CHANCE = 100
"""Coherent points that chance does not exceed: a photo with more shows the same scene, wherever it stands."""
SOFT = 5
"""Points added on both sides before coherent points are compared with chance."""
MOST_STANDING = 0.5
"""A place that stands out further is not surer for it."""
SEARCH_SLOPE, SEARCH_FROM = 26.7, 0.13
"""The curve where nothing was verified: its slope, and the standing where it is one half."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for an answer."""

    standing: float
    """How far the best place stands out, from `confidence.stand_out`."""
    places: int
    """Distinct places that were compared, at most `confidence.PLACES`."""
    inliers: int = 0
    """Points of the best photo that agree with the query's."""
    coverage: float = 0.0
    """Share of the photo, of query or map whichever is less, over which they spread: 0 to 1."""
    runner_up: int = 0
    """Points that agree in the best photo of any other place."""
    coherent: int = 0
    """Points of the best photo that agree and move as their neighbours do (`dejavlad.rerank.coherence`)."""
    by_chance: int = 0
    """The most such points in a photo of any other place: what comes by chance in this map."""
    kind: str = ""
    """Of the local features."""

    def verified(self, pair: Verified, others: Iterable[Verified] = ()) -> Self:
        """The same with what geometry says.

        Args:
            pair: what the best photo has in common with the query.
            others: what photos of other places have.
        """
        rivals = [(other.inliers, other.nearness.coherent) for other in others]
        return replace(
            self,
            inliers=pair.inliers,
            coverage=min(pair.nearness.coverage),
            runner_up=max((inliers for inliers, _ in rivals), default=0),
            coherent=pair.nearness.coherent,
            by_chance=max((coherent for _, coherent in rivals), default=0),
            kind=pair.kind,
        )


def weighed_standing(evidence: Evidence) -> float:
    """The standing, by how many other places there are to stand out from: nothing of one place."""
    share = min(1.0, max(0, evidence.places - 1) / (PLACES - 1))
    return evidence.standing * share**2


def verified_confidence(evidence: Evidence) -> float:
    """Probability that the best photo shows the query's place, 0 to 1; falls with what comes by
    chance and rises with the rest (inliers and the runner-up are for `reason`)."""
    *weights, offset = SIFT_CURVE if evidence.kind == "sift" else CURVE
    return _logistic(offset + sum(w * x for w, x in zip(weights, curve_terms(evidence), strict=True)))


def curve_terms(evidence: Evidence) -> tuple[float, float, float, float]:
    """What the curve adds up, each by its weight."""
    least = CHANCE if evidence.places > 1 else LONE_CHANCE
    chance = min(max(evidence.by_chance, least), MOST_CHANCE)
    return (
        math.log1p(evidence.coherent),
        math.log((evidence.coherent + SOFT) / (chance + SOFT)),
        evidence.coverage,
        min(weighed_standing(evidence), MOST_STANDING),
    )


def search_confidence(evidence: Evidence) -> float:
    """The same where no geometry was looked at: a map of few places is never sure."""
    sure = _logistic(SEARCH_SLOPE * (weighed_standing(evidence) - SEARCH_FROM))
    return sure if evidence.places >= PLACES else min(sure, KNOWN * evidence.places / PLACES)


def reason(evidence: Evidence, name: str) -> str:
    """Why the answer is as sure as it is: ``142 points agree with 27.jpg; the next place has 9``."""
    if not evidence.inliers:
        return f"no points agree with {name}"
    noun = "point agrees" if evidence.inliers == 1 else "points agree"
    text = f"{evidence.inliers} {noun} with {name}"
    return f"{text}; the next place has {evidence.runner_up}" if evidence.places > 1 else text


def _logistic(logit: float) -> float:
    return 1 / (1 + math.exp(-max(-60.0, min(60.0, logit))))
