"""Frozen layers computed once: the same losses, within a budget, and made anew where something changed."""

import copy
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dejavlad import aggregation
from dejavlad.errors import InputError, StoreError
from dejavlad.images import Preprocess
from dejavlad.model import PlaceModel, load_folder
from dejavlad.training import (
    Run,
    train,
)
from dejavlad.training.context import RunContext
from dejavlad.training.data import frozen_maps
from dejavlad.training.data.frozen_layout import dequantize, quantize
from dejavlad.training.data.frozen_maps import (
    MappedMaps,
    check_frozen_maps,
    plan_frozen_maps,
)
from dejavlad.training.data.photo_pool import PhotoPool
from dejavlad.training.steps.network import Network


@pytest.fixture
def frozen(config):
    return replace(config, train_from="conv3", epochs=3)


def maps_record(run, of="train"):
    return next(one for one in run.records if one["kind"] == "frozen maps" and one["set"] == of)


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["max", "netvlad"])
def test_losses_are_those_without(pooling, frozen, make_model, town, town_val, tmp_path):
    model = make_model(pooling, **({"clusters": 4} if pooling == "netvlad" else {}))
    frozen = replace(frozen, margin=1.5, learning_rate=1e-3)
    runs = {}
    for where, dtype in (
        ("off", "float32"),
        ("memory", "float32"),
        ("disk", "float32"),
        ("auto", "float32"),
        ("memory", "float16"),
        ("memory", "int16"),
        ("disk", "int16"),
    ):
        config = replace(frozen, frozen_maps=where, frozen_maps_dtype=dtype)
        out = tmp_path / f"{where}-{dtype}"
        runs[where, dtype] = train(config, model, town, town_val, out)
    expected = np.array(runs["off", "float32"].losses)
    assert len(expected) == 12 and expected.all()
    for (where, dtype), run in runs.items():
        # With float16 a photo's descriptor is off by 3e-4, and in a hinge two distances cancel.
        tolerance = {"float32": 1e-6, "int16": 1e-3, "float16": 1e-3 if pooling == "max" else 5e-3}
        np.testing.assert_allclose(run.losses, expected, rtol=tolerance[dtype])
        assert maps_record(run)["kept"] == (where != "off") == maps_record(run, "val")["kept"]
    assert "in memory" in maps_record(runs["auto", "float32"])["why"]
    assert "on disk" in maps_record(runs["disk", "float32"])["why"]
    recalls = [run.recalls() for (_, dtype), run in runs.items() if dtype == "float32"]
    assert all(one == recalls[0] for one in recalls)


def test_int16_is_closer_than_float16(frozen, make_model, town):
    model = make_model("netvlad", clusters=4)
    network, pool = Network(model, frozen), PhotoPool(town, model.preprocess)
    numbers = np.arange(8)
    kept = {}
    for dtype in ("float32", "float16", "int16"):
        maps, _ = plan_frozen_maps(network, pool, replace(frozen, frozen_maps_dtype=dtype), Path(), 1e9)
        maps.fill(network, pool, RunContext(frozen))
        kept[dtype] = maps.get(numbers).double()
    with pytest.raises(InputError, match="not finite"):
        maps.put(numbers, torch.full_like(maps.get(numbers), torch.inf))
    off = {dtype: float((kept[dtype] - kept["float32"]).norm()) for dtype in ("float16", "int16")}
    assert 0 < off["int16"] < 0.2 * off["float16"]


@pytest.mark.parametrize("shape", [(3, 5, 7), (1, 1, 1), (4, 1, 2)])
def test_steps_are_even_and_reach_both_ends(shape):
    map_Chw = np.random.default_rng(1).normal(0, 1e5, shape).astype(np.float32)
    map_Chw[0] = 3.25
    kept = quantize(map_Chw)
    assert kept.dtype == np.uint16 and len(kept) == shape[0] * (shape[1] * shape[2] + 4)
    restored = dequantize(kept, shape)
    size = np.ptp(map_Chw, axis=(1, 2)) / 65535
    assert (np.abs(restored - map_Chw) <= 0.51 * size[:, None, None] + 1e-7 * np.abs(map_Chw)).all()
    assert (restored[0] == 3.25).all()
    for of in (np.min, np.max):
        np.testing.assert_allclose(of(restored, axis=(1, 2)), of(map_Chw, axis=(1, 2)), rtol=1e-6)


