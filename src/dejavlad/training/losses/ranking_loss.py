"""The weakly supervised ranking loss of a tuple: a query, its best positive, and negatives.

A negative violates where it is not farther from the query than the positive by a margin. `Squared` is the
loss of NetVLAD (Arandjelović et al., CVPR 2016): hinges on squared distances, whose gradient is divided by
the number of violating triplets of the batch. `Plain` is that of later code: hinges on distances, averaged
over all triplets.

Shapes: V negatives of a tuple, D numbers of a descriptor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dejavlad.training.config.options import TrainConfig

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Terms:
    """What one tuple adds to a step."""

    objective: Tensor
    """Scalar, what is made smaller, before it is divided."""
    weight: int
    """What it adds to the number that the objective of all tuples is divided by."""
    noted: float
    """The loss that is noted for the tuple."""
    violating: int
    """How many negatives violate the margin."""
    very_hard: int
    """How many negatives are nearer to the query than the positive."""


class TupleLoss(Protocol):
    """A loss of tuples, with the rule that mining follows."""

    def violates(self, positive: float, negatives_V: Floats) -> NDArray[np.bool_]:
        """Whether negatives would be learnt from, by squared distances from the query: bool [V]."""

    def __call__(self, query_D: Tensor, positive_D: Tensor, negatives_VD: Tensor) -> Terms:
        """The terms of one tuple; gradients flow through `Terms.objective`."""


class Squared:
    """Hinges on squared distances, ``max(0, |q-p|^2 + margin - |q-n|^2)``, as ``trainWeakly.m``.

    Args:
        margin: between squared distances.
        exclude_very_hard: pass over negatives nearer than the positive.
        note_all: the loss noted counts all negatives, those passed over too (a quirk of the original).
    """

    def __init__(self, margin: float, *, exclude_very_hard: bool = False, note_all: bool = False) -> None:
        self.margin, self.exclude_very_hard, self.note_all = margin, exclude_very_hard, note_all

    def violates(self, positive: float, negatives_V: Floats) -> NDArray[np.bool_]:
        """bool [V], whether ``negatives_V < positive + margin``; very hard ones may be excluded."""
        violating_V = negatives_V < positive + self.margin
        if self.exclude_very_hard:
            violating_V &= ~(negatives_V < positive)
        return np.asarray(violating_V)

    def __call__(self, query_D: Tensor, positive_D: Tensor, negatives_VD: Tensor) -> Terms:
        """Terms of one tuple, from squared distances: the objective is the sum of the hinges that violate."""
        positive = (query_D - positive_D).square().sum()
        negatives_V = (query_D - negatives_VD).square().sum(dim=1)
        hinges_V = (positive + self.margin - negatives_V).clamp(min=0)
        violating_V = negatives_V < positive + self.margin
        very_hard_V = negatives_V < positive
        if self.exclude_very_hard:
            violating_V = violating_V & ~very_hard_V
        objective = hinges_V[violating_V].sum()
        count = int(violating_V.sum())
        noted = hinges_V.sum() if self.note_all else objective
        return Terms(objective, count, float(noted.detach()), count, int(very_hard_V.sum()))


class Plain:
    """Hinges on distances, ``max(0, |q-p| + margin - |q-n|)``, averaged over all triplets."""

    def __init__(self, margin: float) -> None:
        self.margin = margin

    def violates(self, positive: float, negatives_V: Floats) -> NDArray[np.bool_]:
        """bool [V], whether the distances (roots) are less than the positive's and the margin."""
        return np.asarray(np.sqrt(negatives_V) < np.sqrt(positive) + self.margin)

    def __call__(self, query_D: Tensor, positive_D: Tensor, negatives_VD: Tensor) -> Terms:
        """Terms of one tuple, from distances: the objective is the sum of all V hinges."""
        positive = torch.linalg.vector_norm(query_D - positive_D)
        negatives_V = torch.linalg.vector_norm(query_D - negatives_VD, dim=1)
        hinges_V = (positive + self.margin - negatives_V).clamp(min=0)
        count = len(hinges_V)
        violating, very_hard = int((hinges_V > 0).sum()), int((negatives_V < positive).sum())
        noted = float(hinges_V.detach().mean()) if count else 0.0
        return Terms(hinges_V.sum(), count, noted, violating, very_hard)


def make_loss(config: TrainConfig) -> TupleLoss:
    """The loss that the options name; for multi-similarity, one of tuples that mines as it does."""
    if config.loss == "multi_similarity":
        return Squared(2 * config.ms_epsilon)
    if config.loss == "plain":
        return Plain(config.margin)
    return Squared(
        config.margin, exclude_very_hard=config.exclude_very_hard, note_all=config.quirk("loss_of_all")
    )
