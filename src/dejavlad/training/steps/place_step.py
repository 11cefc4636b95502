"""One batch of places: forward, multi-similarity loss of all photos with each other, backward.

Legend: U photos of the batch, D numbers of a descriptor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from dejavlad.training.diagnostics.monitor import spread
from dejavlad.training.losses.multi_similarity import multi_similarity
from dejavlad.training.steps.tuple_step import Gradients, Outcome, PhotoView

Labelled = Sequence[tuple[PhotoView, int]]
"""Photos with their views, each with the number of its place."""


class PlaceStep(Gradients[Labelled]):
    """Computes gradients of batches of places.

    Of its `Outcome` the losses are those of each photo as the anchor, ``triplets`` are all pairs,
    ``violating`` those that are mined, and ``very_hard`` those of different places that are more alike than
    the anchor's least alike pair of one place; ``spread`` is that of all photos. Arguments as of `Gradients`.
    """

    def _photos(self, work: Labelled) -> Iterator[PhotoView]:
        for photo, _ in work:
            yield photo

    def _compare(self, work: Labelled, rows_UD: Tensor, row_of: Mapping[PhotoView, int]) -> Outcome:
        labelled_rows = [(row_of[photo], label) for photo, label in work if photo in row_of]
        rows = torch.tensor([row for row, _ in labelled_rows], device=rows_UD.device)
        labels = torch.tensor([label for _, label in labelled_rows], device=rows_UD.device)
        config = self._config
        compared = multi_similarity(
            rows_UD[rows], labels, config.ms_alpha, config.ms_beta, config.ms_base, config.ms_epsilon
        )
        if compared.mined:
            compared.losses_U.mean().backward()  # type: ignore[no-untyped-call]
        median = round(spread(rows_UD.detach().float().cpu().numpy()), 8)
        losses = compared.losses_U.detach().tolist()
        return Outcome(losses, compared.pairs, compared.mined, compared.very_hard, median)
