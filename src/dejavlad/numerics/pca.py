"""Principal components, with or without whitening: float64, primal or dual, the same answer either way.

Shapes: N rows, D dimensions, d components kept. Rows may be a memory map: they are read in blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from dejavlad.errors import InputError

Doubles = NDArray[np.float64]

BLOCK_VALUES = 1 << 23
"""Values of one float64 block of rows (64 MiB)."""

RELJA_REGULARISATION = 1e-9
"""What NetVLAD's ``addPCA`` adds to each variance before whitening."""


@dataclass(frozen=True, slots=True, eq=False)
class Pca:
    """What `fit_pca` found; apply it as ``rows @ weight.T + bias``."""

    mean: Doubles
    """[D] mean of the rows."""
    components: Doubles
    """[d, D] orthonormal directions, largest variance first; the largest |entry| of each is positive."""
    variances: Doubles
    """[d] variance of the rows along each direction (divided by N - 1), descending."""
    scales: Doubles
    """[d] what each direction is multiplied by: 1 without whitening."""
    total_variance: float
    """Variance over all directions, the kept and the others."""
    rows: int
    """N, the number of rows it was learnt from."""
    regularisation: float
    """What was added to each variance before whitening; 0 without whitening."""

    @property
    def weight(self) -> Doubles:
        """[d, D] of the linear layer."""
        return self.components * self.scales[:, None]

    @property
    def bias(self) -> Doubles:
        """[d] of the linear layer: minus the image of the mean."""
        return -(self.components @ self.mean) * self.scales

    @property
    def dims(self) -> int:
        """d."""
        return len(self.components)

    @property
    def explained(self) -> float:
        """Share of the total variance that the kept directions hold, 0 to 1."""
        return float(self.variances.sum() / self.total_variance) if self.total_variance > 0 else 1.0


def fit_pca(
    rows_ND: NDArray[np.floating],
    dims: int | None = None,
    *,
    whiten: bool = True,
    regularisation: float | Literal["auto"] = "auto",
    form: Literal["auto", "primal", "dual"] = "auto",
) -> Pca:
    """Principal components of rows.

    With ``regularisation=1e-9`` equivalent to ``relja_PCA`` and the whitening of ``addPCA`` (NetVLAD), up to
    the signs, which are arbitrary there and fixed here.

    Args:
        rows_ND: [N, D] of any floating type, finite, N >= 2.
        dims: directions to keep, at most the numerical rank (N - 1 or D, less where rows repeat); None keeps
            as many as the rank allows.
        whiten: divide each direction by ``sqrt(variance + regularisation)``.
        regularisation: added to each variance; ``"auto"`` see `noise_floor`.
        form: ``"primal"`` decomposes the [D, D] covariance, ``"dual"`` the [N, N] products of rows;
            ``"auto"`` takes the smaller.

    Raises:
        InputError: fewer than two different rows, more dims than the rank, or rows that are not finite.
    """
    if rows_ND.ndim != 2 or len(rows_ND) < 2:
        raise InputError(f"principal components need at least 2 rows [N, D]; given {list(rows_ND.shape)}")
    n, d = rows_ND.shape
    if form == "auto":
        form = "primal" if d <= n else "dual"
    mean = _mean(rows_ND)
    if not np.isfinite(mean).all():
        raise InputError("principal components need finite rows; given NaN or infinity")
    products = _covariance(rows_ND, mean) if form == "primal" else _gram(rows_ND, mean)
    products /= n - 1
    total = float(np.trace(products))
    variances, vectors = linalg.eigh(products, overwrite_a=True, check_finite=False, driver="evd")
    variances, vectors = variances[::-1], vectors[:, ::-1]
    rank = min(int((variances > max(n, d) * np.finfo(np.float64).eps * max(variances[0], 0)).sum()), n - 1)
    if rank < 1 or variances[0] <= _rounding(rows_ND, mean):
        raise InputError(f"principal components need different rows; the {n} given are all the same")
    keep = rank if dims is None else int(dims)
    if not 1 <= keep <= rank:
        raise InputError(
            f"{keep} principal components cannot be learnt from {n} rows of {d} numbers; valid: 1 to {rank}"
        )
    if form == "primal":
        components = np.ascontiguousarray(vectors[:, :keep].T)
    else:
        components = _from_dual(rows_ND, mean, vectors[:, :keep])
    largest = components[np.arange(keep), np.abs(components).argmax(axis=1)]
    components *= np.where(largest < 0, -1.0, 1.0)[:, None]
    held = np.maximum(variances[:keep], 0.0)
    added = 0.0
    if whiten:
        added = noise_floor(variances[:rank], total) if regularisation == "auto" else float(regularisation)
    scales = 1.0 / np.sqrt(held + added) if whiten else np.ones(keep)
    return Pca(mean, components, held, scales, total, n, added)


def noise_floor(variances: Doubles, total: float) -> float:
    """The regularisation that ``"auto"`` stands for: the mean variance of the directions."""
    return total / max(1, len(variances))


def _mean(rows_ND: NDArray[np.floating]) -> Doubles:
    total = np.zeros(rows_ND.shape[1])
    for block in _row_blocks(rows_ND):
        total += block.sum(axis=0)
    return total / len(rows_ND)


def _covariance(rows_ND: NDArray[np.floating], mean: Doubles) -> Doubles:
    products = np.zeros((rows_ND.shape[1],) * 2)
    for block in _row_blocks(rows_ND):
        block -= mean
        products += block.T @ block
    return products


def _gram(rows_ND: NDArray[np.floating], mean: Doubles) -> Doubles:
    products = np.zeros((len(rows_ND),) * 2)
    for columns, block in _column_blocks(rows_ND):
        block -= mean[columns]
        products += block @ block.T
    return products


def _from_dual(rows_ND: NDArray[np.floating], mean: Doubles, vectors: Doubles) -> Doubles:
    """Directions [d, D] of unit length from eigenvectors [N, d] of the products of rows."""
    components = np.empty((vectors.shape[1], rows_ND.shape[1]))
    for columns, block in _column_blocks(rows_ND):
        block -= mean[columns]
        components[:, columns] = vectors.T @ block
    components /= np.linalg.norm(components, axis=1, keepdims=True)
    return components


def _rounding(rows_ND: NDArray[np.floating], mean: Doubles) -> float:
    """Variance below which rows differ by nothing but rounding."""
    return float(mean @ mean) * float(np.finfo(rows_ND.dtype).eps) ** 2


def _row_blocks(rows_ND: NDArray[np.floating]) -> Iterator[Doubles]:
    step = max(1, BLOCK_VALUES // rows_ND.shape[1])
    for first in range(0, len(rows_ND), step):
        yield np.array(rows_ND[first : first + step], dtype=np.float64)


def _column_blocks(rows_ND: NDArray[np.floating]) -> Iterator[tuple[slice, Doubles]]:
    step = max(1, BLOCK_VALUES // len(rows_ND))
    for first in range(0, rows_ND.shape[1], step):
        columns = slice(first, first + step)
        yield columns, np.array(rows_ND[:, columns], dtype=np.float64)
