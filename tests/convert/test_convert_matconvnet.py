"""MatConvNet's networks give MatConvNet's answers, computed apart in NumPy (see `matlab`)."""

import json

import numpy as np
import pytest
import torch
from matlab import caffenet, conv, head, l2, layer, network, ours, pool, run, vgg16, write_v5, write_v73

from dejavlad.convert import import_model
from dejavlad.errors import CheckpointError
from dejavlad.model import load_folder, save_model

NARROW = [4, 6, 8, 10, 12]


def photo(height=75, width=93, seed=5):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def described(model, rgb):
    return model.encode(rgb)[0]


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.mark.slow
def test_full_size_vgg16_netvlad_wpca(random, tmp_path):
    net = network([*vgg16(random), *head(random, 512, "vlad_preL2_intra", dims=256)])
    model = import_model(write_v5(tmp_path / "vd16_pitts30k_vlad_white.mat", net))
    assert (model.spec.backbone.name, model.spec.backbone.cut, model.descriptor_size) == (
        "vgg16",
        "conv5_3",
        256,
    )
    assert model.name == "vd16_pitts30k_vlad_white" and model.provenance["sessionID"] == "made"
    assert not model.preprocess.rotate and model.preprocess.resize == "none"
    rgb = photo(70, 90)
    expected = run(net, rgb)
    prepared = torch.from_numpy(rgb.astype(np.float32) - np.float32([123.68, 116.779, 103.939]))
    with torch.inference_mode():
        descriptor = model.describe(prepared.permute(2, 0, 1)[None])[0].numpy()
        model_without = model.with_whitening(None)
        unwhitened = model_without.describe(prepared.permute(2, 0, 1)[None])[0].numpy()
    np.testing.assert_allclose(descriptor, expected["finalL2"].ravel(), atol=1e-5)
    np.testing.assert_allclose(unwhitened, ours(expected["postL2"], 512), atol=1e-5)
    np.testing.assert_allclose(described(model, rgb), descriptor, atol=1e-6)


@pytest.mark.parametrize(
    "method",
    [
        "vlad_preL2_intra",
        "vlad",
        "vlad_intra",
        "vlad_preL2",
        "vladv2_preL2_intra",
        "vladv2",
        "max",
        "avg",
        "avg_preL2",
        "max_preL2",
    ],
)
@pytest.mark.parametrize("dims", [None, 7])
def test_every_method(random, tmp_path, method, dims):
    net = network([*vgg16(random, NARROW), *head(random, 12, method, clusters=5, dims=dims)])
    model = import_model(write_v5(tmp_path / "net.mat", {"net": net}, compress=True))
    rgb = photo()
    answer = run(net, rgb)
    expected = answer["finalL2"] if dims else ours(answer["postL2"], 12)
    np.testing.assert_allclose(described(model, rgb), expected.ravel(), atol=1e-5)
    assert model.aggregation.options.get("normalize_input", False) == ("preL2" in method)


@pytest.mark.parametrize("write", [write_v5, write_v73])
def test_caffenet_becomes_a_chain_that_is_kept_in_a_folder(random, tmp_path, write):
    layers = caffenet(random, narrow=8)
    net = network([*layers, *head(random, 32, "vlad_preL2_intra", clusters=4, dims=9)], mean=(120, 117, 103))
    model = import_model(write(tmp_path / "caffe.mat", {"net": net}), name="mine")
    rgb = photo(131, 150)
    descriptor = described(model, rgb)
    np.testing.assert_allclose(descriptor, run(net, rgb)["finalL2"].ravel(), atol=1e-5)
    assert model.spec.backbone.name == "chain" and model.name == "mine"
    assert (model.backbone.stride, model.backbone.receptive_field) == (16, 163)
    again = load_folder(save_model(model, tmp_path / "kept"))
    assert again.fingerprint == model.fingerprint
    assert np.array_equal(described(again, rgb), descriptor)
    assert json.loads((tmp_path / "kept" / "spec.json").read_text())["backbone"]["options"]["layers"][0] == {
        "kind": "conv",
        "name": "conv1",
        "inputs": 3,
        "outputs": 12,
        "kernel": [11, 11],
        "stride": [4, 4],
        "pad": [0, 0, 0, 0],
        "dilation": [1, 1],
        "groups": 1,
        "bias": True,
    }


