"""One batch of classes: forward, large-margin loss of each view's photos, backward.

Legend: U photos of the batch, D numbers of a descriptor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dejavlad.training.context import RunContext
from dejavlad.training.data.frozen_maps import FrozenMaps
from dejavlad.training.data.photo_pool import PhotoPool
from dejavlad.training.diagnostics.monitor import spread
from dejavlad.training.steps.classifiers import Classifiers
from dejavlad.training.steps.network import Network
from dejavlad.training.steps.tuple_step import Gradients, Outcome, PhotoView


@dataclass(frozen=True, slots=True)
class ClassWork:
    """Photos with their classes."""

    group: int
    """Number of the group."""
    views: Mapping[str, Sequence[tuple[PhotoView, int]]]
    """View -> its photos, each with the number of its class in that view."""


class ClassStep(Gradients[ClassWork]):
    """Computes gradients of batches of classes, of the network and of the group's classifiers.

    The objective is the sum over views of the mean loss of their photos. Of its `Outcome` the losses are
    those of each photo, ``triplets`` and ``violating`` count photos, and ``very_hard`` those that are more
    like another class than like their own; ``spread`` is that of all photos.

    Args: `classifiers`, which learn too, in the first process, and those of `Gradients`.
    """

    def __init__(
        self,
        classifiers: Classifiers,
        network: Network,
        pool: PhotoPool,
        maps: FrozenMaps | None,
        context: RunContext,
    ) -> None:
        super().__init__(network, pool, maps, context)
        self._classifiers = classifiers

    def __call__(self, work: ClassWork, seed: Sequence[int]) -> Outcome:
        """As of `Gradients`."""
        self._classifiers.take(work.group)
        return super().__call__(work, seed)

    def _photos(self, work: ClassWork) -> Iterator[PhotoView]:
        for labelled in work.views.values():
            for photo, _ in labelled:
                yield photo

    def _compare(self, work: ClassWork, rows_UD: Tensor, row_of: Mapping[PhotoView, int]) -> Outcome:
        losses: list[float] = []
        means, wrong = [], 0
        for view, labelled in work.views.items():
            present = [(row_of[photo], label) for photo, label in labelled if photo in row_of]
            if not present:
                continue
            rows = torch.tensor([row for row, _ in present], device=rows_UD.device)
            labels_U = torch.tensor([label for _, label in present], device=rows_UD.device)
            classified = self._classifiers.losses(view, rows_UD[rows], labels_U)
            losses += classified.losses_U.detach().tolist()
            means.append(classified.losses_U.mean())
            wrong += classified.wrong
        if means:
            torch.stack(means).sum().backward()  # type: ignore[no-untyped-call]
        median = round(spread(rows_UD.detach().float().cpu().numpy()), 8)
        return Outcome(losses, len(losses), len(losses), wrong, median)
