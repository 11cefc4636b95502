"""Classes of photos in groups (CosPlace, EigenPlaces): how they are made, the loss, and whole runs."""

import math
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch

from dejavlad.errors import CheckpointError, InputError
from dejavlad.geo import Position
from dejavlad.ground_truth import PlaceDataset
from dejavlad.photo import Photo, PhotoList
from dejavlad.training import TrainConfig, check, initial_model, load_recipe, train
from dejavlad.training.config.method import parse_method
from dejavlad.training.diagnostics.cost import estimate_cost
from dejavlad.training.losses.large_margin import large_margin
from dejavlad.training.run.state import State
from dejavlad.training.sampling.classes import (
    FIELD_OF_VIEW,
    FRONTAL,
    LATERAL,
    cut_focal_views,
    group_classes,
    in_groups,
    with_focal_views,
)
from dejavlad.training.sampling.focal import bearings, faces, focal_points
from dejavlad.training.steps.classifiers import Classifiers

COSPLACE = TrainConfig(mining="classes", loss="large_margin", margin=0.4, place_sector=30.0, groups=0)
EIGENPLACES = replace(
    COSPLACE, classes="focal", place_size=15.0, place_sector=0.0, group_squares=3, class_photos=2
)


def scattered(n, *, seed=0, headings=True):
    """Photos all over 150 m, in UTM."""
    random = np.random.default_rng(seed)
    return [
        Photo(
            f"{i}.jpg",
            path=f"{i}.jpg",
            position=Position(550_000 + 150 * random.random(), 4_180_000 + 150 * random.random(), "10N"),
            heading=360 * random.random() if headings else None,
        )
        for i in range(n)
    ]


def cosplace_slowly(photos, m, alpha, n, ell, least):
    """Group -> class -> photos, by the formulas of the paper: classes by floors, groups by remainders."""
    classes = defaultdict(list)
    for number, photo in enumerate(photos):
        east, north = (math.floor(at / m) * m for at in (photo.position.east, photo.position.north))
        classes[east, north, math.floor(photo.heading / alpha) * alpha].append(number)
    groups = defaultdict(dict)
    for (east, north, heading), members in classes.items():
        if len(members) >= least:
            group = (east % (m * n) // m, north % (m * n) // m, heading % (alpha * ell) // alpha)
            groups[group][east, north, heading] = members
    return {group: members for group, members in groups.items() if len(members) > 1}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("m", "alpha", "n", "ell", "least"), [(10, 30, 5, 2, 2), (25, 60, 2, 3, 3), (10, 90, 1, 1, 4)]
)
def test_groups_are_those_of_the_papers_formulas(m, alpha, n, ell, least):
    photos = scattered(3000)
    config = replace(
        COSPLACE,
        place_size=float(m),
        place_sector=float(alpha),
        group_squares=n,
        group_sectors=ell,
        class_photos=least,
    )
    expected = cosplace_slowly(photos, m, alpha, n, ell, least)
    made = group_classes(photos, config)
    assert len(expected) > 1 or n == 1
    assert {group.key: sorted(map(list, group.views[""].values())) for group in made.groups} == {
        group: sorted(classes.values()) for group, classes in expected.items()
    }
    sizes = [group.n_classes for group in made.groups]
    assert sizes == sorted(sizes, reverse=True)
    in_classes = sum(len(members) for classes in expected.values() for members in classes.values())
    alone = sum(made.left_out.values())
    assert in_classes + alone <= len(photos)
    few = group_classes(photos, replace(config, groups=1)).groups
    assert [group.key for group in few] == [made.groups[0].key]


def test_classes_of_a_group_lie_apart():
    config = replace(COSPLACE, class_photos=2)
    for group in group_classes(scattered(6000), config).groups:
        keys = list(group.views[""])
        for i, (_, east, north, sector) in enumerate(keys):
            for _, other_east, other_north, other_sector in keys[:i]:
                apart = max(abs(east - other_east), abs(north - other_north))
                around = min((sector - other_sector) % 12, (other_sector - sector) % 12)
                assert apart >= 5 or (apart == 0 and around >= 2)