@pytest.mark.parametrize("write", [write_v5, write_v73])
def test_every_kind_of_layer_and_odd_setting(random, tmp_path, write):
    def drawn(*shape):
        return random.normal(size=shape).astype(np.float32) * 0.3

    layers = [
        conv("a", drawn(3, 5, 3, 8), drawn(1, 8), pad=[1, 0, 2, 3], dilate=np.array([2.0, 1.0])),
        layer("relu", "b", leak=0.1),
        pool("c", method="avg", size=3, pad=[1, 2, 0, 1]),
        layer("dropout", "d", rate=0.5),
        {**conv("e", drawn(3, 3, 2, 12), np.zeros((0, 0))), "stride": np.array([2.0, 1.0])},
        layer("normalize", "f", param=np.array([4, 2, 0.3, 0.6])),
        pool("g", size=3, stride=1, pad=[0, 2, 1, 0]),
        conv("h", drawn(2, 2, 12, 6), drawn(6, 1), opts=[]),
        layer("relu", "i", leak=0.0, weights=[]),
    ]
    net = network([*layers, *head(random, 6, "vlad_preL2_intra", clusters=3)])
    model = import_model(write(tmp_path / "odd.mat", {"net": net}))
    for size in ((41, 38), (52, 47)):
        rgb = photo(*size)
        expected = run(net, rgb)
        np.testing.assert_allclose(described(model, rgb), ours(expected["postL2"], 6), atol=1e-5)
        assert model.backbone.grid(*size) == expected["i"].shape[:2]


def test_old_layouts(random, tmp_path):
    net = network([*vgg16(random, NARROW), *head(random, 12, "vlad_preL2_intra", clusters=5)])
    rgb = photo()
    expected = ours(run(net, rgb)["postL2"], 12)
    for one in net["layers"]:
        if one["type"] == "conv":
            one["filters"], one["biases"] = one.pop("weights")
    old = {
        "layers": net["layers"],
        "normalization": net["meta"]["normalization"],
        "netID": "vd16",
        "epoch": 4.0,
    }
    model = import_model(write_v5(tmp_path / "old.mat", {"net": old}))
    np.testing.assert_allclose(described(model, rgb), expected, atol=1e-5)
    assert model.provenance == {"format": "MatConvNet", "netID": "vd16", "epoch": 4.0}


