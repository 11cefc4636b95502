"""The large-margin cosine loss (CosFace, Wang et al., CVPR 2018), as CosPlace learns classes with.

Shapes: U photos, C classes, D numbers of a descriptor.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Classified:
    """Losses and counts of photos."""

    losses_U: Tensor
    """Of each photo; gradients flow through them."""
    wrong: int
    """Photos that are more like another class than like their own."""


def large_margin(
    rows_UD: Tensor, weights_CD: Tensor, labels_U: Tensor, *, scale: float, margin: float
) -> Classified:
    """Cross-entropy of cosines, where that with the photo's own class counts less by a margin.

    ``-log(e^(s (cos_y - m)) / (e^(s (cos_y - m)) + sum over others of e^(s cos_j)))``

    Args:
        rows_UD: descriptors.
        weights_CD: one direction for each class.
        labels_U: int64, the class of each photo.
        scale: s, above 0.
        margin: m.
    """
    cosine_UC = F.normalize(rows_UD, dim=1) @ F.normalize(weights_CD, dim=1).T
    with torch.no_grad():
        own_U1 = cosine_UC.gather(1, labels_U[:, None])
        wrong = int((cosine_UC > own_U1).any(dim=1).sum())
    logits_UC = scale * (cosine_UC - margin * F.one_hot(labels_U, len(weights_CD)).to(cosine_UC))
    return Classified(F.cross_entropy(logits_UC, labels_U, reduction="none"), wrong)
