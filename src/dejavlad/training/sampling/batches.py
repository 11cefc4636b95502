"""What a run learns from, batch by batch: tuples about queries, or photos of places.

Legend: Q queries.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from dejavlad.errors import InputError
from dejavlad.training.config import schedule
from dejavlad.training.context import RunContext
from dejavlad.training.data.frozen_maps import FrozenMaps
from dejavlad.training.data.jitter import View, draw_view
from dejavlad.training.data.split import Split
from dejavlad.training.losses.ranking_loss import make_loss
from dejavlad.training.sampling.mining import Descriptors, Mined, Miner
from dejavlad.training.sampling.places import PlaceSampler
from dejavlad.training.sampling.subcache import SubcacheMiner
from dejavlad.training.sampling.tuples import Rows
from dejavlad.training.sampling.weighting import query_order, query_weights
from dejavlad.training.steps.classifiers import Classifiers
from dejavlad.training.steps.network import Network
from dejavlad.training.steps.place_step import PlaceStep
from dejavlad.training.steps.tuple_step import Gradients, Step


@dataclass(frozen=True, slots=True)
class Batch:
    """What one batch learns from, as drawn for a step."""

    work: Any
    """The tuples (`tuple_step.Tuples`), labelled photos (`place_step.Labelled`) or photos of classes
    (`class_step.ClassWork`) that the step takes."""
    easy: int
    """Queries that there is nothing to learn from, whose loss is 0."""
    first: int
    """Number of the first photo, to say where it was."""


class BatchSampler:
    """All batches of a run; what they are follows from seed, epoch, batch and mining alone.

    Unless a kind of batches says otherwise, nothing is mined for it, and nothing learns beside the network.

    Args:
        split: the photos.
        context: the options, and the processes that draw and compute together.
    """

    n: int
    """Number of batches of an epoch."""

    def __init__(self, split: Split, context: RunContext) -> None:
        self._split, self._context, self._config = split, context, context.config

    @property
    def memory(self) -> list[Rows]:
        """Of each query, the rows of the database that mining remembers; empty where nothing is mined."""
        return []

    @memory.setter
    def memory(self, rows: list[Rows]) -> None:
        """Nothing is mined, and so nothing remembered."""

    def wanted(self, epoch: int, batch: int) -> Rows:
        """Numbers (int64) of photos that mining needs described from a batch on, where that is not all."""
        return np.empty(0, np.int64)

    def draw(self, epoch: int, batch: int, descriptors: Descriptors | None) -> Batch:
        """What a batch of an epoch learns from; both count from 1."""
        raise NotImplementedError

    def classifiers(self, network: Network) -> Classifiers | None:
        """What learns beside the network, for training alone; None where nothing does."""
        return None

    def step(self, network: Network, maps: FrozenMaps | None) -> Gradients[Any]:
        """What computes the gradients of these batches; `maps` where frozen layers are kept."""
        raise NotImplementedError


def make_batch_sampler(split: Split, context: RunContext) -> BatchSampler:
    """The batches that the options name: of classes, of places, or of queries.

    Raises:
        InputError: there are not enough classes, places, or queries.
    """
    if context.config.mining == "classes":
        from dejavlad.training.sampling.class_batches import ClassBatchSampler

        return ClassBatchSampler(split, context)
    if context.config.mining == "places":
        return PlaceBatchSampler(split, context)
    return QueryBatchSampler(split, context)


class QueryBatchSampler(BatchSampler):
    """Queries with their positives and negatives; arguments as of `BatchSampler`.

    Raises:
        InputError: there is no whole batch, where only such are learnt from.
    """

    def __init__(self, split: Split, context: RunContext) -> None:
        super().__init__(split, context)
        self._loss = make_loss(context.config)
        n_queries, config = split.pool.n_queries, context.config
        make = SubcacheMiner if config.mining == "subcache" else Miner
        self._miner = make(split.candidates, self._loss, config, n_queries)
        self._weights = query_weights(split.pool.photos[:n_queries], split.candidates, config)
        self._order: tuple[int, Rows] = 0, np.empty(0, np.int64)
        """That of the epoch that was asked for last."""
        self.n = schedule.n_batches(n_queries, config)
        if not self.n:
            raise InputError(
                f"{split.pool.dataset.name}: {n_queries} queries do not fill a batch of "
                f"{config.batch_size}, and what does not is left out (quirk_drop_remainder, parity); set a "
                "smaller batch_size"
            )

    @property
    def memory(self) -> list[Rows]:
        """Of each query, the rows of the database that mining remembers; a checkpoint restores them."""
        return self._miner.memory

    @memory.setter
    def memory(self, rows: list[Rows]) -> None:
        self._miner.memory = rows

    def wanted(self, epoch: int, batch: int) -> Rows:
        """Numbers (int64) of the photos that a subcache needs which begins with a batch."""
        assert isinstance(self._miner, SubcacheMiner)
        return self._miner.wanted(self._queries(epoch, batch, self._config.cached_queries), epoch, batch)

    def draw(self, epoch: int, batch: int, descriptors: Descriptors | None) -> Batch:
        """The tuples of a batch; each process mines for its share of the queries."""
        assert descriptors is not None
        queries = self._queries(epoch, batch, self._config.batch_size).tolist()
        pool, processes = self._split.pool, self._context.processes
        chosen: dict[int, tuple[Mined | None, Rows]] = {}
        for query in queries[processes.rank :: processes.count]:
            if query not in pool.failed:
                mined = self._miner.choose(query, descriptors, epoch, batch)
                chosen[query] = mined, self._miner.memory[query]
        for choices in processes.gather(dict(chosen)):
            chosen.update(choices)
        tuples: list[tuple[Mined, View]] = []
        easy = 0
        first = first_size(self._split)
        for query in queries:
            if query in pool.failed:
                continue
            mined, self._miner.memory[query] = chosen[query]
            if mined is not None and len(mined.negatives):
                tuples.append((mined, draw_view(self._config, first, epoch, batch, query)))
            elif mined is not None:
                easy += 1
        return Batch(tuples, easy, queries[0])

    def step(self, network: Network, maps: FrozenMaps | None) -> Step:
        """What computes the gradients of tuples."""
        return Step(self._loss, network, self._split.pool, maps, self._context)

    def _queries(self, epoch: int, batch: int, count: int) -> Rows:
        """So many queries from a batch on."""
        if self._order[0] != epoch:
            n_queries = self._split.pool.n_queries
            self._order = epoch, query_order(n_queries, self._config, epoch, self._weights)
        first = (batch - 1) * self._config.batch_size
        return self._order[1][first : first + count]


class PlaceBatchSampler(BatchSampler):
    """Photos of places, compared with each other as they are; arguments as of `BatchSampler`.

    Raises:
        InputError: there are not enough places.
    """

    def __init__(self, split: Split, context: RunContext) -> None:
        super().__init__(split, context)
        self._sampler = PlaceSampler(split.pool.dataset, context.config)
        self.n = self._sampler.n

    def draw(self, epoch: int, batch: int, descriptors: Descriptors | None) -> Batch:
        """The photos of a batch of places but those that failed; a place's are jittered alike."""
        drawn = self._sampler.draw(epoch, batch, self._split.pool.failed)
        first = first_size(self._split)
        views = {
            place: draw_view(self._config, first, epoch, batch, place) for place in set(drawn.labels.tolist())
        }
        seen = [
            ((number, views[place]), place)
            for number, place in zip(drawn.numbers.tolist(), drawn.labels.tolist(), strict=True)
        ]
        return Batch(seen, 0, int(drawn.numbers[0]) if len(drawn.numbers) else 0)

    def step(self, network: Network, maps: FrozenMaps | None) -> PlaceStep:
        """What computes the gradients of batches of places."""
        return PlaceStep(network, self._split.pool, maps, self._context)


def first_size(split: Split) -> tuple[int, int]:
    """Of the first photo of the database that can be read."""
    sizes = itertools.islice(split.pool.sizes, split.pool.n_queries, None)
    return next(size for size in sizes if size is not None)
