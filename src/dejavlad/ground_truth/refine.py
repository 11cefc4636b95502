"""Truth refined: views that face another way are not right, and what a ranking must not answer is left out.

Legend: Q queries, N database photos.
"""

from __future__ import annotations

import numpy as np

from dejavlad.errors import InputError
from dejavlad.ground_truth.row_sets import Rows, RowSets, SharedRowSets
from dejavlad.ground_truth.truth import Truth
from dejavlad.photo import PhotoList


def facing(truth: Truth, database: PhotoList, queries: PhotoList, degrees: float) -> Truth:
    """The same, with only those right that look at most so many degrees aside of the query.

    Raises:
        InputError: the angle is not from 0 to 180, or no photo of a list has a known heading.
    """
    if not 0 <= degrees <= 180:
        raise InputError(f"headings differ by 0 to 180 degrees; given {degrees:g}")
    database_headings, query_headings = (
        np.array([photo.heading for photo in photos], float)  # None becomes NaN
        for photos in (database, queries)
    )
    for photos, headings in ((database, database_headings), (queries, query_headings)):
        if len(headings) and not np.isfinite(headings).any():
            raise InputError(f"none of the {len(headings)} photos of {photos.name} has a known heading")
    aside = np.abs(
        database_headings[truth.positives.rows] - np.repeat(query_headings, truth.positives.counts)
    )
    right = truth.positives.where(np.minimum(aside, 360 - aside) <= degrees)  # NaN is not
    return truth.refined("degrees", float(degrees), positives=right)


def without_same_time(truth: Truth, database: PhotoList, queries: PhotoList) -> Truth:
    """The same, with the photos of the query's own time left out of its ranking, as Tokyo Time Machine does.

    Raises:
        InputError: no photo of a list tells its time.
    """
    database_times, query_times = (
        np.array([photo.time for photo in photos], float) for photos in (database, queries)
    )
    if not np.isfinite(database_times).any() or not np.isfinite(query_times).any():
        raise InputError(
            f"photos of the query's own time are left out, but those of {queries.name} or of {database.name} "
            "have no known time"
        )
    times = np.unique(database_times[np.isfinite(database_times)])
    sets = RowSets.of([np.flatnonzero(database_times == time) for time in times], truth.n_database)
    at = np.minimum(np.searchsorted(times, query_times), len(times) - 1)
    same = SharedRowSets(sets, np.where(times[at] == query_times, at, -1))
    return truth.without(same, "same_time_left_out", True)


def without_window(truth: Truth, window: int) -> Truth:
    """The same, with rows at most `window` before and after the query's own left out of its ranking.

    For a sequence that is compared with itself: query i is row i of the database.

    Raises:
        InputError: the window is negative, or there are other numbers of queries and database photos.
    """
    if window < 0 or truth.n_queries != truth.n_database:
        raise InputError(
            f"a window of 0 photos or more is left out of a sequence compared with itself; given {window}, "
            f"{truth.n_queries} queries and {truth.n_database} database photos"
        )
    rows = np.arange(truth.n_database)
    near = [rows[max(0, i - window) : i + window + 1] for i in range(truth.n_queries)]
    return truth.without(RowSets.of(near, truth.n_database), "window", int(window))


def of_queries(truth: Truth, queries: Rows) -> Truth:
    """The truth of some queries, by their rows."""
    ignored = None if truth.ignored is None else truth.ignored.take(queries)
    right = truth.positives.take(queries)
    return Truth(right, truth.n_database, truth.rule, ignored, truth.groups, truth.refinements)
