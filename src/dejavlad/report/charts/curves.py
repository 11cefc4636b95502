"""The charts of results: recall over rank, distance and time, precision over recall, scores of a sequence.

Legend: Q queries, N rank.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dejavlad.evaluation import Result
from dejavlad.evaluation.precision_recall import PrecisionRecall
from dejavlad.report.charts.axes import Axis, percent_axis, spread
from dejavlad.report.charts.chart import WIDE, Series, chart
from dejavlad.report.templating import HTML
from dejavlad.report.text import percent

RANKS = (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 500, 1000)
DEEPEST = 100
"""The recall curve ends at this N at the latest."""
MOST_DOTS = 5000
"""Dots along a sequence."""

Dot = tuple[int, float, str, str]
"""Frame, score, colour (``good``, ``bad``, ``none`` or ``ask``) and name."""


def recall_curve(result: Result, depth: int) -> HTML:
    """recall@N over N, as far as the ranking goes; N on a logarithmic axis.

    Args:
        result: with ``hits_at`` the curve has every N, without only the Ns of its recalls.
        depth: K of the ranking.
    """
    shares = _recalls(result, depth)
    last = max(shares)
    ranks = [n for n in RANKS if n < last]
    while ranks and math.log(last / ranks[-1]) < 0.05 * math.log(last):  # their numbers would touch
        ranks.pop()
    measured = [(n, share) for n, share in result.recall.items() if n in shares]
    spoken = ", ".join(f"recall@{n} {percent(share)}" for n, share in result.recall.items())
    return chart(
        Axis(1, max(last, 2), [*ranks, last], "N, the best answers looked at", log=True),
        percent_axis(0.0 if min(shares.values()) < 0.6 else 0.5),
        [
            Series(list(shares.items()), area=True),
            Series(
                measured, "", radius=4.5, titles=[f"recall@{n}: {percent(share)}" for n, share in measured]
            ),
        ],
        alt=f"Recall over the number of answers looked at: {spoken}",
        labels=[(n, share, percent(share)) for n, share in measured],
    )


def distance_curve(result: Result) -> HTML | None:
    """The share of queries with an answer so near, over the distance; None where it is not known."""
    if not result.by_distance:
        return None
    truth = result.protocol.get("truth")
    radius = truth.get("radius_m") if isinstance(truth, Mapping) else None
    series = [
        Series(
            list(curve.items()), f"curve {colour}", f"best of the first {n}" if n > 1 else "the first answer"
        )
        for colour, (n, curve) in zip(("t0", "t2", "t3"), result.by_distance.items(), strict=False)
    ]
    return chart(
        Axis.along([a for line in series for a, _ in line.points], "metres from the query"),
        percent_axis(),
        series,
        alt="Share of queries over the distance of their nearest answer",
        marks=[radius] if radius is not None else [],
    )


def time_curve(curve: Sequence[Mapping[str, Any]], n: str) -> HTML:
    """recall@n over milliseconds a query, as ever more queries are re-ranked.

    Args:
        curve: points with ``ms_per_query``, ``recall`` and ``queries``, time ascending.
        n: of the recall.
    """
    points = [(float(point["ms_per_query"]), float(point["recall"][n])) for point in curve]
    recalls = [share for _, share in points]
    low, high = min(recalls), max(recalls)
    room = 0.1 * (high - low) + 0.01
    title = "milliseconds a query, spent on the least sure queries first"
    return chart(
        Axis.along([0.0, max(time for time, _ in points) or 1.0], title, "{:,g}".format, whole=False),
        percent_axis(max(0.0, low - room), min(1.0, high + room)),
        [
            Series(
                points,
                radius=4,
                titles=[
                    f"{point['queries']:,} re-ranked, {time:,.1f} ms a query: {percent(share)}"
                    for point, (time, share) in zip(curve, points, strict=True)
                ],
            )
        ],
        alt=f"recall@{n} against time: {percent(recalls[0])} to {percent(recalls[-1])}",
    )


def precision_recall_curve(curve: PrecisionRecall) -> HTML:
    """Precision over recall, both from 0 to 1, with the last point that has no wrong answer marked."""
    points = list(zip(curve.recall.tolist(), curve.precision.tolist(), strict=True))
    full = curve.recall_at_full_precision
    known = [(full, 1.0)] if full > 0 else []
    return chart(
        percent_axis(title="recall: loops found, of those there are"),
        percent_axis(title="precision: right, of those given"),
        [
            Series([(0.0, points[0][1]), *points] if points else [], area=True),
            Series(known, "", radius=4.5, titles=["the last point without an error"] * len(known)),
        ],
        alt=f"Precision over recall: area {curve.auc:.3f}, recall without an error {100 * full:.1f} %",
        labels=[(*point, f"{percent(full)} without an error") for point in known],
    )


def sequence_chart(
    dots: Sequence[Dot], n_frames: int, revisits: Sequence[bool] | None, given_from: float | None
) -> HTML | None:
    """The best score of each frame along the sequence; behind it the stretches that do close a loop.

    Args:
        dots: one a frame that has a best earlier one; None is returned where there are none.
        n_frames: N.
        revisits: whether each frame closes a loop, where that is known.
        given_from: score from which on no loop is wrong, drawn as a line.
    """
    if not dots:
        return None
    x = Axis.along([0, max(n_frames - 1, 1)], "frame", most=10)
    y = Axis.of([dot[1] for dot in dots], text="{:.3g}".format)
    shown = [dots[i] for i in spread(len(dots), MOST_DOTS)]
    series = []
    if given_from is not None and y.low <= given_from <= y.high:
        series.append(Series([(x.low, given_from), (x.high, given_from)], "curve dash t2"))
    for colour in ("none", "ask", "good", "bad"):
        alike = [dot for dot in shown if dot[2] == colour]
        series.append(
            Series(
                [(frame, score) for frame, score, _, _ in alike],
                "",
                radius=3.5 if len(shown) <= 400 else 2,
                dot=f"m-{colour}",
                titles=[name for _, _, _, name in alike],
            )
        )
    return chart(
        x,
        y,
        series,
        alt=f"The best score of each of {n_frames} frames",
        width=WIDE,
        bands=[(first - 0.5, last + 0.5) for first, last in _stretches(revisits or [])],
    )


def _recalls(result: Result, depth: int) -> Mapping[int, float]:
    """N -> recall@N, for the curve."""
    if result.hits_at is None or not depth:
        return dict(sorted(result.recall.items()))
    last = min(depth, max(DEEPEST, *result.recall))
    hits = result.hits_at[(result.hits_at > 0) & (result.hits_at <= last)]
    right = np.cumsum(np.bincount(hits, minlength=last + 1))
    return {n: float(right[n] / max(result.n_counted, 1)) for n in range(1, last + 1)}


def _stretches(marks: Sequence[bool]) -> list[tuple[int, int]]:
    """First and last of each run of marked frames."""
    runs: list[tuple[int, int]] = []
    for i, marked in enumerate(marks):
        if marked and runs and runs[-1][1] == i - 1:
            runs[-1] = (runs[-1][0], i)
        elif marked:
            runs.append((i, i))
    return runs
