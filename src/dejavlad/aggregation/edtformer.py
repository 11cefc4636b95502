"""EDTformer (Jin et al., TCSVT 2025): learnt queries decode the tokens of a photo.

Shapes: N photos, D channels, T tokens (class token and patches), q queries.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dejavlad.aggregation.head import Head
from dejavlad.errors import InputError

HEADS = 16


class DecoderLayer(nn.Module):
    """Attention among the queries, then of the queries to the tokens; no feed-forward layer."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(dim, HEADS, batch_first=True)
        self.multihead_attn = nn.MultiheadAttention(dim, HEADS, batch_first=True)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)

    def forward(self, q_NqD: Tensor, tokens_NTD: Tensor) -> Tensor:
        """[N or 1, q, D] and [N, T, D] -> [N, q, D]."""
        q_NqD = self.norm1(q_NqD + self.self_attn(q_NqD, q_NqD, q_NqD, need_weights=False)[0])
        q_NqD = q_NqD.expand(tokens_NTD.shape[0], -1, -1)
        seen = self.multihead_attn(q_NqD, tokens_NTD, tokens_NTD, need_weights=False)[0]
        decoded_NqD: Tensor = self.norm2(q_NqD + seen)
        return decoded_NqD


class EDTformer(Head):
    """EDTformer's decoder.

    Args:
        dim: D, a multiple of 16.
        queries: q.
        channels: kept of D.
        rows: kept of q.
        layers: of the decoder.

    Raises:
        InputError: a size below 1, or another number of channels.
    """

    name = "edtformer"
    reduces = True
    leading = 1
    grid = False

    def __init__(
        self, dim: int, queries: int = 64, *, channels: int = 256, rows: int = 16, layers: int = 2
    ) -> None:
        options = {"queries": queries, "channels": channels, "rows": rows, "layers": layers}
        super().__init__(dim, "EDTformer", numbers=channels * rows, **options)
        if dim % HEADS:
            raise InputError(f"EDTformer needs a multiple of {HEADS} channels; given {dim}")
        self.queries = nn.Parameter(torch.randn(1, queries, dim))
        self.fc = nn.Linear(dim, dim)
        self.layers = nn.ModuleList(DecoderLayer(dim) for _ in range(layers))
        self.channel_proj = nn.Linear(dim, channels)
        self.row_proj = nn.Linear(queries, rows)

    def head(self, feat_NDT: Tensor) -> Tensor:
        """Descriptors [N, channels * rows], channel by channel; not yet of unit length."""
        tokens_NTD = self.fc(feat_NDT.transpose(1, 2))
        q_NqD: Tensor = self.queries
        for layer in self.layers:
            q_NqD = layer(q_NqD, tokens_NTD)
        with torch.autocast(q_NqD.device.type, enabled=False):
            projected_Ncr: Tensor = self.row_proj(self.channel_proj(q_NqD).transpose(1, 2))
        return projected_Ncr.flatten(1)
