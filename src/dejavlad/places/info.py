"""What is in a map, in figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from dejavlad.failures import failures_dict, failures_text
from dejavlad.places.map_folder.index import MANY, IndexHead
from dejavlad.places.map_folder.snapshot import MapSnapshot


@dataclass(frozen=True, slots=True)
class MapInfo:
    """What `PlaceMap.info` tells; `str` of it is for a terminal."""

    folder: str
    model: str
    """The model's name."""
    fingerprint: str
    """The model's fingerprint."""
    dims: int
    """The descriptors' size."""
    photos: int
    """How many photos the map holds."""
    with_position: int
    """How many of them know where they were taken."""
    failed: Mapping[str, str]
    """Key -> reason, of the photos that could not be read, or show nothing."""
    bytes: int
    """Size of the folder on disk."""
    local: str | None
    """Kind of the local features that the map keeps; None where it keeps none."""
    index: Mapping[str, Any]
    """How it is searched: ``kind``, ``wanted``, ``rows`` covered, and the ``audit`` of its recall."""
    read_names: Callable[[], tuple[str, ...]] = field(repr=False, compare=False)
    """Reads the photos' keys, which takes longer the more there are."""

    @property
    def names(self) -> tuple[str, ...]:
        """The photos' keys."""
        return self.read_names()

    @classmethod
    def of(
        cls,
        address: str,
        model: tuple[str, str],
        snapshot: MapSnapshot,
        local: str | None,
        size: int,
        index: IndexHead | None,
    ) -> Self:
        """Put together what is known: the model as its title and fingerprint, the folder's size in bytes."""
        return cls(
            address,
            *model,
            snapshot.head.dims,
            snapshot.head.photos,
            snapshot.head.with_position,
            dict(snapshot.failed),
            size,
            local,
            _index(index),
            lambda: tuple(snapshot.photos.keys),
        )

    def to_dict(self, *, names: bool = False) -> dict[str, Any]:
        """For JSON; with the photos' names where asked for."""
        figures = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "read_names"}
        figures |= failures_dict(self.failed)
        return {**figures, "names": self.names} if names else figures

    def __str__(self) -> str:
        lines = [
            f"{self.folder}: {self.photos} photos, {self.with_position} with a position, "
            f"{len(self.failed)} left out" + (f" ({failures_text(self.failed)})" if self.failed else ""),
            f"model {self.model}, {self.dims} dims, {self.bytes / 1e6:.1f} MB on disk"
            + (f", local features by {self.local}" if self.local else ""),
            index_text(self.index),
        ]
        return "\n".join(lines)


def index_text(index: Mapping[str, Any]) -> str:
    """How a map is searched, in a line."""
    wanted = f" (auto: {MANY:,} photos or more take 1bit)" if index["wanted"] == "auto" else ""
    line = f"index {index['kind']}{wanted}"
    if audit := index["audit"]:
        recalls = ", ".join(f"{name} {audit[name]:.3f}" for name in audit if name.startswith("recall"))
        line += f", {recalls} of {audit['rows']} rows, behind a filter {audit['filtered']:.3f}"
    return line + ("; below --min-recall: searched exactly" if index["refused"] else "")


def _index(head: IndexHead | None) -> dict[str, Any]:
    if head is None:
        return {"kind": "exact", "wanted": "auto", "rows": 0, "audit": {}, "refused": False}
    return {name: getattr(head, name) for name in ("kind", "wanted", "rows", "audit", "refused")}
