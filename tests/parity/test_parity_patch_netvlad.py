"""Patches, matches and re-ranking against the answers of the original program (Patch-NetVLAD)."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dejavlad.aggregation import NetVLAD, PatchVLAD, patch_vlad
from dejavlad.model import Whitening
from dejavlad.ranking import Ranking
from dejavlad.rerank import RansacMatcher, Reranker, fuse_zscores
from goldens import golden_path

FILE = golden_path("patchnetvlad.npz")
with np.load(FILE) as archive:
    sizes = [key.removeprefix("keypoints_") for key in archive if key.startswith("keypoints_")]
    SIZES = tuple(sorted(int(size) for size in sizes))
    QUERIES = len(archive["scores_RANSAC"])
VGG16 = SimpleNamespace(stride=16, offset=7.5)


@pytest.fixture(scope="module")
def golden():
    with np.load(FILE) as archive:
        return dict(archive)


def patch_rows(golden, size):
    """Which patches of a photo the golden has: all, unless it was cut."""
    return golden.get(f"patch_rows_{size}", slice(None))


@pytest.fixture(scope="module")
def netvlad(golden):
    clusters, dim = golden["centroids"].shape
    layer = NetVLAD(dim, clusters, epsilon="torch")
    with torch.no_grad():
        layer.centroids.copy_(torch.tensor(golden["centroids"]))
        layer.conv.weight.copy_(torch.tensor(golden["assign"])[:, :, None, None])
    return layer


@pytest.fixture(scope="module")
def whitening(golden):
    return Whitening.from_pca(SimpleNamespace(weight=golden["wpca_weight"], bias=golden["wpca_bias"]))


@pytest.fixture(scope="module")
def patches(golden, netvlad, whitening):
    """The patches of all photos: the queries first, then the database."""
    strides = (1,) * len(SIZES)
    make = PatchVLAD(netvlad, whitening, VGG16, SIZES, strides, sums="integral", whole_pixels=True)
    return make(torch.tensor(golden["feats"]))


def close(ours, theirs):
    np.testing.assert_allclose(ours.detach().numpy(), theirs, rtol=0, atol=1e-5)


def test_global_descriptors(golden, netvlad, whitening):
    ours = netvlad(torch.tensor(golden["feats"]))
    close(ours, golden["glob"])
    close(whitening(ours), golden["white_glob"])


@pytest.mark.parametrize("scale", range(len(SIZES)))
def test_patch_descriptors(golden, patches, scale):
    size = SIZES[scale]
    theirs = golden[f"white_local_{size}"]
    assert len(theirs)
    for ours, wanted in zip(patches, theirs, strict=False):
        close(ours[scale].descriptors[patch_rows(golden, size)], wanted)


def test_patches_without_whitening(golden, netvlad):
    (key,) = (key for key in golden if key.startswith("raw_local_"))
    size, theirs = int(key.removeprefix("raw_local_")), golden[key]
    feats = torch.tensor(golden["feats"][: len(theirs)])
    (ours,) = patch_vlad(feats, netvlad, None, [size], [1], sums="integral")
    close(ours[:, patch_rows(golden, size)].transpose(1, 2), theirs)


@pytest.mark.parametrize("scale", range(len(SIZES)))
def test_keypoints(golden, patches, scale):
    ours = patches[0][scale].centres.numpy()
    np.testing.assert_array_equal(ours.T, golden[f"keypoints_{SIZES[scale]}"])


def scores(matches):
    return np.array([[match.score for match in sizes] for sizes in matches])


@pytest.mark.parametrize("query", range(QUERIES))
def test_rapid_scores_and_order(golden, patches, query):
    reranker = Reranker("rapid", weights=golden["weights"])
    ours = scores(reranker.match(patches[query], patches[QUERIES:]))
    theirs = golden["scores_spatialApproximator"][query]
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    ranking = Ranking(np.arange(len(ours))[None], np.zeros((1, len(ours))))
    order = reranker(ranking, [patches[query]], patches[QUERIES:]).indices[0]
    fused = fuse_zscores(theirs, golden["weights"])
    assert (np.diff(fused[order]) > -1e-3).all()  # candidates as near as that may change places
    if "order_spatialApproximator" in golden:
        original = golden["order_spatialApproximator"][query]
        np.testing.assert_array_equal(np.argsort(fused, kind="stable"), original)


@pytest.mark.slow
@pytest.mark.parametrize("query", range(QUERIES))
def test_ransac_scores_and_order(golden, patches, query):
    reranker = Reranker(RansacMatcher(), weights=golden["weights"])
    ours = scores(reranker.match(patches[query], patches[QUERIES:]))
    theirs = golden["scores_RANSAC"][query]
    assert np.abs(ours - theirs).max() <= 0.03
    fused, original = (fuse_zscores(values, golden["weights"]) for values in (ours, theirs))
    if "order_RANSAC" in golden:
        np.testing.assert_array_equal(np.argsort(original, kind="stable"), golden["order_RANSAC"][query])
    before = original[:, None] < original[None] - 0.1
    assert before.any() and (fused[:, None] < fused[None])[before].all()
