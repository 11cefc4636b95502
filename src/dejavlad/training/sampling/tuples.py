"""Which photos may be a query's positive, and which are its negatives: from rough positions and times.

A photo taken near the query may show the same place, or look the other way; one taken far away never does.
Which of the near ones is the positive is for mining to find.

Legend: Q queries, N database photos.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError
from dejavlad.geo import Positions
from dejavlad.ground_truth import PlaceDataset, RowSets
from dejavlad.photo import Photo
from dejavlad.training.config.options import TrainConfig

Rows = NDArray[np.int64]


class Candidates:
    """For each query, its potential positives and its negatives.

    Equivalent to ``nontrivialPosQ`` and ``sampleNegsQ`` of NetVLAD's ``dbBase.m``; but fewer negatives than
    asked for are enough, and photos whose position is not known are neither positive nor negative.

    Args:
        positives: the rows of the database that may be each query's positive.
        near: the rows that are not its negatives.
        known: bool [N], whether a row can be anything.
    """

    def __init__(self, positives: RowSets, near: RowSets, known: NDArray[np.bool_]) -> None:
        self._positives, self._near = positives, near
        self._known = known.copy()

    @classmethod
    def of(cls, dataset: PlaceDataset, config: TrainConfig, *, required: bool = True) -> Candidates:
        """By the positions and times of a dataset's photos.

        Args:
            dataset: the photos.
            config: the radii.
            required: whether there must be tuples to learn from.

        Raises:
            InputError: no positions; no query with a potential positive; none of these has a negative.
        """
        database, queries = _positions(dataset.database), _positions(dataset.queries)
        for what, positions in (("database", database), ("queries", queries)):
            if required and not positions.known.any():
                raise InputError(
                    f"{dataset.name}: none of the {len(positions)} photos of the {what} has a position, and "
                    "training learns from nothing else; give them with --positions"
                )
        n = len(database)
        positives = RowSets.of(database.within(queries, config.positive_radius), n)
        if config.trivial_radius >= 0:
            positives = positives.minus(RowSets.of(database.within(queries, config.trivial_radius), n))
        if config.other_time:
            positives = _at_other_times(positives, dataset)
        near = RowSets.of(database.within(queries, config.negative_radius), n)
        candidates = cls(positives, near, database.known)
        if not required:
            return candidates
        if not candidates.answerable.any():
            raise InputError(
                f"{dataset.name}: no query has a photo of the database more than {config.trivial_radius:g} m "
                f"and at most {config.positive_radius:g} m away{_other_time_words(config, dataset)}; "
                "there is nothing to learn from. Are the positions in metres? (--set positive_radius=...)"
            )
        if not any(candidates.n_negatives(int(query)) for query in np.flatnonzero(candidates.answerable)):
            raise InputError(
                f"{dataset.name}: all photos of the database lie within {config.negative_radius:g} m of "
                "every query, so there are no negatives; learn from a larger area (or --set "
                "negative_radius=...)"
            )
        return candidates

    @property
    def answerable(self) -> NDArray[np.bool_]:
        """bool [Q], whether a query has a potential positive."""
        return np.asarray(self._positives.counts > 0)

    def leave_out(self, database: Sequence[int]) -> None:
        """Rows of the database that are to be neither positive nor negative from now on."""
        self._known[list(database)] = False

    def positives(self, query: int) -> Rows:
        """Rows that may be the query's positive, ascending."""
        rows = self._positives[query]
        return rows[self._known[rows]]

    def n_negatives(self, query: int) -> int:
        """How many rows of the database are negatives of a query."""
        return int(self._known.sum()) - int(self._known[self._near[query]].sum())

    def negatives(self, query: int) -> Rows:
        """All rows that are the query's negatives, ascending."""
        far = self._known.copy()
        far[self._near[query]] = False
        return np.flatnonzero(far)

    def are_negatives(self, query: int, rows: Rows) -> NDArray[np.bool_]:
        """Whether rows are negatives of a query."""
        return np.asarray(self._known[rows] & ~np.isin(rows, self._near[query]))

    def draw(self, count: int, random: np.random.Generator) -> Rows:
        """So many different rows that can be anything, or all there are; int64, in no order."""
        known = np.flatnonzero(self._known)
        return known if len(known) <= count else random.choice(known, count, replace=False)

    def draw_negatives(self, query: int, count: int, random: np.random.Generator) -> Rows:
        """So many different negatives of a query, or all there are; int64, in no order."""
        n = len(self._known)
        out = len(self._near[query]) + int(n - self._known.sum())
        # Among count + out different rows at most `out` are no negatives, so at least `count` of them are.
        # Where that is most of the database, choosing from the list of all negatives takes less.
        if count + out >= n // 2:
            far = self.negatives(query)
            return far if len(far) <= count else random.choice(far, count, replace=False)
        drawn = random.choice(n, count + out, replace=False)
        return np.asarray(drawn[self.are_negatives(query, drawn)][:count], np.int64)


def _positions(photos: Sequence[Photo]) -> Positions:
    return Positions.from_list([photo.position for photo in photos])


def _at_other_times(positives: RowSets, dataset: PlaceDataset) -> RowSets:
    """Without the rows taken at the query's own time; a photo without a time is of another one."""
    database_times, query_times = _times(dataset.database), _times(dataset.queries)
    query_T = np.repeat(np.arange(len(positives)), positives.counts)
    kept_T = ~(database_times[positives.rows] == query_times[query_T])
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept_T)])[positives.starts]
    return RowSets(starts, positives.rows[kept_T], positives.n_database)


def _times(photos: Sequence[Photo]) -> NDArray[np.float64]:
    return np.array([np.nan if photo.time is None else photo.time for photo in photos], np.float64)


def _other_time_words(config: TrainConfig, dataset: PlaceDataset) -> str:
    timed = config.other_time and np.isfinite(_times(dataset.queries)).any()
    return ", taken at another time" if timed else ""
