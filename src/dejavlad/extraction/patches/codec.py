"""How the descriptors of patches are written: as they are, in half the bytes, a quarter, or far fewer.

Shapes: P patches of one size in a grid of H rows of W, D numbers each; M parts of S dimensions, each written
as one byte.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError
from dejavlad.numerics import kmeans

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float32]
Grid = tuple[int, int]
"""(H, W), of P = H * W patches."""
CENTRES = 256
"""Centres of each part, one for each value of a byte."""
MOST_PARTS = 256
"""Bytes of a product-quantised patch, at most."""
PART = 8
"""Dimensions of a part, where that leaves `MOST_PARTS` at most."""
LEARNT_FROM = 16384
"""Patches that a product quantiser learns from, at most."""
ROUNDS = 15
"""Iterations of k-means: the error of a quantiser hardly falls after these."""


class Codec(Protocol):
    """Descriptors to bytes and back."""

    def bytes_of(self, patches: int, dims: int) -> int:
        """How many bytes so many patches take."""

    def encode(self, patches_PD: Floats, grid: Grid) -> bytes:
        """float32 [P, D] of unit length, row by row of their grid, to bytes."""

    def decode(self, data: NDArray[np.uint8], grid: Grid, dims: int) -> Tensor:
        """The bytes of a grid of patches to [P, D], of unit length as nearly as the bytes tell."""


class PlainCodec:
    """Numbers as they are, or rounded to half precision.

    Args:
        dtype: of what is written: float32 or float16.
    """

    def __init__(self, dtype: str) -> None:
        self.dtype = np.dtype(dtype).newbyteorder("<")

    def bytes_of(self, patches: int, dims: int) -> int:
        """How many bytes so many patches of D = `dims` take."""
        return patches * dims * self.dtype.itemsize

    def encode(self, patches_PD: Floats, grid: Grid) -> bytes:
        """float32 [P, D] of unit length, row by row of their grid, to bytes."""
        return patches_PD.astype(self.dtype).tobytes()

    def decode(self, data: NDArray[np.uint8], grid: Grid, dims: int) -> Tensor:
        """The bytes of a grid of patches to [P, D], of unit length as nearly as the bytes tell."""
        import torch

        return torch.from_numpy(np.array(data.view(self.dtype).reshape(-1, dims)))


class Int8Codec:
    """A patch as what its neighbours do not tell of it: whole numbers from -127 to 127, and their scale.

    Patches overlap, so one is nearly the sum of those to its left and above it less the one above its left.
    What remains is from 2.3 (patches of 2 cells) to 8 times (8 cells) smaller than the patch, and so are the
    errors of its rounding; they do not add up, as neighbours are taken as they will be decoded. Patches that
    have little in common are written as they are: the last byte tells which.
    """

    def bytes_of(self, patches: int, dims: int) -> int:
        """How many bytes so many patches of D = `dims` take."""
        return patches * (dims + 4) + 1

    def encode(self, patches_PD: Floats, grid: Grid) -> bytes:
        """float32 [P, D] of unit length, row by row of their grid, to bytes."""
        plain, predicted = _rounded(patches_PD), _rounded_from_neighbours(patches_PD.reshape(*grid, -1))
        from_neighbours = bool(predicted[0].sum() < plain[0].sum())
        scale_P, rounded_PD = predicted if from_neighbours else plain
        return b"".join([scale_P.astype("<f4").tobytes(), rounded_PD.tobytes(), bytes([from_neighbours])])

    def decode(self, data: NDArray[np.uint8], grid: Grid, dims: int) -> Tensor:
        """The bytes of a grid of patches to [P, D], of unit length as nearly as the bytes tell."""
        split = 4 * grid[0] * grid[1]
        import torch

        scale_P1 = torch.from_numpy(np.array(data[:split].view("<f4"), np.float32))[:, None]
        rounded_PD = torch.from_numpy(np.array(data[split:-1].view(np.int8).reshape(-1, dims)))
        decoded_PD = rounded_PD.float().mul_(scale_P1)
        if data[-1]:  # sums along both sides; as loops they are up to ten times faster than torch's cumsum
            decoded_HWD = decoded_PD.view(*grid, dims)
            for y in range(1, grid[0]):
                decoded_HWD[y] += decoded_HWD[y - 1]
            for x in range(1, grid[1]):
                decoded_HWD[:, x] += decoded_HWD[:, x - 1]
        return decoded_PD


def _rounded(rows_ND: Floats) -> tuple[Floats, NDArray[np.int8]]:
    """Scales [N] and whole numbers [N, D]; a scale times its numbers is the row, nearly."""
    scale_N = np.abs(rows_ND).max(axis=1) / np.float32(127)
    return scale_N, np.rint(rows_ND / np.where(scale_N > 0, scale_N, 1)[:, None]).astype(np.int8)


def _rounded_from_neighbours(patches_HWD: Floats) -> tuple[Floats, NDArray[np.int8]]:
    """As `_rounded`, for a grid: of what is left of each patch after left + above - above left, decoded."""
    height, width, dims = patches_HWD.shape
    scale_HW = np.empty((height, width), np.float32)
    rounded_HWD = np.empty((height, width, dims), np.int8)
    decoded = np.zeros((height + 1, width + 1, dims), np.float32)  # with a row and a column of zeros before
    for diagonal in range(height + width - 1):  # what each patch needs lies on the diagonals before
        y = np.arange(max(0, diagonal - width + 1), min(height, diagonal + 1))
        x = diagonal - y
        expected_ND = decoded[y + 1, x] + decoded[y, x + 1] - decoded[y, x]
        scale_N, rounded_ND = _rounded(patches_HWD[y, x] - expected_ND)
        scale_HW[y, x], rounded_HWD[y, x] = scale_N, rounded_ND
        decoded[y + 1, x + 1] = expected_ND + rounded_ND * scale_N[:, None]
    return scale_HW.ravel(), rounded_HWD.reshape(-1, dims)


class ProductCodec:
    """Product quantisation (Jégou et al., PAMI 2011): each part is written as its nearest centre's number.

    Args:
        centres_MCS: float32 [M, 256, S], learnt by `learn_codec`; dimensions past D are zeros.
    """

    def __init__(self, centres_MCS: Floats) -> None:
        self.centres = np.asarray(centres_MCS, np.float32)

    def bytes_of(self, patches: int, dims: int) -> int:
        """How many bytes so many patches of D = `dims` take."""
        return patches * len(self.centres)

    def encode(self, patches_PD: Floats, grid: Grid) -> bytes:
        """float32 [P, D] of unit length, row by row of their grid, to bytes."""
        import torch

        parts_MPS = torch.from_numpy(_parts(patches_PD, len(self.centres)))
        centres_MCS = torch.from_numpy(self.centres)
        half_M1C = centres_MCS.square().sum(dim=2)[:, None] / 2
        nearest_MP = torch.baddbmm(half_M1C, parts_MPS, centres_MCS.transpose(1, 2), alpha=-1).argmin(dim=2)
        return nearest_MP.T.to(torch.uint8).contiguous().numpy().tobytes()

    def decode(self, data: NDArray[np.uint8], grid: Grid, dims: int) -> Tensor:
        """The bytes of a grid of patches to [P, D], of unit length as nearly as the bytes tell."""
        parts, _, width = self.centres.shape
        codes_PM = data.reshape(-1, parts).astype(np.int64)
        import torch

        decoded_PMS = torch.from_numpy(self.centres[np.arange(parts), codes_PM])
        decoded_PD = decoded_PMS.reshape(len(codes_PM), parts * width)[:, :dims]
        return torch.nn.functional.normalize(decoded_PD, dim=1)


CODECS: Final[Mapping[str, Callable[..., Codec]]] = {
    "float32": lambda: PlainCodec("float32"),
    "float16": lambda: PlainCodec("float16"),
    "int8": Int8Codec,
    "pq": ProductCodec,
}
"""Name -> constructor; ``pq`` is called with the centres that `learn_codec` found."""


def learn_codec(patches_ND: Floats) -> Floats:
    """Centres float32 [M, 256, S] of a product quantiser, by k-means in each part.

    Args:
        patches_ND: descriptors of patches; some `LEARNT_FROM` of them are drawn.

    Raises:
        InputError: fewer patches than centres.
    """
    count, dims = patches_ND.shape
    if count < CENTRES:
        raise InputError(
            f"product quantisation learns from at least {CENTRES} patches; there are {count}: give more "
            "photos, or --patch-dtype int8"
        )
    rng = np.random.default_rng(0)
    if count > LEARNT_FROM:
        patches_ND = patches_ND[np.sort(rng.choice(count, LEARNT_FROM, replace=False))]
    parts_MNS = _parts(np.asarray(patches_ND, np.float32), min(MOST_PARTS, -(-dims // PART)))
    return np.stack([kmeans(part_NS, CENTRES, seed=0, iterations=ROUNDS) for part_NS in parts_MNS])


def _parts(patches_PD: Floats, parts: int) -> Floats:
    """[M, P, S], with zeros after the last dimension where M does not divide D."""
    width = -(-patches_PD.shape[1] // parts)
    padded = np.pad(patches_PD, ((0, 0), (0, parts * width - patches_PD.shape[1])))
    turned: NDArray[Any] = padded.reshape(len(padded), parts, width).transpose(1, 0, 2)
    return np.ascontiguousarray(turned, np.float32)
