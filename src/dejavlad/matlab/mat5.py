"""MATLAB's .mat files of version 5 (also called v6 and v7): elements of (type, size, data), one in another.

Read by hand: the readers at hand trust the sizes that a file declares. Here each size is checked against what
is there before anything is made of it, and all memory comes out of one `Room`. Format: MathWorks, "MAT-File
Format", chapter 1.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import CheckpointError
from dejavlad.guarded.room import Room
from dejavlad.matlab.mat_objects import CONVERT, Objects

MATRIX, COMPRESSED = 14, 15
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
CELL, STRUCT, OBJECT, CHAR, SPARSE, FUNCTION, OPAQUE = 1, 2, 3, 4, 5, 16, 17
CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
COMPLEX_FLAG = 0x0800
HEADER = 128
DEEPEST = 48


def read(data: memoryview, room: Room) -> dict[str, Any]:
    """All variables of a file as plain values (see `mat_file`)."""
    order = _byte_order(bytes(data[126:128]))
    offset = int(np.frombuffer(data[116:124], order + "u8")[0])
    parsed: list[Objects] = []

    def objects() -> Objects:
        if not parsed:
            parsed.append(_subsystem(data, offset, order, room))
        return parsed[0]

    reader = _Reader(order, room, objects)
    variables = {}
    for at, matrix in reader.matrices(data, HEADER):
        name, value = (None, None) if at == offset else reader.matrix(matrix)
        if name:
            variables[name] = value
    return variables


class _Reader:
    def __init__(self, order: str, room: Room, objects: Callable[[], Objects]) -> None:
        self.order, self.room, self.objects = order, room, objects

    def matrices(self, data: memoryview, start: int) -> Iterator[tuple[int, memoryview]]:
        """(offset, content) of the matrices that follow each other from `start`, unpacked."""
        while start + 8 <= len(data):
            kind, content, after = self.element(data, start)
            if kind == COMPRESSED:
                kind, content, _ = self.element(self._unpacked(content), 0)
            if kind != MATRIX:
                raise CheckpointError(f"at byte {start} is no variable (type {kind}); the file is damaged")
            yield start, content
            start = after

    def element(self, data: memoryview, start: int) -> tuple[int, memoryview, int]:
        """(type, content, start of the next) of the element at `start`."""
        tag, size = self._integers(data[start : start + 8], "I", 2)
        if tag >> 16:  # small: size and type in one word, up to four bytes in the other
            kind, size, at, after = tag & 0xFFFF, tag >> 16, start + 4, start + 8
            if size > 4:
                raise CheckpointError(f"the small element at byte {start} says {size} bytes")
        else:
            kind, at = tag, start + 8
            after = at + size + (0 if kind == COMPRESSED else -size % 8)
        if at + size > len(data):
            raise CheckpointError(f"it ends early: {size} bytes are declared, {len(data) - at} are there")
        return kind, data[at : at + size], after

    def matrix(self, data: memoryview, depth: int = 0) -> tuple[str, Any]:
        """(name, value) of a matrix's content."""
        self.room.take(64)
        if depth > DEEPEST:
            raise CheckpointError(f"its values are nested more than {DEEPEST} deep")
        if not len(data):
            return "", np.zeros((0, 0))
        _, flags, at = self.element(data, 0)
        (flag,) = self._integers(flags[:4], "I", 1)
        kind = flag & 0xFF
        if kind == OPAQUE:
            return self._opaque(data, at, depth)
        _, dims_bytes, at = self.element(data, at)
        dims = list(self._integers(dims_bytes, "i", len(dims_bytes) // 4))
        if not 2 <= len(dims) <= 16 or min(dims) < 0:
            raise CheckpointError(f"a variable cannot have dimensions {dims[:16]}")
        name, at = self._text(data, at)
        if kind in (SPARSE, FUNCTION):
            return name, None
        if kind == CELL:
            return name, self._values(data, at, math.prod(dims), depth)[0]
        if kind in (STRUCT, OBJECT):
            return name, self._struct(data, at, math.prod(dims), kind == OBJECT, depth)
        stored, content, at = self.element(data, at)
        if kind == CHAR:
            return name, self._characters(stored, content, dims)
        if kind not in CLASSES:
            raise CheckpointError(f"variables of class {kind} are not known")
        array = self._array(stored, content, dims, CLASSES[kind])
        if flag & COMPLEX_FLAG:
            stored, content, at = self.element(data, at)
            array = array + 1j * self._array(stored, content, dims, CLASSES[kind])
        return name, float(array[0, 0]) if dims == [1, 1] and array.dtype.kind != "c" else array

    def _values(self, data: memoryview, at: int, count: int, depth: int) -> tuple[list[Any], int]:
        if count > (len(data) - at) // 8:
            raise CheckpointError(f"it declares {count} values where {len(data) - at} bytes are left")
        values = []
        for _ in range(count):
            kind, content, at = self.element(data, at)
            if kind != MATRIX:
                raise CheckpointError(f"a value is of type {kind}; the file is damaged")
            values.append(self.matrix(content, depth + 1)[1])
        return values, at

    def _struct(self, data: memoryview, at: int, count: int, is_object: bool, depth: int) -> Any:
        class_name = None
        if is_object:
            class_name, at = self._text(data, at)
        _, length, at = self.element(data, at)
        (width,) = self._integers(length, "i", 1)
        _, names, at = self.element(data, at)
        if not 1 <= width <= 4096 or len(names) % width:
            raise CheckpointError("a struct's field names cannot be read; the file is damaged")
        fields = [
            bytes(names[i : i + width]).split(b"\0")[0].decode("latin-1") for i in range(0, len(names), width)
        ]
        if count > len(data) // 8:
            raise CheckpointError(f"it declares {count} structs in {len(data)} bytes")
        self.room.take(count * 256, count)
        values, _ = self._values(data, at, count * len(fields), depth)
        rows = [
            dict(zip(fields, values[i * len(fields) : (i + 1) * len(fields)], strict=True))
            for i in range(count)
        ]
        for row in rows if class_name else ():
            row["__class__"] = class_name
        return rows[0] if count == 1 else rows

    def _opaque(self, data: memoryview, at: int, depth: int) -> tuple[str, Any]:
        name, at = self._text(data, at)
        _, at = self._text(data, at)
        class_name, at = self._text(data, at)
        reference = self._values(data, at, 1, depth)[0][0]
        return name, reference if class_name == "FileWrapper__" else self.objects().resolve(reference)

    def _array(self, stored: int, content: memoryview, dims: list[int], wanted: str) -> NDArray[Any]:
        if stored not in NUMBERS:
            raise CheckpointError(f"numbers of type {stored} are not known; the file is damaged")
        flat = self._numbers(content, NUMBERS[stored], math.prod(dims))
        if flat.dtype != np.dtype(wanted):
            self.room.take(flat.size * np.dtype(wanted).itemsize)
            flat = flat.astype(wanted)
        return flat.reshape(dims, order="F")

    def _characters(self, stored: int, content: memoryview, dims: list[int]) -> str:
        self.room.take(8 * len(content))
        order = {"<": "-le", ">": "-be"}[self.order]
        codec = TEXTS.get(stored, "latin-1")
        text = bytes(content).decode(codec + (order if codec in ("utf-16", "utf-32") else ""), "replace")
        return "\n".join(text[i :: dims[0]] for i in range(min(dims[0], len(text)))) if dims[0] > 1 else text

    def _text(self, data: memoryview, at: int) -> tuple[str, int]:
        _, content, at = self.element(data, at)
        return bytes(content[:256]).decode("latin-1").rstrip("\0"), at

    def _numbers(self, content: memoryview, dtype: str, count: int) -> NDArray[Any]:
        _require(content, count, np.dtype(dtype).itemsize)
        return np.frombuffer(content, self.order + dtype)

    def _integers(self, content: memoryview | bytes, code: str, count: int) -> tuple[int, ...]:
        """So many of 4 bytes each; NumPy takes four times as long for these few."""
        _require(content, count, 4)
        return struct.unpack(f"{self.order}{count}{code}", content)

    def _unpacked(self, packed: memoryview) -> memoryview:
        unpack = zlib.decompressobj()
        head = unpack.decompress(packed, 8)
        _, size = self._integers(head, "I", 2)
        self.room.take(2 * size)  # while they are joined, they are there twice
        body = unpack.decompress(unpack.unconsumed_tail, size) if size else b""
        return memoryview(head + body)


def _require(content: memoryview | bytes, count: int, size: int) -> None:
    if len(content) != count * size:
        raise CheckpointError(f"{count} numbers are declared in {len(content)} bytes; the file is damaged")


def _subsystem(data: memoryview, offset: int, order: str, room: Room) -> Objects:
    """MATLAB's class objects: a file within the file, of one struct with the field ``MCOS``."""

    def none() -> Objects:
        raise CheckpointError(f"its class objects name others before they are there; {CONVERT}")

    reader = _Reader(order, room, none)
    if not HEADER <= offset < len(data):
        raise CheckpointError(f"it names MATLAB class objects, but holds none; {CONVERT}")
    _, packed = next(reader.matrices(data, offset))
    inner = memoryview(np.ascontiguousarray(reader.matrix(packed)[1], np.uint8).reshape(-1).data)
    reader = _Reader(_byte_order(bytes(inner[2:4])), room, none)
    _, content = next(reader.matrices(inner, 8))
    fields = reader.matrix(content)[1]
    return Objects(fields.get("MCOS") if isinstance(fields, dict) else None, reader.order)


def _byte_order(mark: bytes) -> str:
    if mark not in (b"IM", b"MI"):
        raise CheckpointError("its header names no byte order; the file is damaged")
    return "<" if mark == b"IM" else ">"
