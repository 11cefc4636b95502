"""All that a model learns from photos, in one call: clusters first, then whitening."""

from __future__ import annotations

from typing import Any, Literal

from dejavlad.errors import InputError
from dejavlad.failures import OnFailed, ignored
from dejavlad.fitting.initialise import initialise
from dejavlad.fitting.whiten import learn_whitening, learn_whitening_if_sound
from dejavlad.model import PlaceModel
from dejavlad.photo import PhotoList
from dejavlad.progress import OnProgress, silent

WORTH_TRYING = 250
"""Photos from which on whitening is tried unasked: clustered descriptors of fewer have too little in
common (``docs/whitening.md``), and describing the photos a second time would be in vain."""


def fit(
    model: PlaceModel,
    photos: PhotoList,
    *,
    seed: int = 0,
    workers: int = 0,
    on_progress: OnProgress = silent,
    whiten: Literal["auto", False] | int = "auto",
    batch_size: int = 8,
    on_failed: OnFailed = ignored,
) -> PlaceModel:
    """A fitted model, learnt from photos; the model given is not changed.

    The same photos, seed and machine give the same bits. Photos that cannot be read, or show
    nothing, are passed over.

    Args:
        model: fitted or not; clusters that are learnt already are kept.
        photos: what to learn from; one is enough without whitening.
        seed: of all that is drawn.
        workers: threads that decode; the answer does not depend on it.
        on_progress: called with reports of each step.
        whiten: how many whitened dimensions to keep; False for none; ``"auto"`` whitens where the photos are
            enough for it (at least `WORTH_TRYING`, see `learn_whitening_if_sound`), and where the model keeps
            only its first ``dims``.
        batch_size: photos that go through the network together, at most.
        on_failed: called with the photos that are passed over, and why, once for the clusters and once
            for the whitening.

    Raises:
        InputError: no photo can be learnt from, or too few for the dimensions asked for.
    """
    if whiten is True or (whiten != "auto" and whiten is not False and int(whiten) < 1):
        raise InputError(f"whiten must be a number of dimensions, False or 'auto'; given {whiten!r}")
    learning: dict[str, Any] = {
        "seed": seed,
        "workers": workers,
        "batch_size": batch_size,
        "on_progress": on_progress,
        "on_failed": on_failed,
    }
    if not model.fitted:
        model = initialise(model, photos, **learning)
    if whiten is False or (whiten == "auto" and model.whitening is not None):
        return model
    dims = model.dims if whiten == "auto" else int(whiten)
    if dims is None and len(photos) < WORTH_TRYING:
        return model
    if dims is None:
        return learn_whitening_if_sound(model, photos, **learning)
    return learn_whitening(model, photos, dims, **learning)
