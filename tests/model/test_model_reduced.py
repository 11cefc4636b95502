"""The backbone's copy for bfloat16."""

import copy

import numpy as np
import pytest
import torch
from test_model_place_model import PLAIN, Tiny, images, tiny
from torch import nn
from torch.nn import functional as F

from dejavlad import backbones
from dejavlad.aggregation import AvgPool
from dejavlad.backbones.dinov2 import LayerScale
from dejavlad.backbones.packed import packs
from dejavlad.errors import InputError
from dejavlad.model import PlaceModel
from dejavlad.model.reduced import Float32Conv2d, bf16_copy, round_by_window


def test_errors_of_a_window_cancel():
    weight = torch.randn(32, 16, 3, 3, generator=torch.Generator().manual_seed(0))
    ours, nearest = round_by_window(weight), weight.bfloat16()
    assert ours.dtype == torch.bfloat16 and ours.shape == weight.shape
    sums = [(rounded.float() - weight).sum(dim=(2, 3)).abs().mean() for rounded in (ours, nearest)]
    assert sums[0] < sums[1] / 10
    assert (ours.float() - weight).abs().max() <= 2**-7 * weight.abs().max()


def test_single_taps_are_rounded_to_the_nearest():
    weight = torch.randn(8, 5, 1, 1)
    assert torch.equal(round_by_window(weight), weight.bfloat16())


def smooth_photos():
    ramp = torch.linspace(0, 1, 64)
    return torch.stack([ramp.expand(64, 64), ramp[:, None].expand(64, 64), torch.ones(64, 64)])[None] + 1


def test_nearer_than_plain_autocast():
    """On smooth photos, where the errors of plain rounding add up."""
    torch.manual_seed(0)
    backbone = nn.Sequential(
        *(nn.Sequential(nn.Conv2d(i, 64, 3, padding=1), nn.ReLU()) for i in (3, 64, 64, 64))
    ).eval()
    x = smooth_photos()
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        plain, ours = backbone(x).float(), bf16_copy(backbone)(x).float()
        with torch.autocast("cpu", enabled=False):
            exact = backbone(x)
    assert (ours - exact).norm() < 0.7 * (plain - exact).norm()


@pytest.mark.slow
def test_last_convolutions_stay_in_float32_while_they_are_little_work():
    backbone = nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1), nn.MaxPool2d(4), nn.Conv2d(64, 8, 1), nn.Conv2d(8, 8, 1)
    )
    made = bf16_copy(backbone)
    assert [isinstance(layer, Float32Conv2d) for layer in made] == [False, False, True, True]
    vgg = bf16_copy(backbones.create("vgg16", weights="random:0"))
    exact = [name for name, layer in vgg.named_modules() if isinstance(layer, Float32Conv2d)]
    assert exact == ["features.24", "features.26", "features.28"]
    for name, parameter in vgg.named_parameters():
        if name.endswith("weight"):
            rounded = name.removesuffix(".weight") not in exact
            assert parameter.dtype == (torch.bfloat16 if rounded else torch.float32)


def settled(network):
    """Statistics of batch norms, and layer scales, that matter."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in [*network.named_buffers(), *network.named_parameters()]:
            if "running" in name or "bn" in name or name.endswith("gamma"):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return network.eval()


@pytest.mark.parametrize(
    ("name", "cut"), [("resnet18", None), ("mobilenet_v2", "block_3"), ("dinov2_vits14", "blocks.1")]
)
@torch.inference_mode()
def test_norms_scales_and_activations_become_part_of_the_layers_before_them(name, cut):
    network = settled(backbones.create(name, cut=cut, weights="random:0"))
    made = bf16_copy(network, exact=False)
    kinds = (nn.BatchNorm2d, LayerScale, *([nn.GELU, nn.ReLU, nn.Conv2d, nn.Linear] if packs() else []))
    still = [key for key, layer in made.named_modules() if isinstance(layer, kinds)]
    assert [key for key in still if not key.endswith("relu")] == []
    photos = torch.randn(2, 3, 70, 98, generator=torch.Generator().manual_seed(1))
    exact = network(photos)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        near = made(photos)
        again = copy.deepcopy(made)(photos)
        other = made(photos[:1])  # another size than its weights are laid out for
    assert F.cosine_similarity(near.float().flatten(1), exact.flatten(1)).min() > 0.999
    assert torch.equal(near, again)
    assert F.cosine_similarity(other.float().flatten(1), exact[:1].flatten(1)).min() > 0.999


class Before(nn.Module):
    """A convolution that is used before its ReLU too, as in networks that activate first."""

    channels = 8

    def __init__(self):
        super().__init__()
        self.conv, self.relu, self.last = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 1)

    def forward(self, photos):
        feat = self.conv(photos)
        return self.last(self.relu(feat)) - 3 * feat


@torch.inference_mode()
def test_what_is_used_elsewhere_too_is_not_joined():
    torch.manual_seed(0)
    network, photos = Before().eval(), torch.randn(1, 3, 32, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        near = bf16_copy(network)(photos).float()
    assert F.cosine_similarity(near.flatten(), network(photos).flatten(), dim=0) > 0.9999


class Skipped(nn.Module):
    """A ReLU whose input goes past it too: a dark photo shows what is lost where it is left out."""

    channels = 8

    def __init__(self):
        super().__init__()
        self.first, self.relu, self.second = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 1)

    def forward(self, photos):
        feat = self.first(photos)
        return feat + 0.05 * self.second(self.relu(feat))


class Halved(nn.Sequential):
    """It takes multiples of 32 alone, looks at its layers' strides, and has a GELU behind a convolution."""

    channels = 8

    def __init__(self):
        super().__init__(nn.Conv2d(3, 8, 3, stride=2), nn.GELU(), nn.Conv2d(8, 8, 1))

    def forward(self, photos):
        if photos.shape[2] % 32 or self[0].stride != (2, 2):
            raise RuntimeError("sizes of tensors must match")
        return super().forward(photos)


