"""Maps located in and added to by another runtime than PyTorch: where the certificate proves it the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from dejavlad.datasets import photos
from dejavlad.errors import DejavladError
from dejavlad.export import engines, make
from dejavlad.model import save_model
from dejavlad.places import PlaceMap
from export.members import table_model

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEJAVLAD_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "exports"


@pytest.fixture
def town(street: Path, tmp_path: Path) -> Path:
    PlaceMap.build(table_model(), photos(street / "database"), tmp_path / "town.map")
    return tmp_path / "town.map"


def new_photos(street: Path) -> Path:
    """Two queries under names that the map does not have."""
    folder = street / "new"
    folder.mkdir()
    for path in sorted((street / "queries").iterdir())[:2]:
        shutil.copy(path, folder / f"new-{path.name}")
    return folder


@pytest.mark.slow
def test_a_map_is_located_in_and_added_to_by_onnxruntime(town: Path, street: Path, cache: Path) -> None:
    plain, other = PlaceMap.open(town), PlaceMap.open(town, runtime="onnxruntime")
    queries = sorted((street / "queries").iterdir())[:3]
    for ours, theirs in zip(plain.locate(queries), other.locate(queries), strict=True):
        assert [match.name for match in ours.matches] == [match.name for match in theirs.matches]
        assert theirs.confidence == pytest.approx(ours.confidence, abs=1e-3)
    assert list(cache.glob("*.onnx")), "it was PyTorch that described"
    before, more = len(other), new_photos(street)
    assert other.add(photos(more)) == 2
    assert len(PlaceMap.open(town)) == len(other) == before + 2


@pytest.mark.slow
def test_a_runtime_that_answers_otherwise_is_refused(
    town: Path, street: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that turns a number over has a certificate below the limit, so the map keeps its rows."""

    class Wrong:
        def __init__(self, session: object) -> None:
            self.session, self.version = session, "0"

        def run(self, images: np.ndarray) -> list[np.ndarray]:  # type: ignore[type-arg]
            return [-made for made in self.session.run(images)]  # type: ignore[attr-defined]

    for module in (engines, make):
        right = module.open_session  # type: ignore[attr-defined]
        monkeypatch.setattr(module, "open_session", lambda *given, right=right: Wrong(right(*given)))
    query = next(iter((street / "queries").iterdir()))
    with pytest.raises(DejavladError, match="least cosine"):
        PlaceMap.open(town, runtime="onnxruntime").locate([query])
    with pytest.raises(DejavladError, match="least cosine"):
        PlaceMap.open(town, runtime="onnxruntime").add(photos(new_photos(street)))
    assert PlaceMap.open(town, runtime="auto").locate([query])[0].matches


@pytest.mark.slow
def test_the_command_takes_a_runtime_for_maps(
    street: Path,
    tmp_path: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from dejavlad.cli import main

    model, town = save_model(table_model(), tmp_path / "model"), tmp_path / "b.map"
    with_runtime = ["--runtime", "onnxruntime", "--quiet"]
    assert (
        main(["map", "build", str(model), str(street / "database"), "--out", str(town), *with_runtime]) == 0
    )
    assert list(cache.glob("*.onnx"))
    query = str(next(iter((street / "queries").iterdir())))
    assert main(["locate", str(town), query, "--verify", "none", *with_runtime]) == 0
    assert main(["map", "add", str(town), str(new_photos(street)), *with_runtime]) == 0
    capfd.readouterr()
    PlaceMap.build("rootsift-vlad", photos(street / "database"), tmp_path / "sift.map")
    assert main(["locate", str(tmp_path / "sift.map"), query, *with_runtime]) == 1
    assert "no network" in capfd.readouterr().err
