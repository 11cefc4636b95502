"""Precision and recall of answers that may be wrong, over the score from which on they are given.

Legend: N answers, R answers that there are to find.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dejavlad.errors import InputError

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class PrecisionRecall:
    """The curve: one point for each score that an answer has, the surest first.

    Answers of equal score are given together, so they are one point.
    """

    scores: Floats
    """float64 [P] descending: what is given from here on."""
    right: NDArray[np.int64]
    """int64 [P], right answers among those with this score or more."""
    given: NDArray[np.int64]
    """int64 [P], answers with this score or more."""
    relevant: int
    """R, how many right answers there are to find."""

    @property
    def precision(self) -> Floats:
        """float64 [P]: the share of given answers that are right."""
        return self.right / self.given

    @property
    def recall(self) -> Floats:
        """float64 [P]: the share of what there is to find that is found."""
        return self.right / max(self.relevant, 1)

    @property
    def auc(self) -> float:
        """The area under the curve by steps: precision times what recall gains, summed."""
        return float((np.diff(self.recall, prepend=0.0) * self.precision).sum())

    @property
    def recall_at_full_precision(self) -> float:
        """The largest recall at which no answer is wrong; 0 where the surest one is."""
        return float(self.recall[self._faultless - 1]) if self._faultless else 0.0

    @property
    def score_at_full_precision(self) -> float | None:
        """The lowest score from which on no answer is wrong; None where the surest one is."""
        return float(self.scores[self._faultless - 1]) if self._faultless else None

    @property
    def f1(self) -> Floats:
        """float64 [P]: the harmonic mean of precision and recall."""
        return 2 * self.right / (self.given + max(self.relevant, 1))

    @property
    def best(self) -> int | None:
        """The point of the largest F1, the surest of equals; None where there is no answer."""
        return int(self.f1.argmax()) if len(self.scores) else None

    @property
    def _faultless(self) -> int:
        """How many points come before the first wrong answer."""
        return int((self.right == self.given).sum())

    def recall_at(self, precision: float) -> float:
        """The largest recall at this precision or more."""
        reached = self.recall[self.precision >= precision]
        return float(reached.max(initial=0.0))

    def to_dict(self) -> dict[str, Any]:
        """The figures, for JSON."""
        figures: dict[str, Any] = {
            "auc": self.auc,
            "recall_at_100_precision": self.recall_at_full_precision,
            "score_at_100_precision": self.score_at_full_precision,
            "recall_at_99_precision": self.recall_at(0.99),
        }
        if self.best is not None:
            figures |= {
                "max_f1": float(self.f1[self.best]),
                "max_f1_score": float(self.scores[self.best]),
                "max_f1_precision": float(self.precision[self.best]),
                "max_f1_recall": float(self.recall[self.best]),
            }
        return figures


def precision_recall(scores: ArrayLike, right: ArrayLike, relevant: int) -> PrecisionRecall:
    """The curve of answers with scores.

    Args:
        scores: [N], larger is surer.
        right: bool [N], whether each answer is right.
        relevant: R, the right answers there are to find, given or not.

    Raises:
        InputError: numbers of scores and answers differ, a score is NaN, or fewer are relevant than right.
    """
    score_N, right_N = np.asarray(scores, np.float64), np.asarray(right)
    if score_N.ndim != 1 or score_N.shape != right_N.shape:
        raise InputError(f"one score an answer: given {list(score_N.shape)} and {list(right_N.shape)}")
    if np.isnan(score_N).any():
        raise InputError(f"{int(np.isnan(score_N).sum())} of {len(score_N)} scores are NaN")
    right_N = right_N.astype(bool)
    if relevant < right_N.sum():
        raise InputError(f"{int(right_N.sum())} answers are right, but only {relevant} are there to find")
    order = np.argsort(-score_N, kind="stable")
    ordered = score_N[order]
    last = np.append(ordered[1:] != ordered[:-1], True)[: len(ordered)]
    given = np.arange(1, len(ordered) + 1)
    return PrecisionRecall(ordered[last], np.cumsum(right_N[order])[last], given[last], int(relevant))