def test_photos_that_do_not_say_where_are_left_out_and_counted():
    photos = scattered(2000)
    photos[3], photos[5] = replace(photos[3], position=None), replace(photos[5], heading=None)
    made = group_classes(photos, replace(COSPLACE, class_photos=2))
    used = {number for group in made.groups for rows in group.views[""].values() for number in rows.tolist()}
    assert not used & {3, 5}
    assert (made.left_out["without a position"], made.left_out["without a heading"]) == (1, 1)
    squares = group_classes(
        scattered(800, headings=False), replace(COSPLACE, place_sector=0.0, class_photos=3)
    )
    assert all(key[3] == 0 for group in squares.groups for key in group.views[""])


def test_what_is_in_no_group_is_not_looked_at():
    """The same groups are made of what is left, whatever sorts the photos."""
    photos = scattered(3000)
    for config in (
        replace(COSPLACE, class_photos=2, groups=3),
        replace(EIGENPLACES, groups=2, class_photos=4),
        replace(COSPLACE, place_sector=0.0, class_photos=6, groups=1),
    ):
        town = PlaceDataset("town", PhotoList(photos[1000:]), PhotoList(photos[:1000]))
        left, grouping = in_groups(town, config)
        listed, kept = [*town.queries, *town.database], [*left.queries, *left.database]
        assert 0 < len(kept) < 2500 and grouping.n_photos == 3000
        again = group_classes(kept, config)
        assert names_of(again, kept) == names_of(grouping, listed)
    plain = TrainConfig()
    assert in_groups(town, plain) == (town, None)


def names_of(grouping, photos):
    return [
        [
            (group.key, view, key, [photos[i].name for i in rows.tolist()])
            for view, classes in group.views.items()
            for key, rows in classes.items()
        ]
        for group in grouping.groups
    ]


@pytest.mark.parametrize(
    ("photos", "config", "words"),
    [
        ([replace(one, position=None) for one in scattered(9)], COSPLACE, "none of 9 photos has a position"),
        (scattered(9, headings=False), COSPLACE, "none of 9 photos has a heading.*place_sector=0"),
        (scattered(9, headings=False), EIGENPLACES, "none of 9 photos has a heading.*--config cosplace"),
        (scattered(9), COSPLACE, "no group has two classes of at least 10 photos: 0 of 9 classes"),
        ([], COSPLACE, "none of 0 photos has a position"),
    ],
)
def test_photos_of_which_no_classes_can_be_made_are_refused(photos, config, words):
    with pytest.raises(InputError, match=words):
        group_classes(photos, config, "town")


def test_the_way_gives_a_point_beside_it_and_one_ahead():
    """A street towards the north-east, with the photos a little to either side of it."""
    along = np.linspace(-20, 20, 9)
    positions_N2 = 500 + np.repeat(np.stack([along, along], axis=1), 2, axis=0) + [[1, -1], [-1, 1]] * 9
    lateral, frontal = focal_points(positions_N2, 10.0)
    middle = positions_N2.mean(axis=0)
    np.testing.assert_allclose(frontal - middle, 10 * np.array([1, 1]) / math.sqrt(2), atol=1e-9)
    np.testing.assert_allclose(lateral - middle, 10 * np.array([1, -1]) / math.sqrt(2), atol=1e-9)
    one_spot = focal_points(np.full((4, 2), 7.0), 10.0)
    np.testing.assert_allclose(one_spot, [[7, 17], [17, 7]])
    moved = focal_points(positions_N2[::-1], 10.0)
    np.testing.assert_allclose(moved, (lateral, frontal), atol=1e-9)


def test_bearings_go_clockwise_from_north():
    origin = np.zeros((1, 2))
    around = [(0.0, 1.0), (1.0, 1.0), (1.0, 0.0), (0.0, -1.0), (-1.0, 0.0)]
    assert [float(bearings(origin, np.array(point))[0]) for point in around] == [0, 45, 90, 180, 270]
    assert np.isnan(bearings(origin, np.zeros(2))).all()
    headings = np.array([350.0, 20.0, 31.0, math.nan])
    assert faces(headings, np.array([10.0, 350.0, 0.0, 0.0]), 30.0).tolist() == [True, True, False, False]


