"""Rankings that the same descriptors give when they are compared otherwise, for `dejavlad explain`.

Legend: Q queries, N database photos, D descriptor size.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError
from dejavlad.evaluation.hypotheses import Hypothesis
from dejavlad.extraction import DescriptorStore
from dejavlad.index import build_index
from dejavlad.places.map_folder.in_memory_rows import InMemoryRows
from dejavlad.ranking import Ranking


def of_descriptors(
    ranking: Ranking, database: DescriptorStore, queries: DescriptorStore, k: int
) -> Iterator[Hypothesis]:
    """The rankings of descriptors as they are, and brought to unit length.

    Args:
        ranking: that which is to be explained.
        database: descriptors of the database.
        queries: descriptors of the queries.
        k: answers a query, at most the size of the database.

    Raises:
        InputError: the two are of different sizes.
    """
    if database.dims != queries.dims:
        raise InputError(
            f"the database's descriptors have {database.dims} dimensions, the queries' {queries.dims}"
        )
    database_rows, query_rows = InMemoryRows.of(database), InMemoryRows.of(queries)
    raw = InMemoryRows(database.rows, database_rows.done), InMemoryRows(queries.rows, query_rows.done)
    for name, advice, alike in (
        ("descriptors compared as they are", "they were brought to unit length first", False),
        ("descriptors brought to unit length", "divide each by its length before ranking", True),
    ):
        rows = (database_rows.unit(), query_rows.unit()) if alike else raw
        again = build_index("flat", rows[0]).search(rows[1], min(k, int(database_rows.done.sum())))
        same = _agreement(ranking, again.indices)
        yield Hypothesis(name, again, f"{advice} ({same:.0%} of first answers agree)")


def _agreement(ranking: Ranking, indices: NDArray[np.int64]) -> float:
    """The share of queries whose first answers are the same."""
    if ranking.indices.shape[0] != len(indices) or not len(indices) or not ranking.depth:
        return 0.0
    return float((ranking.indices[:, 0] == indices[:, 0]).mean())
