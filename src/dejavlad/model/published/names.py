"""Published networks by name: where each is, under which licence, what it is made of, and how it was checked.

What a network is made of is told by the few shapes that decide it, read by the very functions that read files
(`families`): so a name and its file cannot tell different networks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch

from dejavlad.backbones.dinov2 import VARIANTS
from dejavlad.backbones.resnet import DEPTHS
from dejavlad.model.published import families
from dejavlad.model.published.parts import CHILDREN, Parts

MIT, APACHE, BSD, GPL = "MIT", "Apache-2.0", "BSD-3-Clause", "GPL-3.0"
REPOSITORY = "MIT, as its repository; not told apart"
NONE = "no licence file in its repository"
NOT_TOLD = "not said: ask the authors before you publish or sell"
ORIGINAL = "the original code's answers, with made weights"
SAME_CODE = "as {}, of the same code"
FORMULAS = "by its formulas and its number of parameters alone; no reference was to be had"
GSV = "GSV-Cities"
GITHUB = "https://github.com/"
DRIVE = "https://drive.google.com/file/d/"


@dataclass(frozen=True, slots=True)
class Published:
    """A network of others whose architecture is known here."""

    name: str
    """As `load_model` takes it."""
    url: str
    """Where its file is."""
    what: str
    """In a few words."""
    dims: int
    """Numbers of its descriptor."""
    trained_on: str
    """The photos."""
    code_licence: str
    """Of the original code."""
    licence: str
    """Of the weights."""
    parameters: float
    """Millions of them, which take four bytes each."""
    parts: Callable[[], Parts]
    """What it is made of."""
    checked: str = ORIGINAL
    """How we know that ours is the same network."""
    by_hand: bool = False
    """Whether a program cannot fetch it from there (a drive's page, an archive)."""
    file: str | None = None
    """What its file is called here; default: after the name."""
    alone: bool = True
    """Whether a descriptor is of its photo alone."""
    backbone: str | None = None
    """The backbone whose own published weights it needs beside its file."""


def _shapes(**shapes: tuple[int, ...]) -> dict[str, torch.Size]:
    return {key.replace("__", "."): torch.Size(shape) for key, shape in shapes.items()}


def _dino(body: str, variant: str = "b", registers: int = 0) -> dict[str, torch.Size]:
    channels = VARIANTS[variant].channels
    shapes = {
        f"{body}cls_token": torch.Size((1, 1, channels)),
        f"{body}pos_embed": torch.Size((1, 1370, channels)),
    }
    if registers:
        shapes[f"{body}register_tokens"] = torch.Size((1, registers, channels))
    return shapes


def _resnet(body: str, depth: int, stages: int, *, in_a_row: bool = False) -> dict[str, torch.Size]:
    shapes: dict[str, torch.Size] = {}
    for stage, blocks in enumerate(DEPTHS[depth][:stages], 1):
        child = CHILDREN[f"layer{stage}"] if in_a_row else f"layer{stage}"
        for i in range(blocks):
            shapes[f"{body}{child}.{i}.conv{3 if depth >= 50 else 2}.weight"] = torch.Size((1,))
    return shapes


def _transport(agg: str, clusters: int, cluster_dim: int, token_dim: int) -> dict[str, torch.Size]:
    return {
        f"{agg}score.3.weight": torch.Size((clusters, 512, 1, 1)),
        f"{agg}cluster_features.3.weight": torch.Size((cluster_dim, 512, 1, 1)),
        f"{agg}token_features.2.weight": torch.Size((token_dim, 512)),
    }


def _megaloc() -> Parts:
    return families.megaloc(
        _dino("backbone.")
        | _transport("aggregator.agg.", 64, 256, 256)
        | {"aggregator.linear.weight": torch.Size((8448, 16640))}
    )


def _salad() -> Parts:
    return families.salad(_dino("backbone.model.") | _transport("aggregator.", 64, 128, 256))


def _boq(channels: int, body: dict[str, torch.Size]) -> Parts:
    blocks = {f"aggregator.boqs.{i}.queries": torch.Size((1, 64, channels)) for i in range(2)}
    return families.boq(body | blocks | {"aggregator.fc.weight": torch.Size((32, 128))})


def _mixvpr(channels: int, rows: int, cells: int, depth: int, body: dict[str, torch.Size]) -> Parts:
    mixers = {f"aggregator.mix.{i}.mix.0.weight": torch.Size((cells,)) for i in range(depth)}
    return families.mixvpr(
        body
        | mixers
        | {
            "aggregator.channel_proj.weight": torch.Size((channels, 768)),
            "aggregator.row_proj.weight": torch.Size((rows, cells)),
        }
    )


def _convap(channels: int) -> Parts:
    head = {"aggregator.channel_pool.weight": torch.Size((channels, 2048, 1, 1))}
    return families.convap(_resnet("backbone.model.", 50, 4) | head)


def _gem(backbone: str, dims: int) -> Parts:
    depth = int(backbone.removeprefix("resnet")) if backbone.startswith("resnet") else 0
    body = (
        _resnet("backbone.", depth, 4, in_a_row=True) if depth else {"backbone.28.weight": torch.Size((512,))}
    )
    return families.cosplace(body | {"aggregation.3.weight": torch.Size((dims, 512))})


def _supervlad(rows: int, *, crosses: bool) -> Parts:
    head = {"aggregation.conv.weight": torch.Size((rows, 768, 1, 1))}
    if crosses:
        head["encoder.layers.0.norm1.weight"] = torch.Size((768,))
    return families.supervlad(_dino("backbone.") | head)


def _edtformer() -> Parts:
    layers = {f"decoder.layers.{i}.norm1.weight": torch.Size((768,)) for i in range(2)}
    head = _shapes(queries=(1, 64, 768), channel_proj__weight=(256, 768), row_proj__weight=(16, 64))
    return families.edtformer(_dino("backbone.") | layers | head)


def _selavprpp(variant: str, dims: int, *, bits: bool) -> Parts:
    adapters = 12 if variant == "b" else 16
    streams = ("adapters", "adapters_hashing")
    body = {f"backbone.{s}.{i}.D_fc1.bias": torch.Size((1,)) for s in streams for i in range(adapters)}
    head = {"linear2.weight": torch.Size((dims, 1)), "linear4.weight": torch.Size((512, 1))}
    return families.selavprpp(_dino("backbone.", variant) | body | head, bits=bits)


def _image() -> Parts:
    tokens = {"learnable_aggregation_tokens": torch.Size((1, 8, 768))}
    return families.image(_dino("backbone.", registers=4) | tokens)


def _qaa() -> Parts:
    head = {
        "aggregator.queries_feature.queries": torch.Size((1, 256, 128)),
        "aggregator.score.conv.weight": torch.Size((64, 768, 1)),
    }
    return families.qaa(_dino("backbone.model.") | head)


def _apgem() -> Parts:
    return families.apgem(
        _resnet("", 101, 4) | _shapes(fc__weight=(2048, 2048), pca__components_=(2048, 2048))
    )


def _anyloc() -> Parts:
    return families.anyloc(_dino("dino.", "g") | {"c_centers": torch.Size((32, 1536))})


def _transported() -> Iterator[Published]:
    yield Published(
        "megaloc",
        "https://huggingface.co/gberton/MegaLoc/resolve/main/model.safetensors",
        "DINOv2-B, optimal transport and a linear layer: outdoors, indoors, landmarks",
        8448,
        "GSV-Cities, MSLS, MegaScenes, ScanNet, SF-XL",
        MIT,
        REPOSITORY,
        228.64,
        _megaloc,
    )
    yield Published(
        "salad",
        f"{GITHUB}serizba/salad/releases/download/v1.0.0/dino_salad.ckpt",
        "DINOv2-B, optimal transport with a dustbin",
        8448,
        GSV,
        GPL,
        f"not told apart from its code's {GPL}",
        87.99,
        _salad,
    )
    yield Published(
        "cliquemining",
        f"{DRIVE}1B06ysb-Wjb4KDcNrl-7pyj1mJve1jqdk",
        "SALAD trained with cliques of near places",
        8448,
        "MSLS, GSV-Cities",
        GPL,
        f"not told apart from its code's {GPL}",
        87.99,
        _salad,
        by_hand=True,
    )


def _queried() -> Iterator[Published]:
    boq = f"{GITHUB}amaralibey/Bag-of-Queries/releases/download/v1.0/"
    yield Published(
        "boq-dinov2",
        f"{boq}dinov2_12288.pth",
        "DINOv2-B, bags of learnt queries",
        12288,
        GSV,
        MIT,
        REPOSITORY,
        95.21,
        lambda: _boq(384, _dino("backbone.dino.")),
    )
    yield Published(
        "boq-resnet50",
        f"{boq}resnet50_16384.pth",
        "ResNet-50, bags of learnt queries",
        16384,
        GSV,
        MIT,
        REPOSITORY,
        23.84,
        lambda: _boq(512, _resnet("backbone.net.", 50, 3, in_a_row=True)),
    )
    yield Published(
        "edtformer",
        f"{GITHUB}Tong-Jin01/EDTformer/releases/download/v1.0.0/EDTformer.pth",
        "DINOv2-B with adapters beside it, a decoder of learnt queries",
        4096,
        GSV,
        MIT,
        REPOSITORY,
        96.96,
        _edtformer,
    )
    yield Published(
        "qaa-8192",
        "https://huggingface.co/xjh19972/QAA-8192",
        "DINOv2-B, queries on features and on scores (made as in VPR-methods-evaluation)",
        8192,
        "several data sets",
        "not seen; MIT where it was copied",
        NOT_TOLD,
        91.7,
        _qaa,
        checked=f"{ORIGINAL}, of a copy; its authors' own settings were not to be had",
        by_hand=True,
    )


def _projected() -> Iterator[Published]:
    bases = {
        "resnet18": (512, 11_176_513),
        "resnet50": (2048, 23_508_033),
        "resnet101": (2048, 42_500_161),
        "resnet152": (2048, 58_143_809),
        "vgg16": (512, 14_714_689),
    }
    small, large = (32, 64, 128, 256, 512), (32, 64, 128, 256, 512, 1024, 2048)
    programs: tuple[tuple[str, str, dict[str, tuple[int, ...]]], ...] = (
        (
            "cosplace",
            "CosPlace",
            {
                "resnet18": small,
                "resnet50": large,
                "resnet101": large,
                "resnet152": large,
                "vgg16": small[1:],
            },
        ),
        (
            "eigenplaces",
            "EigenPlaces",
            {
                "resnet18": (256, 512),
                "resnet50": large[2:],
                "resnet101": large[2:],
                "vgg16": (512,),
            },
        ),
    )
    checked = {
        "cosplace-resnet18-512",
        "cosplace-resnet50-2048",
        "cosplace-vgg16-512",
        "eigenplaces-resnet50-2048",
    }
    for short, called, published in programs:
        for backbone, sizes in published.items():
            channels, body = bases[backbone]
            file_name = backbone.replace("resnet", "ResNet").replace("vgg", "VGG")
            for dims in sizes:
                name = f"{short}-{backbone}-{dims}"
                yield Published(
                    name,
                    f"{GITHUB}gmberton/{called}/releases/download/v1.0/{file_name}_{dims}_{short}.pth",
                    f"{file_name.replace('Net', 'Net-').replace('VGG', 'VGG-')}, GeM, linear layer",
                    dims,
                    "SF-XL",
                    MIT,
                    REPOSITORY,
                    (body + (channels + 1) * dims) / 1e6,
                    lambda backbone=backbone, dims=dims, called=called: replace(  # type: ignore[misc]
                        _gem(backbone, dims), what=called
                    ),
                    checked=ORIGINAL if name in checked else SAME_CODE.format("cosplace-resnet50-2048"),
                )


def _by_the_same_author() -> Iterator[Published]:
    drives = {
        4096: (1024, 4, 10.88, "1vuz3PvnR7vxnDDLQrdHJaOA04SQrtk5L"),
        512: (256, 2, 10.09, "1khiTUNzZhfV2UUupZoIsPIbsMRBYVDqj"),
        128: (64, 2, 9.90, "1DQnefjk1hVICOEYPwE4-CZAZOvi1NSJz"),
    }
    for dims, (channels, rows, millions, drive) in drives.items():
        yield Published(
            f"mixvpr-{dims}",
            f"{DRIVE}{drive}",
            "ResNet-50, mixed feature maps",
            dims,
            GSV,
            NONE,
            NOT_TOLD,
            millions,
            lambda channels=channels, rows=rows: _mixvpr(  # type: ignore[misc]
                channels, rows, 400, 4, _resnet("backbone.model.", 50, 3)
            ),
            by_hand=True,
        )
    folder = "https://drive.google.com/drive/folders/1VYPw9uGD11NgiGFgfWueLt3noJYOIuhL"
    for dims, millions in ((512, 23.8), (2048, 24.6), (4096, 25.7), (8192, 27.7)):
        channels = dims // 4
        yield Published(
            f"convap-{dims}",
            f"{folder} (resnet50_ConvAP_{channels}_2x2.ckpt)",
            "ResNet-50, fewer channels averaged over quarters",
            dims,
            GSV,
            NONE,
            NOT_TOLD,
            millions,
            lambda channels=channels: _convap(channels),  # type: ignore[misc]
            by_hand=True,
        )
    yield Published(
        "dinomix",
        f"{GITHUB}GaoShuang98/DINO-Mix/releases/download/v1.0.0/dinov2_vitb14_mix.ckpt",
        "DINOv2-B, mixed feature maps",
        4096,
        GSV,
        MIT,
        REPOSITORY,
        87.6,
        lambda: _mixvpr(1024, 4, 256, 2, _dino("backbone.dino_model.")),
    )


def _lu_feng() -> Iterator[Published]:
    yield Published(
        "image-vpr",
        f"{GITHUB}Lu-Feng/ImAge/releases/download/v1.0.0/ImAge_Merged.pth",
        "ImAge: DINOv2-B with registers, whose learnt tokens are the descriptor",
        6144,
        "several data sets, merged",
        MIT,
        REPOSITORY,
        86.59,
        _image,
        checked=FORMULAS,
    )
    for name, rows, dims, drive, crosses, millions in (
        ("supervlad", 5, 3072, "1wRkUO4E8s5hNRNNIWcuA8RUvlGob3Tbf", False, 86.58),
        ("supervlad-1cluster", 3, 768, "1pQcJx9n2-keAh9TttssZkz6D0vjpFWU6", False, 86.58),
        ("supervlad-crossimage", 5, 3072, "1yomnWGTJko6nf3F2Ju6RWsLhP2EG82tL", True, 97.61),
    ):
        yield Published(
            name,
            f"{DRIVE}{drive}",
            "DINOv2-B, VLAD of few clusters without centres" + " and attention across photos" * crosses,
            dims,
            GSV,
            MIT,
            REPOSITORY,
            millions,
            lambda rows=rows, crosses=crosses: _supervlad(rows, crosses=crosses),  # type: ignore[misc]
            by_hand=True,
            alone=not crosses,
        )
    yield Published(
        "cricavpr",
        f"{GITHUB}Lu-Feng/CricaVPR/releases/download/v1.0/CricaVPR.pth",
        "DINOv2-B with adapters, regions, and attention across photos",
        10752,
        GSV,
        MIT,
        REPOSITORY,
        106.76,
        lambda: families.cricavpr(_dino("backbone.")),
        alone=False,
    )
    sela = f"{GITHUB}Lu-Feng/SelaVPRplusplus/releases/download/SelaVPR%2B%2B/SelaVPRplusplus_"
    for size, variant, dims, plain, both in (
        ("base", "b", 2048, 97.9, 108.0),
        ("large", "l", 4096, 331.3, 354.5),
    ):
        for ending, kind, millions in (
            ("", "", plain),
            ("-rerank", "_rerank", both),
            ("-bits", "_rerank", both),
        ):
            bits = ending == "-bits"
            what = "binary codes of 512 bits" if bits else "GeM between linear layers"
            yield Published(
                f"selavprpp-{size}{ending}",
                f"{sela}{size}{kind}.pth",
                f"SelaVPR++: DINOv2-{variant.upper()} with adapters beside it, {what}",
                512 if bits else dims,
                "several data sets, merged",
                MIT,
                REPOSITORY,
                millions,
                lambda variant=variant, dims=dims, bits=bits: _selavprpp(  # type: ignore[misc]
                    variant, dims, bits=bits
                ),
                checked=FORMULAS,
                file=f"selavprpp-{size}{kind}.pth",
            )


def _older() -> Iterator[Published]:
    for domain in ("urban", "indoor", "aerial", "structured", "unstructured", "global"):
        yield Published(
            f"anyloc-{domain}",
            f"{GITHUB}AnyLoc/DINO/releases/download/v1/dinov2_vitg14_l31_value_c32_{domain}_c_centers.pt",
            f"DINOv2-g, values of block 31, VLAD with the vocabulary of {domain} places",
            49152,
            "nothing; the vocabulary from photos of its domain",
            BSD,
            f"{BSD}; DINOv2 {APACHE}",
            1136.48,
            _anyloc,
            checked=f"{ORIGINAL}, at smaller sizes",
            backbone="dinov2_vitg14",
        )
    yield Published(
        "apgem",
        f"{DRIVE}1UWJGDuHtzaQdFhSMojoYVQjmCXhIwVvy",
        "ResNet-101, GeM, linear layer, whitened (Landmarks_clean)",
        2048,
        "Landmarks-clean",
        BSD,
        "not told apart from its code's BSD-3-Clause",
        51.0,
        _apgem,
        by_hand=True,
    )


PUBLISHED: dict[str, Published] = {
    network.name: network
    for group in (_transported, _queried, _projected, _by_the_same_author, _lu_feng, _older)
    for network in group()
}
"""Name -> network."""
