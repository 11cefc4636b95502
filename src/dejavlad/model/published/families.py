"""Which published network named tensors are: one function a program, each of shapes alone.

Facts on names and shapes are of the publishers' own code. Licences of code and weights: see `names`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from dejavlad.backbones.sizes import VARIANTS
from dejavlad.errors import CheckpointError
from dejavlad.images import PREPROCESSING, Preprocess
from dejavlad.model.published.bodies import dino_of, resnet_of
from dejavlad.model.published.parts import Parts, Shapes
from dejavlad.model.spec import AggregationSpec, BackboneSpec

IMAGENET = PREPROCESSING["torchvision"]
SQUARE = replace(IMAGENET, resize="322x322", resize_on="values", multiple=14)
"""Of those that resize the tensor."""
MIXED_WITH_GHOSTS = {3: (1, 2)}
"""SuperVLAD's rows of its assignment -> (clusters, ghosts), where it is not all but one."""


def megaloc(shapes: Shapes) -> Parts:
    """MegaLoc, of the present file and of the one until January 2026 (``backbone.model.``)."""
    body = "backbone.model." if "backbone.model.cls_token" in shapes else "backbone."
    agg = "aggregator.agg."
    options = {**_transport(shapes, agg), "dims": _rows(shapes, "aggregator.linear.weight")}
    return Parts(
        "MegaLoc",
        BackboneSpec(dino_of(shapes, body).name, "norm", {"leading": 1, "fit": "round"}),
        AggregationSpec("megaloc", options),
        SQUARE,
        body,
        head={"agg.": agg, "linear.": "aggregator.linear."},
    )


def salad(shapes: Shapes) -> Parts:
    """The parts of SALAD, and of CliqueMining, which trains the same network."""
    body = "backbone.model." if "backbone.model.cls_token" in shapes else "backbone."
    return Parts(
        "SALAD",
        BackboneSpec(dino_of(shapes, body).name, "norm", {"leading": 1}),
        AggregationSpec("salad", _transport(shapes, "aggregator.")),
        replace(IMAGENET, resize="322x322", multiple=14),
        body,
        head={"agg.": "aggregator."},
    )


def boq(shapes: Shapes) -> Parts:
    """BoQ on DINOv2 (whose last norm is in the file and never used) or on a ResNet."""
    queries = shapes["aggregator.boqs.0.queries"]
    options = {
        "channels": queries[2],
        "queries": queries[1],
        "blocks": 1 + max(_numbers(shapes, r"aggregator\.boqs")),
        "rows": _rows(shapes, "aggregator.fc.weight"),
    }
    size = "322x322"
    unused: tuple[str, ...] = ()
    if "backbone.dino.cls_token" in shapes:
        body, in_a_row = "backbone.dino.", False
        dino = dino_of(shapes, body)
        network = BackboneSpec(dino.name, dino.last)
        unused = (r"backbone\.dino\.norm\.(weight|bias)",)
    else:
        body, in_a_row, size = "backbone.net.", True, "384x384"
        network = resnet_of(shapes, body, in_a_row=True)
    prepared = replace(IMAGENET, resize=size, interpolation="bicubic", resize_on="values")
    return Parts(
        "BoQ",
        network,
        AggregationSpec("boq", options),
        prepared,
        body,
        in_a_row,
        {"": "aggregator."},
        unused=unused,
    )


def mixvpr(shapes: Shapes) -> Parts:
    """MixVPR on a ResNet, DINO-Mix on DINOv2 without its last norm."""
    options = {
        "channels": _rows(shapes, "aggregator.channel_proj.weight"),
        "rows": _rows(shapes, "aggregator.row_proj.weight"),
        "cells": _rows(shapes, "aggregator.mix.0.mix.0.weight"),
        "depth": 1 + max(_numbers(shapes, r"aggregator\.mix")),
    }
    side = round(options["cells"] ** 0.5)
    if "backbone.dino_model.cls_token" in shapes:
        body = "backbone.dino_model."
        dino = dino_of(shapes, body)
        network, what = BackboneSpec(dino.name, dino.last), "DINO-Mix"
        prepared = replace(IMAGENET, resize=f"{14 * side}x{14 * side}", resize_on="values")
    else:
        body, what = "backbone.model.", "MixVPR"
        network = resnet_of(shapes, body, in_a_row=False)
        pixels = side * (16 if network.cut == "layer3" else 32)
        prepared = replace(IMAGENET, resize=f"{pixels}x{pixels}", interpolation="bicubic")
    return Parts(what, network, AggregationSpec("mixvpr", options), prepared, body, head={"": "aggregator."})


def convap(shapes: Shapes) -> Parts:
    """Conv-AP, of 2x2 parts as all that is published."""
    channels = _rows(shapes, "aggregator.channel_pool.weight")
    interpolation: Literal["bicubic", "bilinear"] = "bicubic" if channels == 1024 else "bilinear"
    return Parts(
        "Conv-AP",
        resnet_of(shapes, "backbone.model.", in_a_row=False),
        AggregationSpec("convap", {"channels": channels, "side": 2}),
        Preprocess("320x320", IMAGENET.mean, IMAGENET.std, interpolation=interpolation),
        "backbone.model.",
        head={"": "aggregator."},
    )


