"""Descriptors made elsewhere, at unit length: what is compared here are directions.

Distances, scores (1 - d^2 / 2) and confidences all assume rows of length 1. Rows of other lengths would be
ranked by length as much as by what they show, in silence.

Legend: N rows, D numbers of a row.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError

TOLERANCE = 1e-3
"""Of a length from 1; what float16 rows are off is less."""
LARGEST = 1e18
"""The length from which float32 squares would overflow."""
WORK_VALUES = 1 << 22
"""Values looked at together."""


def row_lengths(rows_ND: NDArray[Any], name: str) -> NDArray[np.float64]:
    """[N] the length of each row; reads them all, a part at a time.

    Raises:
        InputError: a row is not finite, or too long; the first such, and how many there are.
    """
    lengths_N = np.empty(len(rows_ND))
    step = max(1, WORK_VALUES // max(1, rows_ND.shape[1]))
    for first in range(0, len(rows_ND), step):
        part = np.asarray(rows_ND[first : first + step], np.float64)
        lengths_N[first : first + step] = np.sqrt(np.vecdot(part, part))
    bad = np.flatnonzero(~(lengths_N < LARGEST))
    if len(bad):
        shown = ", ".join(map(str, bad[:5].tolist())) + (" ..." if len(bad) > 5 else "")
        fault = "hold NaN or infinity, or are too long for float32"
        raise InputError(
            f"{name}: {len(bad)} of {len(rows_ND)} rows of descriptors {fault}: rows {shown} (from 0); "
            "leave these photos out, or make their rows zeros: then they are nobody's answer"
        )
    return lengths_N


def at_unit_length(rows_ND: NDArray[Any], name: str) -> tuple[NDArray[Any], tuple[float, float] | None]:
    """The rows as they are where their lengths are 1 (or 0); else a view of them at that length, and the
    least and the greatest length that there is.

    Raises:
        InputError: see `row_lengths`.
    """
    lengths_N = row_lengths(rows_ND, name)
    nonzero_lengths = lengths_N[lengths_N > 0]
    if (np.abs(nonzero_lengths - 1) <= TOLERANCE).all():
        return rows_ND, None
    return cast("NDArray[Any]", UnitRows(rows_ND, lengths_N)), (
        float(nonzero_lengths.min()),
        float(nonzero_lengths.max()),
    )


class UnitRows:
    """Rows [N, D] of an array or a memory map, brought to unit length as they are read; zeros stay zeros.

    Args:
        rows_ND: float32 or float16.
    """

    def __init__(self, rows_ND: NDArray[Any], lengths_N: NDArray[np.float64]) -> None:
        self._rows = rows_ND
        self._factors = np.where(lengths_N > 0, 1 / np.where(lengths_N > 0, lengths_N, 1), 0)
        self.shape: tuple[int, ...] = rows_ND.shape
        self.dtype = np.dtype(np.float32)
        self.ndim = 2

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def nbytes(self) -> int:
        """Bytes of the rows as they are stored."""
        return int(self._rows.nbytes)

    def __getitem__(self, key: Any) -> NDArray[np.float32]:
        factors = self._factors[key[0] if isinstance(key, tuple) else key]
        values = np.asarray(self._rows[key], np.float64)
        spread = np.reshape(factors, (*np.shape(factors), *[1] * (values.ndim - np.ndim(factors))))
        return np.asarray(values * spread, np.float32)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype)
