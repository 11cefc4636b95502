"""CricaVPR (Lu et al., CVPR 2024): regions of several scales, and attention between the photos of a batch.

Shapes: N photos, D channels, 16x16 cells, R = 14 vectors of a photo.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dejavlad.aggregation.cross_image import CrossImageEncoder
from dejavlad.aggregation.functional import generalized_mean
from dejavlad.aggregation.head import Head
from dejavlad.errors import InputError

SIDE = 16
"""Cells along a side of a photo of 224x224."""
CUTS = ((0, 8, 16), (0, 5, 11, 16))
"""Where the grid is cut into 2x2 and into 3x3 regions."""
REGIONS = 1 + sum((len(cuts) - 1) ** 2 for cuts in CUTS)


class CricaVPR(Head):
    """The class token, and the generalised mean of 4 and of 9 regions, each compared across photos."""

    name = "cricavpr"
    leading = 1
    grid = False

    def __init__(self, dim: int) -> None:
        super().__init__(dim, numbers=REGIONS * dim)
        self.p = nn.Parameter(torch.tensor([3.0]))
        self.encoder = CrossImageEncoder(dim)

    @property
    def alone(self) -> bool:
        """No: the photos of a batch look at each other."""
        return False

    @property
    def fixed_grid(self) -> tuple[int, int]:
        """The only grid (H, W) that it takes: 16 x 16 patches."""
        return SIDE, SIDE

    def head(self, feat_NDL: Tensor) -> Tensor:
        """Descriptors [N, 14 * D], region by region; not yet of unit length."""
        if feat_NDL.shape[2] != 1 + SIDE**2:
            raise InputError(
                f"CricaVPR takes photos of {SIDE}x{SIDE} patches, 224x224 pixels; "
                f"given {feat_NDL.shape[2] - 1} patches"
            )
        grid = F.normalize(feat_NDL[:, :, 1:], dim=1).reshape(*feat_NDL.shape[:2], SIDE, SIDE)
        vectors = [feat_NDL[:, :, 0]]
        for cuts in CUTS:
            parts = list(itertools.pairwise(cuts))
            vectors += [
                generalized_mean(grid[:, :, top:bottom, left:right].flatten(2), self.p)
                for top, bottom in parts
                for left, right in parts
            ]
        vectors_NVD: Tensor = self.encoder(torch.stack(vectors, dim=1))
        return vectors_NVD.flatten(1)
