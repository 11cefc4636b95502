"""The verbs as a user types them: answers, JSON, exit status, one-line complaints."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dejavlad.cli import main
from dejavlad.ranking import Ranking

FAST = ("--device", "cpu", "--resize", "none", "--quiet")


Run = Callable[..., tuple[int, str, str]]


def test_idle_threads_of_libraries_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert main(["compare", "no such results"]) == 1
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"  # as the user wants it
    monkeypatch.delenv("OMP_WAIT_POLICY")
    assert main(["compare", "no such results"]) == 1
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


@pytest.mark.parametrize("verb", ["extract", "locate", "evaluate"])
def test_verbs_with_a_model_take_its_options(run: Run, verb: str) -> None:
    _, out, _ = run(verb, "--help")
    for option in (
        "weights",
        "input",
        "resize",
        "device",
        "precision",
        "batch-size",
        "workers",
        "dims",
        "seed",
    ):
        assert f"--{option}" in out
    assert "--offline" in out


@pytest.mark.parametrize(
    "words",
    [(), ("--help",), ("--version",)],
)
def test_the_bare_command(run: Run, words: tuple[str, ...]) -> None:
    status, out, _ = run(*words)
    assert status == 0
    assert out.strip()


@pytest.mark.parametrize(
    "words",
    [
        ("nonsense",),
        ("extract",),
        ("extract", "rootsift-vlad", "photos", "--nonsense", "1", "--out", "x"),
        ("evaluate", "rootsift-vlad"),
        ("extract", "rootsift-vlad", "photos", "--out", "x", "--batch-size", "many"),
    ],
)
def test_wrong_usage_is_status_2_in_one_line(run: Run, words: tuple[str, ...]) -> None:
    status, out, err = run(*words)
    assert status == 2
    assert out == ""
    assert err.startswith("dejavlad: ")
    assert "--help" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("extract", "rootsift-vlda", ".", "--out", "x"), "rootsift-vlad"),
        (("extract", "rootsift-vlad", "nowhere", "--out", "x"), "nowhere"),
        (("locate", "nowhere.map", "a.jpg"), "there is no map"),
        (("map", "info", "nowhere.map"), "there is no map"),
        (("evaluate", "rootsift-vlad", "--out", "x"), "--dataset"),
        (("evaluate", "--dataset", ".", "--out", "x"), "dataset"),
        (("compare", "nowhere"), "there is no result"),
        (("dataset", "info", "nowhere"), "nowhere"),
        (("extract", "rootsift-vlad", ".", "--out", "x", "--batch-size", "0"), "--batch-size 0"),
        (("extract", "rootsift-vlad", ".", "--out", "x", "--dims", "a"), "--dims"),
        (("extract", "rootsift-vlad", ".", "--out", "x", "--resize", "big"), "big"),
    ],
)
def test_failures_are_status_1_in_one_line(
    run: Run, words: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (40, 30)).save("a.png")
    status, out, err = run(*words)
    assert status == 1
    assert out == ""
    assert err.startswith("dejavlad: ")
    assert message in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.slow
def test_from_photos_to_places(run: Run, street: Path, tmp_path: Path) -> None:
    town = tmp_path / "town.map"
    rows = "".join(f"{i:02d}.png,{10 * i},{0}\n" for i in range(12))
    (tmp_path / "where.csv").write_text("name,east,north\n" + rows, encoding="utf-8")
    build = ("map", "build", "rootsift-vlad", street / "database", "--out", town, *FAST[:4])
    status, out, err = run(*build, "--positions", tmp_path / "where.csv")
    assert status == 0, err
    assert "12 photos, 12 with a position" in out

    status, out, _ = run("locate", town, street / "queries" / "07.png", "-k", "2", "--json", *FAST)
    assert status == 0
    (answer,) = json.loads(out)
    assert answer["matches"][0]["name"] == "07.png"
    assert len(answer["matches"]) == 2
    assert answer["position"] == {"east": 70.0, "north": 0.0, "zone": None}

    status, out, _ = run("locate", town, street / "queries", "--out", tmp_path / "page", *FAST[:4])
    assert status == 0
    assert (tmp_path / "page" / "index.html").is_file()
    assert "07.png" in out

    assert run("map", "remove", town, "07.png")[0] == 0
    info = json.loads(run("map", "info", town, "--json")[1])
    assert info["photos"] == 11
    assert "07.png" not in info["names"]
    status, _, err = run("map", "remove", town, "70.png")
    assert status == 1
    assert "70.png" in err
    status, out, _ = run("map", "add", town, street / "database", "--json", *FAST)
    assert json.loads(out)["added"] == 1


@pytest.mark.slow
def test_evaluate_in_all_its_forms(run: Run, street: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    photos = ("--database", street / "database", "--queries", street / "queries", "--truth", "frames:0")
    status, out, err = run(
        "evaluate", "rootsift-vlad", *photos, "--out", results, "--recall-at", "1,2", *FAST, "--json"
    )
    assert status == 0, err
    output = json.loads(out)
    assert output["recall"] == json.loads((results / "result.json").read_text(encoding="utf-8"))["recall"]
    assert output["recall"]["1"] == 1.0
    assert output["n_queries"] == output["n_database"] == 12
    assert output["model"]["name"] == "rootsift-vlad"
    for name in ("ranking.npz", "predictions.txt", "index.html"):
        assert (results / name).is_file()
    ranking = Ranking.load(results / "ranking.npz")
    assert ranking.indices.shape == (12, 12)

    stores = ("--database", results / "database", "--queries", results / "queries", "--truth", "frames:0")
    status, out, err = run("evaluate", *stores, "--out", tmp_path / "stores", "--json", "--quiet")
    assert status == 0, err
    assert json.loads(out)["recall"]["1"] == 1.0
    np.testing.assert_array_equal(Ranking.load(tmp_path / "stores" / "ranking.npz").indices, ranking.indices)

    scored = ("evaluate", "--ranking", results / "ranking.npz", *photos, "--out", tmp_path / "scored")
    status, out, err = run(*scored, "--json", "--quiet")
    assert status == 0, err
    assert json.loads(out)["recall"]["1"] == 1.0

    status, out, err = run(
        "evaluate", "rootsift-vlad", *photos[:4], "--out", tmp_path / "bare", *FAST, "--json"
    )
    assert status == 0, err
    assert not (tmp_path / "bare" / "result.json").exists()
    assert (tmp_path / "bare" / "index.html").is_file()

    sweep = (
        "evaluate",
        "rootsift-vlad",
        *photos,
        "--out",
        tmp_path / "sweep",
        "--dims",
        "4,8",
        *FAST,
        "--json",
    )
    status, out, err = run(*sweep)
    assert status == 0, err
    assert list(json.loads(out)["dims"]) == ["4", "8"]

    status, out, err = run("compare", results, tmp_path / "stores", "--json")
    assert status == 0, err
    assert len(json.loads(out)["results"]) == 2
    run("evaluate", *stores[:4], "--truth", "frames:1", "--out", tmp_path / "other", "--quiet")
    status, _, err = run("compare", results, tmp_path / "other")
    assert status == 1
    assert "--mix" in err
    assert run("compare", results, tmp_path / "other", "--mix")[0] == 0


def test_extract_resumes_and_refuses_another_model(run: Run, street: Path, tmp_path: Path) -> None:
    words = ("extract", "rootsift-vlad", street / "database", "--out", tmp_path / "store", *FAST, "--json")
    status, out, err = run(*words)
    assert status == 0, err
    output = json.loads(out)
    assert (output["photos"], output["described"], output["failed"]) == (12, 12, {})
    before = (tmp_path / "store" / "rows.npy").stat().st_mtime_ns
    assert run(*words)[0] == 0
    assert (tmp_path / "store" / "rows.npy").stat().st_mtime_ns == before
    status, _, err = run(*words[:5], *FAST[:3], "longest:200")
    assert status == 1
    assert "made otherwise" in err


def test_lists_and_info(run: Run, street: Path, tmp_path: Path) -> None:
    status, _out, _ = run("dataset", "list", street / "database", "--out", tmp_path / "list.txt")
    assert status == 0
    lines = (tmp_path / "list.txt").read_text(encoding="utf-8").splitlines()
    assert lines == [f"street/database/{i:02d}.png" for i in range(12)]
    info = json.loads(run("dataset", "info", street, "--truth", "same-name", "--json")[1])
    assert info["database"]["photos"] == 12
    assert info["truth"]["without_truth"] == 0
    assert "12" in run("dataset", "info", street / "database")[1]


@pytest.mark.slow
def test_models_and_config(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [entry["name"] for entry in json.loads(run("models", "--json")[1])]
    assert {"rootsift-vlad", "vgg16-netvlad", "squeezenet1_0-gem", "resnet18-max"} <= set(names)
    assert "rootsift-vlad" in run("models")[1]
    (tmp_path / "config.toml").write_text('cache_dir = "/somewhere"\n', encoding="utf-8")
    monkeypatch.setenv("DEJAVLAD_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("DEJAVLAD_OFFLINE", "1")
    settings = {row["setting"]: row for row in json.loads(run("config", "--json")[1])}
    assert settings["cache_dir"]["value"] == str(Path("/somewhere"))
    assert settings["cache_dir"]["from"] == str(tmp_path / "config.toml")
    assert "DEJAVLAD_OFFLINE" in settings["offline"]["from"]


def test_offline_says_which_file_to_put_where(
    run: Run, street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEJAVLAD_MODELS_DIR", str(tmp_path / "models"))
    words = ("extract", "vgg16-max", street / "database", "--out", tmp_path / "store", "--offline")
    status, _, err = run(*words)
    assert status == 1
    assert "vgg16-397923af.pth" in err
    assert str(tmp_path / "models") in err


def test_interrupted_says_how_to_go_on(
    run: Run, street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dejavlad.model.place_model as place_model

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(place_model.PlaceModel, "describe", interrupted)
    words = ("extract", "rootsift-vlad", street / "database", "--out", tmp_path / "store", *FAST)
    status, _, err = run(*words)
    assert status == 130
    assert "run the same command again" in err


def test_random_weights_give_a_model_without_download(
    run: Run, street: Path, tmp_path: Path, make_view: Callable[..., NDArray[np.uint8]]
) -> None:
    words = ("extract", "squeezenet1_1-gem", street / "database", "--out", tmp_path / "store")
    status, out, err = run(*words, "--weights", "random:3", *FAST, "--json")
    assert status == 0, err
    assert json.loads(out)["dims"] == 384
