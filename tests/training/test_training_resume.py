"""A run that is cut off, wherever that is, ends with the same bytes as one that is not."""

import json
import time
import unicodedata
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from dejavlad.aggregation import MaxPool
from dejavlad.errors import InputError, StoreBusyError, StoreError
from dejavlad.ground_truth import PlaceDataset
from dejavlad.guarded.json_file import read_json_object, with_checksum, without_checksum
from dejavlad.images import Preprocess
from dejavlad.model import PlaceModel
from dejavlad.model.run_folder import RUN, epoch_folder
from dejavlad.photo import PhotoList
from dejavlad.training import Run, train
from dejavlad.training.run.open_run import _hash
from dejavlad.training.run.state import STATE, State
from warm_processes import start

VARYING = ("seconds",)


class Cut(Exception):
    """The run is cut off here."""


class Cutter:
    """A callback that raises at its n-th call."""

    def __init__(self, at=None):
        self.at, self.calls = at, 0

    def __call__(self, _):
        self.calls += 1
        if self.calls == self.at:
            raise Cut


def result(out):
    """All that a run came to, without times."""
    run = Run(out)
    records = [{k: v for k, v in one.items() if k not in VARYING} for one in run.records]
    kinds = ("batch", "test", "refresh", "finished")
    weights = {e: (epoch_folder(out, e) / "weights.safetensors").read_bytes() for e in run.epochs}
    return [one for one in records if one["kind"] in kinds], weights, (out / STATE).read_bytes()


def same(one, other):
    assert one[0] == other[0]
    assert one[1] == other[1]
    assert one[2] == other[2]


# batches, tests, refreshes (one within an epoch, but for subcaches), the end
RECORDS = {"subcache": 8 + 3 + 4 + 1, **dict.fromkeys(("places", "classes", "focal"), 8 + 3 + 0 + 1)}
CLASSES = {
    "mining": "classes",
    "loss": "large_margin",
    "optimizer": "adam",
    "place_size": 20.0,
    "group_squares": 2,
    "group_sectors": 1,
    "class_photos": 2,
    "groups": 0,
    "batch_size": 2,
    "steps_per_epoch": 4,
    "learning_rate": 1e-3,
}
"""Two groups, of which each has an epoch."""


