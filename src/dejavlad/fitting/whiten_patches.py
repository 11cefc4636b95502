"""Whitening of patches, for models whose photos have none: learnt from patches of a few photos.

A patch of an un-whitened model has K*D dimensions, tens of thousands, so that the patches of one photo take
gigabytes. Patch-NetVLAD whitens patches as it whitens photos, by what thousands of photos taught; where there
is no such whitening, a few dozen photos hold patches enough to learn one from.

Shapes: N patches, D dimensions before, d after.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError, PhotoError
from dejavlad.images import blank_reason, prepared_size
from dejavlad.model import PatchSetting, PlaceModel, Whitening, cell_geometry
from dejavlad.numerics import fit_pca
from dejavlad.photo import Photo, PhotoList
from dejavlad.progress import OnProgress, Progress, silent

DIMS = 256
"""Dimensions that are kept, at most: a thousand patches teach no more that holds for others."""
PHOTOS = 48
"""Photos that are learnt from, at most."""
PATCHES = 1024
"""Patches that are learnt from, about: their products are what takes the time."""
FEWEST = 16
"""With fewer dimensions than these to be learnt, patches stay as they are."""
LEARNING = "learning the patches' whitening"


def learn_patch_whitening(
    model: PlaceModel,
    photos: PhotoList | Sequence[Photo],
    patches: PatchSetting = PatchSetting(),
    *,
    on_progress: OnProgress = silent,
) -> PlaceModel:
    """The model with a whitening of its patches, learnt from photos spread evenly over the list.

    Nothing is drawn at random. Photos that cannot be read, show nothing, or are too small for a patch, are
    passed over.

    Args:
        model: fitted, with clusters.
        photos: what to learn from.
        patches: which patches; ``dims`` is how many dimensions are kept, at most, and never more than `DIMS`.
        on_progress: called with reports of each photo.

    Returns:
        A model that shares all else with the one given; that one, where the patches are too much alike.

    Raises:
        InputError: the model makes no patches, or no photo has any.
    """
    bare = model.with_patch_whitening(None).with_whitening(None).with_dims(None)
    chosen = [photos[i] for i in np.unique(np.linspace(0, len(photos) - 1, PHOTOS).round().astype(int))]
    sample, why, empty = [], None, False
    for done, photo in enumerate(chosen):
        on_progress(Progress(LEARNING, done, len(chosen)))
        try:
            drawn = _sampled(bare, photo, patches, PATCHES / len(chosen) / len(patches.sizes))
            if blank_reason(photo, rotate=bare.preprocess.rotate):
                empty = True
            else:
                sample += drawn
        except (PhotoError, InputError) as error:
            why = error
    if not sample and empty:
        return model
    if not sample:
        raise InputError(f"no patches to learn from: {why or 'there are no photos'}")
    rows_ND = np.concatenate(sample)
    on_progress(Progress(LEARNING, len(chosen), len(chosen)))
    kept = _components(rows_ND, min(patches.dims or DIMS, DIMS))
    if kept is None:
        return model
    return model.with_patch_whitening(kept, patch_whitening=f"{len(rows_ND)} patches of {len(chosen)} photos")


def _components(rows_ND: NDArray[np.float32], dims: int) -> Whitening | None:
    """The first so many principal components, or as many as there are; None where they are hardly any."""
    for wanted in (min(dims, len(rows_ND) - 1, rows_ND.shape[1]), None):
        try:
            pca = fit_pca(rows_ND, wanted)
        except InputError:  # fewer different patches than that, or none
            continue
        return Whitening.from_pca(pca) if pca.dims >= FEWEST else None
    return None


def _sampled(
    model: PlaceModel, photo: Photo, patches: PatchSetting, each: float
) -> list[NDArray[np.float32]]:
    """About so many un-whitened patches of each size [N, D], on a coarse grid."""
    cell = cell_geometry(model.backbone).stride
    height, width = prepared_size(photo, model.preprocess)
    step = max(1, round(math.sqrt(height * width / each) / cell))
    (patch_sets,) = model.encode_patches(
        photo, sizes=patches.sizes, strides=[step] * len(patches.sizes), keep_blank=True
    )
    return [patch_set.descriptors.float().cpu().numpy() for patch_set in patch_sets]