def street_photos(n=40, *, turn=30):
    """A street to the east: at each metre a panorama cut into views."""
    return [
        Photo(
            f"{i}-{heading}.jpg",
            path="x.jpg",
            position=Position(3000.0 + i, 600.0 + 0.1 * (i % 3)),
            heading=float(heading),
            group=f"p{i}",
        )
        for i in range(n)
        for heading in range(0, 360, turn)
    ]


def test_focal_classes_are_the_photos_that_look_at_the_point():
    photos = street_photos()
    config = replace(EIGENPLACES, group_squares=1, focal_tolerance=15.0)
    made = group_classes(photos, config)
    (group,) = made.groups
    assert set(group.views) == {LATERAL, FRONTAL}
    for view, classes in group.views.items():
        assert len(classes) == 3
        for (_, east, north, _), rows in classes.items():
            members = [
                number
                for number, photo in enumerate(photos)
                if math.floor(photo.position.east / 15) == east
                and math.floor(photo.position.north / 15) == north
            ]
            at = np.array([[photos[i].position.east, photos[i].position.north] for i in members])
            _, _, directions = np.linalg.svd(at[::12] - at[::12].mean(axis=0))
            direction = directions[int(view == LATERAL)]
            direction = direction * (1 if abs(direction[0]) > 1e-9 and direction[0] > 0 else -1)
            point = at.mean(axis=0) + 10 * direction
            expected = []
            for number in members:
                gap = point - np.array([photos[number].position.east, photos[number].position.north])
                radians = math.radians(photos[number].heading)
                looks = np.array([math.sin(radians), math.cos(radians)])
                if gap @ looks / np.linalg.norm(gap) >= math.cos(math.radians(15)) - 1e-12:
                    expected.append(number)
            assert rows.tolist() == expected
    lateral, frontal = (next(iter(group.views[view].values())) for view in (LATERAL, FRONTAL))
    assert not set(lateral.tolist()) & set(frontal.tolist())
    assert {photos[i].heading for i in frontal.tolist()} <= {60.0, 90.0, 120.0, 270.0, 240.0, 300.0}
    assert made.left_out == {"in classes of fewer than 2, or that face no focal point": 480 - used(group)}


def used(group):
    return len({i for classes in group.views.values() for rows in classes.values() for i in rows.tolist()})


def test_views_of_one_panorama_count_once_for_the_way():
    """A panorama with many views must not draw the middle to itself."""
    photos = [one for one in street_photos(15) if one.group != "p0" or one.heading == 0.0]
    whole = group_classes(street_photos(30), replace(EIGENPLACES, group_squares=1, focal_tolerance=15.0))
    fewer = [*photos, *[one for one in street_photos(30) if int(one.group[1:]) >= 15]]
    thinned = group_classes(fewer, replace(EIGENPLACES, group_squares=1, focal_tolerance=15.0))
    names = [
        {key: [list_[i].name for i in rows.tolist()] for key, rows in made.groups[0].views[LATERAL].items()}
        for list_, made in ((street_photos(30), whole), (fewer, thinned))
    ]
    gone = {one.name for one in street_photos(1)} - {"0-0.jpg"}
    assert {key: [name for name in of if name not in gone] for key, of in names[0].items()} == names[1]


def panoramas(n=30):
    return [replace(one, name=f"{one.name}.jpg") for one in street_photos(n, turn=360)]