def cosplace(shapes: Shapes) -> Parts:
    """CosPlace and EigenPlaces, on a ResNet or on VGG-16 to conv5_3."""
    if "backbone.28.weight" in shapes:
        network = BackboneSpec("vgg16", "conv5_3")
    else:
        network = resnet_of(shapes, "backbone.", in_a_row=True)
    dims = _rows(shapes, "aggregation.3.weight")
    return Parts(
        "CosPlace",
        network,
        AggregationSpec("gem_linear", {"dims": dims, "normalize_input": True}),
        IMAGENET,
        numbered=True,
        head={"linear.": "aggregation.3.", "p": "aggregation.1.p"},
    )


def cricavpr(shapes: Shapes) -> Parts:
    """The parts of CricaVPR, whose descriptors may depend on the other photos of a batch."""
    return Parts(
        "CricaVPR",
        BackboneSpec("dinov2_crica", None, {"variant": dino_of(shapes, "backbone.").variant, "leading": 1}),
        AggregationSpec("cricavpr", {}),
        replace(SQUARE, resize="224x224"),
        head={"encoder.": "encoder.", "p": "aggregation.1.p"},
    )


def supervlad(shapes: Shapes) -> Parts:
    """SuperVLAD of 4 clusters or of 1, with or without its encoder across photos."""
    rows = _rows(shapes, "aggregation.conv.weight")
    clusters, ghosts = MIXED_WITH_GHOSTS.get(rows, (rows - 1, 1))
    crosses = any(key.startswith("encoder.layers.") for key in shapes)
    options = {"clusters": clusters, "ghosts": ghosts, "cross_image": crosses}
    return Parts(
        "SuperVLAD",
        BackboneSpec(dino_of(shapes, "backbone.").name, "norm"),
        AggregationSpec("supervlad", options),
        SQUARE,
        head={"conv.": "aggregation.conv.", "encoder.": "encoder."},
    )


def edtformer(shapes: Shapes) -> Parts:
    """The parts of EDTformer, its numbers of layers read from the shapes."""
    options = {
        "queries": shapes["queries"][1],
        "channels": _rows(shapes, "channel_proj.weight"),
        "rows": _rows(shapes, "row_proj.weight"),
        "layers": 1 + max(_numbers(shapes, r"decoder\.layers")),
    }
    variant = dino_of(shapes, "backbone.").variant
    return Parts(
        "EDTformer",
        BackboneSpec("dinov2_side", None, {"variant": variant, "adapters": "linear", "leading": 1}),
        AggregationSpec("edtformer", options),
        SQUARE,
        head={"layers.": "decoder.layers.", "": ""},
    )


def selavprpp(shapes: Shapes, *, bits: bool = False) -> Parts:
    """SelaVPR++'s descriptor, or its binary codes, of a file that holds both."""
    variant = dino_of(shapes, "backbone.").variant
    stream, before, after = "adapters", "linear1.", "linear2."
    power = "aggregation.1.p"
    if bits:
        stream, before, after = "adapters_hashing", "linear3.", "linear4."
        power = "aggregation_hashing.1.p"
        unused = (r"backbone\.adapters\..*", r"linear[12]\..*", r"aggregation\.1\.p")
    else:
        unused = (r"backbone\.adapters_hashing\..*", r"linear[34]\..*", r"aggregation_hashing\.1\.p")
    numbers = _numbers(shapes, rf"backbone\.{stream}")
    if not numbers or f"{after}weight" not in shapes:
        raise CheckpointError(
            "it is SelaVPR++'s file without binary codes; those are in the one called _rerank"
        )
    options = {
        "variant": variant,
        "adapters": "multiconv",
        "first": VARIANTS[variant].depth - 1 - max(numbers),
        "stream": stream,
    }
    return Parts(
        "SelaVPR++",
        BackboneSpec("dinov2_side", None, options),
        AggregationSpec("selavprpp", {"dims": _rows(shapes, f"{after}weight"), "bits": bits}),
        SQUARE,
        head={"before.": before, "after.": after, "p": power},
        unused=unused,
    )


def image(shapes: Shapes) -> Parts:
    """ImAge; positions as without registers, whatever its backbone has."""
    dino = dino_of(shapes, "backbone.")
    tokens = shapes["learnable_aggregation_tokens"][1]
    options = {
        "variant": dino.variant,
        "registers": dino.registers,
        "positions": "offset",
        "tokens": tokens,
        "at": VARIANTS[dino.variant].depth - 4,
    }
    return Parts(
        "ImAge",
        BackboneSpec("dinov2_aggregating", None, options),
        AggregationSpec("image_tokens", {"tokens": tokens}),
        SQUARE,
        renamed={"backbone.learnable_aggregation_tokens": "learnable_aggregation_tokens"},
    )


