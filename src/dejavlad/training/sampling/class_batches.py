"""Batches of classes: one photo of each, of the group whose turn it is."""

from __future__ import annotations

import functools

import numpy as np

from dejavlad.training.context import RunContext
from dejavlad.training.data.frozen_maps import FrozenMaps
from dejavlad.training.data.jitter import draw_view
from dejavlad.training.data.split import Split
from dejavlad.training.sampling.batches import Batch, BatchSampler, first_size
from dejavlad.training.sampling.classes import group_classes
from dejavlad.training.sampling.mining import Descriptors
from dejavlad.training.steps.class_step import ClassStep, ClassWork
from dejavlad.training.steps.classifiers import Classifiers
from dejavlad.training.steps.network import Network
from dejavlad.training.steps.tuple_step import PhotoView


class ClassBatchSampler(BatchSampler):
    """Photos of classes; what is drawn follows from seed, epoch, batch and the photos that failed alone.

    Groups take turns, one an epoch. Within an epoch the classes of the group are gone through in random
    order, again and again; those that do not fill a last batch are left out of that pass. Arguments as of
    `BatchSampler`.

    Raises:
        InputError: no classes can be made of the photos.
    """

    def __init__(self, split: Split, context: RunContext) -> None:
        super().__init__(split, context)
        pool = split.pool
        self.groups = group_classes(pool.photos, context.config, pool.dataset.name).groups
        self._members = [
            {view: list(classes.values()) for view, classes in group.views.items()} for group in self.groups
        ]
        self._classifiers: Classifiers | None = None
        self.n = context.config.steps_per_epoch

    def classifiers(self, network: Network) -> Classifiers:
        """What tells the classes apart; made once."""
        if self._classifiers is None:
            model = network.model
            self._classifiers = Classifiers(
                self.groups, model.descriptor_size, self._config, model.device, network.dtype
            )
        return self._classifiers

    def draw(self, epoch: int, batch: int, descriptors: Descriptors | None) -> Batch:
        """A photo of each of some classes, in each view; classes whose photos all failed are left out."""
        number = (epoch - 1) % len(self.groups)
        size = first_size(self._split)
        failed = self._split.pool.failed
        drawn: dict[str, list[tuple[PhotoView, int]]] = {}
        first: int | None = None
        for i, (view, members) in enumerate(self._members[number].items()):
            random = np.random.default_rng([self._config.seed, epoch, batch, i, 0, 7])
            drawn[view] = []
            for label in self._labels(epoch, batch, i, len(members)):
                photos = members[label]
                if failed:
                    photos = photos[[photo not in failed for photo in photos.tolist()]]
                at = int(random.integers(max(1, len(photos))))
                if len(photos):
                    photo = int(photos[at])
                    seen = draw_view(self._config, size, epoch, batch, 2 * label + i)
                    drawn[view].append(((photo, seen), label))
                    first = photo if first is None else first
        return Batch(ClassWork(number, drawn), 0, first or 0)

    def step(self, network: Network, maps: FrozenMaps | None) -> ClassStep:
        """What computes the gradients of batches of classes."""
        return ClassStep(self.classifiers(network), network, self._split.pool, maps, self._context)

    def _labels(self, epoch: int, batch: int, view: int, n: int) -> list[int]:
        """Numbers of the classes of a batch of a view that has n."""
        size = min(self._config.batch_size, n)
        order, slot = divmod(batch - 1, n // size)
        return self._order(epoch, order, view, n)[slot * size : (slot + 1) * size]

    @functools.lru_cache(maxsize=4)  # noqa: B019 - as long as the run
    def _order(self, epoch: int, order: int, view: int, n: int) -> list[int]:
        random = np.random.default_rng([self._config.seed, epoch, order, view, n, 6])
        return [int(label) for label in random.permutation(n)]
