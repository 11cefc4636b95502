"""How sure an answer is: does the best place stand out from the other places of the map?

A nearest neighbour always exists, so its distance alone tells little: what is near depends on the model, the
map and the weather. But the *other* places of the map show, for this very query, how near a place comes by
chance. Let d1 < d2 < ... < dJ be the distances of the J nearest *places* (photos of one place count once).
Were none of them the query's, these would be the first order statistics of one sample, whose weighted
spacings j (d(j+1) - d(j)) are alike and exponentially distributed (Rényi 1953). So with n spacings beyond
the first, T = (d2 - d1) / mean of the others has the chance p = (1 + T/n)^-n of being that large: a
*surprise* of -log10 p. A surprise may come of a tiny difference, so it is taken together with the *lead*
1 - d1/d2, which tells how much nearer the best place is: a place stands out by the geometric mean of the two.

The confidence is a logistic curve in that number, fitted once on made towns
(``benchmarks/fit_confidence.py``) and checked on real photos that had no part in it (``docs/results.md``).
Nothing in it is set for a model, a map or a dataset.

Legend: K candidates of one query, nearest first; D descriptor size; J places.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

PLACES = 10
"""J: places compared."""
SAME_VIEW = 0.9
"""Map photos nearer to a place's best photo than this share of the query's distance show the same place."""
SAME_PLACE = 25.0
"""Photos within so many metres show one place."""
SAME_STRETCH = 0.05
"""Photos without positions show one place within this share of the list, as frames of a drive do."""
SLOPE, KNOWN_FROM = 13.1, 0.092
"""The logistic curve: its slope, and where it is one half."""
LARGEST_SURPRISE = 10.0
"""A chance of less than 1e-10 is as good as none."""


def same_place(rows_K: NDArray[np.int64], apart_KK: NDArray[np.float64], photos: int) -> NDArray[np.bool_]:
    """bool [K, K], whether two photos of a list are known to show one place.

    Args:
        rows_K: where they stand in the list.
        apart_KK: metres between them; NaN where that is not known: then frames near in the list do.
        photos: how many photos the list has.
    """
    stretch = max(3, round(SAME_STRETCH * photos))
    in_sequence = np.abs(rows_K[:, None] - rows_K) <= stretch
    return np.where(np.isnan(apart_KK), in_sequence, apart_KK <= SAME_PLACE)


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


def surprise(place_distances_J: NDArray[np.floating[Any]]) -> float:
    """-log10 of the chance that the nearest place is so much nearer than the others by chance; 0 to 10.

    Args:
        place_distances_J: distances of the nearest places, ascending. Of two, unrelated descriptors (at a
            right angle) stand in for a third; one place surprises no one.
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
        return LARGEST_SURPRISE if gaps[0] > 0 else 0.0
    return min(n * math.log10(1 + float(gaps[0]) / (usual * n)), LARGEST_SURPRISE)


def stand_out(place_distances_J: NDArray[np.floating[Any]]) -> float:
    """How far the nearest place stands out from the others: 0 not at all, about 0.2 for a clear answer.

    Args:
        place_distances_J: Euclidean distances of the nearest places, ascending.
    """
    if len(place_distances_J) < 2 or place_distances_J[1] <= 0:
        return 0.0
    lead = 1 - float(place_distances_J[0]) / float(place_distances_J[1])
    return math.sqrt(surprise(place_distances_J) * lead)


def confidence(standing: float) -> float:
    """Estimated probability that the nearest place is the query's, from how far it stands out."""
    return 1 / (1 + math.exp(-SLOPE * (standing - KNOWN_FROM)))
