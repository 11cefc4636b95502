"""QAA, query-based adaptive aggregation (Xiao et al., ICRA 2026): learnt queries on features and on scores.

Shapes: N photos, D channels, L patches, q queries, K clusters, l channels of a cluster.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dejavlad.aggregation.head import Head
from dejavlad.errors import InputError

HEADS = 16


class Codebook(nn.Module):
    """Learnt queries that have attended to each other."""

    def __init__(self, queries: int, dim: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(1, queries, dim))
        self.self_attn = nn.MultiheadAttention(dim, HEADS, batch_first=True)
        self.norm_q = nn.LayerNorm(dim)

    def forward(self) -> Tensor:
        """The attended queries [1, q, dim], the same for all photos."""
        q = self.queries
        queries_1qD: Tensor = self.norm_q(q + self.self_attn(q, q, q, need_weights=False)[0])
        return queries_1qD


class Score(nn.Module):
    """Scores of clusters, from queries that attend to a photo's patches."""

    def __init__(self, dim: int, clusters: int) -> None:
        super().__init__()
        self.cross_attn = nn.MultiheadAttention(dim, HEADS, batch_first=True)
        self.norm_out = nn.LayerNorm(dim)
        self.conv = nn.Conv1d(dim, clusters, 1)

    def forward(self, q_1qD: Tensor, patches_NLD: Tensor) -> Tensor:
        """Scores [N, K, q] of each query for each cluster, without bounds."""
        q_NqD = q_1qD.expand(patches_NLD.shape[0], -1, -1)
        seen = self.norm_out(self.cross_attn(q_NqD, patches_NLD, patches_NLD, need_weights=False)[0])
        scores_NKq: Tensor = self.conv(seen.transpose(1, 2))
        return scores_NKq


class QAA(Head):
    """QAA.

    Args:
        dim: D, a multiple of 16.
        clusters: K.
        cluster_dim: l, a multiple of 16.
        queries: q.

    Raises:
        InputError: a size below 1, or no multiple of 16.
    """

    name = "qaa"
    grid = False

    def __init__(self, dim: int, clusters: int = 64, *, cluster_dim: int = 128, queries: int = 256) -> None:
        options = {"clusters": clusters, "cluster_dim": cluster_dim, "queries": queries}
        super().__init__(dim, "QAA", numbers=cluster_dim * clusters, **options)
        if dim % HEADS or cluster_dim % HEADS:
            raise InputError(f"QAA needs multiples of {HEADS} channels; given {dim} and {cluster_dim}")
        self.queries_feature = Codebook(queries, cluster_dim)
        self.queries_score = Codebook(queries, dim)
        self.score = Score(dim, clusters)

    def head(self, feat_NDL: Tensor) -> Tensor:
        """Descriptors [N, l * K], channel by channel; not yet of unit length."""
        scores_NKq = self.score(self.queries_score(), feat_NDL.transpose(1, 2))
        sums_NlK = self.queries_feature().transpose(1, 2) @ scores_NKq.transpose(1, 2)
        return F.normalize(sums_NlK, dim=1).flatten(1)
