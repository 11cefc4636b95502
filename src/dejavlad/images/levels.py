"""Photos of more than 8 bits to 8: thermal cameras, 12 bits in 16, depth of 32 bits, floating-point numbers.

A photo that uses at least half of its range keeps its upper 8 bits. Of others that would leave a handful of
levels (of 14-bit thermal numbers as 7000 + 4 x grey, five), so they are stretched from the lowest to the
highest number that they use. That range is each photo's own: the numbers of a thermal camera drift with its
temperature, by more than a scene spans, so that a range measured once on a map would leave photos of another
day black; and a photo's pixels never depend on which other photos are read with it. Where all photos of a set
share a known range, `Preprocess.levels` holds it, and so do the map and its queries.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError

Levels = Literal["photo", "upper"] | tuple[float, float]
"""From which numbers 0 to 255 are made: ``"photo"`` (as above), ``"upper"`` (always the upper 8 bits; photos
of which the range is not known are stretched all the same), or the numbers that become 0 and 255."""
Range = tuple[float, float]

OUTLIERS = 0.001
"""Share of pixels, at either end, that may lie outside of the range: dead pixels, glints."""
LEAST_SPAN = 255
"""Whole numbers are spread no further than one level each: noise stays noise, and a flat photo flat."""


def to_eight_bits(
    values: NDArray[Any], levels: Levels = "photo", top: int | None = None
) -> NDArray[np.uint8]:
    """Numbers to 0 ... 255, all channels alike.

    Args:
        values: whole or floating-point numbers, of any shape; what is not finite becomes the nearest end of
            the range, and 0 where it is no number at all.
        levels: from which numbers.
        top: the largest number that there could be, where that is known; then whole numbers from 0.

    Returns:
        uint8, of the same shape.
    """
    bounds = levels if isinstance(levels, tuple) else None
    if bounds is None:
        bounds = None if levels == "upper" and top is not None else stretched_range(values, top)
    if bounds is None:
        bits = int(top or 0).bit_length()
        upper: NDArray[np.uint8] = (values >> max(0, bits - 8)).astype(np.uint8)
        return upper
    low, high = bounds
    gain = 255 / (high - low)
    if values.dtype == np.uint16:
        table = np.clip((np.arange(65536) - low) * gain, 0, 255)  # looked up: far less than all pixels
        stretched: NDArray[np.uint8] = np.round(table).astype(np.uint8)[values]
        return stretched
    plain = np.nan_to_num(values.astype(np.float64), nan=low, posinf=high, neginf=low)
    return np.round(np.clip((plain - low) * gain, 0, 255)).astype(np.uint8)


def stretched_range(values: NDArray[Any], top: int | None = None) -> Range | None:
    """(lowest, highest) number that a photo uses; None where that is half of all it could use, or more."""
    if values.dtype.kind == "f":
        finite = values[np.isfinite(values)]
        if not finite.size:
            return 0.0, 1.0
        low, high = _used(finite, 0.0, 0.0)
        if low >= 0 and high <= 1 and high - low >= 0.5:  # the usual 0 to 1
            return 0.0, 1.0
        return (low, high) if high > low else (low, low + 1)
    low, high = _used(values, 0, 0 if top is None else top)
    if top is not None and 2 * (high - low) >= top:
        return None
    if low >= 0 and high <= LEAST_SPAN:
        return 0.0, float(LEAST_SPAN)
    return low, max(high, low + LEAST_SPAN)


def checked_levels(levels: Any) -> Levels:
    """What `Levels` allows, two numbers as a tuple.

    Raises:
        InputError: it is something else.
    """
    if levels in ("photo", "upper"):
        chosen: Levels = levels
        return chosen
    try:
        low, high = (float(number) for number in levels)
    except (TypeError, ValueError):
        low = high = 0.0
    if not (np.isfinite([low, high]).all() and low < high):
        raise InputError(
            f"levels must be photo, upper, or two numbers LOW,HIGH with LOW below HIGH; given {levels!r}"
        )
    return low, high


def parse_levels(text: str) -> Levels:
    """``"photo"``, ``"upper"`` or ``"7000,8100"``.

    Raises:
        InputError: it is something else.
    """
    return checked_levels(text if "," not in text else text.split(","))


def _used(values: NDArray[Any], *unmeasured: float) -> Range:
    """The range without outliers, and without the ends that stand for what was not measured.

    Borders of undistorted photos are 0, dead pixels 0 or the largest number: such numbers count where they
    lie no further from the others than these spread.
    """
    numbers, counts = _counted(values)
    is_end = np.isin(numbers, unmeasured)
    if is_end.all():
        return float(numbers[0]), float(numbers[-1])
    low, high = _without_outliers(numbers[~is_end], counts[~is_end])
    spread = high - low
    for end in numbers[is_end].tolist():
        if low - spread <= end < low:
            low = end
        elif high < end <= high + spread:
            high = end
    return low, high


def _counted(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The numbers that there are, ascending, and how often each."""
    if values.dtype != np.uint16:
        return np.unique(values, return_counts=True)
    counts = np.bincount(values.ravel(), minlength=65536)
    numbers = np.flatnonzero(counts)
    return numbers, counts[numbers]


def _without_outliers(numbers: NDArray[Any], counts: NDArray[np.int64]) -> Range:
    """The lowest and highest number but for the `OUTLIERS` at either end, of which as many are left out."""
    summed = np.cumsum(counts)
    left_out = int(OUTLIERS * summed[-1])
    low = np.searchsorted(summed, left_out, side="right")
    high = np.searchsorted(summed, summed[-1] - left_out, side="left")
    return float(numbers[low]), float(numbers[high])
