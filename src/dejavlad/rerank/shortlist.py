"""Which candidates are worth an exact comparison, chosen by approximate scores of all.

Shapes: C candidates of one query, S patch sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from dejavlad.rerank.fusion import Scores

DIMS: Final = 128
"""Dimensions of a descriptor that approximate scores are made from."""
FIRST: Final = 8
"""Candidates that are compared exactly in any case, where the shortlist is "auto"."""
STEP: Final = 4
"""Further candidates that are then compared at a time."""
MOST: Final = 24
"""Candidates that are compared exactly at most: where none stands out, all are about equally wrong."""
CAUTION: Final = 1.5
"""How many times the largest error of the estimates seen so far the next ones are trusted to keep within."""

Shortlist = int | Literal["auto"] | None


def shortlisted(
    approximate_CS: Scores,
    exact: Callable[[NDArray[np.int64]], Scores],
    fuse: Callable[[Scores], Scores],
    shortlist: int | Literal["auto"],
) -> Scores:
    """Fused scores of all candidates, those on the shortlist from exact scores.

    What the others would score is estimated by a line from approximate to exact scores, fitted at each size
    to those compared so far: fusion needs the mean and the spread over all. With "auto" the list grows
    until the best exact score is further ahead of all estimates than these were ever wrong, or to `MOST`.

    Args:
        approximate_CS: approximate scores [C, S], smaller is better.
        exact: scores [n, S] of the candidates at these places.
        fuse: scores [C, S] made one, [C].
        shortlist: how many are compared exactly, or "auto".

    Returns:
        [C], smaller is better: those compared exactly come before the others.
    """
    order_C = np.argsort(fuse(approximate_CS), kind="stable")
    known_CS, compared_C = approximate_CS.copy(), np.zeros(len(approximate_CS), dtype=bool)
    step = FIRST if shortlist == "auto" else max(1, shortlist)
    while True:
        rest = order_C[~compared_C[order_C]]
        more = np.sort(rest[:step])
        known_CS[more] = exact(more)
        compared_C[more] = True
        guess_CS = _guess(approximate_CS, known_CS, compared_C)
        mixed_C = fuse(np.where(compared_C[:, None], known_CS, guess_CS))
        if compared_C.all():
            return mixed_C
        if shortlist != "auto" or compared_C.sum() >= MOST:
            break
        guess_C = fuse(guess_CS)
        wrong = np.abs(guess_C - mixed_C)[compared_C].max()
        if mixed_C[compared_C].min() + CAUTION * wrong < mixed_C[~compared_C].min():
            break
        order_C, step = np.argsort(mixed_C, kind="stable"), STEP
    behind = float(mixed_C[compared_C].max() - mixed_C[~compared_C].min())
    if behind > 0:
        mixed_C[~compared_C] += behind + 1e-6 * max(1.0, float(np.abs(mixed_C).max()))
    return mixed_C


def _guess(approximate_CS: Scores, known_CS: Scores, compared_C: NDArray[np.bool_]) -> Scores:
    """Exact scores as the approximate ones let expect them: a line a size, through those that are known."""
    approximate_NS, known_NS = approximate_CS[compared_C], known_CS[compared_C]
    apart_NS = approximate_NS - approximate_NS.mean(axis=0)
    spread_S = np.square(apart_NS).sum(axis=0)
    slope_S = np.ones(approximate_CS.shape[1])
    np.divide((apart_NS * known_NS).sum(axis=0), spread_S, out=slope_S, where=spread_S > 0)
    slope_S = slope_S.clip(0.5, 4.0)  # few points: chance must not turn the line over
    return np.asarray(known_NS.mean(axis=0) + slope_S * (approximate_CS - approximate_NS.mean(axis=0)))
