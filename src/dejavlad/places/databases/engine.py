"""What a database must do to hold a map; everything else about maps is above it.

Legend: M rows of the table, D the descriptor's size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dejavlad.places.databases.columns import Columns

Floats = NDArray[np.float32]


class MapView(Protocol):
    """The table as of one commit, where the database has such."""

    @property
    def version(self) -> int:
        """Another after each change; counts commits where the database does."""
        ...

    @property
    def made(self) -> str:
        """Another for each map that is made, also at the same place; empty where that is not known."""
        ...

    def columns(self) -> Columns:
        """All rows but their vectors and what follows from other columns, and ``id`` (uint64 [M]).

        Ints and floats are arrays without nulls.
        """
        ...

    def vectors(self, ids: NDArray[np.uint64] | None = None) -> Iterator[tuple[NDArray[np.uint64], Floats]]:
        """Parts of all rows, or of those of these ids, in any order: ids [n], vectors float32 [n, D]."""
        ...


class MapEngine(Protocol):
    """A database that holds one map: a table of rows, a table of local features, a few documents."""

    def documents(self, names: Sequence[str]) -> dict[str, bytes]:
        """Documents by name, of those that are there; none where there is no map."""
        ...

    def create(self, documents: Mapping[str, bytes], dims: int) -> bool:
        """Make an empty map; False where another writer was first, and nothing was done."""
        ...

    def put_document(self, name: str, content: bytes) -> None:
        """Write a document anew."""
        ...

    def view(self) -> MapView:
        """The table as it is now, or as of the address's version."""
        ...

    def find(self, keys: Sequence[str]) -> Columns:
        """The rows of some keys, as `MapView.columns` gives them."""
        ...

    def next_row(self) -> int:
        """The next number for a row."""
        ...

    def upsert(self, columns: Columns, vectors_MD: Floats) -> None:
        """Write rows, all finite; those of the same keys are replaced. One commit: all counts, or nothing."""
        ...

    def correct(self, facts: Mapping[str, Mapping[str, Any]]) -> None:
        """Key -> columns to write anew, of rows that are still there."""
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Take rows out by key; one commit."""
        ...

    def feature_marks(self) -> dict[str, int]:
        """Key -> checksum of the vector that local features belong to, of all that are kept."""
        ...

    def features(self, keys: Sequence[str]) -> dict[str, tuple[int, bytes]]:
        """Key -> mark and record."""
        ...

    def put_features(self, records: Mapping[str, tuple[int, bytes]]) -> None:
        """Write local features; those of the same keys are replaced."""
        ...

    def drop_features(self, keys: Sequence[str]) -> None:
        """Forget local features."""
        ...

    def size(self) -> int:
        """Bytes that it takes, as far as is known."""
        ...

    def versions(self) -> list[tuple[int, float]]:
        """Version and Unix time of each commit that can be opened."""
        ...
