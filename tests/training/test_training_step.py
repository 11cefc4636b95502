"""One step: the loss and its gradient by the original's formulas, whatever way the photos go through."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dejavlad.errors import InputError
from dejavlad.images import Preprocess
from dejavlad.training import TrainConfig
from dejavlad.training.context import RunContext
from dejavlad.training.data.frozen_maps import plan_frozen_maps
from dejavlad.training.data.jitter import (
    AS_IT_IS,
    View,
    draw_view,
)
from dejavlad.training.data.photo_pool import PhotoPool
from dejavlad.training.losses.ranking_loss import (
    Plain,
    Squared,
    make_loss,
)
from dejavlad.training.sampling.mining import Mined
from dejavlad.training.steps.network import Network
from dejavlad.training.steps.optim import make_optimizer
from dejavlad.training.steps.tuple_step import Step


def unit(random, *shape):
    rows = torch.from_numpy(random.standard_normal(shape))
    return rows / rows.norm(dim=-1, keepdim=True)


def leaves(seed=0):
    random = np.random.default_rng(seed)
    query, positive = unit(random, 6), unit(random, 6)
    negatives = unit(random, 8, 6)
    return [rows.requires_grad_() for rows in (query, positive, negatives)]


@pytest.mark.parametrize("exclude", [False, True])
def test_gradient_of_squared_hinges_is_the_original_s(exclude):
    q, p, n = leaves()
    margin = 0.5
    loss = Squared(margin, exclude_very_hard=exclude)
    terms = loss(q, p, n)
    terms.objective.backward()
    q, p, n, dq, dp, dn = (x.detach().numpy() for x in (q, p, n, q.grad, p.grad, n.grad))
    positive, negatives = ((q - p) ** 2).sum(), ((q - n) ** 2).sum(axis=1)
    violating = negatives < positive + margin
    assert violating.any() and not violating.all()
    if exclude:
        assert (negatives < positive).any()
        violating &= negatives >= positive
    np.testing.assert_array_equal(loss.violates(positive, negatives), violating)
    v = violating.sum()
    assert (terms.weight, terms.violating) == (v, v)
    assert terms.very_hard == (negatives < positive).sum()
    np.testing.assert_allclose(dq, 2 * (n[violating].sum(axis=0) - v * p), atol=1e-14)
    np.testing.assert_allclose(dp, 2 * v * (p - q), atol=1e-14)
    np.testing.assert_allclose(dn, np.where(violating[:, None], 2 * (q - n), 0), atol=1e-14)
    assert terms.noted == pytest.approx((positive + margin - negatives)[violating].sum())


def test_what_is_noted_by_the_quirk_counts_the_very_hard_too():
    q, p, n = leaves()
    right, quirk = (Squared(0.5, exclude_very_hard=True, note_all=all_)(q, p, n) for all_ in (False, True))
    assert torch.equal(right.objective, quirk.objective)
    assert quirk.noted == pytest.approx(Squared(0.5)(q, p, n).noted)
    assert right.noted < quirk.noted
    config = TrainConfig(exclude_very_hard=True, margin=0.5)
    assert make_loss(config)(q, p, n).noted == right.noted
    assert make_loss(replace(config, parity=True))(q, p, n).noted == quirk.noted


def test_plain_hinge_is_the_mean_over_all_triplets():
    q, p, n = leaves()
    loss = Plain(0.3)
    terms = loss(q, p, n)
    expected = torch.nn.TripletMarginLoss(0.3, reduction="sum")(q.expand_as(n), p.expand_as(n), n)
    assert terms.objective.item() == pytest.approx(expected.item(), rel=1e-5)
    assert (terms.weight, terms.noted) == (8, pytest.approx(terms.objective.item() / 8))
    positive, negatives = (q - p).square().sum().item(), (q - n).square().sum(dim=1).detach().numpy()
    assert loss.violates(positive, negatives).sum() == terms.violating


def test_sgd_is_the_original_s():
    """m = momentum m - decay w - g; w += rate m."""
    config = TrainConfig(learning_rate=0.1, momentum=0.9, weight_decay=0.01)
    parameter = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimizer = make_optimizer({"w": parameter}, config)
    w, m = parameter.detach().numpy().copy(), np.zeros(2)
    for g in ([0.5, 1.0], [-0.25, 0.125], [2.0, 0.0]):
        parameter.grad = torch.tensor(g, dtype=torch.float64)
        optimizer.step()
        m = 0.9 * m - 0.01 * w - np.array(g)
        w = w + 0.1 * m
        np.testing.assert_allclose(parameter.detach().numpy(), w, rtol=1e-14)


@pytest.fixture
def pool(town):
    return PhotoPool(town, Preprocess())


TUPLES = [
    (Mined(0, 1, np.array([6, 9, 12])), AS_IT_IS),
    (Mined(1, 3, np.array([6, 9, 15])), AS_IT_IS),
    (Mined(2, 6, np.array([12, 3])), AS_IT_IS),
]


def gradients(make_model, pool, config, tuples=TUPLES, kept=False, tmp_path=None):
    network = Network(make_model(), config)
    maps = None
    if kept:
        maps, _ = plan_frozen_maps(network, pool, config, tmp_path, 1e9)
        maps.fill(network, pool, RunContext(config))
    outcome = Step(make_loss(config), network, pool, maps, RunContext(config))(tuples, [1])
    gradient_of = {name: None if p.grad is None else p.grad.clone() for name, p in network.learnt.items()}
    return outcome, gradient_of, network


def test_a_step_divides_by_the_violating_triplets(config, make_model, pool):
    outcome, gradient_of, _ = gradients(make_model, pool, replace(config, margin=1.0))
    loss = Squared(1.0)
    total, violating = 0.0, 0
    model = make_model()
    for mined, _ in TUPLES:
        q = pool.dataset.queries[mined.query]
        photos = [q, *(pool.dataset.database[int(r)] for r in (mined.positive, *mined.negatives))]
        images = torch.stack([torch.from_numpy(pool.preprocess(photo.pixels)) for photo in photos])
        rows = model.describe(images)
        terms = loss(rows[0], rows[1], rows[2:])
        total, violating = total + terms.objective, violating + terms.violating
    (total / violating).backward()
    assert outcome.violating == violating > 0
    assert outcome.triplets == 8
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradient_of[name], parameter.grad, rtol=1e-4, atol=1e-7)


def test_each_photo_goes_through_the_network_once(config, make_model, pool, monkeypatch):
    seen = []
    original = Network.features
    monkeypatch.setattr(
        Network, "features", lambda self, images: seen.append(len(images)) or original(self, images)
    )
    gradients(make_model, pool, config)
    numbers = {mined.query for mined, _ in TUPLES} | {
        int(row) + pool.n_queries for mined, _ in TUPLES for row in (mined.positive, *mined.negatives)
    }
    assert sum(seen) == len(numbers) == 9


@pytest.mark.parametrize("at_once", [1, 4])
def test_in_parts_it_is_the_same(config, make_model, pool, at_once):
    whole, expected, _ = gradients(make_model, pool, replace(config, margin=1.0))
    parts, gradient_of, _ = gradients(make_model, pool, replace(config, margin=1.0, photos_at_once=at_once))
    assert parts.violating == whole.violating > 0
    assert parts.losses == pytest.approx(whole.losses, rel=1e-5)
    for name in expected:
        torch.testing.assert_close(gradient_of[name], expected[name], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_with_frozen_maps_kept_it_is_the_same(config, make_model, pool, where, tmp_path):
    config = replace(config, margin=1.0, train_from="conv2", frozen_maps=where)
    _, expected, network = gradients(make_model, pool, config)
    assert len(network.frozen) == 3
    assert set(expected) == {
        "backbone.features.3.weight",
        "backbone.features.3.bias",
        "backbone.features.5.weight",
        "backbone.features.5.bias",
    }
    _, gradient_of, _ = gradients(make_model, pool, config, kept=True, tmp_path=tmp_path)
    for name in expected:
        torch.testing.assert_close(gradient_of[name], expected[name], rtol=1e-6, atol=1e-8)


def test_nothing_violates_nothing_is_learnt(config, make_model, pool):
    outcome, gradient_of, _ = gradients(make_model, pool, replace(config, margin=1e-9), TUPLES[:1])
    assert (outcome.violating, outcome.losses) == (0, [0.0])
    assert all(one is None for one in gradient_of.values())


def test_fixed_layers_do_not_learn(config, make_model):
    network = Network(make_model("gem"), replace(config, fixed_layers=("conv2", "aggregation")))
    assert not any("features.3" in name or "aggregation" in name for name in network.learnt)
    assert any("features.5" in name for name in network.learnt)
    with pytest.raises(InputError, match="unknown layer 'conv9'"):
        Network(make_model(), replace(config, train_from="conv9"))
    with pytest.raises(InputError, match="unknown layer 'conv9'"):
        Network(make_model(), replace(config, fixed_layers=("conv9",)))


def test_jitter_is_of_the_whole_tuple_and_comes_again(config):
    config = replace(config, jitter_flip=True, jitter_scales=(0.5, 1.5))
    views = [draw_view(config, (40, 60), 1, batch, 0) for batch in range(40)]
    assert {view.shorter for view in views} == {20, 60}
    assert 10 < sum(view.flip for view in views) < 30
    assert views == [draw_view(config, (40, 60), 1, batch, 0) for batch in range(40)]
    assert View(20).size(40, 61) == (20, 30)
    assert View(20).size(61, 40) == (30, 20)
    assert draw_view(TrainConfig(), (40, 60), 1, 1, 0) == AS_IT_IS


def test_a_view_mirrors_and_resizes(pool):
    numbers = np.array([0, 1])
    rows, plain = pool.load_view(numbers, AS_IT_IS)
    _, flipped = pool.load_view(numbers, View(flip=True))
    _, small = pool.load_view(numbers, View(20))
    assert rows.tolist() == [0, 1]
    np.testing.assert_array_equal(flipped, plain[..., ::-1])
    assert small.shape == (2, 3, 20, 28)


def test_with_jitter_photos_are_seen_otherwise(config, make_model, pool):
    plain, _, _ = gradients(make_model, pool, replace(config, margin=1.0))
    flipped = [(mined, View(flip=True)) for mined, _ in TUPLES]
    other, _, _ = gradients(make_model, pool, replace(config, margin=1.0), flipped)
    assert plain.losses != other.losses
