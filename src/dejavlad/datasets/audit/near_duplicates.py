"""Twins: photos that are in the database and among the queries, which make recall look better than it is.

The same bytes are found among all photos, at the cost of a look at each file's size; the same picture, saved
anew or scaled, among the pairs that are given, since every pair must be decoded.

Legend: Q queries, M pairs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dejavlad.decoders import open_image
from dejavlad.errors import PhotoError
from dejavlad.files import sha256_of
from dejavlad.photo import Photo, PhotoList

SIDE = 24
"""Pixels of a small picture, both ways."""
ALIKE = 2.0
"""Grey levels by which the small pictures of twins differ, as a mean, at most."""
FLAT = 4.0
"""Grey levels that a small picture must vary by; darkness and fog are no twins."""

NAMED = 20
"""Twins that are told by name, at most."""

Small = NDArray[np.float32]
Identity = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """A query that the database holds too."""

    query: int
    """The query's row in its list."""
    row: int
    """The row of the database that shows the same picture."""
    same: Literal["bytes", "picture"]
    """The same bytes, or the same picture."""


def find_near_duplicates(
    database: PhotoList, queries: PhotoList, *, pairs: Iterable[tuple[int, int]] = ()
) -> list[NearDuplicate]:
    """Photos of one list that are in the other too.

    Only files of a size that both lists have are read. Files that are not there are no twins.

    Args:
        pairs: (query, row) that are looked at for the same picture too, such as each query's first answer.

    Returns:
        By query, then row; each pair once.
    """
    twins = {(twin.query, twin.row): twin for twin in _same_bytes(database, queries)}
    seen: dict[tuple[str, int], Small | None] = {}

    def small(photos: PhotoList, name: str, row: int) -> Small | None:
        if (name, row) not in seen:
            seen[name, row] = small_picture(photos[row])
        return seen[name, row]

    for query, row in pairs:
        if (query, row) in twins or row < 0:
            continue
        database_small, query_small = small(database, "database", row), small(queries, "queries", query)
        if database_small is not None and query_small is not None and _alike(database_small, query_small):
            twins[query, row] = NearDuplicate(query, row, "picture")
    return [twins[at] for at in sorted(twins)]


def summarize_near_duplicates(
    twins: Iterable[NearDuplicate], database: PhotoList, queries: PhotoList
) -> dict[str, Any]:
    """Twins by name, for ``result.json``: how many queries have one, and the first few."""
    listed = list(twins)
    return {
        "queries": len({twin.query for twin in listed}),
        "bytes": sum(twin.same == "bytes" for twin in listed),
        "pictures": sum(twin.same == "picture" for twin in listed),
        "first": [
            {"query": queries[twin.query].key, "database": database[twin.row].key, "same": twin.same}
            for twin in listed[:NAMED]
        ],
    }


def near_duplicates_text(summary: Mapping[str, Any]) -> str:
    """What `summarize_near_duplicates` tells, in a sentence; empty where there are none."""
    if not summary or not summary["queries"]:
        return ""
    first = summary["first"][0]
    return (
        f"{summary['queries']} queries are in the database too (e.g. {first['query']!r} is "
        f"{first['database']!r}, the same {first['same']}): recall looks better than it is"
    )


def small_picture(photo: Photo) -> Small | None:
    """float32 [24, 24] grey levels of a photo or its crop; None for video frames, views and what is
    unreadable."""
    if photo.view is not None:
        return None
    if photo.pixels is not None:
        pixels = photo.pixels
        if photo.crop is not None:
            left, top, right, bottom = photo.crop
            pixels = pixels[top:bottom, left:right]
        return _reduced(Image.fromarray(pixels).convert("L")) if pixels.size else None
    if photo.frame is not None:
        return None
    try:
        with open_image(photo.path) as image:
            if photo.crop is None:
                image.draft("L", (3 * SIDE, 3 * SIDE))  # JPEG is decoded at up to an eighth of its size
            grey = image.convert("L")
            return _reduced(grey if photo.crop is None else grey.crop(photo.crop))
    except PhotoError:
        return None


def _reduced(grey: Image.Image) -> Small:
    return np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.float32)


def _alike(a: Small, b: Small) -> bool:
    flat = min(float(a.std()), float(b.std())) < FLAT
    return not flat and float(np.abs(a - b).mean()) <= ALIKE


def _same_bytes(database: PhotoList, queries: PhotoList) -> list[NearDuplicate]:
    sizes = [_sizes(photos) for photos in (database, queries)]
    both = set(sizes[0].values()) & set(sizes[1].values())
    digests: dict[str, str | None] = {}
    rows_of: dict[Identity, list[int]] = {}
    for row, size in sizes[0].items():
        if size in both and (identity := _identity(database[row], digests)) is not None:
            rows_of.setdefault(identity, []).append(row)
    twins = []
    for query, size in sizes[1].items():
        if size in both and (identity := _identity(queries[query], digests)) is not None:
            twins += [NearDuplicate(query, row, "bytes") for row in rows_of.get(identity, [])]
    return twins


def _sizes(photos: PhotoList) -> dict[int, int]:
    """Row -> bytes of its file, or of its array; those not there are left out."""
    sizes = {}
    for row, photo in enumerate(photos):
        if photo.pixels is not None:
            sizes[row] = -photo.pixels.size
            continue
        try:
            sizes[row] = photo.path.stat().st_size
        except OSError:
            continue
    return sizes


def _identity(photo: Photo, digests: dict[str, str | None]) -> Identity | None:
    """What twins share: the bytes, and the part of them that is the photo; None where they cannot be read."""
    if photo.pixels is not None:
        digest: str | None = hashlib.sha256(np.ascontiguousarray(photo.pixels).tobytes()).hexdigest()
        return (digest, photo.pixels.shape, photo.part)
    path = str(photo.path)
    if path not in digests:
        try:
            digests[path] = sha256_of(path)
        except OSError:
            digests[path] = None
    digest = digests[path]
    return None if digest is None else (digest, photo.part)
