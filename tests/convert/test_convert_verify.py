"""Activations against a reference: MATLAB's, and ours."""

import numpy as np
import pytest
import torch
from matlab import caffenet, head, network, run, vgg16, write_v5, write_v73

from dejavlad.convert import import_model
from dejavlad.errors import CheckpointError, InputError
from dejavlad.model.verify import verify
from dejavlad.zoo import load_model

NARROW = [4, 6, 8, 10, 12]


def reference(net, rgb):
    """As the MATLAB code could write it: names without colons, arrays in single, the prepared photo."""
    prepared = rgb - net["meta"]["normalization"]["averageImage"][0, 0].astype(float)
    outputs = {name.replace(":", "_"): value.astype(np.float32) for name, value in run(net, rgb).items()}
    return {"input": prepared.astype(np.float32), **outputs}


@pytest.fixture
def rgb():
    return np.random.default_rng(2).integers(0, 256, (140, 150, 3), dtype=np.uint8)


@pytest.mark.parametrize("write", [write_v5, write_v73])
@pytest.mark.parametrize("method", ["vlad_preL2_intra", "vladv2", "max"])
@pytest.mark.parametrize("photo", [False, True])
def test_every_layer_of_a_network_of_matlab(tmp_path, rgb, write, method, photo):
    random = np.random.default_rng(0)
    net = network([*caffenet(random, narrow=8), *head(random, 32, method, clusters=4, dims=5)])
    model = import_model(write(tmp_path / "net.mat", {"net": net}))
    activations = reference(net, rgb)
    if photo:
        activations["input"] = rgb
    rows = verify(model, write(tmp_path / "reference.mat", activations))
    assert [row.layer.replace(":", "_") for row in rows] == [key for key in activations if key != "input"]
    assert all(row.ok and row.difference < 0.1 for row in rows), rows
    activations["conv4"][0, 0, 0] *= 1.5
    activations["postL2"] = activations["postL2"][:, :, ::-1]
    wrong = [row.layer for row in verify(model, write(tmp_path / "reference.mat", activations)) if not row.ok]
    assert wrong == ["conv4", "postL2"]


@pytest.mark.slow
def test_pooling_before_its_relu_is_understood(tmp_path, rgb):
    """A backbone of ours has ReLU and pooling the other way round."""
    random = np.random.default_rng(0)
    net = network([*vgg16(random), *head(random, 512, "max")])
    model = import_model(write_v5(tmp_path / "net.mat", net))
    assert model.spec.backbone.name == "vgg16"
    activations = reference(net, rgb[:32, :48])
    rows = verify(model, write_v5(tmp_path / "reference.mat", activations))
    assert len(rows) == len(activations) - 1 and all(row.ok for row in rows), rows


def test_our_own_layouts(tmp_path):
    model = load_model("resnet18-max", weights="random:1").with_dims(9)
    images = torch.randn(2, 3, 40, 50)
    with torch.inference_mode():
        rows_ND = model.describe(images).numpy()
        grid = model.features(images).numpy()
    activations = {"input": images.numpy(), "layer3": grid, "finalL2": rows_ND}
    np.savez(tmp_path / "reference.npz", **activations)
    rows = verify(model, tmp_path / "reference.npz")
    assert [(row.layer, row.shape, row.ok) for row in rows] == [
        ("layer3", grid.shape, True),
        ("finalL2", (2, 9), True),
    ]
    np.savez(
        tmp_path / "reference.npz",
        **{**activations, "finalL2": rows_ND[:, :8], "layer3": np.full_like(grid, np.nan)},
    )
    assert [row.difference for row in verify(model, tmp_path / "reference.npz")] == [np.inf, np.inf]


@pytest.mark.slow
def test_references_that_cannot_be_used(tmp_path):
    model = load_model("resnet18-max", weights="random:1")
    photo = np.zeros((64, 64, 3), np.uint8)
    for activations, error, words in (
        ({"conv1": photo}, CheckpointError, "holds no 'input'"),
        ({"input": photo[..., :2]}, CheckpointError, "uint8 \\[64, 64, 2\\]"),
        ({"input": photo}, InputError, "are none"),
        ({"input": photo, "conv9": photo}, InputError, "'conv9'.*valid: conv1"),
        ({"input": np.array([{}])}, CheckpointError, "cannot be read as activations"),
    ):
        np.savez(tmp_path / "reference.npz", **activations)
        with pytest.raises(error, match=words):
            verify(model, tmp_path / "reference.npz")
    (tmp_path / "reference.npz").write_bytes(b"no zip")
    with pytest.raises(CheckpointError, match="cannot be read as activations"):
        verify(model, tmp_path / "reference.npz")