def test_views_are_cut_of_panoramas_towards_the_points():
    """Two views of each, which look exactly at the points that the panoramas' positions give."""
    config = replace(EIGENPLACES, group_squares=1, focal_views="cut")
    whole = [replace(one, heading=90.0, group=None) for one in panoramas()]
    views = cut_focal_views(whole, config)
    assert len(views) == 60 and all(one.view.fov == FIELD_OF_VIEW for one in views)
    (group,) = group_classes(views, config).groups
    for view, classes in group.views.items():
        assert [len(rows) for rows in classes.values()] == [15, 15]
        for (_, east, _, _), rows in classes.items():
            members = [one for one in whole if one.position.east // 15 == east]
            at = np.array([[one.position.east, one.position.north] for one in members])
            point = focal_points(at, 10.0)[view == FRONTAL]
            for number in rows.tolist():
                one = views[number]
                bearing = bearings(np.array([[one.position.east, one.position.north]]), point)[0]
                assert abs((90 + one.view.yaw - bearing + 180) % 360 - 180) < 1e-5
    assert cut_focal_views(views, config) == views
    unknown = PlaceDataset("unknown", PhotoList([replace(one, heading=None) for one in whole]), PhotoList([]))
    with pytest.raises(InputError, match="none of 30 photos has a heading"):
        with_focal_views(unknown, config)


@pytest.mark.slow
def test_a_run_on_panoramas(make_model, tmp_path):
    """Strips as SF-XL's, whose colours tell the direction."""
    columns = np.arange(208)
    strip = np.stack([127 + 120 * np.sin(2 * np.pi * columns / 208 + turn) for turn in (0, 2, 4)], axis=1)
    rows = np.random.default_rng(0).integers(0, 9, (32, 1, 3))
    pixels = (np.broadcast_to(strip, (32, 208, 3)) - rows).clip(0, 255).astype(np.uint8)
    photos = PhotoList([replace(one, pixels=pixels, heading=180.0) for one in panoramas(60)])
    config = quick("eigenplaces", focal_views="cut", place_size=15.0, group_squares=1, resize="24x32")
    town = PlaceDataset("panoramas", photos, PhotoList([]))
    assert estimate_cost(make_model("gem_linear"), town, config).photos == 8
    assert check(config, make_model("gem_linear"), town) == []
    chosen = replace(config, focal_views="choose")
    findings = [finding.fault for finding in check(chosen, make_model("gem_linear"), town)]
    assert "panoramas as they are" in findings
    run = train(config, make_model("gem_linear"), town, None, tmp_path / "run")
    assert run.finished and not [one for one in run.records if one["kind"] == "photo"]


def test_the_loss_is_that_of_the_formula():
    """Two photos, three classes, by hand."""
    rows = torch.tensor([[3.0, 0.0], [0.0, 0.5]], dtype=torch.float64, requires_grad=True)
    weights = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]], dtype=torch.float64, requires_grad=True)
    s, m = 30.0, 0.4
    result = large_margin(rows, weights, torch.tensor([0, 2]), scale=s, margin=m)
    root = math.sqrt(0.5)
    cosines, own = [[1.0, 0.0, root], [0.0, 1.0, root]], [0, 2]
    expected = []
    for cosine, y in zip(cosines, own, strict=True):
        logits = [s * (c - m * (j == y)) for j, c in enumerate(cosine)]
        expected.append(-math.log(math.exp(logits[y]) / sum(map(math.exp, logits))))
    np.testing.assert_allclose(result.losses_U.detach().numpy(), expected, rtol=1e-12)
    assert result.wrong == 1
    result.losses_U.mean().backward()
    assert rows.grad.abs().sum() > 0 and weights.grad.abs().sum() > 0
    no_margin = large_margin(rows, weights, torch.tensor([0, 2]), scale=s, margin=0.0)
    assert (no_margin.losses_U < result.losses_U).all()


def test_sectors_must_go_round():
    with pytest.raises(InputError, match="into a multiple of group_sectors; 120 degrees make 3 sectors"):
        replace(COSPLACE, place_sector=120.0)
    with pytest.raises(InputError, match=r"50 degrees make 7\.2 sectors"):
        replace(COSPLACE, place_sector=50.0)
    assert replace(COSPLACE, place_sector=120.0, group_sectors=3).group_sectors == 3


@pytest.mark.parametrize(
    "given",
    [
        {"mining": "classes"},
        {"loss": "large_margin"},
        {"mining": "classes", "loss": "large_margin", "batch_norm": "learnt", "photos_at_once": 3},
        {"steps_per_epoch": 0},
        {"margin_scale": 0.0},
        {"augment_hue": 0.6},
        {"method": "max_linear"},
        {"method": "gem_linear_intra"},
    ],
)
def test_options_that_cannot_be_are_refused(given):
    with pytest.raises(InputError):
        TrainConfig(**given)


