"""Patches, matches and re-ranking against the answers of the original program (Patch-NetVLAD)."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dejavlad.aggregation import NetVLAD, PatchVLAD, patch_vlad
from dejavlad.model import Whitening
from dejavlad.ranking import Ranking
from dejavlad.rerank import RansacMatcher, Reranker, fuse_zscores

FILE = "patchnetvlad.npz"
QUERIES, SIZES = 3, (2, 5, 8)
VGG16 = SimpleNamespace(stride=16, offset=7.5)


def golden_file() -> Path:
    if "DEJAVLAD_GOLDEN" in os.environ:
        return Path(os.environ["DEJAVLAD_GOLDEN"]) / FILE
    return Path(__file__).parents[3] / "shared" / "golden" / FILE


pytestmark = pytest.mark.skipif(not golden_file().exists(), reason=f"needs {FILE} of the golden data")


@pytest.fixture(scope="module")
def golden():
    with np.load(golden_file()) as held:
        return {key: held[key] for key in held}


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
    make = PatchVLAD(netvlad, whitening, VGG16, SIZES, sums="integral", whole_pixels=True)
    return make(torch.tensor(golden["feats"]))


def close(ours, theirs):
    np.testing.assert_allclose(ours.detach().numpy(), theirs, rtol=0, atol=1e-5)


def test_global_descriptors(golden, netvlad, whitening):
    ours = netvlad(torch.tensor(golden["feats"]))
    close(ours, golden["glob"])
    close(whitening(ours), golden["white_glob"])


@pytest.mark.parametrize("scale", range(len(SIZES)))
def test_patch_descriptors(golden, patches, scale):
    theirs = golden[f"white_local_{SIZES[scale]}"]
    for n in range(len(theirs)):
        close(patches[n][scale].descriptors, theirs[n])


def test_patches_without_whitening(golden, netvlad):
    theirs = golden["raw_local_8"]
    (ours,) = patch_vlad(
        torch.tensor(golden["feats"][: len(theirs)]), netvlad, None, [8], [1], sums="integral"
    )
    close(ours.transpose(1, 2), theirs)


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
    np.testing.assert_allclose(ours, golden["scores_spatialApproximator"][query], rtol=1e-4, atol=1e-4)
    candidates = len(ours)
    ranking = Ranking(np.arange(candidates)[None], np.zeros((1, candidates)))
    found = reranker(ranking, [patches[query]], patches[QUERIES:])
    np.testing.assert_array_equal(found.indices[0], golden["order_spatialApproximator"][query])


@pytest.mark.parametrize("query", range(QUERIES))
def test_ransac_scores_and_order(golden, patches, query):
    reranker = Reranker(RansacMatcher(), weights=golden["weights"])
    ours = scores(reranker.match(patches[query], patches[QUERIES:]))
    theirs = golden["scores_RANSAC"][query]
    assert np.abs(ours - theirs).max() <= 0.03
    fused, original = (fuse_zscores(of, golden["weights"]) for of in (ours, theirs))
    np.testing.assert_array_equal(np.argsort(original, kind="stable"), golden["order_RANSAC"][query])
    before = original[:, None] < original[None] - 0.1
    assert (fused[:, None] < fused[None])[before].all()
