"""Axes of charts: their range, the values that are written beside them, and samples of long series."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a chart."""

    low: float
    """Value at its beginning."""
    high: float
    """Value at its end; above `low`."""
    ticks: Sequence[float]
    """Values that are written beside it."""
    title: str = ""
    """What it measures."""
    text: Callable[[float], str] = "{:g}".format
    """How a value is written."""
    log: bool = False
    """Whether it is logarithmic; `low` is then above 0."""

    @classmethod
    def of(
        cls,
        values: Sequence[float],
        title: str = "",
        text: Callable[[float], str] = "{:g}".format,
        *,
        start: float | None = None,
        end: float | None = None,
    ) -> Axis:
        """An axis from a round number to a round number.

        Args:
            values: it holds all of these.
            title: what it measures.
            text: how a value is written.
            start: where it begins; the least of the values, unless given.
            end: where it ends; the largest of the values, unless given.
        """
        steps = ticks(min(values) if start is None else start, max(values) if end is None else end)
        return cls(steps[0], steps[-1], steps, title, text)

    @classmethod
    def along(
        cls,
        values: Sequence[float],
        title: str = "",
        text: Callable[[float], str] = "{:,.0f}".format,
        *,
        most: int = 6,
        whole: bool = True,
    ) -> Axis:
        """An axis that ends where its values end, with about `most` values beside it, whole if need be."""
        low, high = min(values), max(values)
        if low == high:
            low, high = low - 0.5, high + 0.5
        return cls(
            low, high, [s for s in ticks(low, high, most, whole=whole) if low <= s <= high], title, text
        )

    def share(self, value: float) -> float:
        """Where a value lies: 0 at the axis' beginning, 1 at its end."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def percent_axis(low: float = 0.0, high: float = 1.0, title: str = "") -> Axis:
    """An axis of shares, written as percentages."""
    shares = [low + (high - low) * i / 5 for i in range(6)]
    return Axis(low, high, shares, title, lambda share: f"{100 * share:.3g}%")


def ticks(low: float, high: float, most: int = 5, *, whole: bool = False) -> list[float]:
    """Round numbers from one at or below `low` to one at or above `high`, about so many steps apart."""
    span = high - low if high > low else abs(high) or 1.0
    step = 10.0 ** math.floor(math.log10(span / most))
    step *= next(factor for factor in (1, 2, 2.5, 5, 10) if factor * step * most >= span * (1 - 1e-9))
    if whole:
        step = max(1.0, math.ceil(step))
    first = math.floor(low / step + 1e-9)
    last = max(first + 1, math.ceil(low / step + span / step - 1e-9))
    return [step * i for i in range(first, last + 1)]


def spread(number: int, most: int) -> list[int]:
    """At most so many of the whole numbers 0 to number - 1, evenly spread."""
    if number <= most:
        return list(range(number))
    return [i * number // most for i in range(most)]


def smooth(values: Sequence[float], width: int) -> list[float]:
    """Means over about so many values around each; fewer at the ends."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    n, half = len(values), width // 2
    spans = [(max(0, i - half), min(n, i + half + 1)) for i in range(n)]
    return [float((sums[stop] - sums[start]) / (stop - start)) for start, stop in spans]
