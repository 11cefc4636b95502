"""Short sequences of frames in place of single photos: which frames belong to one, and what is right then.

Equivalent to ``arange_as_seq`` and the positives of sequences in ``msls.py`` of Mapillary.

Legend: N, Q sequences of the database and of the queries, L frames of one, F frames.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError
from dejavlad.geo import Positions
from dejavlad.ground_truth.row_sets import RowSets
from dejavlad.ground_truth.rules import WithinMetres
from dejavlad.ground_truth.truth import Truth
from dejavlad.photo import Photo

Rows = NDArray[np.int64]


def windows(
    groups: Sequence[str | None], numbers: Sequence[int | None], centres: Sequence[int], length: int
) -> Rows:
    """The frames around each centre, where they are of one sequence and follow each other.

    Args:
        groups: of each of F frames its sequence.
        numbers: of each its number in the sequence.
        centres: rows of frames.
        length: L, odd.

    Returns:
        int64 [N, L] rows of frames, the centre in the middle; centres at an end of their sequence are left
        out.

    Raises:
        InputError: the length is even or below 1.
    """
    if length < 1 or length % 2 == 0:
        raise InputError(f"a sequence has an odd number of frames, 1 or more; given {length}")
    half = length // 2
    starts = []
    for centre in centres:
        rows = range(centre - half, centre + half + 1)
        if rows[0] < 0 or rows[-1] >= len(groups):
            continue
        steps = [(groups[row], _minus(numbers[row], row)) for row in rows]
        if length == 1 or (len(set(steps)) == 1 and steps[0][1] is not None):
            starts.append(list(rows))
    return np.array(starts, np.int64).reshape(-1, length)


def truth_windows(
    database: Sequence[Photo], queries: Sequence[Photo], database_NL: Rows, queries_QL: Rows, radius: float
) -> Truth:
    """Right are sequences of which any frame was taken at most `radius` metres from any of the query's.

    Args:
        database: frames of the database.
        queries: frames of the queries.
        database_NL: which of them are a sequence, for each of the database.
        queries_QL: the same of the queries.
    """
    at = Positions.from_list([photo.position for photo in database])
    query_positions = Positions.from_list([photo.position for photo in queries])
    n = len(database_NL)
    used, where = np.unique(queries_QL, return_inverse=True)
    near = at.within(query_positions.take(used), radius)
    order = np.argsort(database_NL.ravel(), kind="stable")  # sequences of each frame, frame by frame
    frames, of_frame = database_NL.ravel()[order], order // max(1, database_NL.shape[1])
    sets = []
    for rows in where.reshape(queries_QL.shape):
        hits = np.unique(np.concatenate([near[row] for row in rows]))
        starts, ends = np.searchsorted(frames, hits), np.searchsorted(frames, hits, side="right")
        spans = [of_frame[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]
        sets.append(np.concatenate([np.empty(0, np.int64), *spans]))
    rule = WithinMetres(
        float(radius),
        int((~at.known[database_NL]).all(axis=1).sum()),
        int((~query_positions.known[queries_QL]).all(axis=1).sum()),
        (int(database_NL.shape[1]), int(queries_QL.shape[1])),
    )
    return Truth(RowSets.of(sets, n), n, rule)


def _minus(number: int | None, row: int) -> int | None:
    return None if number is None else number - row
