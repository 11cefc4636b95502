"""PyTorch checkpoints of those who trained NetVLAD: their names, their formulas in plain torch, refusals."""

import argparse
import json
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from bundle import write_bundle
from matlab import head, network, run, vgg16, write_v5
from safetensors.torch import save_file
from torch.nn import functional as F

from dejavlad.backbones import BACKBONES, create
from dejavlad.convert import import_model
from dejavlad.errors import CheckpointError
from dejavlad.model import load_folder, save_model
from goldens import golden_path

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CHILDREN = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def features(name="vgg16", cut="conv1_2", prefix="encoder."):
    """A backbone's tensors, named by number as in a row of layers."""
    backbone = create(name, cut=cut, weights="random:1")
    for seed, (key, tensor) in enumerate(backbone.state_dict().items()):
        if tensor.ndim == 1:  # biases and statistics that matter
            tensor.copy_(drawn(*tensor.shape, seed=seed) * 0.1 + (1 if "running_var" in key else 0))

    def numbered(key):
        first, _, rest = key.partition(".")
        return rest if first == "features" else f"{CHILDREN[first]}.{rest}"

    return OrderedDict((prefix + numbered(key), tensor) for key, tensor in backbone.state_dict().items())


def netvlad(channels, clusters=3, *, prefix="pool.", bias=False):
    made = {f"{prefix}centroids": drawn(clusters, channels) * 0.1}
    made[f"{prefix}conv.weight"] = drawn(clusters, channels, 1, 1, seed=1) * 9
    if bias:
        made[f"{prefix}conv.bias"] = drawn(clusters, seed=2)
    return made


def pooled(map_CHW, tensors, prefix="pool."):
    """NetVLAD's descriptor, cluster by cluster, in float64."""
    x_CL = F.normalize(map_CHW.double().flatten(1), dim=0)
    weight, centres = tensors[f"{prefix}conv.weight"].double(), tensors[f"{prefix}centroids"].double()
    scores_KL = weight[:, :, 0, 0] @ x_CL
    if f"{prefix}conv.bias" in tensors:
        scores_KL = scores_KL + tensors[f"{prefix}conv.bias"].double()[:, None]
    shares_KL = scores_KL.softmax(dim=0)
    v_KC = torch.stack(
        [(a * (x_CL - c[:, None])).sum(dim=1) for a, c in zip(shares_KL, centres, strict=True)]
    )
    return F.normalize(F.normalize(v_KC, dim=1).flatten(), dim=0)


def whitened(row_D, tensors, prefix="WPCA.0."):
    """A 1x1 convolution, then unit length."""
    weight, bias = (tensors[f"{prefix}{part}"].double() for part in ("weight", "bias"))
    return F.normalize(weight.reshape(len(weight), -1) @ row_D + bias, dim=0)


def vgg(photo_NCHW, tensors, prefix="encoder."):
    """VGG-16 to conv1_2, before its ReLU."""
    weights = [tensors[f"{prefix}{layer}.{part}"].double() for layer in (0, 2) for part in ("weight", "bias")]
    x = F.conv2d(photo_NCHW.double(), weights[0], weights[1], padding=1).relu()
    return F.conv2d(x, weights[2], weights[3], padding=1)[0]


def described(model, photo_NCHW):
    with torch.inference_mode():
        return model.describe(photo_NCHW)[0].double()


@pytest.fixture
def photo():
    return drawn(1, 3, 20, 24, seed=9)


def saved(path, content, *, old=False):
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    return path


