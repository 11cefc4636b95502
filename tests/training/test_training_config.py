"""Options and recipes."""

import tomllib
from dataclasses import fields
from importlib import resources

import pytest

from dejavlad.errors import InputError, UnknownNameError
from dejavlad.training import TrainConfig, list_recipes, load_recipe
from dejavlad.training.config.method import parse_method


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_can_be_loaded(name):
    config = load_recipe(name)
    assert TrainConfig.from_toml(config.to_toml()) == config


@pytest.mark.parametrize("dataset", ["pitts30k", "pitts250k", "tokyotm"])
@pytest.mark.parametrize(("network", "first"), [("caffenet", "conv2"), ("vgg16", "conv5_1")])
@pytest.mark.parametrize("pooling", ["vlad", "vladv2", "max", "avg"])
def test_every_published_network_has_its_recipe(dataset, network, first, pooling):
    config = load_recipe(f"{dataset}-{network}-{pooling}")
    assert (config.network, config.train_from) == (network, first)
    assert config.method.split("_")[0] == pooling
    assert config.learning_rate == (1e-3 if dataset == "pitts30k" else 1e-4)
    assert (config.margin, config.negatives, config.epochs, config.batch_size) == (0.1, 1000, 30, 4)


def test_the_base_recipe_tells_every_option_and_its_default():
    text = resources.files("dejavlad.recipes").joinpath("train", "netvlad.toml").read_text(encoding="utf-8")
    assert list(tomllib.loads(text)) == [one.name for one in fields(TrainConfig)]
    assert load_recipe("netvlad") == TrainConfig()


def test_every_option_is_explained():
    source = resources.files("dejavlad.training").joinpath("config", "options.py").read_text(encoding="utf-8")
    for one in fields(TrainConfig):
        after = source.split(f"    {one.name}: ", 1)[1].split("\n", 1)[1]
        assert after.lstrip().startswith('"""'), one.name


def test_options_are_set_as_the_command_writes_them():
    config = TrainConfig().with_settings(
        [
            "margin=1",
            "negatives=all",
            "recall_at=[1, 5]",
            "jitter_flip=true",
            "train_from=conv5_1",
            "info=a b",
        ]
    )
    assert (config.margin, config.negatives, config.recall_at) == (1.0, "all", (1, 5))
    assert (config.jitter_flip, config.train_from, config.info) == (True, "conv5_1", "a b")
    assert TrainConfig.from_toml(config.to_toml()) == config


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("margin=-1", "margin must be above 0; given -1"),
        ("margin=wide", "margin must be a finite number; given 'wide'"),
        ("margin=inf", "margin must be a finite number; given inf"),
        ("weight_decay=nan", "weight_decay must be a finite number; given nan"),
        ("jitter_flip=1", "jitter_flip must be true or false; given 1"),
        ("weigh_tags=night", "weigh_tags must be a list, each item text; given 'night'"),
        ("jitter_scales=[0.5,0]", r"jitter_scales must be above 0; given \[0.5, 0.0\]"),
        ("batch_size=0", "batch_size must be at least 1; given 0"),
        ("batch_size=2.5", "batch_size must be a whole number; given 2.5"),
        ("negatives=some", "negatives must be a whole number or 'all'; given 'some'"),
        ("negatives=0", "negatives must be at least 1, or 'all'; given 0"),
        ("optimizer=lion", "optimizer must be one of sgd, adam, adamw; given 'lion'"),
        ("positive_radius=30", "trivial < positive <= negative; given 1.0, 30.0 and 25.0"),
        ("recall_at=[5,1]", r"recall_at must be ascending numbers from 1; given \[5, 1\]"),
        ("method=vlad_max", "a method names one of vlad, vladv2, max, avg, gem; given 'vlad_max'"),
        ("method=vladv2_tied", "vlad_tied has the biases of vladv2 already; given 'vladv2_tied'"),
        ("method=max_intra", "intra goes with vlad and vladv2 only; given 'max_intra'"),
        ("loss=multi_similarity", "loss = 'multi_similarity' and mining = 'places' go together"),
        ("query_order=weighted", r"needs weigh_tags, e.g. \['night', 'sideways'\]"),
        ("augment_crop=0", "augment_crop must be above 0; given 0"),
        ("augment_flip=1.5", "augment_flip must be at most 1; given 1.5"),
        ("photos_per_place=1", "photos_per_place must be at least 2; given 1"),
        ("resize=big", "resize 'big' is unknown"),
        ("margin", "an option is set as key=value; given 'margin'"),
    ],
)
def test_what_cannot_be_is_refused(setting, message):
    with pytest.raises(InputError, match=message):
        TrainConfig().with_settings([setting])


