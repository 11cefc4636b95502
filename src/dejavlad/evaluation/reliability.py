"""Is an answer's confidence what it says: of the answers at 0.8, are four in five right?

Answers are put into bins by confidence; in each, the mean confidence stands beside the share that are right
(Murphy 1973; Guo et al., ICML 2017). Beside them: how many right and wrong answers count as known, how well
the confidence tells one from the other at all, and how far off the stated positions are.

Legend: N answers, B bins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dejavlad.errors import InputError

BINS: Final = 5
"""B, of equal width from 0 to 1."""
KNOWN_FROM: Final = 0.5
"""Confidence from which on an answer counts as known."""


@dataclass(frozen=True, slots=True)
class Bin:
    """The answers of about one confidence."""

    low: float
    """Smallest confidence, included."""
    high: float
    """Largest confidence, left out but where it is 1."""
    answers: int
    """How many answers have it, at least 1."""
    confidence: float
    """Their mean confidence, 0 to 1."""
    right: float
    """The share of them that are right, 0 to 1."""
    position_error: float | None
    """Median distance in metres of the stated positions from the true ones; None where none is known."""

    @property
    def off(self) -> float:
        """How much too sure they are, -1 to 1; below 0 too unsure."""
        return self.confidence - self.right


@dataclass(frozen=True, slots=True)
class Reliability:
    """How far confidences can be trusted."""

    bins: tuple[Bin, ...]
    """The bins that have answers, the least sure first."""
    right: int
    """Right answers."""
    wrong: int
    """Wrong answers, with those to photos that have no right one."""
    known_right: float | None
    """The share of right answers that count as known; None where there are none."""
    known_wrong: float | None
    """The share of wrong answers that count as known; None where there are none."""
    roc_area: float | None
    """The chance that a right answer is surer than a wrong one; None where there are none to compare."""
    position_error: tuple[float, float] | None
    """Median and 90th percentile, over known answers, of the distance of the stated position from the true
    one in metres; None where none is known."""
    within_stated: float | None = None
    """The share of known answers whose position is no farther off than the uncertainty that they state."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        ends = {"low": "from", "high": "to"}
        bins = [{ends.get(name, name): value for name, value in asdict(b).items()} for b in self.bins]
        error = None if self.position_error is None else list(self.position_error)
        return {**asdict(self), "bins": bins, "position_error": error}

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> Self:
        """What `to_dict` made; raises KeyError, TypeError or ValueError of anything else."""
        error = description["position_error"]
        return cls(
            tuple(
                Bin(
                    float(b["from"]),
                    float(b["to"]),
                    int(b["answers"]),
                    float(b["confidence"]),
                    float(b["right"]),
                    _number(b["position_error"]),
                )
                for b in description["bins"]
            ),
            int(description["right"]),
            int(description["wrong"]),
            _number(description["known_right"]),
            _number(description["known_wrong"]),
            _number(description["roc_area"]),
            None if error is None else (float(error[0]), float(error[1])),
            _number(description["within_stated"]),
        )

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        parts = []
        if self.known_right is not None:
            parts.append(f"{self.known_right:.1%} of {self.right} right answers")
        if self.known_wrong is not None:
            parts.append(f"{self.known_wrong:.1%} of {self.wrong} wrong ones")
        yield f"known: {' and '.join(parts)}" if parts else "known: no answers"
        if self.roc_area is not None:
            yield f"area under the ROC {self.roc_area:.3f}"
        if self.position_error is not None:
            median, most = self.position_error
            line = f"position error of known answers: {median:.1f} m (median), {most:.1f} m (90 %)"
            if self.within_stated is not None:
                line += f"; {self.within_stated:.0%} within the stated uncertainty"
            yield line
        for b in self.bins:
            metres = "" if b.position_error is None else f", position error {b.position_error:.1f} m"
            yield (
                f"  confidence {b.low:.1f} to {b.high:.1f}: {b.answers} answers, mean {b.confidence:.2f}, "
                f"right {b.right:.2f}{metres}"
            )


def reliability(
    confidence_N: ArrayLike,
    right_N: ArrayLike,
    position_error_N: ArrayLike | None = None,
    uncertainty_N: ArrayLike | None = None,
    *,
    bins: int = BINS,
) -> Reliability:
    """How far confidences can be trusted.

    Args:
        confidence_N: probabilities of 0 to 1.
        right_N: whether each answer is right.
        position_error_N: metres from the stated to the true position; NaN where either is not known.
        uncertainty_N: metres within which each position is stated to be; NaN where it is not.
        bins: B.

    Raises:
        InputError: the lists are not of one length, a confidence is none, or no bin is asked for.
    """
    sure_N = np.asarray(confidence_N, np.float64).ravel()
    good_N = np.asarray(right_N, bool).ravel()
    nothing_N = np.full(len(sure_N), np.nan)
    metres_N, stated_N = (
        nothing_N if given is None else np.asarray(given, np.float64).ravel()
        for given in (position_error_N, uncertainty_N)
    )
    if len({len(sure_N), len(good_N), len(metres_N), len(stated_N)}) != 1 or bins < 1:
        raise InputError(
            f"reliability needs as many confidences, answers, errors and uncertainties, and a bin; given "
            f"{len(sure_N)}, {len(good_N)}, {len(metres_N)}, {len(stated_N)} and {bins}"
        )
    if not ((sure_N >= 0) & (sure_N <= 1)).all():
        raise InputError("confidences are probabilities of 0 to 1")
    known_N = sure_N >= KNOWN_FROM
    placed_N = known_N & ~np.isnan(metres_N)
    compared_N = placed_N & ~np.isnan(stated_N)
    return Reliability(
        tuple(_bins(sure_N, good_N, metres_N, bins)),
        int(good_N.sum()),
        int((~good_N).sum()),
        _mean(known_N[good_N]),
        _mean(known_N[~good_N]),
        roc_area(sure_N[good_N], sure_N[~good_N]),
        (float(np.median(metres_N[placed_N])), float(np.quantile(metres_N[placed_N], 0.9)))
        if placed_N.any()
        else None,
        _mean(metres_N[compared_N] <= stated_N[compared_N]),
    )


def roc_area(right_R: ArrayLike, wrong_W: ArrayLike) -> float | None:
    """The chance that one of the right has a larger value than one of the wrong; equal ones count half."""
    right, wrong = np.asarray(right_R, np.float64), np.sort(np.asarray(wrong_W, np.float64))
    if not len(right) or not len(wrong):
        return None
    below, up_to = (np.searchsorted(wrong, right, side) for side in ("left", "right"))
    return float((below + up_to).mean() / (2 * len(wrong)))


def _bins(
    sure_N: NDArray[np.float64], good_N: NDArray[np.bool_], metres_N: NDArray[np.float64], bins: int
) -> Iterator[Bin]:
    at_N = np.minimum((sure_N * bins).astype(np.int64), bins - 1)
    for b in range(bins):
        in_bin = at_N == b
        if in_bin.any():
            errors = metres_N[in_bin & ~np.isnan(metres_N)]
            yield Bin(
                b / bins,
                (b + 1) / bins,
                int(in_bin.sum()),
                float(sure_N[in_bin].mean()),
                float(good_N[in_bin].mean()),
                float(np.median(errors)) if len(errors) else None,
            )


def _mean(values: Sequence[bool] | NDArray[np.bool_]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
