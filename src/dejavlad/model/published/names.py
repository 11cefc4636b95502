"""Published networks by name: where each is, its licence, what it is made of, and how it was checked."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from dejavlad.model.published import shapes
from dejavlad.model.published.network import NOT_TOLD, ORIGINAL, Published

APACHE, BSD, GPL = "Apache-2.0", "BSD-3-Clause", "GPL-3.0"
NONE = "no licence file in its repository"
SAME_CODE = "as {}, of the same code"
FORMULAS = "by its formulas and its number of parameters alone; no reference was to be had"
GSV = "GSV-Cities"
GITHUB = "https://github.com/"
DRIVE = "https://drive.google.com/file/d/"


def _optimal_transport() -> Iterator[Published]:
    yield Published(
        "megaloc",
        "https://huggingface.co/gberton/MegaLoc/resolve/main/model.safetensors",
        "DINOv2-B, optimal transport and a linear layer: outdoors, indoors, landmarks",
        8448,
        "GSV-Cities, MSLS, MegaScenes, ScanNet, SF-XL",
        228.64,
        shapes.megaloc,
    )
    yield Published(
        "salad",
        f"{GITHUB}serizba/salad/releases/download/v1.0.0/dino_salad.ckpt",
        "DINOv2-B, optimal transport with a dustbin",
        8448,
        GSV,
        87.99,
        shapes.salad,
        GPL,
        f"not told apart from its code's {GPL}",
    )
    yield Published(
        "cliquemining",
        f"{DRIVE}1B06ysb-Wjb4KDcNrl-7pyj1mJve1jqdk",
        "SALAD trained with cliques of near places",
        8448,
        "MSLS, GSV-Cities",
        87.99,
        shapes.salad,
        GPL,
        f"not told apart from its code's {GPL}",
        by_hand=True,
    )


def _learnt_queries() -> Iterator[Published]:
    boq = f"{GITHUB}amaralibey/Bag-of-Queries/releases/download/v1.0/"
    yield Published(
        "boq-dinov2",
        f"{boq}dinov2_12288.pth",
        "DINOv2-B, bags of learnt queries",
        12288,
        GSV,
        95.21,
        lambda: shapes.boq(384, shapes.dino("backbone.dino.")),
    )
    yield Published(
        "boq-resnet50",
        f"{boq}resnet50_16384.pth",
        "ResNet-50, bags of learnt queries",
        16384,
        GSV,
        23.84,
        lambda: shapes.boq(512, shapes.resnet("backbone.net.", 50, 3, in_a_row=True)),
    )
    yield Published(
        "edtformer",
        f"{GITHUB}Tong-Jin01/EDTformer/releases/download/v1.0.0/EDTformer.pth",
        "DINOv2-B with adapters beside it, a decoder of learnt queries",
        4096,
        GSV,
        96.96,
        shapes.edtformer,
    )
    yield Published(
        "qaa-8192",
        "https://huggingface.co/xjh19972/QAA-8192",
        "DINOv2-B, queries on features and on scores (made as in VPR-methods-evaluation)",
        8192,
        "several data sets",
        91.7,
        shapes.qaa,
        "not seen; MIT where it was copied",
        NOT_TOLD,
        checked=f"{ORIGINAL}, of a copy; its authors' own settings were not to be had",
        by_hand=True,
    )


def _gem_with_linear_layer() -> Iterator[Published]:
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
                    (body + (channels + 1) * dims) / 1e6,
                    partial(shapes.gem, backbone, dims, called),
                    checked=ORIGINAL if name in checked else SAME_CODE.format("cosplace-resnet50-2048"),
                )


def _mixvpr_and_convap() -> Iterator[Published]:
    drives = {
        4096: (1024, 4, 10.88, "1vuz3PvnR7vxnDDLQrdHJaOA04SQrtk5L"),
        512: (256, 2, 10.09, "1khiTUNzZhfV2UUupZoIsPIbsMRBYVDqj"),
        128: (64, 2, 9.90, "1DQnefjk1hVICOEYPwE4-CZAZOvi1NSJz"),
    }
    body = shapes.resnet("backbone.model.", 50, 3)
    for dims, (channels, rows, millions, drive) in drives.items():
        yield Published(
            f"mixvpr-{dims}",
            f"{DRIVE}{drive}",
            "ResNet-50, mixed feature maps",
            dims,
            GSV,
            millions,
            partial(shapes.mixvpr, channels, rows, 400, 4, body),
            NONE,
            NOT_TOLD,
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
            millions,
            partial(shapes.convap, channels),
            NONE,
            NOT_TOLD,
            by_hand=True,
        )
    yield Published(
        "dinomix",
        f"{GITHUB}GaoShuang98/DINO-Mix/releases/download/v1.0.0/dinov2_vitb14_mix.ckpt",
        "DINOv2-B, mixed feature maps",
        4096,
        GSV,
        87.6,
        lambda: shapes.mixvpr(1024, 4, 256, 2, shapes.dino("backbone.dino_model.")),
    )


def _image_supervlad_cricavpr() -> Iterator[Published]:
    yield Published(
        "image-vpr",
        f"{GITHUB}Lu-Feng/ImAge/releases/download/v1.0.0/ImAge_Merged.pth",
        "ImAge: DINOv2-B with registers, whose learnt tokens are the descriptor",
        6144,
        "several data sets, merged",
        86.59,
        shapes.image,
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
            millions,
            partial(shapes.supervlad, rows, crosses=crosses),
            by_hand=True,
            alone=not crosses,
        )
    yield Published(
        "cricavpr",
        f"{GITHUB}Lu-Feng/CricaVPR/releases/download/v1.0/CricaVPR.pth",
        "DINOv2-B with adapters, regions, and attention across photos",
        10752,
        GSV,
        106.76,
        shapes.cricavpr,
        alone=False,
    )


def _selavprpp() -> Iterator[Published]:
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
                millions,
                partial(shapes.selavprpp, variant, dims, bits=bits),
                checked=FORMULAS,
                file=f"selavprpp-{size}{kind}.pth",
            )


def _anyloc_and_apgem() -> Iterator[Published]:
    for domain in ("urban", "indoor", "aerial", "structured", "unstructured", "global"):
        yield Published(
            f"anyloc-{domain}",
            f"{GITHUB}AnyLoc/DINO/releases/download/v1/dinov2_vitg14_l31_value_c32_{domain}_c_centers.pt",
            f"DINOv2-g, values of block 31, VLAD with the vocabulary of {domain} places",
            49152,
            "nothing; the vocabulary from photos of its domain",
            1136.48,
            shapes.anyloc,
            BSD,
            f"{BSD}; DINOv2 {APACHE}",
            checked=f"{ORIGINAL}, at smaller sizes",
            backbone="dinov2_vitg14",
        )
    yield Published(
        "apgem",
        f"{DRIVE}1UWJGDuHtzaQdFhSMojoYVQjmCXhIwVvy",
        "ResNet-101, GeM, linear layer, whitened (Landmarks_clean)",
        2048,
        "Landmarks-clean",
        51.0,
        shapes.apgem,
        BSD,
        f"not told apart from its code's {BSD}",
        by_hand=True,
    )


PUBLISHED: dict[str, Published] = {
    network.name: network
    for group in (
        _optimal_transport,
        _learnt_queries,
        _gem_with_linear_layer,
        _mixvpr_and_convap,
        _image_supervlad_cricavpr,
        _selavprpp,
        _anyloc_and_apgem,
    )
    for network in group()
}
"""Name -> network."""
