"""MixVPR (Ali-bey, Chaib-draa & Giguère, WACV 2023) and DINO-Mix (Huang et al., 2024): mixed feature maps.

Written from the papers' formulas.

Shapes: N photos, D channels, L cells.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dejavlad.aggregation.head import Head
from dejavlad.errors import InputError


class Mixer(nn.Module):
    """``x + W2 relu(W1 norm(x))`` along the cells, each channel by itself."""

    def __init__(self, cells: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(
            nn.LayerNorm(cells), nn.Linear(cells, cells), nn.ReLU(), nn.Linear(cells, cells)
        )

    def forward(self, x_NDL: Tensor) -> Tensor:
        """[N, D, L] -> [N, D, L]."""
        mixed_NDL: Tensor = x_NDL + self.mix(x_NDL)
        return mixed_NDL


class MixVPR(Head):
    """MixVPR: photos of one size only, whose cells are mixed by learnt matrices.

    Args:
        dim: D.
        channels: kept of D.
        rows: kept of L.
        cells: L, that of photos of 320x320 behind a stride of 16.
        depth: mixers.

    Raises:
        InputError: a size below 1.
    """

    name = "mixvpr"
    reduces = True

    def __init__(
        self, dim: int, channels: int = 1024, *, rows: int = 4, cells: int = 400, depth: int = 4
    ) -> None:
        options = {"channels": channels, "rows": rows, "cells": cells, "depth": depth}
        super().__init__(dim, "MixVPR", numbers=channels * rows, **options)
        self.cells = cells
        self.mix = nn.Sequential(*(Mixer(cells) for _ in range(depth)))
        self.channel_proj = nn.Linear(dim, channels)
        self.row_proj = nn.Linear(cells, rows)

    @property
    def fixed_grid(self) -> tuple[int, int] | None:
        """The only grid that it takes, where it is square."""
        side = math.isqrt(self.cells)
        return (side, side) if side * side == self.cells else None

    def head(self, feat_NDHW: Tensor) -> Tensor:
        """Descriptors [N, channels * rows], channel by channel; not yet of unit length."""
        height, width = feat_NDHW.shape[2:]
        if height * width != self.cells:
            raise InputError(
                f"MixVPR's mixers take {self.cells} cells, of one size of photos; given {height}x{width}"
            )
        mixed_NDL = self.mix(feat_NDHW.flatten(2))
        # Cells first: the two projections may change places, and so the one of channels has few cells to do.
        rows, channels = self.row_proj, self.channel_proj
        with torch.autocast(mixed_NDL.device.type, enabled=False):
            few_NDr = F.linear(mixed_NDL, rows.weight)
            projected_Ncr: Tensor = F.linear(few_NDr.transpose(1, 2), channels.weight).transpose(1, 2)
        return (projected_Ncr + channels.bias[:, None] * rows.weight.sum(dim=1) + rows.bias).flatten(1)
