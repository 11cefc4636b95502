"""Trained heads against slow and obvious oracles, in small; what they refuse; what they keep."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dejavlad.aggregation import AGGREGATIONS, VLAD, create
from dejavlad.aggregation.salad import transport
from dejavlad.errors import InputError

DIM = 32
HEADS = {
    "gem_linear": {"dims": 5},
    "convap": {"channels": 4},
    "mixvpr": {"channels": 3, "rows": 2, "cells": 20, "depth": 2},
    "boq": {"channels": 64, "queries": 3, "rows": 2},
    "salad": {"clusters": 4, "cluster_dim": 3, "token_dim": 5},
    "megaloc": {"clusters": 4, "cluster_dim": 3, "token_dim": 5, "dims": 7},
    "supervlad": {"clusters": 2, "ghosts": 2},
    "edtformer": {"queries": 4, "channels": 3, "rows": 2},
    "selavprpp": {"dims": 6},
    "selavprpp bits": {"dims": 6, "bits": True},
    "image_tokens": {"tokens": 20},
    "qaa": {"clusters": 3, "cluster_dim": 16, "queries": 4},
}
ACROSS = {"cricavpr": {}, "supervlad": {"cross_image": True}}


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def made(name, **options):
    torch.manual_seed(1)
    return create(name.split()[0], DIM, **options).eval()


def features(head, n=3, seed=2):
    """A map of 5x4 cells, or the class token and 20 patches."""
    return drawn(n, DIM, 21, 1, seed=seed) if head.leading else drawn(n, DIM, 5, 4, seed=seed)


@pytest.fixture(params=HEADS)
def head(request):
    return made(request.param, **HEADS[request.param])


def test_every_head_is_tried():
    tried = {name.split()[0] for name in (*HEADS, *ACROSS)}
    assert tried == {name for name, layer in AGGREGATIONS.items() if layer.needs_training}


@torch.no_grad()
def test_unit_length_size_options_and_name(head):
    rows = head(features(head))
    assert rows.shape == (3, head.descriptor_size) and rows.dtype == torch.float32
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(3))
    again = create(head.name, DIM, **head.options).eval()
    again.load_state_dict(head.state_dict())
    assert torch.equal(again(features(head)), rows)


@torch.no_grad()
def test_photos_of_a_batch_do_not_touch_each_other(head):
    assert head.alone
    feat = features(head)
    apart = torch.cat([head(feat[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(head(feat), apart, atol=2e-6, rtol=1e-5)


@torch.no_grad()
def test_half_precision_features_are_taken_in_float32_except_by_large_heads(head):
    feat = features(head).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rows = head(feat)
    near = {"atol": 0.02, "rtol": 0.0} if head.reduces else {"atol": 1e-6, "rtol": 1e-5}
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows, head(feat.float()), **near)


def test_gradients_reach_every_parameter(head):
    if getattr(head, "bits", False) or head.name == "image_tokens":
        return  # signs have no gradient, and tokens are the backbone's
    head(features(head)).square().mul(drawn(head.descriptor_size)).sum().backward()
    constant = ("score.3.bias", "dust_bin")  # a constant added to a row of the transport cancels
    lacking = [n for n, p in head.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    keys = ("in_proj_bias",)  # of the keys no gradient is needed: it cancels in the softmax
    assert not [name for name in lacking if not name.endswith(constant + keys)]


@torch.no_grad()
@pytest.mark.parametrize("name", ACROSS)
def test_heads_across_photos_say_so(name):
    layer = create(name, 768 if name == "cricavpr" else DIM, **ACROSS[name]).eval()
    assert not layer.alone
    feat = drawn(3, layer.dim, 257, 1) if layer.leading else drawn(3, DIM, 4, 4)
    assert (layer(feat)[:1] - layer(feat[:1])).abs().max() > 1e-4
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(layer(feat[order]), layer(feat)[order], atol=1e-5, rtol=1e-4)


def plain_transport(scores, dust, rounds=3):
    """Sinkhorn's iteration as loops over numbers, not in logarithms: [K][L] of one photo."""
    clusters, patches = len(scores), len(scores[0])
    mass = np.exp(np.vstack([scores, np.full(patches, dust)]).astype(np.float64))
    each = 1 / (patches + clusters)
    wanted = [each] * clusters + [each * (patches - clusters)]
    row, column = np.ones(clusters + 1), np.ones(patches)
    for _ in range(rounds):
        for k in range(clusters + 1):
            row[k] = wanted[k] / sum(mass[k, i] * column[i] for i in range(patches))
        for i in range(patches):
            column[i] = each / sum(mass[k, i] * row[k] for k in range(clusters + 1))
    plan = [[mass[k, i] * row[k] * column[i] / each for i in range(patches)] for k in range(clusters)]
    return np.array(plan)


