"""Whitening: descriptors of photos -> principal components -> the last layer of a model.

Shapes: N photos, D numbers of a descriptor, d dimensions kept.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError
from dejavlad.extraction import describe
from dejavlad.failures import OnFailed, ignored
from dejavlad.model import PlaceModel, Whitening
from dejavlad.numerics import Pca, fit_pca, held_out_share
from dejavlad.photo import PhotoList
from dejavlad.progress import OnProgress, Progress, silent

PHOTOS = 10_000
"""Photos that whitening is learnt from, at most (NetVLAD's ``addPCA``: nTrainCap)."""
PHOTOS_UNASKED = 2_000
"""The same, where nobody asked for whitening: it takes seconds, not minutes."""
ENOUGH_SHARE = 0.5
"""Whitening is sound where at least so much of a new photo's variance is in the directions learnt."""

WHITENING = "learning the whitening"


def learn_whitening(
    model: PlaceModel,
    photos: PhotoList,
    dims: int | None = None,
    *,
    whiten: bool = True,
    regularisation: float | Literal["auto"] = "auto",
    seed: int = 0,
    workers: int = 0,
    batch_size: int = 8,
    on_progress: OnProgress = silent,
    on_failed: OnFailed = ignored,
) -> PlaceModel:
    """The model with principal components, whitened or not, learnt from descriptors of photos.

    As NetVLAD's ``addPCA``, whose regularisation is 1e-9.

    Args:
        model: a fitted model; a whitening that it has is replaced.
        photos: what to learn from, at least two different ones; `PHOTOS` are drawn of more.
        dims: dimensions to keep, fewer than photos; None keeps all that the photos can tell.
        whiten: divide by the square root of the variance; False keeps the principal components as they are.
        regularisation: see `dejavlad.numerics.fit_pca`.
        seed: of the photos drawn.
        workers: threads that decode; the answer does not depend on it.
        batch_size: photos that go through the network together, at most.
        on_progress: called with reports of the photos described, then of `WHITENING`.
        on_failed: called with the photos that cannot be read, or show nothing, and why: they are passed over.

    Raises:
        InputError: too few photos for `dims`, or none that can be read.
    """
    rows_ND = _rows(model, photos, PHOTOS, seed, workers, batch_size, on_progress, on_failed)
    if dims is not None and not 1 <= dims < len(rows_ND):
        raise InputError(
            f"{dims} dimensions cannot be learnt from {len(rows_ND)} photos; valid: 1 to {len(rows_ND) - 1}, "
            f"fewer than photos"
        )
    on_progress(Progress(WHITENING, 0, 1))
    pca = fit_pca(rows_ND, dims, whiten=whiten, regularisation=regularisation)
    on_progress(Progress(WHITENING, 1, 1))
    return _with_pca(model, pca, photos, whiten, seed)


def learn_whitening_if_sound(
    model: PlaceModel,
    photos: PhotoList,
    *,
    seed: int = 0,
    workers: int = 0,
    batch_size: int = 8,
    on_progress: OnProgress = silent,
    on_failed: OnFailed = ignored,
) -> PlaceModel:
    """The model, whitened where the photos are enough to learn that from.

    They are, where `held_out_share` of their descriptors is at least `ENOUGH_SHARE`: otherwise most of what
    tells a new photo from others lies outside the directions learnt, and whitening would throw it away.
    All components are kept (one fewer than photos, at most). ``docs/whitening.md`` has the measurements.

    Args and errors as `learn_whitening`; `PHOTOS_UNASKED` photos are drawn of more.
    """
    rows_ND = _rows(model, photos, PHOTOS_UNASKED, seed, workers, batch_size, on_progress, on_failed)
    on_progress(Progress(WHITENING, 0, 1))
    folds = 5
    share = held_out_share(rows_ND, folds) if len(rows_ND) >= 2 * folds else 0.0
    if share >= ENOUGH_SHARE:
        model = _with_pca(model, fit_pca(rows_ND), photos, True, seed)
    on_progress(Progress(WHITENING, 1, 1))
    return model


def _rows(
    model: PlaceModel,
    photos: PhotoList,
    most: int,
    seed: int,
    workers: int,
    batch_size: int,
    on_progress: OnProgress,
    on_failed: OnFailed,
) -> NDArray[np.float32]:
    """Descriptors [N, D] without whitening of at most `most` photos, those that can be read and show
    something."""
    base = model.with_whitening(None).with_dims(None)
    order = np.random.default_rng([seed, 2]).permutation(len(photos))
    drawn = photos.take(np.sort(order[:most]).tolist())
    rows_ND, failed = describe(base, drawn, batch_size=batch_size, workers=workers, on_progress=on_progress)
    if failed:
        on_failed(failed)
    return rows_ND[[key not in failed for key in drawn.keys]] if failed else rows_ND


def _with_pca(model: PlaceModel, pca: Pca, photos: PhotoList, whiten: bool, seed: int) -> PlaceModel:
    description: dict[str, object] = {
        "from": photos.name,
        "photos": pca.rows,
        "dims": pca.dims,
        "whitened": whiten,
        "regularisation": pca.regularisation,
        "explained": round(pca.explained, 4),
        "seed": seed,
    }
    return model.with_whitening(Whitening.from_pca(pca), components=description)
