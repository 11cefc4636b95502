"""Who may be what, and which of them mining takes: against slow and obvious versions."""

from dataclasses import replace

import numpy as np
import pytest

from dejavlad.errors import InputError
from dejavlad.geo import Position
from dejavlad.ground_truth import PlaceDataset
from dejavlad.photo import Photo, PhotoList
from dejavlad.training import TrainConfig
from dejavlad.training.config.schedule import (
    learning_rate,
    n_batches,
    refresh_every,
    refreshes,
    saves,
)
from dejavlad.training.losses.ranking_loss import make_loss
from dejavlad.training.sampling import mining
from dejavlad.training.sampling.mining import (
    Descriptors,
    Miner,
    nearest,
)
from dejavlad.training.sampling.tuples import Candidates
from dejavlad.training.sampling.weighting import query_order


def listed(name, east, times=None, zone=None):
    times = [None] * len(east) if times is None else times
    positions = [None if e is None else Position(e, 0.0, zone) for e in east]
    return PhotoList(
        (
            Photo(f"{name}{i}", f"{name}{i}", position=at, time=time)
            for i, (at, time) in enumerate(zip(positions, times, strict=True))
        ),
        name=name,
    )


def dataset(database, queries, database_times=None, query_times=None):
    return PlaceDataset("line", listed("d", database, database_times), listed("q", queries, query_times))


def test_positives_are_near_but_not_too_near_and_negatives_are_far():
    line = dataset([0.0, 1.0, 1.5, 10.0, 10.5, 25.0, 25.5, None], [0.0, None])
    candidates = Candidates.of(line, TrainConfig())
    assert candidates.positives(0).tolist() == [2, 3]  # more than 1 m, at most 10 m
    assert candidates.negatives(0).tolist() == [6]  # more than 25 m
    assert candidates.answerable.tolist() == [True, False]
    assert candidates.n_negatives(0) == 1
    everything = Candidates.of(line, TrainConfig(trivial_radius=-1.0))
    assert everything.positives(0).tolist() == [0, 1, 2, 3]


def test_positives_are_of_another_time_where_there_are_times():
    line = dataset([2.0, 3.0, 4.0, 100.0], [0.0], [201001, 201205, None, None], [201001])
    assert Candidates.of(line, TrainConfig()).positives(0).tolist() == [1, 2]
    assert Candidates.of(line, TrainConfig(other_time=False)).positives(0).tolist() == [0, 1, 2]
    with pytest.raises(InputError, match="taken at another time"):
        Candidates.of(dataset([2.0, 100.0], [0.0], [5, 5], [5]), TrainConfig())


@pytest.mark.parametrize("count", [1, 5, 40, 61, 200])
def test_negatives_drawn_are_different_and_far(count):
    line = dataset(list(np.linspace(2, 200, 80)), [0.0])
    candidates = Candidates.of(line, TrainConfig())
    candidates.leave_out([70, 75])
    far = set(candidates.negatives(0).tolist())
    assert len(far) == candidates.n_negatives(0) < 72 and not far & {70, 75}
    drawn = candidates.draw_negatives(0, count, np.random.default_rng(1))
    assert len(set(drawn.tolist())) == len(drawn) == min(count, len(far))
    assert set(drawn.tolist()) <= far


def test_all_negatives_are_as_likely():
    candidates = Candidates.of(dataset(list(np.linspace(2, 400, 200)), [0.0]), TrainConfig())
    counts = np.zeros(200)
    for seed in range(1500):
        counts[candidates.draw_negatives(0, 4, np.random.default_rng(seed))] += 1
    far = counts[candidates.negatives(0)]
    assert counts.sum() == far.sum() == 6000
    assert far.min() > 8 and far.max() < 75  # about 32 each


def test_photos_left_out_are_nothing():
    candidates = Candidates.of(dataset([2.0, 3.0, 50.0, 60.0], [0.0]), TrainConfig())
    candidates.leave_out([0, 2])
    assert (candidates.positives(0).tolist(), candidates.negatives(0).tolist()) == ([1], [3])
    assert candidates.are_negatives(0, np.array([0, 1, 2, 3])).tolist() == [False, False, False, True]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (dataset([0.5, 60.0], [0.0]), "no query has a photo of the database more than 1 m and at most 10 m"),
        (dataset([2.0, 3.0], [0.0]), "within 25 m of every query, so there are no negatives"),
        (dataset([None, None], [0.0]), "none of the 2 photos of the database has a position"),
        (dataset([2.0, 60.0], [None]), "none of the 1 photos of the queries has a position"),
    ],
)
def test_what_nothing_can_be_learnt_from_is_refused(line, message):
    with pytest.raises(InputError, match=message):
        Candidates.of(line, TrainConfig())
    assert Candidates.of(line, TrainConfig(), required=False) is not None


