"""Matching and verifying local features: oracles, degenerate input, nearness, order."""

import itertools
import json

import numpy as np
import pytest

from dejavlad.errors import InputError, UnknownNameError
from dejavlad.evaluation import Result
from dejavlad.local_features import LocalFeatures
from dejavlad.rerank.nearness import Nearness, nearness
from dejavlad.rerank.point_matching import MutualNearest, PointMatches
from dejavlad.rerank.point_reranker import DECISIVE, PointReranker, evidence, nearness_scores
from dejavlad.rerank.verification import Verified, VerifySetting, verify

SIZE = (480, 640)


def features(keypoints, descriptors=None, size=SIZE, kind="sift"):
    keypoints = np.asarray(keypoints, np.float32).reshape(-1, 2)
    if descriptors is None:
        descriptors = np.eye(max(1, len(keypoints)), dtype=np.float32)[: len(keypoints)]
    return LocalFeatures(keypoints, descriptors, np.ones(len(keypoints)), size, kind)


def all_match(count):
    return PointMatches(np.arange(count), np.arange(count), np.ones(count, np.float32))


def scene(points=80, seed=0):
    """Points in front of two cameras: [P, 3] in metres."""
    rng = np.random.default_rng(seed)
    return rng.uniform([-4, -3, 6], [4, 3, 14], (points, 3))


def seen(points_P3, ahead=0.0, aside=0.0, turn=0.0, focal=500.0, size=SIZE):
    """Where a camera sees them, in pixels."""
    c, s = np.cos(turn), np.sin(turn)
    moved = (points_P3 - [aside, 0, ahead]) @ np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]]).T
    return moved[:, :2] / moved[:, 2:] * focal + [(size[1] - 1) / 2, (size[0] - 1) / 2]


def mutual_by_hand(query, candidate, threshold, ratio):
    pairs = []
    cos = query.descriptors.astype(float) @ candidate.descriptors.T.astype(float)
    for i, j in itertools.product(range(len(query)), range(len(candidate))):
        if cos[i, j] < max(cos[i].max(), cos[:, j].max()) or cos[i, j] < threshold:
            continue
        others = np.delete(cos[i], j)
        apart, second = np.sqrt(2 - 2 * cos[i, j]), np.sqrt(2 - 2 * others.max())
        if ratio == 1 or apart <= ratio * second:
            pairs.append((i, j))
    return pairs


@pytest.mark.parametrize(("threshold", "ratio"), [(-1, 1.0), (0.3, 1.0), (-1, 0.9), (0.2, 0.8)])
def test_mutual_neighbours_are_what_one_finds_by_hand(threshold, ratio):
    rng = np.random.default_rng(0)
    described = rng.normal(size=(2, 30, 6)).astype(np.float32)
    described /= np.linalg.norm(described, axis=2, keepdims=True)
    query, candidate = (
        features(np.zeros((30, 2)), described[0]),
        features(np.zeros((25, 2)), described[1, :25]),
    )
    matches = MutualNearest(threshold, ratio)(query, candidate)
    wanted = mutual_by_hand(query, candidate, threshold, ratio)
    assert list(zip(matches.query.tolist(), matches.candidate.tolist(), strict=True)) == wanted and wanted
    assert np.array_equal(matches.take(matches.scores > 0.5).scores, matches.scores[matches.scores > 0.5])


def test_matching_refuses_what_cannot_be():
    with pytest.raises(InputError, match=r"sift .* and xfeat"):
        MutualNearest()(features([[0, 0]]), features([[0, 0]], kind="xfeat"))
    for setting in ({"threshold": 2}, {"ratio": 0}):
        with pytest.raises(InputError):
            MutualNearest(**setting)
    assert len(MutualNearest()(features([]), features([[1, 1]]))) == 0


@pytest.mark.parametrize("model", ["fundamental", "homography", "essential"])
def test_points_that_agree_are_told_from_others(model):
    points = scene()
    if model == "homography":
        points[:, 2] = 10
    query, candidate = seen(points, ahead=0.5, aside=0.4), seen(points)
    candidate[60:] = np.random.default_rng(1).uniform(0, 480, (20, 2))
    size = (960, 1280)  # twice the pixels: thresholds stay those of 640
    pair = features(query), features(candidate * 2 + 0.5, size=size)
    verified = verify(*pair, all_match(80), VerifySetting(model), focal=(500, 1000))
    assert set(range(60)) <= set(verified.matches.query.tolist()) and verified.inliers <= 66
    assert verified.tried == 80 and verified.share == verified.inliers / 80
    again = verify(*pair, all_match(80), VerifySetting(model), focal=(500, 1000))
    assert np.array_equal(verified.matrix, again.matrix)
    first, second = (np.c_[f.keypoints[:60], np.ones(60)].astype(float) for f in pair)
    if model == "homography":
        taken = second @ verified.matrix.T
        assert np.abs(taken[:, :2] / taken[:, 2:] - first[:, :2]).max() < 1
    elif model == "fundamental":
        lines = second @ verified.matrix.T
        assert (abs((lines * first).sum(axis=1)) / np.linalg.norm(lines[:, :2], axis=1)).max() < 2


