"""NetVLAD with tied centres against the paper's formula, written out by distances."""

import numpy as np
import torch

from dejavlad.aggregation import NetVLAD, TiedNetVLAD


def plain(feat_NDL, centres_KD, alpha):
    """Equations 2 and 4 of the paper, location by location and cluster by cluster."""
    residual_NKDL = feat_NDL[:, None] - centres_KD[None, :, :, None]
    shares_NKL = torch.softmax(-alpha * residual_NKDL.square().sum(dim=2), dim=1)
    sums_NKD = (shares_NKL[:, :, None] * residual_NKDL).sum(dim=3)
    return sums_NKD / sums_NKD.norm(dim=2, keepdim=True)


def test_values_and_gradients_are_those_of_the_plain_formula():
    torch.manual_seed(1)
    layer = TiedNetVLAD(6, 4).double()
    layer.set_clusters(0.5 * np.random.default_rng(2).normal(size=(4, 6)), 3.7)
    feat = torch.randn(3, 6, 4, 5, dtype=torch.float64, requires_grad=True)
    unit_NDL = (feat / feat.norm(dim=1, keepdim=True)).flatten(2)
    expected = plain(unit_NDL, layer.centroids, layer.alpha).flatten(1)
    expected = expected / expected.norm(dim=1, keepdim=True)
    output = layer(feat)
    torch.testing.assert_close(output, expected)
    way = torch.randn(3, 24, dtype=torch.float64)
    learnt = (feat, layer.centroids, layer.alpha)
    wanted = torch.autograd.grad((expected * way).sum(), learnt)
    for one, other in zip(torch.autograd.grad((output * way).sum(), learnt), wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-11)
    assert all(float(one.abs().max()) > 1e-4 for one in wanted)


def test_it_begins_as_version_two_and_only_centres_and_alpha_learn():
    random = np.random.default_rng(3)
    samples = random.normal(size=(300, 5)).astype(np.float32)
    samples /= np.linalg.norm(samples, axis=1, keepdims=True)
    tied, free = TiedNetVLAD(5, 3), NetVLAD(5, 3, version=2)
    assert tied.initialise(samples[:3], samples) == free.initialise(samples[:3], samples)
    feat = torch.randn(2, 5, 3, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(tied(feat), free(feat))
    assert {name: list(parameter.shape) for name, parameter in tied.named_parameters()} == {
        "centroids": [3, 5],
        "alpha": [1],
    }
