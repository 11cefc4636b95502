"""The page of located photos shows the points that agree with the best answer."""

import numpy as np
import pytest

import dejavlad as dv
from dejavlad.places.verification.points import PointSetting
from dejavlad.report import located_points, write_locate_page

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def textured(seed):
    rng = np.random.default_rng(seed)
    pixels = np.full((120, 160, 3), 90, np.uint8)
    for _ in range(120):
        y, x, h, w = (int(rng.integers(low, high)) for low, high in ((0, 120), (0, 160), (4, 24), (4, 24)))
        pixels[y : y + h, x : x + w] = rng.integers(0, 256, 3)
    return pixels


@pytest.mark.slow
def test_lines_join_the_same_points_of_a_photo_and_itself(tmp_path):
    from PIL import Image

    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(3):
        Image.fromarray(textured(seed)).save(folder / f"{seed}.png")
    town = dv.PlaceMap.build("rootsift-vlad", dv.photos(str(folder)), tmp_path / "map")
    photos, setting = dv.photos(str(folder)).take([1]), PointSetting("sift")
    answers = town.locate(photos, verify=setting)
    (pair,) = located_points(answers, photos, town, setting)
    (match,) = pair.matches
    assert pair.answer.key == "1.png" and len(match.query_points) > 20
    assert np.abs(match.query_points - match.candidate_points).max() < 2
    page = write_locate_page(answers, town, tmp_path / "index.html", photos=photos, matches=[pair])
    text = page.read_text(encoding="utf-8")
    assert "Points that match" in text and "l-line" in text and "Matching points:" in text
    unverified = town.locate(photos, verify="none")
    assert located_points(unverified, photos, town, setting) == []
