"""How sure an answer is: does the best place stand out from the other places of the map?

A nearest neighbour always exists, so its distance alone tells little: what is near depends on the model, the
map and the weather. But the *other* places of the map show, for this very query, how near a place comes by
chance. Let d1 < d2 < ... < dJ be the distances of the J nearest *places* (photos of one place count once).
Were none of them the query's, these would be the first order statistics of one sample, whose weighted
spacings j (d(j+1) - d(j)) are alike and exponentially distributed (Rényi 1953). So with n spacings beyond the
first, T = (d2 - d1) / mean of the others has the chance p = (1 + T/n)^-n of being that large, and the place
*stands out* by s = -log10 p. The confidence is a logistic curve in s, fitted once on made towns
(``benchmarks/fit_confidence.py``) and checked on real photos that had no part in it (``docs/results.md``).
Nothing in it is set for a model, a map or a dataset.

Legend: K candidates of one query, nearest first; D descriptor size; J places.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

PLACES = 10
"""J: places compared."""
SAME_VIEW = 0.9
"""Map photos nearer to a place's best photo than this share of the query's distance show the same place."""
SLOPE, KNOWN_FROM = 4.5, 0.3
"""The logistic curve: its slope, and the s at which confidence is one half."""


def distinct_places(
    distances_K: NDArray[np.float32],
    same_KK: NDArray[np.bool_],
    rows_KD: NDArray[np.float32],
    *,
    most: int = PLACES,
) -> NDArray[np.int64]:
    """The nearest photo of each of the nearest places.

    Args:
        distances_K: Euclidean distances of the candidates, ascending.
        same_KK: whether two candidates are known to show one place (near each other on the ground, or in the
            sequence).
        rows_KD: their descriptors, to see which look alike though nothing else is known of them.
        most: stop after so many places.

    Returns:
        int64 candidates, nearest first, at most `most`.
    """
    left = np.ones(len(distances_K), dtype=bool)
    best: list[int] = []
    while left.any() and len(best) < most:
        i = int(left.argmax())
        best.append(i)
        apart = np.sqrt(np.maximum(2 - 2 * (rows_KD @ rows_KD[i]), 0))
        left &= ~(same_KK[i] | (apart < SAME_VIEW * distances_K[i]))
        left[i] = False
    return np.array(best, dtype=np.int64)


def stand_out(place_distances_J: NDArray[np.float32]) -> float:
    """s: how far the nearest place stands out from the others; 0 not at all, 1 as one chance in ten.

    Args:
        place_distances_J: distances of the nearest places, ascending. Of two, unrelated descriptors (at a
            right angle) stand in for a third; one place can't stand out, and s is 0.
    """
    places = place_distances_J.astype(np.float64)
    if len(places) == 2:
        places = np.append(places, max(math.sqrt(2), places[1]))
    if len(places) < 3:
        return 0.0
    gaps = np.diff(places) * np.arange(1, len(places))
    n = len(gaps) - 1
    usual = float(gaps[1:].mean())
    if usual <= 0:
        return 0.0 if gaps[0] <= 0 else math.inf
    return n * math.log10(1 + float(gaps[0]) / (usual * n))


def confidence(s: float) -> float:
    """Estimated probability that the nearest place is the query's, from how far it stands out."""
    return 1 / (1 + math.exp(-min(SLOPE * (s - KNOWN_FROM), 700.0)))
