"""Published networks: names and files tell the same; what does not fit is refused."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dejavlad import backbones
from dejavlad.aggregation import create
from dejavlad.convert import import_model
from dejavlad.errors import CheckpointError, DownloadError, InputError
from dejavlad.extraction import extract
from dejavlad.images import Preprocess
from dejavlad.model import (
    PlaceModel,
    load_folder,
    save_model,
)
from dejavlad.model.alone import batch_dependence
from dejavlad.model.published import make, read_vocabulary, recognise, with_vocabulary
from dejavlad.model.published.families import anyloc
from dejavlad.model.published.filling import _is_unused
from dejavlad.model.published.names import PUBLISHED
from dejavlad.photo import PhotoList
from dejavlad.places import PlaceMap
from dejavlad.zoo import (
    list_models,
    load_model,
)
from dejavlad.zoo.released import RELEASED

NAME = "cosplace-resnet18-32"
FAST = ("boq-resnet50", "mixvpr-128", "convap-512", NAME, "cosplace-vgg16-64", "cosplace-resnet101-128")


def theirs(model, name):
    """The tensors of a model, as its publishers name them."""
    parts = PUBLISHED[name].parts()
    return {parts.theirs(key): tensor.clone() for key, tensor in model.state_dict().items()}


@pytest.fixture(scope="module")
def small():
    return load_model(NAME, weights="random:3", device="cpu", resize="64x64")


def photos(n=3):
    return list(np.random.default_rng(4).integers(0, 256, (n, 70, 90, 3), dtype=np.uint8))


def said(model):
    return model.with_preprocess(load_model(NAME, weights="random:0", resize="64x64").preprocess).encode(
        photos()
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_name_and_the_names_of_its_tensors_tell_one_network(name):
    one = PUBLISHED[name]
    parts = one.parts()
    model = make(parts, name=name)
    assert (model.descriptor_size, model.alone) == (one.dims, one.alone)
    tensors = model.state_dict()
    shapes = {parts.theirs(key): value.shape for key, value in tensors.items()}
    assert len(shapes) == len(tensors)
    if parts.whitening is not None:
        shapes["pca.components_"] = tensors["whitening.weight"].shape
    if parts.backbone.name == "dinov2_side" and parts.what == "SelaVPR++":
        shapes |= {"linear1.weight": (), "linear2.weight": (one.dims,), "linear4.weight": (512,)}
        shapes |= {"aggregation.1.p": (), "backbone.adapters_hashing.0.x": ()}
        return
    if one.backbone is None:
        assert recognise(shapes).same_network(parts)
        counted = [t for key, t in tensors.items() if not key.endswith(("num_batches_tracked", "mask_token"))]
        millions = sum(t.numel() for t in counted) / 1e6
        assert millions == pytest.approx(one.parameters, rel=0.02)
    assert one.licence and one.code_licence and one.checked and one.url.startswith("https://")


def test_sizes_of_networks_without_a_reference():
    """SelaVPR++ and ImAge have no golden; the numbers of parameters that their papers tell are a check."""
    for name, millions in (
        ("selavprpp-base", 97.9),
        ("selavprpp-large", 331.3),
        ("selavprpp-base-bits", 97.9 - 0.59 - 1.57 + 0.59 + 0.39),
        ("image-vpr", 86.59),
    ):
        model = make(PUBLISHED[name].parts(), name=name)
        size = sum(p.numel() for p in model.parameters()) / 1e6
        assert size == pytest.approx(millions, abs=0.06)


WRAPPINGS = {
    "bare": lambda s: s,
    "module": lambda s: {f"module.{k}": v for k, v in s.items()},
    "lightning": lambda s: {"epoch": 3, "state_dict": s, "hparams": {"lr": 0.1}},
    "model_state_dict": lambda s: {"model_state_dict": {f"module.{k}": v for k, v in s.items()}},
    "model": lambda s: {"model": s},
    "compiled": lambda s: {"state_dict": {f"_orig_mod.{k}": v for k, v in s.items()}},
    "within": lambda s: {f"model.{k}": v for k, v in s.items()},
    "numpy scalars": lambda s: {"state_dict": s, "best": np.float64(0.5), "recalls": np.arange(3.0)},
    "numbers beside": lambda s: {**s, "epoch": 3, "best": np.float32(0.5)},
    "half": lambda s: {k: v.half() if v.is_floating_point() else v for k, v in s.items()},
    "bfloat16": lambda s: {k: v.bfloat16() if v.is_floating_point() else v for k, v in s.items()},
    "double": lambda s: {k: v.double() if v.is_floating_point() else v for k, v in s.items()},
}


@pytest.mark.slow
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_whatever_wraps_the_tensors(small, tmp_path, wrapping):
    path = tmp_path / "weights.bin"
    torch.save(WRAPPINGS[wrapping](theirs(small, NAME)), path)
    rough = {"half": 5e-3, "bfloat16": 5e-2}.get(wrapping, 0)
    for model in (load_model(NAME, weights=path, device="cpu"), import_model(path)):
        assert all(p.dtype == torch.float32 for p in model.parameters())
        np.testing.assert_allclose(said(model), said(small), atol=rough)


@pytest.mark.parametrize("ending", [".safetensors", ".npz", ".dat"])
def test_other_kinds_of_file_by_content(small, tmp_path, ending):
    path, tensors = tmp_path / f"w{ending}", theirs(small, NAME)
    if ending == ".npz":
        np.savez(path, **{k: v.numpy() for k, v in tensors.items()})
    else:
        save_file(tensors, path)
    assert (
        load_model(NAME, weights=str(path), device="cpu").fingerprint
        == small.with_preprocess(PUBLISHED[NAME].parts().preprocess).fingerprint
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", FAST)
def test_random_weights_save_and_open_again(tmp_path, name):
    model = load_model(name, weights="random:2", device="cpu")
    again = load_model(name, weights="random:2", device="cpu")
    assert model.fingerprint == again.fingerprint
    assert load_folder(save_model(model, tmp_path / "m")).fingerprint == model.fingerprint
    torch.save(theirs(model, name), tmp_path / "w.pth")
    assert load_model(name, weights=tmp_path / "w.pth", device="cpu").fingerprint == model.fingerprint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s | {"extra": torch.ones(2)}, "missing nothing; left over are extra"),
        (
            lambda s: {k: v for k, v in s.items() if k != "backbone.0.weight"},
            "missing backbone.0.weight; left",
        ),
        (lambda s: {k: v for k, v in s.items() if k != "aggregation.3.weight"}, "no network that is known"),
        (lambda s: s | {"aggregation.1.p": torch.tensor([-1.0])}, "GeM needs a positive exponent"),
        (lambda s: s | {"aggregation.3.bias": torch.full((32,), torch.nan)}, "aggregation.3.bias holds NaN"),
        (lambda s: s | {"aggregation.3.bias": torch.ones(31)}, r"aggregation.3.bias is torch.float32 \[31\]"),
        (lambda s: s | {"aggregation.3.bias": torch.ones(32, dtype=torch.int)}, "is torch.int32"),
        (lambda s: {k: v for k, v in s.items() if not k.startswith("backbone.7")}, "holds another network"),
    ],
)
def test_one_tensor_more_or_less(small, tmp_path, change, message):
    path = tmp_path / "w.pth"
    torch.save(change(theirs(small, NAME)), path)
    with pytest.raises(CheckpointError, match=message) as error:
        load_model(NAME, weights=path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_files_of_other_networks_cut_and_missing_ones(small, tmp_path):
    path = tmp_path / "w.pth"
    torch.save(theirs(small, NAME), path)
    with pytest.raises(
        CheckpointError, match=r"is not megaloc: it holds another network, CosPlace: resnet18"
    ):
        load_model("megaloc", weights=path)
    with pytest.raises(CheckpointError, match=r"not the vocabulary of anyloc-urban.*aggregation\.1\.p"):
        load_model("anyloc-urban", weights=path, offline=True)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(CheckpointError, match="damaged, or cut short"):
        load_model(NAME, weights=path)
    with pytest.raises(CheckpointError, match="there are no weights at"):
        load_model(NAME, weights=tmp_path / "none.pth")
    with pytest.raises(InputError, match="leave --input out"):
        load_model(NAME, weights="random:0", input="caffe")


def test_where_only_a_drive_has_it(tmp_path, monkeypatch):
    monkeypatch.setenv("DEJAVLAD_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.setenv("DEJAVLAD_MODELS_DIR", str(tmp_path))
    for name in ("mixvpr-4096", "cliquemining", "supervlad", "apgem"):
        with pytest.raises(DownloadError) as error:
            load_model(name)
        text = str(error.value)
        assert RELEASED[name].url in text and str(RELEASED[name].path) in text and "--weights FILE" in text


@pytest.mark.slow
def test_a_file_put_in_its_place_is_found(small, tmp_path, monkeypatch):
    monkeypatch.setenv("DEJAVLAD_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.setenv("DEJAVLAD_MODELS_DIR", str(tmp_path))
    torch.save(theirs(small, NAME), RELEASED[NAME].path)
    entry = next(one for one in list_models() if one.name == NAME)
    assert entry.here
    assert load_model(NAME, device="cpu", offline=True).provenance["licence"] == RELEASED[NAME].licence


@pytest.mark.slow
def test_the_list_tells_what_matters():
    entries = {one.name: one for one in list_models()}
    assert {*PUBLISHED, "sfrs", "dinov2-vits14-vlad"} <= entries.keys()
    json.dumps([one.to_dict() for one in entries.values()], allow_nan=False)
    assert [name for name, one in entries.items() if one.batch_dependent] == [
        "supervlad-crossimage",
        "cricavpr",
    ]
    assert entries["mixvpr-4096"].by_hand and not entries["megaloc"].by_hand
    assert "multiples of 14" in entries["megaloc"].input and "GPL" in entries["salad"].licence
    assert RELEASED["selavprpp-base-bits"].path == RELEASED["selavprpp-base-rerank"].path


def test_one_file_of_selavprs_two_descriptors(tmp_path):
    """In small: the names of both streams, each used by one descriptor and left aside by the other."""
    parts = {name: PUBLISHED[f"selavprpp-base-{name}"].parts() for name in ("rerank", "bits")}
    names = {
        name: [parts[name].theirs(k) for k in make(parts[name], name=name).state_dict()] for name in parts
    }
    shared = set(names["rerank"]) & set(names["bits"])
    assert all(key.startswith("backbone.") and "adapters" not in key for key in shared)
    for name, other in (("rerank", "bits"), ("bits", "rerank")):
        assert all(_is_unused(key, parts[name]) for key in set(names[other]) - shared)
        assert not any(
            _is_unused(key, parts[name])
            for key in names[name]
            if not key.endswith("mask_token") and not key.endswith("num_batches_tracked")
        )


def tiny_across(**options):
    """A batch-dependent model that is small."""

    class Patches(torch.nn.Module):
        channels, stride = 32, 16

        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.conv = torch.nn.Conv2d(3, 32, 16, 16)

        def forward(self, images):
            return self.conv(images)

    torch.manual_seed(0)
    layer = create("supervlad", 32, **options)
    return PlaceModel(Patches(), layer, Preprocess("48x64"), name="tiny", fitted=True).eval()


def test_does_a_descriptor_depend_on_its_batch():
    assert all(row.ok and row.cosine > 0.9999 for row in batch_dependence(tiny_across()))
    comparisons = batch_dependence(tiny_across(cross_image=True))
    assert not any(row.ok for row in comparisons) and max(row.difference for row in comparisons) > 1e-3


def test_batch_dependent_models_are_named_and_refused_for_maps(tmp_path):
    model, listed = tiny_across(cross_image=True), PhotoList.of(photos(4))
    with pytest.raises(InputError, match=r"batch-dependent.*--batch-dependent"):
        PlaceMap.build(model, listed, tmp_path / "map")
    apart = extract(model, listed, tmp_path / "apart", batch_size=4)
    assert apart.manifest.setting.model == "tiny (batch-dependent, one photo at a time)"
    np.testing.assert_allclose(apart.rows, model.encode(photos(4), batch_size=1), atol=1e-6)
    model.together = True
    beside_each_other = extract(model, listed, tmp_path / "together", batch_size=4)
    assert beside_each_other.manifest.setting.model == "tiny (batch-dependent)"
    assert np.abs(beside_each_other.rows - apart.rows).max() > 1e-3
    assert model.with_dims(8).together


@pytest.mark.slow
def test_fixed_sizes_and_too_few_patches_are_told():
    mixed = load_model("mixvpr-128", weights="random:0", device="cpu", resize="longest:320")
    with pytest.raises(InputError, match=r"320x320 pixels only \(20x20 cells\); these have 16x20"):
        mixed.encode(photos()[:1])
    body = backbones.create("dinov2_vits14", cut="blocks.0", weights="random:0", leading=1)
    for resize, message in (
        ("70x70", r"25 cells of 14x14.*at least 33, e\.g\. photos of 84x84"),
        ("84x84", None),
    ):
        model = PlaceModel(body, create("salad", 384, clusters=32), Preprocess(resize), fitted=True)
        if message:
            with pytest.raises(InputError, match=message):
                model.encode(photos()[:1])
        else:
            assert np.isfinite(model.encode(photos()[:1])).all()
    with pytest.raises(InputError, match="salad takes the class token before the patches"):
        PlaceModel(
            backbones.create("dinov2_vits14", cut="blocks.0", weights="random:0"),
            create("salad", 384),
            Preprocess(),
        )


def test_a_head_of_no_training_does_not_describe():
    model = load_model("dinov2_vits14@blocks.0-salad", weights="random:0", device="cpu", resize="126x126")
    with pytest.raises(InputError, match=r"'salad' of model .* is a network that must be trained first"):
        model.encode(photos()[:1])


@pytest.mark.slow
def test_a_vocabulary_and_a_backbone_in_files_of_their_own(tmp_path):
    """AnyLoc's way, with the smallest DINOv2: one tensor without a name, and DINOv2's own file."""
    body = backbones.create("dinov2_vits14", weights="random:1").state_dict()
    centres = torch.randn(5, 384, generator=torch.Generator().manual_seed(0))
    torch.save(centres, tmp_path / "c_centers.pt")
    torch.save(body, tmp_path / "dinov2.pth")
    shapes = {f"dino.{key}": tensor.shape for key, tensor in body.items()} | {"c_centers": centres.shape}
    parts = anyloc(shapes, block=2)
    vocabulary = read_vocabulary(tmp_path / "c_centers.pt", name="anyloc-small")
    model = with_vocabulary(parts, vocabulary, tmp_path / "dinov2.pth", name="anyloc-small")
    assert torch.equal(model.aggregation.centroids, centres) and len(model.backbone.blocks) == 3
    assert model.preprocess.output_size(2048, 1024) == (1022, 504)
    assert np.isfinite(model.with_preprocess(Preprocess(multiple=14)).encode(photos()[:1])).all()
    torch.save({"a": centres, "b": centres}, tmp_path / "c_centers.pt")
    with pytest.raises(CheckpointError, match="holds a, b, and not one vocabulary"):
        read_vocabulary(tmp_path / "c_centers.pt", name="anyloc-small")
    torch.save({key: tensor for key, tensor in body.items() if key != "cls_token"}, tmp_path / "dinov2.pth")
    with pytest.raises(CheckpointError, match=r"not what anyloc-small needs.*missing dino.cls_token"):
        with_vocabulary(parts, centres, tmp_path / "dinov2.pth", name="anyloc-small")
