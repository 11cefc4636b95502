"""What is asked about photos: where they were taken, or what their descriptors are."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import DejavladError
from dejavlad.extraction import describe
from dejavlad.failures import NO_DESCRIPTOR
from dejavlad.images import Preprocess
from dejavlad.model import PlaceModel
from dejavlad.photo import PhotoList
from dejavlad.places import PlaceMap
from dejavlad.places.answer import Answer
from dejavlad.places.filters import Filter
from dejavlad.serve.photo_id import image_address, photo_id
from dejavlad.serve.served_map import ServedMap

SMALL: Final = 4_000_000
"""Numbers of a map's descriptors up to which photos are answered one by one, each as soon as it can be."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be done with the descriptors of photos."""

    served: ServedMap

    @property
    def group(self) -> Hashable:
        """Photos of one group are answered together."""
        raise NotImplementedError

    @property
    def together(self) -> bool:
        """Whether those of a group are answered together rather than each as soon as it can be."""
        return False

    @property
    def preprocess(self) -> Preprocess:
        """How the map's model prepares photos."""
        return self.served.model.preprocess

    def model(self) -> PlaceModel:
        """The map's model; for the computing thread alone, as `answers`."""
        return self.served.answer(lambda place_map: place_map.model)

    def answers(
        self, model: PlaceModel, rows_QD: NDArray[np.float32], photos: PhotoList, failed: dict[str, str]
    ) -> list[Any]:
        """An answer for each photo; those that `model` cannot describe are in `failed`, key -> reason."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class LocateQuestion(Question):
    """Where were photos taken?"""

    k: int = 5
    """Places that are told, at most."""
    verify: str = "auto"
    """Local features by which answers are verified."""
    only: Filter | None = None
    """Which photos of the map may be answers."""

    @property
    def group(self) -> Hashable:
        """Photos of the same map and options."""
        return self.served.name, self.k, self.verify, self.only

    @property
    def together(self) -> bool:
        """Whether the map is so large that one search for several photos is much faster."""
        served = self.served
        return len(served.reader) * served.model.descriptor_size > SMALL

    def answers(
        self, model: PlaceModel, rows_QD: NDArray[np.float32], photos: PhotoList, failed: dict[str, str]
    ) -> list[dict[str, Any]]:
        """An answer for each photo, for JSON."""
        return self.served.answer(lambda place_map: self._located(place_map, model, rows_QD, photos, failed))

    def _located(
        self,
        place_map: PlaceMap,
        model: PlaceModel,
        rows_QD: NDArray[np.float32],
        photos: PhotoList,
        failed: dict[str, str],
    ) -> list[dict[str, Any]]:
        if place_map.model is not model:  # built anew from another one since they were described
            rows_QD, failed = described(place_map.model, photos, len(photos))
        good = [row for row, photo in enumerate(photos) if photo.key not in failed]
        located = iter(
            place_map.locate_descriptors(
                rows_QD[good], photos.take(good), k=self.k, verify=self.verify, only=self.only
            )
            if good
            else ()
        )
        answers = [
            next(located)
            if photo.key not in failed
            else Answer(photo.key, photo.path, (), 0.0, False, failed=failed[photo.key])
            for photo in photos
        ]
        return [answer_fields(answer, self.served.name) for answer in answers]


@dataclass(frozen=True, slots=True, eq=False)
class Described:
    """A photo's descriptor, or why it has none."""

    model: PlaceModel
    """What described it; the map may be made anew of another one at any time."""
    row_D: NDArray[np.float32]
    reason: str | None
    """Why it has none."""


@dataclass(frozen=True, slots=True)
class DescribeQuestion(Question):
    """What are photos' descriptors?"""

    @property
    def group(self) -> Hashable:
        """All of a map's."""
        return "describe", self.served.name

    def answers(
        self, model: PlaceModel, rows_QD: NDArray[np.float32], photos: PhotoList, failed: dict[str, str]
    ) -> list[Described]:
        """Each photo's descriptor, and why it has none."""
        return [
            Described(model, row_D, failed.get(photo.key) or (None if row_D.any() else NO_DESCRIPTOR))
            for row_D, photo in zip(rows_QD, photos, strict=True)
        ]


def described(
    model: PlaceModel, photos: PhotoList, batch_size: int
) -> tuple[NDArray[np.float32], dict[str, str]]:
    """float32 [Q, D], zeros where a photo cannot be described, and key -> reason of those."""
    rows_QD = np.zeros((len(photos), model.descriptor_size), np.float32)
    failed: dict[str, str] = {}
    try:
        return describe(model, photos, batch_size=batch_size, blank_too=True)
    except DejavladError as error:
        if len(photos) == 1:  # of several, each is tried alone
            reason = str(error).partition(f"{photos[0].key!r}: ")
            return rows_QD, {photos[0].key: reason[2] or reason[0]}
    for row in range(len(photos)):
        rows_1D, failures = described(model, photos.take([row]), 1)
        rows_QD[row] = rows_1D[0]
        failed |= failures
    return rows_QD, failed


def answer_fields(answer: Answer, map_name: str) -> dict[str, Any]:
    """An answer for JSON, as `dejavlad locate --json` tells it, but for paths on this machine.

    Args:
        answer: of a photo whose name is a number, a slash and the name that its sender gave.
        map_name: the map that was asked.
    """
    fields = answer.to_dict()
    del fields["path"]
    fields["name"] = answer.name.partition("/")[2]
    fields["map"] = map_name
    for match, shown in zip(answer.matches, fields["matches"], strict=True):
        del shown["path"]
        shown["id"] = photo_id(match.name)
        shown["image"] = image_address(map_name, shown["id"])
    return fields