def qaa(shapes: Shapes) -> Parts:
    """The parts of QAA (query-based adaptive aggregation), its sizes read from the shapes."""
    codebook = shapes["aggregator.queries_feature.queries"]
    clusters = _rows(shapes, "aggregator.score.conv.weight")
    return Parts(
        "QAA",
        BackboneSpec(dino_of(shapes, "backbone.model.").name, "norm"),
        AggregationSpec("qaa", {"clusters": clusters, "cluster_dim": codebook[2], "queries": codebook[1]}),
        SQUARE,
        "backbone.model.",
        head={"": "aggregator."},
        unused=(r"aggregator\.dust_bin", r"aggregator\.score\.norm2_out\.(weight|bias)"),
    )


def apgem(shapes: Shapes) -> Parts:
    """AP-GeM, with its whitening where the file holds it as arrays (``pca.mean_`` and the others)."""
    components = shapes.get("pca.components_")
    return Parts(
        "AP-GeM",
        resnet_of(shapes, "", in_a_row=False),
        AggregationSpec("gem_linear", {"dims": _rows(shapes, "fc.weight"), "normalize_input": False}),
        IMAGENET,
        "",
        head={"linear.": "fc.", "p": "adpool.p"},
        whitening=None if components is None else int(components[0]),
    )


def anyloc(shapes: Shapes, *, block: int = 31, facet: str = "value") -> Parts:
    """AnyLoc-VLAD-DINOv2: DINOv2's own tensors under ``dino.``, and the vocabulary as ``c_centers``.

    The block and the facet are no part of a file; those published are the defaults.
    """
    dino = dino_of(shapes, "dino.")
    return Parts(
        "AnyLoc",
        BackboneSpec(dino.name, f"blocks.{block}.{facet}"),
        AggregationSpec("vlad", {"clusters": _rows(shapes, "c_centers"), "cosine": True, "epsilon": "torch"}),
        Preprocess(
            "most:1024",
            IMAGENET.mean,
            IMAGENET.std,
            interpolation="bicubic",
            resize_on="values",
            multiple=14,
            multiple_by="crop",
        ),
        "dino.",
        head={"centroids": "c_centers"},
        unused=(
            rf"dino\.blocks\.{block}\.(?!norm1\.|attn\.qkv\.).*",
            *(rf"dino\.blocks\.{i}\..*" for i in range(block + 1, VARIANTS[dino.variant].depth)),
            r"dino\.norm\.(weight|bias)",
        ),
    )


Family = Callable[[Shapes], Parts]

FAMILIES: tuple[tuple[frozenset[str], Family], ...] = tuple(
    (frozenset(names.split()), family)
    for names, family in (
        ("aggregator.agg.dust_bin aggregator.linear.weight", megaloc),
        ("aggregator.dust_bin aggregator.token_features.0.weight", salad),
        ("aggregator.boqs.0.queries", boq),
        ("aggregator.mix.0.mix.0.weight", mixvpr),
        ("aggregator.channel_pool.weight", convap),
        ("aggregation.1.p backbone.blocks.0.adapter.D_fc1.weight", cricavpr),
        ("aggregation.1.p linear1.weight linear2.weight backbone.cls_token", selavprpp),
        ("aggregation.1.p aggregation.3.weight", cosplace),
        ("aggregation.conv.weight backbone.cls_token", supervlad),
        ("queries decoder.layers.0.norm1.weight", edtformer),
        ("learnable_aggregation_tokens", image),
        ("aggregator.queries_feature.queries", qaa),
        ("adpool.p fc.weight", apgem),
        ("c_centers dino.cls_token", anyloc),
    )
)
"""Names that only a program's files hold -> what reads them; asked in this order."""


def family_of(shapes: Shapes) -> Family | None:
    """What reads these tensors; None where they are of no program that is known here."""
    return next((family for names, family in FAMILIES if names <= shapes.keys()), None)


def recognise(shapes: Shapes) -> Parts | None:
    """What these tensors are; None where they are of no program that is known here.

    Raises:
        CheckpointError: they are of one, but a tensor that decides what it is made of is missing.
    """
    family = family_of(shapes)
    if family is None:
        return None
    try:
        return family(shapes)
    except (KeyError, IndexError, ValueError) as error:
        raise CheckpointError(
            f"it lacks, or has in another shape, what decides how it is made: {error}"
        ) from None


def _transport(shapes: Shapes, agg: str) -> dict[str, int]:
    return {
        "clusters": _rows(shapes, f"{agg}score.3.weight"),
        "cluster_dim": _rows(shapes, f"{agg}cluster_features.3.weight"),
        "token_dim": _rows(shapes, f"{agg}token_features.2.weight"),
    }


def _rows(shapes: Shapes, key: str) -> int:
    if key not in shapes:
        raise KeyError(key)
    return int(shapes[key][0])


def _numbers(shapes: Shapes, prefix: str) -> list[int]:
    """The numbers of layers whose names begin so, a regular expression."""
    return [int(match[1]) for key in shapes if (match := re.match(rf"{prefix}\.(\d+)\.", key))]
