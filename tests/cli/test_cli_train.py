"""`dejavlad train` and `whiten` as a user types them, and training runs as models by name."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from numpy.typing import NDArray

import dejavlad as dv
from dejavlad import aggregation, backbones
from dejavlad.backbones import CHAIN
from dejavlad.cli import main
from dejavlad.images import Preprocess
from dejavlad.model import PlaceModel, save_model
from dejavlad.model.spec import BackboneSpec
from dejavlad.training import Run

LAYERS = [
    {"kind": "conv", "name": "conv1", "inputs": 3, "outputs": 6, "kernel": [3, 3], "stride": [2, 2]},
    {"kind": "relu", "name": "relu1"},
    {"kind": "max", "name": "pool1", "kernel": [2, 2], "stride": [2, 2]},
    {"kind": "conv", "name": "conv2", "inputs": 6, "outputs": 8, "kernel": [3, 3]},
]
QUICK = """
extends = "netvlad"
method = "given"
batch_size = 2
negatives = 8
negatives_used = 3
negatives_remembered = 3
epochs = 2
learning_rate = 0.01
margin = 0.3
recall_at = [1, 5]
trivial_radius = -1.0
save_every = 4
workers = 0
"""


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory,
    make_view: Callable[..., NDArray[np.uint8]],
    make_photo: Callable[..., Path],
) -> Path:
    """A folder with town/train, town/val (6 places each), a model and quick.toml."""
    here = tmp_path_factory.mktemp("train")
    for first, part in enumerate(("train", "val")):
        for kind, count in (("database", 3), ("queries", 1)):
            lines = ["name,east,north"]
            for place in range(6):
                for i in range(count):
                    name = f"{place}-{i}.png"
                    shift = 4 * (i + 1) if kind == "database" else 0
                    make_photo(
                        here / "town" / part / kind / name, make_view(10 * first + place, shift, 40, 56)
                    )
                    lines.append(f"{name},{100 * place},{3 * (i + 1) if shift else 0}")
            (here / "town" / part / kind / "positions.csv").write_text("\n".join(lines) + "\n")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = aggregation.create("max", 8)
    save_model(
        PlaceModel(
            backbones.create(CHAIN, weights="random:0", layers=LAYERS),
            layer,
            Preprocess(),
            name="small",
            source=BackboneSpec(CHAIN, options={"layers": LAYERS}),
        ),
        here / "model",
    )
    (here / "quick.toml").write_text(QUICK)
    return here


@pytest.fixture
def words(place: Path, tmp_path: Path) -> list[str]:
    given = ["train", "--config", place / "quick.toml", "--dataset", place / "town"]
    return [
        str(word)
        for word in (*given, "--init", place / "model", "--out", tmp_path / "run", "--device", "cpu")
    ]


@pytest.mark.slow
def test_train_whiten_and_the_models_of_a_run(
    words: list[str], place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    how = ["--json", "--quiet", "--resize", "32x48", "--set", "seed=3", "recall_at=[1, 2, 5]"]
    assert main([*words, *how]) == 0
    out, err = capsys.readouterr()
    output = json.loads(out)
    assert err == ""
    assert (output["run"], output["epochs"], output["of"]) == (str(run), 2, "val")
    assert list(output["recall"]["2"]) == ["1", "2", "5"]
    assert output["model"] == str(run / "epochs" / f"{output['best']:03d}")
    assert {"seed = 3", 'resize = "32x48"'} <= set((run / "config.toml").read_text().splitlines())
    page = (run / "index.html").read_text(encoding="utf-8")
    assert "Loss and learning rate" in page and "It is done." in page

    for name in (run, f"{run}@latest", f"{run}@epoch:1", f"{run}@best:1"):
        model = dv.load_model(name, device="cpu")
        assert (model.name, model.preprocess.resize) == ("small", "32x48")
    first, last = (dv.load_model(f"{run}@{which}", device="cpu") for which in ("epoch:0", "latest"))
    initial = dv.load_model(place / "model", device="cpu", resize="32x48")
    assert first.fingerprint == initial.fingerprint != last.fingerprint
    assert main(["extract", f"{run}@epoch:9", str(place), "--out", str(tmp_path / "store")]) == 1
    assert "epochs there: 0, 1, 2" in capsys.readouterr().err

    photos = str(place / "town" / "train") + ":database"
    made = [
        "whiten",
        f"{run}@best:1",
        photos,
        "--dims",
        "4",
        "--out",
        str(tmp_path / "white"),
        "--json",
        "--quiet",
    ]
    assert main(made) == 0
    output = json.loads(capsys.readouterr().out)
    assert (output["dims"], output["whitened"], output["components"]["photos"]) == (4, True, 18)
    white = dv.load_model(tmp_path / "white", device="cpu")
    assert white.fingerprint == output["fingerprint"] and white.descriptor_size == 4
    made[6] = str(tmp_path / "plain")
    assert main([*made, "--no-whiten"]) == 0
    plain = dv.load_model(tmp_path / "plain", device="cpu")
    assert plain.provenance["components"]["whitened"] is False and plain.fingerprint != white.fingerprint
    assert main(["whiten", str(run), photos, "--dims", "100", "--out", str(tmp_path / "no")]) == 1
    assert "100 dimensions cannot be learnt from 18 photos" in capsys.readouterr().err


@pytest.mark.slow
def test_a_spec_of_netvlad_is_learnt_from_as_the_folder_is(
    words: list[str], place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = place / "town" / "train"
    db_struct: dict[str, object] = {"posDistThr": 25.0, "nonTrivPosDistSqThr": 100.0}
    for kind, names, at in (("database", "dbImageFns", "utmDb"), ("queries", "qImageFns", "utmQ")):
        lines = (folder / kind / "positions.csv").read_text().splitlines()[1:]
        rows = [line.split(",") for line in lines]
        db_struct[names] = np.array([[f"{kind}/{name}"] for name, _, _ in rows], dtype=object)
        db_struct[at] = np.array([[float(x), float(y)] for _, x, y in rows]).T
    scipy.io.savemat(tmp_path / "mine.mat", {"dbStruct": db_struct})
    assert main([*words, "--val", "none", "--quiet"]) == 0
    spec = [*words[:3], "--dataset", str(tmp_path / "mine.mat"), "--root", str(folder), *words[5:]]
    spec[spec.index("--out") + 1] = str(tmp_path / "other")
    assert main([*spec, "--quiet"]) == 0
    ours, theirs = Run(tmp_path / "run").losses, Run(tmp_path / "other").losses
    assert ours == theirs and any(ours)
    capsys.readouterr()


@pytest.mark.slow
def test_goes_on_where_it_was_interrupted(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from dejavlad.training.steps.tuple_step import Step

    whole, calls = Step.__call__, 0

    def interrupted(self: Step, *given: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt
        return whole(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(Step, "__call__", interrupted)
    assert main(words) == 130
    err = capsys.readouterr().err
    assert "stopped in epoch 2, loss" in err and "run the same command again" in err
    assert main(["train", "--dataset", words[4], "--out", str(tmp_path / "run"), "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["epochs"] == 2
    assert main(words) == 0  # nothing left to do
    assert "model:" in capsys.readouterr().out


def test_check_examines_alone(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--check", "--json", "--quiet"]) == 0
    assert [one["fault"] for one in json.loads(capsys.readouterr().out)] == []
    assert main([*words, "--check", "--set", "negatives_used=8"]) == 0
    assert "warning: too few negatives: a query has 15 photos" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_warnings_are_told_once_and_kept(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--set", "negatives_used=8"]) == 0
    assert capsys.readouterr().err.count("warning: too few negatives") == 1
    assert "too few negatives" in (tmp_path / "run" / "index.html").read_text(encoding="utf-8")
    assert main([*words, "--set", "negatives_used=8", "--set", "epochs=3", "--json"]) == 0
    out, err = capsys.readouterr()
    assert "warning" not in err
    assert [one["fault"] for one in json.loads(out)["warnings"]] == ["too few negatives"]


def test_what_is_kept_of_frozen_layers_is_told(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--set", "train_from=conv2", "epochs=1"]) == 0
    err = capsys.readouterr().err
    assert "frozen layers of train: kept for mining and steps (0.00 GB in memory)" in err
    assert "frozen layers of val: kept" in err


@pytest.mark.slow
def test_tensorboard_events(words: list[str], tmp_path: Path) -> None:
    for epochs in (1, 2):
        assert main([*words, "--tensorboard", "--quiet", "--set", f"epochs={epochs}"]) == 0
    scalars: dict[str, dict[int, float]] = {}
    for file in sorted((tmp_path / "run" / "events").iterdir()):
        for tag, step, value in _scalars(file.read_bytes()):
            scalars.setdefault(tag, {})[step] = value
    run = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    losses = [one["loss"] for one in run if one["kind"] == "batch"]
    assert list(scalars["batch/loss"]) == list(range(1, 7)) == list(range(1, len(losses) + 1))
    np.testing.assert_allclose(list(scalars["batch/loss"].values()), losses, rtol=1e-6)
    assert set(scalars["val/recall_at_5"]) == {0, 1, 2}


def _scalars(data: bytes) -> list[tuple[str, int, float]]:
    """Scalars of an event file: records of a length, its sum, an event, its sum."""
    from tensorboardX.proto.event_pb2 import Event

    scalars, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 8], "little")
        event = Event.FromString(data[at + 12 : at + 12 + size])
        scalars += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
        at += 16 + size
    return scalars


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--config", "netvald"], "did you mean netvlad"),
        (["--set", "margn=1"], "did you mean margin"),
        (["--set", "margin"], "key=value"),
        (["--dataset", "nowhere"], "nowhere"),
        (["--val", "nowhere"], "nowhere"),
        (["--init", "nowhere"], "nowhere"),
    ],
)
def test_bad_words_are_told_in_one_line(
    words: list[str], more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for option in ("--config", "--dataset", "--init"):
        if more[0] == option:
            at = words.index(option)
            del words[at : at + 2]
    assert main([*words, *more]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    notes = [line for line in lines if "photos have a position" in line]  # of the lists, before it
    assert message in lines[-1] and len(lines) == len(notes) + 1


def test_a_new_run_needs_options(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--dataset", str(place / "town"), "--out", str(tmp_path / "run")]) == 1
    assert "give --config: a .toml file, or one of " in capsys.readouterr().err


@pytest.fixture(scope="module")
def city(
    tmp_path_factory: pytest.TempPathFactory,
    make_view: Callable[..., NDArray[np.uint8]],
    make_photo: Callable[..., Path],
) -> Path:
    """Folders as SF-XL's: train holds @-named photos alone, val holds database and queries; and a model."""
    here = tmp_path_factory.mktemp("city")
    for place in range(8):
        for i in range(4):
            east, north = 550000 + 60 * place + i, 4180000 + 2 * i
            at = f"@{east:010.2f}@{north:010.2f}@10@S@@@pano{place}-{i}@@5@@@@@@.png"
            make_photo(here / "sfxl" / "train" / "deep" / at, make_view(place, 4 * i, 40, 56))
        for kind, shift in (("database", 4), ("queries", 0)):
            at = f"@{560000 + 60 * place:010.2f}@{4180000:010.2f}@10@S@@@@@5@@@@@@.png"
            make_photo(here / "sfxl" / "val" / kind / at, make_view(20 + place, shift, 40, 56))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = aggregation.create("gem_linear", 8, dims=16)
    source = BackboneSpec(CHAIN, options={"layers": LAYERS})
    backbone = backbones.create(CHAIN, weights="random:0", layers=LAYERS)
    save_model(
        PlaceModel(backbone, layer, Preprocess(), name="small", source=source, fitted=True), here / "model"
    )
    return here


