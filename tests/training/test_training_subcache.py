"""Mapillary's training: weighted queries, mining by subcaches, and the recipe on a tiny tree of MSLS."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from dejavlad.datasets import open_msls
from dejavlad.geo import utm_from_latlon
from dejavlad.training import TrainConfig, load_recipe, train
from dejavlad.training.data.descriptor_file import read_rows
from dejavlad.training.losses.ranking_loss import make_loss
from dejavlad.training.sampling.subcache import (
    SubcacheMiner,
    subcache_of,
)
from dejavlad.training.sampling.tuples import Candidates
from dejavlad.training.sampling.weighting import (
    query_order,
    query_weights,
)
from dejavlad.zoo import load_model

LONDON = (51.5, -0.1)
HARD = TrainConfig(
    mining="subcache",
    cached_queries=4,
    cached_negatives=30,
    negatives_used=3,
    loss="plain",
    margin=0.3,
    trivial_radius=-1.0,
)


def descriptors(n, d=5, seed=0):
    rows = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def made(town, config):
    candidates = Candidates.of(town, config)
    return candidates, SubcacheMiner(candidates, make_loss(config), config, len(town.queries))


def test_what_a_subcache_needs(make_town):
    town = make_town(10)
    candidates, miner = made(town, HARD)
    numbers = miner.wanted(np.array([7, 2, 7, 5]), 1, 1)
    assert numbers.tolist() == sorted(numbers.tolist())
    assert numbers[:3].tolist() == [2, 5, 7]
    database = numbers[3:] - 10
    positives = {row for query in (2, 5, 7) for row in candidates.positives(query).tolist()}
    assert positives == {6, 7, 8, 15, 16, 17, 21, 22, 23} <= set(database.tolist())
    others = set(database.tolist()) - positives
    assert others == set(range(30)) - positives  # all were drawn; none near one of the three is left
    few = replace(HARD, cached_negatives=6)
    drawn = [made(town, few)[1].wanted(np.array([2]), epoch, 1).tolist() for epoch in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def by_hand(town, config):
    """Of some queries of a subcache: the tuple that is mined, the distances of all rows of the database, the
    nearest positive, and the negatives, nearest first."""
    candidates, miner = made(town, config)
    rows_MD = descriptors(40)
    numbers = miner.wanted(np.array([1, 4, 8]), 1, 1)
    cache = subcache_of(numbers, rows_MD[numbers], candidates, 10)
    near = {3 * place + i for place in (1, 4, 8) for i in range(3)}
    for query in (1, 4, 8):
        away = np.linalg.norm(rows_MD[10:].astype(np.float64) - rows_MD[query], axis=1)
        positive = min(candidates.positives(query).tolist(), key=lambda row: away[row])
        order = sorted(set(range(30)) - near, key=lambda row: away[row])
        mined = miner.choose(query, cache, 1, 1)
        assert (mined.query, mined.positive) == (query, positive)
        yield mined.negatives.tolist(), away, positive, order


def test_the_tuple_is_that_of_the_slow_definition(make_town):
    violating = 0
    for chosen, away, positive, order in by_hand(make_town(10), HARD):
        expected = [row for row in order[:3] if away[row] < away[positive] + 0.3]
        assert chosen == expected
        violating += len(expected)
    assert violating > 3


def test_very_hard_negatives_are_passed_over_for_the_next(make_town):
    """Not only where they are among the few that a tuple uses."""
    hard = replace(HARD, loss="squared", margin=4.0, exclude_very_hard=True)
    hidden = 0
    for chosen, away, positive, order in by_hand(make_town(10), hard):
        hidden += sum(away[row] < away[positive] for row in order[:3]) == 3
        assert chosen == [row for row in order if away[row] >= away[positive]][:3]
    assert hidden


def test_a_positive_that_fits_has_no_violators_but_by_the_quirk(make_town):
    """Likenesses taken for distances: easy negatives pass the test, the hard ones do not."""
    town = make_town(10)
    rows_MD = np.zeros((40, 3), np.float32)
    rows_MD[10:, 1] = 1.0
    rows_MD[1, 0] = rows_MD[13:16, 0] = 1.0
    rows_MD[13:16, 1] = 0.0
    for quirk in (False, True):
        candidates, miner = made(town, replace(HARD, quirk_inverted_violation=quirk))
        numbers = miner.wanted(np.array([1]), 1, 1)
        mined = miner.choose(1, subcache_of(numbers, rows_MD[numbers], candidates, 10), 1, 1)
        assert mined.positive == 3
        assert len(mined.negatives) == (3 if quirk else 0)
    # where negatives are likelier than the positive, the quirk passes the query over
    rows_MD[10:, 0], rows_MD[10:, 1] = 1.0, 0.0
    rows_MD[13:16, 0], rows_MD[13:16, 1] = 0.0, 1.0
    for quirk in (False, True):
        candidates, miner = made(town, replace(HARD, quirk_inverted_violation=quirk))
        numbers = miner.wanted(np.array([1]), 1, 1)
        mined = miner.choose(1, subcache_of(numbers, rows_MD[numbers], candidates, 10), 1, 1)
        assert len(mined.negatives) == (0 if quirk else 3)


def test_photos_that_fail_are_no_negatives_any_more(make_town):
    town = make_town(10)
    candidates, miner = made(town, HARD)
    rows_MD = descriptors(40)
    numbers = miner.wanted(np.array([1]), 1, 1)
    cache = subcache_of(numbers, rows_MD[numbers], candidates, 10)
    before = miner.choose(1, cache, 1, 1)
    candidates.leave_out([*before.negatives.tolist(), before.positive])
    after = miner.choose(1, cache, 1, 1)
    assert after.positive != before.positive
    assert not set(before.negatives.tolist()) & set(after.negatives.tolist())


def tree(root, view, write, places=8):
    """A city of MSLS with places 100 m apart, four photos and two queries of each."""
    here = utm_from_latlon(*LONDON)
    for name, first in (("london", 0), ("cph", 20)):
        for side, shifts in (("database", (2, 4, 6, 8)), ("query", (0, 10))):
            folder = root / "train_val" / name / side
            tables = {"seq_info": [], "raw": [], "postprocessed": [], "subtask_index": []}
            for place in range(places):
                for i, shift in enumerate(shifts):
                    key = f"{side[0]}{place}-{i}"
                    write(folder / "images" / f"{key}.jpg", view(first + place, shift, 40, 56))
                    at = {"key": key}
                    tables["seq_info"].append({**at, "sequence_key": str(i), "frame_number": place})
                    tables["raw"].append({**at, "lon": LONDON[1], "lat": LONDON[0], "pano": False})
                    tables["postprocessed"].append(
                        {
                            **at,
                            "easting": here.east + 100.0 * place,
                            "northing": here.north + i,
                            "night": place == 3,
                            "view_direction": "Sideways" if place == 5 else "Forward",
                        }
                    )
                    tables["subtask_index"].append({**at, "all": True})
            for table, rows in tables.items():
                with open(folder / f"{table}.csv", "w", encoding="utf-8", newline="") as file:
                    writer = csv.DictWriter(file, ["", *rows[0]])
                    writer.writeheader()
                    writer.writerows({"": i, **row} for i, row in enumerate(rows))
    return root


@pytest.fixture(scope="module")
def msls(tmp_path_factory, make_view, make_photo):
    return tree(tmp_path_factory.mktemp("msls"), make_view, make_photo)


def test_queries_of_rare_conditions_are_drawn_the_oftener(msls):
    config = replace(HARD, query_order="weighted", weigh_tags=("night", "sideways"))
    town = open_msls(msls, "london")
    candidates = Candidates.of(town, config)
    weights = query_weights(town.queries, candidates, config)
    assert weights.tolist() == [9.0 if query // 2 in (3, 5) else 1.0 for query in range(16)]
    drawn = np.concatenate([query_order(16, config, epoch, weights) for epoch in range(1, 201)])
    share = np.isin(drawn // 2, (3, 5)).mean()
    assert abs(share - 36 / 48) < 0.03
    assert np.array_equal(query_order(16, config, 3, weights), query_order(16, config, 3, weights))
    assert query_weights(town.queries, candidates, HARD) is None


def test_the_recipe_has_the_originals_values():
    config = load_recipe("msls-vgg16-netvlad")
    assert config.margin == pytest.approx(0.1**0.5)
    sizes = (config.batch_size, config.negatives_used, config.cached_queries, config.cached_negatives)
    assert sizes == (4, 5, 1000, 1000)
    assert (config.learning_rate, config.momentum, config.weight_decay) == (1e-4, 0.9, 1e-3)
    assert (config.positive_radius, config.negative_radius, config.trivial_radius) == (10.0, 25.0, -1.0)
    assert (config.patience, config.clusters, config.resize) == (10, 16, "480x640")


@pytest.mark.slow
def test_the_recipe_learns(msls, make_model, tmp_path):
    config = replace(
        load_recipe("msls-vgg16-netvlad"),
        train_from="",
        resize="40x56",
        clusters=4,
        cached_queries=8,
        method="given",
        margin=0.6,
        epochs=5,
        learning_rate=5e-3,
        workers=0,
    )
    town = open_msls(msls, "london")
    run = train(config, make_model("max"), town, town, tmp_path / "run")
    batches = [one for one in run.records if one["kind"] == "batch"]
    assert len(batches) == 5 * 4
    assert [one["at"] for one in run.records if one["kind"] == "refresh"][:3] == [[1, 1], [1, 3], [2, 1]]
    losses = run.rank_losses()  # over all queries and negatives, as the loss of a batch is of few
    assert losses[5] < 0.9 * losses[0]
    assert {one["set"] for one in run.records if one["kind"] == "test"} == {"val"}
    (last,) = (tmp_path / "run" / "cache").glob("descriptors-*.npy")
    numbers, rows_MD = read_rows(last)
    assert len(numbers) < 48
    np.testing.assert_allclose(np.linalg.norm(rows_MD, axis=1), 1, atol=1e-5)


@pytest.mark.slow
def test_it_stops_where_validation_does_not_get_better(msls, make_model, tmp_path):
    config = replace(
        load_recipe("msls-vgg16-netvlad"),
        method="vlad_tied_preL2_intra",
        train_from="",
        resize="40x56",
        clusters=4,
        cached_queries=8,
        epochs=9,
        patience=2,
        learning_rate=1e-12,
        workers=0,
    )
    town, val = open_msls(msls, "london"), open_msls(msls, "cph")
    run = train(config, make_model("max"), town, val, tmp_path / "run")
    assert run.epochs == [0, 1, 2, 3]  # the first tested is the best
    learnt = load_model(run.model("latest"), device="cpu").aggregation
    assert (learnt.name, learnt.clusters, learnt.alpha.shape) == ("netvlad_tied", 4, (1,))
