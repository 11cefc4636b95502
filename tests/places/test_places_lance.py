"""Maps in LanceDB answer as maps in folders do, and stay whole."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import dejavlad as dv
from database_maps import address_of, placed, small_model
from dejavlad.aggregation import GeM
from dejavlad.errors import InputError, StoreError, StoreMismatchError, UnknownNameError
from dejavlad.model import PlaceModel
from dejavlad.places.databases import rows as database_rows
from dejavlad.places.databases.database_map import DatabaseMap

pytest.importorskip("lancedb")
View = Callable[..., NDArray[np.uint8]]


@pytest.fixture(scope="module")
def model() -> PlaceModel:
    return small_model()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEJAVLAD_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture(params=["lance", "qdrant", "engine"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with address_of(request.param, tmp_path) as address:
        yield address


def same(a: dv.PlaceMap, b: dv.PlaceMap) -> None:
    """Both hold the same, and answer the same."""
    assert list(a.photos) == list(b.photos) and a.failed == b.failed
    np.testing.assert_array_equal(a.descriptors, b.descriptors)
    assert (a.info().photos, a.info().with_position) == (b.info().photos, b.info().with_position)


def answers(town: dv.PlaceMap, street: Path, **options: Any) -> list[dict[str, Any]]:
    photos = dv.photos(street / "queries")
    photos = photos if options.get("verify") == "none" else photos[:2]  # geometry takes its time
    return [answer.to_dict() for answer in town.locate(photos, **options)]


@pytest.mark.slow
def test_answers_are_those_of_a_folder_map(
    street: Path, tmp_path: Path, model: PlaceModel, address: str, make_view: View, make_photo: Any
) -> None:
    (street / "database" / "bad.png").write_bytes(b"no photo")
    photos = placed(dv.photos(street / "database"))
    folder = dv.PlaceMap.build(model, photos[:9], tmp_path / "map")
    town = dv.PlaceMap.build(model, photos[:9], address)
    same(folder, town)
    for verify in ("none", "sift"):
        assert answers(folder, street, verify=verify) == answers(town, street, verify=verify)
    assert folder.add(photos) == town.add(photos) == 3
    assert folder.remove(["03.png", "05.png"]) == town.remove(["03.png", "05.png"]) == 2
    make_photo(street / "database" / "07.png", make_view(77))
    again = placed(dv.photos(street / "database"), 5.0)
    assert folder.add(again) == town.add(again) == 3
    assert folder.updated == town.updated == 8
    opened = dv.PlaceMap.open(address, device="cpu")
    same(folder, opened)
    assert "bad.png" in opened.failed
    assert answers(folder, street, verify="sift") == answers(opened, street, verify="sift")
    assert opened.check()
    with pytest.raises(UnknownNameError, match=r"99\.png"):
        opened.remove(["99.png"])


def test_maps_larger_than_memory_answer_the_same(
    street: Path, tmp_path: Path, model: PlaceModel, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    town = dv.PlaceMap.build(model, placed(dv.photos(street / "database")), address)
    before = answers(town, street, verify="none")
    monkeypatch.setattr(database_rows, "IN_MEMORY", 0)
    town.refresh()
    assert answers(town, street, verify="none") == before


@pytest.mark.slow
def test_local_features_need_no_photos(street: Path, tmp_path: Path, model: PlaceModel, address: str) -> None:
    photos = placed(dv.photos(street / "database"))
    dv.PlaceMap.build(model, photos, tmp_path / "map", local="sift")
    dv.PlaceMap.build(model, photos[:8], address, local="sift").add(photos)
    for path in (street / "database").iterdir():
        path.unlink()
    folder, town = dv.PlaceMap.open(tmp_path / "map", device="cpu"), dv.PlaceMap.open(address, device="cpu")
    assert town.info().local == "sift"
    assert answers(town, street) == answers(folder, street)
    assert any(answer["known"] for answer in answers(town, street))
    town.remove(["01.png"])
    assert len(town.features.rows()) == 11


def test_a_build_goes_on_and_another_model_is_refused(
    street: Path, tmp_path: Path, model: PlaceModel, address: str
) -> None:
    photos = dv.photos(street / "database")
    dv.PlaceMap.build(model, photos, address)
    assert len(dv.PlaceMap.build(model, photos, address)) == 12
    other = PlaceModel(model.backbone, GeM(128, p=2.0), model.preprocess, fitted=True, source=model.source)
    with pytest.raises(StoreMismatchError, match="Give another --out"):
        dv.PlaceMap.build(other, photos, address)


@pytest.mark.slow
def test_another_machine_opens_adds_and_is_seen(
    street: Path, tmp_path: Path, model: PlaceModel, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if address.startswith("qdrant"):
        pytest.skip("a folder of Qdrant's local mode is one process's")
    photos = dv.photos(street / "database")
    town = dv.PlaceMap.build(model, photos[:6], address)
    monkeypatch.setenv("DEJAVLAD_CACHE_DIR", str(tmp_path / "elsewhere"))
    other = dv.PlaceMap.open(address, device="cpu")
    assert other.model.fingerprint == model.fingerprint
    assert other.add(photos) == 6
    assert len(town) == 6 and len(town.descriptors) == 6  # a reader keeps to its version
    town.refresh()
    same(town, other)


# LanceDB alone


@pytest.fixture
def lance(tmp_path: Path) -> str:
    return f"lance:{tmp_path / 'db'}"


def test_versions_are_maps_as_of_a_day(street: Path, model: PlaceModel, lance: str) -> None:
    photos = dv.photos(street / "database")
    town = dv.PlaceMap.build(model, photos[:6], lance)
    before = town.snapshot.head.change
    town.add(photos)
    assert len(dv.PlaceMap.open(f"{lance}@{before}", device="cpu")) == 6
    assert len(dv.PlaceMap.open(f"{lance}@2999-01-01", device="cpu")) == 12
    with pytest.raises(InputError, match="was made after 2001-01-01"):
        dv.PlaceMap.open(f"{lance}@2001-01-01", device="cpu")
    with pytest.raises(InputError, match="has no version 99"):
        dv.PlaceMap.open(f"{lance}@99", device="cpu")
    with pytest.raises(InputError, match="stays so"):
        dv.PlaceMap.open(f"{lance}@{before}", device="cpu").remove(["01.png"])
    versions = DatabaseMap(lance).engine.versions()
    assert [number for number, _ in versions] == list(range(1, len(versions) + 1))


def test_a_table_that_someone_else_changed(street: Path, model: PlaceModel, lance: str) -> None:
    import lancedb

    photos = dv.photos(street / "database")
    dv.PlaceMap.build(model, photos, lance)
    table = lancedb.connect(lance.removeprefix("lance:")).open_table("photos")
    start = table.version

    def back() -> None:
        table.checkout(start)
        table.restore()

    table.delete("key = '03.png'")
    assert len(dv.PlaceMap.open(lance, device="cpu")) == 11
    back()
    table.update(where="key = '03.png'", values={"model": "x"})
    with pytest.raises(StoreMismatchError, match="model of some rows"):
        dv.PlaceMap.open(lance, device="cpu")
    back()
    table.update(where="key = '03.png'", values={"crc": 5})
    with pytest.raises(StoreError, match="is not what was written"):
        dv.PlaceMap.open(lance, device="cpu").check()
    back()
    table.drop_columns(["zone"])
    with pytest.raises(StoreError, match="it has no column zone"):
        dv.PlaceMap.open(lance, device="cpu")
    back()
    assert len(dv.PlaceMap.open(lance, device="cpu")) == 12


def test_addresses_that_cannot_be(tmp_path: Path) -> None:
    for address, message in (
        ("s3://bucket", "give a bucket and a path"),
        ("lance:", "give a folder"),
        ("qdrant://host", "qdrant://HOST"),
        (f"lance:{tmp_path}/none", "there is no map at"),
    ):
        with pytest.raises((InputError, StoreError), match=message):
            dv.PlaceMap.open(address, device="cpu")


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lancedb", None)
    with pytest.raises(ImportError, match=r"pip install 'dejavlad\[lance\]'"):
        dv.PlaceMap.open(f"lance:{tmp_path}/db", device="cpu")