def headed(town):
    """Its photos look north and east by turns."""
    lists = [
        PhotoList([replace(photo, heading=90.0 * (i % 2)) for i, photo in enumerate(photos)])
        for photos in (town.database, town.queries)
    ]
    return PlaceDataset(town.name, *lists, town.truth, town.protocol)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["max", "netvlad", "frozen", "adam", "subcache", "places", "augment", "classes", "focal"]
)
def test_cut_off_at_any_report(kind, config, make_model, town, town_val, tmp_path):
    model = make_model()
    if kind == "netvlad":
        model = make_model("netvlad", clusters=4)
        config = replace(config, margin=1.5)
    elif kind == "frozen":
        config = replace(config, train_from="conv3", frozen_maps="disk")
    elif kind == "adam":
        config = replace(config, optimizer="adam", loss="plain", jitter_flip=True, jitter_scales=(1.0, 0.9))
    elif kind == "subcache":
        config = replace(config, mining="subcache", cached_queries=4, cached_negatives=12, loss="plain")
    elif kind == "places":
        places = {"mining": "places", "loss": "multi_similarity", "lr_schedule": "linear", "lr_warmup": 3}
        config = replace(config, **places, optimizer="adamw", photos_per_place=3, learning_rate=1e-4)
        config = replace(config, photos_at_once=4)
    elif kind == "classes":
        config, model = replace(config, **CLASSES), make_model("gem_linear", dims=6)
    elif kind == "focal":
        town = headed(town)
        config = replace(config, **CLASSES, classes="focal", focal_tolerance=180.0, photos_at_once=3)
    elif kind == "augment":
        config = replace(config, augment_crop=0.7, augment_rotate=8.0, augment_colour=0.3, train_from="conv3")
    counter = Cutter()
    whole = tmp_path / "whole"
    train(config, model, town, town_val, whole, on_progress=counter, on_record=counter)
    expected = result(whole)
    assert all(Run(whole).losses)
    assert len(expected[0]) == RECORDS.get(kind, 2 * 4 + 3 * 2 + 4 + 1)
    for at in range(1, counter.calls, 11 if kind in ("max", "subcache") else 23):
        out = tmp_path / str(at)
        for cutter in (Cutter(at), Cutter(at // 2 + 1), Cutter()):
            try:
                train(config, model, town, town_val, out, on_progress=cutter, on_record=cutter)
            except Cut:
                continue
            break
        same(result(out), expected)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tuples", "adam", "subcache", "places", "classes"])
def test_ctrl_c_keeps_every_whole_batch(kind, config, make_model, town, town_val, tmp_path, monkeypatch):
    config = replace(config, save_every=0)
    if kind == "adam":
        config = replace(config, optimizer="adam", loss="plain")
    elif kind == "subcache":
        config = replace(config, mining="subcache", cached_queries=4, cached_negatives=12, loss="plain")
    elif kind == "places":
        places = {"mining": "places", "loss": "multi_similarity", "optimizer": "adamw"}
        config = replace(config, **places, photos_per_place=3, learning_rate=1e-4)
    elif kind == "classes":
        config = replace(config, **CLASSES)
    counter, model = Cutter(), make_model()
    train(config, model, town, town_val, tmp_path / "whole", on_record=counter)
    expected, n = result(tmp_path / "whole"), len(Run(tmp_path / "whole").losses) // 2
    for at in range(1, counter.calls + 1, 1 if kind == "tuples" else 3):
        out = tmp_path / str(at)
        seen = []

        def noted(record, at=at, seen=seen):
            seen.append(record)
            if len(seen) == at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(config, model, town, town_val, out, on_record=noted)
        done = [one["kind"] for one in seen].count("batch") - (seen[-1]["kind"] == "batch")
        state = State.load(out)
        if state is None:
            assert not done
        else:  # at an epoch's end as the first batch of the next, or the last of it
            assert (state.epoch - 1) * n + state.batch == done
        train(config, None, town, town_val, out)
        same(result(out), expected)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before its step", "in its step", "after it"])
def test_ctrl_c_within_a_batch_takes_it_back(when, config, make_model, town, tmp_path, monkeypatch):
    config, calls = replace(config, save_every=0), 0
    whole = torch.optim.SGD.step

    def stepped(self, *given):
        nonlocal calls
        calls += 1
        if calls == 3:
            if when == "in its step":
                self.param_groups[0]["params"][0].data += 1.0
            elif when == "after it":
                whole(self, *given)
            raise KeyboardInterrupt
        return whole(self, *given)

    train(config, make_model(), town, None, tmp_path / "whole")
    monkeypatch.setattr(torch.optim.SGD, "step", stepped)
    with pytest.raises(KeyboardInterrupt):
        train(config, make_model(), town, None, tmp_path / "cut")
    state = State.load(tmp_path / "cut")
    assert (state.epoch, state.batch) == (1, 2)
    monkeypatch.undo()
    train(config, None, town, None, tmp_path / "cut")
    same(result(tmp_path / "cut"), result(tmp_path / "whole"))


def test_ctrl_c_on_a_full_disk_leaves_the_checkpoint_before(config, make_model, town, out, monkeypatch):
    def interrupted(record):
        if record["kind"] == "batch" and record["at"] == [1, 2]:
            monkeypatch.setattr(State, "save", full)
            raise KeyboardInterrupt

    def full(self, folder):
        raise StoreError("no space left")

    with pytest.raises(KeyboardInterrupt):
        train(replace(config, save_every=0), make_model(), town, None, out, on_record=interrupted)
    assert (State.load(out).epoch, State.load(out).batch) == (1, 0)


class Dropping(nn.Module):
    """A backbone that draws, and has buffers that change."""

    channels = 6

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(3, 6, 5, stride=4), nn.BatchNorm2d(6), nn.Dropout(0.3)

    def forward(self, images_NCHW):
        return self.drop(self.norm(self.conv(images_NCHW)))


@pytest.mark.slow
def test_what_a_network_draws_and_its_buffers_come_again(config, town, tmp_path):
    torch.manual_seed(3)
    model = PlaceModel(Dropping(), MaxPool(6), Preprocess())
    config = replace(config, batch_norm="learnt")
    counter = Cutter()
    state = torch.random.get_rng_state()
    train(config, model, town, None, tmp_path / "whole", on_record=counter)
    assert torch.equal(state, torch.random.get_rng_state())
    for at in range(3, counter.calls, 5):
        with pytest.raises(Cut):
            train(config, model, town, None, tmp_path / str(at), on_record=Cutter(at))
        train(config, model, town, None, tmp_path / str(at))
        same(result(tmp_path / str(at)), result(tmp_path / "whole"))


SCRIPT = """
import json
import sys
import runpy
from dataclasses import replace
view = runpy.run_path(sys.argv[1])["view"]
small = runpy.run_path(sys.argv[2])
from dejavlad.training import train
print("ready", flush=True)
config = replace(small["SMALL"], **json.loads(sys.argv[4]), epochs=8, save_every=2)
train(config, small["small_model"](), small["small_town"](view), None, sys.argv[3])
"""


@pytest.mark.slow
@pytest.mark.parametrize(("options", "kills"), [({}, 2), (CLASSES, 1)], ids=["tuples", "classes"])
def test_killed_at_random_moments(options, kills, config, make_model, town, tmp_path, request):
    here = request.path.parent
    words = here.parent / "made_photos.py", here / "conftest.py", tmp_path / "killed", json.dumps(options)
    long = replace(config, **options, epochs=8, save_every=2)
    train(long, make_model(), town, None, tmp_path / "whole")
    random = np.random.default_rng(5)
    for _ in range(kills):
        with start(SCRIPT, *words, stdout=True) as process:
            assert process.stdout is not None and process.stdout.readline()
            time.sleep(float(random.uniform(0.05, 0.4)))
            process.kill()
    train(long, make_model(), town, None, tmp_path / "killed")
    same(result(tmp_path / "killed"), result(tmp_path / "whole"))


@pytest.mark.slow
def test_a_finished_run_is_left_as_it_is_and_goes_on_with_more_epochs(
    config, make_model, town, out, tmp_path
):
    train(config, make_model(), town, None, out)
    before = result(out)
    assert Run(out).finished
    train(config, None, town, None, out)
    same(result(out), before)
    longer = replace(config, epochs=3)
    train(longer, None, town, None, out)
    train(longer, make_model(), town, None, tmp_path / "whole")
    same(result(out), result(tmp_path / "whole"))
    assert Run(out).config == longer


@pytest.mark.slow
def test_changed_options_are_honoured_or_refused(config, make_model, make_town, town, out):
    train(config, make_model(), town, None, out)
    run = train(replace(config, epochs=3, learning_rate=0.1), None, town, None, out)
    rates = {one["epoch"]: one["rate"] for one in run.records if one["kind"] == "batch"}
    assert rates == {1: 0.01, 2: 0.005, 3: 0.025}
    (changed,) = (one["changed"] for one in run.records if one["kind"] == "options")
    assert changed == {"epochs": [2, 3], "learning_rate": [0.01, 0.1]}
    with pytest.raises(InputError, match="another seed was 43, now 1"):
        train(replace(config, seed=1), None, town, None, out)
    with pytest.raises(InputError, match="begun with another model than 'small'"):
        train(config, make_model(seed=1), town, None, out)
    with pytest.raises(InputError, match=r"other photos or positions \(train\)"):
        train(config, None, make_town(7), None, out)


def renamed(dataset, form, *, key=str):
    """The photos with names as another computer writes them: `form` is that of Unicode."""
    lists = (
        PhotoList(
            replace(photo, name=key(unicodedata.normalize(form, f"Café/{photo.name}"))) for photo in photos
        )
        for photos in (dataset.database, dataset.queries)
    )
    return PlaceDataset(dataset.name, *lists)


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second"), [("NFC", "NFD"), ("NFD", "NFC")])
@pytest.mark.parametrize("older", [False, True])
def test_a_run_goes_on_with_names_in_another_form(first, second, older, config, make_model, town, out):
    config = replace(config, epochs=1)
    begun_with, now = renamed(town, first), renamed(town, second)
    assert begun_with.database.keys != now.database.keys
    train(config, make_model(), begun_with, begun_with, out)
    if older:  # its run.json has the names as they were written
        old = {"train": _hash(begun_with, form=str), "val": _hash(begun_with, form=str)}
        kept = {**without_checksum(read_json_object(out / RUN)), **old}
        (out / RUN).write_text(json.dumps(with_checksum(kept)), encoding="utf-8")
    train(replace(config, epochs=2), None, now, now, out)
    run = train(replace(config, epochs=3), None, renamed(town, second, key=windows), now, out)
    assert len(run.losses) == 3 * 4
    with pytest.raises(InputError, match=r"other photos or positions \(val\)"):
        train(replace(config, epochs=3), None, now, renamed(town, second, key=str.upper), out)


def windows(name):
    return name.replace("/", "\\")


@pytest.mark.slow
def test_momentum_is_lost_between_epochs_only_by_the_quirk(config, make_model, town, tmp_path):
    first, whole = replace(config, epochs=1), tmp_path / "whole"
    train(config, make_model(), town, None, whole)
    for quirk in (False, True):
        out = tmp_path / str(quirk)
        train(replace(first, quirk_momentum_lost=quirk), make_model(), town, None, out)
        train(replace(config, quirk_momentum_lost=quirk), None, town, None, out)
        assert (Run(out).losses == Run(whole).losses) is not quirk


def test_two_runs_do_not_write_to_one_folder(config, make_model, town, out):
    def again(_):
        with pytest.raises(StoreBusyError, match="another run"):
            train(config, None, town, None, out)
        raise Cut

    with pytest.raises(Cut):
        train(config, make_model(), town, None, out, on_record=again)
