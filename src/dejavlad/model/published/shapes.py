"""What published networks are made of, from the few shapes that decide it.

The shapes are read by the very functions that read files (`families`): so a name and its file cannot tell
different networks.
"""

from __future__ import annotations

from dataclasses import replace

from dejavlad.backbones.sizes import DEPTHS, VARIANTS
from dejavlad.model.published import families
from dejavlad.model.published.parts import CHILDREN, Parts

Table = dict[str, tuple[int, ...]]


def _shapes(**shapes: tuple[int, ...]) -> Table:
    return {key.replace("__", "."): shape for key, shape in shapes.items()}


def dino(body: str, variant: str = "b", registers: int = 0) -> Table:
    """The tensors that tell a DINOv2 whose names begin with `body`."""
    channels = VARIANTS[variant].channels
    shapes: Table = {
        f"{body}cls_token": (1, 1, channels),
        f"{body}pos_embed": (1, 1370, channels),
    }
    if registers:
        shapes[f"{body}register_tokens"] = (1, registers, channels)
    return shapes


def resnet(body: str, depth: int, stages: int, *, in_a_row: bool = False) -> Table:
    """The tensors that tell a ResNet cut after so many stages."""
    shapes: Table = {}
    for stage, blocks in enumerate(DEPTHS[depth][:stages], 1):
        child = CHILDREN[f"layer{stage}"] if in_a_row else f"layer{stage}"
        for i in range(blocks):
            shapes[f"{body}{child}.{i}.conv{3 if depth >= 50 else 2}.weight"] = (1,)
    return shapes


def _transport(agg: str, clusters: int, cluster_dim: int, token_dim: int) -> Table:
    return {
        f"{agg}score.3.weight": (clusters, 512, 1, 1),
        f"{agg}cluster_features.3.weight": (cluster_dim, 512, 1, 1),
        f"{agg}token_features.2.weight": (token_dim, 512),
    }


def megaloc() -> Parts:
    """MegaLoc."""
    return families.megaloc(
        dino("backbone.")
        | _transport("aggregator.agg.", 64, 256, 256)
        | {"aggregator.linear.weight": (8448, 16640)}
    )


def salad() -> Parts:
    """SALAD, and CliqueMining."""
    return families.salad(dino("backbone.model.") | _transport("aggregator.", 64, 128, 256))


def boq(channels: int, body: Table) -> Parts:
    """BoQ on a backbone (`dino` or `resnet`)."""
    blocks = {f"aggregator.boqs.{i}.queries": (1, 64, channels) for i in range(2)}
    return families.boq(body | blocks | {"aggregator.fc.weight": (32, 128)})


def mixvpr(channels: int, rows: int, cells: int, depth: int, body: Table) -> Parts:
    """MixVPR and DINO-Mix on a backbone."""
    mixers = {f"aggregator.mix.{i}.mix.0.weight": (cells,) for i in range(depth)}
    return families.mixvpr(
        body
        | mixers
        | {
            "aggregator.channel_proj.weight": (channels, 768),
            "aggregator.row_proj.weight": (rows, cells),
        }
    )


def convap(channels: int) -> Parts:
    """Conv-AP of so many channels."""
    head = {"aggregator.channel_pool.weight": (channels, 2048, 1, 1)}
    return families.convap(resnet("backbone.model.", 50, 4) | head)


def gem(backbone: str, dims: int, program: str) -> Parts:
    """CosPlace and EigenPlaces on a named backbone."""
    depth = int(backbone.removeprefix("resnet")) if backbone.startswith("resnet") else 0
    body = resnet("backbone.", depth, 4, in_a_row=True) if depth else {"backbone.28.weight": (512,)}
    parts = families.cosplace(body | {"aggregation.3.weight": (dims, 512)})
    return replace(parts, what=program)


def supervlad(rows: int, *, crosses: bool) -> Parts:
    """SuperVLAD of so many rows of its assignment."""
    head: Table = {"aggregation.conv.weight": (rows, 768, 1, 1)}
    if crosses:
        head["encoder.layers.0.norm1.weight"] = (768,)
    return families.supervlad(dino("backbone.") | head)


def edtformer() -> Parts:
    """EDTformer."""
    layers = {f"decoder.layers.{i}.norm1.weight": (768,) for i in range(2)}
    head = _shapes(queries=(1, 64, 768), channel_proj__weight=(256, 768), row_proj__weight=(16, 64))
    return families.edtformer(dino("backbone.") | layers | head)


def selavprpp(variant: str, dims: int, *, bits: bool) -> Parts:
    """SelaVPR++, or its binary codes."""
    adapters = 12 if variant == "b" else 16
    streams = ("adapters", "adapters_hashing")
    body = {f"backbone.{s}.{i}.D_fc1.bias": (1,) for s in streams for i in range(adapters)}
    head = {"linear2.weight": (dims, 1), "linear4.weight": (512, 1)}
    return families.selavprpp(dino("backbone.", variant) | body | head, bits=bits)


def image() -> Parts:
    """ImAge."""
    tokens = {"learnable_aggregation_tokens": (1, 8, 768)}
    return families.image(dino("backbone.", registers=4) | tokens)


def qaa() -> Parts:
    """QAA."""
    head = {
        "aggregator.queries_feature.queries": (1, 256, 128),
        "aggregator.score.conv.weight": (64, 768, 1),
    }
    return families.qaa(dino("backbone.model.") | head)


def apgem() -> Parts:
    """AP-GeM."""
    return families.apgem(
        resnet("", 101, 4) | _shapes(fc__weight=(2048, 2048), pca__components_=(2048, 2048))
    )


def anyloc() -> Parts:
    """AnyLoc with one of its vocabularies."""
    return families.anyloc(dino("dino.", "g") | {"c_centers": (32, 1536)})


def cricavpr() -> Parts:
    """CricaVPR."""
    return families.cricavpr(dino("backbone."))
