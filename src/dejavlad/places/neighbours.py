"""Photos that are likely to show the same things: image pairs for structure from motion."""

from __future__ import annotations

import numpy as np

from dejavlad.errors import InputError
from dejavlad.extraction import DescriptorStore
from dejavlad.index import build_index

TOP = 20
"""Neighbours of each photo, unless told."""


def neighbours(
    database: DescriptorStore, queries: DescriptorStore, top: int = TOP, index: str = "exact"
) -> dict[str, list[str]]:
    """Each query's nearest photos of the database, by name; a photo is never its own neighbour.

    Args:
        database: descriptors of the map; may be `queries` itself: then each pair is told once.
        queries: descriptors of the queries, by the same model.
        top: neighbours of each, at most.
        index: a name in `dejavlad.index.KINDS`. Whichever it is, memory holds a block of rows, a block of
            queries and `top` answers of each, however many photos there are.

    Raises:
        UnknownNameError: no such index.
        StoreMismatchError: the two were made by different models.
        InputError: `top` is below 1.
    """
    if top < 1:
        raise InputError(f"--top {top}: ask for at least 1 neighbour")
    database.manifest.setting.check_comparable(queries.manifest.setting, database.path)
    same = database is queries
    ranking = build_index(index, database).search(queries, min(top + same, len(database)))
    names: dict[str, list[str]] = {}

    def near(q: int) -> list[int]:
        return [row for row in ranking.indices[q].tolist() if row >= 0 and not (same and row == q)][:top]

    for q in np.flatnonzero(queries.done).tolist():
        rows = near(q)
        if same:  # a photo before this one has told the pair already
            rows = [row for row in rows if row > q or q not in near(row)]
        if rows:
            names[queries.keys[q]] = [database.keys[row] for row in rows]
    return names
