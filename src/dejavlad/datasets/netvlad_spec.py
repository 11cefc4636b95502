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

from dejavlad.datasets.truth_npz import TruthPositions
from dejavlad.errors import InputError

Floats = NDArray[np.float64]

VARIABLE = "dbStruct"
MATLAB_5 = f"in MATLAB: save(file, '{VARIABLE}', '-v7')"


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
    """float64 [Q], likewise."""


def is_spec(path: str | Path) -> bool:
    """Whether a path is that of a spec: a ``.mat`` file."""
    return Path(path).suffix.lower() == ".mat"


def read_netvlad_spec(path: str | Path) -> NetvladSpec:
    """Read a dataset's spec.

    Needed are ``dbImageFns``, ``qImageFns``, ``utmDb`` [2, N], ``utmQ`` [2, Q] and ``posDistThr``.

    Raises:
        InputError: there is no such file, it is damaged or of version 7.3, a field is missing or of another
            form, or numbers of names and positions differ.
    """
    path = Path(path)
    try:
        fields = _fields(path)
        database, queries = (_names(fields, name) for name in ("dbImageFns", "qImageFns"))
        return NetvladSpec(
            name=path.stem,
            part=_part(fields),
            database=database,
            queries=queries,
            truth=TruthPositions(
                _array(fields, "utmDb", (2, len(database))).T,
                _array(fields, "utmQ", (2, len(queries))).T,
                _number(fields, "posDistThr"),
            ),
            nontrivial=_root(fields, "nonTrivPosDistSqThr"),
            database_times=_times(fields, "dbTimeStamp", len(database)),
            query_times=_times(fields, "qTimeStamp", len(queries)),
        )
    except InputError as error:
        raise InputError(f"{str(path)!r} is no dataset of NetVLAD: {error}") from error


def _fields(path: Path) -> dict[str, Any]:
    import scipy.io

    if not path.is_file():
        raise InputError("there is no such file")
    try:
        # mat_dtype: numbers as MATLAB has them (double), not as small as the file keeps them
        held = scipy.io.loadmat(path, mat_dtype=True, variable_names=[VARIABLE], appendmat=False)
    except NotImplementedError:
        raise InputError(f"it is a .mat file of version 7.3; {MATLAB_5}") from None
    except Exception as error:  # SciPy raises whatever a damaged file leads it to
        line = str(error).strip().split("\n")[0]
        raise InputError(f"it cannot be read as a .mat file ({line or type(error).__name__})") from error
    struct = held.get(VARIABLE)
    names = getattr(getattr(struct, "dtype", None), "names", None)
    if struct is None or names is None or struct.size != 1:
        raise InputError(f"it should hold one struct called {VARIABLE}")
    record = struct.reshape(-1)[0]
    return {name: record[name] for name in names}


def _field(fields: dict[str, Any], name: str) -> NDArray[Any]:
    if name not in fields:
        raise InputError(f"{VARIABLE} has no field {name} (it has {', '.join(fields)})")
    return np.asarray(fields[name])


def _names(fields: dict[str, Any], field: str) -> tuple[str, ...]:
    cells = _field(fields, field)
    if cells.dtype != object:
        raise InputError(f"{field} should be a cell array of names; it is {cells.dtype} {list(cells.shape)}")
    names = []
    for i, cell in enumerate(cells.reshape(-1)):
        text = np.asarray(cell)
        if text.dtype.kind != "U" or text.size != 1 or not str(text.reshape(-1)[0]).strip():
            raise InputError(f"{field}: entry {i + 1} is no name")
        names.append(str(text.reshape(-1)[0]))
    if not names:
        raise InputError(f"{field} is empty")
    return tuple(names)


def _array(fields: dict[str, Any], field: str, shape: tuple[int, int]) -> Floats:
    array = _field(fields, field)
    if array.dtype.kind not in "fiu" or array.shape != shape:
        raise InputError(
            f"{field} should be numbers {list(shape)}, a column a photo; it is {array.dtype} "
            f"{list(array.shape)}"
        )
    return array.astype(np.float64)


def _number(fields: dict[str, Any], field: str) -> float:
    return float(_array(fields, field, (1, 1))[0, 0])


def _root(fields: dict[str, Any], field: str) -> float | None:
    if field not in fields:
        return None
    squared = _number(fields, field)
    if not (math.isfinite(squared) and squared >= 0):
        raise InputError(f"{field} is 0 or more; it is {squared}")
    return math.sqrt(squared)


def _times(fields: dict[str, Any], field: str, count: int) -> Floats | None:
    return _array(fields, field, (1, count))[0] if field in fields else None


def _part(fields: dict[str, Any]) -> str:
    held = np.asarray(fields.get("whichSet", ""))
    return str(held.reshape(-1)[0]) if held.dtype.kind == "U" and held.size == 1 else ""
