"""Published place recognisers with random weights: processor seconds a photo, ours and the original's way.

For each model, in one run and by turns: ours in float32, then ours in bfloat16, against a plain restatement
in float32 of how the original computes it (attention, layers and heads one after the other); where that is
not written down below, bfloat16 against ours in float32. The ratios are how many times as fast, medians of
the rounds. ``OMP_NUM_THREADS=1 python benchmarks/bench_models.py NAME...`` runs some of them.
"""

from __future__ import annotations

import functools
import gc
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parent))

from _timing import Paired, paired, processor
from dejavlad.backbones import DinoV2
from dejavlad.model import PlaceModel
from dejavlad.zoo import load_model

BATCH, ROUNDS = 1, 3
MODELS = {
    "megaloc": 322,
    "salad": 322,
    "boq-dinov2": 322,
    "boq-resnet50": 384,
    "cosplace-resnet50-2048": 320,
    "eigenplaces-resnet50-2048": 320,
    "mixvpr-4096": 320,
    "convap-4096": 320,
    "image-vpr": 322,
    "supervlad": 322,
    "edtformer": 322,
    "selavprpp-base": 322,
    "cricavpr": 224,
    "dinomix": 224,
    "apgem": 320,
}
"""Model -> side of its photos. AnyLoc's largest network is left out: 4.5 GB."""


def plain_dino(network: DinoV2, images: Tensor) -> Tensor:
    """Tokens [N, T, C] as facebookresearch/dinov2 computes them without xFormers, all blocks and the norm."""
    x = network.embed(images)
    for block in network.blocks:
        n, tokens, channels = x.shape
        attn = block.attn
        qkv = attn.qkv(block.norm1(x)).reshape(n, tokens, 3, attn.heads, channels // attn.heads)
        q, k, v = torch.unbind(qkv, 2)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, tokens, channels)
        x = x + attn.proj(seen) * block.ls1.gamma
        x = x + block.mlp.fc2(F.gelu(block.mlp.fc1(block.norm2(x)))) * block.ls2.gamma
    return network.norm(x) if network.cut.norm else x


