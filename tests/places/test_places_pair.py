"""Two photos compared patch by patch: the score of a photo and itself, of blanks, of photos too small."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dejavlad.errors import InputError, UnknownNameError
from dejavlad.model import (
    PatchSetting,
    PlaceModel,
)
from dejavlad.patches import PatchSet
from dejavlad.photo.photo import as_photo
from dejavlad.places.pair import (
    PairMatcher,
    PairSetting,
    Patched,
    learnt_from,
    match_pair,
)
from dejavlad.zoo import load_model

View = Callable[..., NDArray[np.uint8]]
SETTING = PatchSetting((2, 5, 8))


def small_model() -> PlaceModel:
    return load_model("squeezenet1_0-netvlad", device="cpu", weights="random:1", resize="none")


@pytest.fixture(scope="module")
def model(make_view: View) -> PlaceModel:
    return learnt_from(small_model(), [make_view(1), make_view(2)], SETTING)


@pytest.mark.slow
def test_a_photo_and_itself_score_one_by_ransac(model: PlaceModel, make_view: View) -> None:
    photo = make_view(1)
    pair = match_pair(model, photo, photo)
    assert [match.score for match in pair.matches] == [-1.0, -1.0, -1.0]
    assert pair.score == pytest.approx(1.0, abs=1e-12)
    assert f"{pair.score:.5f}" == "1.00000"
    assert pair.inliers == pair.counts
    assert pair.agreement == pytest.approx(1.0, abs=1e-12)
    for match in pair.matches:
        assert match.homography is not None
        np.testing.assert_allclose(match.homography, np.eye(3), atol=1e-6)


@pytest.mark.slow
def test_a_photo_and_itself_by_rapid(model: PlaceModel, make_view: View) -> None:
    setting = PairSetting(PatchSetting((2, 3)), "rapid", (0.5, 0.5))
    pair = match_pair(model, make_view(1), make_view(1), setting)
    grids = [of.grid for of in PairMatcher(model, setting).look([make_view(1)])[0].patches]
    wanted = [(w - 1) ** 2 + (h - 1) ** 2 for h, w in grids]
    assert [-match.score for match in pair.matches] == pytest.approx(wanted)
    assert pair.score == pytest.approx(sum(wanted) / 2) == pytest.approx(pair.best)


@pytest.mark.slow
@pytest.mark.parametrize("matcher", ["ransac", "rapid"])
def test_the_same_place_scores_above_another(model: PlaceModel, make_view: View, matcher: str) -> None:
    setting = PairSetting(PatchSetting((2, 3)), matcher)
    query = make_view(1, height=128, width=160)
    same = match_pair(model, query, make_view(1, 4, height=128, width=160), setting)
    other = match_pair(model, query, make_view(3, height=128, width=160), setting)
    assert same.score > 2 * other.score


@pytest.mark.slow
def test_weights_count_the_sizes(model: PlaceModel, make_view: View) -> None:
    photos = make_view(1), make_view(1, 4)
    pair = match_pair(model, *photos)
    one, two, three = (-match.score for match in pair.matches)
    assert pair.score == pytest.approx(0.45 * one + 0.15 * two + 0.4 * three)
    only = match_pair(model, *photos, PairSetting(weights=(0, 0, 2)))
    assert only.score == pytest.approx(2 * three)
    assert only.best == 2
    assert PairSetting(PatchSetting((3, 4))).weights == (0.5, 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(96, 250), (200, 96), (70, 70)])
def test_photos_of_other_sizes_and_aspects(
    model: PlaceModel, make_view: View, shape: tuple[int, int]
) -> None:
    pair = match_pair(model, make_view(1), make_view(2, height=shape[0], width=shape[1]))
    assert pair.query_size == (96, 128)
    assert pair.candidate_size == shape
    assert 0 <= pair.score < 1
    assert pair.sides == (16, 40, 64)  # cells of 8 pixels
    for match in pair.matches:
        assert (match.candidate_points >= 0).all()
        assert (match.candidate_points < [shape[1], shape[0]]).all()


def test_strides_leave_the_extent_of_patches(model: PlaceModel, make_view: View) -> None:
    pair = match_pair(model, make_view(1), make_view(1), PairSetting(PatchSetting((2, 3), (2, 1))))
    assert pair.sides == (16, 24)
    assert pair.counts[0] < pair.counts[1]
    assert [match.score for match in pair.matches] == [-1, -1]


@pytest.mark.slow
@pytest.mark.parametrize("matcher", ["ransac", "rapid"])
def test_blank_photos_have_a_score(model: PlaceModel, make_view: View, matcher: str) -> None:
    blank = np.full((96, 128, 3), 255, np.uint8)
    setting = PairSetting(PatchSetting((2, 5)), matcher)
    for query, candidate in ((blank, make_view(1)), (make_view(1), blank)):
        pair = match_pair(model, query, candidate, setting)
        assert 0 <= pair.agreement < 0.2
        assert not str(pair.score).startswith("-")
    assert 0 <= match_pair(model, blank, blank, setting).agreement <= 1


def test_no_mutual_match_scores_zero(model: PlaceModel) -> None:
    def patched(rows: torch.Tensor) -> Patched:
        centres = torch.tensor([[8.0 * (i % 3), 8.0 * (i // 3)] for i in range(6)])
        sets = [PatchSet(rows, centres, (2, 3), 2, 8.0)]
        return Patched(as_photo("a.jpg"), sets, (24, 32))

    alike = torch.nn.functional.one_hot(torch.zeros(6, dtype=torch.long), 4).float()
    pair = PairMatcher(model, PairSetting(PatchSetting((2,)))).compare(patched(alike), patched(alike))
    assert pair.inliers == (0,)
    assert (pair.score, pair.best) == (0.0, 1.0)
    assert f"{pair.score:.5f}" == "0.00000"
    assert pair.to_dict()["sizes"][0] == {
        "size": 2,
        "patches": 6,
        "inliers": 0,
        "score": 0.0,
        "homography": None,
    }


def test_too_small_a_photo_is_refused(model: PlaceModel, make_view: View) -> None:
    with pytest.raises(InputError, match="8"):
        match_pair(model, make_view(1), make_view(2, height=48, width=64))


def test_bad_settings_are_refused(model: PlaceModel) -> None:
    with pytest.raises(InputError, match="sizes \\[2, 5, 8\\] and weights \\[1\\]"):
        PairSetting(weights=(1,))
    with pytest.raises(InputError, match="finite"):
        PairSetting(weights=(1, 1, float("nan")))
    with pytest.raises(UnknownNameError, match="ransac"):
        PairMatcher(model, PairSetting(matcher="ransak"))


@pytest.mark.slow
def test_a_model_learns_once_and_from_each_photo_once(make_view: View) -> None:
    photo = make_view(1)
    base = small_model()
    learnt = learnt_from(base, [as_photo(photo), as_photo(photo)], SETTING)
    assert not base.fitted
    assert learnt.fitted
    assert learnt.patch_whitening is not None
    assert learnt_from(learnt, [photo]) is learnt
    fewer = learnt_from(base, [photo], PatchSetting((2, 5), dims=20))
    assert fewer.patch_whitening is not None
    assert fewer.patch_whitening.dims == 20
