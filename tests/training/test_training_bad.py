"""What can go wrong: said in one line, and nothing that was reached is lost."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from dejavlad.aggregation import MaxPool
from dejavlad.errors import CheckpointError, DivergedError, InputError, StoreError
from dejavlad.ground_truth import PlaceDataset
from dejavlad.images import Preprocess
from dejavlad.model import (
    PlaceModel,
    load_folder,
    tensors,
)
from dejavlad.model.run_folder import is_run
from dejavlad.photo import PhotoList
from dejavlad.training import Run, TrainConfig, initial_model, train, trainer
from dejavlad.training.run.initial_model import prepare
from dejavlad.training.run.state import (
    STATE,
    State,
)
from dejavlad.training.steps.network import Network
from dejavlad.zoo import load_model


def on_disk(town, folder, make_photo, size=None):
    """The town's photos as files; those of every other place smaller, if asked for."""
    parts = []
    for photos in (town.database, town.queries):
        for photo in photos:
            pixels = photo.pixels
            if size and int(photo.name.split("-")[0]) % 2:
                pixels = np.ascontiguousarray(pixels[: size[0], : size[1]])
            make_photo(folder / f"{photo.name}.png", pixels)
        parts += [
            [f"{photo.name}.png" for photo in photos],
            np.array([[photo.position.east, photo.position.north] for photo in photos]),
        ]
    return PlaceDataset.from_arrays(*parts, root=folder, name="files")


@pytest.mark.slow
def test_mixed_sizes_are_learnt_from(config, make_model, town, make_photo, tmp_path):
    files = on_disk(town, tmp_path / "photos", make_photo, size=(36, 48))
    for at_once in (64, 3):
        run = train(
            replace(config, photos_at_once=at_once), make_model(), files, None, tmp_path / str(at_once)
        )
        assert run.finished and all(run.losses)
    one, other = (Run(tmp_path / name).losses for name in ("64", "3"))
    np.testing.assert_allclose(one, other, rtol=1e-3)


def test_queries_without_positives_are_passed_over(config, make_model, make_town, out):
    town = make_town()
    far = [
        *np.array([(100.0 * place, 0.0) for place in range(5)]),
        *np.array([(5000.0, 0.0), (100.0, 50.0), (np.nan, np.nan)]),
    ]
    lonely = PlaceDataset.from_arrays(
        [photo.name for photo in town.database],
        np.array([(p.position.east, p.position.north) for p in town.database]),
        [photo.name for photo in town.queries],
        np.array(far),
        images=[photo.pixels for photo in town.database],
        query_images=[photo.pixels for photo in town.queries],
    )
    run = train(config, make_model(), lonely, None, out)
    tuples = [one["tuples"] for one in run.records if one["kind"] == "batch"]
    assert sum(tuples) == 2 * 5


def test_places_without_negatives_are_refused_and_a_query_without_them_is_passed_over(
    config, make_model, make_town, out
):
    with pytest.raises(InputError, match="there are no negatives"):
        train(config, make_model(), make_town(1), None, out)
    run = train(replace(config, negative_radius=690.0), make_model(), make_town(), None, out)
    assert run.finished  # only the outermost places have negatives


def test_fewer_photos_than_clusters(config, make_model, make_view, out):
    tiny = PlaceDataset.from_arrays(
        ["a", "b"],
        np.array([(2.0, 0.0), (90.0, 0.0)]),
        ["q"],
        np.zeros((1, 2)),
        images=[make_view(0, 4, 40, 56), make_view(1, 4, 40, 56)],
        query_images=[make_view(0, 0, 40, 56)],
    )
    run = train(replace(config, margin=2.0), make_model("netvlad", clusters=64), tiny, None, out)
    assert run.finished and load_folder(run.model("latest")).aggregation.clusters == 64
    few = PlaceModel(make_model().backbone, make_model("netvlad", clusters=999).aggregation, Preprocess())
    prepared = prepare(few, config, tiny)
    assert prepared.fitted and prepared.aggregation.clusters < 999


