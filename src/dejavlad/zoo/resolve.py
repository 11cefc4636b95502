"""A model by its name, from its folder, a training run or a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from dejavlad import backbones
from dejavlad.errors import CheckpointError, InputError
from dejavlad.export import attach, is_export, open_export
from dejavlad.export.network import is_transformer
from dejavlad.export.runtimes import AUTO, TORCH, check_device, chosen_runtime
from dejavlad.images import parse_levels
from dejavlad.model.checkpoint import is_model, load_folder
from dejavlad.model.device import check_precision, resolve_device
from dejavlad.model.place_model import PlaceModel
from dejavlad.model.published.network import Published
from dejavlad.model.run_folder import resolve
from dejavlad.progress import OnProgress, silent
from dejavlad.zoo.listing import unknown_model
from dejavlad.zoo.off_the_shelf import make_off_the_shelf, parse_name
from dejavlad.zoo.released import RELEASED, fetch_released


def load_model(
    src: str | Path,
    *,
    device: str = "auto",
    precision: str = "fp32",
    weights: str | Path | None = None,
    input: str | None = None,
    resize: str | None = None,
    dims: int | None = None,
    levels: str | None = None,
    reduce: bool | None = None,
    seed: int = 0,
    offline: bool | None = None,
    runtime: str = TORCH,
    on_progress: OnProgress = silent,
) -> PlaceModel:
    """A model by its name, from its folder or from a file, ready to describe (or to be fitted).

    Args:
        src: a name (``squeezenet1_0-netvlad``, ``vgg16@conv4_3-max``, ``vgg16-netvlad-pitts30k``; see
            `list_models`), a model folder, a training run (``RUN``, ``RUN@latest``, ``RUN@epoch:7``,
            ``RUN@best:10``), a checkpoint of others (see `dejavlad.convert`), or a file of ONNX with its
            certificate (`dejavlad.export`).
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: ``fp32`` or ``bf16`` (the backbone's arithmetic).
        weights: a file (of PyTorch, .safetensors or .npz; see `backbones.tensor_files`), or ``random:SEED``:
            of a named model's backbone, or of the whole of a published network; default: the published ones,
            downloaded on first use.
        input: how a named model prepares photos, ``torchvision`` or ``caffe``; default: as its weights want.
        resize: ``HxW``, ``longest:N`` or ``none``; default: the model's own.
        dims: keep the first so many dimensions, again at unit length.
        levels: how photos of more than 8 bits become 8: ``photo``, ``upper`` or ``LOW,HIGH``
            (`dejavlad.images.levels`); default: the model's own.
        reduce: decode large JPEG at a smaller scale where the network takes no more (`Preprocess.reduce`);
            default: the model's own.
        seed: of what is drawn at random where nothing is learnt yet.
        offline: never download; default: as configured.
        runtime: what computes the network: ``torch``, or ``mnn``, ``openvino`` or ``onnxruntime``, for which
            it is exported into the cache once and compared; ``auto`` takes the fastest that answers the same.
            A file of ONNX runs in the fastest that its certificate names, unless one is given.
        on_progress: told of downloads.

    Raises:
        InputError: an option that cannot be, or that does not go with `src`.
        UnknownNameError: no such model, device, precision or runtime.
        MissingExtraError: the runtime is not installed.
        CheckpointError: a model folder or weights file that cannot be used.
        DownloadError: weights that could not be fetched.
    """
    runtime = chosen_runtime(given := runtime, precision)
    check_device(runtime, device)
    where, src = resolve_device(device if runtime == TORCH else "cpu"), resolve(src) or src
    if is_export(Path(src)):
        _refuse_options(src, weights, input)
        exported = open_export(Path(src), runtime=given, precision=precision)
        return _changed(exported, resize, levels, reduce, dims).eval()
    check_precision(precision)
    opened = _opened(src, weights, input, seed=seed, offline=offline, on_progress=on_progress)
    model = _changed(opened, resize, levels, reduce, dims).to(where)
    return _run_in(model, precision, runtime, strict=given != AUTO)


def _run_in(model: PlaceModel, precision: str, runtime: str, *, strict: bool) -> PlaceModel:
    """The model with its arithmetic and what computes it; `strict`: a runtime that was named, or an error."""
    model.precision = precision
    if not strict:
        runtime = chosen_runtime(AUTO, precision, convolutions=not is_transformer(model))
    if runtime != TORCH and (strict or next(model.backbone.parameters(), None) is not None):
        attach(model, runtime, strict=strict)
    return model.eval()


def _opened(
    src: str | Path,
    weights: str | Path | None,
    input: str | None,
    *,
    seed: int,
    offline: bool | None,
    on_progress: OnProgress,
) -> PlaceModel:
    """A folder, a file, a published network or an off-the-shelf one, in this order."""
    known = parse_name(src) is not None
    if isinstance(src, Path) or is_model(Path(src)) or (not known and _is_place(src)):
        _refuse_options(src, weights, input)
        return _imported(Path(src)) if Path(src).is_file() else load_folder(src)
    if src in RELEASED:
        if input is not None:
            raise InputError(f"{src} brings its own input; leave --input out")
        return open_released(RELEASED[src], weights, offline=offline, on_progress=on_progress)
    if not known:
        raise unknown_model(src)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make_off_the_shelf(src, weights, input, offline, on_progress)


def _refuse_options(src: str | Path, weights: str | Path | None, input: str | None) -> None:
    if weights is not None or input is not None:
        raise InputError(
            f"{str(src)!r} is a whole model; weights and input go with names like vgg16-max only"
        )


def _changed(
    model: PlaceModel, resize: str | None, levels: str | None, reduce: bool | None, dims: int | None
) -> PlaceModel:
    """A model whose photos are prepared otherwise, or cut to some dimensions, where that is asked for."""
    changes: dict[str, Any] = {} if resize is None else {"resize": resize}
    if levels is not None:
        changes["levels"] = parse_levels(levels)
    if reduce is not None:
        changes["reduce"] = reduce
    if changes:
        model = model.with_preprocess(replace(model.preprocess, **changes))
    return model if dims is None else model.with_dims(dims)


def open_released(
    released: Published,
    weights: str | Path | None = None,
    *,
    offline: bool | None = None,
    on_progress: OnProgress = silent,
) -> PlaceModel:
    """A published network, with its own file's weights.

    Args:
        released: which.
        weights: its file, wherever it lies, or ``random:SEED``; default: fetched on first use.
        offline: never download.
        on_progress: told of downloads.

    Raises:
        InputError: random weights of a network whose file alone tells what it is made of.
        CheckpointError: a file of another network, or one that is damaged.
        DownloadError: it cannot be fetched.
    """
    from dejavlad.model import published

    seed = backbones.parse_random(weights) if isinstance(weights, str) else None
    if seed is not None:
        if released.parts is None:
            raise InputError(
                f"{released.name} brings its own weights, and its file tells what it is made of; not random"
            )
        return published.random(released.parts(), seed, name=released.name)
    if weights is None:
        path = fetch_released(released, offline=offline, on_progress=on_progress)
    else:
        path = Path(weights)
        if not path.is_file():
            raise CheckpointError(f"there are no weights at {str(path)!r}")
    if released.parts is None:
        return _imported(path, released.name)
    provenance = {"weights": path.name, "address": released.url, "licence": released.licence}
    if released.backbone is None:
        return published.open_file(released.parts(), path, name=released.name, **provenance)
    centres_KC = published.read_vocabulary(path, name=released.name)
    body = backbones.fetch_weights(released.backbone, offline=offline, on_progress=on_progress)
    assert body is not None
    return published.with_vocabulary(released.parts(), centres_KC, body, name=released.name, **provenance)


def _imported(path: Path, name: str | None = None) -> PlaceModel:
    from dejavlad.convert import import_model

    return import_model(path, name=name)


def _is_place(src: str) -> bool:
    return Path(src).exists() or "/" in src or "\\" in src
