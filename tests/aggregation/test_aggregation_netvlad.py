"""NetVLAD and VLAD against the sum written out residual by residual, and their initialisation by hand."""

import math

import numpy as np
import pytest
import torch

from dejavlad.aggregation import VLAD, NetVLAD
from dejavlad.aggregation.netvlad import sharpness
from dejavlad.errors import InputError


def slow_vlad(feat_NDL, assignment_NKL, centres_KD):
    """The definition, with the whole residual [N, K, D, L]."""
    residual_NKDL = feat_NDL[:, None] - centres_KD[None, :, :, None]
    return (assignment_NKL[:, :, None] * residual_NKDL).sum(dim=3)


def unit(x, axis):
    return x / x.norm(dim=axis, keepdim=True)


def samples_and_centres(m=400, dim=5, clusters=4, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(clusters, dim))
    samples = centres[rng.integers(clusters, size=m)] + 0.4 * rng.normal(size=(m, dim))
    samples /= np.linalg.norm(samples, axis=1, keepdims=True)
    centres *= 0.9 / np.linalg.norm(centres, axis=1, keepdims=True) * rng.uniform(0.8, 1.0, (clusters, 1))
    return samples.astype(np.float32), centres.astype(np.float32)


@pytest.mark.parametrize("version", [1, 2])
def test_is_the_slow_definition(version):
    torch.manual_seed(0)
    layer = NetVLAD(7, 5, version=version).double()
    feat = torch.randn(3, 7, 4, 6, dtype=torch.float64)
    x = unit(feat.flatten(2), 1)
    scores = torch.einsum("kd,ndl->nkl", layer.conv.weight[:, :, 0, 0], x)
    if version == 2:
        scores = scores + layer.conv.bias[:, None]
    slow = unit(slow_vlad(x, scores.softmax(dim=1), layer.centroids), 2)
    torch.testing.assert_close(layer(feat), unit(slow.flatten(1), 1))
    assert ("conv.bias" in layer.state_dict()) == (version == 2)
    assert layer.conv.weight.shape == (5, 7, 1, 1)


def test_hard_vlad_is_the_slow_definition():
    torch.manual_seed(0)
    layer = VLAD(7, 5, intra_norm=False).double()
    feat = torch.randn(2, 7, 4, 6, dtype=torch.float64)
    x = unit(feat.flatten(2), 1)
    expected = torch.zeros(2, 5, 7, dtype=torch.float64)
    for n in range(2):
        for location in range(24):
            k = (x[n, :, location] - layer.centroids).norm(dim=1).argmin()
            expected[n, k] += x[n, :, location] - layer.centroids[k]
    torch.testing.assert_close(layer(feat), unit(expected.flatten(1), 1))


def test_sharp_vlad_approaches_the_hard_one():
    torch.manual_seed(0)
    hard, sharp = VLAD(7, 5), VLAD(7, 5, sharpness=1e5)
    sharp.load_state_dict(hard.state_dict())
    feat = torch.randn(2, 7, 8, 8)
    torch.testing.assert_close(sharp(feat), hard(feat), atol=1e-3, rtol=0)


def test_vlad_leaves_out_locations_without_contrast():
    torch.manual_seed(0)
    layer, feat = VLAD(7, 5), torch.randn(1, 7, 4, 4)
    with_blanks = torch.cat([feat, torch.zeros(1, 7, 3, 4)], dim=2)
    torch.testing.assert_close(layer(with_blanks), layer(feat))
    assert torch.equal(layer(torch.zeros(1, 7, 2, 2)), torch.zeros(1, 35))


def test_residual_norm_counts_every_location_once():
    torch.manual_seed(0)
    layer = VLAD(7, 1, residual_norm=True, intra_norm=False, normalize_input=False).double()
    feat = torch.randn(1, 7, 3, 3, dtype=torch.float64)
    residuals = unit(feat.flatten(2)[0].T - layer.centroids, 1)
    torch.testing.assert_close(layer(feat)[0], unit(residuals.sum(dim=0), 0), atol=1e-5, rtol=1e-5)


