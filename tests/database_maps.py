"""What tests of maps in databases share: addresses, and photos with all that is known of photos."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dejavlad as dv
from dejavlad.aggregation import GeM
from dejavlad.extraction import PhotoTable
from dejavlad.geo import Position
from dejavlad.model import PlaceModel
from dejavlad.photo import Photo, PhotoList
from dejavlad.places.databases.database_map import ABOUT, DatabaseMap


def small_model() -> PlaceModel:
    """RootSIFT, pooled: nothing to learn."""
    base = dv.load_model("rootsift-vlad", resize="none", device="cpu")
    return PlaceModel(base.backbone, GeM(128), base.preprocess, fitted=True, source=base.source)


@contextmanager
def address_of(kind: str, folder: Path) -> Iterator[str]:
    """An address of LanceDB's, of Qdrant's local mode, or of a server with its ``engine``.

    Skips where the library is not installed.
    """
    if kind == "lance":
        pytest.importorskip("lancedb")
        yield f"lance:{folder / 'db'}"
        return
    pytest.importorskip("qdrant_client")
    if kind == "engine":
        pytest.importorskip("qdrant_edge")
        from small_qdrant import small_qdrant

        with small_qdrant(folder / "engine") as server:
            yield f"qdrant://{server.host}/town"
        return
    from dejavlad.places.databases.qdrant_points import close_local

    yield f"qdrant:{folder / 'db'}/town"
    close_local()


def placed(photos: PhotoList, shift: float = 0.0) -> PhotoList:
    """With positions (one without), headings (one without), times (one without), groups and tags."""
    return PhotoList(
        (
            Photo(
                p.name,
                p.path,
                position=None if i == 4 else Position(500000.0 + 30 * i + shift, 5400000.0, "33N"),
                heading=None if i == 6 else 10.0 * i,
                time=None if i == 7 else 1.5e9 + i,
                group="g" if i % 2 else None,
                tags=("night",) if i == 3 else (),
            )
            for i, p in enumerate(photos)
        ),
        root=photos.root,
    )


def answers(town: dv.PlaceMap, photos: PhotoList, **options: Any) -> list[dict[str, Any]]:
    """What a map says, for comparing."""
    return [answer.to_dict() for answer in town.locate(photos, **options)]


def descriptors_alone(address: str, dims: int = 8, fingerprint: str = "f") -> DatabaseMap:
    """An open map without photos' files and without a model, made if need be."""
    town = DatabaseMap(address)
    about = {"format": "dejavlad-map", "version": 1, "root": "/", "name": "town"}
    town.about = {**about, "dims": dims, "fingerprint": fingerprint}
    town.engine.create({ABOUT: json.dumps(town.about).encode()}, dims)
    return town


def put(town: DatabaseMap, *names: str, value: float = 1.0) -> None:
    """Add photos of one descriptor, in one commit."""
    photos = PhotoList([Photo(name, Path("/photos") / name) for name in names])
    rows = np.full((len(names), town.dims), value, np.float32)
    town.add(PhotoTable.look(photos, lambda _: (0, 0)), rows, np.arange(len(names)), {})
