"""One of the two datasets of a run, training or validation: its photos and what is known of them."""

from __future__ import annotations

from dejavlad.datasets import PlaceDataset, truth_positions
from dejavlad.images import Preprocess
from dejavlad.progress import OnProgress
from dejavlad.training.album import Album
from dejavlad.training.config import TrainConfig
from dejavlad.training.frozen_maps import FrozenMaps
from dejavlad.training.tuples import Candidates


class Part:
    """A dataset that is learnt from, or tested on.

    Args:
        dataset: its photos, with positions.
        candidates: who may be what.
        preprocess: how photos are prepared.
        config: the options.
        on_progress: told while photos are looked at.

    Raises:
        InputError: no photo can be read, or positions that cannot be compared.
    """

    def __init__(
        self,
        dataset: PlaceDataset,
        candidates: Candidates,
        preprocess: Preprocess,
        config: TrainConfig,
        on_progress: OnProgress,
    ) -> None:
        self.candidates = candidates
        self.album = Album(dataset, preprocess, workers=config.workers, on_progress=on_progress)
        truth = dataset.truth
        self.truth = truth or truth_positions(dataset.database, dataset.queries, config.negative_radius)
        """What counts as right in tests."""
        self.maps: FrozenMaps | None = None
        """What the frozen layers make of its photos, where that is kept."""
        self._told: set[int] = set()

    def newly_failed(self) -> dict[int, str]:
        """Number of a photo -> why it failed, since the last call; they are no candidates any more."""
        new = {n: why for n, why in self.album.failed.items() if n not in self._told}
        self._told |= new.keys()
        queries = self.album.n_queries
        self.candidates.leave_out([number - queries for number in new if number >= queries])
        return new