@pytest.mark.slow
def test_a_photo_that_fails_in_mid_epoch(config, make_model, town, make_photo, tmp_path):
    files = on_disk(town, tmp_path / "photos", make_photo)
    broken = {}

    def break_one(record):
        if record["kind"] == "batch" and record["epoch"] == 1 and record["batch"] == 1 and not broken:
            broken.update(database="3-1.png", query="5-query.png")
            for name in broken.values():
                (tmp_path / "photos" / name).write_bytes(b"no photo")

    run = train(
        replace(config, negatives="all"), make_model(), files, None, tmp_path / "run", on_record=break_one
    )
    reasons = {one["key"]: one for one in run.records if one["kind"] == "photo"}
    assert set(reasons) == set(broken.values())
    assert all("cannot" in one["reason"] or one["reason"] for one in reasons.values())
    assert run.finished and len(run.losses) == 8
    assert set(State.load(run.path).failed) == {5, 8 + 10}
    last = [one for one in run.records if one["kind"] == "batch"][-4:]
    assert sum(one["tuples"] for one in last) == 7
    again = train(replace(config, negatives="all", epochs=3), None, files, None, tmp_path / "run")
    assert again.finished


@pytest.mark.slow
def test_a_validation_photo_that_cannot_be_read(config, make_model, town, town_val, make_photo, tmp_path):
    """It is told of, and neither a positive nor a negative of the ranking loss."""
    files = on_disk(town_val, tmp_path / "photos", make_photo)
    gone = files.database[0].path
    gone.write_bytes(gone.read_bytes()[:200])  # its size can be read, its pixels cannot
    records, alike = [], replace(config, negatives="all")
    run = train(alike, make_model(), town, files, tmp_path / "run", on_record=records.append)
    assert {one["key"] for one in records if one["kind"] == "photo"} == {files.database[0].key}
    rest = PlaceDataset(files.name, files.database[1:], files.queries)
    without = train(alike, make_model(), town, rest, tmp_path / "without")
    assert run.rank_losses() == pytest.approx(without.rank_losses(), rel=1e-6)


def test_a_validation_set_of_which_nothing_tells_what_is_right(config, make_model, town, town_val, out):
    unknown = PlaceDataset(
        "unknown",
        *(
            PhotoList(replace(photo, position=None) for photo in photos)
            for photos in (town_val.database, town_val.queries)
        ),
    )
    with pytest.raises(InputError):
        train(replace(config, test_before=False), make_model(), town, unknown, out)
    assert not is_run(out)
    train(replace(config, epochs=1), make_model(), town, town_val, out)


def test_queries_that_do_not_fill_a_batch(config, make_model, town, out):
    few = replace(config, batch_size=9, quirk_drop_remainder=True)
    with pytest.raises(InputError, match="8 queries do not fill a batch of 9"):
        train(few, make_model(), town, None, out)
    assert not is_run(out)


def test_frozen_batch_norms_keep_their_statistics():
    model = load_model("resnet18-netvlad", weights="random:0", device="cpu")
    config = TrainConfig(batch_norm="learnt", fixed_layers=("layer1",), photos_at_once=100)
    network = Network(model, config)
    with network.learning([1]):
        inside = {
            name: module.training
            for name, module in model.backbone.named_modules()
            if isinstance(module, nn.BatchNorm2d)
        }
    assert {name for name, learns in inside.items() if not learns} == {n for n in inside if "layer1" in n}
    assert any(inside.values())


