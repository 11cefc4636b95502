"""Descriptors as NetVLAD's MATLAB code keeps them: ``serialAllFeats`` writes raw little-endian float32 rows,
photo after photo, with neither names nor sizes.

Legend: N photos, D numbers of a descriptor, K clusters.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError, StoreError
from dejavlad.extraction.store import DescriptorStore
from dejavlad.files import replacing

FLOAT = np.dtype("<f4")
TOLERANCE = 1e-3
"""Of a descriptor's length from 1."""
ROWS = 1024
"""Rows that are turned at once."""
LARGEST, SOME = 1 << 17, 64
"""The most dimensions that are thought of, and about how many rows must have unit length."""


def is_bin(path: str | Path) -> bool:
    """Whether that names such a file: ``FILE.bin`` or ``FILE.bin:DIMS``."""
    return Path(_parsed(path)[0]).suffix.lower() == ".bin"


def read_bin(path: str | Path) -> DescriptorStore:
    """The rows of a ``.bin`` file, memory-mapped, as a store whose photos are called 0, 1, 2 ...

    Where the path does not tell the dimensions (``FILE.bin:4096``), the rows' length does, which is 1 (0 of
    photos that failed).

    Raises:
        StoreError: there is no such file, D does not divide it, or D cannot be found out.
    """
    name, dims = _parsed(path)
    file = Path(name)
    if not file.is_file():
        raise StoreError(f"there are no descriptors at {name!r}")
    numbers, rest = divmod(file.stat().st_size, FLOAT.itemsize)
    if rest or not numbers:
        raise StoreError(f"{name!r} has {file.stat().st_size} bytes, which are no float32 descriptors")
    values: NDArray[Any] = np.memmap(file, FLOAT, "r")
    if dims is None:
        dims = _found_dims(values, name)
    if dims < 1 or numbers % dims:
        raise StoreError(f"{name!r} holds {numbers} numbers, which are no rows of {dims}")
    return DescriptorStore.from_arrays(values.reshape(-1, dims), path=file)


def write_bin(store: DescriptorStore, path: str | Path, *, clusters: int | None = None) -> Path:
    """Write a store's rows as ``serialAllFeats`` does; the file is there whole or not at all.

    Args:
        store: complete; photos that failed are rows of zeros, so that rows stay in step with the list.
        path: the file.
        clusters: K, to write un-whitened VLAD in MATLAB's order, in which the cluster runs fastest (k + K*d);
            default: as they are (k*D + d).

    Returns:
        The file.

    Raises:
        StoreError: the store is not complete.
        InputError: the rows are not of so many clusters.
    """
    if not store.complete:
        raise StoreError(f"{str(store.path)!r} is not complete; run `dejavlad extract` there again")
    if clusters is not None and (clusters < 1 or store.dims % clusters):
        raise InputError(f"descriptors of {store.dims} numbers are not of {clusters} clusters")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        for first in range(0, len(store), ROWS):
            rows_ND = store.float32(slice(first, first + ROWS))
            if clusters is not None:
                rows_ND = matlab_order(rows_ND, clusters)
            file.write(np.ascontiguousarray(rows_ND, FLOAT).tobytes())
    return path


def matlab_order(rows_ND: NDArray[np.float32], clusters: int) -> NDArray[np.float32]:
    """Un-whitened VLAD [N, K*D] from our order (k*D + d) to MATLAB's (k + K*d)."""
    n, size = rows_ND.shape
    turned = rows_ND.reshape(n, clusters, size // clusters).transpose(0, 2, 1)
    return np.ascontiguousarray(turned).reshape(n, size)


def _found_dims(values: NDArray[Any], name: str) -> int:
    """D of rows of unit length, or of zeros (photos that failed): the first that gives them."""
    head = np.cumsum(np.square(values[:LARGEST].astype(np.float64)))
    zeros = int(np.argmax(head > 0))
    for end in (np.flatnonzero(np.abs(head - 1) < TOLERANCE) + 1).tolist():
        for n_rows in range(1, 2 + zeros):  # up to the end of the first row that is not zero
            d, rest = divmod(end, n_rows)
            if rest or d * (n_rows - 1) > zeros or len(values) % d:
                continue
            rows_ND = values.reshape(-1, d)
            sample_ND = rows_ND[:: max(1, len(rows_ND) // SOME)].astype(np.float64)
            length = np.linalg.norm(sample_ND, axis=1)
            if ((np.abs(length - 1) < TOLERANCE) | (length == 0)).all():
                return int(d)
            if n_rows >= SOME:
                break
    raise StoreError(
        f"{name!r} does not hold rows of unit length, so their dimensions cannot be found out; "
        f"tell them: {name}:4096"
    )


def _parsed(path: str | Path) -> tuple[str, int | None]:
    """``FILE.bin:4096`` to its parts."""
    head, colon, tail = str(path).rpartition(":")
    if colon and tail.isdecimal() and head.lower().endswith(".bin"):
        return head, int(tail)
    return str(path), None
