"""Confidence from search and geometry: monotone, honest where there is little to go by; `locate` with it."""

from dataclasses import replace

import numpy as np
import pytest

import dejavlad as dv
from dejavlad.errors import InputError, UnknownNameError
from dejavlad.photo import Photo
from dejavlad.places.verification.confidence import (
    Evidence,
    reason,
    search_confidence,
    verified_confidence,
)
from dejavlad.places.verification.points import PointSetting
from dejavlad.places.verification.rivals import rivals
from dejavlad.rerank import Nearness, PointMatches, Verified

SURE = Evidence(standing=0.3, places=10, inliers=142, coverage=0.5, runner_up=9, coherent=130, by_chance=6)


def test_it_rises_with_what_speaks_for_the_answer_and_falls_with_chance():
    middle = Evidence(standing=0.1, places=10, inliers=50, coverage=0.2, coherent=40, by_chance=20)
    for better in ({"standing": 0.2}, {"coherent": 50}, {"coverage": 0.3}, {"by_chance": 16}):
        assert verified_confidence(replace(middle, **better)) > verified_confidence(middle)
    assert verified_confidence(replace(middle, places=2)) < verified_confidence(middle)
    assert 0.98 < verified_confidence(SURE) <= 1


def test_more_points_than_chance_ever_makes_do_not_count_against_an_answer():
    standing_still = Evidence(0.02, 7, 483, 0.5, 457, 483, 457)
    assert verified_confidence(standing_still) > 0.95


def test_what_chance_makes_is_not_known():
    for places in (1, 2, 5, 10):
        assert verified_confidence(Evidence(0.1, places, 38, 0.2, 30, 30, 20)) < 0.5
        assert verified_confidence(Evidence(0.02, places, 97, 0.35, 75, 65, 60)) < 0.5  # houses built alike
        assert verified_confidence(Evidence(5.0, places)) < 0.5


def test_points_of_sift_count_more_and_two_photos_alone_less():
    few = Evidence(0.05, 5, inliers=35, coverage=0.25, coherent=25, by_chance=5)
    assert verified_confidence(few) < 0.5 < verified_confidence(replace(few, kind="sift"))
    wrong = Evidence(0.05, 5, inliers=16, coverage=0.2, coherent=5, by_chance=9, kind="sift")
    assert verified_confidence(wrong) < 0.5
    alone = replace(few, places=1, standing=0.0)
    assert verified_confidence(alone) < verified_confidence(replace(alone, places=2))


def test_evidence_of_verified_pairs():
    def pair(inliers, coherent, coverage=(0.0, 0.0)):
        matches = PointMatches(np.arange(inliers), np.arange(inliers), np.ones(inliers, np.float32))
        return Verified(matches, inliers, "fundamental", None, Nearness(coverage=coverage, coherent=coherent))

    made = Evidence(0.2, 7).verified(pair(50, 40, (0.5, 0.3)), [pair(20, 9), pair(12, 11)])
    assert made == Evidence(0.2, 7, 50, 0.3, 20, 40, 11)
    assert Evidence(0.2, 7).verified(pair(50, 40)).by_chance == 0


def test_a_rival_that_shows_the_same_scene_is_no_chance():
    def pair(coherent):
        nothing = PointMatches(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
        return Verified(nothing, 0, "fundamental", None, Nearness(coherent=coherent))

    compared = {place: pair(coherent) for place, coherent in enumerate((90, 50, 40, 30, 9))}
    links = {1: 120, 2: 45, 3: 200}

    def counts(elsewhere=lambda at: True, least=15):
        left = rivals(0, compared, elsewhere, lambda best, at: pair(links[at]), least=least)
        return [rival.nearness.coherent for rival in left]

    assert counts() == [40, 30, 9]  # 1 shows the scene of 0; 2 does not, so 3 is not looked at
    links[2] = 59  # more than with the query, but so many come by chance
    assert counts() == [40, 30, 9]
    links[2] = 60
    assert counts() == [9]
    assert counts(elsewhere=lambda at: at > 2) == [9]
    assert counts(least=50) == [50, 40, 30, 9]  # makes no difference, so nothing is compared


@pytest.mark.parametrize("places", [0, 1, 2, 5, 9])
def test_a_map_of_few_places_cannot_be_sure_without_geometry(places):
    assert search_confidence(Evidence(3.0, places)) < 0.5
    assert search_confidence(Evidence(0.3, 10)) > 0.9 > 0.1 > search_confidence(Evidence(0.02, 10))


def test_it_tells_why():
    assert reason(SURE, "27.jpg") == "142 points agree with 27.jpg; the next place has 9"
    assert reason(Evidence(0, 1, 1), "a.jpg") == "1 point agrees with a.jpg"
    assert reason(Evidence(0, 3), "a.jpg") == "no points agree with a.jpg"


@pytest.fixture
def three(tmp_path, make_view, make_photo):
    """A map of three places, and their files."""
    paths = [make_photo(tmp_path / f"{place}.png", make_view(place, 0, 192, 256)) for place in range(3)]
    photos = [Photo(path.name, path) for path in paths]
    return dv.PlaceMap.build("rootsift-vlad", photos, tmp_path / "map"), paths


SETTING = PointSetting("sift", longest=256)


@pytest.mark.slow
def test_locate_verifies_and_says_why(three, make_view):
    town, paths = three
    queries = [make_view(1, 6, 192, 256), make_view(9, 0, 192, 256), np.full((192, 256, 3), 90, np.uint8)]
    answers = town.locate(queries, verify=SETTING)
    assert [answer.known for answer in answers] == [True, False, False]
    assert answers[0].matches[0].name == "1.png"
    assert "points agree with 1.png" in answers[0].reason and answers[0].reason in str(answers[0])
    assert answers[0].to_dict()["reason"] == answers[0].reason
    paths[1].unlink()  # what is left still answers
    town.refresh()
    first, gone = town.locate([make_view(0, 5, 192, 256), queries[0]], verify=SETTING)
    assert first.known and first.matches[0].name == "0.png"
    assert not gone.known


def test_settings_that_cannot_be():
    with pytest.raises(UnknownNameError, match="did you mean sift"):
        PointSetting("siftt")
    with pytest.raises(InputError, match="at least 1"):
        PointSetting("sift", depth=0)
