"""How the descriptors of patches are written: as they are, in half the bytes, a quarter, or far fewer.

Shapes: P patches of one size, D numbers each; M parts of S dimensions, each written as one byte.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dejavlad.errors import InputError
from dejavlad.numerics import kmeans

Floats = NDArray[np.float32]
CENTRES = 256
"""Centres of each part, one for each value of a byte."""
MOST_PARTS = 256
"""Bytes of a product-quantised patch, at most."""
PART = 8
"""Dimensions of a part, where that leaves `MOST_PARTS` at most."""
LEARNT_FROM = 16384
"""Patches that a product quantiser learns from, at most."""
ROUNDS = 15
"""Of k-means: the error of a quantiser hardly falls after these."""


class Codec(Protocol):
    """Descriptors to bytes and back."""

    def bytes_of(self, patches: int, dims: int) -> int:
        """How many bytes so many patches take."""

    def encode(self, patches_PD: Floats) -> bytes:
        """float32 [P, D] of unit length to bytes."""

    def decode(self, data: NDArray[np.uint8], patches: int, dims: int) -> Tensor:
        """The bytes of P patches to [P, D], of unit length as nearly as the bytes tell."""


class PlainCodec:
    """Numbers as they are, or rounded to half precision.

    Args:
        dtype: of what is written: float32 or float16.
    """

    def __init__(self, dtype: str) -> None:
        self.dtype = np.dtype(dtype).newbyteorder("<")

    def bytes_of(self, patches: int, dims: int) -> int:
        """See `Codec`."""
        return patches * dims * self.dtype.itemsize

    def encode(self, patches_PD: Floats) -> bytes:
        """See `Codec`."""
        return patches_PD.astype(self.dtype).tobytes()

    def decode(self, data: NDArray[np.uint8], patches: int, dims: int) -> Tensor:
        """See `Codec`."""
        return torch.from_numpy(np.array(data.view(self.dtype).reshape(patches, dims)))


class Int8Codec:
    """Whole numbers from -127 to 127, and for each patch what its largest one stands for."""

    def bytes_of(self, patches: int, dims: int) -> int:
        """See `Codec`."""
        return patches * (dims + 4)

    def encode(self, patches_PD: Floats) -> bytes:
        """See `Codec`."""
        scale_P1 = np.abs(patches_PD).max(axis=1, keepdims=True) / 127
        rounded_PD = np.rint(patches_PD / np.where(scale_P1 > 0, scale_P1, 1)).astype(np.int8)
        return b"".join([scale_P1.astype("<f4").tobytes(), rounded_PD.tobytes()])

    def decode(self, data: NDArray[np.uint8], patches: int, dims: int) -> Tensor:
        """See `Codec`."""
        scale_P1 = torch.from_numpy(np.array(data[: 4 * patches].view("<f4"), np.float32))[:, None]
        rounded_PD = torch.from_numpy(np.array(data[4 * patches :].view(np.int8).reshape(patches, dims)))
        return rounded_PD.float().mul_(scale_P1)


class ProductCodec:
    """Product quantisation (Jégou et al., PAMI 2011): each part is written as its nearest centre's number.

    Args:
        centres_MCS: float32 [M, 256, S], learnt by `learn_codec`; dimensions past D are zeros.
    """

    def __init__(self, centres_MCS: Floats) -> None:
        self.centres = np.asarray(centres_MCS, np.float32)

    def bytes_of(self, patches: int, dims: int) -> int:
        """See `Codec`."""
        return patches * len(self.centres)

    def encode(self, patches_PD: Floats) -> bytes:
        """See `Codec`."""
        parts_MPS = torch.from_numpy(_parts(patches_PD, len(self.centres)))
        centres_MCS = torch.from_numpy(self.centres)
        half_M1C = centres_MCS.square().sum(dim=2)[:, None] / 2
        nearest_MP = torch.baddbmm(half_M1C, parts_MPS, centres_MCS.transpose(1, 2), alpha=-1).argmin(dim=2)
        return nearest_MP.T.to(torch.uint8).contiguous().numpy().tobytes()

    def decode(self, data: NDArray[np.uint8], patches: int, dims: int) -> Tensor:
        """See `Codec`."""
        parts, _, width = self.centres.shape
        codes_PM = data.reshape(patches, parts).astype(np.int64)
        found_PMS = torch.from_numpy(self.centres[np.arange(parts), codes_PM])
        found_PD = found_PMS.reshape(patches, parts * width)[:, :dims]
        return torch.nn.functional.normalize(found_PD, dim=1)


CODECS: Final[Mapping[str, Callable[..., Codec]]] = {
    "float32": lambda: PlainCodec("float32"),
    "float16": lambda: PlainCodec("float16"),
    "int8": Int8Codec,
    "pq": ProductCodec,
}
"""Name -> constructor; ``pq`` is called with the centres that `learn_codec` found."""


def learn_codec(patches_ND: Floats, *, seed: int = 0) -> Floats:
    """Centres float32 [M, 256, S] of a product quantiser, by k-means in each part.

    Args:
        patches_ND: descriptors of patches; some `LEARNT_FROM` of them are drawn.
        seed: of what is drawn.

    Raises:
        InputError: fewer patches than centres.
    """
    count, dims = patches_ND.shape
    if count < CENTRES:
        raise InputError(
            f"product quantisation learns from at least {CENTRES} patches; there are {count}: give more "
            "photos, or --patch-dtype int8"
        )
    rng = np.random.default_rng(seed)
    if count > LEARNT_FROM:
        patches_ND = patches_ND[np.sort(rng.choice(count, LEARNT_FROM, replace=False))]
    parts_MNS = _parts(np.asarray(patches_ND, np.float32), min(MOST_PARTS, -(-dims // PART)))
    return np.stack([kmeans(part_NS, CENTRES, seed=seed, iterations=ROUNDS) for part_NS in parts_MNS])


def _parts(patches_PD: Floats, parts: int) -> Floats:
    """[M, P, S], with zeros after the last dimension where M does not divide D."""
    width = -(-patches_PD.shape[1] // parts)
    padded = np.pad(patches_PD, ((0, 0), (0, parts * width - patches_PD.shape[1])))
    turned: NDArray[Any] = padded.reshape(len(padded), parts, width).transpose(1, 0, 2)
    return np.ascontiguousarray(turned, np.float32)
