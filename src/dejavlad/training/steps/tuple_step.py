"""One batch, of tuples or else: forward, loss, backward. Each photo goes through the network once.

Where more photos are needed than activations can be held for, the descriptors are computed first without
gradient, and the network is gone through again part by part with the gradient of each descriptor. So it is
with several processes: each describes some of the photos, the first compares all descriptors, and each goes
back with the gradients of its own.

Legend: U photos of the batch, D numbers of a descriptor.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from dejavlad.training.context import RunContext
from dejavlad.training.data.augment import Augment
from dejavlad.training.data.frozen_maps import FrozenMaps
from dejavlad.training.data.jitter import AS_IT_IS, View
from dejavlad.training.data.photo_pool import PhotoPool
from dejavlad.training.losses.ranking_loss import Terms, TupleLoss
from dejavlad.training.sampling.mining import Mined
from dejavlad.training.steps.network import Network

W = TypeVar("W")
Tuples = Sequence[tuple[Mined, View]]
"""With their negatives, and how their photos are looked at."""
PhotoView = tuple[int, View]
"""A photo's number, and how it is looked at."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a batch of tuples came to; the gradients lie with the parameters."""

    losses: list[float]
    """Noted, one a tuple that could be looked at; NaN where a descriptor is not finite."""
    triplets: int
    """Number of negatives in all tuples."""
    violating: int
    """Of those, by the network as it is now; 0: there is no gradient."""
    very_hard: int
    """How many of those negatives are nearer to the query than its positive."""
    spread: float | None = None
    """Median squared distance of the batch's photos, where nothing else tells of it."""


@dataclass(frozen=True, slots=True, eq=False)
class SubBatch:
    """Photos of one size that go through the network together."""

    photos: list[PhotoView]
    """The n photos, each with its view."""
    features: Tensor
    """[n, C, h, w], what the frozen layers make of them."""


class Gradients(Generic[W]):
    """Computes gradients of batches of work, whatever that is.

    Args:
        network: it learns.
        pool: the photos.
        maps: what the frozen layers make of them as they are, where that is kept.
        context: how many photos at once, how they are changed, and the processes that compute it together;
            each has the whole gradient then.

    Raises:
        MissingExtraError: photos are to be augmented, and kornia is not installed.
    """

    def __init__(
        self, network: Network, pool: PhotoPool, maps: FrozenMaps | None, context: RunContext
    ) -> None:
        self._network, self._pool, self._maps = network, pool, maps
        self._config, self._processes = context.config, context.processes
        self._augment = Augment(context.config, pool.preprocess) if context.config.augments else None

    def _photos(self, work: W) -> Iterator[PhotoView]:
        """All photos of a batch, each as often as it likes."""
        raise NotImplementedError

    def _compare(self, work: W, rows_UD: Tensor, row_of: Mapping[PhotoView, int]) -> Outcome:
        """The loss, and where something violates, its gradient."""
        raise NotImplementedError

    def __call__(self, work: W, seed: Sequence[int]) -> Outcome:
        """Gradients of the objective of a batch.

        Photos that cannot be read are noted by the pool, and the batch goes on without them.
        """
        for parameter in self._network.learnt.values():
            parameter.grad = None
        sub_batches = self._sub_batches(work, seed)
        own = [photo for sub_batch in sub_batches for photo in sub_batch.photos]
        photos_of_processes = self._processes.gather(own)
        self._pool.agree(self._processes)
        row_of = {photo: i for i, photo in enumerate(itertools.chain.from_iterable(photos_of_processes))}
        if not row_of:
            return Outcome([], 0, 0, 0)
        in_one_pass = len(own) <= self._config.photos_at_once
        with self._network.learning(seed):
            with torch.set_grad_enabled(in_one_pass):
                own_nD = self._describe_all(sub_batches, seed)
            rows_UD = torch.cat(self._processes.gather_rows(own_nD))
            # Alone and in one pass, the loss's gradient flows through the graph of the forward pass. Else the
            # descriptors become leaves: the loss gives the gradient of each, which `_backward` takes through
            # the network, and where more photos than fit are needed, through one sub-batch after the other.
            graph_kept = in_one_pass and self._processes.alone
            if not bool(torch.isfinite(rows_UD).all()):
                return Outcome([math.nan], 0, 0, 0)
            if not graph_kept:
                rows_UD.requires_grad_()
            outcome = self._processes.share(lambda: self._compare(work, rows_UD, row_of))
            if outcome.violating and not graph_kept:
                gradient_nD = self._own_gradient(rows_UD, photos_of_processes)
                self._backward(sub_batches, own_nD if in_one_pass else None, gradient_nD, seed)
                self._processes.sum_gradients(self._network.learnt.values())
        return outcome

    def _own_gradient(self, rows_UD: Tensor, photos_of_processes: Sequence[Sequence[PhotoView]]) -> Tensor:
        """The gradient of the descriptors of this process, where the first one has that of all."""
        gradient_UD = torch.zeros_like(rows_UD) if rows_UD.grad is None else rows_UD.grad
        self._processes.sum_rows(gradient_UD)
        start = sum(map(len, photos_of_processes[: self._processes.rank]))
        return gradient_UD[start : start + len(photos_of_processes[self._processes.rank])]

    def _sub_batches(self, work: W, seed: Sequence[int]) -> list[SubBatch]:
        """The photos of a batch, each once, as many together as their gradient's activations fit.

        Photos go through the network together where their tensors have one shape, that is by prepared size
        and view; the draw of a view changes values, not shapes.
        """
        groups: dict[tuple[View, tuple[int, int]], dict[PhotoView, None]] = {}
        for number, view in self._photos(work):
            size = self._pool.sizes[number]
            if size is not None and number not in self._pool.failed:
                # A dict keeps the order of the batch and each photo once; the order decides rounding.
                groups.setdefault((replace(view, draw=None), size), {})[number, view] = None
        sub_batches = []
        for (view, _), group in groups.items():
            own = self._own_photos(list(group))
            for first in range(0, len(own), self._config.photos_at_once):
                photos = own[first : first + self._config.photos_at_once]
                numbers = np.array([number for number, _ in photos], np.int64)
                if self._maps is not None and photos[0][1] == AS_IT_IS:
                    features = self._maps.get(numbers)
                else:
                    _, images = self._pool.load_view(numbers, view)
                    photos = [photo for photo in photos if photo[0] not in self._pool.failed]
                    if not photos:
                        continue
                    features = self._network.features(self._changed(torch.as_tensor(images), photos, seed))
                sub_batches.append(SubBatch(photos, features))
        return sub_batches

    def _changed(self, images_NCHW: Tensor, photos: Sequence[PhotoView], seed: Sequence[int]) -> Tensor:
        """Photos augmented, each by itself and for its query or place."""
        if self._augment is None:
            return images_NCHW
        seeds = [[*seed, view.draw or 0, number, 5] for number, view in photos]
        return self._augment(images_NCHW.to(self._network.model.device), seeds)

    def _own_photos(self, photos: list[PhotoView]) -> list[PhotoView]:
        """The photos that this process describes: those whose maps it keeps, or its share."""
        if self._processes.alone:
            return photos
        if self._maps is not None and photos[0][1] == AS_IT_IS:
            return [(int(n), AS_IT_IS) for n in self._maps.among(np.array([n for n, _ in photos], np.int64))]
        return photos[self._processes.rank :: self._processes.count]

    def _describe_all(self, sub_batches: Sequence[SubBatch], seed: Sequence[int]) -> Tensor:
        model = self._network.model
        empty = torch.empty(0, model.descriptor_size, dtype=self._network.dtype, device=model.device)
        rows = (self._describe(sub_batch, i, seed) for i, sub_batch in enumerate(sub_batches))
        return torch.cat([empty, *rows])

    def _describe(self, sub_batch: SubBatch, number: int, seed: Sequence[int]) -> Tensor:
        self._network.reseed([*seed, number * self._processes.count + self._processes.rank])
        return self._network.describe(sub_batch.features)

    def _backward(
        self,
        sub_batches: Sequence[SubBatch],
        rows_nD: Tensor | None,
        gradient_nD: Tensor,
        seed: Sequence[int],
    ) -> None:
        """Through the network with the gradient of each descriptor: as they are, or described again."""
        if rows_nD is not None:
            if len(rows_nD):
                rows_nD.backward(gradient_nD)  # type: ignore[no-untyped-call]
            return
        first = 0
        for i, sub_batch in enumerate(sub_batches):
            rows = self._describe(sub_batch, i, seed)
            rows.backward(gradient_nD[first : first + len(rows)])  # type: ignore[no-untyped-call]
            first += len(rows)