def training(state):
    """What a training run of Patch-NetVLAD saves: NumPy numbers, and the optimiser's state."""
    weight = torch.nn.Parameter(drawn(4, 4))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    weight.square().sum().backward()
    optimizer.step()
    return {
        "epoch": 7,
        "state_dict": state,
        "recalls": {n: np.float64(0.5) for n in (1, 5, 10)},
        "best_score": np.float64(0.5),
        "not_improved": 0,
        "optimizer": optimizer.state_dict(),
        "parallel": False,
    }


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("clusters", [16, 64])
@pytest.mark.parametrize("old", [False, True])
def test_patch_netvlad(tmp_path, photo, dtype, clusters, old):
    state = features() | netvlad(64, clusters)
    state["WPCA.0.weight"] = drawn(12, clusters * 64, 1, 1, seed=3).to(dtype)
    state["WPCA.0.bias"] = drawn(12, seed=4).to(dtype) * 0.1
    path = saved(tmp_path / "mapillary_WPCA12.pth.tar", {"num_pcs": 12, "state_dict": state}, old=old)
    model = import_model(path)
    assert (model.name, model.descriptor_size, model.aggregation.clusters) == (
        "mapillary_WPCA12",
        12,
        clusters,
    )
    assert model.provenance == {"format": "Patch-NetVLAD"} and model.fitted
    assert (model.preprocess.resize, model.preprocess.mean, model.preprocess.std) == ("480x640", MEAN, STD)
    assert all(tensor.dtype == torch.float32 for tensor in model.parameters())
    expected = whitened(pooled(vgg(photo, state), state), state)
    torch.testing.assert_close(described(model, photo), expected, atol=1e-5, rtol=0)
    again = load_folder(save_model(model, tmp_path / "kept"))
    assert again.fingerprint == model.fingerprint


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_training_checkpoints(tmp_path, photo, old, bias):
    state = features() | netvlad(64, bias=bias)
    model = import_model(saved(tmp_path / "best.pth.tar", training(state), old=old))
    assert model.provenance == {"format": "Patch-NetVLAD", "epoch": 7}
    assert model.preprocess.resize == "480x640" and model.aggregation.version == (2 if bias else 1)
    torch.testing.assert_close(described(model, photo), pooled(vgg(photo, state), state), atol=1e-5, rtol=0)


def test_nannes_port_with_parallel_training(tmp_path, photo):
    state = features() | netvlad(64)
    content = training(OrderedDict((key.replace(".", ".module.", 1), one) for key, one in state.items()))
    del content["not_improved"]
    model = import_model(saved(tmp_path / "model_best.pth.tar", content))
    assert model.provenance == {"format": "pytorch-NetVlad", "epoch": 7}
    assert model.preprocess.resize == "none" and model.preprocess.mean == MEAN
    torch.testing.assert_close(described(model, photo), pooled(vgg(photo, state), state), atol=1e-5, rtol=0)


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_nannes_max_and_avg_are_told_by_flags(tmp_path, photo, pooling):
    (tmp_path / "checkpoints").mkdir()
    path = saved(tmp_path / "checkpoints" / "checkpoint.pth.tar", {"state_dict": features()})
    with pytest.raises(
        CheckpointError, match=r"pool.centroids and pool.conv.weight are missing.*flags\.json"
    ):
        import_model(path)
    (tmp_path / "flags.json").write_text(json.dumps({"pooling": pooling, "arch": "vgg16"}))
    flat = vgg(photo, features()).flatten(1)
    expected = F.normalize(flat.amax(dim=1) if pooling == "max" else flat.mean(dim=1), dim=0)
    torch.testing.assert_close(described(import_model(path), photo), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_openibl(tmp_path, photo, ending):
    state = features(prefix="base_model.base.") | netvlad(64, prefix="net_vlad.")
    state |= {"pca_layer.weight": drawn(9, 192, 1, 1, seed=3), "pca_layer.bias": drawn(9, seed=4) * 0.1}
    path = tmp_path / f"vgg16_netvlad.{ending}"
    if ending == "pth":
        saved(path, OrderedDict(state))
    else:
        save_file({key: one.contiguous() for key, one in state.items()}, path)
    model = import_model(path)
    assert model.provenance == {"format": "OpenIBL"} and model.descriptor_size == 9
    map_CHW = vgg(photo, state, "base_model.base.")
    expected = whitened(pooled(map_CHW, state, "net_vlad."), state, "pca_layer.")
    torch.testing.assert_close(described(model, photo), expected, atol=1e-5, rtol=0)
    pixels = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    wanted = pixels.transpose(2, 0, 1) - np.array([123.68, 116.779, 103.939])[:, None, None]
    np.testing.assert_allclose(model.preprocess(pixels), wanted, atol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "cut"), [("resnet18", "layer3"), ("resnet50", "layer4"), ("alexnet", "conv5")]
)
def test_vg_benchmark(tmp_path, photo, name, cut):
    backbone = features(name, cut, prefix="module.backbone.")
    channels = create(name, cut=cut, weights="random:0").channels
    state = backbone | netvlad(channels, prefix="module.aggregation.")
    content = {"epoch_num": 4, "model_state_dict": state, "recalls": np.array([50.0, 60.0]), "best_r5": 60.0}
    model = import_model(saved(tmp_path / "best_model.pth", content))
    assert (model.spec.backbone.name, model.spec.backbone.cut) == (name, cut)
    assert model.provenance == {"format": "VG-benchmark", "epoch": 4}
    wanted = BACKBONES[name].make(cut=cut).eval()
    wanted.load_state_dict(dict(zip(wanted.state_dict(), backbone.values(), strict=True)))
    large = F.interpolate(photo, size=(70, 80))
    with torch.inference_mode():
        expected = pooled(wanted(large)[0], state, "module.aggregation.")
    torch.testing.assert_close(described(model, large), expected, atol=1e-5, rtol=0)


