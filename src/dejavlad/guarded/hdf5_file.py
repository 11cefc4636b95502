"""HDF5 files of which everything lies in the file itself.

The format can point into other files in four ways: external links, virtual data sets, data sets whose values
are raw bytes of other files, and links that a plug-in follows. Whoever may write such a file could so read
any file of whoever opens it, or let it wait for ever at a pipe. All four are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import MalformedFileError, MissingExtraError
from dejavlad.guarded.plain_file import check_regular
from dejavlad.guarded.room import Room

DEEPEST = 48
FILTERS = (1, 2, 3, 4, 5, 6, 32000)
"""deflate, shuffle, Fletcher's sum, szip, n-bit, scale-offset, LZF; any other loads a plug-in."""


@dataclass(frozen=True, slots=True)
class Hdf5File:
    """An open file; groups and data sets are h5py's, and are reached through the methods here alone."""

    h5py: Any
    root: Any
    """The root group of the file."""
    room: Room
    """What may still be made of the file."""

    def is_group(self, node: Any) -> bool:
        """Whether it is a group."""
        return isinstance(node, self.h5py.Group)

    def is_dataset(self, node: Any) -> bool:
        """Whether it is a data set."""
        return isinstance(node, self.h5py.Dataset)

    def names(self, group: Any) -> list[str]:
        """What a group holds; CheckpointError where that is more than there is room for."""
        self.room.take(0, len(group))
        return list(group)

    def child(self, group: Any, name: str) -> Any:
        """One of `names`.

        Raises:
            MalformedFileError: it is no plain part of this file.
        """
        if not self.is_group(group):
            raise MalformedFileError(f"it has a data set where a group with {name!r} is expected")
        try:
            link = group.get(name, getlink=True)
        except TypeError:  # a link of a kind that a plug-in defines
            link = None
        if not isinstance(link, self.h5py.HardLink):
            where = getattr(link, "filename", None)
            raise MalformedFileError(
                f"{name!r} is a link" + (f" into another file, {where!r}" if where else "") + ", not followed"
            )
        return group[name]

    def at(self, path: str) -> Any:
        """What lies at a path from the root, each step as `child`; None where there is nothing.

        Raises:
            MalformedFileError: a step is a link.
        """
        node = self.root
        for name in path.split("/"):
            if not self.is_group(node) or name not in self.names(node):
                return None
            node = self.child(node, name)
        return node

    def target(self, reference: Any) -> Any:
        """What an object reference leads to in this file; MalformedFileError where that is nothing."""
        if not isinstance(reference, self.h5py.Reference) or not reference:
            raise MalformedFileError("its references lead nowhere")
        return self.root[reference]

    def datasets(self, group: Any = None) -> Iterator[tuple[str, Any]]:
        """(path, data set) of all below a group (the root unless given); each once.

        Raises:
            MalformedFileError: a link, or groups nested too deep.
        """
        seen: set[Any] = set()
        pending = [("", self.root if group is None else group, 0)]
        while pending:
            path, node, depth = pending.pop()
            if depth > DEEPEST:
                raise MalformedFileError(f"its groups are nested more than {DEEPEST} deep")
            for name in self.names(node):
                inner = self.child(node, name)
                at = f"{path}/{name}" if path else name
                if self.is_dataset(inner):
                    yield at, inner
                elif self.is_group(inner):
                    key = self.h5py.h5o.get_info(inner.id).addr
                    if key not in seen:  # groups may hold each other
                        seen.add(key)
                        pending.append((at, inner, depth + 1))

    def array(self, dataset: Any) -> NDArray[Any]:
        """The values of a data set, in memory.

        Raises:
            MalformedFileError: they lie in another file, or need a plug-in.
            CheckpointError: they are more than there is room for.
        """
        if dataset.is_virtual or dataset.external:
            raise MalformedFileError(f"the values of {dataset.name} lie in another file")
        properties = dataset.id.get_create_plist()
        for number in range(properties.get_nfilters()):
            if (kind := properties.get_filter(number)[0]) not in FILTERS:
                raise MalformedFileError(f"{dataset.name} is packed by a plug-in (filter {kind})")
        chunk = int(np.prod(dataset.chunks, dtype=object)) if dataset.chunks else 0
        self.room.take((int(dataset.size or 0) + chunk) * max(1, dataset.dtype.itemsize))
        return np.asarray(dataset[()])


@contextmanager
def open_hdf5(path: str | Path, what: str) -> Iterator[Hdf5File]:
    """An HDF5 file to read from.

    Args:
        what: what needs h5py, for the error.

    Raises:
        MalformedFileError: it is no regular file. (Damaged files raise anything, also while they are read:
            the caller turns each error into one of its own.)
        OSError: it cannot be opened, or is no HDF5.
        MissingExtraError: h5py is not installed.
    """
    try:
        import h5py
    except ImportError:
        raise MissingExtraError(what, "import") from None
    size = check_regular(path)
    with h5py.File(path, "r") as file:
        yield Hdf5File(h5py, file["/"], Room.of(size))
