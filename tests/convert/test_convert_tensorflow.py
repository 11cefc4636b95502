"""The TensorFlow port's checkpoint, written here without TensorFlow, against its formulas in NumPy."""

import struct

import numpy as np
import pytest
import torch
from bundle import block, entry, field, varint, write_bundle, write_table
from torch.nn import functional as F

from dejavlad.convert import import_model
from dejavlad.convert.tensor_bundle import (
    MAGIC,
    _masked_crc,
    read_bundle,
)
from dejavlad.errors import CheckpointError
from dejavlad.model import load_folder, save_model

SCOPE = "vgg16_netvlad_pca/"
CLUSTERS = 3


def network(convolutions=("1_1", "1_2", "2_1"), dims=7, seed=0):
    random = np.random.default_rng(seed)
    channels, arrays = 3, {"average_rgb": np.float32([123.68, 116.779, 103.939])}
    for name in convolutions:
        made = 64 << int(name[0]) - 1
        arrays[f"conv{name}/kernel"] = random.normal(0, 0.1, (3, 3, channels, made))
        arrays[f"conv{name}/bias"] = random.normal(size=made)
        channels = made
    arrays["assignment/kernel"] = random.normal(0, 9, (1, 1, channels, CLUSTERS))
    arrays["cluster_centers"] = random.normal(0, 0.1, (1, 1, 1, channels, CLUSTERS))
    if dims:
        arrays["WPCA/kernel"] = random.normal(size=(1, 1, channels * CLUSTERS, dims))
        arrays["WPCA/bias"] = random.normal(size=dims)
    return {SCOPE + name: array.astype(np.float32) for name, array in arrays.items()}


def expected(arrays, rgb):
    """What ``nets.vgg16NetvladPca`` computes, from the formulas."""
    tensors = {name.removeprefix(SCOPE): torch.from_numpy(array).double() for name, array in arrays.items()}
    x = (torch.from_numpy(rgb).double() - tensors["average_rgb"]).permute(2, 0, 1)[None]
    names = sorted(name.split("/")[0] for name in tensors if name.startswith("conv") and "kernel" in name)
    for i, name in enumerate(names):
        x = F.conv2d(x, tensors[f"{name}/kernel"].permute(3, 2, 0, 1), tensors[f"{name}/bias"], padding=1)
        if i + 1 < len(names):
            if names[i + 1][4] != name[4]:
                x = F.max_pool2d(x, 2)
            x = x.relu()
    x_LD = x[0].flatten(1).T.numpy()
    x_LD = x_LD / np.linalg.norm(x_LD, axis=1, keepdims=True)
    scores_LK = x_LD @ tensors["assignment/kernel"][0, 0].numpy()
    shares_LK = np.exp(scores_LK - scores_LK.max(axis=1, keepdims=True))
    shares_LK /= shares_LK.sum(axis=1, keepdims=True)
    added_DK = tensors["cluster_centers"][0, 0, 0].numpy()
    v_DK = np.stack([((x_LD + added_DK[:, k]) * shares_LK[:, k : k + 1]).sum(0) for k in range(CLUSTERS)], 1)
    v_DK /= np.sqrt((v_DK**2).sum(axis=0) + 1e-12)
    row = v_DK.reshape(-1)  # cluster fastest
    row /= np.sqrt((row**2).sum() + 1e-12)
    if "WPCA/kernel" not in tensors:
        return row.reshape(-1, CLUSTERS).T.reshape(-1) / np.linalg.norm(row)  # in our order
    row = row @ tensors["WPCA/kernel"][0, 0].numpy() + tensors["WPCA/bias"].numpy()
    return row / np.linalg.norm(row)


@pytest.fixture
def photo():
    return np.random.default_rng(5).integers(0, 256, (37, 50, 3), dtype=np.uint8)


@pytest.mark.parametrize("dims", [7, None])
@pytest.mark.parametrize("shards", [1, 3])
def test_the_answer_is_the_ports(tmp_path, photo, dims, shards):
    arrays = network(dims=dims)
    index = write_bundle(tmp_path / "net", arrays, shards)
    model = import_model(index)
    assert model.name == "net" and model.spec.backbone.cut == "conv2_1"
    assert model.preprocess.mean == pytest.approx((123.68, 116.779, 103.939), abs=1e-5)
    np.testing.assert_allclose(model.encode([photo])[0], expected(arrays, photo), atol=1e-5)
    again = load_folder(save_model(model, tmp_path / "kept"))
    assert again.fingerprint == model.fingerprint
    for path in (tmp_path / "net", tmp_path):  # prefix, and folder with one checkpoint
        assert import_model(path).fingerprint == model.fingerprint


def test_what_training_leaves_is_passed_over(tmp_path):
    arrays = network()
    more = {
        **arrays,
        "global_step": np.int64(3),
        SCOPE + "conv1_1/bias/Momentum": np.zeros(64, np.float32),
        "flags": np.zeros(4, np.uint8),
    }
    model = import_model(write_bundle(tmp_path / "more", more))
    assert model.fingerprint == import_model(write_bundle(tmp_path / "net", arrays)).fingerprint


def changed(arrays, **others):
    return {**arrays, **{SCOPE + name: value for name, value in others.items()}}


