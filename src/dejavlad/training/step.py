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

from dejavlad.training.album import Album
from dejavlad.training.augment import Augment
from dejavlad.training.config import TrainConfig
from dejavlad.training.frozen_maps import FrozenMaps
from dejavlad.training.jitter import AS_IT_IS, View
from dejavlad.training.loss import Terms, TupleLoss
from dejavlad.training.mining import Mined
from dejavlad.training.network import Network
from dejavlad.training.processes import ALONE, Processes

W = TypeVar("W")
Tuples = Sequence[tuple[Mined, View]]
"""With their negatives, and how their photos are looked at."""
Seen = tuple[int, View]
"""A photo's number, and how it is looked at."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a batch of tuples came to; the gradients lie with the parameters."""

    losses: list[float]
    """Noted, one a tuple that could be looked at; NaN where a descriptor is not finite."""
    triplets: int
    """Negatives in all of them."""
    violating: int
    """Of those, by the network as it is now; 0: there is no gradient."""
    very_hard: int
    """Of those, nearer than the positive."""
    spread: float | None = None
    """Median squared distance of the batch's photos, where nothing else tells of it."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Photos of one size that go through the network together."""

    photos: list[Seen]
    """Which."""
    maps: Tensor
    """What the frozen layers make of them."""


class Gradients(Generic[W]):
    """Computes gradients of batches of work, whatever that is.

    Args:
        network: it learns.
        album: the photos.
        maps: what the frozen layers make of them as they are, where that is kept.
        config: how many photos at once, and how they are changed.
        processes: that compute it together; each has the whole gradient then.

    Raises:
        MissingExtraError: photos are to be augmented, and kornia is not installed.
    """

    def __init__(
        self,
        network: Network,
        album: Album,
        maps: FrozenMaps | None,
        config: TrainConfig,
        processes: Processes = ALONE,
    ) -> None:
        self._network, self._album, self._maps = network, album, maps
        self._config, self._processes = config, processes
        self._augment = Augment(config, album.preprocess) if config.augments else None

    def _seen(self, work: W) -> Iterator[Seen]:
        """All photos of a batch, each as often as it likes."""
        raise NotImplementedError

    def _compare(self, work: W, rows_UD: Tensor, place: Mapping[Seen, int]) -> Outcome:
        """The loss, and where something violates, its gradient."""
        raise NotImplementedError

    def __call__(self, work: W, seed: Sequence[int]) -> Outcome:
        """Gradients of the objective of a batch.

        Photos that cannot be read are noted by the album, and the batch goes on without them.

        Args:
            work: what to learn from.
            seed: of what is drawn.
        """
        for held in self._network.learnt.values():
            held.grad = None
        parts = self._parts(work, seed)
        ours = [seen for part in parts for seen in part.photos]
        shown = self._processes.gather(ours)
        self._album.agree(self._processes)
        place = {seen: i for i, seen in enumerate(itertools.chain.from_iterable(shown))}
        if not place:
            return Outcome([], 0, 0, 0)
        whole = len(ours) <= self._config.photos_at_once
        with self._network.learning(seed):
            with torch.set_grad_enabled(whole):
                ours_nD = self._describe_all(parts, seed)
            rows_UD = torch.cat(self._processes.gather_rows(ours_nD))
            through = whole and self._processes.alone
            if not bool(torch.isfinite(rows_UD).all()):
                return Outcome([math.nan], 0, 0, 0)
            if not through:
                rows_UD.requires_grad_()
            outcome = self._processes.share(lambda: self._compare(work, rows_UD, place))
            if outcome.violating and not through:
                self._back(parts, ours_nD if whole else None, self._of_ours(rows_UD, shown), seed)
                self._processes.sum_gradients(self._network.learnt.values())
        return outcome

    def _of_ours(self, rows_UD: Tensor, shown: Sequence[Sequence[Seen]]) -> Tensor:
        """The gradient of the descriptors of this process, where the first one has that of all."""
        gradient_UD = torch.zeros_like(rows_UD) if rows_UD.grad is None else rows_UD.grad
        self._processes.sum_rows(gradient_UD)
        first = sum(map(len, shown[: self._processes.rank]))
        return gradient_UD[first : first + len(shown[self._processes.rank])]

    def _parts(self, work: W, seed: Sequence[int]) -> list[Part]:
        """The photos of a batch, each once, by size and view."""
        groups: dict[tuple[View, tuple[int, int]], dict[Seen, None]] = {}
        for number, view in self._seen(work):
            size = self._album.sizes[number]
            if size is not None and number not in self._album.failed:
                groups.setdefault((replace(view, draw=None), size), {})[number, view] = None
        parts = []
        for (view, _), held in groups.items():
            seen = self._of_this_process(list(held))
            for first in range(0, len(seen), self._config.photos_at_once):
                some = seen[first : first + self._config.photos_at_once]
                numbers = np.array([number for number, _ in some], np.int64)
                if self._maps is not None and some[0][1] == AS_IT_IS:
                    maps = self._maps.get(numbers)
                else:
                    _, images = self._album.look(numbers, view)
                    some = [one for one in some if one[0] not in self._album.failed]
                    if not some:
                        continue
                    maps = self._network.maps(self._changed(torch.as_tensor(images), some, seed))
                parts.append(Part(some, maps))
        return parts

    def _changed(self, images_NCHW: Tensor, seen: Sequence[Seen], seed: Sequence[int]) -> Tensor:
        """Photos augmented, each by itself and for its query or place."""
        if self._augment is None:
            return images_NCHW
        seeds = [[*seed, view.draw or 0, number, 5] for number, view in seen]
        return self._augment(images_NCHW.to(self._network.model.device), seeds)

    def _of_this_process(self, seen: list[Seen]) -> list[Seen]:
        """Of photos that go through the network, those that this process describes: where maps are kept, it
        has those of its own."""
        if self._processes.alone:
            return seen
        if self._maps is not None and seen[0][1] == AS_IT_IS:
            return [(int(n), AS_IT_IS) for n in self._maps.among(np.array([n for n, _ in seen], np.int64))]
        return seen[self._processes.rank :: self._processes.count]

    def _describe_all(self, parts: Sequence[Part], seed: Sequence[int]) -> Tensor:
        model = self._network.model
        none = torch.empty(0, model.descriptor_size, dtype=self._network.dtype, device=model.device)
        return torch.cat([none, *(self._describe(part, i, seed) for i, part in enumerate(parts))])

    def _describe(self, part: Part, number: int, seed: Sequence[int]) -> Tensor:
        self._network.reseed([*seed, number * self._processes.count + self._processes.rank])
        return self._network.describe(part.maps)

    def _back(
        self, parts: Sequence[Part], rows_nD: Tensor | None, gradient_nD: Tensor, seed: Sequence[int]
    ) -> None:
        """Through the network with the gradient of each descriptor: as they are, or described again."""
        if rows_nD is not None:
            if len(rows_nD):
                rows_nD.backward(gradient_nD)  # type: ignore[no-untyped-call]
            return
        first = 0
        for i, part in enumerate(parts):
            rows = self._describe(part, i, seed)
            rows.backward(gradient_nD[first : first + len(rows)])  # type: ignore[no-untyped-call]
            first += len(rows)


