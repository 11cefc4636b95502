"""The curve of verified confidence, fitted on half of the sets of `known_unknown.py`.

    python benchmarks/fit_verified_confidence.py SHARED_DATA CACHE TOWN FITTED_TOWN [MODEL [ASKED]]

The fit is held near `FIRST`: sets that are told apart perfectly would have weights without bound.
"""

import sys

import numpy as np
from scipy.optimize import minimize

from dejavlad.places.verification.confidence import curve_terms
from known_unknown import FITTED, Row, answers

WRONG = 4.0
"""How much a photo of elsewhere that counts as known is worse than a right answer that does not."""
RIDGE = 0.03
"""Weight of the square of each weight's distance from `FIRST`, as a share of that, in the loss."""
FIRST = np.array([0.6, 3.6, 4.4, 7.9, -6.5])
"""COHERENT, ADVANTAGE, COVERAGE, STANDING and OFFSET of a first fit on fewer answers."""


def fit(rows: list[Row]) -> np.ndarray:
    """Weights of the terms, and the offset."""
    terms = np.array([curve_terms(row.evidence) for row in rows])
    right = np.array([row.kind == "right" for row in rows])
    share = right.mean()
    weight = np.where(right, 0.5 / share, WRONG * 0.5 / (1 - share))

    def loss(curve):
        logit = terms @ curve[:-1] + curve[-1]
        likelihood = (weight * np.logaddexp(0, np.where(right, -logit, logit))).mean()
        return float(likelihood + RIDGE * (((curve - FIRST) / np.abs(FIRST)) ** 2).sum())

    return minimize(loss, FIRST, bounds=[(0, None)] * 4 + [(None, None)]).x


if __name__ == "__main__":
    fitted = [row for row in answers(*sys.argv[1:]) if row.fitted]
    print(f"fitted on {len(fitted)} answers of {', '.join(FITTED)}")
    print("COHERENT, ADVANTAGE, COVERAGE, STANDING, OFFSET =", np.round(fit(fitted), 2).tolist())
