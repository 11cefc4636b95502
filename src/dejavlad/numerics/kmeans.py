"""k-means: Lloyd's iterations from seeded centres, chunked, the same answer for the same seed.

Not ``scipy.cluster.vq.kmeans2``, which ends at the same cost but always does all its iterations (134 s
where this takes 15 s: 30,000 points of 512 numbers, 64 centres, one core), adds up in float32, and leaves a
cluster empty that loses its points. Models' fingerprints depend on the exact centres, so they may not change
with a library's version either.

Shapes: N points, K centres, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError

Floats = NDArray[np.float32]

CHUNK_VALUES = 1 << 22
"""Values of the [chunk, max(K, D)] work arrays, so that memory beside the points stays bounded."""


def kmeans(
    points_ND: Floats,
    k: int,
    *,
    seed: int = 0,
    iterations: int = 100,
    init: Literal["k-means++", "random"] = "k-means++",
    tolerance: float = 1e-5,
) -> Floats:
    """Centres of k clusters that minimise the squared Euclidean distance of points to their nearest centre.

    Assignment is float32 on mean-centred points, sums are float64. A cluster that loses all its points is
    put on the point that is farthest from its own centre.

    Args:
        points_ND: [N, D], finite.
        k: number of clusters, 1 <= k <= N.
        seed: decides the first centres; nothing else is random.
        iterations: at most so many (NetVLAD's ``getClusters``: 100).
        init: ``"k-means++"`` (Arthur & Vassilvitskii 2007) or ``"random"`` distinct points (the default of
            Yael, which NetVLAD used).
        tolerance: end when an iteration lowers the sum of squared distances by less than this fraction.

    Returns:
        float32 [K, D].

    Raises:
        InputError: fewer points than k, k < 1, or points that are not finite.
    """
    points = _checked(points_ND, k)
    rng = np.random.default_rng(seed)
    mean = points.mean(axis=0, dtype=np.float64).astype(np.float32)
    points = points - mean
    start = _plus_plus(points, k, rng) if init == "k-means++" else rng.choice(len(points), k, replace=False)
    centres = points[start]
    last_cost, last_labels = np.inf, None
    for _ in range(iterations):
        labels, squared = nearest(points, centres)
        cost = float(squared.sum(dtype=np.float64))
        settled = last_labels is not None and np.array_equal(labels, last_labels)
        if settled or last_cost - cost <= tolerance * cost:
            break
        last_cost, last_labels = cost, labels
        centres = _means(points, labels, squared, k)
    return np.asarray(centres + mean, dtype=np.float32)


def nearest(points_ND: Floats, centres_KD: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Each point's nearest centre (ties: the smaller row) and the squared distance to it.

    Returns:
        int64 [N] rows of the centres, float32 [N] squared Euclidean distances (never below 0).
    """
    labels = np.empty(len(points_ND), dtype=np.int64)
    squared = np.empty(len(points_ND), dtype=np.float32)
    half_K = np.einsum("kd,kd->k", centres_KD, centres_KD, dtype=np.float64).astype(np.float32) / 2
    turned_DK = np.ascontiguousarray(centres_KD.T)
    for rows in _chunks(len(points_ND), max(centres_KD.shape)):
        chunk = points_ND[rows]
        closeness = chunk @ turned_DK
        closeness -= half_K
        labels[rows] = closeness.argmax(axis=1)
        gap = chunk - centres_KD[labels[rows]]
        squared[rows] = np.einsum("nd,nd->n", gap, gap)
    return labels, squared


def _checked(points_ND: Floats, k: int) -> Floats:
    points = np.ascontiguousarray(points_ND, dtype=np.float32)
    if points.ndim != 2:
        raise InputError(f"k-means needs points [N, D]; given {list(points.shape)}")
    if not 1 <= k <= len(points):
        raise InputError(
            f"k-means cannot make {k} clusters of {len(points)} points; valid: 1 to {len(points)}"
        )
    if not np.isfinite(points).all():
        raise InputError("k-means needs finite points; given NaN or infinity")
    return points


def _plus_plus(points: Floats, k: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows of k points, each drawn with probability by its squared distance to the ones drawn before."""
    rows = np.empty(k, dtype=np.int64)
    rows[0] = rng.integers(len(points))
    squared = np.full(len(points), np.inf, dtype=np.float32)
    for i in range(1, k):
        _, to_last = nearest(points, points[rows[i - 1 : i]])
        np.minimum(squared, to_last, out=squared)
        squared[rows[:i]] = 0.0  # exactly, whatever rounding makes of it: no point is drawn twice
        reached = np.cumsum(squared, dtype=np.float64)
        if reached[-1] > 0:
            drawn = np.searchsorted(reached, rng.random() * reached[-1], side="right")
            rows[i] = min(int(drawn), len(points) - 1)
        else:  # every point coincides with a drawn one
            rows[i] = rng.choice(np.setdiff1d(np.arange(len(points)), rows[:i]))
    return rows


def _means(points: Floats, labels: NDArray[np.int64], squared: Floats, k: int) -> Floats:
    """The mean of each cluster; an empty one is put on the point farthest from its own centre."""
    from scipy import sparse  # loads slowly

    n, d = points.shape
    sums = np.zeros((k, d), dtype=np.float64)
    for rows in _chunks(n, d):
        chunk = points[rows].astype(np.float64)
        member = sparse.csr_array(
            (np.ones(len(chunk)), labels[rows], np.arange(len(chunk) + 1)), shape=(len(chunk), k)
        )
        sums += member.T @ chunk
    counts = np.bincount(labels, minlength=k)
    centres = (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)
    empty = np.flatnonzero(counts == 0)
    if empty.size:
        farthest = np.argsort(-squared, kind="stable")[: empty.size]
        centres[empty] = points[farthest]
    return centres


def _chunks(n: int, width: int) -> Iterator[slice]:
    step = max(1, CHUNK_VALUES // max(1, width))
    for first in range(0, n, step):
        yield slice(first, min(first + step, n))
