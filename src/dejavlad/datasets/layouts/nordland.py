"""Nordland (Sunderhauf et al., 2013): one train journey filmed in four seasons, frame by frame aligned.

::

    ROOT/
        summer/images-00202.png ...      (and winter, spring, fall)
        cleanImageNames.txt              the 27,592 frames that are neither of a tunnel nor of a station

The list is Patch-NetVLAD's; its ``nordland_imageNames_index.txt`` does as well, and with it the photos need
not be there to score a ranking. Without a list all frames of the folders count; they must be the same in both
seasons.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dejavlad.errors import InputError
from dejavlad.ground_truth.place import PlaceDataset
from dejavlad.ground_truth.truth import truth_frames
from dejavlad.photo import Photo, PhotoList
from dejavlad.photo.folder import dataset_folder, folder_photos, natural_order
from dejavlad.photo.listing import lines_of, read_text

LISTS = ("cleanImageNames.txt", "nordland_imageNames_index.txt")
"""Lists of the frames that count, in order of preference."""


def open_nordland(
    root: str | Path,
    name: str = "nordland",
    *,
    database: str = "summer",
    queries: str = "winter",
    every: int = 1,
    frames: int = 10,
    part: str | None = None,
) -> PlaceDataset:
    """Two seasons of Nordland.

    The published protocols differ: ``nordland`` is summer against winter, all 27,592 frames within 10;
    ``nordland-2760`` every tenth summer frame against all of winter, within 1.

    Args:
        root: holds a folder a season, or ``nordland`` with these in it.
        database: the season of the database.
        every: only each such frame is a query.
        frames: right is a frame whose number differs by so many, or fewer.
        part: ``test`` of the partitioned dataset of the University of Zaragoza, whose folders are called
            ``summer_images_test``.

    Raises:
        InputError: a season is missing, or the seasons' frames differ.
    """
    root = dataset_folder(root)
    listed = None if part else _listed(root)
    sides = [_season(root, season, part, listed, name) for season in (database, queries)]
    stems = [[photo.name.rpartition(".")[0] for photo in side] for side in sides]
    if stems[0] != stems[1]:
        first = next((a, b) for a, b in zip((*stems[0], ""), (*stems[1], ""), strict=False) if a != b)
        raise InputError(
            f"{name}: the frames of {database} and {queries} should be the same; {database} has "
            f"{len(stems[0])}, {queries} {len(stems[1])}, and first differ {first[0] or 'none'!r} and "
            f"{first[1] or 'none'!r}"
        )
    database_photos = PhotoList(sides[0], root=sides[0].root, name=f"{name}:database")
    query_photos = PhotoList(sides[1][::every], root=sides[1].root, name=f"{name}:queries")
    truth = truth_frames(len(database_photos), len(query_photos), frames, every=every)
    protocol = f"frames:{frames}" if every == 1 else f"frames:{frames}, every {every}th"
    return PlaceDataset(name, database_photos, query_photos, truth, protocol)


def _season(root: Path, season: str, part: str | None, listed: Sequence[str] | None, name: str) -> PhotoList:
    """The frames of a season that count."""
    tails = [season, season.capitalize(), f"{season}/{season}"]
    if part:
        tails = [f"{season}_images_{part}", f"{part}/{season}_images_{part}", f"{part}/{season}"]
    folders = [above / tail for tail in tails for above in (root, root / "nordland")]
    folder = next((folder for folder in folders if folder.is_dir()), None)
    if listed is not None:
        folder = folder or folders[0]
        return PhotoList([Photo(frame, folder / frame) for frame in listed], root=folder)
    if folder is not None:
        return folder_photos(folder)
    raise InputError(f"{name}: {str(root)!r} has no folder {tails[0]!r}, nor has nordland in it")


def _listed(root: Path) -> list[str] | None:
    """The names of the frames that count; None where no list is there."""
    for path in (folder / file for folder in (root, root / "nordland") for file in LISTS):
        if path.is_file():
            names = [line.strip().replace("\\", "/").rpartition("/")[2] for line in lines_of(read_text(path))]
            return natural_order(name for name in names if name)
    return None