def test_vg_benchmark_with_a_last_layer_and_with_gem(tmp_path, photo):
    base = features(prefix="backbone.")
    state = base | netvlad(64, prefix="aggregation.0.")
    state |= {"aggregation.1.weight": drawn(8, 192, seed=3), "aggregation.1.bias": drawn(8, seed=4)}
    model = import_model(saved(tmp_path / "fc.pth", {"model_state_dict": state}))
    row = pooled(vgg(photo, state, "backbone."), state, "aggregation.0.")
    torch.testing.assert_close(
        described(model, photo), whitened(row, state, "aggregation.1."), atol=1e-5, rtol=0
    )
    model = import_model(saved(tmp_path / "gem.pth", base | {"aggregation.0.p": torch.tensor([2.5])}))
    flat = vgg(photo, base, "backbone.").flatten(1).clamp(min=1e-6)
    expected = F.normalize(flat.pow(2.5).mean(dim=1).pow(1 / 2.5), dim=0)
    torch.testing.assert_close(described(model, photo), expected, atol=1e-5, rtol=0)
    with pytest.raises(CheckpointError, match="--l2 before_pool"):
        import_model(saved(tmp_path / "before.pth", base | {"aggregation.1.p": torch.tensor([3.0])}))


@pytest.mark.slow
def test_lyakaaps_network_and_its_layer_alone(tmp_path, photo):
    state = features("resnet18", "layer4", "base_model.") | netvlad(512, prefix="net_vlad.", bias=True)
    model = import_model(saved(tmp_path / "embed.pt", state))
    assert model.provenance == {"format": "NetVLAD-pytorch"} and model.aggregation.version == 2
    assert (model.spec.backbone.name, model.spec.backbone.cut) == ("resnet18", "layer4")
    with pytest.raises(CheckpointError, match="a NetVLAD layer without its backbone"):
        import_model(saved(tmp_path / "layer.pth", netvlad(64, prefix="", bias=True)))
    embedded = import_model(
        saved(tmp_path / "triplet.pt", {f"embed_net.{key}": one for key, one in state.items()})
    )
    assert embedded.fingerprint == model.fingerprint


@pytest.mark.slow
def test_a_name_above_all_others_is_taken_off(tmp_path):
    state = features() | netvlad(64)
    model = import_model(
        saved(tmp_path / "a.ckpt", {"state_dict": {f"model.{k}": v for k, v in state.items()}})
    )
    assert model.fingerprint == import_model(saved(tmp_path / "b.pth", state)).fingerprint


