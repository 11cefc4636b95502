"""The figures of a result: recall, by parts and distances, and what re-ranking brought."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dejavlad.evaluation import Result
from dejavlad.ranking import Ranking
from dejavlad.report.charts.curves import distance_curve, recall_curve, time_curve
from dejavlad.report.page import Section
from dejavlad.report.text import NBSP, percent, plain

SHOWN_METRES = (5.0, 10.0, 25.0, 50.0, 100.0)
"""Distances of the table."""

Rows = list[tuple[str, list[str]]]
"""Of a table: the name of each row, and its figures."""


def recall_section(result: Result | None, ranking: Ranking) -> Section | None:
    """The recall curve beside its figures."""
    if result is None:
        return None
    ns = list(dict.fromkeys([*result.recall, *(n for recall in result.dims.values() for n in recall)]))
    full = result.model.get("dims") if result.model is not None else None
    lines = [("all" if full is None else f"{plain(full)} dims" if result.dims else "recall", result.recall)]
    lines += [(f"{d:,} dims", recall) for d, recall in sorted(result.dims.items()) if d != full]
    rows: Rows = [(name, _percents(recall, ns)) for name, recall in lines]
    if intervals := result.intervals:
        rows.append((f"95{NBSP}% interval", [_interval(intervals.get(n)) for n in ns]))
    return Section.of(
        "recall",
        "Recall",
        "evaluate",
        curve=recall_curve(result, ranking.depth),
        head=["descriptor" if result.dims else "share of queries", *_recall_at(ns)],
        rows=rows,
        outcomes=_outcomes(result, ranking.depth),
        n_queries=result.n_queries,
        n_counted=result.n_counted,
    )


def reliability_section(result: Result | None) -> Section | None:
    """How far the answers' confidence can be trusted; None where they were not verified."""
    trust = None if result is None else result.reliability
    if trust is None:
        return None
    rows: Rows = [
        (
            f"{b.low:.1f} to {b.high:.1f}",
            [
                f"{b.answers:,}",
                f"{b.confidence:.2f}",
                f"{b.right:.2f}",
                "" if b.position_error is None else f"{b.position_error:.1f}{NBSP}m",
            ],
        )
        for b in trust.bins
    ]
    shares: Rows = [
        (name, [f"{number:,}", "" if share is None else percent(share)])
        for name, number, share in (
            ("right answers", trust.right, trust.known_right),
            ("wrong answers", trust.wrong, trust.known_wrong),
        )
    ]
    return Section.of(
        "reliability", "Is it as sure as it is right?", "evaluate", trust=trust, rows=rows, shares=shares
    )


def parts_section(result: Result | None) -> Section | None:
    """Recall by parts, and over the distance within which an answer counts; None where neither is known."""
    if result is None or not (result.parts or result.by_distance):
        return None
    curves = result.by_distance.values()
    near: Rows = [
        (f"within {distance:g}{NBSP}m", [percent(curve[distance]) for curve in curves])
        for distance in SHOWN_METRES
        if all(distance in curve for curve in curves)
    ]
    both = "Parts and distances" if result.parts else "How near the answers are"
    return Section.of(
        "parts",
        both if result.by_distance else "Parts",
        "evaluate",
        curve=distance_curve(result),
        head=["part", *_recall_at(result.recall), "queries"],
        rows=[
            (plain(name), [*_percents(part.recall, result.recall), f"{part.queries:,}"])
            for name, part in result.parts.items()
        ],
        near_head=["one of the", *(f"first {n}" for n in result.by_distance)],
        near=near if result.by_distance else [],
    )


def rerank_section(result: Result | None) -> Section | None:
    """Recall before and after re-ranking, and against its time; None where nothing was re-ranked."""
    if result is None or result.rerank is None or not result.reranking:
        return None
    before: Mapping[str, float] = result.reranking.get("recall_before", {})
    after = {n: result.recall.get(int(n), share) for n, share in before.items()}
    curve = result.reranking.get("curve", [])
    first = next(iter(before), None)
    return Section.of(
        "reranking",
        "Re-ranking",
        "evaluate",
        name=result.rerank,
        reranking=result.reranking,
        n_queries=result.n_queries,
        curve=time_curve(curve, first) if first is not None and len(curve) > 1 else None,
        rows=[
            (f"recall@{n}", [percent(share), percent(after[n]), f"{100 * (after[n] - share):+.1f}"])
            for n, share in before.items()
        ],
    )


def _recall_at(ns: Iterable[int]) -> list[str]:
    return [f"recall@{n}" for n in ns]


def _percents(recall: Mapping[int, float], ns: Iterable[int]) -> list[str]:
    return [percent(recall[n]) if n in recall else "–" for n in ns]


def _interval(ends: tuple[float, float] | None) -> str:
    return "–" if ends is None else f"{100 * ends[0]:.1f}–{100 * ends[1]:.1f}{NBSP}%"


def _outcomes(result: Result, depth: int) -> list[tuple[str, str, int, str]]:
    """Colour, meaning, number of queries and its text of each outcome; empty where the ranks are unknown."""
    if result.hits_at is None or not result.n_queries:
        return []
    once = int((result.hits_at == 1).sum())
    later = int((result.hits_at > 1).sum())
    ends = [
        ("good", "right at once", once),
        ("later", f"right answer at ranks 2 to {depth:,}", later),
        (
            "bad",
            f"no right answer among the first {depth:,}",
            result.n_queries - once - later - result.n_without_truth,
        ),
        ("none", "without a right answer in the database", result.n_without_truth),
    ]
    return [(*end, f"{end[2]:,}") for end in ends if end[2] > 0]
