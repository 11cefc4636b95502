"""Weights from files, from the web and from tensors; what does not fit is refused."""

import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dejavlad.backbones import BACKBONES, create, making
from dejavlad.backbones.weights import parse_random, read_weights
from dejavlad.errors import CheckpointError, DownloadError, InputError, UnknownNameError
from dejavlad.images import PREPROCESSING, read_image

REAL = Path(os.environ.get("DEJAVLAD_DATA", Path(__file__).parents[3] / "shared" / "data"))
MOBILE_HOME = 660
"""The class of ImageNet that is nearest to a wooden house."""


@pytest.fixture(scope="module")
def tensors():
    """All that torchvision publishes for SqueezeNet 1.1, by name and shape."""
    features = create("squeezenet1_1", cut="features.12", weights="random:9").state_dict()
    classifier = {"classifier.1.weight": torch.zeros(1000, 512, 1, 1), "classifier.1.bias": torch.zeros(1000)}
    return {**features, **classifier}


def written(path, tensors):
    if path.suffix == ".npz":
        np.savez(path, **{key: tensor.numpy() for key, tensor in tensors.items()})
    elif path.suffix == ".safetensors":
        save_file(dict(tensors), path)
    else:
        torch.save(tensors, path)
    return path


@pytest.mark.parametrize("ending", [".npz", ".safetensors", ".pth", ".pt", ".NPZ"])
def test_every_kind_of_file(tmp_path, tensors, ending):
    path = written(tmp_path / f"w{ending.lower()}", tensors)
    path = path.rename(path.with_suffix(ending))
    loaded = create("squeezenet1_1", weights=str(path)).state_dict()
    assert len(loaded) == 38
    assert all(torch.equal(tensor, tensors[key]) for key, tensor in loaded.items())


def test_tensors_themselves_and_wrapped_ones(tmp_path, tensors):
    given = create("squeezenet1_1", weights=tensors).state_dict()
    wrapped = {"epoch": 3, "state_dict": {f"module.{key}": tensor for key, tensor in tensors.items()}}
    read = create("squeezenet1_1", weights=written(tmp_path / "w.pth", wrapped)).state_dict()
    assert all(
        torch.equal(tensor, tensors[key]) and torch.equal(read[key], tensor) for key, tensor in given.items()
    )