class Step(Gradients[Tuples]):
    """Computes gradients of batches of tuples: of the objective of all of them, divided by the sum of their
    weights.

    Where a photo cannot be read its tuple goes on without it, or not at all where it is the query or the
    positive.

    Args:
        network: it learns.
        album: the photos.
        maps: what the frozen layers make of them as they are, where that is kept.
        loss: of a tuple.
        config: how many photos at once.
        processes: that compute it together.
    """

    def __init__(
        self,
        network: Network,
        album: Album,
        maps: FrozenMaps | None,
        loss: TupleLoss,
        config: TrainConfig,
        processes: Processes = ALONE,
    ) -> None:
        super().__init__(network, album, maps, config, processes)
        self._loss = loss

    def _seen(self, work: Tuples) -> Iterator[Seen]:
        for mined, view in work:
            database = self._album.numbers_of_database([mined.positive, *mined.negatives.tolist()])
            for number in (mined.query, *database.tolist()):
                yield number, view

    def _compare(self, work: Tuples, rows_UD: Tensor, place: Mapping[Seen, int]) -> Outcome:
        terms, triplets = self._terms(work, rows_UD, place)
        violating = sum(one.violating for one in terms)
        if violating:
            weight = sum(one.weight for one in terms)
            (torch.stack([one.objective for one in terms]).sum() / weight).backward()  # type: ignore[no-untyped-call]
        return Outcome([one.noted for one in terms], triplets, violating, sum(one.very_hard for one in terms))

    def _terms(self, tuples: Tuples, rows_UD: Tensor, place: Mapping[Seen, int]) -> tuple[list[Terms], int]:
        terms, triplets = [], 0
        offset = self._album.n_queries
        for mined, view in tuples:
            query, positive = place.get((mined.query, view)), place.get((mined.positive + offset, view))
            there = [(negative + offset, view) for negative in mined.negatives.tolist()]
            negatives = [place[seen] for seen in there if seen in place]
            if query is None or positive is None or not negatives:
                continue
            terms.append(self._loss(rows_UD[query], rows_UD[positive], rows_UD[negatives]))
            triplets += len(negatives)
        return terms, triplets
