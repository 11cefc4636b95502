"""What is in a map, in figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Self

from dejavlad.errors import CheckpointError
from dejavlad.failures import failures_dict, failures_text
from dejavlad.guarded.fields import DAMAGED
from dejavlad.model.spec import WEIGHTS, read_spec
from dejavlad.places.map_folder.features_state import features_setting, features_state
from dejavlad.places.map_folder.index import MANY, IndexHead, MapIndex
from dejavlad.places.map_folder.snapshot import MapSnapshot
from dejavlad.places.map_folder.state import STATE, MapState

MAYBE_DEPENDENT: Final = ("cricavpr", "supervlad")
"""Heads that may be batch-dependent, which is seen once they are made."""


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


def read_info(where: str) -> MapInfo:
    """What is in a map, without opening the model of one that lies in a folder.

    Args:
        where: the map's folder, or the address of a database.

    Raises:
        StoreError: there is no map, it was never finished, or what it says of itself is damaged; weights and
            rows are not read (`map check` reads all).
    """
    folder = Path(where)
    model = _model_of(folder / "model") if (folder / STATE).is_file() else None
    if model is None:
        from dejavlad.places.place_map import PlaceMap

        return PlaceMap.open(where, device="cpu").info()
    snapshot = MapState(folder, 0).snapshot()
    dims = snapshot.head.dims
    state, features = MapState(folder, dims), features_setting(features_state(folder))
    state.validate(snapshot)
    local = None if features is None else str(features["kind"])
    index = MapIndex(folder, dims, model[1]).head()
    return MapInfo.of(str(folder), model, snapshot, local, state.bytes(), index)


def _model_of(folder: Path) -> tuple[str, str] | None:
    """A model's title and fingerprint; None where these are seen only once it is made, or it is damaged."""
    try:
        fields = read_spec(folder)
        if not (folder / WEIGHTS).is_file():
            return None  # opening it says what is wrong
        name, fingerprint = str(fields["name"]), str(fields["fingerprint"])
        return None if fields["aggregation"]["name"] in MAYBE_DEPENDENT else (name, fingerprint)
    except (CheckpointError, *DAMAGED):
        return None


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
