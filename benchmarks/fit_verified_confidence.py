"""The curve of verified confidence, fitted on half of the sets of `known_unknown.py`.

    python benchmarks/fit_verified_confidence.py SHARED_DATA CACHE TOWN FITTED_TOWN [MODEL [ASKED]]

The fit is held near the weights in use: sets that are told apart perfectly would have weights without bound.
"""

import sys

import numpy as np
from scipy.optimize import minimize

from dejavlad.places.verified_confidence import ADVANTAGE, COHERENT, COVERAGE, OFFSET, STANDING, curve_terms
from known_unknown import FITTED, Row, answers

WRONG = 4.0
"""How much a photo of elsewhere that counts as known is worse than a right answer that does not."""
RIDGE = 0.003
"""Weight of the square of each weight's distance from that in use, in the loss."""


def fit(rows: list[Row]) -> np.ndarray:
    """Weights of the terms, and the offset."""
    terms = np.array([curve_terms(row.evidence) for row in rows])
    right = np.array([row.kind == "right" for row in rows])
    share = right.mean()
    weight = np.where(right, 0.5 / share, WRONG * 0.5 / (1 - share))
    used = np.array([COHERENT, ADVANTAGE, COVERAGE, STANDING, OFFSET])

    def loss(curve):
        logit = terms @ curve[:-1] + curve[-1]
        likelihood = (weight * np.logaddexp(0, np.where(right, -logit, logit))).mean()
        return float(likelihood + RIDGE * (((curve - used) / np.abs(used)) ** 2).sum())

    return minimize(loss, used, bounds=[(0, None)] * 4 + [(None, None)]).x


if __name__ == "__main__":
    fitted = [row for row in answers(*sys.argv[1:]) if row.fitted]
    print(f"fitted on {len(fitted)} answers of {', '.join(FITTED)}")
    print("COHERENT, ADVANTAGE, COVERAGE, STANDING, OFFSET =", np.round(fit(fitted), 1).tolist())