class Step(Gradients[Tuples]):
    """Computes gradients of batches of tuples: of the sum of objectives over the sum of weights.

    Where a photo cannot be read its tuple goes on without it, or not at all where it is the query or the
    positive.

    Args: `loss`, of a tuple, and those of `Gradients`.
    """

    def __init__(
        self, loss: TupleLoss, network: Network, pool: PhotoPool, maps: FrozenMaps | None, context: RunContext
    ) -> None:
        super().__init__(network, pool, maps, context)
        self._loss = loss

    def _photos(self, work: Tuples) -> Iterator[PhotoView]:
        for mined, view in work:
            database = self._pool.numbers_of_database([mined.positive, *mined.negatives.tolist()])
            for number in (mined.query, *database.tolist()):
                yield number, view

    def _compare(self, work: Tuples, rows_UD: Tensor, row_of: Mapping[PhotoView, int]) -> Outcome:
        terms, triplets = self._terms(work, rows_UD, row_of)
        violating = sum(term.violating for term in terms)
        if violating:
            weight = sum(term.weight for term in terms)
            (torch.stack([term.objective for term in terms]).sum() / weight).backward()  # type: ignore[no-untyped-call]
        very_hard = sum(term.very_hard for term in terms)
        return Outcome([term.noted for term in terms], triplets, violating, very_hard)

    def _terms(
        self, tuples: Tuples, rows_UD: Tensor, row_of: Mapping[PhotoView, int]
    ) -> tuple[list[Terms], int]:
        terms, triplets = [], 0
        offset = self._pool.n_queries
        for mined, view in tuples:
            query, positive = row_of.get((mined.query, view)), row_of.get((mined.positive + offset, view))
            negative_views = [(negative + offset, view) for negative in mined.negatives.tolist()]
            negatives = [row_of[photo] for photo in negative_views if photo in row_of]
            if query is None or positive is None or not negatives:
                continue
            terms.append(self._loss(rows_UD[query], rows_UD[positive], rows_UD[negatives]))
            triplets += len(negatives)
        return terms, triplets
