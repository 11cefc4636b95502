"""Principal components, with or without whitening: float64, primal or dual, the same answer either way.

SciPy does the decomposition. scikit-learn's PCA would hold all rows in memory, has no regularised
whitening and another rule of signs from version to version, and would be a dependency for this alone.

Shapes: N rows, D dimensions, d components kept. Rows may be a memory map: they are read in blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

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
        """d, how many directions are kept."""
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
        regularisation: added to each variance; ``"auto"`` see `sampling_error`.
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
    # The covariance [D, D] and the products of centred rows [N, N] have the same eigenvalues but for zeros.
    products = _covariance(rows_ND, mean) if form == "primal" else _gram(rows_ND, mean)
    products /= n - 1
    total = float(np.trace(products))
    variances, vectors = _decomposed(products)
    rank = min(int((variances > max(n, d) * np.finfo(np.float64).eps * max(variances[0], 0)).sum()), n - 1)
    if rank < 1 or variances[0] <= _rounding(rows_ND, mean):
        raise InputError(f"principal components need different rows; the {n} given are all the same")
    keep = rank if dims is None else int(dims)
    if not 1 <= keep <= rank:
        raise InputError(
            f"{keep} principal components cannot be learnt from {n} rows of {d} numbers; valid: 1 to {rank}"
        )
    kept, variances = vectors[:, :keep], np.maximum(variances[:keep], 0.0)
    components = _signed(
        np.ascontiguousarray(kept.T) if form == "primal" else _from_dual(rows_ND, mean, kept)
    )
    if not whiten:
        return Pca(mean, components, variances, np.ones(keep), total, n, 0.0)
    added = sampling_error(float(variances[0]), total, n) if regularisation == "auto" else regularisation
    return Pca(mean, components, variances, 1.0 / np.sqrt(variances + added), total, n, float(added))


def _decomposed(products: Doubles) -> tuple[Doubles, Doubles]:
    """Eigenvalues, descending, and eigenvectors (columns) of a symmetric matrix, which is overwritten."""
    from scipy import linalg  # loads slowly

    values, vectors = linalg.eigh(products, overwrite_a=True, check_finite=False, driver="evd")
    return values[::-1], vectors[:, ::-1]


def _signed(components: Doubles) -> Doubles:
    """Directions [d, D] with the largest |entry| of each positive, as a decomposition leaves signs open."""
    largest = components[np.arange(len(components)), np.abs(components).argmax(axis=1)]
    components *= np.where(largest < 0, -1.0, 1.0)[:, None]
    return components


def sampling_error(largest: float, total: float, rows: int) -> float:
    """How far variances learnt from few rows may be off: what ``"auto"`` adds to each before whitening.

    The covariance learnt from N rows differs from the true one, in operator norm, by about
    ``max(sqrt(largest * total / N), total / N)`` (Koltchinskii and Lounici, "Concentration inequalities and
    moment bounds for sample covariance operators", Bernoulli 2017). Directions with less variance than that
    cannot be told from noise, and are not made as long as the others. It vanishes with many rows.
    """
    return max(float(np.sqrt(largest * total / rows)), total / rows)


def held_out_share(rows_ND: NDArray[np.floating], folds: int = 5) -> float:
    """Share of new rows' variance that lies in the directions learnt from the others, 0 to 1.

    Each of `folds` runs of neighbouring rows is left out in turn (runs, as neighbours in a list of photos
    often show the same); the rest spans a subspace, and the rows left out are projected on it.

    Args:
        rows_ND: [N, D], finite, N >= 2 * folds.
        folds: at least 2.

    Raises:
        InputError: too few rows.
    """
    if folds < 2 or len(rows_ND) < 2 * folds:
        raise InputError(f"{folds} folds need at least {max(4, 2 * folds)} rows; given {len(rows_ND)}")
    products_NN = _gram(rows_ND, _mean(rows_ND))
    within = whole = 0.0
    for out in np.array_split(np.arange(len(rows_ND)), folds):
        rest = np.setdiff1d(np.arange(len(rows_ND)), out)
        # Products with rows less the mean of the rest follow from those with the rows themselves.
        to_mean = products_NN[:, rest].mean(axis=1)
        mean_square = float(to_mean[rest].mean())
        kept = products_NN[np.ix_(rest, rest)] - to_mean[rest] - to_mean[rest, None] + mean_square
        cross = products_NN[np.ix_(out, rest)] - to_mean[out, None] - to_mean[rest] + mean_square
        squares = products_NN[out, out] - 2 * to_mean[out] + mean_square
        variances, vectors = _decomposed(kept)
        real = variances > max(rows_ND.shape) * np.finfo(np.float64).eps * max(variances[0], 0.0)
        within += float((np.square(cross @ vectors[:, real]) / variances[real]).sum())
        whole += float(squares.sum())
    return min(1.0, within / whole) if whole > 0 else 0.0


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
