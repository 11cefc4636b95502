"""A ranking: for each query, the rows of the database from best to worst."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError, StoreError
from dejavlad.files import replacing
from dejavlad.guarded.npy_file import read_npy
from dejavlad.guarded.zip_archive import is_zip, read_npz


@dataclass(frozen=True, slots=True)
class Ranking:
    """The nearest database rows of Q queries, at most K each, best first.

    Raises:
        InputError: shapes differ, an index is below -1, or a distance is NaN where an index is given.
    """

    indices: NDArray[np.int64]
    """[Q, K] rows of the database, from 0; -1 where there is none (only at the end of a row)."""
    distances: NDArray[np.float32]
    """[Q, K] ascending: Euclidean distance (not squared), or a score turned so that smaller is better; +inf
    beside -1."""

    def __post_init__(self) -> None:
        indices = np.ascontiguousarray(self.indices, dtype=np.int64)
        distances = np.ascontiguousarray(self.distances, dtype=np.float32)
        if indices.ndim != 2 or indices.shape != distances.shape:
            raise InputError(
                f"a ranking needs indices and distances of one shape [Q, K]; "
                f"given {list(indices.shape)} and {list(distances.shape)}"
            )
        if indices.size and indices.min() < -1:
            raise InputError(f"a ranking holds the index {indices.min()}; valid: rows from 0, -1 for none")
        if np.isnan(distances[indices >= 0]).any():
            raise InputError("a ranking holds NaN distances; were the descriptors finite?")
        object.__setattr__(self, "indices", indices)
        object.__setattr__(self, "distances", distances)

    @property
    def n_queries(self) -> int:
        """Q, rows of the ranking."""
        return int(self.indices.shape[0])

    @property
    def depth(self) -> int:
        """K, answers of each query."""
        return int(self.indices.shape[1])

    def misfit(self, n_queries: int, n_database: int, lists: str = "lists") -> str:
        """Why it cannot be of so many queries and database photos; empty where it can."""
        deepest = int(self.indices.max(initial=-1))
        if self.n_queries == n_queries and deepest < n_database:
            return ""
        from_one = deepest == n_database and self.indices[self.indices >= 0].min() == 1
        return (
            f"the ranking is of {self.n_queries} queries and rows up to {deepest}, the {lists} have "
            f"{n_queries} queries and {n_database} database photos"
            + ("; rows are counted from 0, these seem to be from 1: subtract 1" if from_one else "")
        )

    def top(self, k: int) -> Ranking:
        """The first k of each query."""
        return Ranking(self.indices[:, :k], self.distances[:, :k])

    def save(self, path: str | Path) -> Path:
        """Write ``indices`` and ``distances`` as an .npz file, atomically."""
        path = Path(path)
        with replacing(path) as file:
            np.savez(file, indices=self.indices, distances=self.distances)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Ranking:
        """Read what `save` wrote, or a predictions ``.npy`` [Q, K] of rows (distances become 0, 1, 2, ...).

        Raises:
            StoreError: there is no such file, or it is not a ranking.
        """
        path = Path(path)
        try:
            if is_zip(path):
                arrays = read_npz(path, ("indices", "distances"))
                indices, distances = arrays["indices"], arrays["distances"]
            else:
                indices = read_npy(path)
                depth = indices.shape[-1] if indices.ndim else 0
                distances = np.broadcast_to(np.arange(depth, dtype=np.float32), indices.shape)
            if not np.issubdtype(indices.dtype, np.integer):
                raise ValueError(f"indices must be whole numbers, not {indices.dtype}")
            if distances.dtype.kind not in "fiu":
                raise ValueError(f"distances must be numbers, not {distances.dtype}")
            return cls(indices, distances)
        except FileNotFoundError:
            raise StoreError(f"there is no ranking at {str(path)!r}") from None
        except (OSError, ValueError) as error:
            raise StoreError(
                f"{str(path)!r} is not a ranking (.npz with indices and distances, or .npy of rows): {error}"
            ) from error
