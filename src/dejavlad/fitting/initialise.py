"""NetVLAD's initialisation: local features of photos -> k-means -> the clusters of a model.

Shapes: M sampled local features, K clusters, D channels, L locations of one photo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dejavlad import aggregation
from dejavlad.errors import BlankPhotoError, InputError, PhotoError
from dejavlad.failures import OnFailed, ignored
from dejavlad.images import Preprocess, load_batches, plan_batches, prepared_size
from dejavlad.model import PlaceModel
from dejavlad.numerics import kmeans
from dejavlad.photo import Photo, PhotoList
from dejavlad.progress import OnProgress, Progress, silent

FEATURES = 50_000
"""Local features that clusters are learnt from (NetVLAD's ``getClusters``: nTrain)."""
PER_PHOTO = 100
"""Of one photo, where there are photos enough (nPerImage)."""

SAMPLING, CLUSTERING = "sampling features", "learning clusters"


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Local features drawn from photos."""

    features: NDArray[np.float32]
    """[M, D] as the aggregation sees them; none is all zero."""
    photos: int
    """Photos that they come from."""


def initialise(
    model: PlaceModel,
    photos: PhotoList,
    *,
    seed: int = 0,
    workers: int = 0,
    batch_size: int = 8,
    on_progress: OnProgress = silent,
    on_failed: OnFailed = ignored,
) -> PlaceModel:
    """The model with clusters (and NetVLAD's alpha) learnt from photos, without whitening.

    As NetVLAD's ``getClusters`` and ``addLayers``, but with photos drawn at random: there, a random order is
    drawn and then the first ones are taken. Photos that show less than there are clusters get fewer clusters.

    Args:
        model: one whose aggregation has clusters; a model that is fitted is fitted anew.
        photos: what to learn from; those that cannot be read, or show nothing, are passed over.
        seed: of the photos, locations and first centres drawn.
        workers: threads that decode; the answer does not depend on it.
        batch_size: photos that go through the network together, at most.
        on_progress: called with reports of `SAMPLING` (photos) and `CLUSTERING`.
        on_failed: called with the photos that were passed over, and why.

    Raises:
        InputError: nothing to learn: no clusters in the model, no photo readable, or all of them blank.
    """
    if model.aggregation.needs_training:
        model.require_fitted()
    if not model.aggregation.needs_fitting:
        raise InputError(f"model {model.name!r} has no clusters to learn")
    samples = sample_features(
        model,
        photos,
        seed=seed,
        workers=workers,
        batch_size=batch_size,
        on_progress=on_progress,
        on_failed=on_failed,
    )
    on_progress(Progress(CLUSTERING, 0, 1))
    model = _with_fewer_clusters(model, len(samples.features))
    centres_KD = kmeans(samples.features, _clusters(model), seed=seed)
    learnt = {"photos": samples.photos, "features": len(samples.features), "seed": seed}
    fitted = model.with_clusters(centres_KD, samples.features, clusters={"from": photos.name, **learnt})
    on_progress(Progress(CLUSTERING, 1, 1))
    return fitted


def sample_features(
    model: PlaceModel,
    photos: PhotoList,
    *,
    features: int = FEATURES,
    per_photo: int = PER_PHOTO,
    seed: int = 0,
    workers: int = 0,
    batch_size: int = 8,
    on_progress: OnProgress = silent,
    on_failed: OnFailed = ignored,
) -> Samples:
    """Local features at random locations of random photos.

    So many photos are drawn that each gives `per_photo`; where there are fewer, each gives more. Locations
    without contrast (all zero) are not drawn. Which locations are drawn depends on seed and row alone.

    Args:
        model: its backbone makes them, its aggregation normalises them.
        photos: what to draw from.
        features: how many are wanted in all, at least 1.
        per_photo: and of one photo, at least 1.
        seed: of photos and locations.
        workers: threads that decode.
        batch_size: photos that go through the network together, at most.
        on_progress: called with reports of `SAMPLING`.
        on_failed: called with the drawn photos that cannot be read or show nothing, and why.

    Raises:
        InputError: no photo can be read, or all of them show nothing.
    """
    if not len(photos):
        raise InputError(f"{photos.name}: there are no photos to learn from")
    if features < 1 or per_photo < 1:
        raise InputError(f"at least 1 feature must be drawn; given {features}, {per_photo} of a photo")
    order = np.random.default_rng(seed).permutation(len(photos))
    drawn = np.sort(order[: max(1, -(-features // per_photo))])
    share = -(-features // len(drawn))
    listed = [photos[row] for row in drawn.tolist()]
    sizes, failed = _sizes(listed, model.preprocess)
    chosen: dict[int, NDArray[np.float32]] = {}
    done = sum(size is None for size in sizes)
    plan = plan_batches(sizes, batch_size)
    with model.describing(), torch.inference_mode():
        for batch in load_batches(listed, plan, model.preprocess, workers=workers, sizes=sizes):
            local_NLD = model.local_features(torch.as_tensor(batch.images)).float().cpu().numpy()
            for slot, place in enumerate(batch.rows.tolist()):
                if place in batch.failed:
                    failed[listed[place].key] = batch.failed[place]
                    continue
                chosen[place] = _draw(local_NLD[slot], share, seed, int(drawn[place]))
            done += len(batch.rows)
            on_progress(Progress(SAMPLING, done, len(drawn)))
    if failed:
        on_failed({key: error.reason for key, error in failed.items()})
    return _samples(chosen, failed, photos.name, model.name)


def _samples(
    chosen: dict[int, NDArray[np.float32]], failed: dict[str, PhotoError], photos: str, model: str
) -> Samples:
    """The features of all photos, in their order.

    Raises:
        InputError: there are none, or some are not finite.
    """
    blank = f"nothing can be learnt from {photos}: its photos are all blank"
    if not chosen:
        reason = next(iter(failed.values()))
        if all(isinstance(error, BlankPhotoError) for error in failed.values()):
            raise InputError(f"{blank}; {reason}")
        raise InputError(f"none of the {len(failed)} photos of {photos} could be learnt from; {reason}")
    rows = np.concatenate([chosen[place] for place in sorted(chosen)])
    if not len(rows):
        raise InputError(blank)
    if not np.isfinite(rows).all():
        raise InputError(f"model {model!r} makes features that are not finite; are its weights whole?")
    return Samples(rows, len(chosen))


def _sizes(
    photos: Sequence[Photo], preprocess: Preprocess
) -> tuple[list[tuple[int, int] | None], dict[str, PhotoError]]:
    """Prepared sizes of photos, None where unreadable; and why those are, by key."""
    sizes: list[tuple[int, int] | None] = []
    failed: dict[str, PhotoError] = {}
    for photo in photos:
        try:
            sizes.append(prepared_size(photo, preprocess))
        except PhotoError as error:
            sizes.append(None)
            failed[photo.key] = error
    return sizes, failed


def _draw(local_LD: NDArray[np.float32], share: int, seed: int, row: int) -> NDArray[np.float32]:
    seen = np.flatnonzero(np.any(local_LD != 0, axis=1))
    rng = np.random.default_rng([seed, 1, row])
    drawn: NDArray[np.float32] = local_LD[np.sort(rng.permutation(seen)[:share])]
    return drawn


def _clusters(model: PlaceModel) -> int:
    layer: Any = model.aggregation
    return int(layer.clusters)


def _with_fewer_clusters(model: PlaceModel, features: int) -> PlaceModel:
    """The model with as many clusters as there are features, if they are fewer."""
    if features >= _clusters(model):
        return model
    layer = model.aggregation
    fewer = aggregation.create(layer.name, layer.dim, **{**layer.options, "clusters": features})
    return model.with_aggregation(fewer)
