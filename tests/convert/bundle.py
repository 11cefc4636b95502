"""A writer of TensorFlow's checkpoints (version 2), without TensorFlow."""

import struct
from pathlib import Path

import numpy as np

from dejavlad.convert.tensor_bundle import (
    MAGIC,
    _masked_crc,
)

TYPES = {"f4": 1, "f8": 2, "i4": 3, "i8": 9, "f2": 19, "u1": 4}


def varint(value):
    encoded = b""
    while value >= 128:
        encoded += bytes([value & 127 | 128])
        value >>= 7
    return encoded + bytes([value])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def entry(array, offset, shard=0):
    shape = b"".join(field(2, field(1, side)) for side in array.shape)
    fields = field(1, TYPES[array.dtype.str[1:]]) + field(2, shape) + field(3, shard) + field(4, offset)
    return fields + field(5, array.nbytes) + varint(6 << 3 | 5) + b"\0\0\0\0"


def block(entries, every=16):
    content, restarts, last = b"", [], b""
    for i, (key, value) in enumerate(entries):
        shared = 0
        if i % every:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        else:
            restarts.append(len(content))
        content += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    content += b"".join(struct.pack("<I", at) for at in restarts or [0])
    return content + struct.pack("<I", len(restarts or [0]))


def write_table(path, entries, per_block=5, compression=0):
    data, handles = b"", []

    def append(content):
        nonlocal data
        handle = varint(len(data)) + varint(len(content))
        kind = bytes([compression])
        data += content + kind + struct.pack("<I", _masked_crc(content + kind))
        return handle

    entries = sorted(entries)
    for first in range(0, len(entries), per_block):
        sample = entries[first : first + per_block]
        handles.append((sample[-1][0] + b"~", append(block(sample))))
    meta = append(block([]))
    footer = meta + append(block(handles, every=1))
    path.write_bytes(data + footer.ljust(40, b"\0") + struct.pack("<Q", MAGIC))
    return path


def write_bundle(prefix, arrays, shards=1, **how):
    """Returns the ``.index``."""
    entries = [(b"", field(1, shards) + field(3, field(1, 1)))]
    data = [b""] * shards
    for i, (name, array) in enumerate(sorted(arrays.items())):
        shard = i % shards
        entries.append((name.encode(), entry(np.asarray(array), len(data[shard]), shard)))
        data[shard] += np.ascontiguousarray(array).tobytes()
    for shard, content in enumerate(data):
        Path(f"{prefix}.data-{shard:05d}-of-{shards:05d}").write_bytes(content)
    return write_table(Path(f"{prefix}.index"), entries, **how)
