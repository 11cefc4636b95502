"""A photo that shows nothing is nobody's answer: in maps, benchmarks, re-ranking, pairs and loops."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import dejavlad as dv
from dejavlad.errors import BlankPhotoError, StoreMismatchError
from dejavlad.extraction import DescriptorStore, extract, save_store
from dejavlad.fitting import fit, learn_whitening, sample_features
from dejavlad.ground_truth import (
    PlaceDataset,
    parse_truth,
)
from dejavlad.index import KINDS
from dejavlad.model import PatchSetting
from dejavlad.photo import PhotoList
from dejavlad.pipelines.evaluation import rank, unread_of
from dejavlad.pipelines.reranking import patch_sources
from dejavlad.pipelines.scoring import Scoring, score
from dejavlad.places.live import Live
from dejavlad.places.loops import find_loops
from dejavlad.places.neighbours import neighbours
from dejavlad.places.pair import (
    PairMatcher,
    PairSetting,
    match_pair,
)
from dejavlad.places.preset import Preset, load_preset
from dejavlad.places.reranking import rerank_all

View = Callable[..., NDArray[np.uint8]]
GARDENS = Path("/work/shared/data/gardens_point")
BLACK = "shows nothing: it is black"
OLD_FORMATS = Path(__file__).parent.parent / "golden" / "old_formats"


@pytest.fixture(scope="module")
def model() -> dv.PlaceModel:
    return dv.load_model("rootsift-vlad", resize="none", device="cpu")


@pytest.fixture(scope="module")
def network(make_view: View) -> dv.PlaceModel:
    """A network with biases, whose descriptor of black is not zero."""
    return dv.load_model("squeezenet1_0-avg", weights="random:0", resize="96x128", device="cpu")


@pytest.fixture
def blank_street(street: Path) -> Path:
    """The street with a black and a white photo among its database, and one of each among the queries."""
    for part in ("database", "queries"):
        Image.new("RGB", (128, 96)).save(street / part / "99.jpg")
        Image.new("RGB", (128, 96), "white").save(street / part / "98.png")
    return street


def places(street: Path) -> PlaceDataset:
    database, queries = dv.photos(street / "database"), dv.photos(street / "queries")
    return PlaceDataset("street", database, queries, parse_truth("same-name", database, queries))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model", "network"])
def test_a_map_leaves_them_out(
    name: str, blank_street: Path, tmp_path: Path, request: pytest.FixtureRequest, make_view: View
) -> None:
    model = request.getfixturevalue(name)
    town = dv.PlaceMap.build(model, dv.photos(blank_street / "database"), tmp_path / "map")
    assert len(town) == 12 and town.failed == {"98.png": "shows nothing: it is white", "99.jpg": BLACK}
    assert "12 photos" in str(town.info()) and "2 left out (2 photos show nothing)" in str(town.info())
    info = town.info().to_dict()
    assert (info["n_blank"], info["n_unread"], set(info["failed"])) == (2, 0, {"98.png", "99.jpg"})
    answers = {answer.name: answer for answer in town.locate(dv.photos(blank_street / "queries"), k=12)}
    assert {match.name for answer in answers.values() for match in answer.matches}.isdisjoint(town.failed)
    for place in range(12 if name == "model" else 0):
        assert answers[f"{place:02d}.png"].matches[0].name == f"{place:02d}.png"
    black = answers["99.jpg"]
    assert not black.known and not black.confidence and not black.matches and black.position is None
    assert str(black) == "99.jpg: shows nothing: it is black"
    assert black.to_dict()["blank"] and black.to_dict()["failed"] == BLACK
    again = dv.PlaceMap.build(model, dv.photos(blank_street / "database"), tmp_path / "map")
    assert again.failed == town.failed and len(again) == 12
    assert town.add([blank_street / "queries" / "98.png"]) == 0


@pytest.mark.slow
def test_arrays_of_one_colour_are_answered(blank_street: Path, tmp_path: Path, model: dv.PlaceModel) -> None:
    town = dv.PlaceMap.build(model, dv.photos(blank_street / "database"), tmp_path / "map")
    for colour in ((0, 0, 0), (255, 255, 255), (10, 200, 30)):
        (answer,) = town.locate([np.full((96, 128, 3), colour, np.uint8)])
        assert answer.blank and not answer.known
    zero, scaled = town.locate_descriptors(
        np.stack([0 * town.descriptors[3], 5 * town.descriptors[3]]), town.photos.take([2, 3])
    )
    assert zero.blank and not zero.known
    assert scaled.matches[0].name == town.photos[3].key and scaled.matches[0].score == pytest.approx(1)


def test_a_video_with_black_frames(tmp_path: Path, model: dv.PlaceModel, make_view: View) -> None:
    video = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 5, (128, 96))
    for i in range(8):
        video.write(np.zeros((96, 128, 3), np.uint8) if i in (0, 5) else make_view(i)[:, :, ::-1].copy())
    video.release()
    town = dv.PlaceMap.build(model, dv.photos(tmp_path / "v.avi"), tmp_path / "map")
    assert len(town) == 6 and set(town.failed.values()) == {BLACK}
    assert all(key.endswith(("frame=0", "frame=5")) for key in town.failed)


def test_a_map_of_before_that_holds_zeros(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(OLD_FORMATS / "map", tmp_path / "map"))
    state = json.loads((folder / "map.json").read_text("utf-8"))
    rows = np.fromfile(folder / "rows.bin", "<f4").reshape(-1, state["dims"])
    rows[state["rows"][1]] = 0
    rows.tofile(folder / "rows.bin")
    names = state["photos"]["name"]
    town = dv.PlaceMap.open(folder, device="cpu")
    assert len(town) == len(names) - 1
    assert town.failed[names[1]] == "shows nothing: its descriptor is all zeros"
    ranking = town.search(town.descriptors, k=len(town))
    assert ranking.indices[:, 0].tolist() == list(range(len(town))) and names[1] not in town.photos.keys
    assert town.remove([names[0]]) == 1  # it takes on the new form
    again = dv.PlaceMap.open(folder, device="cpu")
    assert len(again) == len(names) - 2 and names[1] in again.failed


@pytest.mark.parametrize("kind", KINDS)
def test_evaluate_with_every_index(
    kind: str, blank_street: Path, tmp_path: Path, model: dv.PlaceModel
) -> None:
    if kind.startswith("faiss"):
        pytest.importorskip("faiss")
    dataset = places(blank_street)
    fitted = fit(model, dataset.database)
    database, queries = (
        extract(fitted, part, tmp_path / name)
        for name, part in (("db", dataset.database), ("q", dataset.queries))
    )
    assert database.failed["99.jpg"] == BLACK and not database.rows[-1].any()
    ranking = rank(database, queries, Scoring((1, 5), 14, index=kind), dataset.truth)
    assert not np.isin(ranking.indices, [12, 13]).any() and (ranking.indices[[12, 13]] == -1).all()
    result = score(ranking, dataset, tmp_path / "r", Scoring((1, 5), 14), unread=unread_of(database, queries))
    assert result is not None and result.recall[1] == pytest.approx(12 / 14)
    stored = json.loads((tmp_path / "r" / "result.json").read_text(encoding="utf-8"))
    counts = [stored[f"n_{what}"] for what in ("blank_queries", "blank_database", "unread_queries")]
    assert counts == [2, 2, 0] and stored["unread"]["queries"]["99.jpg"] == BLACK
    assert "2 queries show nothing (counted as missed); 2 database photos show nothing" in str(result)
    assert dv.Result.load(tmp_path / "r") == result


def test_a_store_of_before_that_holds_zeros(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(OLD_FORMATS / "store", tmp_path / "s"))
    stored = np.load(folder / "rows.npy")
    described = np.flatnonzero(np.load(folder / "done.npy") == 1)
    row = int(described[1])
    stored[row] = 0
    np.save(folder / "rows.npy", stored)
    store = DescriptorStore.open(folder)
    assert store.failed[store.keys[row]] == "shows nothing: its descriptor is all zeros"
    assert not store.done[row] and store.done[described[[0, 2]]].all() and store.complete
    assert not np.isin(rank(store, store, Scoring((1,), len(store))).indices, row).any()

    rows = np.eye(6, dtype=np.float32)
    rows[2] = 0
    store = DescriptorStore.from_arrays(rows)
    assert store.failed == {"2": "shows nothing: its descriptor is all zeros"}
    assert store.done.tolist() == [True, True, False, True, True, True] and store.complete
    assert not np.isin(rank(store, store, Scoring((1,), 6)).indices, 2).any()
    assert all("2" not in (query, *names) for query, names in neighbours(store, store).items())


def test_extracting_again_leaves_all_as_it_is(
    blank_street: Path, tmp_path: Path, model: dv.PlaceModel
) -> None:
    database = dv.photos(blank_street / "database")
    fitted = fit(model, database)
    extract(fitted, database, tmp_path / "db")
    names = ("rows.npy", "done.npy", "failed.json", "manifest.json")
    before = [(tmp_path / "db" / name).read_bytes() for name in names]
    extract(fitted, database, tmp_path / "db")
    assert [(tmp_path / "db" / name).read_bytes() for name in names] == before
    shutil.copy(blank_street / "database" / "03.png", blank_street / "database" / "98.png")
    store = extract(fitted, dv.photos(blank_street / "database"), tmp_path / "db")
    assert set(store.failed) == {"99.jpg"}


@pytest.mark.slow
def test_reranking_keeps_what_has_no_patches(
    blank_street: Path, tmp_path: Path, model: dv.PlaceModel
) -> None:
    dataset = places(blank_street)
    preset = load_preset("speed").with_options(depth=6)
    fitted = fit(model, dataset.database)
    patches = PatchSetting((2,), (1,), None)
    database, queries = (
        extract(fitted, part, tmp_path / name, patches=patches)
        for name, part in (("db", dataset.database), ("q", dataset.queries))
    )
    first = rank(database, queries, Scoring((1, 5), 14))
    indices = first.indices.copy()
    indices[0, :3] = [12, 13, 0]  # a ranking made elsewhere that puts the blank ones first
    first = dv.Ranking(indices, first.distances)
    for fresh in (False, True):
        chosen = preset.with_options(patch_dtype="none") if fresh else preset
        _, query_patches, database_patches = patch_sources(
            Preset(
                matcher="rapid", sizes=(2,), strides=(1,), depth=6, patch_dtype=chosen.patch_dtype, name="t"
            ),
            database,
            queries,
            fitted,
        )
        reranked = rerank_all(preset.reranker(), first, query_patches, database_patches).ranking
        assert (reranked.indices[[12, 13]] == -1).all()
        assert 0 in reranked.indices[0] and reranked.indices[0, 0] not in (12, 13)
        assert not np.isin(reranked.indices[1:, :], [12, 13]).any()


def test_pairs_and_matches(blank_street: Path, tmp_path: Path, model: dv.PlaceModel) -> None:
    database = dv.photos(blank_street / "database")
    fitted = fit(model, database)
    store = extract(fitted, database, tmp_path / "db")
    candidates = neighbours(store, store)
    names = {*candidates, *(name for names in candidates.values() for name in names)}
    assert len(names) == 12 and names.isdisjoint({"98.png", "99.jpg"})
    setting = PairSetting(PatchSetting((2, 5)))
    shown, black_file = (blank_street / "database" / name for name in ("00.png", "99.jpg"))
    pair = match_pair(fitted, shown, black_file, setting)
    assert list(pair.blank.values()) == [BLACK] and pair.to_dict()["blank"] == dict(pair.blank)
    (black,) = PairMatcher(fitted, setting).look([black_file])
    live = Live(PairMatcher(fitted, setting), black.photo)
    frame = live.compare(black.photo)  # the same picture, but of nothing
    assert not frame.known and live.blank == 1 and "shows nothing" in str(frame)
    with pytest.raises(BlankPhotoError, match=r"99\.jpg' shows nothing: it is black"):
        fitted.encode_patches(black_file, sizes=(2,))


def test_loops(tmp_path: Path, model: dv.PlaceModel, make_view: View) -> None:
    frames = [make_view(i % 10, i // 10) for i in range(20)]
    frames[4] = frames[14] = np.zeros((96, 128, 3), np.uint8)
    listed = PhotoList.from_arrays(frames)
    store = extract(fit(model, listed), listed, tmp_path / "frames")
    loops = find_loops(store, window=5)
    assert {4, 14}.isdisjoint({frame for loop in loops for frame in (loop.frame, loop.closes)})
    assert {loop.closes for loop in loops if loop.frame in range(10, 20)} == set(range(10)) - {4}


@pytest.mark.slow
def test_fitting_passes_them_over_and_says_so(blank_street: Path, network: dv.PlaceModel) -> None:
    (blank_street / "database" / "97.png").write_bytes(b"no photo")
    photos = dv.photos(blank_street / "database")
    reports: list[dict[str, str]] = []
    whitened = learn_whitening(network, photos, 4, on_failed=lambda failed: reports.append(dict(failed)))
    assert [set(failed) for failed in reports] == [{"97.png", "98.png", "99.jpg"}]
    assert reports[0]["99.jpg"] == BLACK and not reports[0]["97.png"].startswith("shows nothing")
    good = photos.take(range(12))
    clean = learn_whitening(network, good, 4)
    np.testing.assert_array_equal(whitened.encode(good[0]), clean.encode(good[0]))
    reports.clear()
    fit(
        dv.load_model("rootsift-vlad", device="cpu"),
        photos,
        on_failed=lambda failed: reports.append(dict(failed)),
    )
    assert [set(failed) for failed in reports] == [{"97.png", "98.png", "99.jpg"}]


def test_rows_of_any_length_are_compared_by_direction(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    database = random.normal(size=(60, 32))
    queries = database + 0.5 * random.normal(size=(60, 32))
    truth = parse_truth("frames:0", *(PhotoList.from_arrays([np.zeros((1, 1, 3), np.uint8)] * 60),) * 2)
    for name, rows in (("db", database), ("q", queries)):
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        np.save(tmp_path / f"{name}.npy", (unit * random.uniform(0.2, 5, (60, 1))).astype(np.float32))
    raw = dv.build_index("flat", np.load(tmp_path / "db.npy")).search(np.load(tmp_path / "q.npy"), 1)
    assert np.mean(raw.indices[:, 0] == np.arange(60)) < 0.7  # the fault: by length as much as by direction
    stores = [DescriptorStore.open(tmp_path / f"{name}.npy") for name in ("db", "q")]
    for kind in ("flat", "float16", "int8"):
        ranking = rank(*stores, Scoring((1,), 5, index=kind))
        assert dv.evaluate(ranking, truth, recall_at=(1,)).recall[1] == 1.0
        assert ranking.distances.max() <= 2
    assert stores[0].scaled is not None and stores[0].scaled[1] > 4
    assert isinstance(stores[0].rows, np.memmap)
    assert len(neighbours(*stores, 1)) == 60


def test_float16_beside_float32_and_other_models(tmp_path: Path) -> None:
    rows = np.eye(5, 8, dtype=np.float32)
    np.save(tmp_path / "a.npy", rows)
    np.save(tmp_path / "b.npy", rows.astype(np.float16))
    single, half = (DescriptorStore.open(tmp_path / name) for name in ("a.npy", "b.npy"))
    for pair in ((single, half), (half, single)):
        assert rank(*pair, Scoring((1,), 2)).indices[:, 0].tolist() == list(range(5))
    other = save_store(DescriptorStore.from_arrays(rows, model="m", fingerprint="f" * 64), tmp_path / "s")
    for pair in ((single, other), (other, single)):
        with pytest.raises(
            StoreMismatchError, match="Only descriptors of one model can be compared"
        ) as error:
            rank(*pair)
        assert "delete" not in str(error.value) and "--out" not in str(error.value)


@pytest.mark.slow
@pytest.mark.skipif(not GARDENS.is_dir(), reason="the photos of /work/shared/data are not here")
def test_forty_photos_of_gardens_point_and_a_black_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Learnt as users learn: from ten times as many features as in other tests.
    monkeypatch.setattr(import_module("dejavlad.fitting.initialise"), "sample_features", sample_features)
    for part, side in (("database", "day_left"), ("queries", "day_right")):
        (tmp_path / part).mkdir()
        for path in sorted((GARDENS / side).iterdir())[:200:5]:
            Image.open(path).resize((240, 136)).save(tmp_path / part / f"{path.stem}.png")
    Image.new("RGB", (240, 136)).save(tmp_path / "database" / "zzz.jpg")
    dataset = places(tmp_path)
    model = fit(dv.load_model("rootsift-vlad", resize="none", device="cpu"), dataset.database)
    database, queries = (
        extract(model, part, tmp_path / name)
        for name, part in (("db", dataset.database), ("q", dataset.queries))
    )
    ranking = rank(database, queries, Scoring((1, 5), 10), dataset.truth)
    assert dataset.truth is not None
    assert dv.evaluate(ranking, dataset.truth, recall_at=(1, 5)).recall[1] >= 0.9
    assert not (ranking.indices == 40).any() and database.failed == {"zzz.jpg": BLACK}
