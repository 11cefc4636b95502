"""For each query a set of database rows, kept in two arrays however many there are.

Legend: Q queries, K depth of a ranking, T rows of all sets together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dejavlad.errors import InputError

Rows = NDArray[np.int64]

_BLOCK = 1 << 20
"""Ranking entries looked up at once."""


def starts_of(counts: ArrayLike) -> Rows:
    """int64 [Q + 1]: where each of Q sets of these sizes begins, and where the last one ends."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])


class RowSets(Sequence[Rows]):
    """Q sets of database rows.

    Args:
        starts: int64 [Q + 1], where each set begins in `rows`; the last is T.
        rows: int64 [T], ascending and without doubles within each set.
        n_database: every row is below this.
    """

    def __init__(self, starts: Rows, rows: Rows, n_database: int) -> None:
        self.starts, self.n_database, self._rows = starts, n_database, rows

    @property
    def rows(self) -> Rows:
        """int64 [T], the rows of all queries one after another, ascending within each query."""
        return self._rows

    @property
    def blocks(self) -> Iterator[Rows]:
        """`rows` in pieces, for those who need not hold them all."""
        yield self.rows

    @classmethod
    def of(cls, sets: Sequence[ArrayLike], n_database: int) -> Self:
        """From one collection of rows a query, in any order, doubles allowed.

        Raises:
            InputError: a row is not a whole number from 0 to below n_database.
        """
        uniques: list[Rows] = []
        for query, given in enumerate(sets):
            rows = np.asarray(given).reshape(-1)
            if rows.size and rows.dtype.kind not in "iu":
                raise InputError(f"query {query}: rows of the database are whole numbers, not {rows.dtype}")
            unique = np.unique(rows.astype(np.int64))
            if unique.size and not 0 <= unique[0] <= unique[-1] < n_database:
                wrong = unique[0] if unique[0] < 0 else unique[-1]
                raise InputError(f"query {query}: row {wrong} is outside of a database of {n_database}")
            uniques.append(unique)
        return cls(
            starts_of([len(unique) for unique in uniques]),
            np.concatenate([np.empty(0, np.int64), *uniques]),
            n_database,
        )

    def __len__(self) -> int:
        return len(self.starts) - 1

    @overload
    def __getitem__(self, query: int) -> Rows: ...
    @overload
    def __getitem__(self, query: slice) -> list[Rows]: ...
    def __getitem__(self, query: int | slice) -> Rows | list[Rows]:
        if isinstance(query, slice):
            return [self[i] for i in range(*query.indices(len(self)))]
        if not -len(self) <= query < len(self):
            raise IndexError(query)
        return self._set(query % len(self))

    def _set(self, query: int) -> Rows:
        return self.rows[self.starts[query] : self.starts[query + 1]]

    def __iter__(self) -> Iterator[Rows]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RowSets):
            return NotImplemented
        return (
            self.n_database == other.n_database
            and np.array_equal(self.starts, other.starts)
            and np.array_equal(self.rows, other.rows)
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def counts(self) -> Rows:
        """int64 [Q], the size of each set."""
        return np.diff(self.starts)

    @cached_property
    def keys(self) -> Rows:
        """int64 [T] ascending: query * n_database + row."""
        return np.repeat(np.arange(len(self)), self.counts) * self.n_database + self.rows

    def contains(self, rows_QK: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
        """bool [Q, K]: whether each row is in its query's set; -1 never is."""
        mask = np.zeros(rows_QK.shape, np.bool_)
        if not rows_QK.size:
            return mask
        step = max(1, _BLOCK // rows_QK.shape[1])
        for start in range(0, len(rows_QK), step):
            block = rows_QK[start : start + step].astype(np.int64)
            queries = np.broadcast_to(np.arange(start, start + len(block))[:, None], block.shape)
            mask[start : start + step] = self.holds(queries, block)
        return mask

    def holds(self, queries: Rows, rows: Rows) -> NDArray[np.bool_]:
        """Whether each row is in the set of the query beside it; -1 never is. Both int64, of one shape."""
        if not len(self.keys):
            return np.zeros(rows.shape, np.bool_)
        sought = queries * self.n_database + rows
        at = np.minimum(np.searchsorted(self.keys, sought), len(self.keys) - 1)
        return np.asarray((self.keys[at] == sought) & (rows >= 0))

    def take(self, queries: Rows) -> RowSets:
        """The sets of some queries."""
        rows = [self[query] for query in queries.tolist()]
        starts = starts_of(self.counts[queries])
        return RowSets(starts, np.concatenate([np.empty(0, np.int64), *rows]), self.n_database)

    def where(self, mask_T: NDArray[np.bool_]) -> RowSets:
        """Each set with those of its rows alone for which the mask, bool [T], is true."""
        return RowSets(starts_of(mask_T)[self.starts], self.rows[mask_T], self.n_database)

    def minus(self, other: RowSets) -> RowSets:
        """Each set without the rows of the other's."""
        return self.where(~other.holds(np.repeat(np.arange(len(self)), self.counts), self.rows))


class SharedRowSets(RowSets):
    """Q sets of which many are the same, each kept once: all photos of a month, for the queries of that
    month.

    Args:
        sets: C different sets.
        of_query: int64 [Q], which of them a query has; -1 for an empty one.
    """

    def __init__(self, sets: RowSets, of_query: Rows) -> None:
        self._sets, self._of_query = sets, of_query
        counts = np.where(of_query < 0, 0, np.append(sets.counts, 0)[of_query])
        super().__init__(starts_of(counts), np.empty(0, np.int64), sets.n_database)

    @property
    def rows(self) -> Rows:
        """int64 [T], made each time: rather ask for `blocks`."""
        return np.concatenate([np.empty(0, np.int64), *self.blocks])

    @property
    def blocks(self) -> Iterator[Rows]:
        """The rows query by query."""
        return iter(self)

    def _set(self, query: int) -> Rows:
        which = int(self._of_query[query])
        return np.empty(0, np.int64) if which < 0 else self._sets[which]

    def take(self, queries: Rows) -> RowSets:
        """The sets of some queries."""
        return SharedRowSets(self._sets, self._of_query[queries])

    def holds(self, queries: Rows, rows: Rows) -> NDArray[np.bool_]:
        """Whether each row is in the set of the query beside it; -1 never is."""
        which = self._of_query[queries]
        return (which >= 0) & self._sets.holds(np.maximum(which, 0), rows)
