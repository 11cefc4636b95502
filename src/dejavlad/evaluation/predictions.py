"""A ranking by name, in kapture's form, as Patch-NetVLAD writes ``NetVLAD_predictions.txt``."""

from __future__ import annotations

import os
import re
from pathlib import Path

from dejavlad.errors import InputError
from dejavlad.photo import PhotoList
from dejavlad.ranking import Ranking

HEADER = "# kapture format: 1.0\n# query_image, map_image\n"


def write_predictions(
    path: str | Path, ranking: Ranking, database: PhotoList, queries: PhotoList, *, top: int | None = None
) -> Path:
    """Write one line ``query, map photo`` an answer: queries in order, best answers first.

    Photos go by their keys (relative to their lists' roots). The form knows no quoting: a comma or a line
    break in a name, and a leading ``#``, are written as ``%2C``, ``%0A``, ``%0D`` and ``%23``.

    Args:
        path: the file; replaced whole.
        ranking: rows of `database` for each of `queries`.
        database: the map's photos.
        queries: the queries.
        top: answers a query, at most; all unless given.

    Raises:
        InputError: the ranking does not fit the lists.
    """
    path = Path(path)
    indices = ranking.indices[:, :top]
    if len(indices) != len(queries) or indices.max(initial=-1) >= len(database):
        raise InputError(
            f"a ranking of {len(indices)} queries and rows up to {indices.max(initial=-1)} does not fit "
            f"{len(queries)} queries and a database of {len(database)}"
        )
    names = [_plain(key) for key in database.keys]
    partial = path.with_name(path.name + ".partial")
    with open(partial, "w", encoding="utf-8", newline="\n") as file:
        file.write(HEADER)
        for query, rows in zip(queries.keys, indices.tolist(), strict=True):
            asked = _plain(query)
            file.writelines(f"{asked}, {names[row]}\n" for row in rows if row >= 0)
    os.replace(partial, path)
    return path


def _plain(name: str) -> str:
    return re.sub(r"[,\r\n]|\A#", lambda mark: f"%{ord(mark[0]):02X}", name)
