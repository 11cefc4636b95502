"""Rapid spatial scoring: do the matches of two photos move all alike? No model is fitted.

Shapes: B candidates of one grid, R patches of a candidate, P of the query.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dejavlad.patches import PatchSet
from dejavlad.rerank.matching import Mutual, PatchMatch, centres, mutual_groups


def rapid_scores(mutual: Mutual, query_grid: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Scores of candidates from how far each match is from the mean displacement.

    Equivalent to ``compare_two_spatial`` in patchnetvlad/tools/patch_matcher.py (what its code does,
    not section 3.4 of the paper):
    ``-sum_i [(X - |dx_i - mean dx|)^2 + (Y - |dy_i - mean dy|)^2] / P`` in patches,
    X and Y being the largest column and row of the query's grid. Grids may differ: displacements are those of
    columns and rows as they are counted, so a photo of another size that shows the same scores as if shifted
    and stretched.

    Args:
        mutual: matches of the query and B candidates.
        query_grid: (H, W) patches of the query.
        grid: (H, W) patches of each candidate.

    Returns:
        float64 [B], at most 0; smaller is better, 0 without matches.
    """
    weight_BR = mutual.mutual_BR.double()
    rows_R = torch.arange(weight_BR.shape[1], device=weight_BR.device)
    count_B1 = weight_BR.sum(dim=1, keepdim=True).clamp_(min=1)
    scores_B = weight_BR.new_zeros(len(weight_BR))
    shifts = (
        (query_grid[1] - 1, rows_R % grid[1] - mutual.nearest_BR % query_grid[1]),
        (query_grid[0] - 1, rows_R // grid[1] - mutual.nearest_BR // query_grid[1]),
    )
    for most, shift_BR in shifts:
        mean_B1 = (shift_BR * weight_BR).sum(dim=1, keepdim=True) / count_B1
        scores_B -= ((most - (shift_BR - mean_B1).abs()).square() * weight_BR).sum(dim=1)
    return scores_B * (mutual.stands_for / (query_grid[0] * query_grid[1]))


class RapidMatcher:
    """Rapid spatial scoring of all candidates at once; all mutual matches count as inliers."""

    def __call__(self, query: PatchSet, candidates: Sequence[PatchSet]) -> list[PatchMatch]:
        """Matches with each candidate.

        Raises:
            InputError: patches of another size or other dimensions.
        """
        matches: list[PatchMatch] = []
        centres_P2 = query.centres.cpu().numpy()
        groups = [(*group, _scores(query, *group)) for group in mutual_groups(query, candidates)]
        for alike, mutual, scores_B in groups:
            scored = zip(scores_B.tolist(), centres(alike), mutual.pairs(), strict=True)
            for score, centres_R2, (query_M, candidate_M) in scored:
                matches.append(PatchMatch(score, centres_P2[query_M], centres_R2[candidate_M]))
        return matches

    def approximate(self, query: PatchSet, candidates: Sequence[PatchSet], dims: int) -> NDArray[np.float64]:
        """Scores [C] from the first so many dimensions.

        Raises:
            InputError: patches of another size or other dimensions.
        """
        scores = [_scores(query, *group) for group in mutual_groups(query, candidates, dims)]
        return np.asarray(torch.cat(scores).cpu().numpy()) if scores else np.zeros(0)


def _scores(query: PatchSet, alike: Sequence[PatchSet], mutual: Mutual) -> Tensor:
    return rapid_scores(mutual, query.grid, alike[0].grid)