def test_options_of_classes_are_refused_elsewhere():
    for setting in ("group_squares=3", "class_photos=3", "margin_scale=20", "classifier_rate=0.1"):
        with pytest.raises(InputError, match="has no effect"):
            TrainConfig().with_settings([setting])
    with pytest.raises(InputError, match="goes with classes = 'focal'"):
        load_recipe("cosplace").with_settings(["focal_distance=20"])
    assert load_recipe("cosplace").with_settings(["margin=0.3"]).margin == 0.3


def test_the_recipes_are_the_papers():
    cosplace, eigenplaces = load_recipe("cosplace"), load_recipe("eigenplaces")
    assert (cosplace.place_size, cosplace.place_sector, cosplace.group_squares) == (10, 30, 5)
    assert (cosplace.group_sectors, cosplace.groups, cosplace.class_photos) == (2, 8, 10)
    assert (cosplace.margin_scale, cosplace.margin, cosplace.batch_size) == (30, 0.4, 32)
    assert (cosplace.learning_rate, cosplace.classifier_rate, cosplace.epochs) == (1e-5, 0.01, 50)
    assert (eigenplaces.place_size, eigenplaces.group_squares, eigenplaces.groups) == (15, 3, 0)
    assert (eigenplaces.focal_distance, eigenplaces.margin_scale, eigenplaces.class_photos) == (10, 100, 5)
    assert (eigenplaces.step_photos, eigenplaces.steps_per_epoch, eigenplaces.epochs) == (64, 5000, 40)
    assert parse_method(cosplace.method) == ("gem_linear", {"normalize_input": True, "dims": 512})


QUICK = {
    "place_size": 20.0,
    "group_squares": 2,
    "class_photos": 3,
    "method": "given",
    "train_from": "",
    "resize": "",
    "batch_size": 4,
    "steps_per_epoch": 4,
    "epochs": 4,
    "learning_rate": 3e-3,
    "batch_norm": "fixed",
    "augment_crop": 1.0,
    "augment_colour": 0.0,
    "augment_hue": 0.0,
    "recall_at": (1, 5),
    "describe_batch": 4,
    "save_every": 8,
    "workers": 0,
}


def headed(town):
    """Both lists with headings: the photos of a place look north and east by turns of two."""
    lists = [
        PhotoList(
            [replace(one, heading=5.0 if i % 4 < 2 else 95.0) for i, one in enumerate(photos)],
            root=photos.root,
            name=photos.name,
        )
        for photos in (town.database, town.queries)
    ]
    return PlaceDataset(town.name, *lists, town.truth, town.protocol)


def quick(recipe, **options):
    focal = {} if recipe == "cosplace" else {"focal_tolerance": 180.0}
    sectors = {"place_sector": 0.0, "group_sectors": 1} if recipe == "cosplace" else {}
    return replace(load_recipe(recipe), **{**QUICK, **focal, **sectors, **options})


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["cosplace", "eigenplaces"])
def test_a_run_learns(recipe, make_town, make_model, tmp_path):
    """Groups take turns: with each return of a group its loss is lower."""
    config = quick(recipe, epochs=6, groups=1, steps_per_epoch=6, classifier_rate=0.05)
    town = headed(make_town(16))
    run = train(config, make_model("gem_linear", dims=16), town, make_town(6, 16), tmp_path / "run")
    assert len(run.losses) == 36 and run.finished
    assert np.mean(run.losses[-6:]) < 0.8 * np.mean(run.losses[:6])
    recalls = run.recalls()
    assert recalls.keys() == set(range(7))
    assert max(recall[1] for epoch, recall in recalls.items() if epoch) >= recalls[0][1]
    batches = [one for one in run.records if one["kind"] == "batch"]
    assert batches[0]["tuples"] == config.step_photos
    assert batches[-1]["very_hard"] <= batches[0]["very_hard"]


