"""Batches of places: some photos of each of some places that lie apart, whatever list they are from.

A place is a square on the ground, which may be divided by the photos' headings (as classes of CosPlace,
Berton et al., CVPR 2022), or a group that the dataset tells (as GSV-Cities, Ali-bey et al., 2022).

Legend: M photos of the dataset, P places of a batch.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from dejavlad.errors import InputError
from dejavlad.geo import Position, Positions
from dejavlad.ground_truth import PlaceDataset
from dejavlad.photo import Photo
from dejavlad.training.config.options import TrainConfig
from dejavlad.training.sampling.squares import square_of
from dejavlad.training.sampling.tuples import Rows

FEWEST = 2
"""Photos of a place, below which it teaches nothing."""
TRIES = 10
"""Orders that are drawn for an epoch until they give a batch; else it has the first epoch's batches."""


@dataclass(frozen=True, slots=True, eq=False)
class PlaceBatch:
    """Photos of places, to be compared with each other."""

    numbers: Rows
    """int64 [n], numbers of the photos, queries first."""
    labels: Rows
    """int64 [n], the place of each photo: its row among the sampler's places."""


class PlaceSampler:
    """Draws batches of places; what it draws depends on seed, epoch, batch and the photos that failed alone.

    Places of one batch lie farther apart than the radius of negatives, but for those of which no position is
    known; each place is in an epoch once, but for those that remain when no whole batch can be made.

    Args:
        dataset: its photos, queries first.
        config: what a place is, how many are in a batch, and how many photos of each.

    Raises:
        InputError: there are not enough places with two photos.
    """

    def __init__(self, dataset: PlaceDataset, config: TrainConfig) -> None:
        self._config = config
        photos = [*dataset.queries, *dataset.database]
        large = [numbers for numbers in _places(photos, config) if len(numbers) >= FEWEST]
        self.places = [np.array(numbers, np.int64) for numbers in large]
        """Numbers of the photos of each place."""
        if len(self.places) < 2:
            advice = (
                "squares of place_size metres (--set place_size=...)"
                if config.places == "ground"
                else "groups of the dataset; or learn by position (--set places=ground)"
            )
            raise InputError(
                f"{dataset.name}: {len(self.places)} places have two photos, and learning takes at least "
                f"two such; places are the {advice}"
            )
        centres = Positions.from_list([_centre([photos[i] for i in numbers]) for numbers in self.places])
        self._near = [set(rows.tolist()) for rows in centres.within(centres, config.negative_radius)]
        self.size = min(config.batch_size, len(self.places))
        """P, places of a batch."""
        self.n = min(len(self._batches(epoch)) for epoch in range(1, 4))
        """Number of batches of every epoch: the fewest of the first three."""
        if not self.n:
            raise InputError(
                f"{dataset.name}: no {self.size} places lie more than {config.negative_radius:g} m from each "
                f"other; take fewer (--set batch_size=...) or a smaller negative_radius"
            )

    def draw(self, epoch: int, batch: int, failed: Collection[int] = ()) -> PlaceBatch:
        """A batch of an epoch.

        Args:
            epoch: from 1.
            batch: from 1.
            failed: numbers of photos that cannot be read or show nothing, which are not drawn. A place of
                which fewer than two photos are left is left out; which places make a batch does not change.
        """
        batches = self._batches(epoch)
        places = batches[(batch - 1) % len(batches)] if batches else []
        random = np.random.default_rng([self._config.seed, epoch, batch, 0, 0, 3])
        drawn, labels = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for place in places:
            numbers = self.places[place]
            if failed:
                numbers = numbers[[number not in failed for number in numbers.tolist()]]
            if len(numbers) < FEWEST:
                continue
            count = min(self._config.photos_per_place, len(numbers))
            drawn.append(random.choice(numbers, count, replace=False))
            labels.append(np.full(count, place, np.int64))
        return PlaceBatch(np.concatenate(drawn), np.concatenate(labels))

    @functools.lru_cache(maxsize=2)  # noqa: B019 - as long as the run
    def _batches(self, epoch: int) -> list[list[int]]:
        """The places of each batch; none only where no epoch has any."""
        for attempt in range(TRIES):
            batches = self._packed([self._config.seed, epoch, 4, attempt])
            if batches:
                return batches
        return [] if epoch == 1 else self._batches(1)

    def _packed(self, seed: list[int]) -> list[list[int]]:
        """Batches of a random order: each takes the first places that are left and lie apart.

        Places that were passed over come first in the next batch, so that those of crowded streets are not
        all left for the end, where they could make no batch together.
        """
        left = np.random.default_rng(seed).permutation(len(self.places)).tolist()
        batches = []
        while len(left) >= self.size:
            taken: list[int] = []
            near: set[int] = set()
            later = []
            for i, place in enumerate(left):
                if len(taken) == self.size:
                    later += left[i:]
                    break
                if place in near:
                    later.append(place)
                else:
                    taken.append(place)
                    near |= self._near[place]
            if len(taken) < self.size:
                break
            batches.append(taken)
            left = later
        return batches


def _places(photos: Sequence[Photo], config: TrainConfig) -> list[list[int]]:
    places: dict[Hashable, list[int]] = {}
    for number, photo in enumerate(photos):
        key = photo.group if config.places == "groups" else square_of(photo, config)
        if key is not None:
            places.setdefault(key, []).append(number)
    return list(places.values())


def _centre(photos: Sequence[Photo]) -> Position | None:
    """The mean of positions, of those in the first one's zone."""
    known = [photo.position for photo in photos if photo.position is not None]
    same_zone = [at for at in known if at.zone == known[0].zone]
    if not same_zone:
        return None
    east, north = (float(np.mean([getattr(at, name) for at in same_zone])) for name in ("east", "north"))
    return Position(east, north, same_zone[0].zone)
