"""Published networks go on learning: which parts do, that resuming is exact, and what is written."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from dejavlad import aggregation, backbones
from dejavlad.backbones import sizes
from dejavlad.errors import InputError
from dejavlad.images import Preprocess
from dejavlad.model import PlaceModel, load_folder
from dejavlad.model.spec import BackboneSpec
from dejavlad.training import TrainConfig, load_recipe, train
from dejavlad.training.config.trainable import parse_trainable
from dejavlad.training.steps.network import Network
from dejavlad.training.steps.trainable import merged


@pytest.fixture
def tiny(monkeypatch):
    """A DINOv2 of 2 blocks and 64 channels under SALAD's, MegaLoc's or another head."""
    monkeypatch.setitem(sizes.VARIANTS, "s", sizes.Variant(64, 2))

    def make(pooling="netvlad", **options):
        leading = {"leading": 1} if pooling in ("salad", "megaloc") else {}
        backbone = backbones.create("dinov2_vits14", cut="norm", weights="random:1", **leading)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            layer = aggregation.create(pooling, 64, **options)
        source = BackboneSpec("dinov2_vits14", "norm", leading)
        model = PlaceModel(
            backbone, layer, Preprocess(resize="42x56"), name="tiny", source=source, fitted=True
        )
        return model.eval()

    return make


def places(**options):
    small = TrainConfig(
        method="given", mining="places", loss="multi_similarity", batch_size=3, photos_per_place=3, epochs=2,
        learning_rate=1e-3, optimizer="adamw", save_every=3, recall_at=(1,), describe_batch=4, workers=0,
    )  # fmt: skip
    return replace(small, **options)


def tensors_of(folder):
    return load_file(folder / "weights.safetensors")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("head", ("head", 0)),
        ("blocks:4", ("blocks", 4)),
        ("adapters", ("adapters", 8)),
        ("adapters:2", ("adapters", 2)),
    ],
)
def test_what_learns_is_read(text, expected):
    assert parse_trainable(text) == expected


@pytest.mark.parametrize("text", ["heads", "blocks", "blocks:0", "adapters:x", "all:1"])
def test_what_cannot_learn_is_refused(text):
    with pytest.raises(InputError, match="trainable is head"):
        TrainConfig(trainable=text)


def test_not_by_two_rules(tiny, make_model):
    with pytest.raises(InputError, match="not both"):
        TrainConfig(trainable="head", train_from="conv2")
    with pytest.raises(InputError, match="has 2 blocks"):
        Network(tiny("gem"), places(trainable="blocks:3"))
    with pytest.raises(InputError, match="networks with blocks"):
        Network(make_model("gem"), places(trainable="adapters"))


def test_a_new_adapter_changes_nothing_and_merging_is_what_it_computes(tiny):
    model, images = tiny("gem"), torch.rand(2, 3, 42, 56)
    before = model.backbone(images).detach().clone()
    names = set(model.state_dict())
    network = Network(model, places(trainable="adapters:2"))
    assert torch.equal(model.backbone(images), before)
    learnt = {name.rsplit(".", 1)[-1] for name in network.learnt if name.startswith("backbone")}
    assert learnt == {"up", "down"} and sum("down" in name for name in network.learnt) == 4
    for name, parameter in network.learnt.items():
        if name.endswith("up"):
            torch.nn.init.normal_(parameter)
    after = model.backbone(images).detach()
    whole = merged(model)
    assert set(whole.state_dict()) == names and not torch.allclose(after, before)
    torch.testing.assert_close(whole.backbone(images).detach(), after)


@pytest.mark.parametrize("trainable", ["head", "blocks:1", "adapters:2", "all"])
def test_the_parts_that_learn_and_no_others(tiny, town, out, trainable):
    model = tiny("salad", clusters=2, cluster_dim=4, token_dim=4)
    run = train(places(trainable=trainable, epochs=1), model, town, None, out)
    before, after = (tensors_of(run.path / "epochs" / name) for name in ("000", "001"))
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    body = {name for name in changed if name.startswith("backbone")}
    assert any(name.startswith("aggregation") for name in changed)
    if trainable == "head":
        assert not body
    elif trainable == "blocks:1":
        assert body and all(name.startswith(("backbone.blocks.1.", "backbone.norm.")) for name in body)
    elif trainable == "adapters:2":
        wanted = {f"backbone.blocks.{i}.attn.{part}.weight" for i in (0, 1) for part in ("qkv", "proj")}
        assert body == wanted
        for name in wanted:
            assert torch.linalg.matrix_rank(after[name].double() - before[name].double(), rtol=1e-3) <= 2
    else:
        assert {"backbone.cls_token", "backbone.blocks.0.attn.qkv.bias"} <= body
    assert load_folder(run.path / "epochs" / "001").descriptor_size == model.descriptor_size


@pytest.mark.slow
@pytest.mark.parametrize("trainable", ["blocks:1", "adapters"])
@pytest.mark.parametrize("tuples", [False, True])
def test_a_run_that_was_cut_off_ends_with_the_same_weights(tiny, town, config, out, trainable, tuples):
    options = replace(config, trainable=trainable) if tuples else places(trainable=trainable)
    pooling = {"pooling": "salad", "clusters": 2, "cluster_dim": 4, "token_dim": 4}
    whole = train(options, tiny(**pooling), town, None, out / "whole")

    def cut(record):
        if record["kind"] == "batch" and (record["epoch"], record["batch"]) == (2, 1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(options, tiny(**pooling), town, None, out / "cut", on_record=cut)
    again = train(options, None, town, None, out / "cut")
    files = [run.path / "epochs" / "002" / "weights.safetensors" for run in (whole, again)]
    assert len({hashlib.sha256(file.read_bytes()).hexdigest() for file in files}) == 1


def test_recipes_for_published_models():
    recipe = load_recipe("finetune-places")
    assert (recipe.method, recipe.trainable, recipe.train_from) == ("given", "head", "")
    assert load_recipe("finetune-tuples").mining == "all"
    best = load_recipe("dinov2b-netvlad")
    assert (best.network, best.trainable, best.method) == ("dinov2_vitb14", "blocks:4", "vlad_preL2_intra")
