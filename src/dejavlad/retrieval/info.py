"""What is in a map, in figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from dejavlad.failures import failures_dict, failures_text
from dejavlad.model import PlaceModel
from dejavlad.photo import PhotoList


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
    names: tuple[str, ...]
    """The photos' keys."""

    @classmethod
    def of(cls, folder: Path, model: PlaceModel, photos: PhotoList, failed: Mapping[str, str]) -> Self:
        """Count what is there."""
        return cls(
            str(folder),
            model.name,
            model.fingerprint,
            model.descriptor_size,
            len(photos),
            sum(position is not None for position in photos.positions),
            dict(failed),
            sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
            tuple(photos.keys),
        )

    def to_dict(self, *, names: bool = False) -> dict[str, Any]:
        """For JSON; with the photos' names where asked for."""
        told = asdict(self) | failures_dict(self.failed)
        if not names:
            del told["names"]
        return told

    def __str__(self) -> str:
        lines = [
            f"{self.folder}: {self.photos} photos, {self.with_position} with a position, "
            f"{len(self.failed)} left out" + (f" ({failures_text(self.failed)})" if self.failed else ""),
            f"model {self.model}, {self.dims} dims, {self.bytes / 1e6:.1f} MB on disk",
        ]
        return "\n".join(lines)
