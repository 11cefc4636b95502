"""The multi-similarity loss with its mining of pairs (Wang et al., CVPR 2019), of a batch of labelled photos.

Equivalent to ``MultiSimilarityMiner`` and ``MultiSimilarityLoss`` of pytorch-metric-learning, with cosines.

Shapes: U photos of the batch, D numbers of a descriptor.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Compared:
    """Losses and counts of one batch."""

    losses_U: Tensor
    """Of each photo as the anchor; gradients flow through their mean."""
    pairs: int
    """Number of ordered pairs of different photos, U (U - 1)."""
    mined: int
    """Of those, the ones that the loss is taken over."""
    very_hard: int
    """Pairs of different places that are more alike than the anchor's least alike pair of one place."""


def multi_similarity(
    rows_UD: Tensor, labels_U: Tensor, alpha: float, beta: float, base: float, epsilon: float
) -> Compared:
    """Compare all photos of a batch with each other.

    Args:
        rows_UD: descriptors of unit length.
        labels_U: the place of each.
        alpha: sharpness among positives.
        beta: sharpness among negatives.
        base: similarity that parts them (lambda).
        epsilon: of the mining: a negative counts that is more alike than the least alike positive less so
            much, a positive that is less alike than the most alike negative plus so much.
    """
    similarity_UU = rows_UD @ rows_UD.T
    same_UU = labels_U[:, None] == labels_U
    itself_UU = torch.eye(len(labels_U), dtype=torch.bool, device=rows_UD.device)
    positive_UU, negative_UU = same_UU & ~itself_UU, ~same_UU
    least_U1, most_U1 = _bounds(similarity_UU.detach(), positive_UU, negative_UU)
    both_U1 = positive_UU.any(1, keepdim=True) & negative_UU.any(1, keepdim=True)
    with torch.no_grad():
        hard_positive_UU = positive_UU & both_U1 & (similarity_UU - epsilon < most_U1)
        hard_negative_UU = negative_UU & both_U1 & (similarity_UU + epsilon > least_U1)
        very_hard_UU = negative_UU & both_U1 & (similarity_UU > least_U1)
    shifted_UU = similarity_UU - base
    losses_U = (
        _soft(-alpha * shifted_UU, hard_positive_UU) / alpha
        + _soft(beta * shifted_UU, hard_negative_UU) / beta
    )
    return Compared(
        losses_U,
        int(positive_UU.sum() + negative_UU.sum()),
        int(hard_positive_UU.sum() + hard_negative_UU.sum()),
        int(very_hard_UU.sum()),
    )


def _bounds(similarity_UU: Tensor, positive_UU: Tensor, negative_UU: Tensor) -> tuple[Tensor, Tensor]:
    """The least alike positive and the most alike negative of each anchor, [U, 1]."""
    least_U1 = similarity_UU.masked_fill(~positive_UU, torch.inf).amin(1, keepdim=True)
    most_U1 = similarity_UU.masked_fill(~negative_UU, -torch.inf).amax(1, keepdim=True)
    return least_U1, most_U1


def _soft(exponents_UU: Tensor, pairs_UU: Tensor) -> Tensor:
    """``log(1 + sum exp)`` over the pairs that are marked, for each row, [U]; 0 where there are none."""
    masked_UU = exponents_UU.masked_fill(~pairs_UU, -torch.inf)
    return torch.logsumexp(torch.cat([torch.zeros_like(masked_UU[:, :1]), masked_UU], dim=1), dim=1)
