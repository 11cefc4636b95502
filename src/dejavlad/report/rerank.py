"""What re-ranking brought: recall before and after, and recall against time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dejavlad.evaluation import Result
from dejavlad.report.numbers import grid
from dejavlad.report.page import Section
from dejavlad.report.plots import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH
from dejavlad.report.text import count, escape, percent, plain

STEPS = 5
"""Lines of the grid, along each axis."""


def rerank_section(result: Result | None) -> Section | None:
    """The section of a page; None where nothing was re-ranked."""
    if result is None or result.rerank is None or not result.reranking:
        return None
    told = result.reranking
    before: Mapping[str, float] = told.get("recall_before", {})
    curve: Sequence[Mapping[str, Any]] = told.get("curve", [])
    done = count(int(told["queries"]), "query", "queries")
    lead = (
        f"{plain(result.rerank)}: {done} of {result.n_queries:,}, the least sure first, in "
        f"{told['ms_per_query']:,.1f} ms a query."
    )
    shown = f'<div class="card">{_table(before, result)}</div>'
    n = next(iter(before), None)
    if n is not None and len(curve) > 1:
        shown = f'<div class="pair"><div class="card">{_against_time(curve, n)}</div>{shown}</div>'
    return Section("reranking", "Re-ranking", shown, lead)


def _table(before: Mapping[str, float], result: Result) -> str:
    pairs = [(n, was, result.recall.get(int(n), was)) for n, was in before.items()]
    return grid(
        "Recall before and after re-ranking",
        ("", "before", "after", "points"),
        (
            (f"recall@{escape(n)}", (percent(was), percent(now), f"{100 * (now - was):+.1f}"))
            for n, was, now in pairs
        ),
    )


def _against_time(curve: Sequence[Mapping[str, Any]], n: str) -> str:
    """recall@n over milliseconds a query, as ever more queries are re-ranked."""
    times = [float(point["ms_per_query"]) for point in curve]
    recalls = [float(point["recall"][n]) for point in curve]
    low, high = min(recalls), max(recalls)
    floor, top = max(0.0, low - 0.1 * (high - low) - 0.01), min(1.0, high + 0.1 * (high - low) + 0.01)
    last = max(times) or 1.0

    def x(time: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * time / last

    def y(share: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (share - floor) / (top - floor))

    parts = []
    for i in range(STEPS + 1):
        share, time = floor + (top - floor) * i / STEPS, last * i / STEPS
        tick = f"{time:,.0f}" if last >= 100 else f"{time:.3g}"
        parts.append(
            f'<path class="grid" d="M{LEFT} {y(share):.1f}H{WIDTH - RIGHT}"/>'
            f'<text x="{LEFT - 8}" y="{y(share) + 4:.1f}" text-anchor="end">{100 * share:.3g}%</text>'
            f'<path class="grid" d="M{x(time):.1f} {HEIGHT - BOTTOM}v4"/>'
            f'<text x="{x(time):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{tick}</text>'
        )
    places = list(zip(times, recalls, strict=True))
    line = " ".join(f"{x(time):.1f},{y(share):.1f}" for time, share in places)
    parts.append(f'<polyline class="curve" points="{line}"/>')
    parts += [
        f'<circle class="knot" cx="{x(time):.1f}" cy="{y(share):.1f}" r="4">'
        f"<title>{point['queries']:,} re-ranked, {time:,.1f} ms a query: {percent(share)}</title></circle>"
        for point, (time, share) in zip(curve, places, strict=True)
    ]
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">'
        "milliseconds a query, spent on the least sure queries first</text>"
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="recall@{escape(n)} against time: '
        f'{percent(recalls[0])} to {percent(recalls[-1])}">{"".join(parts)}</svg>'
    )
