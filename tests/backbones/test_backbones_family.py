"""What holds for every backbone: shapes, geometry, keys, cuts, small photos, determinism."""

import itertools

import numpy as np
import pytest
import torch

from dejavlad.backbones import BACKBONES, Backbone, create, train_from
from dejavlad.backbones.base import ChainBackbone, Geometry, Window
from dejavlad.backbones.resnet import ResNet
from dejavlad.backbones.squeezenet import SqueezeNet
from dejavlad.errors import InputError, UnknownNameError

NETWORKS = [name for name, entry in BACKBONES.items() if entry.file and entry.multiple == 1]
"""Convolutional ones; for DINOv2 see test_backbones_dinov2.py."""

# (name, cut, channels, stride, receptive field, offset): worked out by hand, layer by layer.
GEOMETRY = [
    ("vgg16", "conv1_1", 64, 1, 3, 0.0),
    ("vgg16", "pool1", 64, 2, 6, 0.5),
    ("vgg16", "conv3_2", 256, 4, 32, 1.5),
    ("vgg16", None, 512, 16, 196, 7.5),
    ("vgg16", "pool3", 256, 8, 44, 3.5),
    ("alexnet", "conv1", 64, 4, 11, 3.0),
    ("alexnet", None, 256, 16, 163, 15.0),
    ("alexnet", "pool5", 256, 32, 195, 31.0),
    ("resnet18", "conv1", 64, 2, 7, 0.0),
    ("resnet18", "layer1", 64, 4, 43, 0.0),
    ("resnet18", None, 256, 16, 211, 0.0),
    ("resnet18", "conv5", 512, 32, 435, 0.0),
    ("resnet50", "layer1.0.conv1", 64, 4, 11, 0.0),
    ("resnet50", "layer2.0.conv2", 128, 8, 43, 0.0),
    ("resnet50", "layer3.0", 1024, 16, 107, 0.0),
    ("resnet50", None, 1024, 16, 267, 0.0),
    ("resnet101", "layer2", 512, 8, 91, 0.0),
    ("squeezenet1_0", "conv1", 96, 2, 7, 3.0),
    ("squeezenet1_0", "pool1", 96, 4, 11, 5.0),
    ("squeezenet1_0", None, 512, 8, 107, 9.0),
    ("squeezenet1_0", "features.12", 512, 16, 155, 17.0),
    ("squeezenet1_1", "pool1", 64, 4, 7, 3.0),
    ("squeezenet1_1", None, 384, 16, 143, 15.0),
]
CASES = [pytest.param(*case, id=f"{case[0]}@{case[1] or 'default'}") for case in GEOMETRY]