PLACES = ["mining=places", "loss=multi_similarity"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([*PLACES, "margin=0.3"], "margin = 0.3 has no effect on training with mining = 'places'; it goes"),
        ([*PLACES, "margin=0.1"], "margin = 0.1 has no effect"),
        ([*PLACES, "query_order=given"], "it goes with mining = 'all' or 'subcache'. Leave it out"),
        ([*PLACES, "exclude_very_hard=true"], "exclude_very_hard = True has no effect"),
        ([*PLACES, "refresh_every=10"], "refresh_every = 10 has no effect"),
        ([*PLACES, "places=groups", "place_size=5"], "place_size = 5.0 has no effect.* places = 'groups'"),
        (["cached_queries=8"], "cached_queries = 8 has no effect on training with mining = 'all'"),
        (["mining=subcache", "negatives_remembered=5"], "negatives_remembered = 5 has no effect"),
        (["place_size=5"], "mining = 'all'; it goes with mining = 'places' or 'classes'"),
        (
            ["clusters=32", "method=gem"],
            "clusters = 32 has no effect.*method = 'gem'; it goes with vlad",
        ),
        (["dims=256"], "dims = 256 has no effect.*; it goes with gem_linear"),
        (["frozen_maps=off", "frozen_maps_gb=2"], "it goes with frozen_maps = 'auto' or 'memory'"),
        (["frozen_maps=off", "frozen_maps_dtype=int16"], "frozen_maps_dtype = 'int16' has no effect"),
        (["group_sectors=3"], "it goes with mining = 'classes'"),
        (["photos_per_place=3"], "it goes with mining = 'places'"),
        (["ms_beta=10"], "ms_beta = 10.0 has no effect"),
        (["weigh_tags=['night']"], "it goes with query_order = 'weighted'"),
        (["optimizer=adam", "momentum=0.5"], "it goes with optimizer = 'sgd'"),
        (["lr_schedule=linear", "lr_down_every=3"], "it goes with lr_schedule = 'steps'"),
    ],
)
def test_options_that_would_have_no_effect_are_refused_when_set(settings, message, tmp_path):
    with pytest.raises(InputError, match=message):
        TrainConfig().with_settings(settings)
    if "margin=0.1" in settings:  # a file may spell out a default
        return
    lines = [f"{key} = {value}" for key, value in (one.split("=") for one in settings)]
    words = [key for line in lines if not (key := line.split(" = ")[1])[0].isdigit() and key[0] not in "[t"]
    text = "\n".join(lines)
    for word in words:
        text = text.replace(f" = {word}", f' = "{word}"')
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        load_recipe(tmp_path / "mine.toml")


def test_options_without_effect_are_read_from_older_runs_and_may_be_switched_off():
    older = TrainConfig(mining="places", loss="multi_similarity", margin=0.3, query_order="given")
    assert TrainConfig.from_toml(older.to_toml()) == older
    assert older.with_settings(["epochs=3"]).margin == 0.3
    switched_off = [*PLACES, "negatives_remembered=0", "exclude_very_hard=false", "weigh_tags=[]"]
    assert TrainConfig().with_settings(switched_off).negatives_remembered == 0


def test_unknown_names_are_told_with_the_near_ones():
    with pytest.raises(UnknownNameError, match="did you mean margin"):
        TrainConfig().with_settings(["margn=1"])
    with pytest.raises(UnknownNameError, match="did you mean pitts30k-vgg16-vlad"):
        load_recipe("pitts30k-vgg16-vald")


def test_methods_are_understood_in_any_order():
    assert parse_method("intra_vlad_preL2") == parse_method("vlad_preL2_intra")
    assert parse_method("vladv2") == (
        "netvlad",
        {"clusters": 64, "version": 2, "normalize_input": False, "intra_norm": False},
    )
    assert parse_method("vlad_tied_preL2_intra") == (
        "netvlad_tied",
        {"clusters": 64, "normalize_input": True, "intra_norm": True},
    )
    assert parse_method("max") == ("max", {})
    assert parse_method("preL2_avg") == ("avg", {"normalize_input": True})
    assert parse_method("given") is None


def test_parity_stands_for_all_quirks():
    quirks = [one.name for one in fields(TrainConfig) if one.name.startswith("quirk_")]
    assert len(quirks) == 5
    for name in quirks:
        short = name.removeprefix("quirk_")
        assert not TrainConfig().quirk(short)
        assert TrainConfig(parity=True).quirk(short)
        assert TrainConfig(**{name: True}).quirk(short)


def test_a_recipe_may_be_a_file_that_extends_another(tmp_path):
    (tmp_path / "mine.toml").write_text('extends = "pitts30k-vgg16-max"\nepochs = 2\n', encoding="utf-8")
    config = load_recipe(tmp_path / "mine.toml")
    assert (config.method, config.epochs) == ("max", 2)
    (tmp_path / "round.toml").write_text(f'extends = "{(tmp_path / "round.toml").as_posix()}"\n')
    with pytest.raises(InputError, match="cannot extend"):
        load_recipe(tmp_path / "round.toml")


def test_options_that_a_recipe_takes_over_may_have_no_effect(tmp_path):
    (tmp_path / "tuples.toml").write_text("margin = 0.3\nquery_order = 'given'\n", encoding="utf-8")
    base = f'extends = "{(tmp_path / "tuples.toml").as_posix()}"\n'
    places = base + 'mining = "places"\nloss = "multi_similarity"\n'
    (tmp_path / "places.toml").write_text(places, encoding="utf-8")
    assert load_recipe(tmp_path / "places.toml").margin == 0.3
    (tmp_path / "wider.toml").write_text(f"{places}margin = 0.5\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"margin = 0\.5 has no effect"):
        load_recipe(tmp_path / "wider.toml")
    (tmp_path / "tuples.toml").write_text("margn = 0.3\n", encoding="utf-8")
    with pytest.raises(UnknownNameError, match="did you mean margin"):
        load_recipe(tmp_path / "places.toml")


def test_what_may_change_when_a_run_goes_on():
    then = TrainConfig()
    assert TrainConfig(learning_rate=1e-5, epochs=40).changes_from(then) == {
        "learning_rate": (1e-4, 1e-5),
        "epochs": (30, 40),
    }
    with pytest.raises(InputError, match="batch_size was 4, now 8"):
        TrainConfig(batch_size=8).changes_from(then)
