"""DINOv2: cuts, facets, leading tokens, positions, sizes; by plain restatements of its formulas, in small."""

import math

import pytest
import torch
from torch.nn import functional as F

from dejavlad.backbones import BACKBONES, build, create
from dejavlad.backbones.dinov2 import VARIANTS, DinoV2
from dejavlad.backbones.dinov2_adapted import AggregatingDinoV2, CricaDinoV2, SideDinoV2
from dejavlad.errors import CheckpointError, InputError, UnknownNameError
from dejavlad.model.reduced import bf16_copy

PHOTOS = torch.randn(2, 3, 42, 56, generator=torch.Generator().manual_seed(0))
SQUARE = PHOTOS[:, :, :, :42]


def made(kind=DinoV2, **options):
    network = kind("s", **options).eval()
    network.draw(3)
    return network


def plain_tokens(network, images, upto):
    """Tokens [N, T, C] after `upto` blocks, one token and one head at a time where it is cheap."""
    rows, columns = images.shape[2] // 14, images.shape[3] // 14
    kernel = network.patch_embed.proj
    patches = []
    for y in range(rows):
        for x in range(columns):
            cell = images[:, :, 14 * y : 14 * y + 14, 14 * x : 14 * x + 14].flatten(1)
            patches.append(cell @ kernel.weight.flatten(1).T + kernel.bias)
    x = torch.cat([network.cls_token.expand(len(images), -1, -1), torch.stack(patches, 1)], 1)
    x = x + network.table(rows, columns)
    if network.registers:
        x = torch.cat([x[:, :1], network.register_tokens.expand(len(x), -1, -1), x[:, 1:]], 1)
    for block in network.blocks[:upto]:
        n = F.layer_norm(x, x.shape[-1:], block.norm1.weight, block.norm1.bias, 1e-6)
        q, k, v = block.attn.qkv(n).chunk(3, dim=-1)
        heads = []
        for h in range(x.shape[-1] // 64):
            part = slice(64 * h, 64 * h + 64)
            heads.append(torch.softmax(q[..., part] @ k[..., part].mT / 8, -1) @ v[..., part])
        x = x + block.ls1.gamma * block.attn.proj(torch.cat(heads, -1))
        n = F.layer_norm(x, x.shape[-1:], block.norm2.weight, block.norm2.bias, 1e-6)
        inner = block.mlp.fc1(n)
        x = x + block.ls2.gamma * block.mlp.fc2(inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2))))
    return x