def test_output_is_cluster_major():
    layer = NetVLAD(3, 2, normalize_input=False, intra_norm=False)
    layer.set_clusters(np.array([[1.0, 0, 0], [0, 1.0, 0]]), alpha=1000.0)
    first_cluster_only = torch.tensor([1.0, 0.0, 2.0]).view(1, 3, 1, 1)
    expected = torch.zeros(6)
    expected[0 * 3 + 2] = 1.0
    torch.testing.assert_close(layer(first_cluster_only)[0], expected)


@pytest.mark.parametrize("version", [1, 2])
def test_alpha_by_hand(version):
    samples, centres = samples_and_centres()
    gaps = []
    for x in samples.astype(np.float64):
        if version == 1:
            values = sorted(-(c @ x) / np.linalg.norm(c) for c in centres.astype(np.float64))
        else:
            values = sorted(((x - c) ** 2).sum() for c in centres.astype(np.float64))
        gaps.append(values[1] - values[0])
    layer = NetVLAD(5, 4, version=version)
    alpha = layer.initialise(centres, samples)
    assert alpha == pytest.approx(-math.log(0.01) / np.mean(gaps), rel=1e-6)

    np.testing.assert_array_equal(layer.centroids.detach().numpy(), centres)
    weight = layer.conv.weight.detach().numpy()[:, :, 0, 0]
    if version == 1:
        lengths = np.linalg.norm(centres, axis=1, keepdims=True)
        np.testing.assert_allclose(weight, alpha * centres / lengths, rtol=1e-5)
    else:
        np.testing.assert_allclose(weight, 2 * alpha * centres, rtol=1e-5)
        np.testing.assert_allclose(
            layer.conv.bias.detach().numpy(), -alpha * (centres**2).sum(axis=1), rtol=1e-5
        )


@pytest.mark.parametrize("version", [1, 2])
def test_initialised_assignment_is_about_100_to_1(version):
    samples, centres = samples_and_centres()
    layer = NetVLAD(5, 4, version=version)
    layer.initialise(centres, samples)
    assigned_KL = layer.assign(torch.from_numpy(samples.T[None].copy()))[0]
    best, second = assigned_KL.topk(2, dim=0).values.detach().double()
    assert (best / second).log().mean().item() == pytest.approx(math.log(100), rel=1e-3)


def test_version_2_at_the_start_is_soft_vlad():
    samples, centres = samples_and_centres()
    layer = NetVLAD(5, 4, version=2)
    vlad = VLAD(5, 4, sharpness=layer.initialise(centres, samples))
    vlad.initialise(centres)
    feat = torch.randn(2, 5, 4, 4)
    torch.testing.assert_close(layer(feat), vlad(feat), atol=1e-5, rtol=1e-4)


def test_local_features_are_what_the_layer_sees():
    torch.manual_seed(0)
    feat = 50 * torch.randn(2, 5, 3, 4)
    local_NLD = NetVLAD(5, 4).local_features(feat)
    assert local_NLD.shape == (2, 12, 5)
    torch.testing.assert_close(local_NLD[1, 5], unit(feat[1, :, 1, 1], 0))
    assert torch.equal(NetVLAD(5, 4, normalize_input=False).local_features(feat)[1, 5], feat[1, :, 1, 1])


def test_initialise_refuses_what_cannot_be():
    samples, centres = samples_and_centres()
    layer = NetVLAD(5, 4)
    with pytest.raises(InputError, match=r"centres \[4, 5\]; given \[3, 5\]"):
        layer.initialise(centres[:3], samples)
    with pytest.raises(InputError, match="finite"):
        layer.initialise(centres * np.nan, samples)
    with pytest.raises(InputError, match="samples"):
        layer.initialise(centres, samples[:, :4])
    with pytest.raises(InputError, match="unit length"):
        layer.initialise(centres, samples * 100)
    with pytest.raises(InputError, match="blank"):
        layer.initialise(centres, samples * 0)
    with pytest.raises(InputError, match="finite"):
        layer.initialise(centres, samples * np.nan)
    assert sharpness(centres[:1].astype(np.float64), samples) == 0


def test_does_not_hold_the_residual():
    """The largest tensor that autograd keeps is the feature map's size, not K times that."""
    layer, feat = NetVLAD(16, 32), torch.randn(2, 16, 20, 20)
    kept = []

    def note(tensor):
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        layer(feat)
    assert max(kept) <= 2 * 32 * 20 * 20