SMALL = (
    "method=given train_from= batch_norm=fixed augment_crop=1 augment_colour=0 augment_hue=0 batch_size=4 "
    "steps_per_epoch=4 epochs=2 learning_rate=0.003 class_photos=2 workers=0 save_every=8"
)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["cosplace", "eigenplaces"])
def test_classes_of_a_folder_of_named_photos(
    recipe: str, city: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--recipe", recipe, "--dataset", str(city / "sfxl"), "--init", str(city / "model")]
    words += ["--device", "cpu", "--resize", "40x56", "--out", str(tmp_path / "run"), "--json", "--quiet"]
    own = {"cosplace": ["place_size=20"], "eigenplaces": ["place_size=20", "focal_tolerance=180"]}
    options = ["--set", *SMALL.split(), "group_squares=1", *own[recipe]]
    assert main([*words, *options]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["of"], answer["epochs"]) == ("val", 2)
    assert len(Run(tmp_path / "run").losses) == 8
    assert main([*words, *options, "epochs=3"]) == 0
    assert len(Run(tmp_path / "run").losses) == 12
    capsys.readouterr()
    assert main([*words[:-3], str(tmp_path / "check"), *options, "--check"]) == 0
    assert "steps of" in capsys.readouterr().err


def test_folders_of_which_no_classes_can_be_made(
    city: Path, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, unheaded = tmp_path / "plain", tmp_path / "unheaded"
    for folder, naming in ((plain, "{i}.png"), (unheaded, "@{i}.5@7.5@10@S@.png")):
        folder.mkdir()
        for i, photo in enumerate(sorted((city / "sfxl" / "train" / "deep").iterdir())):
            (folder / naming.format(i=i)).write_bytes(photo.read_bytes())
    for folder, more, message in (
        (plain, (), "none of 32 photos has a position"),
        (unheaded, (), "none of 32 photos has a heading"),
        (
            city / "sfxl" / "train",
            ("--set", "class_photos=5"),
            "no group has two classes of at least 5 photos",
        ),
    ):
        words = ["train", "--recipe", "cosplace", "--dataset", str(folder), "--out", str(tmp_path / "run")]
        assert main([*words, "--init", str(city / "model"), "--set", *SMALL.split(), *more[1:]]) == 1
        err = capsys.readouterr().err
        assert message in err and "Traceback" not in err
    assert main([*words[:4], str(place / "model"), *words[5:], "--init", str(city / "model")]) == 1