def test_a_photo_agrees_with_itself():
    points = seen(scene())
    verified = verify(features(points), features(points), all_match(80))
    near = verified.nearness
    assert verified.inliers == 80 and not near.mirrored
    assert near.scale == pytest.approx(1) and near.overlap == pytest.approx(1)
    assert max(near.shift, near.parallax, near.displacement, abs(near.rotation)) < 1e-6


def test_degenerate_matches_say_nothing():
    points = seen(scene())
    line = np.stack([np.linspace(50, 600, 40), np.linspace(30, 400, 40)], axis=1)
    mirror = points * [-1, 1] + [SIZE[1] - 1, 0]
    for query, candidate in (
        (points[:7], points[:7]),
        (points[:0], points[:0]),
        (line, line),
        (line, line + 3),
        (np.full((20, 2), 50.0), np.full((20, 2), 60.0)),
        (mirror, points),
    ):
        for model in ("fundamental", "homography"):
            if len(points[:7]) == len(query) and model == "homography":
                continue  # seven points fix a homography
            verified = verify(
                features(query), features(candidate), all_match(len(query)), VerifySetting(model)
            )
            assert (verified.inliers, verified.matrix, verified.share) == (0, None, 0)
            assert verified.tried == len(query) and verified.nearness.overlap == 0 and evidence(verified) == 0


def test_random_matches_hardly_agree():
    rng = np.random.default_rng(0)
    query, candidate = rng.uniform(0, 480, (2, 60, 2))
    assert verify(features(query), features(candidate), all_match(60)).inliers < 20


def test_upside_down_is_told():
    points = seen(scene())
    turned = [SIZE[1] - 1, SIZE[0] - 1] - points
    verified = verify(features(turned), features(points), all_match(80))
    assert verified.inliers == 80 and abs(verified.nearness.rotation) == pytest.approx(180, abs=1e-3)


def test_nearness_tells_ahead_aside_and_turned():
    points = scene(200)
    here, size = seen(points), (480.0, 640.0)
    ahead = nearness(seen(points, ahead=2), here, size, size)
    aside = nearness(seen(points, aside=1), here, size, size)
    further = nearness(seen(points, aside=2), here, size, size)
    assert ahead.scale > 1.15 > aside.scale > 0.9
    assert 0 < aside.parallax < further.parallax and aside.shift < further.shift
    assert further.overlap < aside.overlap < 1
    corner = here[(here < [320, 240]).all(axis=1)]
    assert nearness(corner, corner, size, size).coverage[0] < nearness(here, here, size, size).coverage[0]


def test_settings_that_cannot_be():
    with pytest.raises(UnknownNameError):
        VerifySetting("affine")
    for wrong in ({"threshold": 0}, {"iterations": 0}, {"confidence": 1}, {"seed": -1}):
        with pytest.raises(InputError):
            VerifySetting(**wrong)
    with pytest.raises(InputError, match="focal lengths"):
        verify(features([]), features([]), all_match(0), VerifySetting("essential"))
    with pytest.raises(InputError, match="k=0"):
        PointReranker(k=0)


def counted(tried, inliers, scale=1.0, coverage=(0.3, 0.3)):
    return Verified(
        all_match(inliers), tried, "fundamental", nearness=Nearness(scale=scale, coverage=coverage)
    )


def test_only_decisive_evidence_changes_the_order():
    weak = [counted(30, 9), counted(40, 10), counted(12, 8)]
    order = nearness_scores(weak, np.array([0.8, 0.9, 1.0])).argsort()
    assert order.tolist() == [0, 1, 2]
    strong = [*weak[:2], counted(200, 150)]
    assert nearness_scores(strong, np.array([0.8, 0.9, 1.0])).argsort()[0] == 2
    assert evidence(counted(int(DECISIVE), int(DECISIVE))) == 0
    # The scale of the first ranking's distances does not matter.
    first, scaled = (nearness_scores(strong, np.array([0.8, 0.9, 1.0]) * by) for by in (1, 1000))
    np.testing.assert_allclose(first, scaled)
    assert nearness_scores(strong).argsort()[0] == 2 and len(nearness_scores([])) == 0


