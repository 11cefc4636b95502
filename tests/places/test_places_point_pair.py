"""Two photos by local features where something is odd: never a traceback, never sure without cause."""

import cv2
import numpy as np
import pytest

from dejavlad.cli import main
from dejavlad.local import WEIGHTS, create
from dejavlad.photo import Photo
from dejavlad.places.verification.point_pair import match_points
from dejavlad.places.verification.points import PointSetting

KINDS = (
    "sift",
    pytest.param("xfeat", marks=pytest.mark.skipif(WEIGHTS["xfeat"].path is None, reason="no weights here")),
)


@pytest.fixture(scope="module")
def compared():
    """Whether two arrays show the same place, by a kind of features."""
    extractors = {}

    def compare(kind, query, candidate):
        setting = PointSetting(kind, longest=256)
        if kind not in extractors:
            extractors[kind] = create(kind, points=512, longest=256)
        photos = [
            Photo(name, name, pixels=np.ascontiguousarray(pixels))
            for name, pixels in (("a.png", query), ("b.png", candidate))
        ]
        return match_points(extractors[kind], *photos, setting.reranker())

    return compare


def texture(seed, height=192, width=256):
    """A photo full of corners, unlike those of other seeds."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("kind", KINDS)
def test_a_photo_and_itself_is_the_same_place(compared, kind):
    pair = compared(kind, texture(0), texture(0))
    assert pair.same_place and pair.confidence > 0.95
    assert pair.verified.share > 0.9 and f"{pair.verified.inliers} points agree with b.png" in pair.reason


@pytest.mark.parametrize("kind", KINDS)
def test_a_mirrored_photo_is_of_no_place(compared, kind):
    pair = compared(kind, texture(0), texture(0)[:, ::-1])
    assert not pair.same_place
    assert kind != "sift" or pair.verified.inliers == 0  # XFeat matches a few other points by chance


@pytest.mark.parametrize("kind", KINDS)
def test_upside_down_is_the_same_place_or_unknown(compared, kind):
    pair = compared(kind, texture(0), texture(0)[::-1, ::-1])
    if kind == "sift":  # its points know which way is up
        assert pair.same_place and abs(pair.verified.nearness.rotation) == pytest.approx(180, abs=2)
    else:
        assert not pair.same_place


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "odd",
    [
        np.full((192, 256, 3), 90, np.uint8),
        np.zeros((192, 256, 3), np.uint8),
        np.zeros((1, 1, 3), np.uint8),
        texture(3, 16, 16),
        texture(3, 8, 600),
    ],
    ids=["grey", "black", "a pixel", "tiny", "a strip"],
)
def test_what_shows_nothing_is_no_place(compared, kind, odd):
    for query, candidate in ((odd, texture(0)), (texture(0), odd), (odd, odd[::-1, ::-1])):
        pair = compared(kind, query, candidate)
        assert not pair.same_place and pair.confidence < 0.2, (pair.verified.inliers, pair.evidence)


def test_points_on_one_line_or_few_of_them_say_nothing(compared):
    line = np.full((192, 256, 3), 128, np.uint8)
    line[92:100] = texture(4)[92:100]
    few = np.full((192, 256, 3), 128, np.uint8)
    few[80:88, 100:110] = 255
    for odd in (line, few):
        pair = compared("sift", odd, odd)
        assert not pair.same_place, (pair.verified.inliers, pair.evidence)


def test_without_the_extra_sift_answers_and_says_so(tmp_path, make_photo, monkeypatch, capsys):
    monkeypatch.setattr("dejavlad.local.best_kind", lambda: ("sift", "pip install 'dejavlad[local]'"))
    paths = [make_photo(tmp_path / f"{seed}.png", texture(seed)) for seed in (0, 1)]
    assert main(["match", str(paths[0]), str(paths[0])]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("the same place") and "pip install 'dejavlad[local]'" in err


def test_damaged_weights_are_one_line(tmp_path, make_photo, monkeypatch, capsys):
    monkeypatch.setenv("DEJAVLAD_MODELS_DIR", str(tmp_path))
    (tmp_path / "xfeat.pt").write_bytes(b"no weights")
    photo = make_photo(tmp_path / "a.png", texture(0))
    assert main(["match", str(photo), str(photo), "--matcher", "xfeat"]) == 1
    out, err = capsys.readouterr()
    lines = err.strip().splitlines()
    assert out == "" and lines[-1].startswith("dejavlad: ") and "xfeat.pt" in lines[-1]
    assert "Traceback" not in err