@pytest.mark.parametrize("kind", [Skipped, Halved])
@torch.inference_mode()
def test_networks_of_others_are_as_near_as_plain_rounding(kind):
    torch.manual_seed(0)
    network, photos = kind().eval(), torch.randn(1, 3, 64, 64) * 0.1 - 1.8
    with torch.autocast("cpu", dtype=torch.bfloat16):
        near = bf16_copy(network, exact=False)(photos).float()
    assert F.cosine_similarity(near.flatten(), network(photos).flatten(), dim=0) > 0.9999


@torch.inference_mode()
def test_a_resnet_that_runs_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = settled(backbones.create("resnet18", weights="random:0"))
            self.channels = self.body.channels

        def forward(self, photos):
            return self.body(photos) + self.body(photos.flip(3))

    network, photos = Twice().eval(), torch.randn(1, 3, 64, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        near = bf16_copy(network)(photos).float()
    assert F.cosine_similarity(near.flatten(), network(photos).flatten(), dim=0) > 0.999


def test_the_backbone_itself_is_left_alone():
    backbone = Tiny()
    before = {key: tensor.clone() for key, tensor in backbone.state_dict().items()}
    bf16_copy(backbone)
    assert all(torch.equal(tensor, before[key]) for key, tensor in backbone.state_dict().items())
    assert not any(layer._forward_hooks for layer in backbone.modules())


def test_the_copy_follows_the_weights():
    model = tiny(precision="bf16")
    first = model.encode(images())
    np.testing.assert_array_equal(model.encode(images()), first)
    kept = model._copy[1]
    model.encode(images())
    assert model._copy[1] is kept
    with torch.no_grad():
        model.backbone.layers[0].weight.mul_(-1)
    changed = model.encode(images())
    assert not np.allclose(changed, first, atol=1e-3)
    np.testing.assert_array_equal(
        PlaceModel(model.backbone, AvgPool(8), PLAIN, precision="bf16").encode(images()), changed
    )
    assert set(model.state_dict()) == set(tiny().state_dict())


def test_training_goes_through_the_master_weights():
    model = tiny(precision="bf16").train()
    model.describe(torch.rand(2, 3, 16, 16))[0, 0].backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.backbone.parameters())
    assert model._copy is None


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "alexnet"])
def test_networks_of_the_table(name):
    backbone = backbones.create(name, weights="random:0")
    model = PlaceModel(backbone, AvgPool(backbone.channels), PLAIN).eval()
    photos = images(2, 96, 96)
    exact = model.encode(photos)
    model.precision = "bf16"
    assert (model.encode(photos) * exact).sum(axis=1).min() > 0.9995


def test_a_network_that_takes_no_small_photos():
    class Large(Tiny):
        def forward(self, photos):
            if photos.shape[2] < 300:
                raise InputError("too small")
            return super().forward(photos)

    model = PlaceModel(Large(), AvgPool(8), PLAIN, precision="bf16").eval()
    assert np.isfinite(model.encode(images(1, 300, 300))).all()


@pytest.mark.slow
def test_a_vision_transformer():
    transformers = pytest.importorskip("transformers")
    from dejavlad.backbones.hub import HubBackbone

    torch.manual_seed(0)
    config = transformers.Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    backbone = HubBackbone(transformers.Dinov2Model(config)).eval()
    model = PlaceModel(backbone, AvgPool(32), PLAIN).eval()
    photos = images(2, 42, 56)
    exact = model.encode(photos)
    model.precision = "bf16"
    assert (model.encode(photos) * exact).sum(axis=1).min() > 0.999
