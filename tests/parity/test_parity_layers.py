"""The layers against the answers of the original MATLAB code (relja/netvlad, run under Octave).

MATLAB arrays are H x W x D x N, its VLAD output 1 x K x D x N; weights{2} (v1) and weights{3} (v2) are minus
the centres.
"""

import numpy as np
import pytest
import torch
from scipy.io import loadmat

from dejavlad.aggregation import AvgPool, MaxPool, NetVLAD, functional
from goldens import golden_path

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def golden():
    return loadmat(golden_path("layers.mat"))


def feature_map(array_HWDN):
    return torch.tensor(array_HWDN.transpose(3, 2, 0, 1).copy())


def per_cluster(array_1KDN):
    return array_1KDN[0].transpose(2, 0, 1)


def vlad_layer(golden, version):
    """NetVLAD with the original's weights, without any of the normalisations around it."""
    weights = [w.squeeze() for w in golden[f"v{version}_weights"][0]]
    dim, clusters = weights[0].shape
    layer = NetVLAD(dim, clusters, version=version, normalize_input=False, intra_norm=False)
    with torch.no_grad():
        layer.conv.weight.copy_(torch.tensor(weights[0].T[:, :, None, None]))
        layer.centroids.copy_(torch.tensor(-weights[-1].T))
        if version == 2:
            layer.conv.bias.copy_(torch.tensor(weights[1]))
    return layer


def close(ours, theirs):
    np.testing.assert_allclose(ours.detach().numpy(), theirs, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize(("version", "given"), [(1, "xn"), (2, "x")])
def test_netvlad_forward_and_backward(golden, version, given):
    layer = vlad_layer(golden, version)
    x = feature_map(golden[given]).requires_grad_()
    vlad_NKD = layer.aggregate(x.flatten(2)).unflatten(1, (layer.clusters, layer.dim))
    close(vlad_NKD, per_cluster(golden[f"v{version}"]))

    vlad_NKD.backward(torch.tensor(per_cluster(golden["dzdy"]).copy()))
    theirs = [w.squeeze() for w in golden[f"v{version}_dw"][0]]
    close(x.grad, golden[f"v{version}_dx"].transpose(3, 2, 0, 1))
    close(layer.conv.weight.grad[:, :, 0, 0], theirs[0].T)
    close(-layer.centroids.grad, theirs[-1].T)
    if version == 2:
        close(layer.conv.bias.grad, theirs[1])


def test_normalisations(golden):
    close(functional.l2_normalize(feature_map(golden["x"]), dim=1), feature_map(golden["xn"]))
    v1_NKD = torch.tensor(per_cluster(golden["v1"]).copy())
    intra_NKD = functional.l2_normalize(v1_NKD, dim=2)
    close(intra_NKD, per_cluster(golden["intra"]))
    whole_ND = golden["whole"][0, 0].T
    cluster_fastest = intra_NKD.transpose(1, 2).flatten(1)
    close(functional.l2_normalize_whole(cluster_fastest), whole_ND)


def test_whole_layer_is_the_original_chain_in_cluster_major_order(golden):
    bare = vlad_layer(golden, 1)
    layer = NetVLAD(bare.dim, bare.clusters)
    layer.load_state_dict(bare.state_dict())
    ours_NKD = layer(feature_map(golden["x"])).unflatten(1, (layer.clusters, layer.dim))
    close(ours_NKD.transpose(1, 2).flatten(1), golden["whole"][0, 0].T)


@pytest.mark.parametrize(("pooling", "key"), [(MaxPool, "maxpool"), (AvgPool, "avgpool")])
def test_pooling(golden, pooling, key):
    x = feature_map(golden["x"])
    theirs = golden[key][0, 0].T
    close(pooling(x.shape[1]).aggregate(x.flatten(2)), theirs)
    close(pooling(x.shape[1])(x), theirs / np.linalg.norm(theirs, axis=1, keepdims=True))


@pytest.mark.parametrize(("version", "alpha"), [(1, "alpha"), (2, "al2")])
def test_weights_from_clusters_and_alpha(golden, version, alpha):
    """initialise() builds the original's weights from its clusters, given samples that lead to its alpha."""
    centres_KD = golden["clsts"].T.astype(np.float64)
    weights = [w.squeeze() for w in golden[f"v{version}_weights"][0]]
    layer = NetVLAD(6, 3, version=version)
    layer.set_clusters(centres_KD, float(golden[alpha][0, 0]))
    close(layer.conv.weight[:, :, 0, 0], weights[0].T)
    close(layer.centroids, -weights[-1].T)
    if version == 2:
        close(layer.conv.bias, weights[1])
