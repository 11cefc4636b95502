"""Models by ``<backbone>[@cut]-<pooling>``, read off the two tables; nothing of them was taught places.

`FROM_THE_MAP` names those that need no training: a backbone as it is, and a vocabulary from the map's photos.
A model prepares photos as its backbone's weights want them; unless told otherwise, the longer side becomes
`RESIZE` pixels: enough for signs and windows, and bearable without a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dejavlad.backbones import BACKBONES
from dejavlad.errors import InputError, UnknownNameError
from dejavlad.images import PREPROCESSING, Preprocess
from dejavlad.model.spec import BackboneSpec
from dejavlad.progress import OnProgress

if TYPE_CHECKING:
    from dejavlad.aggregation import Aggregation
    from dejavlad.model import PlaceModel

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


def make_off_the_shelf(
    name: str, weights: str | Path | None, input: str | None, offline: bool | None, on_progress: OnProgress
) -> PlaceModel:
    """A backbone and a pooling by a name, not fitted where the pooling learns from photos.

    Args:
        name: one that `parse_name` knows.
        weights: of the backbone, see `dejavlad.load_model`.
        input: how photos are prepared, one of `INPUTS`; default: as the backbone's weights want it.
        offline: never download.
        on_progress: called with downloads.

    Raises:
        InputError: an input that does not go with the backbone.
        UnknownNameError: no such input.
        CheckpointError: weights that cannot be used.
        DownloadError: weights that could not be fetched.
    """
    from dejavlad import aggregation, backbones
    from dejavlad.model import PlaceModel

    parsed = parse_name(name)
    assert parsed is not None
    source, pooling, options = parsed
    shelf = FROM_THE_MAP.get(name)
    if shelf is not None and input is not None:
        raise InputError(f"{name} brings its own input; leave --input out")
    leading = aggregation.AGGREGATIONS[pooling.removesuffix("_preL2")].leading
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
    layer = pooling_of(source.name, pooling, int(getattr(backbone, "channels", 0)), options)
    entry = BACKBONES.get(source.name)
    provenance: dict[str, Any] = {"weights": source.name if weights is None else Path(weights).name}
    if weights is None and entry is not None:
        provenance = {"weights": entry.source, "licence": entry.licence}
    return PlaceModel(
        backbone,
        layer,
        _preprocess(source.name, input) if shelf is None else shelf.preprocess,
        name=name,
        source=source,
        provenance=provenance,
    )


def pooling_of(backbone: str, pooling: str, channels: int, options: Mapping[str, Any] = {}) -> Aggregation:
    """The pooling of a name for a backbone's feature maps, as it suits that backbone."""
    from dejavlad import aggregation

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


def parse_name(name: str | Path) -> tuple[BackboneSpec, str, Mapping[str, Any]] | None:
    """``vgg16@conv4_3-max`` to its parts; None where it is no such name."""
    if str(name) in FROM_THE_MAP:
        shelf = FROM_THE_MAP[str(name)]
        return shelf.backbone, shelf.pooling, shelf.options
    head, _, pooling = str(name).rpartition("-")
    backbone, _, cut = head.partition("@")
    if not head.startswith("hub:") and backbone not in BACKBONES:
        return None
    from dejavlad.aggregation import is_aggregation

    if not is_aggregation(pooling):
        return None
    if head.startswith("hub:"):
        return BackboneSpec(head), pooling, {}
    return BackboneSpec(backbone, cut or BACKBONES[backbone].cut), pooling, {}


def poolings_of(backbone: str) -> Sequence[str]:
    """The poolings that suit a backbone."""
    if backbone == "rootsift":
        return ("vlad",)
    learnt = ("netvlad", "max", "avg", "gem")
    patches = backbone == "hub" or BACKBONES[backbone].multiple > 1
    if patches:
        return ("netvlad", "vlad", *learnt[1:])
    return ("vlad", *learnt) if backbone.startswith("efficientnet_lite") else learnt