@pytest.mark.slow
def test_tensors_are_taken_from_under_any_name(tmp_path):
    """However deep a training program puts them; its optimiser numbers its own and is passed over."""
    state = features() | netvlad(64)
    plain = import_model(saved(tmp_path / "plain.pth", state)).fingerprint
    adam = {"state": {0: {"exp_avg": drawn(3)}}, "param_groups": [{"lr": 0.1}]}
    named = {f"module.{key}": tensor for key, tensor in state.items()}
    for content in (
        {"net": state, "epoch": 3, "optimizer": adam},
        {"model_ema": named},
        {"checkpoint": {"weights": {"state_dict": named}}, "optimizer": adam},
    ):
        assert import_model(saved(tmp_path / "deep.pth", content)).fingerprint == plain
    with pytest.raises(CheckpointError, match="it holds tensors under ema, net; save those of the network"):
        import_model(saved(tmp_path / "two.pth", {"net": state, "ema": state}))


@pytest.mark.slow
def test_a_full_size_network_gives_one_answer_in_every_format(tmp_path):
    """VGG-16, NetVLAD (K=64), whitening to 256: MATLAB's, Patch-NetVLAD's, the TensorFlow port's and ours."""
    net = network(
        [*vgg16(np.random.default_rng(0)), *head(np.random.default_rng(1), 512, "vlad_preL2_intra", dims=256)]
    )
    by = {one["name"]: one.get("weights") for one in net["layers"]}
    names = [name for name in by if name.startswith("conv")]
    state, port = OrderedDict(), {"average_rgb": np.float32([123.68, 116.779, 103.939])}
    for number, name in zip((0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28), names, strict=True):
        filters, bias = by[name]
        state[f"encoder.{number}.weight"] = torch.from_numpy(filters.transpose(3, 2, 0, 1).copy())
        state[f"encoder.{number}.bias"] = torch.from_numpy(bias[0])
        port |= {f"{name}/kernel": filters, f"{name}/bias": bias[0]}
    assign_DK, minus_DK = (weights[0, 0] for weights in by["vlad:core"])
    state["pool.centroids"] = torch.from_numpy(-minus_DK.T.copy())
    state["pool.conv.weight"] = torch.from_numpy(assign_DK.T.copy())[:, :, None, None]
    matrix, bias = by["WPCA"]
    rows_PKD = matrix[0, 0].T.reshape(256, 512, 64).transpose(0, 2, 1)
    state["WPCA.0.weight"] = torch.from_numpy(rows_PKD.reshape(256, -1, 1, 1).astype(np.float64))
    state["WPCA.0.bias"] = torch.from_numpy(bias[:, 0].astype(np.float64))
    port |= {"assignment/kernel": assign_DK[None, None], "cluster_centers": minus_DK[None, None, None]}
    port |= {"WPCA/kernel": matrix, "WPCA/bias": bias[:, 0]}

    rgb = np.random.default_rng(2).integers(0, 256, (52, 70, 3), dtype=np.uint8)
    expected = run(net, rgb)["finalL2"].ravel()
    prepared = torch.from_numpy(rgb - np.float32([123.68, 116.779, 103.939])).permute(2, 0, 1)[None]
    patch = import_model(saved(tmp_path / "pitts_WPCA256.pth.tar", {"num_pcs": 256, "state_dict": state}))
    assert (patch.spec.backbone.name, patch.spec.backbone.cut) == ("vgg16", "conv5_3")
    np.testing.assert_allclose(described(patch, prepared), expected, atol=1e-5)
    folder = load_folder(save_model(patch, tmp_path / "ours"))
    assert torch.equal(described(folder, prepared), described(patch, prepared))
    del folder, state
    for path in (
        write_v5(tmp_path / "net.mat", {"net": net}),
        write_bundle(tmp_path / "port", {f"vgg16_netvlad_pca/{name}": one for name, one in port.items()}),
    ):
        np.testing.assert_allclose(described(import_model(path), prepared), expected, atol=1e-5)


