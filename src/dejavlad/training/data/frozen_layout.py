"""Where the maps of photos lie in one array, and how each is written there.

The maps lie one after the other; photos of several sizes have maps of several sizes. ``int16``: each channel
of a map as 65,536 even steps from its least value to its greatest, these two as float32 before the steps. It
takes what float16 takes, whose steps grow with the value, and is closer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from dejavlad.training.data.photo_pool import PhotoPool
from dejavlad.training.sampling.tuples import Rows
from dejavlad.training.steps.network import Network

STEPS = 65535
"""Between the least and the greatest value of a channel."""

Shape = tuple[int, int, int]
KEPT: Final[Mapping[str, Any]] = {"float32": np.float32, "float16": np.float16, "int16": np.uint16}
"""Of `frozen_maps_dtype`, what lies in the array."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the map of each photo lies in the one array."""

    shapes: list[Shape | None]
    """(channels, h, w) of each map; None where there is none."""
    starts: NDArray[np.int64]
    """Where each begins, and as the last the whole length, in values."""
    dtype: np.dtype[Any]
    """Type of the values; uint16: even steps between a channel's ends (see `quantize`)."""

    @classmethod
    def of(cls, network: Network, pool: PhotoPool, dtype: str, rows: Rows | None = None) -> Layout:
        """The layout for a network's maps of a pool, or of some rows of it: each size is tried once.

        Raises:
            InputError: photos too small for the network.
        """
        by_size: dict[tuple[int, int], Shape] = {}
        shapes: list[Shape | None] = []
        sizes = pool.sizes
        if rows is not None:
            wanted = set(rows.tolist())
            sizes = [size if number in wanted else None for number, size in enumerate(sizes)]
        for size in sizes:
            if size is not None and size not in by_size:
                with network.describing():
                    map_1Chw = network.features(torch.zeros(1, 3, *size))
                by_size[size] = (int(map_1Chw.shape[1]), int(map_1Chw.shape[2]), int(map_1Chw.shape[3]))
            shapes.append(None if size is None else by_size[size])
        kept = np.dtype(np.float64 if network.dtype == torch.float64 else KEPT[dtype])
        lengths = [0 if shape is None else _length(shape, kept) for shape in shapes]
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
        return cls(shapes, starts, kept)

    @property
    def n_bytes(self) -> int:
        """Bytes that all maps take together."""
        return int(self.starts[-1]) * self.dtype.itemsize


def _length(shape: Shape, dtype: np.dtype[Any]) -> int:
    """Values that a map takes: with its channels' least and greatest, where it is in steps."""
    return shape[0] * (shape[1] * shape[2] + 4 * (dtype == np.uint16))


def quantize(map_Chw: NDArray[Any]) -> NDArray[np.uint16]:
    """A map as steps, uint16 [C * (4 + h * w)], least and greatest first."""
    rows_CL = map_Chw.reshape(len(map_Chw), -1).astype(np.float32)
    ends_C2 = np.stack([rows_CL.min(axis=1), rows_CL.max(axis=1)], axis=1)
    least_C, size_C = _ends(ends_C2)
    steps_CL = np.rint((rows_CL - least_C[:, None]) / size_C[:, None]).clip(0, STEPS).astype(np.uint16)
    return np.concatenate([ends_C2.view(np.uint16).reshape(-1), steps_CL.reshape(-1)])


def dequantize(kept: NDArray[np.uint16], shape: Shape) -> NDArray[np.float32]:
    """A map [C, h, w] from what `quantize` made."""
    channels = shape[0]
    least_C, size_C = _ends(kept[: 4 * channels].reshape(channels, 4).copy().view(np.float32))
    steps_Chw = kept[4 * channels :].reshape(shape)
    map_Chw = steps_Chw.astype(np.float32)
    map_Chw *= size_C[:, None, None].astype(np.float32)
    map_Chw += least_C[:, None, None].astype(np.float32)
    return map_Chw


def _ends(ends_C2: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The least value of each channel, and the size of its steps, above 0."""
    least_C, most_C = ends_C2.astype(np.float64).T
    return least_C, np.where(most_C > least_C, (most_C - least_C) / STEPS, 1.0)