def plain_salad(model: PlaceModel, images: Tensor) -> Tensor:
    """SALAD and MegaLoc: convolutions over the map, Sinkhorn's steps one by one."""
    tokens = plain_dino(model.backbone, images)
    rows, columns = (side // 14 for side in images.shape[2:])
    grid = tokens[:, 1:].permute(0, 2, 1).reshape(len(images), -1, rows, columns)
    agg = model.aggregation.agg
    f, s = agg.cluster_features(grid).flatten(2), agg.score(grid).flatten(2)
    t = agg.token_features(tokens[:, 0])
    n, m, patches = s.shape
    s = torch.cat([s, agg.dust_bin.reshape(1, 1, 1).expand(n, 1, patches)], 1)
    norm = -torch.tensor(float(patches + m)).log()
    log_a = norm.expand(n, m + 1).contiguous()
    log_a[:, -1] += torch.tensor(float(patches - m)).log()
    log_b = norm.expand(n, patches)
    u, v = torch.zeros(n, m + 1), torch.zeros(n, patches)
    for _ in range(3):
        u = log_a - torch.logsumexp(s + v.unsqueeze(1), 2)
        v = log_b - torch.logsumexp(s + u.unsqueeze(2), 1)
    p = torch.exp(s + u.unsqueeze(2) + v.unsqueeze(1) - norm)[:, :-1]
    p = p.unsqueeze(1).repeat(1, f.shape[1], 1, 1)
    f = f.unsqueeze(2).repeat(1, 1, m, 1)
    y = torch.cat([F.normalize(t), F.normalize((f * p).sum(-1), dim=1).flatten(1)], -1)
    y = F.normalize(y)
    return F.normalize(model.aggregation.linear(y)) if hasattr(model.aggregation, "linear") else y


def plain_boq(model: PlaceModel, images: Tensor) -> Tensor:
    """BoQ: the queries attend to each other anew for each photo, and attention tells its weights."""
    head = model.aggregation
    if isinstance(model.backbone, DinoV2):
        rows, columns = (side // 14 for side in images.shape[2:])
        tokens = plain_dino(model.backbone, images)[:, 1:]
        feat = tokens.permute(0, 2, 1).reshape(len(images), -1, rows, columns)
    else:
        feat = model.backbone(images)
    x = head.norm_input(head.proj_c(feat).flatten(2).permute(0, 2, 1))
    blocks = []
    for block in head.boqs:
        x = block.encoder(x)
        q = block.queries.repeat(len(x), 1, 1)
        q = block.norm_q(q + block.self_attn(q, q, q)[0])
        blocks.append(block.norm_out(block.cross_attn(q, x, x)[0]))
    return F.normalize(head.fc(torch.cat(blocks, 1).permute(0, 2, 1)).flatten(1), dim=-1)


def plain_gem(model: PlaceModel, images: Tensor) -> Tensor:
    """CosPlace and EigenPlaces written out plainly: descriptors [N, dims] of unit length."""
    head = model.aggregation
    feat = F.normalize(model.backbone(images), dim=1)
    pooled = F.avg_pool2d(feat.clamp(min=1e-6).pow(head.p), feat.shape[-2:]).pow(1.0 / head.p).flatten(1)
    return F.normalize(head.linear(pooled), dim=1)


def plain_convap(model: PlaceModel, images: Tensor) -> Tensor:
    """Conv-AP: the convolution first, then the average."""
    pooled = F.adaptive_avg_pool2d(model.aggregation.channel_pool(model.backbone(images)), (2, 2))
    return F.normalize(pooled.flatten(1), dim=1)


def plain_mixvpr(model: PlaceModel, images: Tensor) -> Tensor:
    """MixVPR and DINO-Mix written out plainly: descriptors [N, dims] of unit length."""
    head = model.aggregation
    if isinstance(model.backbone, DinoV2):
        x = plain_dino(model.backbone, images)[:, 1:].permute(0, 2, 1)
    else:
        x = model.backbone(images).flatten(2)
    x = head.mix(x)
    x = head.channel_proj(x.permute(0, 2, 1)).permute(0, 2, 1)
    return F.normalize(head.row_proj(x).flatten(1), dim=-1)


PLAIN: dict[str, Callable[[PlaceModel, Tensor], Tensor]] = {
    "megaloc": plain_salad,
    "salad": plain_salad,
    "boq-dinov2": plain_boq,
    "boq-resnet50": plain_boq,
    "cosplace-resnet50-2048": plain_gem,
    "eigenplaces-resnet50-2048": plain_gem,
    "mixvpr-4096": plain_mixvpr,
    "convap-4096": plain_convap,
    "dinomix": plain_mixvpr,
}


def bench(name: str, side: int) -> None:
    """Print a row of the table."""
    model = load_model(name, weights="random:0", device="cpu")
    near = model.with_dims(None)
    near.precision = "bf16"
    images = torch.randn(BATCH, 3, side, side, generator=torch.Generator().manual_seed(0))
    plain = PLAIN.get(name)
    with torch.inference_mode():
        exact = model(images)
        cosine = float(F.cosine_similarity(exact, near(images)).min())
        cells = ["-", "-"]
        if plain is not None:
            away = float((plain(model, images) - exact).abs().max() / exact.abs().max())
            assert away < 1e-3, f"{name}: the restatement differs by {away:.1e}"
            own = timed(lambda: plain(model, images), lambda: model(images))
            cells = [f"{seconds(own.reference):.2f}", f"{own.ratio:.2f}"]
        reference = model if plain is None else functools.partial(plain, model)
        bf16 = timed(lambda: reference(images), lambda: near(images))
    fp32 = bf16.reference if plain is None else own.ours
    against = "" if plain is not None else " (ours)"
    print(
        f"| {name} | {side} | {cells[0]} | {seconds(fp32):.2f} | {seconds(bf16.ours):.2f} | {cells[1]} | "
        f"{bf16.ratio:.2f}{against} | {cosine:.5f} |",
        flush=True,
    )


def timed(reference: Callable[[], object], ours: Callable[[], object]) -> Paired:
    """Processor seconds of both, by turns."""
    return paired(reference, ours, rounds=ROUNDS, clock=time.process_time)


def seconds(times: Sequence[float]) -> float:
    """The least, of a photo."""
    return min(times) / BATCH


def main() -> None:
    """All models, or those that are named."""
    print(f"batch {BATCH}; {processor()}, {torch.get_num_threads()} threads; processor seconds a photo")
    titles = ["model", "side", "plain fp32", "fp32", "bf16", "fp32 to plain", "bf16 to plain fp32", "cosine"]
    print("| " + " | ".join(titles) + " |\n|---" + "|--:" * (len(titles) - 1) + "|")
    for name in sys.argv[1:] or MODELS:
        bench(name, MODELS[name])
        gc.collect()


if __name__ == "__main__":
    main()
