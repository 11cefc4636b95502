"""Datasets laid out as the deep visual geo-localization benchmark does: folders of ``@``-named photos.

::

    ROOT/images/{train|val|test}/
        database/@ east @ north @ ... @.jpg     (SVOX: gallery)
        queries/@ east @ north @ ... @.jpg      (SVOX: also queries_night, ...; SF-XL: queries_v1, ...)

SF-XL says ``processed`` (or ``small``) for ``images``. Names are read by `utm_names`; right is what lies
within 25 m. Photos go in the order of their names, as the benchmark's own programs read them, so that
rankings by row are of the same rows.
"""

from __future__ import annotations

from pathlib import Path

from dejavlad.errors import InputError
from dejavlad.ground_truth.place import PlaceDataset
from dejavlad.ground_truth.truth import truth_positions
from dejavlad.photo import PhotoList
from dejavlad.photo.folder import dataset_folder, first_folder, folder_photos
from dejavlad.positions.assign import from_names
from dejavlad.positions.utm_names import from_utm_name

RADIUS = 25.0
"""Metres within which a photo is right, where a dataset does not say otherwise."""
ABOVE = ("images", "processed", "")
"""Folders below the root that may hold the parts."""
DATABASE = ("database", "gallery")
PARTS = ("train", "val", "test")


def open_vg_benchmark(root: str | Path, part: str, queries: str, *, name: str) -> PlaceDataset:
    """A part of a dataset.

    Args:
        root: the folder that holds ``images``, or a part itself.
        part: the folder of the part, as ``test`` or ``small/val``.
        queries: the folder of the queries in it.

    Raises:
        InputError: a folder is not there or holds no photos, or a name tells no position.
    """
    root = dataset_folder(root)
    places = [root / above / part for above in ABOVE] + [root / part.rpartition("/")[2], root]
    folder = next(
        (place for place in places if first_folder(place, DATABASE) and (place / queries).is_dir()), None
    )
    if folder is None:
        tree = Path("images", part)
        raise InputError(
            f"{name}: {str(root)!r} holds neither {str(tree / 'database')!r} with {str(tree / queries)!r}, "
            "nor these folders themselves"
        )
    return open_part(folder, queries, name)


def open_part(folder: Path, queries: str = "queries", name: str | None = None) -> PlaceDataset:
    """The dataset of a folder that holds ``database`` (or ``gallery``) and queries, ``@``-named.

    Raises:
        InputError: as of `open_vg_benchmark`.
    """
    called = name or folder.name
    database = first_folder(folder, DATABASE)
    if database is None:
        raise InputError(f"{str(folder)!r} holds no folder {' or '.join(DATABASE)}")
    database_photos, query_photos = (
        _named(part, f"{called}:{which}")
        for part, which in ((database, "database"), (folder / queries, "queries"))
    )
    truth = truth_positions(database_photos, query_photos, RADIUS)
    return PlaceDataset(called, database_photos, query_photos, truth, f"positions:{RADIUS:g}")


def is_vg_benchmark(folder: Path) -> bool:
    """Whether the first photo of a folder is ``@``-named."""
    if not folder.is_dir():
        return False
    first = next(iter(folder_photos(folder, tell=False)), None)
    return first is not None and from_utm_name(first) is not None


def _named(folder: Path, called: str) -> PhotoList:
    photos = folder_photos(folder)
    in_order = sorted(photos, key=lambda photo: photo.name)
    return from_names(PhotoList(in_order, root=folder, name=called))
