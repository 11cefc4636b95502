"""A run as a folder: its models by name, its records, the best epoch, clean-up."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from dejavlad import __version__
from dejavlad.errors import InputError
from dejavlad.guarded.json_file import read_json_object
from dejavlad.model import load_folder
from dejavlad.model.run_folder import RUN, best_epoch
from dejavlad.training import resolve, train
from dejavlad.training.run.state import State


@pytest.fixture(scope="module")
def run(config, make_model, town, town_val, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    return train(replace(config, epochs=3), make_model(), town, town_val, out)


@pytest.mark.slow
def test_models_by_name(run):
    assert run.epochs == [0, 1, 2, 3]
    assert resolve(f"{run.path}@epoch:2") == run.path / "epochs" / "002"
    assert resolve(f"{run.path}@latest") == run.path / "latest"
    assert resolve(run.path) == resolve(f"{run.path}@best") == resolve(f"{run.path}@best:5")
    assert resolve(f"{run.path}@best:1") == run.path / "epochs" / f"{run.best(1):03d}"
    assert resolve("elsewhere@epoch:2") is None and resolve("elsewhere") is None
    prints = {load_folder(resolve(f"{run.path}@epoch:{epoch}")).fingerprint for epoch in run.epochs}
    assert len(prints) == 4
    assert (
        load_folder(resolve(f"{run.path}@latest")).fingerprint
        == load_folder(run.model("epoch:3")).fingerprint
    )
    for which, message in (
        ("epoch:9", "no model 'epoch:9'; epochs there: 0, 1, 2, 3"),
        ("newest", "'newest' is none of a run's models; valid: RUN, RUN@latest"),
        ("best:7", "recall@7 was not taken; valid: 1, 5"),
    ):
        with pytest.raises(InputError, match=message):
            run.model(which)


def test_the_model_given_is_not_changed(config, make_model, town, out):
    model = make_model()
    before = model.fingerprint
    run = train(config, model, town, None, out)
    assert model.fingerprint == before == load_folder(run.model("epoch:0")).fingerprint
    assert all(p.requires_grad for p in model.parameters())
    assert load_folder(run.model("latest")).fingerprint != before


def test_a_trained_model_says_what_it_was_trained_on(run):
    provenance = load_folder(run.model("epoch:1")).provenance
    assert (provenance["trained_on"], provenance["method"]) == ("town0", "given")


def test_a_run_says_which_versions_began_it(run):
    versions = read_json_object(run.path / RUN)["versions"]
    assert versions["dejavlad"] == __version__ and versions["torch"] == torch.__version__


def test_the_state_holds_the_weights_of_the_latest_model(run):
    tensors = State.load(run.path).tensors
    for name, value in load_folder(run.model("latest")).state_dict().items():
        assert torch.equal(tensors[f"model/{name}"], value)


def test_records_are_written_as_it_goes(run):
    batches = [one for one in run.records if one["kind"] == "batch"]
    assert [(one["epoch"], one["batch"]) for one in batches] == [
        (e, b) for e in (1, 2, 3) for b in (1, 2, 3, 4)
    ]
    assert run.losses == [one["loss"] for one in batches]
    with open(run.path / "batches.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in rows] == run.losses
    assert [int(row["violating"]) for row in rows] == [one["violating"] for one in batches]
    with open(run.path / "tests.csv", newline="") as file:
        tests = list(csv.DictReader(file))
    assert [(row["epoch"], row["set"]) for row in tests] == [
        (str(e), s) for e in range(4) for s in ("val", "train")
    ]
    assert float(tests[2]["recall@5"]) == run.recalls()[1][5]
    assert len(run.rank_losses("train")) == 4
    assert all(json.dumps(one, allow_nan=False) for one in run.records)


def test_best_epoch_and_its_ties():
    """As getBestEpoch.m: the next smaller Ns decide, then the larger ones, then the earlier epoch."""

    def best(n, *rows):
        return best_epoch({e: dict(zip((1, 2, 5, 10), row, strict=True)) for e, row in enumerate(rows, 1)}, n)

    assert best(5, (0.9, 0.9, 0.5, 0.9), (0.1, 0.1, 0.6, 0.1)) == 2
    assert best(5, (0.9, 0.2, 0.5, 0.9), (0.1, 0.3, 0.5, 0.1)) == 2
    assert best(5, (0.2, 0.3, 0.5, 0.9), (0.3, 0.3, 0.5, 0.1)) == 2
    assert best(5, (0.3, 0.3, 0.5, 0.1), (0.3, 0.3, 0.5, 0.9)) == 2
    assert best(2, (0.3, 0.3, 0.5, 0.9), (0.3, 0.3, 0.6, 0.1)) == 2
    assert best(5, (0.3, 0.3, 0.5, 0.9), (0.3, 0.3, 0.5, 0.9)) == 1
    assert best(5, (0.1, 0.3, 0.5, 0.9), (0.3, 0.3, 0.5 - 5e-7, 0.9)) == 2


def test_without_a_validation_set_the_latest_is_the_model(config, make_model, town, out):
    run = train(config, make_model(), town, None, out)
    assert resolve(out) == out / "latest"
    with pytest.raises(InputError, match="no epoch was tested on a validation set"):
        run.model("best")


@pytest.mark.slow
def test_clean_up_keeps_the_first_and_the_best(config, make_model, town, town_val, out):
    run = train(replace(config, epochs=3), make_model(), town, town_val, out)
    best = run.best()
    gone = run.clean_up()
    assert run.epochs == sorted({0, best})
    assert len(gone) == 3 and not (out / "cache").exists()
    again = train(replace(config, epochs=4), None, town, town_val, out)
    assert again.epochs == sorted({0, best, 4})
    assert again.clean_up([4]) and again.epochs == [0, 4]


@pytest.mark.slow
def test_stops_where_nothing_gets_better(config, make_model, town, town_val, out):
    still = replace(config, epochs=9, learning_rate=1e-12, patience=2)
    run = train(still, make_model(), town, town_val, out)
    assert run.finished and run.epochs == [0, 1, 2, 3]


def test_tests_now_and_then(config, make_model, town, town_val, out):
    run = train(replace(config, epochs=3, test_every=2, test_before=False), make_model(), town, town_val, out)
    assert list(run.recalls()) == [2, 3]


@pytest.mark.slow
def test_training_lowers_the_loss_and_finds_more(config, make_model, town, town_val, out):
    longer = replace(
        config, epochs=12, negatives="all", lr_down_every=5, learning_rate=0.003, optimizer="adam"
    )
    run = train(longer, make_model(), town, town_val, out)
    assert np.mean(run.losses[-8:]) < 0.7 * np.mean(run.losses[:8])
    assert run.rank_losses("train")[12] < run.rank_losses("train")[0]


def test_recall_is_that_of_evaluate(run, town_val):
    from dejavlad.evaluation import evaluate
    from dejavlad.index import build_index

    model = load_folder(run.model("epoch:2"))
    rows = [model.encode(list(photos)) for photos in (town_val.queries, town_val.database)]
    result = evaluate(build_index("flat", rows[1]).search(rows[0], 5), town_val.truth, recall_at=(1, 5))
    assert run.recalls()[2] == result.recall


@pytest.mark.slow
def test_the_best_where_recall_at_5_was_not_taken(config, make_model, town, town_val, tmp_path):
    for ns, by in (((1, 3, 10), 3), ((7, 10), 7)):
        out = tmp_path / str(by)
        run = train(replace(config, recall_at=ns, patience=5), make_model(), town, town_val, out)
        assert run.best() == run.best(by)
        assert run.model() == run.model("best") == run.model(f"best:{by}")
        run.clean_up()
        assert run.epochs == sorted({0, run.best(by)})
        with pytest.raises(InputError, match="recall_at was"):
            train(replace(config, recall_at=(1, 5), epochs=3), None, town, town_val, out)
