"""INRIA Holidays (Jégou et al., ECCV 2008): 1,491 photos in 500 groups, whose first ones are the queries.

::

    ROOT/jpg/100000.jpg ...             four digits of the group, two of the photo
    ROOT/jpg_rotated/100000.jpg ...     the same, turned upright by hand (Babenko et al., ECCV 2014)

Right are the other photos of the group; the query itself does not count. Published figures are of photos of
at most 1024 x 768 pixels in area.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from dejavlad.datasets.layouts.oxford import photos_by_stem
from dejavlad.errors import InputError
from dejavlad.ground_truth.place import PlaceDataset
from dejavlad.ground_truth.rules import Listed
from dejavlad.ground_truth.truth import Truth
from dejavlad.photo import PhotoList

_NAME: Final = re.compile(r"(\d{4})(\d\d)", re.ASCII)


def open_holidays(root: str | Path, name: str = "holidays", *, rotated: bool = False) -> PlaceDataset:
    """INRIA Holidays; its measure is mAP.

    Args:
        root: the folder that holds ``jpg`` (or ``jpg_rotated``), or that folder itself.
        rotated: the photos turned upright.

    Raises:
        InputError: there are no photos, a name is not of six digits, or a group lacks its query.
    """
    root = Path(root)
    part = "jpg_rotated" if rotated else "jpg"
    folder = root / part if (root / part).is_dir() else root
    if rotated and folder == root and root.name != part:
        raise InputError(f"there is no folder {str(root / part)!r} of upright photos")
    rows, database = photos_by_stem(folder, f"{name}:database")
    groups: dict[str, list[int]] = {}
    queries: dict[str, int] = {}
    for stem, row in rows.items():
        match = _NAME.fullmatch(stem)
        if not match:
            raise InputError(f"{database[row].name!r} in {str(folder)!r} is no name of Holidays (six digits)")
        groups.setdefault(match[1], []).append(row)
        if match[2] == "00":
            queries[match[1]] = row
    if lacking := sorted(groups.keys() - queries.keys()):
        raise InputError(
            f"{len(lacking)} groups in {str(folder)!r} lack their query, first {lacking[0]}00: were all "
            "archives unpacked?"
        )
    truth = Truth(
        [groups[group] for group in queries],
        len(database),
        Listed("holidays", (("measure", "oxford"),)),
        [[row] for row in queries.values()],
    )
    query_photos = PhotoList((database[row] for row in queries.values()), root=folder, name=f"{name}:queries")
    return PlaceDataset(name, database, query_photos, truth, "same group")