def test_every_photo_passes_the_frozen_layers_once(frozen, make_model, town, out, monkeypatch):
    seen = []
    original = Network.features
    monkeypatch.setattr(
        Network, "features", lambda self, images: seen.append(len(images)) or original(self, images)
    )
    train(replace(frozen, frozen_maps="memory"), make_model(), town, None, out)
    assert sum(seen) == 1 + 8 + 24  # one to learn their shape, and every photo


@pytest.mark.slow
def test_a_run_that_goes_on_finds_its_maps_on_disk(frozen, make_model, town, out, monkeypatch):
    config = replace(frozen, frozen_maps="disk")
    train(config, make_model(), town, None, out)
    seen = []
    original = Network.features
    monkeypatch.setattr(
        Network, "features", lambda self, images: seen.append(len(images)) or original(self, images)
    )
    train(replace(config, epochs=4), None, town, None, out)
    assert sum(seen) == 1
    shutil.rmtree(out / "cache")
    train(replace(config, epochs=5), None, town, None, out)
    assert sum(seen) == 1 + 1 + 8 + 24


def test_jitter_leaves_them_to_mining(frozen, make_model, town, out):
    run = train(replace(frozen, jitter_flip=True), make_model(), town, None, out)
    assert maps_record(run)["serves"] == "mining only"


def test_the_budget_is_checked_before(frozen, config, make_model, town, tmp_path, monkeypatch):
    network, pool = Network(make_model(), frozen), PhotoPool(town, make_model().preprocess)
    layout = frozen_maps.Layout.of(network, pool, "float32")
    assert layout.n_bytes == 32 * 8 * 7 * 11 * 4
    assert frozen_maps.Layout.of(network, pool, "float16").n_bytes * 2 == layout.n_bytes
    assert frozen_maps.Layout.of(network, pool, "int16").n_bytes == 32 * 8 * (7 * 11 * 2 + 8)

    kept, why = plan_frozen_maps(network, pool, frozen, tmp_path, layout.n_bytes)
    assert kept is not None and not isinstance(kept, MappedMaps) and "in memory" in why
    kept, why = plan_frozen_maps(network, pool, frozen, tmp_path, layout.n_bytes - 1)
    assert isinstance(kept, MappedMaps) and "on disk" in why
    shutil.rmtree(tmp_path / "maps", ignore_errors=True)
    with pytest.raises(InputError, match=r"take 0\.00 GB, more than the 0\.00 GB left of frozen_maps_gb"):
        plan_frozen_maps(network, pool, replace(frozen, frozen_maps="memory"), tmp_path, layout.n_bytes - 1)

    monkeypatch.setattr(frozen_maps, "_room", lambda _: 0.0)
    new = tmp_path / "new"
    assert plan_frozen_maps(network, pool, frozen, new, 0)[0] is None
    with pytest.raises(InputError, match="do not fit"):
        plan_frozen_maps(network, pool, replace(frozen, frozen_maps="disk"), new, 0)
    assert plan_frozen_maps(network, pool, replace(frozen, frozen_maps="off"), new, 1e9)[0] is None
    learns = Network(make_model(), config)
    assert plan_frozen_maps(learns, pool, config, new, 1e9) == (
        None,
        "the first layer learns: there is nothing to keep",
    )
    assert not new.exists()


def test_they_are_made_anew_for_other_weights_or_photos(frozen, make_model, make_town, town, tmp_path):
    def done(model, dataset):
        network, pool = Network(model, frozen), PhotoPool(dataset, model.preprocess)
        kept, _ = plan_frozen_maps(network, pool, replace(frozen, frozen_maps="disk"), tmp_path, 0)
        restored = int(kept.done.sum())
        kept.fill(network, pool, RunContext(frozen))
        return restored

    assert done(make_model(), town) == 0
    assert done(make_model(), town) == 32
    assert done(make_model(seed=1), town) == 0
    assert done(make_model(seed=1), make_town(6)) == 0


def test_a_full_disk_is_told(frozen, make_model, town, out, monkeypatch):
    def full(self, start, kept):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(MappedMaps, "_write", full)
    with pytest.raises(StoreError, match=r"cannot write to .*No space left"):
        train(replace(frozen, frozen_maps="disk"), make_model(), town, None, out)
    monkeypatch.undo()
    assert Run(out).losses == []
    assert train(replace(frozen, frozen_maps="disk"), None, town, None, out).finished


