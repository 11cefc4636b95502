"""Local features that a map keeps: small, never stale, and answers without any photo of the map."""

import sqlite3

import pytest

import dejavlad as dv
from dejavlad.errors import StoreError
from dejavlad.places.map_folder.features_state import FILE
from dejavlad.places.verification.points import PointSetting

SETTING = PointSetting("sift", longest=256, points=256)
MODEL = "rootsift-vlad"


@pytest.fixture
def kept(tmp_path, make_view):
    """A map of four arrays that keeps local features."""
    views = [make_view(place, 0, 192, 256) for place in range(4)]
    return dv.PlaceMap.build(MODEL, views, tmp_path / "map", local=SETTING)


@pytest.mark.slow
def test_a_map_of_arrays_is_verified_by_what_it_keeps(kept, make_view):
    assert kept.features.rows() == {0, 1, 2, 3}
    assert (kept.folder / FILE).stat().st_size < 4 * 150_000
    assert "local features by sift" in str(kept.info()) and kept.info().to_dict()["local"] == "sift"
    opened = dv.PlaceMap.open(kept.folder, device="cpu")
    for town in (kept, opened):
        (answer,) = town.locate([make_view(2, 6, 192, 256)])  # auto: what the map keeps
        assert answer.known and answer.matches[0].name == "2"
        assert "points agree with 2" in answer.reason
    assert opened.check()


@pytest.mark.slow
def test_features_follow_what_is_added_and_removed(kept, make_view):
    assert kept.remove(["1"]) == 1
    assert kept.features.rows() == {0, 2, 3}
    assert kept.add([make_view(place, 0, 192, 256) for place in (0, 7)]) == 1  # "1" is another photo now
    assert len(kept.features.rows()) == 4 and max(kept.features.rows()) > 3
    (answer,) = kept.locate([make_view(7, 6, 192, 256)])
    assert answer.known and answer.matches[0].name == "1"


@pytest.mark.slow
def test_another_kind_takes_the_place_of_the_first(kept, make_view):
    views = [make_view(place, 0, 192, 256) for place in range(4)]
    other = PointSetting("sift", longest=200, points=64)
    again = dv.PlaceMap.build(MODEL, views, kept.folder, local=other)
    assert again.features.setting() == other
    assert again.features.rows() == {0, 1, 2, 3}


def test_damage_is_told(kept):
    connection = sqlite3.connect(kept.folder / FILE)
    connection.execute("UPDATE features SET record = CAST(record || x'00' AS BLOB) WHERE row = 2")
    connection.commit()
    connection.close()
    with pytest.raises(StoreError, match=r"checksum of the features of row 2 is wrong; delete this file"):
        kept.features.get(2)
    with pytest.raises(StoreError, match="row 2"):
        kept.check()
