"""Keras networks: small ones made here in NumPy, checked against Keras's formulas, damaged, and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dejavlad.convert import import_model
from dejavlad.errors import CheckpointError
from dejavlad.model import save_model
from dejavlad.zoo import load_model

CHANNELS = {"conv1": 32, "conv_dw_1": 32, "conv_pw_1": 64, "conv_dw_2": 64, "conv_pw_2": 128}
V2 = [("expanded_conv", 1, 32, 16, 1), ("block_1", 6, 16, 24, 2), ("block_2", 6, 24, 24, 1)]
"""Name, expansion, channels, made, stride."""
CLUSTERS = 4

Arrays = dict[str, Any]


def norm(rng: np.random.Generator, name: str, channels: int) -> Arrays:
    drawn = rng.normal(size=(4, channels)).astype(np.float32)
    parts = ("gamma", "beta", "moving_mean", "moving_variance")
    return {f"{name}/{part}": np.abs(row) + 0.5 if i in (0, 3) else row
            for i, (part, row) in enumerate(zip(parts, drawn, strict=True))}  # fmt: skip


def kernel(rng: np.random.Generator, *shape: int) -> np.ndarray[Any, Any]:
    return (rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[:3]))).astype(np.float32)


def layers_of(names: list[tuple[str, str]], colours: int, size: tuple[int | None, int | None]) -> str:
    descriptions = [
        {
            "class_name": "InputLayer",
            "config": {"name": "input_1", "batch_input_shape": [None, *size, colours]},
        }
    ]
    for kind, name in names:
        config: dict[str, Any] = {"name": name}
        config |= {"ReLU": {"max_value": 6.0}, "BatchNormalization": {"epsilon": 0.001}}.get(kind, {})
        if kind == "ZeroPadding2D":
            config["padding"] = [[0, 1], [0, 1]]
        descriptions.append({"class_name": kind, "config": config})
    end = names[-1][1]
    descriptions.append(
        {
            "class_name": "NetVLADLayer",
            "config": {"name": "net_vlad_layer_1", "num_clusters": CLUSTERS},
            "inbound_nodes": [[[end, 0, 0, {}]]],
        }
    )
    return json.dumps({"class_name": "Model", "config": {"layers": descriptions}})


def vlad_weights(rng: np.random.Generator, channels: int) -> Arrays:
    return {
        "net_vlad_layer_1/kernel": kernel(rng, 1, 1, channels, CLUSTERS),
        "net_vlad_layer_1/bias": rng.normal(size=(1, 1, CLUSTERS)).astype(np.float32),
        "net_vlad_layer_1/cluster_centers": rng.normal(size=(1, 1, 1, channels, CLUSTERS)).astype(np.float32),
    }


def mobilenet_v1(colours: int = 3) -> tuple[str, Arrays]:
    """To conv_pw_2."""
    rng = np.random.default_rng(0)
    arrays: Arrays = {}
    names, channels = [], colours
    for name, made in CHANNELS.items():
        depthwise = "_dw_" in name
        if name in ("conv1", "conv_dw_2"):
            names.append(("ZeroPadding2D", f"{name}_pad"))
        part = "depthwise_kernel" if depthwise else "kernel"
        side = 1 if "_pw_" in name else 3
        shape = (side, side, channels, 1) if depthwise else (side, side, channels, made)
        arrays[f"{name}/{part}"] = kernel(rng, *shape)
        arrays |= norm(rng, f"{name}_bn", made)
        kind = "DepthwiseConv2D" if depthwise else "Conv2D"
        names += [(kind, name), ("BatchNormalization", f"{name}_bn"), ("ReLU", f"{name}_relu")]
        channels = made
    return layers_of(names, colours, (48, 64)), arrays | vlad_weights(rng, channels)


def mobilenet_v2() -> tuple[str, Arrays]:
    """To block_2, which adds."""
    rng = np.random.default_rng(1)
    arrays: Arrays = {"Conv1/kernel": kernel(rng, 3, 3, 3, 32), **norm(rng, "bn_Conv1", 32)}
    names = [("Conv2D", "Conv1"), ("BatchNormalization", "bn_Conv1"), ("ReLU", "Conv1_relu")]
    for name, expansion, channels, made, _ in V2:
        inner = channels * expansion
        if expansion > 1:
            arrays[f"{name}_expand/kernel"] = kernel(rng, 1, 1, channels, inner)
            arrays |= norm(rng, f"{name}_expand_BN", inner)
        arrays[f"{name}_depthwise/depthwise_kernel"] = kernel(rng, 3, 3, inner, 1)
        arrays |= norm(rng, f"{name}_depthwise_BN", inner)
        arrays[f"{name}_project/kernel"] = kernel(rng, 1, 1, inner, made)
        arrays |= norm(rng, f"{name}_project_BN", made)
        names.append(("Conv2D", f"{name}_project"))
    names.append(("Add", "block_2_add"))
    return layers_of(names, 3, (48, 64)), arrays | vlad_weights(rng, 24)


def write(path: Path, config: str | None, arrays: Arrays, *, group: bool = True) -> Path:
    with h5py.File(path, "w") as file:
        if config is not None:
            file.attrs["model_config"] = config
        root = file.create_group("model_weights") if group else file
        for name, array in arrays.items():
            layer, part = name.split("/")
            root[f"{layer}/{layer}/{part}:0"] = array
    return path


# Keras's formulas, [N, C, H, W].


def normed(x: torch.Tensor, arrays: Arrays, name: str) -> torch.Tensor:
    parts = ("moving_mean", "moving_variance", "gamma", "beta")
    mean, variance, gamma, beta = (torch.from_numpy(arrays[f"{name}/{p}"])[:, None, None] for p in parts)
    return (x - mean) / torch.sqrt(variance + 1e-3) * gamma + beta


def convolved(x: torch.Tensor, weights: Any, stride: int = 1) -> torch.Tensor:
    """``same`` padding at stride 1; at stride 2 a row below and a column on the right."""
    side = weights.shape[0]
    depthwise = weights.shape[3] == 1 and weights.shape[2] > 1
    turned = torch.from_numpy(weights.transpose((2, 3, 0, 1) if depthwise else (3, 2, 0, 1)).copy())
    x = F.pad(x, (0, 1, 0, 1)) if stride == 2 else F.pad(x, (side // 2,) * 4)
    return F.conv2d(x, turned, stride=stride, groups=x.shape[1] if depthwise else 1)


def pooled(x: torch.Tensor, arrays: Arrays) -> torch.Tensor:
    """The descriptor, as Kuse & Shen's layer makes it, cluster-major."""
    features_LD = x[0].flatten(1).T
    channels = features_LD.shape[1]
    weight, bias, added = (
        torch.from_numpy(arrays[f"net_vlad_layer_1/{part}"].reshape(-1, CLUSTERS))
        for part in ("kernel", "bias", "cluster_centers")
    )
    shares_LK = torch.softmax(features_LD @ weight.view(channels, CLUSTERS) + bias.view(-1), dim=1)
    sums_KD = torch.stack(
        [(shares_LK[:, k : k + 1] * (features_LD + added[:, k])).sum(0) for k in range(CLUSTERS)]
    )
    return F.normalize(F.normalize(sums_KD, dim=1).flatten(), dim=0)


