"""Rankings as deep as what the truth leaves out needs, with all and with fewer dimensions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import dejavlad as dv
from dejavlad.errors import InputError
from dejavlad.evaluation import Result
from dejavlad.extraction import DescriptorStore
from dejavlad.ground_truth import (
    PlaceDataset,
    Truth,
)
from dejavlad.photo import Photo, PhotoList
from dejavlad.pipelines import bench, evaluate, evaluate_ranking
from dejavlad.pipelines.evaluation import describe_dataset, rank, sweep
from dejavlad.pipelines.scoring import Scoring, score
from dejavlad.report import write_page

PANORAMAS, CUTS = 10, 4


def test_one_answer_a_panorama_and_own_photos_left_out(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    places = random.normal(size=(PANORAMAS, 16))
    rows = np.repeat(places, CUTS, axis=0) + random.normal(0, 0.1, (PANORAMAS * CUTS, 16))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    photos = PhotoList(
        Photo(f"{i}.jpg", Path(f"{i}.jpg"), tags=(("day", "night")[i % 2],)) for i in range(len(rows))
    )
    groups = np.arange(len(rows)) // CUTS
    truth = Truth(
        [[(i + CUTS) % len(rows)] for i in range(len(rows))],
        len(rows),
        {"kind": "made"},
        ignored=[[i] for i in range(len(rows))],
        groups=groups,
    )
    dataset = PlaceDataset("made", photos, photos, truth)
    store = DescriptorStore.from_arrays(rows, photos)
    scoring = Scoring(recall_at=(1, 5), k=6)
    ranking = rank(store, store, scoring, truth)
    assert ranking.depth == 6 and (ranking.indices >= 0).all()
    for query, neighbours in enumerate(ranking.indices):
        assert query not in neighbours and len(set(groups[neighbours])) == 6
    assert rank(store, store, scoring).indices[:, 0].tolist() == list(range(len(rows)))
    fewer = sweep(store, store, dataset, [4, 16], scoring)
    result = score(ranking, dataset, tmp_path, scoring, dims=fewer)
    assert result is not None and fewer[16] == result.recall and set(result.parts) == {"day", "night"}
    assert Result.load(tmp_path) == result
    page = write_page(result, ranking, dataset, tmp_path / "page.html").read_text(encoding="utf-8")
    assert ">Parts</h2>" in page and '<th scope="row">night</th>' in page and "95\xa0% interval" in page
    assert "How near" not in page


@pytest.mark.parametrize("near", ["exif:30", None])
def test_a_filter_leaves_answers_out_before_ranking(near: str | None) -> None:
    from dejavlad.geo import Position
    from dejavlad.ground_truth import PlaceDataset
    from dejavlad.pipelines.evaluation import rank
    from dejavlad.pipelines.scoring import Scoring
    from dejavlad.places.filters import Filter

    rng = np.random.default_rng(0)
    rows = rng.normal(size=(40, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    photos = PhotoList(
        Photo(f"{i}", Path(f"{i}"), position=Position(10.0 * i, 0.0), time=float(i)) for i in range(40)
    )
    queries = PhotoList([photos[5], photos[20], Photo("x", Path("x"), pixels=np.zeros((2, 2, 3), np.uint8))])
    store = DescriptorStore.from_arrays(rows, photos.keys)
    query_store = DescriptorStore.from_arrays(rows[[5, 20, 30]], queries.keys)
    only = Filter.of(near=near) if near else Filter.of(after=10.0, before=12.0)
    lists = PlaceDataset("made", photos, queries)
    ranking = rank(store, query_store, Scoring(index="1bit"), None, only, lists)
    if near:
        assert ranking.indices[0, 0] == 5 and set(ranking.indices[0].tolist()) == {*range(2, 9), -1}
        assert ranking.indices[1, 0] == 20 and (ranking.indices[2] == -1).all()
    else:
        assert {tuple(sorted(set(row.tolist()))) for row in ranking.indices} == {(-1, 10, 11, 12)}


def test_a_filter_is_of_recalls_with_fewer_dimensions_and_of_the_protocol(tmp_path: Path) -> None:
    from dejavlad.evaluation.compare import compare
    from dejavlad.ground_truth import PlaceDataset, parse_truth
    from dejavlad.pipelines import Scoring, evaluate
    from dejavlad.places.filters import Filter

    rows = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    photos = PhotoList(Photo(f"{i}", Path(f"{i}"), time=float(i)) for i in range(40))
    store = DescriptorStore.from_arrays(rows / np.linalg.norm(rows, axis=1, keepdims=True), photos.keys)
    lists = PlaceDataset("made", photos, photos, parse_truth("same-name", photos, photos))
    scoring = Scoring(recall_at=(1,), k=5)
    every = evaluate((store, store), lists, str(tmp_path / "every"), scoring, dims=(4, 8)).result
    only = Filter.of(before=9.0)
    sample = evaluate((store, store), lists, tmp_path / "sample", scoring, dims=(4, 8), only=only).result
    assert every is not None and sample is not None
    assert every.recall[1] == every.dims[8][1] == every.dims[4][1] == 1.0
    assert sample.recall[1] == sample.dims[8][1] == sample.dims[4][1] == 0.25
    assert sample.protocol["filter"] == {"before": 9.0} and "filter" not in every.protocol
    with pytest.raises(InputError, match="different protocols: filter"):
        compare([every, sample], names=["every", "sample"])


@pytest.mark.parametrize("function", [evaluate, bench, describe_dataset, score])
def test_a_misspelt_keyword_is_refused(tmp_path: Path, function: Callable[..., object]) -> None:
    photos = PhotoList([Photo("a.jpg", Path("a.jpg"))])
    places = PlaceDataset("made", photos, photos, Truth([[0]], 1, {"kind": "made"}))
    first = (
        dv.Ranking(np.zeros((1, 1), np.int64), np.zeros((1, 1), np.float32)) if function is score else None
    )
    with pytest.raises(TypeError, match="unexpected keyword argument 'rerankng'; valid are"):
        function(first, places, tmp_path, rerankng=None)
    assert not any(tmp_path.iterdir())


def test_a_benchmark_is_timed_on_this_machine(tmp_path: Path) -> None:
    photos = PhotoList([Photo("a.jpg", Path("a.jpg"))])
    places = PlaceDataset("made", photos, photos, Truth([[0]], 1, {"kind": "made"}))
    with pytest.raises(TypeError, match="unexpected keyword argument 'ray'"):
        bench(["rootsift-vlad"], places, tmp_path, ray="auto")  # type: ignore[call-arg]


def test_a_result_says_what_it_takes_to_do_it_again(tmp_path: Path) -> None:
    photos = PhotoList(Photo(f"{i}.jpg", Path(f"{i}.jpg")) for i in range(3))
    places = PlaceDataset("made", photos, photos, Truth([[0], [1], [2]], 3, {"kind": "made"}))
    store = DescriptorStore.from_arrays(np.eye(3, dtype=np.float32), photos)
    scoring = Scoring(recall_at=(1,), k=3, index="float16")
    made = evaluate((store, store), places, tmp_path / "a", scoring, command="dejavlad evaluate x")
    assert made.result is not None
    made_with = Result.load(tmp_path / "a").made_with
    assert made_with == made.result.made_with
    assert (made_with["command"], made_with["index"], made_with["seed"]) == (
        "dejavlad evaluate x",
        "float16",
        None,
    )
    assert made_with["precision"] == store.manifest.setting.precision
    assert made_with["versions"]["dejavlad"] == dv.__version__
    assert made_with["versions"]["numpy"] == np.__version__
    scored = evaluate_ranking(made.ranking, places, str(tmp_path / "b")).result
    assert scored is not None and set(scored.made_with) == {"versions"}
    page = made.page.read_text(encoding="utf-8")
    assert f"dejavlad {dv.__version__}, python" in page and ">float16<" in page


def test_an_empty_database_is_named(tmp_path: Path) -> None:
    photos, none = PhotoList([Photo("a.jpg", Path("a.jpg"))]), PhotoList([])
    database = DescriptorStore.from_arrays(np.empty((0, 4), np.float32), none)
    queries = DescriptorStore.from_arrays(np.ones((1, 4), np.float32), photos)
    places = PlaceDataset("made", none, photos, Truth([[]], 0, {"kind": "made"}))
    with pytest.raises(InputError, match="the database holds no photos"):
        evaluate((database, queries), places, tmp_path)
    with pytest.raises(InputError, match=r"rows.npy: descriptors must be \[N, D\]; given \[4\]"):
        DescriptorStore.from_arrays(np.ones(4), path=Path("rows.npy"))
