"""A map's search index: what it answers, follows and refuses, that it is only a cache; filters."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import dejavlad as dv
from dejavlad.aggregation import GeM
from dejavlad.errors import InputError, UnknownNameError
from dejavlad.extraction import PhotoTable
from dejavlad.geo import Position, utm_from_latlon
from dejavlad.model import PlaceModel
from dejavlad.photo import Photo, PhotoList
from dejavlad.places.filters import Filter, PhotoColumns
from dejavlad.places.map_folder import index as map_index
from dejavlad.places.map_folder.index import KINDS, MapIndex
from dejavlad.places.map_folder.state import MapState
from dejavlad.ranking import Ranking

View = Callable[..., NDArray[np.uint8]]
DIMS, COUNT = 128, 3000
MIDDLE = utm_from_latlon(48.1, 11.5)


@pytest.fixture(scope="module")
def model() -> PlaceModel:
    torch.set_num_threads(1)
    base = dv.load_model("rootsift-vlad", resize="none", device="cpu")
    return PlaceModel(base.backbone, GeM(DIMS), base.preprocess, fitted=True, source=base.source)


def drawn(count: int, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, DIMS)) * (1 + np.arange(DIMS)) ** -0.2
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def put(folder: Path, rows: NDArray[np.float32], first: int = 0) -> None:
    numbers = np.arange(len(rows))
    photos = PhotoList(
        Photo(
            f"{i}",
            Path(f"/nowhere/{i}"),
            position=None if i % 10 == 9 else Position(MIDDLE.east + i, MIDDLE.north, MIDDLE.zone),
            heading=float(i % 360),
            time=1e9 + 3600.0 * i,
        )
        for i in range(first, first + len(rows))
    )
    sizes = np.full((len(rows), 2), 480, np.int32)
    table = PhotoTable(photos, photos.keys, numbers + 1000, numbers, sizes)
    MapState(folder, DIMS).add(table, rows, numbers, {})


@pytest.fixture(scope="module")
def built(model: PlaceModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("maps") / "town"
    image = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    dv.PlaceMap.build(model, [image], folder)
    place_map = dv.PlaceMap(folder, model)
    place_map.remove(["0"])
    put(folder, drawn(COUNT))
    return folder


@pytest.fixture
def town(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "town"))


def indexed(folder: Path, model: PlaceModel, kind: str | None) -> dv.PlaceMap:
    place_map = dv.PlaceMap(folder, model)
    place_map._follow(kind, lambda progress: None, check=True)
    return place_map


@pytest.fixture(params=[kind for kind in KINDS if kind != "auto"])
def kind(request: pytest.FixtureRequest) -> str:
    if request.param in map_index.FAISS_KINDS:
        pytest.importorskip("faiss")
    return str(request.param)


@pytest.mark.slow
def test_rows_that_are_written_anew_have_another_index(town: Path, model: PlaceModel, kind: str) -> None:
    place_map = indexed(town, model, kind)
    before = place_map.index and place_map.index.head()
    place_map.remove([str(i) for i in range(2000)])
    queries = drawn(20, seed=1)
    assert place_map.compact() > 0 or place_map.snapshot.head.compactions == 1
    assert place_map.index is not None
    after = place_map.index.head()
    assert before is not None and after is not None and after.generation == before.generation + 1
    for opened in (place_map, dv.PlaceMap(town, model)):
        seen = opened.search(queries, k=5)
        right = opened.search(queries, k=5, allowed=np.arange(len(opened)))
        assert (seen.indices >= 0).all() and seen.indices.max() < len(opened)
        assert (seen.indices[:, 0] == right.indices[:, 0]).mean() >= 0.7
        np.testing.assert_allclose(
            seen.distances[:, 0],
            np.linalg.norm(opened.descriptors_of(seen.indices[:, 0]) - queries, axis=1),
            atol=1e-5,
        )


def test_an_index_of_other_rows_is_passed_over(town: Path, model: PlaceModel) -> None:
    place_map = indexed(town, model, "int8")
    place_map.remove([str(i) for i in range(1000)])
    # As if the run were killed between the rows and the index.
    MapState(town, DIMS).compact()
    opened = dv.PlaceMap(town, model)
    queries = drawn(5, seed=1)
    seen = opened.search(queries, k=5)
    right = opened.search(queries, k=5, allowed=np.arange(len(opened)))
    assert opened.view.searcher is not None and opened.view.searcher.kind == "exact"
    np.testing.assert_array_equal(seen.indices, right.indices)


@pytest.mark.slow
def test_each_kind_is_kept_audited_and_follows(town: Path, model: PlaceModel, kind: str) -> None:
    exact = dv.PlaceMap(town, model)
    place_map = indexed(town, model, kind)
    head = place_map.index.head()
    assert head is not None and head.kind == kind and place_map.info().index["kind"] == kind
    assert head.audit["filtered"] == 1.0 and head.audit["rows"] == 200
    if kind in ("exact", "float16", "int8"):
        assert head.audit["recall@1"] == head.audit["recall@10"] == 1.0
    queries = drawn(20, seed=1)
    right = exact.search(queries, k=7)
    seen = place_map.search(queries, k=7)
    assert place_map.view.searcher is not None and place_map.view.searcher.kind == kind
    assert (seen.indices[:, 0] == right.indices[:, 0]).mean() >= 0.7
    if kind in ("exact", "float16", "int8"):
        np.testing.assert_array_equal(seen.indices, right.indices)
        np.testing.assert_array_equal(seen.distances, right.distances)
    new = drawn(30, seed=2)  # before the index follows, they are looked at one by one
    put(town, new, COUNT)
    place_map.refresh()
    assert (place_map.search(new, k=1).indices[:, 0] == COUNT + np.arange(30)).all()
    place_map._follow(None, lambda progress: None)
    assert (place_map.search(new, k=1).indices[:, 0] == COUNT + np.arange(30)).all()
    place_map.remove(["5", str(COUNT + 3)])
    gone = place_map.search(np.stack([drawn(COUNT)[5], new[3]]), k=3)
    assert (gone.distances[:, 0] > 0.01).all()
    again = dv.PlaceMap(town, model)
    assert again.index.head() is not None
    np.testing.assert_array_equal(again.search(queries, k=3).indices, place_map.search(queries, k=3).indices)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_filters_lose_nothing(town: Path, model: PlaceModel, kind: str, share: float) -> None:
    place_map = indexed(town, model, kind)
    allowed = np.sort(np.random.default_rng(0).choice(COUNT, round(COUNT * share), replace=False))
    queries, rows = drawn(10, seed=3), drawn(COUNT)
    apart = ((queries[:, None].astype(np.float64) - rows[allowed]) ** 2).sum(axis=2)
    expected = allowed[np.argsort(apart, axis=1, kind="stable")[:, :10]]
    np.testing.assert_array_equal(place_map.search(queries, k=10, allowed=allowed).indices, expected)


def _cut_codes(folder: Path) -> None:
    path = folder / "codes.bin"
    path.write_bytes(path.read_bytes()[:-8])


def _change_codes(folder: Path) -> None:
    path = folder / "codes.bin"
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])


def _break_state(folder: Path) -> None:
    (folder / "index.sqlite").write_bytes(b"nothing" * 500)


@pytest.mark.slow
def test_an_older_index_of_signs_answers_until_it_is_made_anew(town: Path, model: PlaceModel) -> None:
    place_map = indexed(town, model, "1bit")
    assert place_map.index is not None
    head = place_map.index.head()
    assert head is not None and head.turned
    older = replace(head, turned=False)
    place_map.index._put(older)
    rows = place_map.snapshot.file_rows
    made = place_map.index.coder(older).encode(rows.all())[0]
    path = place_map.index.folder / "codes.bin"
    place_map.index.file(place_map.index.coder(older)).append(0, made, np.arange(len(made)))
    with place_map.index.state.writing() as connection:
        place_map.index.file(place_map.index.coder(older)).note(connection, 0, len(made))
    before, opened = path.read_bytes(), dv.PlaceMap(town, model)
    queries = drawn(5)
    assert (opened.search(queries, k=1).distances[:, 0] < 1e-3).all()
    assert opened.view.searcher is not None and opened.view.searcher.kind == "1bit"
    opened._follow(None, lambda progress: None)  # as `map add`
    assert path.read_bytes() == before
    opened._follow(None, lambda progress: None, check=True)  # as `map build`
    assert path.read_bytes() != before
    assert (opened.search(queries, k=1).distances[:, 0] < 1e-3).all()


@pytest.mark.slow
@pytest.mark.parametrize("damage", [_cut_codes, _change_codes, _break_state, shutil.rmtree])
def test_a_damaged_index_is_passed_over_and_made_anew(
    town: Path, model: PlaceModel, damage: Callable[[Path], None]
) -> None:
    indexed(town, model, "1bit")
    damage(town / "index")
    place_map = dv.PlaceMap(town, model)
    rows = drawn(COUNT)[:5]
    assert (place_map.search(rows, k=1).indices[:, 0] == np.arange(5)).all()
    assert place_map.view.searcher is not None and place_map.view.searcher.kind == "exact"
    place_map = indexed(town, model, "1bit")
    place_map.search(rows, k=1)
    assert place_map.view.searcher is not None and place_map.view.searcher.kind == "1bit"


def test_an_index_that_was_cut_off_before_its_audit_is_asked_by_the_next_run(
    town: Path, model: PlaceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(*_: object) -> dict[str, object]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(map_index, "audit", cut_off)
        indexed(town, model, "1bit")
    head = dv.PlaceMap(town, model).index.head()
    assert head is not None and head.rows > 0 and not head.audit
    head = indexed(town, model, "1bit").index.head()
    assert head is not None and head.audit["rows"] == 200


def test_a_damaged_index_that_is_not_needed_goes(town: Path, model: PlaceModel) -> None:
    indexed(town, model, "1bit")
    _break_state(town / "index")
    indexed(town, model, None)
    assert not (town / "index").exists()


def test_an_index_of_another_map_or_model_is_not_used(town: Path, model: PlaceModel, tmp_path: Path) -> None:
    place_map = indexed(town, model, "int8")
    assert MapIndex(town, DIMS, "another").head() is None
    assert MapIndex(town, DIMS + 1, model.fingerprint).head() is None
    head = place_map.index.head()
    assert head is not None
    place_map.index._put(replace(head, seal=head.seal ^ 1))
    again = dv.PlaceMap(town, model)
    again.search(drawn(1), k=1)
    assert again.view.searcher is not None and again.view.searcher.kind == "exact"


@pytest.mark.slow
def test_auto_goes_by_the_number_of_photos(
    town: Path, model: PlaceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    place_map = indexed(town, model, "auto")
    head = place_map.index.head()
    assert head is not None and (head.wanted, head.kind) == ("auto", "exact")
    monkeypatch.setattr(map_index, "MANY", 3001)
    monkeypatch.setattr(map_index, "GOOD", 0.0)
    put(town, drawn(5, seed=9), COUNT)
    place_map.refresh()
    place_map._follow(None, lambda progress: None)
    head = place_map.index.head()
    assert head is not None and (head.wanted, head.kind) == ("auto", "1bit")
    monkeypatch.setattr(map_index, "GOOD", 1.01)  # what loses too much gives way to what loses nothing
    place_map = indexed(town, model, "exact")
    place_map = indexed(town, model, "auto")
    head = place_map.index.head()
    assert head is not None and (head.wanted, head.kind) == ("auto", "int8")
    monkeypatch.setattr(map_index, "GOOD", 0.0)
    indexed(town, model, "exact")
    place_map = indexed(town, model, "auto")
    assert place_map.index is not None and (head := place_map.index.head()) and head.kind == "1bit"
    place_map._follow(None, lambda progress: None, check=True, least=1.01)  # so does what loses too much here
    assert (head := place_map.index.head()) and head.kind == "int8"


def test_build_refuses_an_index_below_min_recall(
    model: PlaceModel, tmp_path: Path, make_view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = [make_view(i) for i in range(4)]
    with pytest.raises(UnknownNameError, match="1bit"):
        dv.PlaceMap.build(model, photos, tmp_path / "m", index="2bit")
    with pytest.raises(InputError, match="share of 0 to 1"):
        dv.PlaceMap.build(model, photos, tmp_path / "m", index="1bit", min_recall=1.5)
    made = dv.PlaceMap.build(model, photos, tmp_path / "m", index="1bit", min_recall=0.5)
    assert made.info().index["kind"] == "1bit" and "index 1bit, recall@1 1.000" in str(made.info())
    monkeypatch.setattr(map_index, "audit", lambda *_: {"rows": 4, "recall@1": 0.25, "filtered": 1.0})
    with pytest.raises(InputError, match=r"0\.250 of 4 rows, below --min-recall 0\.9; the map .* is whole"):
        dv.PlaceMap.build(model, photos, tmp_path / "n", index="1bit", min_recall=0.9)
    place_map = dv.PlaceMap.open(tmp_path / "n")
    assert len(place_map) == 4 and place_map.info().index["refused"]
    assert place_map.locate([photos[2]], verify=None)[0].matches[0].name == "2"
    assert place_map.view.searcher is not None and place_map.view.searcher.kind == "exact"
    built = dv.PlaceMap.build(model, photos, tmp_path / "n", min_recall=0.2)  # which it reaches: it is used
    assert not built.info().index["refused"]


def located(place_map: dv.PlaceMap, **filters: object) -> dv.places.Answer:  # type: ignore[name-defined]
    only = Filter.of(**filters)  # type: ignore[arg-type]
    query = PhotoList([Photo("q", Path("q"), position=MIDDLE)])
    return place_map.locate_descriptors(drawn(1)[:1], query, k=3, verify=None, only=only)[0]


@pytest.mark.parametrize("filters", [{"near": "48.1,11.5,20"}, {"after": 1e9 + 3600 * 2990}])
def test_queries_of_one_filter_are_searched_together(
    town: Path, model: PlaceModel, monkeypatch: pytest.MonkeyPatch, filters: dict[str, object]
) -> None:
    monkeypatch.setattr(map_index, "QUERIES", 2)
    place_map, only = dv.PlaceMap(town, model), Filter.of(**filters)  # type: ignore[arg-type]
    queries = PhotoList([Photo(f"q{i}", Path(f"q{i}"), position=MIDDLE) for i in range(6)])
    rows = drawn(6, seed=3)
    rows[2] = 0  # shows nothing
    alone = [
        place_map.locate_descriptors(rows[i : i + 1], queries.take([i]), verify=None, only=only)[0]
        for i in range(6)
    ]
    searches: list[int] = []
    search = place_map.view.search

    def counted(rows_QD: NDArray[np.float32], **options: Any) -> Ranking:
        searches.append(len(rows_QD))
        return search(rows_QD, **options)

    monkeypatch.setattr(place_map.view, "search", counted)
    assert place_map.locate_descriptors(rows, queries, verify=None, only=only) == alone
    assert searches.count(6) == 1 and set(searches) <= {1, 6}


def test_locate_looks_only_where_it_may(town: Path, model: PlaceModel) -> None:
    place_map = dv.PlaceMap(town, model)
    assert located(place_map, near="48.1,11.5,20").matches[0].name == "0"
    far = located(place_map, near=(Position(MIDDLE.east + 1000, MIDDLE.north, MIDDLE.zone), 20))
    assert {980 <= int(m.name) <= 1020 for m in far.matches} == {True}
    assert far.searched == {"photos": 37, "without": {"position": 300}}
    own = located(place_map, near="exif:3.5")
    assert own.searched == {"photos": 4, "without": {"position": 300}} and not own.known
    nothing = located(place_map, near="10,10,500")
    assert not nothing.known and nothing.matches == () and nothing.failed is None
    assert nothing.reason.startswith("no photo of this map lies within 500 m of 10.00000, 10.00000")
    assert "unknown: no photo" in str(nothing)
    late = located(place_map, after=1e9 + 3600 * 2990)
    assert late.searched == {"photos": 10, "without": {}}
    assert located(place_map, before="1999-01-01").reason == "no photo of this map was taken in that time"
    east = located(place_map, heading="0+-1")
    assert {int(m.name) % 360 for m in east.matches} <= {0, 1, 359}
    assert east.to_dict()["searched"]["photos"] == 26


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"near": "48.1,11.5"}, "give LAT,LON,METRES"),
        ({"near": "48.1,11.5,0"}, "distance above 0"),
        ({"near": "exif:-5"}, "distance above 0"),
        ({"near": "99,11.5,10"}, "outside UTM"),
        ({"near": (1,)}, "near="),
        ({"near": "nan,1,1"}, "give LAT,LON,METRES"),
        ({"after": "yesterday"}, "give a time as"),
        ({"after": float("nan")}, "finite"),
        ({"after": "2024-02-01", "before": "2024-01-01"}, "no photo can pass"),
        ({"heading": "north"}, r"DEGREES\+-TOLERANCE"),
        ({"heading": "90+-200"}, "tolerance of 0 to 180"),
    ],
)
def test_filters_that_make_no_sense(given: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Filter.of(**given)  # type: ignore[arg-type]


def test_zones_and_planes() -> None:
    west, east = utm_from_latlon(48.0, 11.9999), utm_from_latlon(48.0, 12.0001)
    assert west.zone != east.zone
    photos = [Photo(n, Path(n), position=p) for n, p in (("w", west), ("e", east), ("none", None))]
    facts = PhotoColumns.of_photos(photos)
    near = Filter.of(near=(west, 30.0))
    assert near is not None and near.allowed(facts).rows.tolist() == [0, 1]
    narrow = Filter.of(near=(west, 10.0))
    assert narrow is not None and narrow.allowed(facts).rows.tolist() == [0]
    plane = PhotoColumns.of_photos([Photo("p", Path("p"), position=Position(0.0, 0.0))])
    with pytest.raises(InputError, match="plane of their own"):
        near.allowed(plane)
    on_plane = Filter.of(near=(Position(3.0, 4.0), 5.0))
    assert on_plane is not None and on_plane.allowed(plane).rows.tolist() == [0]
    day = Filter.of(before="2024-05-31")
    assert day is not None and day.before is not None and day.before > 1717199990