def expected_v1(photo: torch.Tensor, arrays: Arrays) -> torch.Tensor:
    x = photo
    for name in CHANNELS:
        weights = arrays[f"{name}/{'depthwise_kernel' if '_dw_' in name else 'kernel'}"]
        x = convolved(x, weights, 2 if name in ("conv1", "conv_dw_2") else 1)
        x = normed(x, arrays, f"{name}_bn").clamp(0, 6)
    return pooled(x, arrays)


def expected_v2(photo: torch.Tensor, arrays: Arrays) -> torch.Tensor:
    x = normed(convolved(photo, arrays["Conv1/kernel"], 2), arrays, "bn_Conv1").clamp(0, 6)
    for name, expansion, channels, made, stride in V2:
        before = x
        if expansion > 1:
            x = convolved(x, arrays[f"{name}_expand/kernel"])
            x = normed(x, arrays, f"{name}_expand_BN").clamp(0, 6)
        x = convolved(x, arrays[f"{name}_depthwise/depthwise_kernel"], stride)
        x = normed(x, arrays, f"{name}_depthwise_BN").clamp(0, 6)
        x = normed(convolved(x, arrays[f"{name}_project/kernel"]), arrays, f"{name}_project_BN")
        x = before + x if stride == 1 and channels == made else x
    return pooled(x, arrays)


