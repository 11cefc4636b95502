"""Two processes train as one does; a run goes from one to two and back; when one dies all end."""

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from dejavlad.errors import InputError
from dejavlad.model.run_folder import epoch_folder
from dejavlad.training import Run, train
from dejavlad.training.distributed import (
    ALONE,
    join,
)
from warm_processes import start as start_warm

PLACES = {
    "mining": "places",
    "loss": "multi_similarity",
    "batch_size": 3,
    "photos_per_place": 3,
    "optimizer": "adamw",
    "learning_rate": 1e-3,
    "lr_schedule": "linear",
}
CLASSES = {
    "mining": "classes",
    "loss": "large_margin",
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "place_size": 20.0,
    "group_squares": 2,
    "group_sectors": 1,
    "class_photos": 2,
    "batch_size": 3,
    "steps_per_epoch": 3,
}
PARTS = {"photos_at_once": 1, "train_from": "conv3", "epochs": 1}
KINDS = {
    "all learns": {},
    "in parts": {"photos_at_once": 2, "epochs": 1},
    "jittered": {
        "jitter_flip": True,
        "jitter_scales": (1.0, 0.9),
        "loss": "plain",
        "optimizer": "adam",
        "epochs": 1,
    },
    "frozen": {"train_from": "conv3", "epochs": 1},
    "frozen in parts": PARTS,
    "frozen on disk": {"train_from": "conv3", "frozen_maps": "disk"},
    "by subcaches": {
        "mining": "subcache",
        "cached_queries": 4,
        "cached_negatives": 12,
        "loss": "plain",
        "train_from": "conv3",
        "margin": 0.6,
        "epochs": 1,
    },
    "by subcaches in parts": {
        "mining": "subcache",
        "cached_queries": 2,
        "cached_negatives": 6,
        "quirk_inverted_violation": True,
        "photos_at_once": 2,
        "optimizer": "adam",
    },
    "by places": PLACES,
    "by classes": CLASSES,
    "by classes in parts": {**CLASSES, **PARTS},
    "by places in parts": {**PLACES, **PARTS, "photos_at_once": 2},
}
"""Each way to mine and to keep maps goes on into a second epoch; variants, which change the steps, do not."""
SCRIPT = """
import json, os, runpy, signal, sys
from dataclasses import replace
view = runpy.run_path(sys.argv[1])["view"]
small = runpy.run_path(sys.argv[2])
from dejavlad.errors import DejavladError
from dejavlad.training import train
from dejavlad.training.sampling import mining
rank, what = int(os.environ["RANK"]), json.loads(sys.argv[3])
if rank and what["die"] is not None:
    choose, calls = mining.Miner.choose, []
    def dying(self, *given):
        calls.append(given)
        if len(calls) == 6:
            os.kill(os.getpid(), signal.SIGTERM) if what["die"] == "killed" else os._exit(0)
        return choose(self, *given)
    mining.Miner.choose = dying
replaces = os.replace
def refused(*_):
    raise AssertionError("only the first process writes")
towns = [small["small_town"](view), small["small_town"](view, 6, 8)]
failed = False
for out, options in what["runs"].items():
    os.replace = refused if rank and options.get("frozen_maps") != "disk" else replaces
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    config = replace(small["SMALL"], **options)
    try:
        train(config, small["small_model"](), *towns, out, on_record=lambda _: None)
    except DejavladError as error:
        os.write(1, f"process {rank}: {type(error).__name__}: {error}\\n".encode())  # one write, one line
        failed = True
sys.exit(failed)
"""
LAUNCH = """
import sys
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
def work(script, words):
    sys.argv = ["-c", *words]
    exec(compile(script, "script", "exec"), {})
how = dict(rdzv_backend="c10d", rdzv_endpoint="localhost:0", max_restarts=0, start_method="fork")
elastic_launch(LaunchConfig(1, 1, 2, run_id="test", **how), work)(sys.argv[1], sys.argv[2:])
"""
"""What torchrun does, but that its processes are forked."""


@pytest.fixture
def start(request):
    """Trainings by two processes, one after the other: folder -> options that are not those of `config`."""
    here = request.path.parent

    def launch(runs, die=None, *, real=False):
        job = json.dumps({"runs": {str(out): options for out, options in runs.items()}, "die": die})
        script = here.parent / "made_photos.py", here / "conftest.py"
        if hasattr(os, "fork") and not real:
            loaded = ("lightning_fabric.strategies.ddp", "torch.distributed.launcher.api")
            with start_warm(LAUNCH, SCRIPT, *script, job, stdout=True, loaded=loaded) as ended:
                limit = threading.Timer(600, ended.kill)
                limit.start()
                output = ended.stdout.read()
                limit.cancel()
                return subprocess.CompletedProcess((), ended.wait(), output)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        code = ["--no-python", sys.executable, "-c", SCRIPT, *map(str, script), job]
        return subprocess.run([*command, *code], capture_output=True, text=True, timeout=600)

    return launch


