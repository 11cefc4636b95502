"""A published network made of its parts, with the weights of its file.

Each tensor of a file is used once and each of ours is filled, or the load is refused with the list; what a
publisher's file holds and its network never uses is named in `Parts.unused`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dejavlad import aggregation, backbones
from dejavlad.errors import CheckpointError, first_names
from dejavlad.model.place_model import PlaceModel
from dejavlad.model.published.parts import Parts
from dejavlad.model.whitening import Whitening

COUNTER = "num_batches_tracked"
MASK = "mask_token"
"""Of DINOv2: takes part in its training only."""


def make(parts: Parts, *, name: str, device: str = "meta", **provenance: Any) -> PlaceModel:
    """The network, without memory for its weights unless another device is told.

    Raises:
        InputError: its parts do not fit together.
    """
    with torch.device(device), torch.random.fork_rng(devices=[]):
        body = backbones.build(parts.backbone.name, parts.backbone.cut, parts.backbone.options)
        layer = aggregation.create(parts.aggregation.name, int(body.channels), **parts.aggregation.options)
        whitening = None if parts.whitening is None else Whitening(layer.descriptor_size, parts.whitening)
    return PlaceModel(
        body,
        layer,
        parts.preprocess,
        whitening=whitening,
        fitted=True,
        name=name,
        source=parts.backbone,
        provenance={"format": parts.what, **provenance},
    ).eval()


def filled(parts: Parts, tensors: Mapping[str, Tensor], *, name: str, **provenance: Any) -> PlaceModel:
    """The network with the weights of a file.

    Args:
        parts: what it is made of.
        tensors: by the file's names; in any precision.
        name: what to call it.
        **provenance: for people.

    Raises:
        CheckpointError: tensors are missing, left over, of another shape, no real numbers, or not finite.
    """
    model = make(parts, name=name, **provenance)
    tensors = _whitening_of(tensors) if parts.whitening is not None else tensors
    names = {key: parts.theirs(key) for key in model.state_dict() if not key.endswith(MASK)}
    used = set(names.values())
    kept = {key: tensor for key, tensor in tensors.items() if key in used or not _is_unused(key, parts)}
    return fill(model, kept, names, parts.what)


def fill(model: PlaceModel, tensors: Mapping[str, Tensor], names: Mapping[str, str], what: str) -> PlaceModel:
    """A model with the weights of a file: each tensor is used once, each of the model's is filled.

    Args:
        model: its own weights may be on the meta device.
        tensors: by the file's names; counters of batches may be missing.
        names: the model's names -> the file's.
        what: the program that wrote the file, for messages.

    Raises:
        CheckpointError: as `filled`.
    """
    wanted, used = model.state_dict(), set(names.values())
    missing = [theirs for theirs in names.values() if theirs not in tensors and not theirs.endswith(COUNTER)]
    left = [key for key in tensors if key not in used]
    if missing or left:
        raise CheckpointError(
            f"as a network of {what}, it is missing {first_names(missing)}; left over are {first_names(left)}"
        )
    converted = {key: torch.zeros(wanted[key].shape) for key in wanted if key.endswith(MASK)}
    for ours, theirs in names.items():
        expected = wanted[ours]
        if ours.endswith(COUNTER):
            converted[ours] = torch.zeros(expected.shape, dtype=expected.dtype)
            continue
        given = tensors[theirs]
        if given.shape != expected.shape and given.squeeze().shape == expected.squeeze().shape:
            given = given.reshape(expected.shape)
        if given.shape != expected.shape or not given.is_floating_point():
            raise CheckpointError(
                f"{theirs} is {given.dtype} {list(given.shape)}, not numbers {list(expected.shape)}"
            )
        converted[ours] = given.to(torch.float32).contiguous().clone()
        if given.numel() and not bool(torch.stack(converted[ours].aminmax()).isfinite().all()):
            raise CheckpointError(f"{theirs} holds NaN or infinity")
        if ours.endswith("aggregation.p") and not bool((converted[ours] > 0).all()):
            raise CheckpointError(f"{theirs} is {given.tolist()}; GeM needs a positive exponent")
    model.load_state_dict(converted, assign=True)
    return model.eval()


def random(parts: Parts, seed: int, *, name: str) -> PlaceModel:
    """The network with random weights, a function of the seed alone: to try the way, or to time it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make(parts, name=name, device="cpu", weights=f"random:{seed}")
    backbones.draw_weights(model.backbone, seed)
    if model.whitening is not None:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            model.whitening.weight.normal_(0, model.whitening.in_dims**-0.5)
    return model


def _whitening_of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Principal components as scikit-learn keeps them -> our linear layer, with a power of 1/4 (AP-GeM)."""
    renamed = dict(tensors)
    try:
        mean, components, variance = (
            renamed.pop(f"pca.{part}").double() for part in ("mean_", "components_", "explained_variance_")
        )
    except KeyError:
        return renamed
    weight = components / variance.clamp(min=1e-12).pow(0.25)[:, None]
    return renamed | {"whitening.weight": weight.float(), "whitening.bias": (-weight @ mean).float()}


def _is_unused(key: str, parts: Parts) -> bool:
    if key.endswith((COUNTER, MASK)):
        return True
    return any(re.fullmatch(pattern, key) for pattern in parts.unused)
