"""The curve of verified confidence, fitted on half of the sets of `known_unknown.py`.

    python benchmarks/fit_verified_confidence.py SHARED_DATA CACHE TOWN FITTED_TOWN [MODEL [VERIFY [ASKED]]]

Right and wrong answers count alike, however many there are of each. The fit is held near `FIRST`: sets that
are told apart perfectly would have weights without bound. The curve of XFeat was fitted with ASKED=16,
that of SIFT with 6.
"""

import sys

import numpy as np
from scipy.optimize import minimize

from dejavlad.places.verification.confidence import curve_terms
from known_unknown import FITTED, Row, answers

RIDGE = 0.03
"""Weight of the square of each weight's distance from `FIRST`, as a share of that, in the loss."""
FIRST = np.array([0.6, 3.6, 4.4, 7.9, -6.5])
"""Coherent, advantage, coverage, standing and offset of a first fit on fewer answers."""


def fit(rows: list[Row]) -> np.ndarray:
    """Weights of the terms, and the offset."""
    terms = np.array([curve_terms(row.evidence) for row in rows])
    right = np.array([row.kind == "right" for row in rows])
    weight = np.where(right, 0.5 / right.mean(), 0.5 / (1 - right.mean()))

    def loss(curve):
        logit = terms @ curve[:-1] + curve[-1]
        likelihood = (weight * np.logaddexp(0, np.where(right, -logit, logit))).mean()
        return float(likelihood + RIDGE * (((curve - FIRST) / np.abs(FIRST)) ** 2).sum())

    return minimize(loss, FIRST, bounds=[(0, None)] * 4 + [(None, None)]).x


if __name__ == "__main__":
    fitted = answers(*sys.argv[1:], maps=FITTED)
    curve = fit(fitted)
    for kind in ("right", "unrelated", "district"):
        terms = np.array([curve_terms(row.evidence) for row in fitted if row.kind == kind])
        print(f"{kind}: {len(terms)}, known: {(terms @ curve[:-1] + curve[-1] >= 0).mean():.3f}")
    print("coherent, advantage, coverage, standing, offset =", np.round(curve, 2).tolist())
