"""The doctor while training goes on: what each refresh of the descriptors tells, and what the records tell.

Legend: Q queries, N database photos, D numbers of a descriptor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dejavlad.training.config.options import TrainConfig
from dejavlad.training.diagnostics.finding import Finding
from dejavlad.training.sampling.mining import Descriptors, Floats

T = TypeVar("T", bound=np.generic)

SAMPLED_QUERIES, SAMPLED_ROWS = 64, 2000
NEIGHBOURS = 10
COLLAPSED = 1e-4
"""Median squared distance of photos below which all of them are alike."""
STALE = 0.3
"""Share of neighbours that are still neighbours below which mining went by what was no longer true."""
JUMP, PERIODS = 1.5, 3
"""The loss is periodic where it rises by this factor at so many refreshes running."""
EASY_BATCHES = 10
"""At the beginning; where nothing violates in any of them, nothing is learnt."""


def refresh_statistics(before: Descriptors | None, now: Descriptors) -> dict[str, float]:
    """What a refresh tells of the descriptors.

    Returns:
        ``spread``, the median squared distance of photos of the database; with `before`, ``kept``: of the
        nearest photos of a query by the descriptors of before, the share that still are.
    """
    rows_ND = evenly_spread(now.database_ND, SAMPLED_ROWS)
    values = {"spread": round(spread(evenly_spread(rows_ND, 200)), 8)}
    if before is not None:
        old_rows_ND = evenly_spread(before.database_ND, SAMPLED_ROWS)
        old = _neighbours(evenly_spread(before.queries_QD, SAMPLED_QUERIES), old_rows_ND)
        new = _neighbours(evenly_spread(now.queries_QD, SAMPLED_QUERIES), rows_ND)
        shared = [len(set(a) & set(b)) / len(a) for a, b in zip(old.tolist(), new.tolist(), strict=True)]
        values["kept"] = round(float(np.mean(shared)), 4)
    return values


def spread(rows_ND: Floats) -> float:
    """Median squared distance of different rows; those of photos that could not be read are zeros."""
    rows_ND = rows_ND[np.any(rows_ND != 0, axis=1)]
    if len(rows_ND) < 2:
        return 0.0
    rows_ND = rows_ND - rows_ND.mean(axis=0)  # so that rounding is small beside what is left
    products = (rows_ND @ rows_ND.T).astype(np.float64)
    lengths = np.diagonal(products)
    squared = lengths[:, None] + lengths - 2 * products
    return float(max(0.0, np.median(squared[np.triu_indices(len(rows_ND), 1)])))


def _neighbours(queries_QD: Floats, rows_ND: Floats) -> np.ndarray:
    count = max(1, min(NEIGHBOURS, len(rows_ND) // 5))
    gap = np.vecdot(rows_ND, rows_ND) - 2 * (queries_QD @ rows_ND.T)
    return np.argsort(gap, axis=1, kind="stable")[:, :count]


def evenly_spread(rows: NDArray[T], most: int) -> NDArray[T]:
    """At most so many of some rows, evenly spread, as an array of their own."""
    return np.ascontiguousarray(rows[:: max(1, -(-len(rows) // most))])


def collapsed(median: float) -> Finding:
    """The finding that all photos are described alike; `median` is that of their squared distances."""
    return Finding(
        "collapsed descriptors",
        f"half of all pairs of photos are less than {median:.1e} apart (squared distance; 2 is unrelated)",
        "the network says the same of every photo, and the loss has no way out of that",
        "Begin again with a smaller learning_rate, or another --init; are the photos of different places?",
    )


class Monitor:
    """Looks at the records of a run as they come; says each fault once."""

    def __init__(self, config: TrainConfig) -> None:
        self._config = config
        self._reported: set[str] = set()
        self._batches = self._violating = 0
        self._losses: list[float] = []
        """Losses of the batches since the last refresh."""
        self._before: list[float] = []
        """The last ones before it; none, where they were too few."""
        self._jumps: list[tuple[float, float]] = []
        """At each refresh, the loss just before and just after."""
        self._stale = 0

    def __call__(self, record: Mapping[str, Any]) -> list[Finding]:
        """Faults that a new record shows and that were not reported before."""
        finding = {
            "warning": self._warned,
            "batch": self._batch,
            "refresh": self._refreshed,
        }.get(record["kind"], lambda _: None)(record)
        if finding is None or finding.fault in self._reported:
            return []
        self._reported.add(finding.fault)
        return [finding]

    def _warned(self, record: Mapping[str, Any]) -> None:
        self._reported.add(record["fault"])

    def _batch(self, record: Mapping[str, Any]) -> Finding | None:
        self._batches += 1
        self._violating += record["violating"]
        self._losses.append(record["loss"])
        if record.get("spread", 1.0) < COLLAPSED:
            return collapsed(record["spread"])
        if self._batches == EASY_BATCHES and not self._violating:
            if not self._config.mines:
                return _no_pairs(self._config)
            return never_violated(
                f"no negative violated it in the first {EASY_BATCHES} batches", self._config.margin
            )
        if self._before and len(self._losses) == len(self._before):
            self._jumps.append((_mean(self._before), _mean(self._losses)))
            return self._periodic()
        return None

    def _periodic(self) -> Finding | None:
        last = self._jumps[-PERIODS:]
        least = 0.05 * self._config.margin
        if len(last) < PERIODS or any(b < JUMP * a or b - a < least for a, b in last):
            return None
        jumps = ", ".join(f"{a:.3g} to {b:.3g}" for a, b in last)
        return _stale(f"the loss jumps up whenever photos are described anew (from {jumps})", self._config)

    def _refreshed(self, record: Mapping[str, Any]) -> Finding | None:
        width = min(20, len(self._losses) // 3)
        self._before = self._losses[-width:] if width >= 4 else []
        self._losses = []
        if record.get("spread", 1.0) < COLLAPSED:
            return collapsed(record["spread"])
        if "kept" in record:
            self._stale = self._stale + 1 if record["kept"] < STALE else 0
            if self._stale == 2:
                return _stale(
                    f"when photos were described anew, {record['kept']:.0%} of a query's nearest photos "
                    "still were the nearest, twice running",
                    self._config,
                )
        return None


def never_violated(seen: str, margin: float) -> Finding:
    """The finding that nothing violates the margin; `seen` says where that was looked for."""
    return Finding(
        "a margin that nothing violates",
        f"the margin is {margin:g}, and {seen}",
        "a negative that is farther than the positive by the margin teaches nothing, so the weights stay as "
        "they are",
        f"Set a larger margin (--set margin={3 * margin:g}), or more negatives; or is the training set too "
        "easy?",
    )


def never_tested(patience: int) -> Finding:
    """The finding that a run with `patience` has no validation set to judge its epochs by."""
    return Finding(
        "patience without a validation set",
        f"patience is {patience}, and no validation set is given",
        "which epoch was the best is not known, so that all epochs are gone through",
        "Give a validation set, or set patience=0",
    )


def _no_pairs(config: TrainConfig) -> Finding:
    return Finding(
        "pairs that teach nothing",
        f"ms_epsilon is {config.ms_epsilon:g}, and no pair was mined in the first {EASY_BATCHES} batches",
        "places that are told apart by so much already leave the weights as they are",
        f"Set a larger ms_epsilon (--set ms_epsilon={3 * config.ms_epsilon:g}), or more places in a batch "
        f"(--set batch_size={2 * config.batch_size}); or is the training set too easy?",
    )


def _stale(seen: str, config: TrainConfig) -> Finding:
    if config.mining == "subcache":
        steps = max(1, config.cached_queries // (4 * config.batch_size))
        option = f"cached_queries={steps * config.batch_size}"
    else:
        option = f"refresh_every={max(1, config.refresh_every // 4)}"
    return Finding(
        "stale cache",
        seen,
        "in between, positives and negatives are chosen by what the network no longer says, and what it "
        "learns there is forgotten",
        f"Refresh more often (--set {option}), or take smaller steps (--set learning_rate="
        f"{config.learning_rate / 3:.2g})",
    )


def _mean(losses: list[float]) -> float:
    return float(np.mean(losses))
