"""MobileNets: torchvision's keys and sizes, Keras's ways, and which pixels a cell sees."""

import pytest
import torch
from torch.nn import functional as F

from dejavlad.backbones import create
from dejavlad.backbones.mobilenet import MobileNetV1, MobileNetV2
from dejavlad.errors import InputError, UnknownNameError


def test_version_2_is_torchvisions():
    with torch.device("meta"):
        whole = MobileNetV2("features.18")
    tensors = whole.state_dict()
    assert sum(p.numel() for p in whole.parameters()) == 2_223_872  # 3,504,872 with its classifier
    assert len(tensors) == 312
    assert tensors["features.0.0.weight"].shape == (32, 3, 3, 3)
    assert tensors["features.1.conv.1.weight"].shape == (16, 32, 1, 1)
    assert tensors["features.13.conv.1.0.weight"].shape == (576, 1, 3, 3)
    assert tensors["features.18.1.running_var"].shape == (1280,)
    assert whole.names[10] == "block_9" and whole.names[-1] == "Conv_1"


def test_version_1_has_the_papers_size():
    with torch.device("meta"):
        whole = MobileNetV1("conv_pw_13")
    assert sum(p.numel() for p in whole.parameters()) == 3_206_976  # 4.2 million with its classifier
    assert (whole.channels, whole.stride, len(whole.names)) == (1024, 32, 27)


@pytest.mark.parametrize("style", ["torch", "keras"])
@pytest.mark.parametrize(
    ("name", "cut"),
    [("mobilenet_v1", "conv_dw_4"), ("mobilenet_v1", "conv_pw_6"), ("mobilenet_v2", "block_3")],
)
def test_a_cell_sees_the_pixels_that_are_told(name, cut, style):
    backbone = create(name, cut=cut, weights="random:0", style=style).double()
    for layer in backbone.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.constant_(layer.weight, 1 / layer.weight[0].numel())
    for side in range(17, 50):
        assert backbone.grid(side, 77) == backbone(torch.zeros(1, 3, side, 77).double()).shape[2:]
    field, stride, offset = backbone.receptive_field, backbone.stride, backbone.offset
    photo = torch.ones(1, 3, field * 3, field * 3, dtype=torch.float64, requires_grad=True)
    row = round((field * 1.5 - offset) / stride)
    backbone(photo)[0, :, row, row].sum().backward()
    seen = photo.grad[0].abs().amax(dim=(0, 1)).nonzero()[:, 0]
    centre = row * stride + offset
    assert (seen.min(), seen.max()) == (centre - (field - 1) / 2, centre + (field - 1) / 2)


def test_the_styles_differ_in_padding_and_in_what_batch_norms_add():
    keras, torchs = (
        create("mobilenet_v1", cut="conv1", weights="random:0", style=s) for s in ("keras", "torch")
    )
    photo = torch.randn(1, 3, 8, 8)
    weight = keras.features[0][0].weight
    expected = F.conv2d(F.pad(photo, (0, 1, 0, 1)), weight, stride=2) / (1 + 1e-3) ** 0.5
    assert torch.allclose(keras(photo), expected.clamp(0, 6), atol=1e-6)
    expected = F.conv2d(photo, weight, stride=2, padding=1) / (1 + 1e-5) ** 0.5
    assert torch.allclose(torchs(photo), expected.clamp(0, 6), atol=1e-6)


def test_what_cannot_be_made_is_told():
    with pytest.raises(InputError, match="mobilenet_v1 takes weights random:SEED at most"):
        create("mobilenet_v1", weights="weights.npz")
    with pytest.raises(UnknownNameError, match="style of MobileNet 'tf'; valid: keras, torch"):
        create("mobilenet_v2", weights="random:0", style="tf")
    with pytest.raises(UnknownNameError, match="layer 'conv_pw_14'"):
        create("mobilenet_v1", cut="conv_pw_14", weights="random:0")
