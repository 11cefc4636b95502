"""The scores of several patch sizes made one.

Shapes: C candidates of one query, S sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError

Scores = NDArray[np.float64]


def fuse_zscores(scores_CS: Scores, weights: Sequence[float] | None = None) -> Scores:
    """Weighted sum of each size's scores in standard deviations from their mean over the candidates.

    Equivalent to the fusion in feature_match.py (Patch-NetVLAD); a size at which all candidates score
    the same says nothing, and counts 0 instead of making all NaN.

    Args:
        scores_CS: smaller is better.
        weights: one a size; equal, with sum 1, unless given.

    Returns:
        [C], smaller is better.

    Raises:
        InputError: scores that are not [C, S] or not finite, or another number of weights.
    """
    scores_CS, weights_S = _checked(scores_CS, weights)
    if not len(scores_CS):
        return np.zeros(0)
    spread_S = scores_CS.std(axis=0)
    varies_S = (scores_CS != scores_CS[0]).any(axis=0) & (spread_S > 0)
    apart_CS = np.where(varies_S, scores_CS - scores_CS.mean(axis=0), 0.0)
    return np.asarray((apart_CS / np.where(varies_S, spread_S, 1.0)) @ weights_S)


def fuse_sum(scores_CS: Scores, weights: Sequence[float] | None = None) -> Scores:
    """Weighted sum of the scores as they are: minus what ``match_two.py`` of Patch-NetVLAD prints.

    Args and errors as for `fuse_zscores`.
    """
    scores_CS, weights_S = _checked(scores_CS, weights)
    return np.asarray(scores_CS @ weights_S)


FUSIONS: Final[dict[str, Callable[[Scores, Sequence[float] | None], Scores]]] = {
    "zscore": fuse_zscores,
    "sum": fuse_sum,
}
"""Name -> function that makes one score [C] of the scores [C, S] of all patch sizes."""


def _checked(scores_CS: Scores, weights: Sequence[float] | None) -> tuple[Scores, Scores]:
    scores_CS = np.asarray(scores_CS, dtype=np.float64)
    if scores_CS.ndim != 2 or not np.isfinite(scores_CS).all():
        raise InputError(f"scores to fuse must be finite and [C, S]; given {list(scores_CS.shape)}")
    sizes = scores_CS.shape[1]
    weights_S = np.full(sizes, 1 / max(1, sizes)) if weights is None else np.asarray(weights, np.float64)
    if weights_S.shape != (sizes,) or not np.isfinite(weights_S).all():
        raise InputError(f"{sizes} patch sizes need {sizes} finite weights; given {list(weights_S)}")
    return scores_CS, weights_S
