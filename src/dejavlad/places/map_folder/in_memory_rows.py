"""Descriptors of a store in memory, as an index takes them: some of them, or cut and at unit length."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError
from dejavlad.index import RowSource, checked_rows


@dataclass(frozen=True, slots=True, eq=False)
class InMemoryRows:
    """A `RowSource`; photos that failed keep their rows, which count for nothing."""

    rows: NDArray[Any]
    """[N, D] float32 or float16."""
    done: NDArray[np.bool_]
    """[N] whether the row is there."""
    complete: ClassVar[bool] = True
    """No more rows are to come: `of` takes them from stores that are whole."""

    @classmethod
    def of(cls, source: RowSource, chosen: NDArray[np.int64] | None = None) -> Self:
        """The rows of a store, or those of these numbers; what is not chosen stays on disk.

        Raises:
            StoreError: a store that is not complete.
        """
        rows, done = checked_rows(source, "descriptors")
        if chosen is None or len(chosen) == len(done):
            return cls(rows, done)
        return cls(rows[chosen], done[chosen])

    def unit(self, dims: int | None = None) -> Self:
        """The first dimensions, or all, at unit length in float32.

        Raises:
            InputError: more dimensions are asked for than there are.
        """
        if dims is not None and dims > self.rows.shape[1]:
            raise InputError(f"--dims {dims}: the descriptors have {self.rows.shape[1]} dimensions")
        cut = np.asarray(self.rows[:, :dims], np.float32)
        length = np.linalg.norm(cut, axis=1, keepdims=True)
        return replace(self, rows=np.asarray(cut / np.maximum(length, 1e-12), np.float32))
