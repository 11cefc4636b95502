"""A model that learns from photos, learnt once and kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unicodedata import normalize

from dejavlad.errors import StoreError, StoreMismatchError
from dejavlad.files import write_whole
from dejavlad.fitting import fit, learn_patch_whitening
from dejavlad.guarded.json_file import read_json_object
from dejavlad.model import PatchSetting, PlaceModel, save_model
from dejavlad.photo import PhotoList
from dejavlad.progress import OnProgress, silent
from dejavlad.zoo import load_model


def fit_cached(
    base: PlaceModel,
    photos: PhotoList,
    folder: Path,
    *,
    seed: int = 0,
    workers: int = 0,
    on_progress: OnProgress = silent,
) -> PlaceModel:
    """`base` with all that it learns from photos, kept in `folder` so that the next run finds it there.

    What it was learnt from is noted beside the folder, in ``FOLDER.json``, before anything else.

    Args:
        base: any model; one that is fitted already is kept as it is.
        photos: what vocabulary and whitening are learnt from.
        folder: the model folder to make, or to find.

    Raises:
        StoreMismatchError: what is there was learnt from another model, other photos or another seed.
    """
    note = folder.with_name(folder.name + ".json")
    wanted = {
        "model": f"{base.name} ({base.fingerprint[:12]})",
        "photos": _count_and_hash(photos.keys),
        "seed": seed,
    }
    if note.exists():
        noted = _read_note(note)
        forms = ([normalize(form, key) for key in photos.keys] for form in ("NFC", "NFD"))
        if noted.get("photos") in [_count_and_hash(keys) for keys in forms]:
            wanted["photos"] = noted["photos"]  # the same names, as another system writes them
        differences = {key: (noted.get(key), now) for key, now in wanted.items() if noted.get(key) != now}
        if differences:
            raise StoreMismatchError(folder.parent, differences)
    else:
        folder.parent.mkdir(parents=True, exist_ok=True)
        write_whole(note, json.dumps(wanted, indent=1))
    if (saved := _saved(folder, base)) is not None:
        return saved
    learnt = base
    if not base.fitted:
        learnt = fit(base, photos, seed=seed, workers=workers, on_progress=on_progress)
    save_model(learnt, folder)
    return learnt


def _saved(folder: Path, base: PlaceModel) -> PlaceModel | None:
    """The model in a folder, run where and as `base` is; None where there is none."""
    if not (folder / "spec.json").exists():
        return None
    model = load_model(folder, device=base.device.type, precision=base.precision)
    model.engine = model.engine or base.engine
    return model


def _count_and_hash(keys: Sequence[str]) -> str:
    """How many photos, and a hash of their keys."""
    digest = hashlib.sha256("\n".join(map(repr, keys)).encode()).hexdigest()
    return f"{len(keys)} ({digest[:12]})"


def _read_note(note: Path) -> dict[str, Any]:
    try:
        return read_json_object(note)
    except (OSError, ValueError) as error:
        raise StoreError(f"{str(note)!r} cannot be read: {error}; delete it and its folder") from error


def for_patches(
    model: PlaceModel,
    photos: PhotoList,
    folder: Path,
    patches: PatchSetting,
    *,
    on_progress: OnProgress = silent,
) -> PlaceModel:
    """The model, fit to make patches: one without any whitening learns one for them, kept in `folder`.

    Args:
        model: fitted.
        photos: what a whitening of patches is learnt from.
        folder: the model folder to make, or to find.
    """
    if model.whitening is not None or model.patch_whitening is not None:
        return model
    saved = _saved(folder, model)
    if saved is not None and saved.patch_whitening is not None and saved.fingerprint == model.fingerprint:
        return saved
    learnt = learn_patch_whitening(model, photos, patches, on_progress=on_progress)
    save_model(learnt, folder)
    return learnt
