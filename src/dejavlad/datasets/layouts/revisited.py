"""Revisited Oxford and Paris (Radenovic et al., CVPR 2018): 70 queries each, easy, medium and hard.

::

    ROOT/[roxford5k/]gnd_roxford5k.pkl      a pickle, read without executing it
    ROOT/[roxford5k/]jpg/NAME.jpg           photos, in any folders below

The truth holds ``imlist``, ``qimlist`` and, for each query, ``bbx`` (its region) and the rows ``easy``,
``hard`` and ``junk``. Right are easy; easy and hard (medium); or hard ones, and the others do not count.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from dejavlad.datasets.layouts.oxford import photos_by_stem, region, require_there
from dejavlad.datasets.layouts.plain_pickle import read_pickle
from dejavlad.errors import InputError, UnknownNameError
from dejavlad.ground_truth.place import PlaceDataset
from dejavlad.ground_truth.rules import Listed
from dejavlad.ground_truth.truth import Truth
from dejavlad.names import same_form
from dejavlad.photo import Photo, PhotoList

SETS: Final = ("roxford5k", "rparis6k")
RIGHT: Final = {"easy": ("easy",), "medium": ("easy", "hard"), "hard": ("hard",)}
"""Difficulty -> the lists that are right; the rest does not count."""


def open_revisited(root: str | Path, which: str, difficulty: str, *, name: str) -> PlaceDataset:
    """Revisited Oxford or Paris; its measure is mAP, and mean precision at 1, 5 and 10.

    Args:
        root: the folder that holds the truth and the photos, or that of the set.
        which: a set of `SETS`.
        difficulty: ``easy``, ``medium`` or ``hard``.

    Raises:
        UnknownNameError: no such set or difficulty.
        InputError: the truth is not there, is no such truth, or names photos that are not there.
    """
    for kind, given, valid in (("set", which, SETS), ("difficulty", difficulty, RIGHT)):
        if given not in valid:
            raise UnknownNameError(f"{kind} of revisited Oxford and Paris", given, valid)
    path = _truth_file(Path(root), which)
    truth_lists = read_revisited(path)
    rows, photos = photos_by_stem(path.parent, name)
    named = [*truth_lists["imlist"], *truth_lists["qimlist"]]
    require_there([stem for stem in named if stem not in rows], len(named), path.parent)
    database = PhotoList(
        (photos[rows[stem]] for stem in truth_lists["imlist"]), root=path.parent, name=f"{name}:database"
    )
    queries = [
        Photo(photo.name, photo.path, crop=region(photo.path, lists["bbx"], first=0))
        for stem, lists in zip(truth_lists["qimlist"], truth_lists["gnd"], strict=True)
        for photo in (photos[rows[stem]],)
    ]
    return PlaceDataset(
        name,
        database,
        PhotoList(queries, root=path.parent, name=f"{name}:queries"),
        revisited_truth(truth_lists, difficulty),
        f"revisited, {difficulty}",
    )


def revisited_truth(truth_lists: dict[str, Any], difficulty: str) -> Truth:
    """The truth of one difficulty from what `read_revisited` answers."""
    right = RIGHT[difficulty]
    out = [which for which in ("easy", "hard", "junk") if which not in right]
    return Truth(
        [np.concatenate([lists[which] for which in right]) for lists in truth_lists["gnd"]],
        len(truth_lists["imlist"]),
        Listed("revisited", (("measure", "revisited"), ("difficulty", difficulty))),
        [np.concatenate([lists[which] for which in out]) for lists in truth_lists["gnd"]],
    )


def read_revisited(path: str | Path) -> dict[str, Any]:
    """The truth's ``imlist``, ``qimlist`` and ``gnd`` (rows int64, ``bbx`` float64 [4]).

    Raises:
        InputError: it cannot be read, asks for code to be run, or is of another form.
    """
    content = read_pickle(path)
    try:
        names = {what: [same_form(str(name)) for name in content[what]] for what in ("imlist", "qimlist")}
        lists = [
            {
                "bbx": _numbers(query["bbx"], "f").reshape(4),
                **{which: _numbers(query[which], "i") for which in ("easy", "hard", "junk")},
            }
            for query in content["gnd"]
        ]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(
            f"{str(path)!r} is no truth of revisited Oxford or Paris: {type(error).__name__} {error}"
        ) from error
    if len(lists) != len(names["qimlist"]):
        raise InputError(f"{str(path)!r}: {len(names['qimlist'])} queries, but truth for {len(lists)}")
    most = max(
        (int(query[which].max(initial=-1)) for query in lists for which in ("easy", "hard", "junk")),
        default=-1,
    )
    if most >= len(names["imlist"]):
        raise InputError(f"{str(path)!r}: row {most} is outside of its list of {len(names['imlist'])} photos")
    return {**names, "gnd": lists}


def _numbers(values: Any, kind: str) -> np.ndarray[Any, Any]:
    array = np.asarray(values)
    if array.size and array.dtype.kind not in ("iu" if kind == "i" else "iuf"):
        raise ValueError(f"numbers were expected; given {array.dtype}")
    flat = array.reshape(-1).astype(np.int64 if kind == "i" else np.float64)
    if not np.isfinite(flat).all() or (kind == "i" and flat.size and flat.min() < 0):
        raise ValueError("a number is negative or not finite")
    return flat


def _truth_file(root: Path, which: str) -> Path:
    places = [root / f"gnd_{which}.pkl", root / which / f"gnd_{which}.pkl"]
    for path in places:
        if path.is_file():
            return path
    raise InputError(f"there is no {' and no '.join(repr(str(path)) for path in places)}")