def weights(out):
    return {epoch: load_file(epoch_folder(out, epoch) / "weights.safetensors") for epoch in Run(out).epochs}


def alike(out, other):
    """Runs that went the same way, but for rounding."""
    assert Run(out).losses == pytest.approx(Run(other).losses, rel=1e-6, abs=1e-6)
    assert any(Run(out).losses)
    assert Run(out).recalls() == Run(other).recalls()
    ours, theirs = weights(out), weights(other)
    assert ours.keys() == theirs.keys()
    for epoch, tensors in ours.items():
        for name, tensor in tensors.items():
            assert torch.allclose(tensor, theirs[epoch][name], rtol=1e-6, atol=1e-6), (epoch, name)
    kinds = ("batch", "refresh", "test", "finished", "frozen maps")
    results = [
        [(one["kind"], one["at"]) for one in Run(at).records if one["kind"] in kinds] for at in (out, other)
    ]
    assert results[0] == results[1]


@pytest.mark.slow
def test_two_processes_train_as_one_and_go_on_with_each_others_runs(
    config, make_model, town, town_val, tmp_path, start
):
    model, ones, twos = make_model(), tmp_path / "ones", tmp_path / "twos"
    for kind, options in KINDS.items():
        train(replace(config, **options), model, town, town_val, ones / kind)
    frozen = KINDS["frozen on disk"]
    from_one, from_two = tmp_path / "from one", tmp_path / "from two"
    train(replace(config, **frozen, epochs=1), model, town, town_val, from_one)
    other = tmp_path / "other"
    other.mkdir()
    (other / "what.txt").write_text("of another kind")
    ended = start(
        {
            other: {},
            **{twos / kind: options for kind, options in KINDS.items()},
            from_one: frozen,
            from_two: {**frozen, "epochs": 1},
        }
    )
    why = f"'{other}' is there and is no training run; give another --out"
    first, second = sorted(ended.stdout.splitlines())
    assert first == f"process 0: InputError: {why}", ended.stderr
    assert second.startswith("process 1: PeerError: another of the 2 processes") and f"({why})" in second
    assert {path.name for path in (from_two / "cache").glob("maps-*")} == {
        f"maps-{part}-{i}-of-2" for part in ("train", "val") for i in (1, 2)
    }
    train(replace(config, **frozen), model, town, town_val, from_two)
    assert {path.name for path in (from_two / "cache").glob("maps-*")} == {"maps-train", "maps-val"}
    for kind in KINDS:
        alike(twos / kind, ones / kind)
    for out in (from_one, from_two):
        assert Run(out).losses == pytest.approx(Run(ones / "frozen on disk").losses, rel=1e-6, abs=1e-6)
        for name, tensor in weights(out)[2].items():
            assert torch.allclose(tensor, weights(ones / "frozen on disk")[2][name], rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "gone"])
def test_when_one_process_dies_all_end_and_the_run_goes_on(
    how, config, make_model, town, town_val, tmp_path, start
):
    out, whole = tmp_path / "out", tmp_path / "whole"
    ended = start({out: {"save_every": 2}}, die=how, real=how == "gone")  # one start of torchrun itself
    assert ended.returncode != 0
    if how == "gone":  # killed, torchrun may be faster to end the other
        assert "process 0: PeerError: another of the 2 processes of this training has ended" in ended.stdout
    assert 0 < len(Run(out).losses) < 8
    config = replace(config, save_every=2)
    train(config, make_model(), town, town_val, out)
    train(config, make_model(), town, town_val, whole)
    assert Run(out).losses == pytest.approx(Run(whole).losses, rel=1e-6, abs=1e-6)


def test_a_device_that_processes_cannot_share_is_refused(monkeypatch):
    assert join(torch.device("cpu")) is ALONE
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    assert join(torch.device("cpu")) is ALONE
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    for device in ("mps", "cuda:1"):
        with pytest.raises(InputError, match=f"cannot share device '{device}'"):
            join(torch.device(device))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match="2 processes on this machine, which has 1 GPUs"):
        join(torch.device("cuda"))