def test_values_beyond_float16_are_refused(frozen, make_model, town, out):
    model = make_model()
    model.backbone.features[0].weight.data *= 1e6
    with pytest.raises(InputError, match="begin another run with frozen_maps_dtype=int16"):
        train(replace(frozen, frozen_maps_dtype="float16"), model, town, None, out)
    config = replace(frozen, frozen_maps_dtype="int16", epochs=1)
    assert all(train(config, model, town, None, out.with_name("other")).losses)


@pytest.mark.slow
def test_mixed_precision_learns_with_them_and_without(frozen, make_model, town, tmp_path):
    mixed = replace(frozen, precision="bf16")
    runs = [
        train(replace(mixed, frozen_maps=where), make_model(), town, None, tmp_path / where)
        for where in ("memory", "off")
    ]
    assert all(runs[0].losses)
    np.testing.assert_allclose(runs[0].losses, runs[1].losses, rtol=1e-6)
    single = train(frozen, make_model(), town, None, tmp_path / "single")
    assert runs[0].losses != single.losses
    np.testing.assert_allclose(runs[0].losses[:2], single.losses[:2], rtol=0.05)


class Strange(nn.Module):
    """A backbone that is no chain of layers."""

    channels = 4

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 5, stride=4), nn.Conv2d(3, 4, 9, stride=4, padding=2)

    def forward(self, images_NCHW):
        return self.first(images_NCHW) + self.second(images_NCHW)


@pytest.mark.slow
def test_any_backbone_is_computed_once_where_all_of_it_is_fixed(config, town, tmp_path):
    torch.manual_seed(1)
    model = PlaceModel(Strange(), aggregation.create("netvlad", 4, clusters=4), Preprocess())
    config = replace(config, margin=1.5, fixed_layers=("backbone",))
    runs = [
        train(replace(config, frozen_maps=where), model, town, None, tmp_path / where)
        for where in ("memory", "off")
    ]
    assert maps_record(runs[0])["kept"] and all(runs[0].losses)
    np.testing.assert_allclose(runs[0].losses, runs[1].losses, rtol=1e-6)
    before, after = (
        load_folder(runs[0].model(which), backbone=Strange()).state_dict() for which in ("epoch:0", "latest")
    )
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"aggregation.centroids", "aggregation.conv.weight"}
    free = Network(copy.deepcopy(model), replace(config, fixed_layers=()))
    assert (len(free.frozen), len(free.trainable)) == (0, 1)


@pytest.mark.parametrize("name", ["maps.bin", "sums.npy"])
def test_a_changed_number_is_told_when_a_map_is_read(name, frozen, make_model, town, tmp_path):
    model = make_model("max")
    network, pool = Network(model, frozen), PhotoPool(town, model.preprocess)

    def kept():
        config = replace(frozen, frozen_maps="disk")
        maps, _ = plan_frozen_maps(network, pool, config, tmp_path / "kept", 1e9)
        maps.fill(network, pool, RunContext(config))
        return maps

    expected = kept().get(np.arange(4))
    torch.testing.assert_close(kept().get(np.arange(4)), expected, rtol=0, atol=0)
    data = bytearray((tmp_path / "kept" / name).read_bytes())
    data[-1] ^= 1
    (tmp_path / "kept" / name).write_bytes(data)
    with pytest.raises(StoreError, match=r"the map of photo \d+ is not what was written; delete"):
        for number in range(len(pool)):
            kept().get([number])


def test_they_are_checked_without_the_network(frozen, make_model, town, tmp_path):
    model = make_model()
    network, pool = Network(model, frozen), PhotoPool(town, model.preprocess)
    kept, _ = plan_frozen_maps(network, pool, replace(frozen, frozen_maps="disk"), tmp_path / "maps", 0)
    kept.fill(network, pool, RunContext(frozen))
    assert check_frozen_maps(tmp_path / "maps") == (len(pool), True)
    del kept
    starts = (tmp_path / "maps" / "starts.npy").read_bytes()
    (tmp_path / "maps" / "starts.npy").unlink()
    assert check_frozen_maps(tmp_path / "maps") == (len(pool), False)  # of an earlier version
    (tmp_path / "maps" / "starts.npy").write_bytes(starts)
    data = bytearray((tmp_path / "maps" / "maps.bin").read_bytes())
    data[-1] ^= 1
    (tmp_path / "maps" / "maps.bin").write_bytes(data)
    with pytest.raises(StoreError, match=f"the map of photo {len(pool) - 1} is not what was written"):
        check_frozen_maps(tmp_path / "maps")