def averaging(backbone):
    """The network in which a cell is above zero if and only if it sees a pixel above zero."""
    for layer in backbone.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.constant_(layer.weight, 1 / layer.weight[0].numel())
            if layer.bias is not None:
                torch.nn.init.zeros_(layer.bias)
    return backbone


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:TF32 acceleration:UserWarning")
@pytest.mark.parametrize(("name", "cut", "channels", "stride", "field", "offset"), CASES)
def test_geometry_is_what_a_pixel_changes(name, cut, channels, stride, field, offset):
    backbone = averaging(create(name, cut=cut, weights="random:0"))
    assert (backbone.channels, backbone.stride) == (channels, stride)
    assert (backbone.receptive_field, backbone.offset, backbone.scales) == (field, offset, 1)
    height, width = field + 3 * stride, field + 3 * stride + 2
    grid, reach = backbone.grid(height, width), (field - 1) / 2
    centres = [np.arange(side) * stride + offset for side in grid]
    # Strided layers leave out up to stride - 1 of the last pixels.
    ends = [side - stride for side in (height, width)]
    inside = [(c >= reach) & (c + reach <= end) for c, end in zip(centres, ends, strict=True)]
    assert all(along.sum() >= 2 for along in inside)
    top, right = round(centres[0][inside[0]][0] - reach), round(centres[1][inside[1]][-1] + reach)
    pixels = [(top, right), (top + stride, right - stride)]  # 1 and 2 x 2 of the cells inside see them
    photos = torch.zeros(2, 3, height, width)
    for row, (y, x) in enumerate(pixels):
        photos[row, :, y, x] = 1
    # oneDNN may convolve by way of transforms, whose rounding makes nothing a little.
    with torch.inference_mode(), torch.backends.mkldnn.flags(enabled=False):
        output = backbone(photos)
    assert output.shape == (2, channels, *grid)
    whole = np.outer(*inside)
    for changed, pixel, count in zip((output.amax(dim=1) > 0).numpy(), pixels, (1, 4), strict=True):
        seeing = np.outer(*(abs(c - at) <= reach for c, at in zip(centres, pixel, strict=True)))
        assert np.array_equal(changed[whole], seeing[whole])
        assert not (changed & ~seeing).any()  # cells that see past the border may miss pixels, never see more
        assert changed[whole].sum() == count


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_shapes_and_finite_values_at_the_default_cut(name):
    backbone = create(name, weights="random:3")
    assert isinstance(backbone, Backbone) and not backbone.training
    photos = torch.randn(2, 3, 70, 93, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        output = backbone(photos)
    assert output.shape == (2, backbone.channels, *backbone.grid(70, 93))
    assert output.dtype == torch.float32
    size = output.abs().mean()
    assert 1e-3 < size < 1e9  # random residuals add up, 50 times in the deepest
    linear = ("alexnet", "vgg", "mobilenet_v2", "efficientnet_lite")  # cut before the ReLU, or without one
    assert (output < 0).any() == name.startswith(linear)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_small_photos_work_or_are_refused_clearly(name):
    backbone = create(name, weights="random:0")
    for side in (1, 2, 7, 15, 16, 17, 22, 33, 64):
        photos = torch.zeros(1, 3, side, 40)
        if 0 in backbone.grid(side, 40):
            with pytest.raises(InputError, match=f"photos of {side}x40 pixels are too small.*at least"):
                backbone(photos)
        else:
            with torch.inference_mode():
                assert backbone(photos).shape[2:] == backbone.grid(side, 40)


def test_the_least_size_that_is_told_is_right():
    backbone = create("squeezenet1_1", weights="random:0")
    with pytest.raises(InputError, match="at least 17x17"):
        backbone(torch.zeros(1, 3, 16, 200))
    assert backbone(torch.zeros(1, 3, 17, 17)).shape[2:] == (1, 1)


def test_photos_of_another_shape_are_refused():
    backbone = create("squeezenet1_1", weights="random:0")
    for shape in ((3, 64, 64), (1, 1, 64, 64)):
        with pytest.raises(InputError, match="must be"):
            backbone(torch.zeros(shape))


def test_other_errors_of_torch_are_not_hidden():
    backbone = create("squeezenet1_1", weights="random:0")
    with pytest.raises(RuntimeError, match="type"):
        backbone(torch.zeros(1, 3, 64, 64, dtype=torch.float64))


@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize("ceil", [False, True])
def test_windows_count_cells_as_torch_does(kernel, ceil):
    for side, stride, padding in itertools.product(range(1, 14), (1, 2, 3), range(kernel // 2 + 1)):
        pool = torch.nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil)
        try:
            wanted = pool(torch.zeros(1, 1, side, side)).shape[-1]
        except RuntimeError:
            wanted = 0
        assert Window(kernel, stride, padding, ceil=ceil).out(side) == wanted
    assert Window(3, dilation=2).out(5) == 1
    assert Geometry().after(Window(3, dilation=2)) == Geometry(1, 5, 2.0)


# (name, tensors, parameters) up to the very last layer, batch norms' statistics included in the tensors.
KEYS = [
    ("vgg16", 26, 14_714_688, ["features.0.weight", "features.28.bias"]),
    ("alexnet", 10, 2_469_696, ["features.0.weight", "features.10.bias"]),
    ("resnet18", 120, 11_176_512, ["bn1.running_mean", "layer4.1.bn2.num_batches_tracked"]),
    ("resnet50", 318, 23_508_032, ["layer1.0.conv1.weight", "layer4.0.downsample.1.running_var"]),
    ("resnet101", 624, 42_500_160, ["conv1.weight", "layer3.22.bn3.bias"]),
    ("squeezenet1_0", 50, 735_424, ["features.3.squeeze.weight", "features.12.expand3x3.bias"]),
    ("squeezenet1_1", 50, 722_496, ["features.0.weight", "features.12.expand1x1.bias"]),
]


@pytest.mark.parametrize(("name", "tensors", "parameters", "sample"), KEYS, ids=[key[0] for key in KEYS])
def test_keys_are_torchvisions(name, tensors, parameters, sample):
    with torch.device("meta"):
        whole = BACKBONES[name].make(cut=BACKBONES[name].end)
        default = BACKBONES[name].make(cut=BACKBONES[name].cut)
    tensors_by_key = whole.state_dict()
    assert len(tensors_by_key) == tensors
    assert sum(parameter.numel() for parameter in whole.parameters()) == parameters
    assert set(sample) <= tensors_by_key.keys()
    assert default.state_dict().keys() <= tensors_by_key.keys()


def test_every_key_of_a_bottleneck():
    with torch.device("meta"):
        tensors = ResNet(50, "layer4").state_dict()
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    wanted = {"conv1.weight", *(f"bn1.{n}" for n in norm)}
    for stage, blocks in enumerate((3, 4, 6, 3), 1):
        for block in range(blocks):
            at = f"layer{stage}.{block}"
            wanted |= {f"{at}.conv{i}.weight" for i in (1, 2, 3)}
            wanted |= {f"{at}.bn{i}.{n}" for i in (1, 2, 3) for n in norm}
        wanted |= {f"layer{stage}.0.downsample.0.weight", *(f"layer{stage}.0.downsample.1.{n}" for n in norm)}
    assert tensors.keys() == wanted


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("vgg16", "conv5_3", "features.28"),
        ("vgg16", "pool4", "features.23"),
        ("alexnet", "conv5", "features.10"),
        ("resnet18", "conv4", "layer3"),
        ("resnet18", "layer3", "layer3.1"),
        ("squeezenet1_0", "fire7", "features.9"),
    ],
)
def test_two_names_of_one_cut(name, one, other):
    photo = torch.randn(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    outputs = [create(name, cut=cut, weights="random:1")(photo) for cut in (one, other)]
    assert torch.equal(*outputs)


@pytest.mark.parametrize(
    ("cut", "inner"),
    [
        ("layer3.5.conv2", "conv2"),
        ("layer3.5.bn2", "bn2"),
        ("layer3.5.conv3", "conv3"),
        ("layer3.0.bn1", "bn1"),
    ],
)
def test_a_cut_inside_a_block_is_what_passes_there(cut, inner):
    photo = torch.randn(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    whole = create("resnet50", cut=cut.rpartition(".")[0], weights="random:1")
    passed = []
    block = whole.get_submodule(cut.rpartition(".")[0])
    block.get_submodule(inner).register_forward_hook(lambda *args: passed.append(args[2].clone()))
    whole(photo)
    backbone = create("resnet50", cut=cut, weights="random:1")
    output = backbone(photo)
    assert output.shape[1] == backbone.channels
    torch.testing.assert_close(output, passed[0])
    assert backbone.state_dict().keys() < whole.state_dict().keys()


@pytest.mark.parametrize(
    ("name", "cut", "message"),
    [
        ("vgg16", "conv5_4", "did you mean conv5_"),
        ("vgg16", "features.31", "unknown layer 'features.31'; did you mean"),
        ("vgg16", "features.-1", "unknown layer"),
        ("vgg16", "", "unknown layer ''"),
        ("resnet18", "layer3.2", "unknown layer 'layer3.2'; did you mean"),
        ("resnet18", "layer5", "did you mean layer"),
        ("resnet18", "layer3.0.conv3", "did you mean conv"),
        ("resnet18", "fc", "unknown layer 'fc'"),
        ("squeezenet1_0", "fire10", "did you mean fire"),
    ],
)
def test_unknown_layers_list_near_ones(name, cut, message):
    with pytest.raises(UnknownNameError, match=message):
        create(name, cut=cut, weights="random:0")


def test_unknown_sizes_are_refused():
    with pytest.raises(InputError, match="18, 50, 101, 152 layers; given 34"):
        ResNet(34)
    with pytest.raises(UnknownNameError, match=r"version of SqueezeNet '1\.2'"):
        SqueezeNet("1.2")


def test_random_weights_are_a_function_of_the_seed():
    torch.manual_seed(1)
    one = create("resnet18", weights="random:5").state_dict()
    state = torch.random.get_rng_state()
    torch.manual_seed(2)
    two = create("resnet18", weights="random:5").state_dict()
    other = create("resnet18", weights="random:6").state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not torch.equal(one["layer3.0.conv1.weight"], other["layer3.0.conv1.weight"])
    assert not torch.equal(one["layer3.0.conv2.weight"], one["layer3.1.conv1.weight"])
    torch.manual_seed(1)
    assert torch.equal(state, torch.random.get_rng_state())
    deeper = create("resnet18", cut="layer4", weights="random:5").state_dict()
    assert all(torch.equal(one[key], deeper[key]) for key in one)
    spread = one["layer3.1.conv1.weight"].std().item()
    assert spread == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.02)


def learning(backbone):
    named = backbone.named_parameters()
    return {name.rpartition(".")[0] for name, parameter in named if parameter.requires_grad}


def test_which_layers_train():
    vgg = create("vgg16", weights="random:0")
    last = {"features.24", "features.26", "features.28"}
    for first in ("features.24", "conv5_1", "pool4"):
        train_from(vgg, first)
        assert learning(vgg) == last
    train_from(vgg, None)
    assert not learning(vgg)
    train_from(vgg, "")
    assert len(learning(vgg)) == 13
    for wrong in ("features.25x", "conv6_1", "features.30"):
        with pytest.raises(UnknownNameError, match="layer"):
            train_from(vgg, wrong)
    assert len(learning(vgg)) == 13


def test_frozen_batch_norms_keep_their_statistics():
    backbone = create("resnet18", weights="random:0")
    train_from(backbone, "conv4")
    assert all(name.startswith("layer3.") for name in learning(backbone)) and learning(backbone)
    before = {key: tensor.clone() for key, tensor in backbone.state_dict().items() if "running" in key}
    backbone.train()
    backbone(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))).sum().backward()
    for key, statistics in before.items():
        assert torch.equal(statistics, backbone.state_dict()[key]) != key.startswith("layer3."), key
    assert backbone.get_submodule("layer2.0.conv1").weight.grad is None
    assert backbone.get_submodule("layer3.0.conv1").weight.grad is not None


def test_which_layers_of_any_module_train():
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU(), torch.nn.Linear(2, 2))
    train_from(network, "1")
    assert learning(network) == {"2"}
    with pytest.raises(UnknownNameError, match="valid: 0, 1, 2"):
        train_from(network, "seven")


def test_chains_know_their_papers_names():
    backbone = create("squeezenet1_0", weights="random:0")
    assert isinstance(backbone, ChainBackbone)
    assert backbone.names[-1] == "fire8" and backbone.locate("fire8") == "features.10"
