"""A dataset of one's own as a small TOML file says it::

    database = "pitts30k_imageNames_index.txt"      # a folder, a list, a CSV file of positions, a video
    queries = "pitts30k_imageNames_query.txt"
    truth = "pitts30k_test.npz"                     # as --truth: frames:2, positions:25, FILE.npz, FILE.mat
    root = "/data/pittsburgh"                       # that paths in the lists are relative to
    positions = "auto"                              # as --positions; "none" where truth is given
    name = "pitts30k"

All but the first two may be left out; paths are relative to where the file lies. Patch-NetVLAD's lists and
truth are opened so. Photos of lists need not be there to score a ranking.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from dejavlad.errors import InputError, MalformedFileError, UnknownNameError
from dejavlad.ground_truth.place import PlaceDataset
from dejavlad.ground_truth.truth import TRUTH_FILE, parse_truth
from dejavlad.guarded.toml_file import parse_toml
from dejavlad.photo import PhotoList
from dejavlad.photo.disk_names import DiskNames
from dejavlad.photo.listing import read_text
from dejavlad.positions.assign import WORDS

KEYS = ("name", "root", "database", "queries", "truth", "positions")

OpenPhotos = Callable[[Path, Path | None, str | Path | None], PhotoList]
"""(Path, root, positions) -> the photos."""


def is_toml_dataset(path: str | Path) -> bool:
    """Whether a path is that of such a file: a ``.toml`` file."""
    return Path(path).suffix.lower() == ".toml"


def open_toml_dataset(path: str | Path, root: str | Path | None, open_photos: OpenPhotos) -> PlaceDataset:
    """The dataset that a TOML file describes.

    Args:
        root: the folder that paths in lists are relative to, instead of what the file says.

    Raises:
        InputError: the file cannot be used, or what it names.
        UnknownNameError: it says something that does not exist.
    """
    path = Path(path)
    description = _read(path)
    folder = path.parent
    base = None if root is None else Path(root)
    if root is None and "root" in description:
        base = _lies(folder, description["root"])
    positions = description.get("positions", "none" if "truth" in description else "auto")
    if positions not in WORDS:
        positions = str(_lies(folder, positions))
    database, queries = (
        open_photos(_lies(folder, description[part]), base, positions) for part in ("database", "queries")
    )
    name = description.get("name", path.stem)
    if "truth" not in description:
        return PlaceDataset(name, database, queries)
    text = description["truth"]
    truth = parse_truth(str(_lies(folder, text)) if TRUTH_FILE.match(text) else text, database, queries)
    return PlaceDataset(name, database, queries, truth, text)


def _lies(folder: Path, text: str) -> Path:
    """What a path in the file means, which may have been written on Windows or in another Unicode form."""
    if (folder / text).exists():
        return folder / text
    return folder / (DiskNames(folder).find(text) or text.replace("\\", "/"))


def _read(path: Path) -> dict[str, str]:
    try:
        description: dict[str, Any] = parse_toml(read_text(path))
    except MalformedFileError as error:
        raise InputError(f"{str(path)!r} cannot be read as a dataset: {error}") from None
    for key, value in description.items():
        if key not in KEYS:
            raise UnknownNameError(f"setting in {path}", key, KEYS)
        if not isinstance(value, str) or not value.strip():
            raise InputError(f"{str(path)!r}: {key} is a text; given {value!r}")
    for key in ("database", "queries"):
        if key not in description:
            raise InputError(f"{str(path)!r} does not say {key}: a folder, a list or a video of its photos")
    return description
