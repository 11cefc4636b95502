"""One batch of tuples: forward, loss, backward. Photos that several tuples share go through the network once.

Where more photos are needed than activations can be held for, the descriptors are computed first without
gradient, and the network is gone through again part by part with the gradient of each descriptor. So it is
with several processes: each describes some of the photos, the first compares all descriptors, and each goes
back with the gradients of its own.

Legend: U photos of the batch, D numbers of a descriptor.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dejavlad.training.album import Album
from dejavlad.training.config import TrainConfig
from dejavlad.training.frozen_maps import FrozenMaps
from dejavlad.training.jitter import AS_IT_IS, View
from dejavlad.training.loss import Terms, TupleLoss
from dejavlad.training.mining import Mined
from dejavlad.training.network import Network
from dejavlad.training.processes import ALONE, Processes
from dejavlad.training.tuples import Rows

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


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Photos of one size that go through the network together."""

    photos: list[Seen]
    """Which."""
    maps: Tensor
    """What the frozen layers make of them."""


class Step:
    """Computes gradients of batches.

    Args:
        network: it learns.
        album: the photos.
        maps: what the frozen layers make of them as they are, where that is kept.
        loss: of a tuple.
        config: how many photos at once.
        processes: that compute it together; each has the whole gradient then.
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
        self._network, self._album, self._maps, self._loss = network, album, maps, loss
        self._config, self._processes = config, processes

    def __call__(self, tuples: Sequence[tuple[Mined, View]], seed: Sequence[int]) -> Outcome:
        """Gradients of the objective of all tuples, divided by the sum of their weights.

        Photos that cannot be read are noted by the album; their tuples go on without them, or not at all
        where it is the query or the positive.

        Args:
            tuples: with their negatives.
            seed: of what the network draws.
        """
        for held in self._network.learnt.values():
            held.grad = None
        parts = self._parts(tuples)
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
            outcome = self._processes.share(lambda: self._compare(tuples, rows_UD, place))
            if outcome.violating and not through:
                self._back(parts, ours_nD if whole else None, self._of_ours(rows_UD, shown), seed)
                self._processes.sum_gradients(self._network.learnt.values())
        return outcome

    def _compare(
        self, tuples: Sequence[tuple[Mined, View]], rows_UD: Tensor, place: dict[Seen, int]
    ) -> Outcome:
        """The loss, and where something violates, its gradient."""
        terms, triplets = self._terms(tuples, rows_UD, place)
        violating = sum(one.violating for one in terms)
        if violating:
            weight = sum(one.weight for one in terms)
            (torch.stack([one.objective for one in terms]).sum() / weight).backward()  # type: ignore[no-untyped-call]
        return Outcome([one.noted for one in terms], triplets, violating, sum(one.very_hard for one in terms))

    def _of_ours(self, rows_UD: Tensor, shown: Sequence[Sequence[Seen]]) -> Tensor:
        """The gradient of the descriptors of this process, where the first one has that of all."""
        gradient_UD = torch.zeros_like(rows_UD) if rows_UD.grad is None else rows_UD.grad
        self._processes.sum_rows(gradient_UD)
        first = sum(map(len, shown[: self._processes.rank]))
        return gradient_UD[first : first + len(shown[self._processes.rank])]

    def _parts(self, tuples: Sequence[tuple[Mined, View]]) -> list[Part]:
        """The photos of all tuples, each once, by size and view."""
        groups: dict[tuple[View, tuple[int, int]], dict[int, None]] = {}
        for mined, view in tuples:
            database = self._album.numbers_of_database([mined.positive, *mined.negatives.tolist()])
            for number in (mined.query, *database.tolist()):
                size = self._album.sizes[number]
                if size is not None and number not in self._album.failed:
                    groups.setdefault((view, size), {})[number] = None
        parts = []
        for (view, _), held in groups.items():
            numbers = self._of_this_process(np.array(list(held), np.int64), view)
            for first in range(0, len(numbers), self._config.photos_at_once):
                some = numbers[first : first + self._config.photos_at_once]
                if self._maps is not None and view == AS_IT_IS:
                    maps = self._maps.get(some)
                else:
                    some, images = self._album.look(some, view)
                    if not len(some):
                        continue
                    maps = self._network.maps(torch.as_tensor(images))
                parts.append(Part([(int(number), view) for number in some], maps))
        return parts

    def _of_this_process(self, numbers: Rows, view: View) -> Rows:
        """Of photos that go through the network, those that this process describes: where maps are kept, it
        has those of its own."""
        if self._processes.alone:
            return numbers
        if self._maps is not None and view == AS_IT_IS:
            return self._maps.among(numbers)
        return numbers[self._processes.rank :: self._processes.count]

    def _describe_all(self, parts: Sequence[Part], seed: Sequence[int]) -> Tensor:
        model = self._network.model
        none = torch.empty(0, model.descriptor_size, dtype=self._network.dtype, device=model.device)
        return torch.cat([none, *(self._describe(part, i, seed) for i, part in enumerate(parts))])

    def _describe(self, part: Part, number: int, seed: Sequence[int]) -> Tensor:
        self._network.reseed([*seed, number * self._processes.count + self._processes.rank])
        return self._network.describe(part.maps)

    def _terms(
        self, tuples: Sequence[tuple[Mined, View]], rows_UD: Tensor, place: dict[Seen, int]
    ) -> tuple[list[Terms], int]:
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