def changed(**others):
    return features() | netvlad(64) | others


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {k: v for k, v in changed().items() if k != "encoder.2.bias"},
            "missing encoder.2.bias; left over are nothing",
        ),
        ({k: v for k, v in changed().items() if k != "encoder.0.weight"}, "missing encoder.0.weight"),
        ({k: v for k, v in changed().items() if k != "pool.conv.weight"}, "missing pool.conv.weight"),
        (changed(extra=torch.ones(2)), "missing nothing; left over are extra"),
        (
            changed() | {"encoder.0.bias": torch.ones(3)},
            r"encoder.0.bias is torch.float32 \[3\], not numbers \[64\]",
        ),
        (changed() | {"encoder.0.bias": torch.full((64,), torch.nan)}, "encoder.0.bias holds NaN"),
        (changed() | {"encoder.0.bias": torch.ones(64, dtype=torch.long)}, "is torch.int64"),
        (changed() | {"pool.centroids": torch.ones(3, 65)}, r"\[3, 65\], but the backbone makes 64 channels"),
        (changed() | {"WPCA.0.bias": torch.ones(2)}, r"WPCA.0.weight is \[\], but the descriptors have 192"),
        (changed() | {"WPCA.0.weight": torch.ones(2, 191), "WPCA.0.bias": torch.ones(2)}, "have 192 numbers"),
        (changed() | {"WPCA.0.weight": torch.ones(2, 192)}, "missing WPCA.0.bias"),
        ({"encoder.a": torch.ones(2), **netvlad(64)}, "its backbone, encoder.a, is none of vgg16, vgg19"),
        (
            dict(create("resnet18", weights="random:0").state_dict()),
            "the backbone resnet18 alone, which is no model.*resnet18-netvlad --weights FILE",
        ),
        (
            {**features(prefix="features."), "classifier.0.weight": torch.ones(2, 2)},
            "the backbone vgg16 alone",
        ),
        (dict(features(prefix="backbone.")), "; aggregation.centroids and aggregation.conv.weight are miss"),
        (
            dict(features(prefix="backbone.")) | {"aggregation.0.p": torch.tensor([-1.0])},
            r"aggregation.0.p is \[-1.0\]; GeM needs a positive",
        ),
        ({"fc.weight": torch.ones(2)}, "no network of Patch-NetVLAD, OpenIBL.*but fc.weight"),
        ({"state_dict": {}}, "an empty dict"),
        ({}, "an empty dict"),
        ([1, 2], "a list"),
        (torch.ones(3), "a Tensor"),
        ({"a": 3}, "also a"),
        (changed() | {"encoder.0.bias": torch.ones(64).to_sparse()}, "encoder.0.bias is no plain tensor"),
        (changed() | {"pool.conv.bias": torch.ones(1).expand(1 << 40)}, "larger than the file"),
        (changed() | {"module.encoder.0.bias": torch.ones(64)}, "same name but for 'module.'"),
    ],
)
def test_what_does_not_fit_is_told(tmp_path, content, message):
    path = saved(tmp_path / "net.pth", content)
    with pytest.raises(CheckpointError, match=message) as error:
        import_model(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("old", [False, True])
def test_nothing_is_executed(tmp_path, monkeypatch, old):
    monkeypatch.chdir(tmp_path)
    state = changed()
    for what, named in (
        (Hostile(), f"{os.mkdir.__module__}.mkdir"),
        (create("squeezenet1_1", weights="random:0"), "dejavlad.backbones.squeezenet.SqueezeNet"),
        (Path("x"), r"pathlib[\w.]*\.\w+"),
    ):
        path = saved(tmp_path / "net.pth", {"state_dict": state, "more": what}, old=old)
        with pytest.raises(
            CheckpointError, match=f"it holds {named}, which is not executed; save its weights"
        ):
            import_model(path)
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Hostile(), protocol=2))
    with pytest.raises(CheckpointError):
        import_model(tmp_path / "plain.pth")
    assert not (tmp_path / "executed").exists()


