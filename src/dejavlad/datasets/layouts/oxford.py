"""Oxford 5k and Paris 6k (Philbin et al., CVPR 2007 and 2008): photos of buildings, 55 queries with a region.

::

    ROOT/                             photos in any folders below it, as the archives unpack
    ROOT/{any folder}/NAME_query.txt  ``PHOTO x1 y1 x2 y2``: the region of the query, in pixels
                      NAME_good.txt, NAME_ok.txt     photos that are right, one a line
                      NAME_junk.txt                  photos that do not count

A photo of Oxford's queries has ``oxc1_`` before its name. The 20 photos of Paris that cannot be read are left
out, as everyone does. The query's own photo is right where a list names it, as in the original.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from dejavlad.decoders import open_image
from dejavlad.errors import InputError
from dejavlad.ground_truth.place import PlaceDataset
from dejavlad.ground_truth.rules import Listed
from dejavlad.ground_truth.truth import Truth
from dejavlad.names import same_form
from dejavlad.photo import Photo, PhotoList
from dejavlad.photo.folder import dataset_folder, folder_photos
from dejavlad.photo.listing import lines_of, read_text

PREFIX: Final = "oxc1_"
BROKEN: Final = frozenset(
    f"paris_{building}_{number:06d}"
    for building, numbers in {
        "louvre": (136, 146),
        "moulinrouge": (422,),
        "museedorsay": (1059,),
        "notredame": (188,),
        "pantheon": (284, 960, 974),
        "pompidou": (195, 196, 201, 467, 640),
        "sacrecoeur": (299, 330, 353),
        "triomphe": (662, 833, 863, 867),
    }.items()
    for number in numbers
)
"""Photos of Paris that cannot be read (``corrupt.txt`` of its page)."""
LISTS: Final = ("good", "ok", "junk")
"""The lists of a query."""

Crop = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class _Query:
    name: str
    photo: str
    box: tuple[float, float, float, float]
    good: list[str]
    ok: list[str]
    junk: list[str]


def open_oxford(
    root: str | Path, name: str = "oxford5k", *, crop: bool = True, margin: float = 0
) -> PlaceDataset:
    """Oxford 5k or Paris 6k, as published; its measure is mAP.

    Args:
        root: the folder that the archives were unpacked in.
        crop: queries are their regions; whole photos otherwise.
        margin: pixels that a region is made wider and higher by, half on each side, as far as the photo goes
            (NetVLAD's demo: the receptive field of its last convolution, 196).

    Raises:
        InputError: there are no photos or no truth, a file is of another form, two photos share a name, or
            the truth names photos that are not there.
    """
    root = Path(root)
    rows, database = photos_by_stem(root, f"{name}:database", leave_out=BROKEN)
    query_texts = [_read_query(path) for path in _query_files(root)]
    named = {stem for query in query_texts for stem in (query.photo, *query.good, *query.ok, *query.junk)}
    require_there(sorted(named - rows.keys()), len(named), root)
    queries = []
    for query in query_texts:
        photo = database[rows[query.photo]]
        box = region(photo.path, query.box, margin) if crop else None
        queries.append(Photo(photo.name, photo.path, crop=box, group=query.name))
    if not crop and len({photo.key for photo in queries}) < len(queries):
        raise InputError(f"{name}: two queries are regions of one photo; whole photos do not tell them")
    truth = Truth(
        [[rows[stem] for stem in (*query.good, *query.ok)] for query in query_texts],
        len(database),
        Listed("oxford", (("measure", "oxford"), ("crop", crop), ("margin", margin))),
        [[rows[stem] for stem in query.junk] for query in query_texts],
    )
    listed = PhotoList(queries, root=root, name=f"{name}:queries")
    return PlaceDataset(name, database, listed, truth, "good and ok lists")


def photos_by_stem(
    root: Path, name: str, *, leave_out: frozenset[str] = frozenset()
) -> tuple[dict[str, int], PhotoList]:
    """The photos below a folder in the order of their basenames: basename without its ending -> row, and all.

    Raises:
        InputError: no photos, or two share a basename.
    """
    root = dataset_folder(root)
    stems: dict[str, Photo] = {}
    for photo in folder_photos(root, tell=False):
        stem = same_form(photo.name.rsplit("/", 1)[-1].rpartition(".")[0])
        if stem in leave_out:
            continue
        if stem in stems:
            raise InputError(f"{str(root)!r} holds {stem!r} twice: {stems[stem].name!r} and {photo.name!r}")
        stems[stem] = photo
    ordered = sorted(stems)
    photos = PhotoList((stems[stem] for stem in ordered), root=root, name=name)
    return {stem: row for row, stem in enumerate(ordered)}, photos


def require_there(missing: Sequence[str], named: int, root: Path) -> None:
    """Raise InputError for photos that a truth names and that are not there."""
    if missing:
        examples = ", ".join(map(repr, missing[:3])) + (", ..." if len(missing) > 3 else "")
        raise InputError(
            f"{len(missing)} of {named} photos that the truth names are not in {str(root)!r}: {examples}; "
            f"were all archives unpacked?"
        )


def region(path: Path, box: Sequence[float], margin: float = 0, *, first: int = 1) -> Crop:
    """A region as a crop: rounded, widened, and cut to the photo.

    Args:
        path: the photo; its header is read.
        box: x1, y1, x2, y2 in pixels.
        margin: see `open_oxford`.
        first: number of the first pixel: 1 with the last one inside, as MATLAB counts and rounds; 0 with it
            outside, as Pillow does.

    Raises:
        InputError: nothing of the region lies in the photo.
        PhotoError: the photo cannot be read.
    """
    with open_image(path) as image:
        width, height = image.size
    whole = _round if first else round
    left, top = (whole(value - margin / 2) - first for value in box[:2])
    right, bottom = (whole(value + margin / 2) for value in box[2:])
    crop = (max(left, 0), max(top, 0), min(right, width), min(bottom, height))
    if crop[0] >= crop[2] or crop[1] >= crop[3]:
        raise InputError(
            f"the region {', '.join(f'{value:g}' for value in box)} lies outside of {str(path)!r}, which is "
            f"{width} x {height} pixels"
        )
    return crop


def _round(value: float) -> int:
    """Halves away from 0, as MATLAB does."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def _query_files(root: Path) -> list[Path]:
    paths = sorted((path for path in root.rglob("*_query.txt")), key=lambda path: path.name)
    if not paths:
        raise InputError(
            f"{str(root)!r} holds no truth: unpack the archive of ground truth there (NAME_query.txt, "
            "NAME_good.txt, NAME_ok.txt, NAME_junk.txt)"
        )
    for before, other in pairwise(paths):
        if before.name == other.name:
            raise InputError(f"{str(root)!r} holds the truth twice: {str(before)!r} and {str(other)!r}")
    return paths


def _read_query(path: Path) -> _Query:
    name = path.name.removesuffix("_query.txt")
    fields = read_text(path).split()
    try:
        x1, y1, x2, y2 = map(float, fields[1:])
    except ValueError:
        raise InputError(
            f"{str(path)!r} should read 'PHOTO x1 y1 x2 y2'; it reads {' '.join(fields)[:80]!r}"
        ) from None
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        raise InputError(f"{str(path)!r}: a region is of finite numbers")
    files = [path.with_name(f"{name}_{which}.txt") for which in LISTS]
    lists = [[same_form(line) for line in lines_of(read_text(file)) if line.strip()] for file in files]
    return _Query(name, same_form(fields[0]).removeprefix(PREFIX), (x1, y1, x2, y2), *lists)