@pytest.fixture
def photo() -> np.ndarray[Any, Any]:
    return np.random.default_rng(5).integers(0, 256, (48, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize("version", [1, 2])
def test_the_answer_is_that_of_keras_formulas(version: int, photo: Any, tmp_path: Path) -> None:
    config, arrays = mobilenet_v1() if version == 1 else mobilenet_v2()
    model = import_model(write(tmp_path / "net.h5", config, arrays))
    prepared = torch.from_numpy((photo.transpose(2, 0, 1).astype(np.float32) - 128) * 2 / 255)[None]
    expected = (expected_v1 if version == 1 else expected_v2)(prepared, arrays)
    np.testing.assert_allclose(model.encode([photo])[0], expected.numpy(), atol=1e-5)
    again = load_model(save_model(model, tmp_path / "model"), device="cpu")
    assert again.fingerprint == model.fingerprint
    np.testing.assert_array_equal(again.encode([photo]), model.encode([photo]))


def test_networks_for_grey_photos(photo: Any, tmp_path: Path) -> None:
    config, arrays = mobilenet_v1(colours=1)
    model = import_model(write(tmp_path / "grey.h5", config, arrays))
    assert model.preprocess.grey and model.preprocess.resize == "48x64"
    grey = photo.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    prepared = torch.from_numpy((grey - 128) * 2 / 255)[None, None]
    np.testing.assert_allclose(model.encode([photo])[0], expected_v1(prepared, arrays).numpy(), atol=1e-5)


def test_networks_trained_on_pixels_as_they_are(photo: Any, tmp_path: Path) -> None:
    """The statistics of their first layer tell."""
    config, arrays = mobilenet_v1()
    arrays["conv1_bn/moving_variance"] *= 127.5**2
    model = import_model(write(tmp_path / "loud.h5", config, arrays))
    prepared = torch.from_numpy(photo.transpose(2, 0, 1).astype(np.float32))[None]
    np.testing.assert_allclose(model.encode([photo])[0], expected_v1(prepared, arrays).numpy(), atol=1e-5)


def test_json_with_weights_beside(photo: Any, tmp_path: Path) -> None:
    config, arrays = mobilenet_v1()
    whole = import_model(write(tmp_path / "whole.h5", config, arrays))
    (tmp_path / "parts.json").write_text(config, encoding="utf-8")
    write(tmp_path / "parts.h5", None, arrays, group=False)
    for name in ("parts.json", "parts.h5"):
        np.testing.assert_array_equal(import_model(tmp_path / name).encode([photo]), whole.encode([photo]))
    (tmp_path / "alone.json").write_text(config, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"alone\.h5, are not beside it"):
        import_model(tmp_path / "alone.json")
    write(tmp_path / "weights.h5", None, arrays)
    with pytest.raises(CheckpointError, match=r"put the network's \.json beside it"):
        import_model(tmp_path / "weights.h5")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c, a: (c, {k: v for k, v in a.items() if k != "conv1_bn/beta"}), "missing: conv1_bn/beta"),
        (lambda c, a: (c, {**a, "dense/kernel": np.ones((2, 2), np.float32)}), "left over: dense/kernel"),
        (lambda c, a: (c, {**a, "conv1/kernel": np.ones((3, 3, 3, 8), np.float32)}), "does not fit"),
        (lambda c, a: (c, {**a, "conv1_bn/beta": np.full(32, np.nan, np.float32)}), "NaN"),
        (lambda c, a: (c, {**a, "net_vlad_layer_1/bias": np.ones((1, 1, 7), np.float32)}), "do not fit"),
        (lambda c, a: (c, {**a, "conv1/kernel": np.ones((3, 3, 3, 32), np.int64)}), "no weights"),
        (lambda c, a: (c.replace('"max_value": 6.0', '"max_value": null'), a), "not at 6"),
        (lambda c, a: (c.replace('"epsilon": 0.001', '"epsilon": 0.1'), a), "epsilon"),
        (lambda c, a: (c.replace("[[0, 1], [0, 1]]", "[[1, 1], [1, 1]]"), a), "pads"),
        (lambda c, a: (c.replace('"Conv2D"', '"Lambda"'), a), "no MobileNet has: Lambda"),
        (lambda c, a: (c.replace('"NetVLADLayer"', '"Add"'), a), "0 NetVLAD layers"),
        (lambda c, a: (c.replace('"conv_pw_2_relu", 0', '"what", 0'), a), "takes 'what'"),
        (lambda c, a: ("[]", a), "none of a Keras model"),
        (lambda c, a: ("{nonsense", a), "it is no JSON"),
        (lambda c, a: (c.replace("48, 64, 3", "48, 64, 5"), a), "5 channels"),
    ],
)
def test_what_does_not_fit_is_told(change: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        import_model(write(tmp_path / "net.h5", *change(*mobilenet_v1())))


def test_arrays_that_declare_more_than_the_file_holds(tmp_path: Path) -> None:
    config, arrays = mobilenet_v1()
    path = write(tmp_path / "net.h5", config, arrays)
    with h5py.File(path, "a") as file:
        file.create_dataset("model_weights/huge/huge/kernel:0", (1 << 20, 1 << 20), "f4", chunks=(64, 64))
    with pytest.raises(CheckpointError, match="far more data"):
        import_model(path)


@pytest.mark.slow
def test_damaged_files_end_in_one_clear_error(tmp_path: Path) -> None:
    path = write(tmp_path / "net.h5", *mobilenet_v1())
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for i in range(60):
        data = bytearray(whole)
        if i % 3 == 0:
            data = data[: int(rng.integers(8, len(data)))]
        else:
            for at in rng.integers(8, min(len(data), 4096 if i % 3 == 1 else len(data)), 8):
                data[at] = int(rng.integers(256))
        path.write_bytes(data)
        try:
            import_model(path)
        except CheckpointError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 30