def test_what_old_checkpoints_hold_beside_tensors_is_not_made(tmp_path):
    """Also hostile arrays are not: stand-ins take their place, and user-allowed types stay allowed."""
    before = set(torch.serialization.get_safe_globals())
    more = {"opt": argparse.Namespace(lr=0.1), "losses": np.arange(5.0), "best": np.float32(3)}
    model = import_model(saved(tmp_path / "net.pth", {"state_dict": changed(), "epoch": 3, **more}))
    assert model.provenance["epoch"] == 3
    assert set(torch.serialization.get_safe_globals()) == before


def test_a_checkpoint_that_holds_itself_ends(tmp_path):
    content = {}
    content["model"] = content
    with pytest.raises(CheckpointError, match="also model"):
        import_model(saved(tmp_path / "net.pth", content))


def test_a_checkpoint_that_holds_one_mapping_often_ends(tmp_path):
    """A few kB in which more paths lead to nothing than could ever be walked."""
    content = dict.fromkeys(map(str, range(300)), 0)
    for _ in range(5):
        content = dict.fromkeys(map(str, range(300)), content)
    with pytest.raises(CheckpointError, match="no named tensors only"):
        import_model(saved(tmp_path / "net.pth", content))


@pytest.mark.parametrize(
    ("member", "message"),
    [
        ("config.json", "a zip archive, but not PyTorch's.*unpack it"),
        ("net/constants.pkl", "a TorchScript program"),
    ],
)
def test_other_archives_are_told(tmp_path, member, message):
    with zipfile.ZipFile(tmp_path / "net.pth", "w") as made:
        made.writestr(member, "{}")
    with pytest.raises(CheckpointError, match=message):
        import_model(tmp_path / "net.pth")


def test_golden_patchnetvlad_in_a_checkpoint(tmp_path):
    """What Patch-NetVLAD's own layer and whitening answered, from a checkpoint of those weights."""
    with np.load(golden_path("patchnetvlad.npz")) as archive:
        golden = {key: torch.from_numpy(array) for key, array in archive.items()}
    backbone = create("mobilenet_v2", cut="Conv1", weights="random:0")  # as many channels
    state = {f"encoder.{key.removeprefix('features.')}": one for key, one in backbone.state_dict().items()}
    state |= {"pool.centroids": golden["centroids"], "pool.conv.weight": golden["assign"][:, :, None, None]}
    state |= {"WPCA.0.weight": golden["wpca_weight"][:, :, None, None].double()}
    state |= {"WPCA.0.bias": golden["wpca_bias"].double()}
    model = import_model(
        saved(tmp_path / "net.pth.tar", {"num_pcs": len(golden["wpca_bias"]), "state_dict": state})
    )
    with torch.inference_mode():
        rows_ND = model.aggregation(golden["feats"])
        torch.testing.assert_close(rows_ND, golden["glob"].float(), atol=1e-5, rtol=0)
        torch.testing.assert_close(model.whitening(rows_ND), golden["white_glob"].float(), atol=1e-5, rtol=0)


def test_archives_that_would_grow_are_refused(tmp_path):
    path = saved(tmp_path / "net.pth", changed())
    with (
        zipfile.ZipFile(path) as given,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as made,
    ):
        for one in given.infolist():
            made.writestr(one.filename, given.read(one))
    with pytest.raises(CheckpointError, match="no archive that PyTorch writes"):
        import_model(tmp_path / "bomb.pth")


def test_files_of_the_first_pytorch_are_told(tmp_path):
    (tmp_path / "net.pth").write_bytes(b"sys_info".ljust(257, b"\0") + b"ustar" + bytes(250))
    with pytest.raises(CheckpointError, match=r"before 0\.2"):
        import_model(tmp_path / "net.pth")
