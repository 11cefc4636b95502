"""A dataset as NetVLAD describes it: the ``.mat`` file of the struct ``dbStruct``.

Read by the fields' names: the official files do not all hold the same ones. MATLAB keeps whole numbers small
(``posDistThr`` is a uint8, whose square is not 625), so all numbers become float64 here. The counts and the
squared threshold that a file holds are not looked at, as in the original's ``dbBase.m``.

Legend: N database photos, Q queries.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import CheckpointError, InputError
from dejavlad.ground_truth.truth_npz import TruthPositions
from dejavlad.matlab.mat_file import read_mat

Floats = NDArray[np.float64]

VARIABLE = "dbStruct"


@dataclass(frozen=True, slots=True)
class NetvladSpec:
    """A dataset of NetVLAD: names and positions, in the file's order."""

    name: str
    """The file's name without its ending, e.g. ``pitts30k_test``."""
    part: str
    """``whichSet``: train, val or test; empty where the file does not say."""
    database: tuple[str, ...]
    """N paths below the folder of the database photos."""
    queries: tuple[str, ...]
    """Q paths below the folder of the query photos."""
    truth: TruthPositions
    """Their positions (metres, one UTM zone, which the file does not tell) and ``posDistThr``."""
    nontrivial: float | None
    """Metres (inclusive) within which a database photo is sure to show what the query shows."""
    database_times: Floats | None
    """float64 [N], months as YYYYMM; only the Tokyo Time Machine files have them."""
    query_times: Floats | None
    """float64 [Q], months of the queries as YYYYMM; None where the file has none."""


def is_spec(path: str | Path) -> bool:
    """Whether a path is that of a spec: a ``.mat`` file."""
    return Path(path).suffix.lower() == ".mat"


def read_netvlad_spec(path: str | Path) -> NetvladSpec:
    """Read a dataset's spec.

    Needed are ``dbImageFns``, ``qImageFns``, ``utmDb`` [2, N], ``utmQ`` [2, Q] and ``posDistThr`` (or
    ``posDistSqThr``). Names may also be rows of characters, as SciPy writes a list of strings.

    Raises:
        InputError: there is no such file, it is damaged, a field is missing or of another form, or numbers of
            names and positions differ.
        MissingExtraError: it is of version 7.3, and h5py is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no dataset {str(path)!r}")
    try:
        variables = read_mat(path)
    except CheckpointError as error:
        raise InputError(str(error)) from error
    try:
        fields = _fields(variables)
        database, queries = (_names(fields, name) for name in ("dbImageFns", "qImageFns"))
        return NetvladSpec(
            name=path.stem,
            part=part if isinstance(part := fields.get("whichSet"), str) else "",
            database=database,
            queries=queries,
            truth=TruthPositions(
                _array(fields, "utmDb", (2, len(database))).T,
                _array(fields, "utmQ", (2, len(queries))).T,
                _radius(fields),
            ),
            nontrivial=_root(fields, "nonTrivPosDistSqThr"),
            database_times=_times(fields, "dbTimeStamp", len(database)),
            query_times=_times(fields, "qTimeStamp", len(queries)),
        )
    except InputError as error:
        raise InputError(f"{str(path)!r} is no dataset of NetVLAD: {error}") from error


def _fields(variables: dict[str, Any]) -> dict[str, Any]:
    struct = variables.get(VARIABLE)
    if not isinstance(struct, dict):
        raise InputError(
            f"it should hold one struct called {VARIABLE}; it holds {', '.join(variables) or 'nothing'}"
        )
    return struct


def _field(fields: dict[str, Any], name: str) -> Any:
    if name not in fields:
        raise InputError(f"{VARIABLE} has no field {name} (it has {', '.join(fields)})")
    return fields[name]


def _names(fields: dict[str, Any], field: str) -> tuple[str, ...]:
    cells = _field(fields, field)
    if isinstance(cells, str):  # rows of characters, filled up with spaces
        cells = [row.rstrip() for row in cells.split("\n")]
    if not isinstance(cells, list):
        raise InputError(f"{field} should be a cell array of names; it is {_form(cells)}")
    cells = [cell[0] if isinstance(cell, list) and len(cell) == 1 else cell for cell in cells]
    for i, cell in enumerate(cells):
        if not isinstance(cell, str) or not cell.strip():
            raise InputError(f"{field}: entry {i + 1} is no name")
    if not cells:
        raise InputError(f"{field} is empty")
    return tuple(cell.replace("\\", "/") for cell in cells)  # lists made by MATLAB on Windows


def _array(fields: dict[str, Any], field: str, shape: tuple[int, int]) -> Floats:
    value = _field(fields, field)
    array = np.full((1, 1), value) if isinstance(value, float) else value
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu" or array.shape != shape:
        raise InputError(f"{field} should be numbers {list(shape)}, a column a photo; it is {_form(value)}")
    return array.astype(np.float64)


def _number(fields: dict[str, Any], field: str) -> float:
    return float(_array(fields, field, (1, 1))[0, 0])


def _radius(fields: dict[str, Any]) -> float:
    root = None if "posDistThr" in fields else _root(fields, "posDistSqThr")
    return _number(fields, "posDistThr") if root is None else root


def _absent(fields: dict[str, Any], field: str) -> bool:
    """Whether a field that may lack is not there, or is ``[]``."""
    return np.size(fields.get(field, ())) == 0


def _root(fields: dict[str, Any], field: str) -> float | None:
    if _absent(fields, field):
        return None
    squared = _number(fields, field)
    if not (math.isfinite(squared) and squared >= 0):
        raise InputError(f"{field} is 0 or more; it is {squared}")
    return math.sqrt(squared)


def _times(fields: dict[str, Any], field: str, count: int) -> Floats | None:
    if _absent(fields, field):
        return None
    column = np.shape(fields[field]) == (count, 1)
    return _array(fields, field, (count, 1) if column else (1, count)).reshape(-1)


def _form(value: Any) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__
