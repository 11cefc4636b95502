"""Rankings by name, in kapture's form, as Patch-NetVLAD writes ``NetVLAD_predictions.txt``.

Answers are kept as a mapping: query name -> names of map photos, best first, queries in their order.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from dejavlad.errors import InputError
from dejavlad.files import replacing
from dejavlad.names import Names
from dejavlad.photo import PhotoList
from dejavlad.photo.listing import lines_of, read_text
from dejavlad.ranking import Ranking

HEADER = "# kapture format: 1.0\n# query_image, map_image\n"

FILE = "predictions.txt"
"""The answers of `dejavlad evaluate` in a results folder."""
FIRST_FILE, RERANKED_FILE, RECALLS_FILE = (
    "NetVLAD_predictions.txt",
    "PatchNetVLAD_predictions.txt",
    "recalls.txt",
)
"""Names that Patch-NetVLAD itself gives to its predictions and recalls."""

Answers = Mapping[str, Sequence[str]]

_ESCAPED = re.compile(r"[,\r\n\\]|\A#|%(?=2C|0A|0D|23|25|5C)")
_ESCAPE = re.compile(r"%(2C|0A|0D|23|25|5C)")


def write_predictions(
    path: str | Path, ranking: Ranking, database: PhotoList, queries: PhotoList, *, top: int | None = None
) -> Path:
    """Write one line ``query, map photo`` an answer: queries in order, best answers first.

    Photos go by their keys (relative to their lists' roots). The form knows no quoting: a comma or a line
    break in a name, a backslash, and a leading ``#``, are written as ``%2C``, ``%0A``, ``%0D``, ``%5C`` and
    ``%23`` (and a ``%`` before one of these as ``%25``).

    Args:
        path: the file; replaced whole.
        ranking: rows of `database` for each of `queries`.
        database: the map's photos.
        queries: the queries.
        top: answers a query, at most; all unless given.

    Raises:
        InputError: the ranking does not fit the lists.
    """
    return write_answers(path, answers(ranking, database, queries, top=top))


def answers(
    ranking: Ranking, database: PhotoList, queries: PhotoList, *, top: int | None = None
) -> dict[str, list[str]]:
    """A ranking by the photos' keys; arguments and errors as of `write_predictions`."""
    if misfit := ranking.misfit(len(queries), len(database)):
        raise InputError(misfit)
    names = database.keys
    return {
        query: [names[row] for row in rows if row >= 0]
        for query, rows in zip(queries.keys, ranking.indices[:, :top].tolist(), strict=True)
    }


def write_answers(path: str | Path, given: Answers) -> Path:
    """Write answers in kapture's form; a query without any has no line. The file is replaced whole."""
    lines = (f"{_plain(query)}, {_plain(name)}\n" for query, names in given.items() for name in names)
    return write_lines(path, lines, head=HEADER)


def read_predictions(path: str | Path) -> dict[str, list[str]]:
    """Read what `write_predictions`, Patch-NetVLAD or kapture wrote: query -> map photos in the file's order.

    A third field, kapture's score, is not looked at. A backslash, as a file made on Windows has it, is taken
    for a slash.

    Raises:
        InputError: there is no such file, a line is of another form (its number is named), or it holds no
            answer.
    """
    path = Path(path)
    answers: dict[str, list[str]] = {}
    for number, line in enumerate(lines_of(read_text(path)), 1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = [_name(field.removeprefix(" ") if i else field) for i, field in enumerate(line.split(","))]
        if not (len(fields) == 2 or (len(fields) == 3 and _is_number(fields[2]))) or not all(fields[:2]):
            comma = "; a comma in a name is written %2C" if len(fields) > 2 else ""
            raise InputError(
                f"{str(path)!r} line {number}: {line[:100]!r} is not as 'query.jpg, map_photo.jpg' of "
                f"kapture's form{comma}"
            )
        answers.setdefault(fields[0], []).append(fields[1])
    if not answers:
        raise InputError(
            f"{str(path)!r} holds no predictions; its lines should be 'query.jpg, map_photo.jpg'"
        )
    return answers


def ranking_by_name(given: Answers, database: PhotoList, queries: PhotoList, source: str | Path) -> Ranking:
    """Answers by name as a ranking of two lists; names are compared as `dejavlad.names` does.

    Distances are the ranks, from 1, since the form tells none. A query without answers has none.

    Args:
        given: query -> map photos, best first.
        database: the map's photos.
        queries: the queries.
        source: where they come from, for messages.

    Raises:
        InputError: names that are of no photo (how many, and the first one), or none that is of a query.
    """
    names = list(dict.fromkeys(name for answers in given.values() for name in answers))
    query_rows = _rows_of(list(given), queries, "queries", source)
    database_rows = dict(zip(names, _rows_of(names, database, "map photos", source), strict=True))
    depth = max(map(len, given.values()), default=0)
    indices = np.full((len(queries), depth), -1, np.int64)
    distances = np.full((len(queries), depth), np.inf, np.float32)
    for row, answers in zip(query_rows, given.values(), strict=True):
        # a name given twice counts at its better rank
        rows = list(dict.fromkeys(database_rows[name] for name in answers))
        indices[row, : len(rows)] = rows
        distances[row, : len(rows)] = np.arange(1, len(rows) + 1)
    return Ranking(indices, distances)


def _rows_of(names: list[str], photos: PhotoList, what: str, source: str | Path) -> list[int]:
    """The row of each name in a list."""
    rows = Names(photos.keys).match(names, what=what)
    lacking = [name for name, row in zip(names, rows, strict=True) if row is None]
    if lacking:
        raise InputError(
            f"{len(lacking)} of {len(names)} {what} of {str(source)!r} are not in the list, "
            f"first {lacking[0]!r}; give the lists and the --root that it was made from"
        )
    return [row for row in rows if row is not None]


def open_ranking(path: str | Path, database: PhotoList, queries: PhotoList) -> Ranking:
    """A ranking of two lists from a file: rows (``.npz``, ``.npy``), or names in kapture's form.

    Raises:
        InputError: the file cannot be read, or does not fit the lists.
    """
    if Path(path).suffix.lower() in (".npz", ".npy"):
        return Ranking.load(path)
    return ranking_by_name(read_predictions(path), database, queries, path)


def write_patch_netvlad(
    folder: str | Path,
    first: Ranking,
    reranked: Ranking | None,
    database: PhotoList,
    queries: PhotoList,
    *,
    first_recall: Mapping[int, float] | None,
    reranked_recall: Mapping[int, float] | None,
) -> list[Path]:
    """Write the files that ``feature_match.py`` of Patch-NetVLAD writes, with its names and lines.

    ``NetVLAD_predictions.txt``, ``PatchNetVLAD_predictions.txt`` where it was re-ranked, and ``recalls.txt``
    where recalls are known. Those of an earlier run that are not written now are taken away.

    Args:
        folder: the results' folder; made where it is not there.
        first: the ranking by descriptors.
        reranked: the ranking after re-ranking; None where there was none.
        database: the map's photos.
        queries: the queries.
        first_recall: N -> recall@N of `first`, a fraction; None where the truth is not known.
        reranked_recall: the same of `reranked`.

    Returns:
        The files written.

    Raises:
        InputError: a ranking does not fit the lists.
    """
    folder = Path(folder)
    rankings = {FIRST_FILE: answers(first, database, queries)}
    if reranked is not None:
        rankings[RERANKED_FILE] = answers(reranked, database, queries)
    recalls = [
        f"Recall {name}@{n}: {value:.4f}\n"
        for name, recall in (("NetVLAD", first_recall), ("PatchNetVLAD", reranked_recall))
        for n, value in (recall or {}).items()
    ]
    folder.mkdir(parents=True, exist_ok=True)
    written = [write_answers(folder / name, given) for name, given in rankings.items()]
    if recalls:
        written.append(write_lines(folder / RECALLS_FILE, recalls))
    for name in (RERANKED_FILE, RECALLS_FILE):
        if folder / name not in written:
            (folder / name).unlink(missing_ok=True)
    return written


def write_lines(path: str | Path, lines: Iterable[str], *, head: str = "") -> Path:
    """Write lines that end themselves, after a head; the file is replaced whole."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(head.encode("utf-8"))
        file.writelines(line.encode("utf-8") for line in lines)
    return path


def _plain(name: str) -> str:
    return _ESCAPED.sub(lambda mark: f"%{ord(mark[0]):02X}", name)


def _name(plain: str) -> str:
    return _ESCAPE.sub(lambda mark: chr(int(mark[1], 16)), plain.replace("\\", "/"))


def _is_number(text: str) -> bool:
    try:
        return not math.isnan(float(text))
    except ValueError:
        return False
