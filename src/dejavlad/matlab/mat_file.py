"""MATLAB's .mat files, of version 5 and of version 7.3 (HDF5), as plain values.

Both become the same: a struct is a dict (an array of structs a list of them), a cell a list in column-major
order, text a str, a single number a float, any other array an ndarray of MATLAB's shape, a class object a
dict of its properties with ``__class__``; sparse arrays and function handles are None. Arrays may be
read-only and lie in the file itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dejavlad.errors import CheckpointError, MissingExtraError, first_line
from dejavlad.guarded.hdf5_file import Hdf5File, open_hdf5
from dejavlad.guarded.plain_file import open_regular
from dejavlad.guarded.room import Room
from dejavlad.matlab import mat5
from dejavlad.matlab.mat5 import DEEPEST
from dejavlad.matlab.mat_objects import Objects

HDF5 = b"\x89HDF\r\n\x1a\n"
USER_BLOCK = 512
"""A .mat file of version 7.3 is HDF5 after so many bytes of MATLAB's own."""
OPAQUE_HINT = 3


def is_mat5(head: bytes) -> bool:
    """Whether a file that begins so is a .mat of version 5."""
    return head[124:128] in (b"\x00\x01IM", b"\x01\x00MI")


def is_mat73(head: bytes) -> bool:
    """Whether a file that begins so is a .mat of version 7.3."""
    return head.startswith(b"MATLAB") and head[USER_BLOCK : USER_BLOCK + 8] == HDF5


def read_mat(path: Path) -> dict[str, Any]:
    """The variables of a .mat file, in memory bounded by its size.

    Raises:
        CheckpointError: it is no .mat file of these versions, or it is damaged.
        MissingExtraError: it is of version 7.3, and h5py is not installed.
    """
    try:
        size = path.stat().st_size
        with open_regular(path) as file:
            head = file.read(USER_BLOCK + 8)
        if is_mat73(head):
            return _read_hdf5(path)
        if is_mat5(head):
            return mat5.read(memoryview(np.memmap(path, np.uint8, "r").data), Room.of(size))
    except MissingExtraError:
        raise
    except CheckpointError as error:
        raise CheckpointError(f"{str(path)!r} cannot be read: {error}") from None
    except Exception as error:  # zlib's, the system's, and whatever HDF5 says of damaged files
        raise CheckpointError(f"{str(path)!r} cannot be read: {first_line(error)}") from None
    raise CheckpointError(f"{str(path)!r} is no .mat file of version 5 to 7.3; in MATLAB, save it with '-v7'")


def _read_hdf5(path: Path) -> dict[str, Any]:
    with open_hdf5(path, "reading .mat files of version 7.3") as file:
        reader = _Hdf5(file)
        names = [name for name in file.names(file.root) if not name.startswith("#")]
        return {name: reader.value(file.child(file.root, name)) for name in names}


class _Hdf5:
    def __init__(self, file: Hdf5File) -> None:
        self.file, self.room = file, file.room
        self.objects: Objects | None = None

    def value(self, node: Any, depth: int = 0) -> Any:
        """A variable, field or cell."""
        self.room.take(256)
        if depth > DEEPEST:
            raise CheckpointError(f"its values are nested more than {DEEPEST} deep")
        kind = node.attrs.get("MATLAB_class", b"")
        kind = kind.decode("latin-1") if isinstance(kind, bytes) else str(kind)
        if self.file.is_group(node):
            return (
                None
                if kind == "function_handle" or "MATLAB_sparse" in node.attrs
                else self._struct(node, depth)
            )
        if not self.file.is_dataset(node):
            raise CheckpointError("it holds what MATLAB does not write")
        if node.attrs.get("MATLAB_object_decode", 0) == OPAQUE_HINT and kind != "FileWrapper__":
            return self._objects().resolve(self._array(node))
        if node.attrs.get("MATLAB_empty", 0):
            return {"char": "", "cell": [], "struct": []}.get(kind, np.zeros((0, 0)))
        if node.dtype.kind == "O":
            return [self.value(self.file.target(ref), depth + 1) for ref in self._references(node)]
        array = self._array(node).T
        if kind == "char":
            rows = array.reshape(len(array), -1) if array.ndim else array.reshape(1, 1)
            return "\n".join("".join(map(chr, row.tolist())) for row in rows)
        if array.dtype.names is not None:
            array = array["real"] + 1j * array["imag"]
        return (
            float(array.reshape(-1)[0])
            if array.size == 1 and array.ndim <= 2 and array.dtype.kind in "fiub"
            else array
        )

    def _struct(self, group: Any, depth: int) -> Any:
        members = {name: self.file.child(group, name) for name in self.file.names(group)}
        if members and all(
            self.file.is_dataset(member) and member.dtype.kind == "O" and "MATLAB_class" not in member.attrs
            for member in members.values()
        ):
            columns = {
                name: [self.value(self.file.target(ref), depth + 1) for ref in self._references(member)]
                for name, member in members.items()
            }
            return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        return {name: self.value(member, depth + 1) for name, member in members.items()}

    def _references(self, node: Any) -> list[Any]:
        self.room.take(0, int(node.size or 0))
        return list(self._array(node).reshape(-1))

    def _array(self, node: Any) -> Any:
        return self.file.array(node)

    def _objects(self) -> Objects:
        if self.objects is None:
            cells = self.file.at("#subsystem#/MCOS")
            references = self._references(cells)
            self.objects = Objects([self.value(self.file.target(ref)) for ref in references])
        return self.objects