def without(arrays, name):
    return {key: value for key, value in arrays.items() if key != SCOPE + name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: without(a, "conv1_2/bias"), "missing: conv1_2/bias; left over: nothing"),
        (lambda a: without(a, "conv1_1/kernel"), "missing: conv1_1/kernel"),
        (lambda a: without(a, "WPCA/kernel"), "missing: WPCA/kernel"),
        (lambda a: without(a, "cluster_centers"), "0 cluster_centers"),
        (lambda a: changed(a, fc=np.ones(3, np.float32)), "left over: fc"),
        (lambda a: changed(a, **{"conv1_1/bias": np.ones(3, np.float32)}), r"conv1_1/bias is \[3\]"),
        (lambda a: changed(a, **{"conv1_1/kernel": np.ones(3, np.float32)}), "no kernel"),
        (lambda a: changed(a, **{"conv1_1/bias": np.full(64, np.nan, "f4")}), "conv1_1/bias holds NaN"),
        (lambda a: changed(a, average_rgb=np.ones(4, np.float32)), r"average_rgb is \[4\]; \[3\]"),
        (lambda a: changed(a, average_rgb=np.full(3, np.inf, np.float32)), "mean must be three numbers"),
        (lambda a: changed(a, cluster_centers=np.ones((5, 5), np.float32)), "channels are needed"),
        (lambda a: changed(a, cluster_centers=np.ones((3, 128), np.float32)), "cluster_centers is"),
        (lambda a: changed(a, **{"WPCA/kernel": np.ones((1, 1, 9, 7), np.float32)}), "WPCA/kernel is"),
        (lambda a: changed(a, **{"WPCA/bias": np.ones(999, np.float32)}), "999 numbers"),
        (lambda a: {"step": np.float32(1)}, "it holds step"),
    ],
)
def test_what_does_not_fit_is_told(tmp_path, change, message):
    index = write_bundle(tmp_path / "net", change(network()))
    with pytest.raises(CheckpointError, match=message) as error:
        import_model(index)
    assert str(index) in str(error.value)


def test_files_that_are_not_there_or_end_early(tmp_path):
    index = write_bundle(tmp_path / "net", network())
    data = tmp_path / "net.data-00000-of-00001"
    whole = data.read_bytes()
    data.write_bytes(whole[:-1])
    with pytest.raises(CheckpointError, match=f"on, where {len(whole) - 1} are"):
        import_model(index)
    data.unlink()
    with pytest.raises(CheckpointError, match=r"net\.data-00000-of-00001, cannot be read"):
        import_model(index)
    write_bundle(tmp_path / "other", network())
    with pytest.raises(CheckpointError, match=r"here are net\.index, other\.index"):
        import_model(tmp_path)
    index.write_bytes(index.read_bytes()[:20] + b"?" + index.read_bytes()[21:])
    with pytest.raises(CheckpointError, match="checksum"):
        import_model(index)


def test_checksums_are_castagnolis():
    assert _masked_crc(b"123456789") == (0xE3069283 >> 15 | 0xE3069283 << 17) + 0xA282EAD8 & 0xFFFFFFFF


def table(tmp_path, entries, **how):
    (tmp_path / "bad.data-00000-of-00001").write_bytes(b"\0" * 64)
    write_table(tmp_path / "bad.index", entries, **how)
    return tmp_path / "bad"


HEADER = (b"", field(1, 1))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([(b"", field(1, 0))], "0 data files"),
        ([(b"", field(1, 1) + field(2, 1))], "bytes in reverse"),
        ([HEADER, (b"x", entry(np.zeros(2, "f4"), 0, shard=4))], "data file 4 of 1"),
        ([HEADER, (b"x", entry(np.zeros(2, "f4"), 60))], "64 are"),
        ([HEADER, (b"x", field(1, 1) + field(2, field(2, field(1, 1 << 40))) + field(5, 8))], "in 8 bytes"),
        ([HEADER, (b"x", field(1, 1) + field(7, b""))], "slices"),
        ([HEADER, (b"x", field(1, 1) + field(2, field(2, b"") * 9))], "9 axes"),
        ([HEADER, (b"x", b"\x08")], "no end"),
        ([HEADER, (b"x", b"\x12\x7f")], "ends early"),
        ([HEADER, (b"x", b"\x0f")], "ends early"),
        ([HEADER, (b"x", field(1, b"text"))], "a number is none"),
        ([HEADER, (b"x", field(1, 1) + field(4, 1 << 63))], "a number is none"),
        ([HEADER, (b"x", field(1, 1) + field(2, 5))], "another type"),
        ([HEADER, (b"x" * 5000, b"")], "ends late"),
    ],
)
def test_hostile_indices(tmp_path, entries, message):
    with pytest.raises(CheckpointError, match=message):
        read_bundle(table(tmp_path, entries))


def test_hostile_tables(tmp_path):
    with pytest.raises(CheckpointError, match="compressed"):
        read_bundle(table(tmp_path, [HEADER], compression=1))
    with pytest.raises(CheckpointError, match="at most 4194304"):
        (tmp_path / "bad.index").write_bytes(bytes(5 << 20))
        read_bundle(tmp_path / "bad")
    with pytest.raises(CheckpointError, match="version 2"):
        (tmp_path / "bad.index").write_bytes(b"short")
        read_bundle(tmp_path / "bad")
    content = block([HEADER])
    data = content + b"\0" + struct.pack("<I", _masked_crc(content + b"\0"))
    twice = block([(b"a", varint(0) + varint(len(content)))] * 2, every=1)
    at = len(data)
    data += twice + b"\0" + struct.pack("<I", _masked_crc(twice + b"\0"))
    footer = (varint(0) + varint(len(content)) + varint(at) + varint(len(twice))).ljust(40, b"\0")
    (tmp_path / "bad.index").write_bytes(data + footer + struct.pack("<Q", MAGIC))
    with pytest.raises(CheckpointError, match="overlap"):
        read_bundle(tmp_path / "bad")
