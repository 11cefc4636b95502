"""One probability that an answer is right, from what the search says and from what the geometry says.

The search tells how far the best place stands out from the map's others (`confidence.stand_out`); that says
little where there are few others, so it counts by how many there are. The geometry tells how many points of
the best photo agree with the query's, over how much of both photos they spread, and how many more they are
than those of the best photo of any other place. A logistic curve that rises with each of them puts all four
together.
Its few numbers are fitted by ``benchmarks/fit_verified_confidence.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from dejavlad.places.confidence import PLACES

KNOWN = 0.5
"""An answer counts as known from this probability on."""
INLIERS, COVERAGE, ADVANTAGE, STANDING, OFFSET = 3.4, 12.4, 1.0, 7.5, -17.7
"""The logistic curve: what the logarithm of 1 + inliers, the smaller coverage, the logarithm of how many
times the next place's inliers they are, and the standing count."""
CHANCE = 5
"""Points that agree by chance, added on both sides before inliers of two places are compared."""
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


def weighed_standing(evidence: Evidence) -> float:
    """The standing, by how many other places there are to stand out from: nothing of one place."""
    share = min(1.0, max(0, evidence.places - 1) / (PLACES - 1))
    return evidence.standing * share**2


def verified_confidence(evidence: Evidence) -> float:
    """Probability that the best photo shows the query's place, 0 to 1; rises with all but the runner-up."""
    logit = (
        OFFSET
        + INLIERS * math.log1p(evidence.inliers)
        + COVERAGE * evidence.coverage
        + ADVANTAGE * math.log((evidence.inliers + CHANCE) / (evidence.runner_up + CHANCE))
        + STANDING * min(weighed_standing(evidence), MOST_STANDING)
    )
    return _logistic(logit)


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
