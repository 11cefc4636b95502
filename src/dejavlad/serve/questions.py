"""What is asked about photos: where they were taken, or what their descriptors are."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dejavlad.failures import NO_DESCRIPTOR
from dejavlad.images import Preprocess
from dejavlad.model import PlaceModel
from dejavlad.photo import PhotoList
from dejavlad.places import PlaceMap
from dejavlad.places.answer import Answer
from dejavlad.places.filters import Filter
from dejavlad.serve.inference import described
from dejavlad.serve.photo_id import image_address, photo_id
from dejavlad.serve.served_map import ServedMap

SMALL: Final = 4_000_000
"""Numbers of a map's descriptors up to which photos are answered one by one, each as soon as it can be."""


@dataclass(frozen=True, slots=True)
class _MapQuestion:
    """What is asked of one map."""

    served: ServedMap

    @property
    def preprocess(self) -> Preprocess:
        """How the map's model prepares photos."""
        return self.served.model.preprocess

    def model(self) -> PlaceModel:
        """The map's model."""
        return self.served.answer(lambda place_map: place_map.model)


@dataclass(frozen=True, slots=True)
class LocateQuestion(_MapQuestion):
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


@dataclass(frozen=True, slots=True)
class DescribeQuestion(_MapQuestion):
    """What are photos' descriptors?"""

    @property
    def group(self) -> Hashable:
        """All of a map's."""
        return "describe", self.served.name

    @property
    def together(self) -> bool:
        """Nothing is gained by waiting."""
        return False

    def answers(
        self, model: PlaceModel, rows_QD: NDArray[np.float32], photos: PhotoList, failed: dict[str, str]
    ) -> list[tuple[NDArray[np.float32], str | None]]:
        """Each photo's descriptor, float32 [D], and why it has none."""
        return [
            (row_D, failed.get(photo.key) or (None if row_D.any() else NO_DESCRIPTOR))
            for row_D, photo in zip(rows_QD, photos, strict=True)
        ]


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