WRAPPINGS = {
    "parallel within": lambda s: {k.replace("features.", "features.module.", 1): v for k, v in s.items()},
    "model": lambda s: {"model": s, "epoch": 3},
    "model_state_dict": lambda s: {"model_state_dict": s, "optimizer": {"state": {}}},
    "compiled": lambda s: {"state_dict": {f"_orig_mod.module.{k}": v for k, v in s.items()}},
    "numpy scalars": lambda s: {"state_dict": s, "best": np.float64(0.5), "at": np.arange(3)},
    "below a name": lambda s: {f"backbone.{k}": v for k, v in s.items()},
    "half": lambda s: {k: v.half() for k, v in s.items()},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("old", [False, True])
def test_whatever_wraps_the_tensors(tmp_path, tensors, wrapping, old):
    body = {key: tensor for key, tensor in tensors.items() if key.startswith("features.")}
    path = tmp_path / "w.weights"  # known by content, not by its name
    torch.save(WRAPPINGS[wrapping](body), path, _use_new_zipfile_serialization=not old)
    loaded = create("squeezenet1_1", weights=path).state_dict()
    for key, tensor in loaded.items():
        expected = body[key].half().float() if wrapping == "half" else body[key]
        assert tensor.dtype == torch.float32 and torch.equal(tensor, expected)


def test_archives_that_grow_and_whole_numbers_are_refused(tmp_path, tensors):
    np.savez_compressed(tmp_path / "bomb.npz", **{"features.0.weight": np.zeros(20_000_000, np.float32)})
    with pytest.raises(CheckpointError, match="says that it unpacks to 80000128"):
        read_weights(tmp_path / "bomb.npz")
    with pytest.raises(CheckpointError, match=r"features\.0\.bias holds int64, no real numbers"):
        create("squeezenet1_1", weights={**tensors, "features.0.bias": torch.ones(64, dtype=torch.long)})


def test_batch_norms_may_lack_their_counters(tmp_path):
    original = create("resnet18", cut="layer1", weights="random:2").state_dict()
    old = {key: value + 1 for key, value in original.items() if not key.endswith("num_batches_tracked")}
    loaded = create("resnet18", cut="layer1", weights=old).state_dict()
    assert torch.equal(loaded["bn1.running_mean"], original["bn1.running_mean"] + 1)


def test_what_does_not_fit_is_listed(tensors):
    lacking = {key: tensor for key, tensor in tensors.items() if not key.startswith("features.0.")}
    with pytest.raises(
        CheckpointError, match=r"missing features\.0\.bias, features\.0\.weight; left over nothing"
    ):
        create("squeezenet1_1", weights=lacking)
    with pytest.raises(CheckpointError, match=r"missing nothing; left over aux\.weight"):
        create("squeezenet1_1", weights={**tensors, "aux.weight": torch.zeros(1)})
    other = create("squeezenet1_0", cut="features.12", weights="random:0").state_dict()
    with pytest.raises(CheckpointError, match=r"features\.0\.weight is \[64, 3, 3, 3\], not \[96, 3, 7, 7\]"):
        create("squeezenet1_0", weights={**other, "features.0.weight": torch.zeros(64, 3, 3, 3)})
    with pytest.raises(CheckpointError, match=r"missing .* and \d+ more; left over"):
        create("vgg16", weights=tensors)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(tensors, bad):
    bias = tensors["features.3.squeeze.bias"].clone()
    bias[5] = bad
    with pytest.raises(CheckpointError, match=r"features\.3\.squeeze\.bias holds NaN or infinity"):
        create("squeezenet1_1", weights={**tensors, "features.3.squeeze.bias": bias})


class Trap:
    def __reduce__(self):
        return os.mkdir, ("trap",)


@pytest.mark.parametrize("ending", [".pth", ".npz"])
def test_pickles_are_not_executed(tmp_path, monkeypatch, ending):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"w{ending}"
    if ending == ".npz":
        np.savez(path, **{"features.0.weight": np.array([Trap()], dtype=object)})
    else:
        path.write_bytes(pickle.dumps({"features.0.weight": Trap()}))
    with pytest.raises(CheckpointError) as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "trap").exists()


