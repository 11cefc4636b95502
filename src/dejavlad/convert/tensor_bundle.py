"""TensorFlow's checkpoints of version 2, read without TensorFlow.

``NAME.index`` is a sorted table of LevelDB's form: blocks of entries whose keys share prefixes; each value is
a protocol buffer that says type, shape, and where in ``NAME.data-00000-of-00001`` the tensor lies. Format:
``tensorflow/core/util/tensor_bundle`` and LevelDB's ``table_format.md``. Sizes are checked against what is
there before anything is made of them; tensors are views of the mapped file.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import CheckpointError, MalformedFileError
from dejavlad.guarded.plain_file import read_bytes

MAGIC = 0xDB4775248B80FB57
FOOTER, TRAILER = 48, 5
LARGEST_INDEX, LONGEST_NAME = 4 << 20, 4096
TYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8", 19: "<f2"}
"""TensorFlow's numbers of the types that networks hold; others are passed over."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of the index: its type and shape, and where its bytes lie in the data files."""

    dtype: int
    """TensorFlow's number of the type."""
    shape: tuple[int, ...]
    """Its shape."""
    shard: int
    """Number of the data file."""
    offset: int
    """Its first byte in there."""
    size: int
    """Its bytes."""


def read_bundle(prefix: Path) -> dict[str, NDArray[Any]]:
    """The tensors of a checkpoint, by name; read-only views of its data files.

    Args:
        prefix: the files' name without ``.index``.

    Raises:
        CheckpointError: a file is missing or damaged, or the checkpoint is of another kind.
    """
    index = Path(f"{prefix}.index")
    try:
        entries = dict(_entries(read_bytes(index, LARGEST_INDEX)))
    except MalformedFileError as error:
        raise CheckpointError(f"{index.name} is no index: {error}") from None
    except OSError as error:
        raise CheckpointError(f"{index.name} cannot be read: {error.strerror or error}") from None
    header = _message(entries.pop("", b""))
    shards = _number(header, 1)
    if not 1 <= shards <= 1000 or _number(header, 2) != 0:
        raise CheckpointError(f"{index.name} says {shards} data files, or bytes in reverse; it is damaged")
    files: dict[int, NDArray[np.uint8]] = {}
    arrays = {}
    for name, value in entries.items():
        entry = _entry(value, name)
        if entry.dtype not in TYPES:
            continue
        if not 0 <= entry.shard < shards:
            raise CheckpointError(f"{name} lies in data file {entry.shard} of {shards}")
        if entry.shard not in files:
            files[entry.shard] = _mapped(Path(f"{prefix}.data-{entry.shard:05d}-of-{shards:05d}"))
        arrays[name] = _array(files[entry.shard], entry, name)
    return arrays


def _mapped(path: Path) -> NDArray[np.uint8]:
    try:
        return np.memmap(path, np.uint8, "r") if path.stat().st_size else np.zeros(0, np.uint8)
    except OSError as error:
        raise CheckpointError(
            f"its tensors, {path.name}, cannot be read: {error.strerror or error}"
        ) from None


def _array(data: NDArray[np.uint8], entry: Entry, name: str) -> NDArray[Any]:
    dtype = np.dtype(TYPES[entry.dtype])
    if entry.size != math.prod(entry.shape) * dtype.itemsize or entry.offset + entry.size > len(data):
        raise CheckpointError(
            f"{name} says {list(entry.shape)} of {dtype} in {entry.size} bytes from {entry.offset} on, "
            f"where {len(data)} are"
        )
    return np.frombuffer(data, dtype, math.prod(entry.shape), entry.offset).reshape(entry.shape)


def _entry(value: bytes, name: str) -> Entry:
    message = _message(value)
    sizes = []
    for shape in message.get(2, []):
        for dim in _message(_bytes(shape)).get(2, []):
            sizes.append(_number(_message(_bytes(dim)), 1))
    if len(sizes) > 8 or 7 in message:
        raise CheckpointError(f"{name} is kept in slices or has {len(sizes)} axes; save it whole")
    return Entry(
        _number(message, 1), tuple(sizes), _number(message, 3), _number(message, 4), _number(message, 5)
    )


def _entries(table: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield (name, value) of each entry of a sorted table, in the order of names."""
    if len(table) < FOOTER or struct.unpack("<Q", table[-8:])[0] != MAGIC:
        raise CheckpointError("its index is none of a TensorFlow checkpoint of version 2")
    footer = table[-FOOTER:]
    at = 0
    for _ in range(2):  # the first handle, of the metaindex, is not needed
        _, at = _varint(footer, at)
    read = 0  # so far; blocks follow each other, so that each is read once
    for _, handle in _block(table, *_handle(footer[at:])):
        offset, size = _handle(handle)
        if offset < read:
            raise CheckpointError("its index is damaged: blocks overlap")
        read = offset + size
        for name, value in _block(table, offset, size):
            yield name.decode("utf-8", "replace"), value


def _handle(data: bytes) -> tuple[int, int]:
    """Decode the handle of a block: its offset and its size in bytes."""
    offset, at = _varint(data, 0)
    return offset, _varint(data, at)[0]


def _block(table: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield (key, value) of each entry of the block at `offset`, its checksum verified."""
    end = offset + size
    if size < 4 or end + TRAILER > len(table):
        raise CheckpointError("its index leads beyond its end; it is damaged")
    if table[end] != 0:
        raise CheckpointError("its index is compressed; save it with TensorFlow's default")
    if _masked_crc(table[offset : end + 1]) != struct.unpack("<I", table[end + 1 : end + TRAILER])[0]:
        raise CheckpointError("its index is damaged: a checksum does not fit")
    # Offsets of entries with whole keys end a block; they only speed up searches, and are passed over.
    (restarts,) = struct.unpack("<I", table[end - 4 : end])
    stop = end - 4 - 4 * restarts
    key, at = b"", offset
    while at < stop:
        shared, at = _varint(table, at)
        more, at = _varint(table, at)
        length, at = _varint(table, at)
        if shared > len(key) or shared + more > LONGEST_NAME or at + more + length > stop:
            raise CheckpointError("its index is damaged: an entry ends late")
        key = key[:shared] + table[at : at + more]
        at += more + length
        yield key, table[at - length : at]


Message = dict[int, list[int | bytes]]


def _message(data: bytes) -> Message:
    """The fields of a protocol buffer: number -> values."""
    fields: Message = {}
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        value: int | bytes
        if kind == 0:
            value, at = _varint(data, at)
        else:
            size, at = _varint(data, at) if kind == 2 else ({1: 8, 5: 4}.get(kind, len(data) + 1), at)
            if at + size > len(data):
                raise CheckpointError("its index is damaged: a value ends early")
            value = data[at : at + size]
            at += size
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _number(message: Message, field: int) -> int:
    value = message.get(field, [0])[-1]
    if not isinstance(value, int) or value >= 1 << 62:
        raise CheckpointError("its index is damaged: a number is none")
    return value


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise CheckpointError("its index is damaged: a value is of another type")
    return value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Decode the variable-length integer at `at`: return it and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise CheckpointError("its index is damaged: a number has no end")


def _crc_table() -> tuple[int, ...]:
    made = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        made.append(byte)
    return tuple(made)


CRC = _crc_table()
"""CRC-32C (Castagnoli), byte by byte."""


def _masked_crc(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