@pytest.mark.parametrize(("clusters", "patches"), [(1, 2), (4, 5), (6, 30)])
def test_transport_is_sinkhorns_iteration(clusters, patches):
    scores = drawn(2, clusters, patches) * 3
    plan = transport(scores, torch.tensor(0.7))
    for photo in (0, 1):
        expected = plain_transport(scores[photo].numpy(), 0.7)
        np.testing.assert_allclose(plan[photo].numpy(), expected, rtol=1e-4, atol=1e-7)
    assert (plan.sum(1) <= 1 + 1e-5).all()
    with pytest.raises(
        InputError, match=f"{clusters} patches of a photo are too few for {clusters} clusters"
    ):
        transport(scores[:, :, :clusters], torch.tensor(0.7))


@torch.no_grad()
def test_salad_puts_the_token_first_and_channels_before_clusters():
    layer = made("salad", **HEADS["salad"])
    feat = features(layer, 1)
    token, patches = feat[0, :, 0, 0], feat[0, :, 1:, 0].T
    agg = layer.agg
    first = F.normalize(agg.token_features(token), dim=0)

    def small(network, x):
        return torch.stack([network(cell[None, :, None, None])[0, :, 0, 0] for cell in x])

    assignment = torch.from_numpy(plain_transport(small(agg.score, patches).T.numpy(), float(agg.dust_bin)))
    sums = small(agg.cluster_features, patches).T.double() @ assignment.T
    expected = F.normalize(torch.cat([first.double(), F.normalize(sums, dim=0).flatten()]), dim=0)
    torch.testing.assert_close(layer(feat)[0].double(), expected, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_megaloc_is_salad_with_a_linear_layer():
    options = dict(HEADS["megaloc"])
    layer = made("megaloc", **options)
    del options["dims"]
    before = create("salad", DIM, **options).eval()
    before.load_state_dict({k: v for k, v in layer.state_dict().items() if k.startswith("agg.")})
    feat = features(layer)
    torch.testing.assert_close(layer(feat), F.normalize(layer.linear(before(feat)), dim=1))


@torch.no_grad()
def test_gem_by_loops():
    layer = made("gem_linear", dims=5, p=2.5)
    feat = features(layer, 1)
    cells = [F.normalize(feat[0, :, y, x], dim=0) for y in range(5) for x in range(4)]
    means = [sum(max(float(cell[d]), 1e-6) ** 2.5 for cell in cells) / 20 for d in range(DIM)]
    pooled = torch.tensor([mean ** (1 / 2.5) for mean in means])
    expected = F.normalize(layer.linear(pooled), dim=0)
    torch.testing.assert_close(layer(feat)[0], expected, atol=1e-6, rtol=1e-4)


@torch.no_grad()
def test_convap_averages_before_what_its_paper_averages_after():
    layer = made("convap", channels=4)
    for shape in ((5, 4), (7, 7), (2, 3)):
        feat = drawn(2, DIM, *shape)
        expected = F.adaptive_avg_pool2d(layer.channel_pool(feat), 2).flatten(1)
        torch.testing.assert_close(layer(feat), F.normalize(expected, dim=1), atol=1e-6, rtol=1e-4)


@torch.no_grad()
def test_mixvpr_mixes_along_cells_and_orders_channel_by_channel():
    layer = made("mixvpr", **HEADS["mixvpr"])
    feat = features(layer, 1)
    x = feat[0].flatten(1)
    for mixer in layer.mix:
        norm, up, _, down = mixer.mix
        x = torch.stack([row + down(torch.relu(up(norm(row)))) for row in x])
    columns = torch.stack([layer.channel_proj(x[:, i]) for i in range(x.shape[1])], dim=1)
    expected = torch.stack([layer.row_proj(row) for row in columns]).flatten()
    torch.testing.assert_close(layer(feat)[0], F.normalize(expected, dim=0), atol=1e-6, rtol=1e-4)
    with pytest.raises(InputError, match=r"take 20 cells.*given 6x4"):
        layer(drawn(1, DIM, 6, 4))


def attended(attention, q, x):
    """Multi-head attention of one photo, head by head."""
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    dim, heads = weight.shape[1], attention.num_heads
    parts = [x_ @ w.T + b for x_, w, b in zip((q, x, x), weight.split(dim), bias.split(dim), strict=True)]
    width = dim // heads
    outputs = []
    for h in range(heads):
        qh, kh, vh = (part[:, h * width : (h + 1) * width] for part in parts)
        outputs.append(torch.softmax(qh @ kh.T / math.sqrt(width), dim=1) @ vh)
    return attention.out_proj(torch.cat(outputs, dim=1))


@torch.no_grad()
def test_boq_by_its_steps():
    layer = made("boq", **HEADS["boq"])
    feat = features(layer, 1)
    x = layer.norm_input(layer.proj_c(feat)[0].flatten(1).T)
    answers = []
    for block in layer.boqs:
        e = block.encoder
        x = e.norm1(x + attended(e.self_attn, x, x))
        x = e.norm2(x + e.linear2(torch.relu(e.linear1(x))))
        q = block.queries[0]
        q = block.norm_q(q + attended(block.self_attn, q, q))
        answers.append(block.norm_out(attended(block.cross_attn, q, x)))
    expected = layer.fc(torch.cat(answers).T).flatten()
    torch.testing.assert_close(layer(feat)[0], F.normalize(expected, dim=0), atol=2e-6, rtol=1e-4)


@torch.no_grad()
def test_edtformer_by_its_steps():
    layer = made("edtformer", **HEADS["edtformer"])
    feat = features(layer, 1)
    memory, q = layer.fc(feat[0, :, :, 0].T), layer.queries[0]
    for step in layer.layers:
        q = step.norm1(q + attended(step.self_attn, q, q))
        q = step.norm2(q + attended(step.multihead_attn, q, memory))
    expected = layer.row_proj(layer.channel_proj(q).T).flatten()
    torch.testing.assert_close(layer(feat)[0], F.normalize(expected, dim=0), atol=2e-6, rtol=1e-4)


@torch.no_grad()
def test_supervlad_is_netvlad_without_centres_and_with_ghosts():
    layer = made("supervlad", clusters=2, ghosts=2)
    feat = features(layer, 1)
    cells = F.normalize(feat[0].flatten(1).T, dim=1)
    assignment = torch.softmax(cells @ layer.conv.weight[:, :, 0, 0].T, dim=1)
    sums = [sum(assignment[i, k] * cells[i] for i in range(20)) for k in range(2)]
    expected = F.normalize(torch.cat([F.normalize(one, dim=0) for one in sums]), dim=0)
    torch.testing.assert_close(layer(feat)[0], expected, atol=1e-6, rtol=1e-4)


@torch.no_grad()
def test_binary_codes_are_the_signs():
    floats = made("selavprpp", dims=6)
    bits = create("selavprpp", DIM, dims=6, bits=True)
    bits.load_state_dict(floats.state_dict())
    feat = features(floats)
    expected = torch.where(floats(feat) >= 0, 1.0, -1.0) / math.sqrt(6)
    torch.testing.assert_close(bits(feat), expected)


@torch.no_grad()
def test_anylocs_vlad_goes_by_cosine_and_subtracts_the_centre_as_it_is():
    layer = VLAD(DIM, 3, cosine=True, epsilon="torch")
    layer.centroids.copy_(drawn(3, DIM) * torch.tensor([[0.1], [1.0], [9.0]]))
    feat = features(layer, 1)
    sums = torch.zeros(3, DIM)
    for cell in F.normalize(feat[0].flatten(1).T, dim=1):
        word = int((F.normalize(layer.centroids, dim=1) @ cell).argmax())
        sums[word] += cell - layer.centroids[word]
    expected = F.normalize(F.normalize(sums, dim=1).flatten(), dim=0)
    torch.testing.assert_close(layer(feat)[0], expected, atol=1e-6, rtol=1e-4)
    nearest = VLAD(DIM, 3, epsilon="torch")
    nearest.load_state_dict(layer.state_dict())
    assert not torch.allclose(nearest(feat), layer(feat))
    assert "cosine" not in nearest.options and layer.options["cosine"]
    with pytest.raises(InputError, match="not both"):
        VLAD(DIM, 3, cosine=True, sharpness=2.0)


@pytest.mark.parametrize("name", [*HEADS, "cricavpr"])
def test_shapes_that_do_not_fit_are_refused(name):
    layer = made(name, **HEADS.get(name, {}))
    with pytest.raises(InputError, match="H, W"):
        layer(drawn(1, DIM + 1, 5, 4))
    if name == "cricavpr":
        with pytest.raises(InputError, match="224x224"):
            layer(drawn(1, DIM, 21, 1))
    for option, value in HEADS.get(name, {}).items():
        if isinstance(value, int) and not isinstance(value, bool):
            with pytest.raises(InputError):
                create(layer.name, DIM, **{**HEADS[name], option: 0})
