"""Local features in few bytes: at most 150 kB a photo of 1024 points, and far less for most.

Descriptors take 8 bits a number (127 for the largest of each; of unit length again when read) or 16;
keypoints are 16-bit shares of the photo's sides, off by less than 1/100 pixel on a photo of 1024 pixels;
scores are float16. A record tells its own length.

Shapes: P points, D numbers a descriptor.
"""

from __future__ import annotations

import struct
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError, StoreError
from dejavlad.local_features import LocalFeatures

Dtype = Literal["int8", "float16"]
DTYPES: Final = ("int8", "float16")
MAGIC: Final = b"DVL1"
HEAD: Final = struct.Struct("<4s16sBIIII")
"""Mark, kind, descriptors' type, points, dimensions, height, width."""
MARGIN: Final = 0.5
"""Keypoints lie at most so many pixels outside of the centres of the photo's border pixels."""
STEPS: Final = 65535


def encode(features: LocalFeatures, dtype: Dtype = "int8") -> bytes:
    """The record of one photo.

    Raises:
        InputError: no such type, a name of more than 16 bytes, or points outside of the photo.
    """
    if dtype not in DTYPES:
        raise InputError(f"descriptors are stored as int8 or float16; given {dtype!r}")
    kind = features.kind.encode()
    if not 0 < len(kind) <= 16:
        raise InputError(f"a kind of local features is named by 1 to 16 bytes; given {features.kind!r}")
    height, width = features.size
    sides = np.array([width, height], np.float64)
    shares_P2 = (features.keypoints + MARGIN) / sides
    if len(features) and not (shares_P2.min() >= -1e-3 and shares_P2.max() <= 1 + 1e-3):
        raise InputError("local features lie outside of their photo")
    keypoints = np.round(np.clip(shares_P2, 0, 1) * STEPS).astype("<u2")
    scores = features.scores.astype("<f2")
    head = HEAD.pack(MAGIC, kind, DTYPES.index(dtype), len(features), features.dims, height, width)
    parts = [head, keypoints.tobytes(), np.nan_to_num(scores).tobytes()]
    if dtype == "float16":
        parts.append(features.descriptors.astype("<f2").tobytes())
    else:
        most_P1 = np.abs(features.descriptors).max(axis=1, keepdims=True, initial=0)
        parts.append(
            np.round(features.descriptors / np.maximum(most_P1, 1e-12) * 127).astype(np.int8).tobytes()
        )
    return b"".join(parts)


def decode(record: bytes | memoryview) -> LocalFeatures:
    """The features of a record; descriptors are of unit length again.

    Raises:
        StoreError: it is no such record, or not a whole one.
    """
    view = memoryview(record)
    if len(view) < HEAD.size:
        raise StoreError(f"a record of local features has at least {HEAD.size} bytes; given {len(view)}")
    magic, kind, code, points, dims, height, width = HEAD.unpack(view[: HEAD.size])
    if magic != MAGIC or code >= len(DTYPES) or not height or not width:
        raise StoreError("this is no record of local features, or one of a later version")
    if len(view) != record_bytes(points, dims, DTYPES[code]):
        wanted = record_bytes(points, dims, DTYPES[code])
        raise StoreError(f"the record of {points} local features has {len(view)} of {wanted} bytes")
    at = HEAD.size
    keypoints = np.frombuffer(view, "<u2", 2 * points, at).reshape(points, 2).astype(np.float64)
    scores = np.frombuffer(view, "<f2", points, at + 4 * points)
    stored = np.frombuffer(
        view, "<f2" if DTYPES[code] == "float16" else np.int8, points * dims, at + 6 * points
    )
    described: NDArray[np.float32] = stored.astype(np.float32).reshape(points, dims)
    lengths = np.linalg.norm(described, axis=1, keepdims=True)
    try:
        return LocalFeatures(
            (keypoints / STEPS * (width, height) - MARGIN).astype(np.float32),
            described / np.maximum(lengths, 1e-12),
            scores.astype(np.float32),
            (height, width),
            bytes(kind).rstrip(b"\0").decode("ascii"),
        )
    except (InputError, UnicodeDecodeError) as error:
        raise StoreError(f"the record of local features is damaged: {error}") from None


def record_bytes(points: int, dims: int, dtype: str = "int8") -> int:
    """How many bytes the record of so many points has."""
    return HEAD.size + points * (6 + dims * (2 if dtype == "float16" else 1))