def test_groups_take_turns(make_town, make_model, tmp_path):
    config = quick("cosplace", steps_per_epoch=1, groups=0)
    town = headed(make_town(16))
    groups = group_classes([*town.queries, *town.database], config).groups
    assert len(groups) > 1
    run = train(
        replace(config, epochs=len(groups) + 1), make_model("gem_linear"), town, None, tmp_path / "run"
    )
    state = State.load(run.path)
    steps = {
        name.split("/")[1]: float(tensor) for name, tensor in state.tensors.items() if name.endswith("/step")
    }
    assert {name: value for name, value in steps.items() if not name.startswith("optimizer")}["0."] == 2
    assert all(steps[f"{i}."] == 1 for i in range(1, len(groups)))
    shapes = [state.tensors[f"classifier/{i}./weight"].shape for i in range(len(groups))]
    assert [len(group.views[""]) for group in groups] == [shape[0] for shape in shapes]


@pytest.mark.slow
def test_a_folder_of_photos_alone_is_enough(make_town, make_model, tmp_path):
    town = headed(make_town(16))
    alone = PlaceDataset("alone", town.database, PhotoList([]))
    config = quick("cosplace")
    assert check(config, make_model("gem_linear"), alone) == []
    run = train(config, make_model("gem_linear"), alone, None, tmp_path / "run")
    assert run.finished and len(run.losses) == 16


def test_classes_that_change_are_other_photos(make_town, make_model, tmp_path):
    config = quick("cosplace", epochs=1)
    town = headed(make_town(16))
    train(config, make_model("gem_linear"), town, None, tmp_path / "run")
    turned = PlaceDataset(
        town.name, PhotoList([replace(one, heading=200.0) for one in town.database]), town.queries
    )
    with pytest.raises(InputError, match="other photos or positions"):
        train(replace(config, epochs=2), None, turned, None, tmp_path / "run")
    with pytest.raises(InputError, match="another class_photos was 3"):
        train(replace(config, epochs=2, class_photos=2), None, town, None, tmp_path / "run")


def test_classifiers_of_other_classes_are_refused():
    photos = scattered(3000)
    made = [group_classes(photos, replace(COSPLACE, class_photos=least)).groups for least in (2, 3)]
    one, other = (Classifiers(groups, 4, COSPLACE, torch.device("cpu"), torch.float32) for groups in made)
    with pytest.raises(CheckpointError, match="of other classes"):
        one.restore(other.tensors())
    kept = one.tensors()
    one.take(0)
    rows = torch.eye(4)[:2]
    one.losses("", rows, torch.tensor([0, 1])).losses_U.sum().backward()
    one.step()
    after = one.tensors()
    changed = sorted(name for name in kept if not torch.equal(kept[name], after[name]))
    assert changed == ["classifier/0./weight"] and one.finite
    one.restore(kept)
    assert torch.equal(one.tensors()["classifier/0./weight"], kept["classifier/0./weight"])


def test_most_photos_in_no_class_are_noticed(make_town, make_model):
    config = quick("cosplace", class_photos=4)
    lone = [
        replace(one, position=Position(1e4 + 100 * i, 0.0))
        for i, one in enumerate(make_town(30, 30).database)
    ]
    town = headed(make_town(8))
    mixed = PlaceDataset(
        "mixed", PhotoList([*town.database, *(replace(one, heading=5.0) for one in lone)]), town.queries
    )
    findings = check(config, make_model("gem_linear"), mixed)
    assert "photos in no class" in [finding.fault for finding in findings]


def test_the_cost_counts_steps_and_classifiers(make_town, make_model):
    config = quick("eigenplaces")
    cost = estimate_cost(make_model("gem_linear", dims=16), headed(make_town(16)), config)
    assert (cost.steps, cost.photos) == (16, 8)
    assert cost.memory_gb > 0


def test_the_network_of_the_recipe_is_cosplaces(make_town):
    config = replace(load_recipe("cosplace"), dims=32)
    model = initial_model(config, weights="random:0")
    assert model.backbone is not None
    from dejavlad.training.run.initial_model import prepare

    prepared = [prepare(model, config, make_town(2)) for _ in range(2)]
    assert prepared[0].aggregation.name == "gem_linear"
    assert prepared[0].descriptor_size == 32 and prepared[0].aggregation.normalize_input
    assert prepared[0].preprocess.resize == "512x512"
    assert torch.equal(prepared[0].aggregation.linear.weight, prepared[1].aggregation.linear.weight)