@torch.inference_mode()
@pytest.mark.parametrize("registers", [0, 4])
def test_tokens_by_a_plain_restatement(registers):
    network = made(cut="blocks.1", registers=registers, leading=1)
    expected = plain_tokens(network, PHOTOS, 2)
    output = network(PHOTOS)
    assert output.shape == (2, 384, 1 + 12, 1)
    torch.testing.assert_close(output[..., 0].mT[:, 0], expected[:, 0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(output[..., 0].mT[:, 1:], expected[:, 1 + registers :], atol=1e-4, rtol=1e-4)
    grid = made(cut="blocks.1", registers=registers)(PHOTOS)
    assert grid.shape == (2, 384, 3, 4)
    torch.testing.assert_close(grid.flatten(2), output[:, :, 1:, 0])


@pytest.mark.slow
@torch.inference_mode()
def test_cuts_share_what_they_share():
    whole = made(leading=1)
    tokens = plain_tokens(whole, PHOTOS, 2)
    normed = made(cut="blocks.1.norm")
    normed.norm.load_state_dict({k: v + 0.5 for k, v in whole.norm.state_dict().items()})
    expected = F.layer_norm(tokens, (384,), normed.norm.weight, normed.norm.bias, 1e-6)[:, 1:]
    torch.testing.assert_close(normed(PHOTOS).flatten(2).mT, expected, atol=1e-4, rtol=1e-4)
    block = whole.blocks[2]
    thirds = block.attn.qkv(block.norm1(tokens))[:, 1:].chunk(3, dim=-1)
    for facet, third in zip(("query", "key", "value"), thirds, strict=True):
        partial = made(cut=f"blocks.2.{facet}")
        assert len(partial.blocks) == 3 and not hasattr(partial.blocks[2], "mlp")
        partial.load_state_dict({k: v for k, v in whole.state_dict().items() if k in partial.state_dict()})
        torch.testing.assert_close(partial(PHOTOS).flatten(2).mT, third, atol=1e-4, rtol=1e-4)


def test_layers_that_are_not_there():
    for cut in ("blocks.12", "blocks.x", "blocks.1.token", "layer3", "blocks.-1"):
        with pytest.raises(UnknownNameError, match="layer"):
            DinoV2("s", cut)
    with pytest.raises(UnknownNameError, match="size of DINOv2"):
        DinoV2("m")
    with pytest.raises(UnknownNameError, match="rule for positions"):
        DinoV2("s", positions="linear")
    with pytest.raises(InputError, match="0 or 4 registers"):
        DinoV2("s", registers=3)
    with pytest.raises(InputError, match="does not take these options"):
        create("dinov2_vits14", weights="random:0", depth=3)


def test_positions_of_every_rule():
    tables = {
        rule: made(positions=rule, cut="blocks.0").table(3, 5)[0] for rule in ("offset", "size", "antialias")
    }
    trained = made(cut="blocks.0").pos_embed[:, 1:].reshape(1, 37, 37, 384).permute(0, 3, 1, 2)
    for rule, how in (
        ("offset", {"scale_factor": (3.1 / 37, 5.1 / 37)}),
        ("size", {"size": (3, 5)}),
        ("antialias", {"size": (3, 5), "antialias": True}),
    ):
        expected = F.interpolate(trained, mode="bicubic", **how)[0].flatten(1).T
        torch.testing.assert_close(tables[rule][1:], expected)
    assert not torch.allclose(tables["offset"], tables["size"], atol=1e-4)
    network = made(cut="blocks.0")
    assert network.table(37, 37) is network.pos_embed
    assert made(registers=4, cut="blocks.0").positions == "antialias"


def test_photos_of_other_sizes():
    network, rounding = made(cut="blocks.0"), made(cut="blocks.0", fit="round")
    with pytest.raises(InputError, match=r"40x57 pixels do not fit.*e\.g\. 42x56"):
        network(torch.zeros(1, 3, 40, 57))
    with pytest.raises(InputError, match="13x40 pixels are too small"):
        network(torch.zeros(1, 3, 13, 40))
    with pytest.raises(InputError, match="must be"):
        network(torch.zeros(1, 1, 28, 28))
    photo = torch.randn(1, 3, 40, 57)
    resized = F.interpolate(photo, (42, 56), mode="bilinear", antialias=True)
    with torch.inference_mode():
        assert torch.equal(rounding(photo), rounding(resized))
    assert rounding.grid(35, 63) == (2, 4)  # half to even


@pytest.mark.slow
def test_published_sizes_and_keys():
    counts = {"s": 22_056_576, "b": 86_580_480, "l": 304_368_640, "g": 1_136_480_768}
    for variant, size in counts.items():
        with torch.device("meta"):
            network = BACKBONES[f"dinov2_vit{variant}14"].make()
            with_registers = BACKBONES[f"dinov2_vit{variant}14_reg"].make()
        assert sum(p.numel() for p in network.parameters()) == size
        assert with_registers.state_dict().keys() - network.state_dict().keys() == {"register_tokens"}
        assert network.channels == VARIANTS[variant].channels
    assert len(network.state_dict()) == 7 + 40 * 14  # w12 and w3 are as many as fc1 and fc2


@pytest.mark.slow
def test_weights_of_the_whole_fill_a_partial_and_others_do_not(tmp_path):
    tensors = create("dinov2_vits14", weights="random:5").state_dict()
    torch.save({"model": {f"module.{k}": v.half() for k, v in tensors.items()}}, tmp_path / "w.pth")
    backbone = create("dinov2_vits14", cut="blocks.9.value", weights=tmp_path / "w.pth")
    assert torch.equal(backbone.blocks[9].attn.qkv.weight, tensors["blocks.9.attn.qkv.weight"].half().float())
    assert all(tensor.dtype == torch.float32 for tensor in backbone.state_dict().values())
    with pytest.raises(CheckpointError, match="left over register_tokens"):
        create("dinov2_vits14", weights={**tensors, "register_tokens": torch.zeros(1, 4, 384)})
    with pytest.raises(CheckpointError, match=r"missing blocks\.3\.ls1\.gamma"):
        create("dinov2_vits14", weights={k: v for k, v in tensors.items() if k != "blocks.3.ls1.gamma"})
    with pytest.raises(CheckpointError, match="does not fit this network"):
        create("dinov2_vitb14", weights=tensors)


@pytest.mark.slow
@torch.inference_mode()
def test_bfloat16_is_near():
    network = made()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        near = bf16_copy(network)(PHOTOS)
    assert F.cosine_similarity(near.float().flatten(1), network(PHOTOS).flatten(1)).min() > 0.999


def settled(network):
    """Statistics of batch norms that matter."""
    for name, buffer in network.named_buffers():
        if buffer.ndim and "running" in name:
            buffer.copy_(torch.rand(buffer.shape, generator=torch.Generator().manual_seed(len(name))) + 0.5)
    return network


def plain_adapter(adapter, x):
    inner = torch.relu(adapter.D_fc1(x))
    side = math.isqrt(x.shape[1] - 1)
    grid = inner[:, 1:].mT.unflatten(2, (side, side))

    def step(layer, at):
        bn = layer.bn
        convolved = F.conv2d(at, layer.conv.weight, layer.conv.bias, padding=layer.conv.weight.shape[-1] // 2)
        normed = F.batch_norm(convolved, bn.running_mean, bn.running_var, bn.weight, bn.bias, eps=1e-3)
        return torch.relu(normed)

    seen = [step(adapter.branch1, grid)]
    seen += [step(branch[1], step(branch[0], grid)) for branch in (adapter.branch2, adapter.branch3)]
    joined = torch.cat([inner[:, :1], torch.cat(seen, 1).flatten(2).mT], 1)
    return adapter.D_fc2(inner + joined)


@pytest.mark.slow
@torch.inference_mode()
def test_selavprs_stream_runs_beside_the_blocks():
    network = settled(made(SideDinoV2, adapters="multiconv", first=9))
    tokens = network.embed(SQUARE)
    states = [tokens]
    for block in network.blocks:
        states.append(block(states[-1]))
    side = states[9]
    for i in range(9, 12):
        side = side + plain_adapter(network.adapters[i - 9], side + states[i + 1])
    expected = network.norm(side)[:, 1:].mT.unflatten(2, (3, 3))
    torch.testing.assert_close(network(SQUARE), expected, atol=1e-4, rtol=1e-4)
    with pytest.raises(InputError, match=r"square photos; given 42x56"):
        network(PHOTOS)
    second = SideDinoV2("s", adapters="multiconv", first=9, stream="adapters_hashing")
    assert any(key.startswith("adapters_hashing.2.") for key in second.state_dict())


@torch.inference_mode()
def test_edtformers_stream_takes_photos_of_any_shape():
    network = made(SideDinoV2, adapters="linear", leading=1)
    side = x = network.embed(PHOTOS)
    for block, adapter in zip(network.blocks, network.adapters, strict=True):
        x = block(x)
        z = side + x
        side = z + 0.5 * adapter.D_fc2(F.gelu(adapter.D_fc1(z)))
    torch.testing.assert_close(network(PHOTOS)[..., 0].mT, network.norm(side), atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_cricas_adapters_are_inside_the_layer_scale():
    network = settled(made(CricaDinoV2, cut="blocks.0"))
    block, x = network.blocks[0], network.embed(SQUARE)
    x = x + block.ls1.gamma * block.attn(block.norm1(x))
    n = block.norm2(x)
    x = x + block.ls2.gamma * (block.mlp(n) + 0.2 * plain_adapter(block.adapter, n))
    torch.testing.assert_close(network(SQUARE).flatten(2).mT, x[:, 1:], atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@torch.inference_mode()
def test_images_tokens_join_late_and_alone_come_out():
    network = made(AggregatingDinoV2, registers=4, positions="offset", tokens=3, at=10)
    x = network.embed(PHOTOS)
    for block in network.blocks[:10]:
        x = block(x)
    x = torch.cat([network.learnable_aggregation_tokens.expand(2, -1, -1), x], 1)
    for block in network.blocks[10:]:
        x = block(x)
    output = network(PHOTOS)
    assert output.shape == (2, 384, 3, 1)
    torch.testing.assert_close(output[..., 0].mT, network.norm(x)[:, :3], atol=1e-4, rtol=1e-4)
    with pytest.raises(InputError, match="at least 1 token"):
        AggregatingDinoV2("s", tokens=0)


def test_adapted_networks_refuse_other_settings():
    with pytest.raises(UnknownNameError, match="kind of adapter"):
        build("dinov2_side", None, {"variant": "s", "adapters": "lora"})
    with pytest.raises(InputError, match="ends with its last norm"):
        build("dinov2_side", "blocks.3", {"variant": "s", "adapters": "linear"})
    with pytest.raises(InputError, match="does not take these options"):
        build("dinov2_crica", None, {"variant": "s", "rank": 4})
    with pytest.raises(UnknownNameError, match="unknown backbone"):
        build("dinov3", None, {})
