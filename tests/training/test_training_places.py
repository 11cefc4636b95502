"""Batches of places with the multi-similarity loss: what is drawn, the loss, and the recipes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dejavlad.errors import DivergedError, InputError
from dejavlad.ground_truth import PlaceDataset
from dejavlad.photo import PhotoList
from dejavlad.training import TrainConfig, check, initial_model, load_recipe, train
from dejavlad.training.config.schedule import rate
from dejavlad.training.context import RunContext
from dejavlad.training.data.jitter import AS_IT_IS
from dejavlad.training.data.photo_pool import PhotoPool
from dejavlad.training.diagnostics.monitor import Monitor
from dejavlad.training.losses.multi_similarity import multi_similarity
from dejavlad.training.sampling.places import PlaceSampler
from dejavlad.training.steps.network import Network
from dejavlad.training.steps.place_step import PlaceStep
from dejavlad.zoo import load_model

PLACES = TrainConfig(mining="places", loss="multi_similarity", batch_size=3, photos_per_place=3)


def labelled():
    rows_UD = torch.arange(24, dtype=torch.float64).reshape(6, 4).sin()
    return torch.nn.functional.normalize(rows_UD, dim=1), torch.tensor([0, 0, 1, 1, 2, 2])


@pytest.mark.parametrize(
    ("given", "expected"),
    [((1.0, 50.0, 0.0, 0.1), 1.8914898655291326), ((2.0, 50.0, 0.5, 0.1), 1.5148295055168903)],
)
def test_the_loss_is_that_of_pytorch_metric_learning(given, expected):
    """Its values for these rows, by its version 2.9.0."""
    result = multi_similarity(*labelled(), *given)
    assert float(result.losses_U.mean()) == pytest.approx(expected, rel=1e-12)
    assert (result.pairs, result.mined) == (30, 6 + 19)


def test_the_gradient_is_that_of_the_plain_formula():
    rows_UD, labels = labelled()
    rows_UD.requires_grad_()
    alpha, beta, base, epsilon = 2.0, 10.0, 0.3, 0.05
    losses = []
    for i in range(6):
        similarity = [rows_UD[i] @ rows_UD[j] for j in range(6)]
        same = [j for j in range(6) if labels[j] == labels[i] and j != i]
        others = [j for j in range(6) if labels[j] != labels[i]]
        most, least = max(similarity[j] for j in others), min(similarity[j] for j in same)
        near = [similarity[j] for j in same if similarity[j] - epsilon < most]
        far = [similarity[j] for j in others if similarity[j] + epsilon > least]
        losses.append(
            torch.log(1 + sum((torch.exp(-alpha * (s - base)) for s in near), torch.zeros(()))) / alpha
            + torch.log(1 + sum((torch.exp(beta * (s - base)) for s in far), torch.zeros(()))) / beta
        )
    (expected,) = torch.autograd.grad(torch.stack(losses).mean(), rows_UD)
    loss = multi_similarity(rows_UD, labels, alpha, beta, base, epsilon).losses_U
    torch.testing.assert_close(loss, torch.stack(losses))
    torch.testing.assert_close(torch.autograd.grad(loss.mean(), rows_UD)[0], expected)


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
def test_a_batch_of_one_kind_of_pairs_teaches_nothing(labels):
    rows_UD = torch.eye(3, requires_grad=True)
    result = multi_similarity(rows_UD, torch.tensor(labels), 1.0, 50.0, 0.0, 0.1)
    assert (result.mined, result.losses_U.tolist()) == (0, [0.0] * 3)


def test_places_are_squares_on_the_ground_that_lie_apart(make_town):
    town = make_town(8)
    sampler = PlaceSampler(town, PLACES)
    assert sorted(sorted(one.tolist()) for one in sampler.places) == [
        [place, *(8 + 3 * place + i for i in range(3))] for place in range(8)
    ]
    assert (sampler.size, sampler.n) == (3, 2)
    drawn = [sampler.draw(1, batch) for batch in (1, 2)]
    assert len(set(np.concatenate([one.labels for one in drawn]).tolist())) == 6
    for one in drawn:
        assert [int((one.labels == label).sum()) for label in set(one.labels.tolist())] == [3, 3, 3]
        for number, label in zip(one.numbers.tolist(), one.labels.tolist(), strict=True):
            assert number in sampler.places[label]
    again = PlaceSampler(town, PLACES).draw(1, 2)
    assert np.array_equal(again.numbers, drawn[1].numbers)
    assert not np.array_equal(sampler.draw(2, 2).numbers, again.numbers)
    near = replace(PLACES, negative_radius=150.0)
    for epoch in range(1, 6):
        labels = sorted(set(PlaceSampler(town, near).draw(epoch, 1).labels.tolist()))
        assert min(np.diff(labels)) > 1  # 100 m is too near
    with pytest.raises(InputError, match="no 3 places lie more than 800 m"):
        PlaceSampler(town, replace(PLACES, negative_radius=800.0))
    with pytest.raises(InputError, match="0 places have two photos"):
        PlaceSampler(town, replace(PLACES, place_size=0.01))


def test_places_by_heading_and_by_group(make_town):
    town = make_town(3)
    changed = [
        replace(photo, heading=10.0 + 90.0 * (i % 2), group=f"g{i // 4}")
        for i, photo in enumerate(town.database)
    ]
    town = PlaceDataset("town", PhotoList(changed), town.queries)
    sectors = PlaceSampler(town, replace(PLACES, place_sector=60.0))
    assert [one.tolist() for one in sectors.places] == [[3, 5], [6, 8], [9, 11]]
    groups = PlaceSampler(town, replace(PLACES, places="groups", negative_radius=25.0))
    assert [one.tolist() for one in groups.places] == [[3, 4, 5, 6], [7, 8, 9, 10]]


def test_groups_need_no_positions(make_town, make_model, tmp_path, config):
    town = make_town(4)
    config = replace(config, mining="places", loss="multi_similarity", places="groups", epochs=1)
    run = train(config, make_model(), grouped(town), make_town(4, 8), tmp_path / "run")
    assert len(run.losses) == 2
    assert run.recalls().keys() == {0, 1}


def test_every_epoch_has_a_batch(make_town):
    """Places of a street lie so near to each other that few orders give a batch."""
    town = make_town(12)
    near = replace(PLACES, batch_size=4, negative_radius=250.0)
    for seed in range(5):
        sampler = PlaceSampler(town, replace(near, seed=seed))
        assert sampler.n >= 1
        assert all(len(sampler.draw(epoch, 1).numbers) == 12 for epoch in range(1, 60))


def grouped(town):
    """Places told by groups, without positions."""
    lists = [
        PhotoList(replace(photo, position=None, group=photo.name.split("-")[0]) for photo in photos)
        for photos in (town.database, town.queries)
    ]
    return PlaceDataset("groups", *lists)


def test_the_doctor_does_not_ask_places_for_positives(make_town, make_model, tmp_path, config):
    config = replace(config, mining="places", loss="multi_similarity", places="groups", epochs=1)
    town = grouped(make_town(4))
    assert check(config, make_model(), town) == []
    run = train(config, make_model(), town, None, tmp_path / "run")
    assert not [one for one in run.records if one["kind"] == "warning"]
    assert all(one["spread"] > 0 for one in run.records if one["kind"] == "batch")
    alone = PlaceDataset(
        "alone",
        *(
            PhotoList(replace(one, group=one.name) for one in photos)
            for photos in (town.database, town.queries)
        ),
    )
    with pytest.raises(InputError, match="0 places have two photos"):
        check(config, make_model(), alone)


def test_descriptors_of_places_that_collapse_are_noticed(config):
    monitor = Monitor(replace(config, mining="places", loss="multi_similarity"))
    record = {"kind": "batch", "loss": 1.3, "violating": 9}
    assert monitor({**record, "spread": 0.4}) == []
    assert [one.fault for one in monitor({**record, "spread": 1e-7})] == ["collapsed descriptors"]


def test_places_that_teach_nothing_are_told_in_their_own_words(config):
    monitor = Monitor(replace(config, mining="places", loss="multi_similarity"))
    result = [one for _ in range(10) for one in monitor({"kind": "batch", "loss": 0.0, "violating": 0})]
    assert [one.fault for one in result] == ["pairs that teach nothing"]
    assert "margin" not in str(result[0]) and "--set ms_epsilon=0.3" in str(result[0])


def test_groups_that_change_are_other_photos(make_town, make_model, tmp_path, config):
    config = replace(config, mining="places", loss="multi_similarity", places="groups", epochs=1)
    town = grouped(make_town(4))
    train(config, make_model(), town, None, tmp_path / "run")
    others = PlaceDataset(
        town.name, PhotoList(replace(one, group=f"{one.group}!") for one in town.database), town.queries
    )
    with pytest.raises(InputError, match=r"other photos or positions \(train\)"):
        train(replace(config, epochs=2), None, others, None, tmp_path / "run")


def test_a_run_of_places_that_breaks_down_goes_on_from_a_sound_state(make_town, make_model, tmp_path, config):
    """One batch an epoch, whose step nothing looks at before the checkpoint at the epoch's end."""
    places = replace(
        config,
        mining="places",
        loss="multi_similarity",
        batch_size=4,
        optimizer="sgd",
        learning_rate=1e15,
        epochs=3,
        lr_down_every=5,
    )
    town, out = make_town(4), tmp_path / "run"
    with pytest.raises(DivergedError, match="is sound"):
        train(places, make_model(), town, None, out)
    run = train(replace(places, learning_rate=1e-4), None, town, None, out)
    assert run.finished and np.isfinite(run.losses).all()


