"""Each known way of going wrong, planted, is named; nothing is said of a healthy run."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from dejavlad import aggregation
from dejavlad.errors import InputError
from dejavlad.geo import Position
from dejavlad.ground_truth import PlaceDataset
from dejavlad.model import PlaceModel
from dejavlad.photo import PhotoList
from dejavlad.training import check, train
from dejavlad.training.diagnostics.doctor import (
    candidates_of,
    check_candidates,
    check_clusters,
)
from dejavlad.training.diagnostics.monitor import (
    Monitor,
    refresh_statistics,
)
from dejavlad.training.diagnostics.position_checks import check_positions
from dejavlad.training.sampling.mining import Descriptors

PLACES = 24


@pytest.fixture(scope="module")
def big(make_town):
    return make_town(PLACES)


def faults(findings) -> list[str]:
    return [one.fault for one in findings]


def moved(dataset: PlaceDataset, database=None, queries=None, zone=None, headings=None) -> PlaceDataset:
    """With other positions (functions of [N, 2]) and headings (of the database, of the queries)."""

    def lists(photos, change, heading):
        at = np.array([(p.position.east, p.position.north) for p in photos])
        at = at if change is None else change(at)
        return PhotoList(
            replace(p, position=Position(float(e), float(n), zone), heading=heading)
            for p, (e, n) in zip(photos, at, strict=True)
        )

    database_headings, query_headings = headings or (None, None)
    return PlaceDataset(
        dataset.name,
        lists(dataset.database, database, database_headings),
        lists(dataset.queries, queries, query_headings),
    )


def both(change):
    return {"database": change, "queries": change}


@pytest.fixture
def doctor(config):
    return replace(config, method="given", trivial_radius=-1, negatives_used=3)


def test_nothing_is_said_of_a_healthy_start(doctor, make_model, big):
    assert check(doctor, make_model(), big) == []
    netvlad = replace(doctor, method="vlad_preL2_intra", margin=2.0)
    assert check(netvlad, make_model(), big) == []


@pytest.mark.slow
def test_nothing_is_said_of_a_healthy_run(doctor, make_model, big, town_val, out):
    run = train(replace(doctor, epochs=3, learning_rate=0.003), make_model(), big, town_val, out)
    assert [one for one in run.records if one["kind"] == "warning"] == []
    refreshes = [one for one in run.records if one["kind"] == "refresh"]
    assert all(one["spread"] > 0 for one in refreshes)
    assert [("kept" in one) for one in refreshes] == [False] + [True] * (len(refreshes) - 1)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (both(lambda at: np.column_stack([8 + at[:, 0] / 70_000, 47 + at[:, 1] / 111_000])), "like degrees"),
        (both(lambda at: at / 1000), "like kilometres"),
        (both(lambda at: at * 1000), "the positions are in millimetres"),
        (both(lambda at: at * 100), "the positions are in centimetres"),
        ({"queries": lambda at: at[:, ::-1] + np.array([0, 3])}, "east and north of the queries are swapped"),
        ({"queries": lambda at: at / 1000}, "queries' positions are in kilometres"),
        ({"database": lambda at: at / 1000}, "map's positions are in kilometres"),
        ({**both(lambda at: at[:, ::-1] + np.array([5e6, 5e5])), "zone": "32N"}, "no UTM coordinates"),
        ({**both(lambda at: at + np.array([5e5, 9.2e6])), "zone": "37N"}, "latitude first"),
    ],
)
def test_wrong_units_of_position(doctor, big, change, text):
    shifted = moved(big, lambda at: at + np.array([300, 0]), lambda at: at + np.array([300, 0]))
    base = shifted if "queries" in change and "database" not in change else big
    findings = check_positions(moved(base, **change), doctor)
    assert len(findings) == 1 and findings[0].fault in (
        "wrong units of position",
        "latitude and longitude swapped",
    )
    assert text in str(findings[0])


def test_positions_that_are_right_are_left_alone(doctor, big):
    assert check_positions(big, doctor) == []
    assert check_positions(moved(big, **both(lambda at: at + np.array([5e5, 5e6])), zone="32N"), doctor) == []


def test_an_area_too_small(doctor, make_town):
    (findings,) = check_positions(moved(make_town(2), **both(lambda at: at / 5)), doctor)
    assert findings.fault == "too small an area" and "smaller negative_radius than 25" in findings.do


def test_an_error_tells_what_the_doctor_found(doctor, big, make_model, out):
    degrees = moved(big, **both(lambda at: 8 + at / 111_000))
    with pytest.raises(InputError, match=r"no negatives.*They look like degrees"):
        candidates_of(degrees, doctor)
    with pytest.raises(InputError, match="They look like degrees"):
        train(doctor, make_model(), degrees, None, out)
    with pytest.raises(InputError, match="They look like degrees"):
        check(doctor, make_model(), degrees)


def test_queries_without_positives_in_bulk(doctor, big):
    far = moved(big, queries=lambda at: at + np.where(np.arange(len(at)) % 3, 60, 0)[:, None])
    (findings,) = check_candidates(candidates_of(far, doctor), far, doctor)
    assert findings.fault == "queries without positives"
    assert "16 of 24 queries" in findings.seen


def test_too_few_negatives(doctor, make_town):
    few = make_town(3)
    (findings,) = check_candidates(candidates_of(few, doctor), few, doctor)
    assert (findings.fault, "6 photos" in findings.seen) == ("too few negatives", True)


def test_positives_that_look_away(doctor, big):
    for heading, named in ((180.0, ["positives that cannot be seen"]), (330.0, [])):
        turned = moved(big, headings=(heading, 10.0))
        assert faults(check_candidates(candidates_of(turned, doctor), turned, doctor)) == named


def test_positives_that_cannot_be_seen(doctor, make_model, big):
    order = np.random.default_rng(5).permutation(PLACES)
    mixed = moved(big, queries=lambda at: at[order])
    findings = check(doctor, make_model(), mixed)
    assert faults(findings) == ["positives that cannot be seen"]
    assert "24 queries" in findings[0].seen


def netvlad_of(make_model, change) -> PlaceModel:
    model = make_model()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = aggregation.create("netvlad", 8, clusters=16)
    change(layer)
    return PlaceModel(model.backbone, layer, model.preprocess, fitted=True, source=model.source).eval()


def test_clusters_not_initialised(doctor, make_model, big):
    def even(layer):
        layer.conv.weight.data *= 1e-3

    def one(layer):
        layer.conv.weight.data[1:] = -layer.conv.weight.data[:1]

    for change, text in ((even, "about alike"), (one, "of 16 clusters")):
        findings = [
            f
            for f in check(doctor, netvlad_of(make_model, change), big)
            if f.fault == "clusters not initialised"
        ]
        assert len(findings) == 1 and text in findings[0].seen


def test_collapsed_descriptors_at_the_start(doctor, make_model, big):
    model = make_model()
    for parameter in model.backbone.parameters():
        parameter.data *= 0
        parameter.data += 1e-3
    assert "collapsed descriptors" in faults(check(doctor, model, big))


@pytest.mark.slow
def test_a_margin_that_nothing_violates(doctor, make_model, big, out):
    easy = replace(doctor, margin=1e-9)
    same = PlaceDataset(
        big.name,
        big.database,
        PhotoList(
            replace(big.database[3 * i], name=f"q{i}", position=query.position)
            for i, query in enumerate(big.queries)
        ),
    )
    findings = check(easy, make_model(), same)
    assert faults(findings) == ["a margin that nothing violates"]
    assert "0 of 24 queries" in findings[0].seen
    run = train(replace(easy, epochs=1), make_model(), same, None, out)
    assert [one["fault"] for one in run.records if one["kind"] == "warning"] == faults(findings)


def test_clusters_of_a_model_in_double_precision_are_looked_at(config, make_model, make_town):
    model, photos = make_model(), make_town(4).database
    assert check_clusters(copy.deepcopy(model).double(), photos, config) == check_clusters(
        model, photos, config
    )


def test_patience_without_a_validation_set(config, make_model, make_town, tmp_path):
    town, small = make_town(4), replace(config, epochs=1, patience=2)
    alone = train(small, make_model(), town, None, tmp_path / "alone")
    tested = train(small, make_model(), town, town, tmp_path / "tested")
    warnings = [
        [record["fault"] for record in run.records if record["kind"] == "warning"] for run in (alone, tested)
    ]
    assert "patience without a validation set" in warnings[0]
    assert "patience without a validation set" not in warnings[1]


def batches(losses, violating=1):
    return [{"kind": "batch", "loss": loss, "violating": violating} for loss in losses]


def faults_of(monitor: Monitor, records) -> list[str]:
    return [one.fault for record in records for one in monitor(record)]


def test_nothing_violates_while_it_runs(config):
    monitor = Monitor(config)
    assert faults_of(monitor, batches([0.0] * 9, 0)) == []
    assert faults_of(monitor, batches([0.0] * 30, 0)) == ["a margin that nothing violates"]
    assert faults_of(Monitor(config), batches([0.1], 1) + batches([0.0] * 30, 0)) == []


def test_descriptors_that_collapse_while_it_runs(config):
    monitor = Monitor(config)
    assert faults_of(monitor, [{"kind": "refresh", "spread": 0.5}]) == []
    assert faults_of(monitor, [{"kind": "refresh", "spread": 1e-6}] * 2) == ["collapsed descriptors"]


def test_a_periodic_loss(config):
    refresh = {"kind": "refresh", "spread": 1.0, "kept": 0.9}
    falls = [0.6, 0.6, 0.55, 0.55, 0.4, 0.4, 0.3, 0.3, 0.2, 0.2, 0.2, 0.2]
    one = [*batches(falls), refresh]
    assert faults_of(Monitor(config), one * 3) == []
    assert faults_of(Monitor(config), one * 6) == ["stale cache"]
    assert faults_of(Monitor(config), [*batches([0.4, 0.5] * 6), refresh] * 6) == []


def test_neighbours_that_are_none_any_more(config):
    random = np.random.default_rng(0)

    def drawn():
        rows = random.normal(size=(150, 16)).astype(np.float32)
        return Descriptors(rows[:50], rows[50:])

    one, other = drawn(), drawn()
    assert refresh_statistics(one, one)["kept"] == 1.0
    assert refresh_statistics(one, other)["kept"] < 0.2
    record = {"kind": "refresh", **refresh_statistics(one, other)}
    assert faults_of(Monitor(config), [record]) == []
    assert faults_of(Monitor(config), [record] * 3) == ["stale cache"]


def test_said_once_also_when_a_run_goes_on(config):
    monitor = Monitor(config)
    monitor({"kind": "warning", "fault": "collapsed descriptors"})
    assert faults_of(monitor, [{"kind": "refresh", "spread": 0.0}]) == []


@pytest.mark.slow
def test_a_cache_gone_stale_in_a_run(doctor, make_model, big, out):
    wild = replace(doctor, epochs=6, learning_rate=0.5, momentum=0.0, lr_down_every=9, optimizer="adam")
    run = train(wild, make_model(), big, None, out)
    warned = [one["fault"] for one in run.records if one["kind"] == "warning"]
    assert warned and set(warned) <= {"stale cache", "collapsed descriptors"}
