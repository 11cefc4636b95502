"""SALAD (Izquierdo & Civera, CVPR 2024) and MegaLoc (Berton & Masone, CVPRW 2025): optimal transport.

Written from the papers' formulas. Tensors carry the names of MegaLoc's file.

Shapes: N photos, D channels, L patches, K clusters, l channels of a cluster.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dejavlad.aggregation.head import Head, positive
from dejavlad.errors import InputError

ROUNDS = 3
"""Of Sinkhorn's iteration."""
HIDDEN = 512
"""Inner width of the three small networks."""
DROPOUT = 0.3


def transport(scores_NKL: Tensor, dust_bin: Tensor) -> Tensor:
    """How much of each patch goes to each cluster: optimal transport with a dustbin.

    Each cluster takes an equal share, and the dustbin the rest of the patches; in logarithms.

    Args:
        scores_NKL: how well patches suit clusters, K < L.
        dust_bin: the dustbin's score, one number.

    Returns:
        [N, K, L], summing to 1 over K and the dustbin, which is left out.
    """
    n, clusters, patches = scores_NKL.shape
    if patches <= clusters:
        raise InputError(
            f"{patches} patches of a photo are too few for {clusters} clusters and a dustbin: "
            f"there must be more patches than clusters"
        )
    # In logarithms: a patch gives as much as a cluster takes, and the dustbin takes what the clusters do not.
    each = -math.log(patches + clusters)
    row_K = scores_NKL.new_full((clusters + 1, 1), each)
    row_K[-1] += math.log(patches - clusters)
    scores_NKL = torch.cat([scores_NKL, dust_bin.to(scores_NKL).expand(n, 1, patches)], dim=1)
    along = scores_NKL.new_zeros(n, 1, patches)
    across = scores_NKL.new_zeros(n, clusters + 1, 1)
    for _ in range(ROUNDS):  # each sets the rows right, then the columns
        across = row_K - torch.logsumexp(scores_NKL + along, dim=2, keepdim=True)
        along = each - torch.logsumexp(scores_NKL + across, dim=1, keepdim=True)
    return (scores_NKL + across + along - each).exp()[:, :-1]


class Transport(nn.Module):
    """SALAD's descriptor of class token and patches, its last normalisation left out."""

    def __init__(self, dim: int, clusters: int, cluster_dim: int, token_dim: int) -> None:
        super().__init__()
        self.token_features = nn.Sequential(nn.Linear(dim, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, token_dim))
        self.cluster_features = _two_layers(dim, cluster_dim)
        self.score = _two_layers(dim, clusters)
        self.dust_bin = nn.Parameter(torch.tensor(1.0))

    def forward(self, tokens_NDL: Tensor) -> Tensor:
        """[N, D, 1 + L] -> [N, token_dim + l*K]: the class token's part, the clusters', channel first."""
        token_Nt = F.normalize(self.token_features(tokens_NDL[:, :, 0]), dim=1)
        patches_NLD = tokens_NDL[:, :, 1:].transpose(1, 2).contiguous()
        weights_NKL = transport(_pointwise(self.score, patches_NLD).transpose(1, 2), self.dust_bin)
        sums_NlK = (weights_NKL @ _pointwise(self.cluster_features, patches_NLD)).transpose(1, 2)
        return torch.cat([token_Nt, F.normalize(sums_NlK, dim=1).flatten(1)], dim=1)


def _two_layers(dim: int, made: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(dim, HIDDEN, 1), nn.Dropout(DROPOUT), nn.ReLU(), nn.Conv2d(HIDDEN, made, 1)
    )


def _pointwise(network: nn.Sequential, x_NLD: Tensor) -> Tensor:
    """[N, L, D] -> [N, L, made]: convolutions of 1x1 as the products of matrices that they are."""
    for layer in network:
        if isinstance(layer, nn.Conv2d):
            x_NLD = F.linear(x_NLD, layer.weight[:, :, 0, 0], layer.bias)
        else:
            x_NLD = layer(x_NLD)
    return x_NLD


class Salad(Head):
    """SALAD: patches go to clusters or to a dustbin by optimal transport; the class token goes before them.

    Args:
        dim: D.
        clusters: K; photos need more patches than that.
        cluster_dim: l.
        token_dim: numbers kept of the class token.

    Raises:
        InputError: a size below 1.
    """

    name = "salad"
    leading = 1
    grid = False

    def __init__(self, dim: int, clusters: int = 64, *, cluster_dim: int = 128, token_dim: int = 256) -> None:
        options = {"clusters": clusters, "cluster_dim": cluster_dim, "token_dim": token_dim}
        super().__init__(dim, "SALAD", numbers=token_dim + cluster_dim * clusters, **options)
        self.clusters = clusters
        self.agg = Transport(dim, clusters, cluster_dim, token_dim)

    @property
    def least_locations(self) -> int:
        """The smallest number of patches that a photo must have: one more than the clusters."""
        return self.clusters + 1

    def head(self, feat_NDL: Tensor) -> Tensor:
        """Descriptors [N, token_dim + l*K], the class token's part first; not yet of unit length."""
        vector_ND: Tensor = self.agg(feat_NDL)
        return vector_ND


class MegaLoc(Salad):
    """MegaLoc: SALAD with larger clusters, and a linear layer behind it.

    Arguments and errors as of `Salad`, and ``dims``, numbers of the descriptor.
    """

    name = "megaloc"

    def __init__(
        self, dim: int, clusters: int = 64, *, cluster_dim: int = 256, token_dim: int = 256, dims: int = 8448
    ) -> None:
        super().__init__(dim, clusters, cluster_dim=cluster_dim, token_dim=token_dim)
        positive("MegaLoc", dims=dims)
        self._options["dims"] = dims
        self.linear = nn.Linear(self.descriptor_size, dims)
        self._numbers = int(dims)

    def head(self, feat_NDL: Tensor) -> Tensor:
        """Descriptors [N, dims], the linear layer's output; not yet of unit length."""
        vector_ND: Tensor = self.linear(F.normalize(super().head(feat_NDL), dim=1))
        return vector_ND