def test_small_numbers_do_not_overflow(random, tmp_path):
    """MATLAB stores 25.0 as a byte; 25 squared is no byte."""
    net = network([conv("conv5", np.ones((1, 1, 3, 2), np.float32), np.ones((1, 2), np.float32))])
    net["meta"]["normalization"]["averageImage"] = np.full((1, 1, 3), 120, np.uint8)
    net["layers"] += head(random, 2, "max")
    model = import_model(write_v5(tmp_path / "bytes.mat", net))
    assert model.preprocess.mean == (120.0, 120.0, 120.0)
    np.testing.assert_allclose(described(model, photo()), np.sqrt([0.5, 0.5]), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("swap", [True, False])
def test_pretrained_networks_are_cut_as_loadnet_cuts_them_and_await_fitting(random, tmp_path, swap):
    layers = vgg16(random, swap=swap)
    more = [
        layer("relu", "relu5_3"),
        pool("pool5"),
        conv("fc6", np.ones((7, 7, 512, 1), np.float32), [[0.0]]),
    ]
    model = import_model(write_v5(tmp_path / "imagenet-vgg-verydeep-16.mat", network([*layers, *more])))
    assert (model.spec.backbone.name, model.spec.backbone.cut) == ("vgg16", "conv5_3")
    assert not model.fitted and model.aggregation.clusters == 64
    filters = next(one for one in layers if one["name"] == "conv3_2")["weights"][0]
    assert np.array_equal(model.backbone.features[12].weight.detach().numpy(), filters.transpose(3, 2, 0, 1))


def test_vgg_with_padded_pooling_is_no_vgg_of_ours(random, tmp_path):
    """Rounding up differs for odd sizes."""
    layers = vgg16(random, NARROW)
    for one in layers:
        if one["type"] == "pool":
            one["pad"] = np.array([0.0, 1, 0, 1])
    net = network([*layers, *head(random, 12, "max")])
    model = import_model(write_v5(tmp_path / "net.mat", net))
    assert model.spec.backbone.name == "chain"
    np.testing.assert_allclose(described(model, photo()), run(net, photo())["postL2"].ravel(), atol=1e-5)


def changed(change, random):
    net = network([*vgg16(random, NARROW), *head(random, 12, "vlad_preL2_intra", clusters=5, dims=6)])
    change(net, {one["name"]: one for one in net["layers"]})
    return net


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda net, _: net.pop("layers"), "no network"),
        (lambda net, _: net.update(layers=[]), "no layers"),
        (lambda net, _: net["meta"].update(normalization={}), "averageImage"),
        (
            lambda _, by: by["conv2_1"].update(weights=[np.zeros((3, 3, 5, 6)), np.zeros(6)]),
            "takes 5 channels",
        ),
        (lambda _, by: by["conv1_1"].update(weights=[np.full((3, 3, 3, 4), np.nan), np.zeros(4)]), "NaN"),
        (
            lambda _, by: by["conv1_1"].update(weights=[np.zeros((3, 3, 3, 4)), np.zeros(3)]),
            "4 filters, but 3",
        ),
        (lambda _, by: by["conv1_1"].update(weights=[np.zeros((3, 3, 3, 4))] * 3), "filters and bias"),
        (lambda _, by: by["conv1_1"].update(pad=np.array([1.0, 2, 3])), "pad of layer 'conv1_1'"),
        (lambda _, by: by["conv1_1"].update(pad=np.array([1.0, 2])), "pad of layer 'conv1_1'"),
        (lambda _, by: by["conv1_1"].update(pad=[1.0, "two", [3.0]]), "numbers are needed"),
        (lambda _, by: by["vlad:core"].update(weights=[{"a": 1.0}, "b"]), "numbers are needed"),
        (lambda net, _: net["meta"]["normalization"].update(averageImage="grey"), "numbers are needed"),
        (lambda _, by: by["conv1_1"].update(stride=0.5), "stride of layer"),
        (lambda _, by: by["relu1_1"].update(type="sigmoid"), "'sigmoid'"),
        (lambda _, by: by["pool1"].update(pad=2.0), "below its kernel"),
        (lambda _, by: by["vlad:core"].update(weights=[np.zeros((1, 1, 12, 5))]), "NetVLAD has 2"),
        (
            lambda _, by: by["vlad:core"].update(weights=[np.zeros((1, 1, 11, 5))] * 2),
            "do not fit 12 channels",
        ),
        (lambda _, by: by["vlad:core"].update(name="mine"), "class of its own"),
        (lambda _, by: by["vlad:intranorm"].update(param=np.array([5, 1, 1, 0.5])), "no normalisation"),
        (lambda net, _: net["layers"].pop(-3), "must come postL2; given 'WPCA'"),
        (lambda net, _: net["layers"].pop(-1), "finalL2 only; given 'WPCA'"),
        (lambda _, by: by["WPCA"].update(weights=[np.zeros((1, 1, 59, 6)), np.zeros(6)]), "60 numbers"),
        (lambda net, _: net.update(layers={"name": "a", "block": {}, "inputs": "x"}), "DagNN"),
        (lambda net, _: net["layers"].insert(0, np.zeros((0, 0))), "in MATLAB"),
    ],
)
def test_what_cannot_be_imported_is_told(random, tmp_path, change, message):
    path = write_v5(tmp_path / "net.mat", {"net": changed(change, random)})
    with pytest.raises(CheckpointError, match=message) as error:
        import_model(path)
    assert str(path) in str(error.value)


def test_l2_of_fewer_channels_before_vlad_is_kept_as_a_layer(random, tmp_path):
    tail = head(random, 12, "vlad_preL2_intra", clusters=5)
    net = network([*vgg16(random, NARROW), l2("preL2", 3), *tail[1:]])
    model = import_model(write_v5(tmp_path / "net.mat", net))
    np.testing.assert_allclose(described(model, photo()), ours(run(net, photo())["postL2"], 12), atol=1e-5)


def test_files_of_no_known_kind(tmp_path):
    for name, content in (("a.mat", b""), ("b.mat", b"MATLAB, or not"), ("c.txt", b"some text" * 99)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match="no kind that can be imported; known are: a MatConvNet"):
            import_model(tmp_path / name)
    with pytest.raises(CheckpointError, match="is not there"):
        import_model(tmp_path / "none.mat")