def unit(random, n, dims=12):
    rows = random.standard_normal((n, dims)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("count", [1, 4, 200])
def test_nearest_is_exact_and_in_order(count):
    random = np.random.default_rng(0)
    rows, query = unit(random, 150), unit(random, 1)[0]
    rows[40:45] = rows[20]
    among = np.sort(random.choice(150, 90, replace=False))
    rows_found, squared = nearest(query, rows, among, count)
    slow = ((rows[among].astype(np.float64) - query) ** 2).sum(axis=1)
    order = np.lexsort((among, slow))[:count]
    assert rows_found.tolist() == among[order].tolist()
    np.testing.assert_allclose(squared, slow[order], rtol=1e-12)


@pytest.mark.parametrize("work_values", [1, 1 << 24])
def test_of_photos_that_look_the_same_the_first_are_nearest(monkeypatch, work_values):
    """Of a wall or a road a database may have many; rounding does not choose among them."""
    monkeypatch.setattr(mining, "WORK_VALUES", work_values)
    random = np.random.default_rng(5)
    rows, query = unit(random, 4, 64)[random.integers(0, 4, 300)], unit(random, 1, 64)[0]
    rows[::7] = 0
    among = np.flatnonzero(random.random(300) < 0.8)
    slow = ((rows.astype(np.float64) - query) ** 2).sum(axis=1)
    seen = [row for row in among.tolist() if rows[row].any()]
    assert nearest(query, rows, among, 10)[0].tolist() == sorted(seen, key=lambda row: (slow[row], row))[:10]


@pytest.mark.parametrize("exclude", [False, True])
@pytest.mark.parametrize("loss", ["squared", "plain"])
@pytest.mark.parametrize("negatives", ["all", 20])
def test_mining_is_what_the_original_says(exclude, loss, negatives):
    if exclude and loss == "plain":
        return
    random = np.random.default_rng(2)
    line = dataset(list(np.linspace(2, 200, 60)), [0.0, 90.0, 1000.0])
    config = TrainConfig(
        negatives=negatives,
        negatives_used=2,
        negatives_remembered=3,
        margin=0.2,
        exclude_very_hard=exclude,
        loss=loss,
    )
    rows_found = Candidates.of(line, config)
    miner = Miner(rows_found, make_loss(config), config, 3)
    memory = {0: [], 1: []}
    seen = 0
    for batch in range(1, 12):
        descriptors = Descriptors(unit(random, 3), unit(random, 60))
        assert miner.choose(2, descriptors, 1, batch) is None  # it has no positive
        for query in (0, 1):
            drawn = (
                rows_found.negatives(query)
                if negatives == "all"
                else rows_found.draw_negatives(query, 20, np.random.default_rng([43, 1, batch, query]))
            )
            pool = sorted(set(drawn.tolist()) | set(memory[query]))
            squared = ((descriptors.database_ND - descriptors.queries_QD[query]).astype(float) ** 2).sum(
                axis=1
            )
            positive = min(rows_found.positives(query).tolist(), key=lambda row: squared[row])
            nearest_first = sorted(pool, key=lambda row: squared[row])[: 10 * 2]
            memory[query] = nearest_first[:3]
            if loss == "squared":
                good = [row for row in nearest_first if squared[row] < squared[positive] + 0.2]
            else:
                good = [row for row in nearest_first if squared[row] ** 0.5 < squared[positive] ** 0.5 + 0.2]
            if exclude:
                good = [row for row in good if squared[row] >= squared[positive]]
            mined = miner.choose(query, descriptors, 1, batch)
            assert (mined.query, mined.positive, mined.negatives.tolist()) == (query, positive, good[:2])
            assert miner.memory[query].tolist() == memory[query]
            seen += len(good)
    assert seen


def test_the_order_of_queries():
    config = TrainConfig()
    first, second = query_order(50, config, 1), query_order(50, config, 2)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first.tolist() == query_order(50, config, 1).tolist() != second.tolist()
    assert query_order(50, replace(config, query_order="given"), 3).tolist() == list(range(50))


def test_the_learning_rate_falls_at_6_11_16():
    config = TrainConfig(learning_rate=1.0)
    rates = [learning_rate(config, epoch) for epoch in range(1, 17)]
    assert rates == [1.0] * 5 + [0.5] * 5 + [0.25] * 5 + [0.125]
    each = TrainConfig(learning_rate=1.0, lr_down_every=1)
    assert [learning_rate(each, epoch) for epoch in (1, 2, 3)] == [1.0, 0.5, 0.25]
    assert learning_rate(replace(each, parity=True), 9) == 1.0


def test_batches_refreshes_and_checkpoints_are_counted_as_in_the_original():
    config = TrainConfig(batch_size=4, refresh_every=10, save_every=8)
    assert (n_batches(30, config), n_batches(30, replace(config, parity=True)), n_batches(8, config)) == (
        8,
        7,
        2,
    )
    assert [refresh_every(config, epoch) for epoch in (1, 5, 6, 11)] == [3, 3, 6, 12]
    assert refresh_every(replace(config, lr_down_factor=1.5), 6) == 5  # 4.5, rounded as MATLAB does
    assert refresh_every(replace(config, refresh_slows=False), 6) == 3
    assert [b for b in range(1, 10) if refreshes(config, 1, b, 9)] == [3, 6]
    assert [b for b in range(1, 5) if refreshes(replace(config, refresh_every=4), 1, b, 4)] == [2, 3]
    assert [b for b in range(1, 8) if saves(config, b)] == [2, 4, 6]
    assert not any(saves(replace(config, save_every=0), b) for b in range(1, 8))