def test_evidence_grows_with_what_is_common_and_falls_with_scale():
    usual = evidence(counted(200, 100))
    assert usual == pytest.approx(np.log(10 * 5) / 2)
    assert evidence(counted(400, 100)) > usual < evidence(counted(200, 150))
    assert (
        evidence(counted(200, 100, coverage=(0.9, 0.2)))
        < usual
        < evidence(counted(200, 100, coverage=(0.4, 0.5)))
    )
    by_scale = [evidence(counted(200, 100, scale)) for scale in (1, 1.05, 1.1, 1.2, 1.3, 4)]
    assert by_scale[:5] == sorted(by_scale[:5], reverse=True) and len(set(by_scale[:5])) == 5
    # Ahead and behind count alike, and no scale speaks for another place.
    assert evidence(counted(200, 100, 1 / 1.1)) == pytest.approx(by_scale[2])
    assert by_scale[-1] == by_scale[-2] == pytest.approx(usual - 0.4)
    assert evidence(counted(20, 20, 3.0)) == evidence(counted(900, 19)) == 0
    assert evidence(Verified(all_match(90), 90, "fundamental")) == 0


def test_scale_is_that_of_most_points():
    points = seen(scene(60))
    centre = np.array([320, 240])
    larger = (points - centre) * 1.25 + centre + [200, 10]
    wrong = larger.copy()
    wrong[:12] = np.random.default_rng(0).uniform(0, 480, (12, 2))
    for query in (larger, wrong):
        by_hand = [
            np.linalg.norm(query[i] - query[j]) / np.linalg.norm(points[i] - points[j])
            for i, j in itertools.combinations(range(60), 2)
            if min(np.linalg.norm(query[i] - query[j]), np.linalg.norm(points[i] - points[j])) > 32
        ]
        scale = nearness(query, points, SIZE, SIZE).scale
        assert scale == pytest.approx(np.exp(np.median(np.log(by_hand)))) == pytest.approx(1.25, abs=0.02)
    # Points all in one spot: the similarity's.
    close = nearness(points * 0.02 + 100, points * 0.01 + 100, SIZE, SIZE)
    assert close.scale == pytest.approx(2)


def test_reranker_prefers_the_nearer_view():
    points = scene(120)
    described = np.random.default_rng(0).normal(size=(120, 128)).astype(np.float32)
    described /= np.linalg.norm(described, axis=1, keepdims=True)
    query = features(seen(points), described)
    here = features(seen(points, aside=0.1), described)
    other = features(seen(scene(120, seed=5)), np.roll(described, 3, axis=1))
    scores = PointReranker(k=5).scores(query, [other, here], np.array([0.5, 0.6]))
    assert scores[1] < scores[0]


def test_pairs_are_remembered_and_the_oldest_forgotten(monkeypatch):
    points = seen(scene(120))
    described = np.random.default_rng(0).normal(size=(120, 128)).astype(np.float32)
    described /= np.linalg.norm(described, axis=1, keepdims=True)
    photos = [features(points + step, described) for step in range(3)]
    compared = []
    monkeypatch.setattr(
        "dejavlad.rerank.point_reranker.verify", lambda *pair: compared.append(pair) or verify(*pair)
    )
    reranker = PointReranker(remembered=2)
    again = features(points.copy(), described.copy())  # the same photo's, decoded once more
    first = reranker.verified(photos[0], photos[1])
    assert reranker.verified(again, photos[1]) is first and len(compared) == 1
    assert reranker.verified(photos[1], photos[0]).inliers and len(compared) == 2  # another pair
    reranker.verified(photos[0], photos[2])
    assert reranker.verified(photos[0], photos[1]).inliers == first.inliers and len(compared) == 4
    forgetful = PointReranker()
    assert forgetful.verified(photos[0], photos[1]) is not forgetful.verified(photos[0], photos[1])


@pytest.mark.slow
def test_evaluate_reranks_by_local_features(street, tmp_path, capsys):
    from dejavlad.cli import main

    options = ["--database", str(street / "database"), "--queries", str(street / "queries"), "--json"]
    options += ["--truth", "same-name", "--recall-at", "1", "--out", str(tmp_path / "out")]
    options += ["--resize", "longest:128"]
    main(["evaluate", "rootsift-vlad", *options, "--rerank", "sift", "--depth", "3"])
    result = json.loads(capsys.readouterr().out)
    assert result["recall"]["1"] == 1 and result["rerank"].startswith(
        "sift (1024 points, fundamental, first 3)"
    )
    trust = result["reliability"]
    assert trust["right"] + trust["wrong"] == result["n_queries"] and trust["wrong"] == 0
    assert sum(b["answers"] for b in trust["bins"]) == result["n_queries"] and trust["position_error"] is None
    assert Result.load(tmp_path / "out").reliability.to_dict() == trust
    page = (tmp_path / "out" / "index.html").read_text("utf-8")
    assert "Is it as sure as it is right?" in page and "position_error" in page
    assert main(["evaluate", "rootsift-vlad", *options, "--rerank", "sift", "--preset", "speed"]) != 0
    assert "--rerank sift has none" in capsys.readouterr().err