@pytest.mark.parametrize("ending", [".npz", ".safetensors", ".pth"])
def test_damaged_files(tmp_path, tensors, ending):
    with pytest.raises(CheckpointError, match="there are no weights at"):
        read_weights(tmp_path / f"none{ending}")
    whole = written(tmp_path / f"w{ending}", tensors).read_bytes()
    for content in (b"", b"no weights at all", whole[: len(whole) // 2]):
        (tmp_path / f"x{ending}").write_bytes(content)
        with (
            warnings.catch_warnings(),
            pytest.raises(CheckpointError, match=r"cannot be read|is not executed"),
        ):
            read_weights(tmp_path / f"x{ending}")


def test_files_that_hold_something_else(tmp_path):
    for thing in ([1, 2], {}, {"a": 3}, torch.zeros(3)):
        torch.save(thing, tmp_path / "w.pth")
        with pytest.raises(CheckpointError, match="holds no named tensors"):
            read_weights(tmp_path / "w.pth")


def test_random_seeds():
    assert parse_random("random:0") == 0 and parse_random("random:12") == 12
    assert parse_random("weights.npz") is None and parse_random("random/weights.npz") is None
    for wrong in ("random", "random:", "random:-1", "random:x", f"random:{1 << 40}"):
        with pytest.raises(InputError, match="random:SEED"):
            create("squeezenet1_1", weights=wrong)


def test_names_and_options_that_do_not_exist(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean vgg1"):
        create("vgg61", weights="random:0")
    with pytest.raises(InputError, match="no layers to cut"):
        create("rootsift", cut="conv1")
    with pytest.raises(InputError, match="rootsift has no weights"):
        create("rootsift", weights=tmp_path / "w.npz")
    with pytest.raises(InputError, match=r"does not take these options.*depth"):
        create("vgg16", weights="random:0", depth=3)
    assert create("rootsift", bin_sizes=[4]).scales == 1


@pytest.mark.slow
def test_published_weights_are_where_torchvision_puts_them(tmp_path, monkeypatch):
    monkeypatch.setenv("DEJAVLAD_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.setenv("DEJAVLAD_MODELS_DIR", str(tmp_path))
    for name, entry in BACKBONES.items():
        if entry.file is None:
            assert (entry.url, entry.path, entry.sha256) == (None, None, None)
            continue
        if entry.wheel is not None:
            assert entry.url is None and entry.source == f"pip install {entry.wheel.package}"
            assert len(entry.sha256) == 8 and entry.file in entry.wheel.file
            continue
        if entry.multiple == 1:
            assert entry.url == f"https://download.pytorch.org/models/{entry.file}"
            assert len(entry.sha256) == 8 and int(entry.sha256, 16) >= 0
        else:  # their publishers give no checksums
            stem = name.removesuffix("_reg")
            file = f"{stem}/{stem}_{'reg4_' if name != stem else ''}pretrain.pth"
            assert entry.url == f"https://dl.fbaipublicfiles.com/dinov2/{file}" and entry.sha256 is None
        assert entry.path == tmp_path / entry.file.rpartition("/")[2]
        assert entry.preprocess in PREPROCESSING and entry.licence and entry.size > 4e6
        with pytest.raises(DownloadError) as caught:
            create(name, offline=True)
        assert entry.url in str(caught.value) and str(entry.path) in str(caught.value)
    assert BACKBONES["vgg16"].sha256 == "397923af"


def test_published_weights_are_fetched_and_loaded(tmp_path, monkeypatch, tensors):
    monkeypatch.setenv("DEJAVLAD_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.setenv("DEJAVLAD_MODELS_DIR", str(tmp_path))
    requests = []

    def fetch(url, path, **how):
        requests.append((url, how["sha256"], how["offline"]))
        return written(path, tensors)

    monkeypatch.setattr(making, "fetch", fetch)
    backbone = create("squeezenet1_1")
    assert requests == [(BACKBONES["squeezenet1_1"].url, "b8a52dc0", False)]
    assert torch.equal(backbone.state_dict()["features.0.weight"], tensors["features.0.weight"])
    monkeypatch.setenv("DEJAVLAD_OFFLINE", "yes")
    create("squeezenet1_1")
    assert requests[-1][2] is True


def real(*parts):
    path = REAL.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"there is no {path} (DEJAVLAD_DATA names the folder of real data)")
    return path


@pytest.mark.slow
def test_real_squeezenet_knows_houses_when_it_sees_them():
    """The classifier's own words are the check that layers, pooling and preprocessing are right."""
    path = real("weights", "squeezenet1_0_imagenet_caffe.npz")
    backbone = create("squeezenet1_0", cut="features.12", weights=path)
    weights = read_weights(path)
    classifier = weights["classifier.1.weight"], weights["classifier.1.bias"]
    for name in ("db12.jpg", "db13.jpg", "db14.jpg"):
        photo = read_image(real("toy", "database", name))
        images = torch.from_numpy(PREPROCESSING["caffe"](photo))[None]
        with torch.inference_mode():
            feat = backbone(images)
            scores = torch.nn.functional.conv2d(feat, *classifier)
        assert feat.shape == (1, 512, *backbone.grid(*photo.shape[:2]))
        assert feat.min() == 0 and 0.1 < feat.mean() < 50
        assert MOBILE_HOME in scores.relu().mean((2, 3))[0].topk(5).indices
