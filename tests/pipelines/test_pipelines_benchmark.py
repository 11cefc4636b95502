"""Several models in one table: figures, what is taken of earlier runs, what is refused, the page."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import dejavlad as dv
from dejavlad.errors import DejavladError, InputError
from dejavlad.evaluation import Result, compare
from dejavlad.ground_truth import PlaceDataset
from dejavlad.model import PlaceModel
from dejavlad.pipelines import bench
from dejavlad.pipelines.benchmark import folder_of
from dejavlad.pipelines.scoring import Scoring
from dejavlad.zoo import load_model

NAMES = ("rootsift-vlad", "squeezenet1_0-avg", "squeezenet1_0-max")


@pytest.fixture(scope="module")
def places(make_view: Callable[..., NDArray[np.uint8]]) -> PlaceDataset:
    made = PlaceDataset.from_arrays(
        [f"{place}" for place in range(8)],
        np.array([(100.0 * place, 0.0) for place in range(8)]),
        [f"q{place}" for place in range(8)],
        np.array([(100.0 * place, 0.0) for place in range(8)]),
        images=[make_view(place, 0, 48, 64) for place in range(8)],
        query_images=[make_view(place, 2, 48, 64) for place in range(8)],
        name="row",
    )
    from dejavlad.ground_truth import parse_truth

    return replace(made, truth=parse_truth("positions:25", made.database, made.queries))


def load(name: str, _: object = None) -> PlaceModel:
    random = {} if name.startswith("rootsift") else {"weights": "random:0"}
    return load_model(name, device="cpu", resize="none", **random)


@pytest.mark.slow
def test_one_table_that_is_taken_again(places: PlaceDataset, tmp_path: Path) -> None:
    opened: list[str] = []

    def loading(name: str, _: object) -> PlaceModel:
        opened.append(name)
        if name == "nowhere":
            raise InputError("its weights are not here")
        return load(name)

    scoring = Scoring(recall_at=(1, 5), k=8)
    made = bench([*NAMES, "nowhere"], places, tmp_path, scoring=scoring, load=loading)
    assert dv.pipelines.bench is bench and {row.name for row in made.rows} == {*NAMES, "nowhere"}
    assert made.rows[-1].error == "its weights are not here" and made.rows[-1].result is None
    recalls = [tuple(row.result.recall.values()) for row in made.ran if row.result]
    assert recalls == sorted(recalls, reverse=True)
    for row in made.ran:
        model = load(row.name)
        own = Result.load(tmp_path / row.name)
        assert own == row.result and not row.taken and row.ms and row.cpu_ms
        assert row.map_mb == round(4e-6 * 8 * (row.dims or 0), 3)
        if model.fitted:
            assert row.dims == model.descriptor_size
            expected = sum(tensor.nbytes for tensor in model.state_dict().values())
            assert row.weights_mb == pytest.approx(expected / 1e6, abs=0.01)
    best = made.ran[0]
    first = compare([row.result for row in made.ran if row.result], names=[row.name for row in made.ran])
    assert made.against_best == first.paired and best.name not in made.against_best
    document = json.loads((tmp_path / "bench.json").read_text())
    assert document["best"] == best.name and [row["name"] for row in document["rows"]][-1] == "nowhere"
    before = {name: (tmp_path / name / "ranking.npz").stat().st_mtime_ns for name in NAMES}
    again = bench(NAMES, places, tmp_path, scoring=scoring, load=loading)
    assert all(row.taken for row in again.ran) and again.against_best == made.against_best
    assert [row.ms for row in again.ran] == [row.ms for row in made.ran]
    assert before == {name: (tmp_path / name / "ranking.npz").stat().st_mtime_ns for name in NAMES}
    deeper = bench(NAMES[1:2], places, tmp_path, scoring=Scoring(recall_at=(1, 2), k=4), load=loading)
    assert not deeper.ran[0].taken and deeper.recall_at == (1, 2) and deeper.ran[0].ms


@pytest.mark.slow
def test_another_protocol_or_model_does_not_mix(places: PlaceDataset, tmp_path: Path) -> None:
    scoring = Scoring(recall_at=(1,), k=8)
    bench(NAMES[1:2], places, tmp_path / "a", scoring=scoring, load=load)
    joined = bench(
        NAMES[2:], places, tmp_path / "b", scoring=scoring, load=load, earlier=[tmp_path / "a" / NAMES[1]]
    )
    assert len(joined.ran) == 2 and sum(row.taken for row in joined.ran) == 1
    assert len({(row.licence, row.code_licence) for row in joined.ran}) == 1 and joined.ran[0].licence
    fewer = replace(places, truth=None)
    with pytest.raises(InputError, match="--truth"):
        bench(NAMES[1:2], fewer, tmp_path / "c", scoring=scoring, load=load)
    other = Scoring(recall_at=(1,), k=8, misses="drop")
    with pytest.raises(InputError, match="different protocols"):
        bench(
            NAMES[2:], places, tmp_path / "d", scoring=other, load=load, earlier=[tmp_path / "a" / NAMES[1]]
        )
    with pytest.raises(InputError, match="each once"):
        bench([NAMES[1]] * 2, places, tmp_path / "e", load=load)
    with pytest.raises(DejavladError, match="none of the models"):
        bench(["no-such-model"], places, tmp_path / "f", scoring=scoring)

    def reseeded(name: str, _: object) -> PlaceModel:
        return load_model(name, device="cpu", resize="none", weights="random:7")

    with pytest.raises(DejavladError, match="none of the models"):
        bench(NAMES[1:2], places, tmp_path / "a", scoring=scoring, load=reseeded)


def test_folders_differ_where_names_do() -> None:
    names = ["a/b", "a_b", "a\\b", "a b", "x" * 200, "x" * 201, "..", "run@best:1"]
    assert len({folder_of(name) for name in names}) == len(names)
    assert folder_of("megaloc") == "megaloc" and not any(set(folder_of(n)) & set("/\\: ") for n in names)
