"""LightGlue (Lindenberger et al., ICCV 2023) in its form for XFeat (LighterGlue).

Points of two photos are matched by a network that sees all of them at once: slower than mutual nearest
neighbours, for pairs.

Shapes: P points of the query, R of the candidate, M matches.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from dejavlad.errors import InputError
from dejavlad.local.kornia_networks import lighterglue
from dejavlad.local_features import LocalFeatures
from dejavlad.rerank.point_matching import PointMatches, check_alike

KIND = "xfeat"
"""The only local features that it has learnt to match."""


class LightGlueMatcher:
    """Matches XFeat's points.

    Args:
        device: where it computes.
        **options: of `lighterglue`, whose errors it raises.
    """

    def __init__(self, *, device: torch.device | str = "cpu", **options: Any) -> None:
        self.device = torch.device(device)
        self._network = lighterglue(**options).to(self.device)

    def __call__(self, query: LocalFeatures, candidate: LocalFeatures) -> PointMatches:
        """The matches, in the order of the query's points; scores are how sure the network is, 0 to 1.

        Raises:
            InputError: features of two kinds, or of another kind than XFeat's.
        """
        check_alike(query, candidate)
        if query.kind != KIND:
            raise InputError(f"LightGlue's weights are for local features by {KIND}; given {query.kind}")
        if min(len(query), len(candidate)) < 2:
            return PointMatches(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
        with torch.inference_mode():
            answer = self._network({"image0": self._as_input(query), "image1": self._as_input(candidate)})
        pairs_M2, scores_M = answer["matches"][0].cpu().numpy(), answer["scores"][0].float().cpu().numpy()
        order = np.argsort(pairs_M2[:, 0], kind="stable")
        return PointMatches(
            pairs_M2[order, 0].astype(np.int64),
            pairs_M2[order, 1].astype(np.int64),
            scores_M[order].astype(np.float32),
        )

    def _as_input(self, features: LocalFeatures) -> dict[str, Tensor]:
        size = torch.tensor([[features.size[1], features.size[0]]], dtype=torch.float32, device=self.device)
        return {
            "keypoints": torch.from_numpy(features.keypoints)[None].to(self.device),
            "descriptors": torch.from_numpy(features.descriptors)[None].to(self.device),
            "image_size": size,
        }
