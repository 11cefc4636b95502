"""A file under a name: opened only if it holds that very network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from dejavlad.backbones.tensor_files import read_tensors
from dejavlad.errors import CheckpointError, InputError, first_names
from dejavlad.model.place_model import PlaceModel
from dejavlad.model.published.families import recognise
from dejavlad.model.published.filling import filled
from dejavlad.model.published.parts import Parts


def open_file(parts: Parts, path: Path, *, name: str, **provenance: Any) -> PlaceModel:
    """The network of that name, with a file's weights; the file may wrap them in whatever way.

    Raises:
        CheckpointError: the file is damaged, or holds another network or part of one.
    """
    try:
        tensors = read_tensors(path).tensors
        recognised = recognise({key: tensor.shape for key, tensor in tensors.items()})
        if recognised is None:
            raise CheckpointError(f"it holds no network that is known here, but {first_names(tensors)}")
        if parts.backbone.name == "dinov2_side" and recognised.what == parts.what:
            recognised = parts  # one file of two descriptors; what does not fit is told below
        if not recognised.same_network(parts):
            raise CheckpointError(f"it holds another network, {recognised}; {name} is {parts}")
        recognised = recognised if recognised is parts else _as_named(recognised, parts)
        return filled(recognised, tensors, name=name, **provenance)
    except (CheckpointError, InputError) as error:
        raise CheckpointError(f"{str(path)!r} is not {name}: {error}") from None


def read_vocabulary(path: Path, *, name: str) -> Tensor:
    """A vocabulary, the one tensor [clusters, C] of a file (AnyLoc's).

    Raises:
        CheckpointError: the file is damaged, or holds something else.
    """
    try:
        centres = read_tensors(path, lone=True).tensors
        vocabulary = next(iter(centres.values()))
        if len(centres) != 1 or vocabulary.ndim != 2:
            raise CheckpointError(f"it holds {first_names(centres)}, and not one vocabulary")
    except CheckpointError as error:
        raise CheckpointError(f"{str(path)!r} is not the vocabulary of {name}: {error}") from None
    return vocabulary


def with_vocabulary(
    parts: Parts, centres_KC: Tensor, backbone: Path, *, name: str, **provenance: Any
) -> PlaceModel:
    """A network that is DINOv2 as its publishers give it, and a vocabulary (AnyLoc).

    Raises:
        CheckpointError: the backbone's file is damaged, or holds something else.
    """
    try:
        tensors = {f"{parts.body}{key}": tensor for key, tensor in read_tensors(backbone).tensors.items()}
        return filled(parts, {**tensors, "c_centers": centres_KC}, name=name, **provenance)
    except CheckpointError as error:
        raise CheckpointError(f"{str(backbone)!r} is not what {name} needs: {error}") from None


def _as_named(recognised: Parts, parts: Parts) -> Parts:
    """The file's own names, with what its name tells of preprocessing."""
    return replace(recognised, preprocess=parts.preprocess, what=parts.what)