def test_photos_that_are_too_many_at_once_give_the_same_gradient(make_town, make_model):
    town = make_town(4)
    gradients = []
    for at_once in (64, 2):
        config = replace(PLACES, photos_at_once=at_once, precision="fp64")
        model = make_model("gem")
        network = Network(model, config)
        step = PlaceStep(network, PhotoPool(town, model.preprocess), None, RunContext(config))
        drawn = PlaceSampler(town, config).draw(1, 1)
        work = [
            ((n, AS_IT_IS), p) for n, p in zip(drawn.numbers.tolist(), drawn.labels.tolist(), strict=True)
        ]
        outcome = step(work, [1, 1, 1])
        assert len(outcome.losses) == 9 and outcome.violating > 0
        gradients.append({name: parameter.grad.clone() for name, parameter in network.learnt.items()})
    for name, one in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], one, rtol=1e-9, atol=1e-12)
        assert float(one.abs().max()) > 0


def test_the_rate_warms_up_and_falls():
    config = TrainConfig(learning_rate=1.0, lr_schedule="linear", lr_warmup=4, epochs=3)
    rates = [rate(config, epoch, batch, 8) for epoch in (1, 2, 3) for batch in range(1, 9)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    np.testing.assert_allclose(np.diff(rates[4:]), -1 / 20)
    assert rates[-1] == pytest.approx(1 / 20)
    steps = TrainConfig(learning_rate=1.0, lr_down_every=1, lr_warmup=2)
    assert [rate(steps, 1, 1, 8), rate(steps, 1, 3, 8), rate(steps, 2, 1, 8)] == [0.5, 1.0, 0.5]


@pytest.mark.slow
def test_the_recipe_learns(make_town, make_model, tmp_path):
    config = replace(
        load_recipe("multi-similarity-gem"),
        train_from="",
        resize="40x56",
        batch_size=4,
        epochs=4,
        lr_warmup=2,
        learning_rate=1e-2,
        workers=0,
    )
    run = train(config, make_model("max"), make_town(12), make_town(6, 12), tmp_path / "run")
    assert len(run.losses) == 4 * 3
    assert np.mean(run.losses[-3:]) < 0.9 * np.mean(run.losses[:3])
    assert run.recalls().keys() == {0, 1, 2, 3, 4}
    assert not any(one["kind"] == "refresh" for one in run.records)


@pytest.mark.slow
def test_the_recipe_of_dinov2_learns_its_last_blocks(make_town, tmp_path):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "num_hidden_layers": 10, "num_attention_heads": 2, "image_size": 56}
    torch.manual_seed(4)
    transformers.utils.logging.disable_progress_bar()
    small = transformers.AutoModel.from_config(transformers.Dinov2Config(patch_size=14, mlp_ratio=2, **sizes))
    small.save_pretrained(tmp_path / "small")
    transformers.utils.logging.enable_progress_bar()
    config = replace(
        load_recipe("dinov2-netvlad"),
        network=f"hub:{tmp_path / 'small'}",
        resize="42x56",
        clusters=4,
        batch_size=4,
        epochs=2,
        lr_warmup=1,
        learning_rate=1e-3,
        workers=0,
    )
    model = initial_model(config)
    run = train(config, model, make_town(8), None, tmp_path / "run")
    assert np.mean(run.losses[-2:]) < np.mean(run.losses[:2])
    learnt = load_model(run.model(), device="cpu")
    assert learnt.aggregation.clusters == 4 and learnt.preprocess.resize == "42x56"
    before, after = model.backbone.state_dict(), learnt.backbone.state_dict()
    changed = {
        name.split(".")[3]
        for name in before
        if not torch.equal(before[name], after[name]) and ".layer." in name
    }
    assert changed == {"8", "9"}