def test_no_readable_photo(config, make_model, town, make_photo, tmp_path):
    files = on_disk(town, tmp_path / "photos", make_photo)
    for photo in files.queries:
        photo.path.write_bytes(b"no photo")
    with pytest.raises(InputError, match="no photo of the queries can be read"):
        train(config, make_model(), files, None, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("where", ["state", "descriptors", "model"])
def test_a_full_disk(where, config, make_model, town, tmp_path, monkeypatch):
    module, name, of = {
        "state": (tensors, "save_file", STATE),
        "model": (tensors, "save_file", "weights.safetensors"),
        "descriptors": (os, "replace", "descriptors"),
    }[where]
    whole = train(config, make_model(), town, None, tmp_path / "whole")
    out = tmp_path / "run"
    original, calls = getattr(module, name), []

    def full(*given, **options):
        calls.extend(1 for one in given if isinstance(one, Path) and one.name.startswith(of))
        if len(calls) >= 4:
            raise (
                SafetensorError("No space left")
                if module is tensors
                else OSError(errno.ENOSPC, "No space left")
            )
        return original(*given, **options)

    monkeypatch.setattr(module, name, full)
    with pytest.raises(StoreError, match="No space left"):
        train(config, make_model(), town, None, out)
    monkeypatch.undo()
    assert not [*out.rglob("*.partial"), *out.rglob(".tmp*")]
    train(config, None, town, None, out)
    assert (out / STATE).read_bytes() == (whole.path / STATE).read_bytes()


class Breaking(nn.Module):
    """A backbone that once, at its fourth forward with gradient, makes infinity."""

    channels = 6
    batches = 0

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 5, stride=4)

    def forward(self, images_NCHW):
        features_NCHW = self.conv(images_NCHW)
        if torch.is_grad_enabled():
            Breaking.batches += 1
            if Breaking.batches == 4:
                features_NCHW = features_NCHW / torch.zeros(1)
        return features_NCHW


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(config, town, out):
    torch.manual_seed(0)
    model = PlaceModel(Breaking(), MaxPool(6), Preprocess())
    with pytest.raises(
        DivergedError,
        match=r"in epoch 1, batch 4 of 4 .* is not finite\. .*run@latest is sound.*learning_rate=0\.001",
    ):
        train(config, model, town, None, out)
    state = State.load(out)
    assert (state.epoch, state.batch) == (1, 2)  # before the last step that is known to be sound
    assert all(torch.isfinite(tensor).all() for tensor in state.tensors.values())
    assert len(Run(out).losses) == 3
    run = train(replace(config, learning_rate=1e-3), model, town, None, out)
    assert len(run.losses) == 8 and np.isfinite(run.losses).all()


def test_weights_that_overflow_stop_it_too(config, make_model, town, out):
    with pytest.raises(DivergedError, match="not finite"):
        train(replace(config, learning_rate=1e38, momentum=0.0), make_model(), town, None, out)
    assert all(torch.isfinite(tensor).all() for tensor in State.load(out).tensors.values())


def test_a_folder_that_is_no_run(config, make_model, town, tmp_path):
    (tmp_path / "diary.txt").write_text("mine")
    with pytest.raises(InputError, match="is there and is no training run"):
        train(config, make_model(), town, None, tmp_path)
    with pytest.raises(InputError, match="is no training run"):
        Run(tmp_path)


def test_a_damaged_state(config, make_model, town, out):
    train(config, make_model(), town, None, out)
    (out / STATE).write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"state\.safetensors' cannot be read"):
        train(replace(config, epochs=3), None, town, None, out)


def test_nothing_that_learns(config, make_model, town, out):
    with pytest.raises(InputError, match="nothing left that learns"):
        train(replace(config, fixed_layers=("conv1", "conv2", "conv3")), make_model(), town, None, out)


def test_the_pooling_becomes_that_of_the_options(config, make_model, make_town):
    town = make_town()
    model = make_model("avg")
    fitted = prepare(model, replace(config, method="vladv2_preL2"), town)
    assert fitted.fitted and fitted.aggregation.options["version"] == 2
    assert not fitted.aggregation.options["intra_norm"]
    assert prepare(fitted, replace(config, method="max"), town).aggregation.name == "max"
    pooled = fitted
    for method in ("max", "max_preL2", "max"):
        pooled = prepare(pooled, replace(config, method=method), town)
        assert pooled.aggregation.options.get("normalize_input", False) == ("preL2" in method)
    again = prepare(fitted, replace(config, method="vladv2_preL2"), town)
    assert again.fingerprint == fitted.fingerprint
    first = prepare(model, replace(config, method="vlad_preL2_intra", parity=True), town)
    assert first.fitted


def test_where_a_model_comes_from():
    with pytest.raises(InputError, match="weights of caffenet must be given: --init FILE"):
        initial_model(TrainConfig(network="caffenet"))


def test_a_step_needs_its_photos_together_for_batch_norms():
    with pytest.raises(InputError, match="set photos_at_once to 48 at least; given 10"):
        TrainConfig(batch_norm="learnt", photos_at_once=10)


def test_library_says_nothing(config, make_model, town, out, capsys):
    train(config, make_model(), town, None, out)
    assert capsys.readouterr() == ("", "")
    assert trainer.TRAINING == "training"
