"""Mean average precision: how near the top of a ranking all right answers of a query are.

- ``oxford``: Oxford 5k, Paris 6k and Holidays. With h right answers among the first r, of n in all,
  precision is h / r and recall h / n; AP is the area under precision over recall by trapezoids, beginning at
  precision 1. Equivalent to ``relja_retrievalMAP.m`` of NetVLAD, ``compute_ap.cpp`` and ``holidays_map.py``.
- ``revisited``: the same, and the mean precision at k of revisited Oxford and Paris (``compute_map`` of
  revisitop): k is cut to the rank of the last right answer.
- ``msls``: mAP@k of Mapillary Street-Level Sequences (``mapk``): precision at each right answer among the
  first k, summed, over the smaller of k and n.

Rows that the truth ignores (junk, the query itself) are taken out of a ranking first. A query without any
right answer has no average precision and is left out of the mean.

Legend: Q queries, K depth of the ranking, R right answers of a query that are ranked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError, UnknownNameError
from dejavlad.evaluation.recall import check_fits
from dejavlad.ground_truth.truth import Truth
from dejavlad.ranking import Ranking

REVISITED_AT: Final = (1, 5, 10)
MSLS_AT: Final = (1, 5, 10, 20)

Floats = NDArray[np.float64]
Ranks = list[NDArray[np.int64]]


def hit_ranks(ranking: Ranking, truth: Truth) -> Ranks:
    """The ranks of each query's right answers, from 1 and ascending; those not ranked are not there.

    Returns:
        Q arrays int64.

    Raises:
        InputError: ranking and truth are of other numbers of queries or photos, or a row is ranked twice.
    """
    indices = ranking.indices
    check_fits(ranking, truth)
    ordered = np.sort(indices, axis=1)
    if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any():
        raise InputError("the ranking names a database photo twice for one query; each counts once")
    right = truth.positives.contains(indices)
    places = np.broadcast_to(np.arange(1, indices.shape[1] + 1), indices.shape)
    if truth.ignored is not None:
        places = places - np.cumsum(truth.ignored.contains(indices), axis=1)
    return [place[is_right] for place, is_right in zip(places, right, strict=True)]


def average_precisions(ranking: Ranking, truth: Truth) -> Floats:
    """float64 [Q]: the area under precision over recall by trapezoids; NaN without a right answer.

    Raises:
        InputError: see `hit_ranks`; or the ranking ends before a query's last right answer.
    """
    ranks = hit_ranks(ranking, truth)
    _require_whole(ranking, truth, ranks)
    return _each(ranks, truth, _trapezoid)


def precisions_at(ranking: Ranking, truth: Truth, k: int) -> Floats:
    """float64 [Q]: the share of right answers among the first k (at most to the last right one).

    Raises:
        InputError: see `average_precisions`; or k is below 1.
    """
    ranks = hit_ranks(ranking, truth)
    _require_whole(ranking, truth, ranks)
    return _each(ranks, truth, lambda ranks_R, _: _precision(ranks_R, _positive(k)))


def average_precisions_at(ranking: Ranking, truth: Truth, k: int) -> Floats:
    """float64 [Q]: mean precision at the right answers among the first k; NaN without a right answer.

    Raises:
        InputError: see `hit_ranks`; k is below 1, or the ranking is less deep.
    """
    _positive(k)
    if ranking.depth < min(k, truth.n_database):
        raise InputError(f"mAP@{k} needs a ranking {k} deep; this one is {ranking.depth} deep")

    def step(ranks_R: NDArray[np.int64], n: int) -> float:
        first = ranks_R[ranks_R <= k]
        return float((np.arange(1, len(first) + 1) / first).sum() / min(n, k))

    return _each(hit_ranks(ranking, truth), truth, step)


def mean(values: Floats) -> float:
    """The mean over the queries that have a right answer.

    Raises:
        InputError: none has.
    """
    known_values = values[~np.isnan(values)]
    if not len(known_values):
        raise InputError("no query has a right answer: there is no mean average precision")
    return float(known_values.mean())


def map_metrics(ranking: Ranking, truth: Truth, measure: str) -> dict[str, float]:
    """Name -> value of what a dataset is measured by, as fractions.

    Args:
        ranking: whole (every database photo, best first) for ``oxford`` and ``revisited``.
        truth: right and ignored rows.
        measure: ``oxford``, ``revisited`` or ``msls``.

    Raises:
        UnknownNameError: no such measure.
        InputError: the ranking does not fit the truth, or is not deep enough.
    """
    if measure not in MEASURES:
        raise UnknownNameError("measure", measure, MEASURES)
    return MEASURES[measure](ranking, truth)


def measured(ranking: Ranking, truth: Truth) -> dict[str, float]:
    """The figures that a truth asks for by its ``measure``.

    None where it asks for none, or no query has a right answer.

    Raises:
        InputError: see `map_metrics`.
    """
    measure = truth.measure
    return {} if measure is None or not truth.answerable.any() else map_metrics(ranking, truth, measure)


def needs_whole(truth: Truth | None) -> bool:
    """Whether what a truth asks for needs rankings of the whole database."""
    return truth is not None and truth.measure in WHOLE


def _oxford(ranking: Ranking, truth: Truth) -> dict[str, float]:
    return {"mAP": mean(average_precisions(ranking, truth))}


def _revisited(ranking: Ranking, truth: Truth) -> dict[str, float]:
    return _oxford(ranking, truth) | {f"mP@{k}": mean(precisions_at(ranking, truth, k)) for k in REVISITED_AT}


def _msls(ranking: Ranking, truth: Truth) -> dict[str, float]:
    deepest = max(ranking.depth, 1)
    return {
        f"mAP@{k}": mean(average_precisions_at(ranking, truth, k))
        for k in MSLS_AT
        if k <= deepest or k == MSLS_AT[0]
    }


MEASURES: Final[Mapping[str, Callable[[Ranking, Truth], dict[str, float]]]] = {
    "oxford": _oxford,
    "revisited": _revisited,
    "msls": _msls,
}
"""Name of a measure -> its figures."""
WHOLE: Final = ("oxford", "revisited")
"""Measures that count every right answer, however far down."""


def _each(ranks: Ranks, truth: Truth, figure: Callable[[NDArray[np.int64], int], float]) -> Floats:
    counts: Sequence[int] = truth.positives.counts.tolist()
    return np.array(
        [figure(ranks_R, n) if n else np.nan for ranks_R, n in zip(ranks, counts, strict=True)], np.float64
    )


def _trapezoid(ranks_R: NDArray[np.int64], n: int) -> float:
    hits = np.arange(len(ranks_R), dtype=np.float64)
    before = np.divide(hits, ranks_R - 1, out=np.ones_like(hits), where=ranks_R > 1)
    return float((before + (hits + 1) / ranks_R).sum() / (2 * n))


def _precision(ranks_R: NDArray[np.int64], k: int) -> float:
    cut = min(k, int(ranks_R[-1])) if len(ranks_R) else k
    return float((ranks_R <= cut).sum() / cut)


def _positive(k: int) -> int:
    if k < 1:
        raise InputError(f"give k of 1 or more; given {k}")
    return k


def _require_whole(ranking: Ranking, truth: Truth, ranks: Ranks) -> None:
    """Every right answer is ranked, or nothing more can be."""
    if ranking.depth >= truth.n_database:
        return
    n_ranked = np.array([len(ranks_R) for ranks_R in ranks], np.int64)
    more = ranking.indices[:, -1] >= 0 if ranking.depth else np.ones(len(n_ranked), np.bool_)
    cut = (n_ranked < truth.positives.counts) & more
    if cut.any():
        raise InputError(
            f"mean average precision counts every right answer, but the ranking is {ranking.depth} deep and "
            f"{int(cut.sum())} of {truth.n_queries} queries have one further down: rank the whole database "
            f"(-k {truth.n_database})"
        )
