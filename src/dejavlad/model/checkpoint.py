"""Models as folders: ``spec.json`` (see `spec`) and ``weights.safetensors``, written whole or not at all.

A folder that is replaced steps aside first, as ``.NAME.before``; if the machine dies in that moment, loading
finds it there.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from dejavlad import aggregation, backbones
from dejavlad.errors import CheckpointError, InputError, first_line, first_names
from dejavlad.files import sha256_of, write_whole
from dejavlad.guarded.fields import DAMAGED
from dejavlad.guarded.json_file import with_checksum
from dejavlad.model.place_model import PlaceModel
from dejavlad.model.spec import (
    CUSTOM,
    FORMAT_VERSION,
    SPEC,
    WEIGHTS,
    BackboneSpec,
    ModelSpec,
    check_weights,
    read_spec,
)
from dejavlad.model.tensors import write_tensors
from dejavlad.model.whitening import Whitening


def save_model(model: PlaceModel, folder: str | Path) -> Path:
    """Write a model as a folder, atomically; a model that is there already is replaced.

    Returns:
        The folder.

    Raises:
        InputError: something else than a model is there.
        CheckpointError: the weights hold NaN or infinity.
        OSError: it cannot be written; what was there is left.
    """
    folder = Path(folder)
    if save_export := getattr(model, "save_export", None):  # a network in a file of its own
        return Path(save_export(folder))
    if folder.exists() and not (folder / SPEC).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{str(folder)!r} is there and is no model; give another place, or delete it")
    tensors = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in model.state_dict().items()}
    _check_finite(tensors, folder)
    fields = {"format": FORMAT_VERSION, "fingerprint": model.fingerprint, **model.spec.to_dict()}
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    try:
        write_tensors(made / WEIGHTS, tensors)
        fields["weights_sha256"] = sha256_of(made / WEIGHTS)
        write_whole(made / SPEC, json.dumps(with_checksum(fields), indent=2, ensure_ascii=False) + "\n")
        _replace(made, folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder


def load_folder(folder: str | Path, *, backbone: nn.Module | None = None) -> PlaceModel:
    """Read a model that `save_model` wrote, onto the processor, ready to describe.

    Args:
        folder: the model folder.
        backbone: the network itself, where the model was built on one that is in no table.

    Raises:
        CheckpointError: no model there, another format version, or weights that are missing, left over, of
            another shape, not finite, or not the ones that were saved.
    """
    named = Path(folder)
    folder = _aside(named) if not named.exists() and _aside(named).exists() else named
    fields = read_spec(folder)
    for name in ("fingerprint", "weights_sha256"):
        fields.pop(name, None)
    try:
        spec = ModelSpec.from_dict(fields)
        model = build(spec, backbone=backbone)
    except CheckpointError as error:
        raise CheckpointError(f"{str(named)!r}: {error}") from None
    except (*DAMAGED, RuntimeError, MemoryError) as error:  # layers refuse sizes that cannot be in many ways
        raise CheckpointError(f"{str(named)!r}: spec.json: {first_line(error)}") from None
    _fill(model, _read_weights(folder), named)
    return model


def is_model(folder: Path) -> bool:
    """Whether the folder holds a saved model, also one whose replacement was interrupted."""
    return (folder / SPEC).is_file() or (not folder.exists() and (_aside(folder) / SPEC).is_file())


def build(spec: ModelSpec, *, backbone: nn.Module | None = None) -> PlaceModel:
    """A model of that spec; its weights are still to be loaded.

    Raises:
        InputError: the parts cannot be made, or the backbone is in no table and is not given.
    """
    if backbone is None:
        if spec.backbone.name == CUSTOM:
            raise InputError(
                "the backbone is a module of its own; give it: load_folder(folder, backbone=module)"
            )
        backbone = _backbone(spec.backbone)
    pooling = aggregation.create(spec.aggregation.name, _channels(backbone), **spec.aggregation.options)
    whitening, of_patches = (
        None if dims is None else Whitening(pooling.descriptor_size, dims)
        for dims in (spec.whitening, spec.patch_whitening)
    )
    model = PlaceModel(
        backbone,
        pooling,
        spec.preprocess,
        whitening=whitening,
        patch_whitening=of_patches,
        dims=spec.dims,
        fitted=spec.fitted,
        name=spec.name,
        source=spec.backbone,
        provenance=spec.provenance,
    )
    return model.eval()


def _backbone(spec: BackboneSpec) -> nn.Module:
    """A backbone without weights that mean anything; a large one is not drawn, for all of it is filled."""
    if spec.name.startswith("dinov2_"):
        with torch.device("meta"):
            large: nn.Module = backbones.build(spec.name, spec.cut, spec.options)
        return large.to_empty(device="cpu").eval()
    return backbones.create(spec.name, cut=spec.cut, weights="random:0", **spec.options)


def _channels(backbone: nn.Module) -> int:
    channels = getattr(backbone, "channels", None)
    if not isinstance(channels, int):
        raise InputError(f"a backbone must say its number of channels; {type(backbone).__name__} does not")
    return channels


def _read_weights(folder: Path) -> dict[str, Tensor]:
    check_weights(folder)
    try:
        return load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{str(folder / WEIGHTS)!r} cannot be read: {error}") from None


def _fill(model: PlaceModel, tensors: dict[str, Tensor], folder: Path) -> None:
    wanted = model.state_dict()
    for what, keys in (("lacks", wanted.keys() - tensors), ("holds unknown", tensors.keys() - wanted)):
        if keys:
            raise CheckpointError(f"{str(folder)!r}: {WEIGHTS} {what} {first_names(keys)}")
    for key, tensor in tensors.items():
        if tensor.shape != wanted[key].shape:
            raise CheckpointError(
                f"{str(folder)!r}: {key} is {list(tensor.shape)}, "
                f"but the network needs {list(wanted[key].shape)}"
            )
    _check_finite(tensors, folder)
    model.load_state_dict(tensors)


def _check_finite(tensors: dict[str, Tensor], folder: Path) -> None:
    bad = [key for key, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise CheckpointError(f"{str(folder)!r}: NaN or infinity in the weights: {first_names(bad)}")


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.before")


def _replace(made: Path, folder: Path) -> None:
    before = _aside(folder)
    if folder.exists():
        shutil.rmtree(before, ignore_errors=True)
        os.replace(folder, before)
    os.replace(made, folder)
    shutil.rmtree(before, ignore_errors=True)
