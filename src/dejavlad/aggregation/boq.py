"""BoQ, a bag of learnt queries (Ali-bey, Chaib-draa & Giguère, CVPR 2024).

Shapes: N photos, D channels, H x W cells, L = H*W, c inner channels, q queries of a block.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dejavlad.aggregation.head import Head
from dejavlad.errors import InputError

HEAD = 64
"""Channels of one attention head."""


class QueryBlock(nn.Module):
    """Queries that ask of the tokens what they have learnt to ask."""

    def __init__(self, channels: int, queries: int) -> None:
        super().__init__()
        heads = channels // HEAD
        self.queries = nn.Parameter(torch.randn(1, queries, channels))
        self.encoder = nn.TransformerEncoderLayer(
            channels, heads, 4 * channels, batch_first=True, dropout=0.0
        )
        self.self_attn = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.norm_q = nn.LayerNorm(channels)
        self.cross_attn = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.norm_out = nn.LayerNorm(channels)

    def forward(self, x_NLc: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens -> (tokens for the next block [N, L, c], answers [N, q, c])."""
        x_NLc = self.encoder(x_NLc)
        queries_1qc = self.queries  # of no photo, so attended once for all of them
        attended_1qc, _ = self.self_attn(queries_1qc, queries_1qc, queries_1qc, need_weights=False)
        queries_1qc = self.norm_q(queries_1qc + attended_1qc)
        queries_Nqc = queries_1qc.expand(x_NLc.shape[0], -1, -1)
        answers = self.cross_attn(queries_Nqc, x_NLc, x_NLc, need_weights=False)[0]
        return x_NLc, self.norm_out(answers)


class BoQ(Head):
    """BoQ.

    Args:
        dim: D.
        channels: c, a multiple of 64.
        queries: q.
        blocks: each with queries of its own.
        rows: numbers kept for each inner channel.

    Raises:
        InputError: a size below 1, or another number of channels.
    """

    name = "boq"
    reduces = True

    def __init__(
        self, dim: int, channels: int = 384, *, queries: int = 64, blocks: int = 2, rows: int = 32
    ) -> None:
        options = {"channels": channels, "queries": queries, "blocks": blocks, "rows": rows}
        super().__init__(dim, "BoQ", numbers=channels * rows, **options)
        if channels % HEAD:
            raise InputError(f"BoQ's inner channels are a multiple of {HEAD}; given {channels}")
        self.proj_c = nn.Conv2d(dim, channels, 3, padding=1)
        self.norm_input = nn.LayerNorm(channels)
        self.boqs = nn.ModuleList(QueryBlock(channels, queries) for _ in range(blocks))
        self.fc = nn.Linear(blocks * queries, rows)

    def head(self, feat_NDHW: Tensor) -> Tensor:
        """Descriptors [N, c * rows], channel by channel; not yet of unit length."""
        x_NLc = self.norm_input(self.proj_c(feat_NDHW).flatten(2).transpose(1, 2))
        answers = []
        for block in self.boqs:
            x_NLc, answered = block(x_NLc)
            answers.append(answered)
        rows: Tensor = self.fc(torch.cat(answers, dim=1).transpose(1, 2))
        return rows.flatten(1).to(torch.promote_types(rows.dtype, torch.float32))
