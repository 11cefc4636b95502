"""The photos of a map, page by page, by box, and by key."""

from __future__ import annotations

import base64
import binascii
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dejavlad.geo import longitudes_latitudes
from dejavlad.photo import Photo
from dejavlad.places import PlaceMap
from dejavlad.places.answer import position_to_dict
from dejavlad.places.verification.points import PointSetting
from dejavlad.serve.photo_id import image_address, key_of, photo_id
from dejavlad.serve.refusal import Refusal

MOST: Final = 500
"""Photos of a page."""
MOST_POINTS: Final = 20_000
"""Photos of the overview."""

Box = tuple[float, float, float, float]
"""West, south, east, north."""


class MapCatalogue:
    """The photos of a map as of one moment.

    Args:
        place_map: the map, refreshed.
    """

    def __init__(self, place_map: PlaceMap) -> None:
        self._map = place_map
        self.snapshot = place_map.snapshot

    def __len__(self) -> int:
        return self.snapshot.head.photos

    @cached_property
    def coordinates(self) -> NDArray[np.float64]:
        """float64 [N, 2]: longitude and latitude, or metres east and north where no zone is known; NaN."""
        return longitudes_latitudes(self.snapshot.positions)

    @property
    def in_degrees(self) -> bool:
        """Whether positions are longitudes and latitudes; metres otherwise."""
        known = self.snapshot.numbers["zone"][~np.isnan(self.coordinates[:, 0])]
        return bool(len(known)) and bool((known != b"").all())

    @property
    def box(self) -> list[float] | None:
        """West, south, east, north of all positions; None where there are none."""
        known = self.coordinates[~np.isnan(self.coordinates[:, 0])]
        if not len(known):
            return None
        return [*known.min(axis=0).tolist(), *known.max(axis=0).tolist()]

    def to_dict(self) -> dict[str, Any]:
        """The map in figures, for JSON."""
        head = self.snapshot.head
        figures = {"photos": head.photos, "with_position": head.with_position, "change": head.change}
        return {**figures, "bbox": self.box, "degrees": self.in_degrees}

    def page(self, map_name: str, cursor: str | None, limit: int, box: Box | None) -> dict[str, Any]:
        """Photos in the order in which they came, how many there are, and where the next ones begin.

        Args:
            map_name: what the map is called in addresses.
            cursor: of the page before; None for the first.
            limit: how many, at most.
            box: where; None for everywhere.

        Raises:
            Refusal: no such cursor (400).
        """
        rows = self._rows(box)
        first = int(np.searchsorted(self.snapshot.places[rows], _place(cursor))) if cursor else 0
        end = first + limit
        return {
            "photos": [photo_fields(self.snapshot.photo(row), map_name) for row in rows[first:end].tolist()],
            "total": len(rows),
            "cursor": _cursor(int(self.snapshot.places[rows[end]])) if end < len(rows) else None,
        }

    def points(self, limit: int, box: Box | None) -> dict[str, Any]:
        """Ids and places of photos with a position, evenly chosen where there are more than `limit`."""
        known = np.flatnonzero(~np.isnan(self.coordinates[:, 0]))
        rows = np.intersect1d(known, self._rows(box))
        if len(rows) > limit:
            rows = rows[np.linspace(0, len(rows) - 1, limit).round().astype(np.int64)]
        chosen = self.coordinates[rows]
        return {
            "ids": [photo_id(self.snapshot.photo(row).key) for row in rows.tolist()],
            "x": np.round(chosen[:, 0], 7).tolist(),
            "y": np.round(chosen[:, 1], 7).tolist(),
            "degrees": self.in_degrees,
            "total": len(known),
        }

    def photo(self, identity: str) -> Photo:
        """The photo of an id.

        Raises:
            Refusal: the map has none (404).
        """
        key = key_of(identity)
        row = self._map.places_of([key]).get(key)
        if row is None:
            raise Refusal(404, f"the map has no photo {key[:80]!r}")
        return self.snapshot.photo(row)

    def readable_photo(self, identity: str) -> Photo:
        """The photo of an id, whose file can be looked for.

        Raises:
            Refusal: the map has none, or its pixels are nowhere (404).
        """
        photo = self.photo(identity)
        if self.snapshot.record(self._map.places_of([photo.key])[photo.key]).identity[2]:
            raise Refusal(404, "this photo was given as an array, whose pixels the map does not keep")
        return photo

    def setting(self, verify: str) -> PointSetting:
        """How photos are compared with those of the map: as its answers are verified."""
        return self._map.chosen_points(PointSetting(verify))

    def _rows(self, box: Box | None) -> NDArray[np.int64]:
        if box is None:
            return np.arange(len(self), dtype=np.int64)
        west, south, east, north = box
        x, y = self.coordinates.T
        across = (x >= west) & (x <= east) if west <= east else (x >= west) | (x <= east)
        return np.flatnonzero(across & (y >= south) & (y <= north))


def photo_fields(photo: Photo, map_name: str) -> dict[str, Any]:
    """What is told of a photo of a map, for JSON."""
    identity = photo_id(photo.key)
    return {
        "id": identity,
        "name": photo.key,
        "position": position_to_dict(photo.position),
        "heading": photo.heading,
        "time": photo.time,
        "group": photo.group,
        "tags": list(photo.tags),
        "image": image_address(map_name, identity),
    }


def _cursor(place: int) -> str:
    return base64.urlsafe_b64encode(str(place).encode("ascii")).decode("ascii").rstrip("=")


def _place(cursor: str) -> int:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        if len(text) > 18 or not text.isdigit():
            raise ValueError
        return int(text)
    except (binascii.Error, ValueError):
        raise Refusal(400, f"cursor {cursor[:40]!r}: give the one that the page before told") from None
