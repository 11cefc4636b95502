"""`models NAME`, `verify --alone`, `--weights` and `--batch-dependent`, as a user types them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]


@pytest.mark.slow
def test_one_model_in_full(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEJAVLAD_MODELS_DIR", str(tmp_path / "models"))
    status, out, _ = run("models", "mixvpr-4096")
    assert status == 0
    for fact in (
        "4096",
        "320x320, bicubic",
        "by hand, 44 MB",
        "drive.google.com",
        "GSV-Cities",
        "checked by",
    ):
        assert fact in out
    assert str(tmp_path / "models" / "mixvpr-4096.pth") in out
    entry = json.loads(run("models", "cricavpr", "--json")[1])
    assert entry["batch_dependent"] and entry["dims"] == 10752 and entry["code_licence"] == "MIT"
    status, _, err = run("models", "megalok")
    assert status == 1 and "did you mean megaloc" in err


def test_files_to_be_fetched_by_hand(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEJAVLAD_MODELS_DIR", str(tmp_path / "models"))
    status, _, err = run("models", "download", "supervlad")
    assert status == 1 and "get it by hand from https://drive.google.com" in err and err.count("\n") == 1
    status, _, err = run("models", "download", "dinov2-vits14-vlad", "--offline")
    assert status == 1 and "dinov2_vits14_pretrain.pth" in err


@pytest.mark.slow
def test_does_a_descriptor_depend_on_its_batch(run: Run) -> None:
    status, out, _ = run(
        "verify", "cosplace-resnet18-32", "--alone", "--weights", "random:0", "--resize", "64x64", "--json"
    )
    assert status == 0 and all(row["ok"] and row["cosine"] > 0.9999 for row in json.loads(out))
    status, _, err = run("verify", "cosplace-resnet18-32", "--weights", "random:0")
    assert status == 1 and "--alone" in err


@pytest.mark.slow
def test_published_names_with_random_weights_make_maps(run: Run, street: Path, tmp_path: Path) -> None:
    how = ("--weights", "random:0", "--resize", "96x96", "--batch-size", "4")
    status, out, _ = run(
        "map", "build", "cosplace-resnet18-64", street / "database", "--out", "town.map", *how
    )
    assert status == 0 and "12 photos" in out
    status, out, _ = run("locate", "town.map", street / "queries" / "03.png", "--json")
    assert status == 0 and json.loads(out)
