"""Image pairs for other tools: each query with its best map photos, in the tool's own form.

========  =================================================================================
kapture   ``query, map`` a line under two lines of comment; Patch-NetVLAD's predictions
hloc      ``query map`` a line
colmap    ``query map`` a line, a COLMAP list of pairs to match
msls      ``key ref1 ref2 ...``, a line a query, for mapillary_sls's ``evaluate.py``
========  =================================================================================

All but kapture part names by spaces and know no quoting.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from dejavlad.errors import InputError, UnknownNameError
from dejavlad.evaluation.predictions import (
    FILE,
    FIRST_FILE,
    RERANKED_FILE,
    Answers,
    read_predictions,
    write_answers,
    write_lines,
)
from dejavlad.names import same_form

_ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,4}\Z")
"""An image's ending; what follows the point of a time stamp is not one."""


def read_answers(sources: Sequence[str | Path]) -> dict[str, list[str]]:
    """The answers of predictions files, one after the other.

    Args:
        sources: files in kapture's form, or results folders (``predictions.txt`` in them, else
            ``PatchNetVLAD_predictions.txt``, else ``NetVLAD_predictions.txt``).

    Raises:
        InputError: no source, one cannot be read, a folder holds none of these files, or two sources answer
            the same query.
    """
    if not sources:
        raise InputError("give predictions in kapture's form, or results folders")
    joined: dict[str, list[str]] = {}
    before: set[str] = set()
    for source in sources:
        answers = read_predictions(_file(Path(source)))
        both = [query for query in answers if same_form(query) in before]
        if both:
            raise InputError(
                f"{len(both)} queries of {str(source)!r} are answered in a source before it too, "
                f"first {both[0]!r}"
            )
        before.update(map(same_form, answers))
        joined.update(answers)
    return joined


def in_folders(answers: Answers, queries: str = "", database: str = "") -> dict[str, list[str]]:
    """The same with folders before the names, for tools that know one root for all photos."""
    ahead, behind = (folder.rstrip("/") + "/" if folder else "" for folder in (queries, database))
    return {ahead + query: [behind + name for name in names] for query, names in answers.items()}


def write_pairs(path: str | Path, answers: Answers, form: str, *, top: int | None = None) -> Path:
    """Write the pairs in a tool's form; the file is replaced whole, queries without an answer have no line.

    Args:
        path: the file.
        answers: query -> map photos, best first.
        form: a name in `FORMS`.
        top: answers a query, at most; all unless given.

    Raises:
        UnknownNameError: no such form.
        InputError: `top` is below 1, there is no pair, or names that the form cannot tell (spaces; equal
            basenames in msls).
    """
    if form not in FORMS:
        raise UnknownNameError("form of pairs", form, FORMS)
    if top is not None and top < 1:
        raise InputError(f"--top {top}: give 1 or more")
    cut = {query: names[:top] for query, names in answers.items() if names}
    if not cut:
        raise InputError("there are no pairs: no query has an answer")
    return FORMS[form](Path(path), cut)


def count_pairs(answers: Answers, top: int | None = None) -> int:
    """How many pairs `write_pairs` writes."""
    return sum(len(names[:top]) for names in answers.values())


def _kapture(path: Path, answers: Answers) -> Path:
    return write_answers(path, answers)


def _hloc(path: Path, answers: Answers) -> Path:
    _refuse(_spaced(_all_names(answers)), "hold a space", "hloc")
    return write_lines(path, _pair_lines(answers))


def _colmap(path: Path, answers: Answers) -> Path:
    _refuse(_spaced(_all_names(answers)), "hold a space", "colmap")
    _refuse([query for query in answers if query.startswith("#")], "begin with #, a comment", "colmap")
    return write_lines(path, _pair_lines(answers))


def _msls(path: Path, answers: Answers) -> Path:
    """Equivalent to ``convert_kapture_to_msls.py`` of Patch-NetVLAD, for any ending (there: .jpg alone).

    The reader, ``numpy.loadtxt``, takes # for a comment and wants as many answers in each line.
    """
    key_of_query = _keys(answers)
    key_of = _keys(dict.fromkeys(name for names in answers.values() for name in names))
    keys = [*key_of_query.values(), *key_of.values()]
    _refuse(_spaced(keys), "hold a space", "msls")
    _refuse([key for key in keys if "#" in key], "hold a #, a comment", "msls")
    depths = {len(names) for names in answers.values()}
    if len(depths) > 1:
        raise InputError(
            f"the msls form needs as many answers to each query; here are {min(depths)} to {max(depths)}: "
            f"give --top {min(depths)}"
        )
    return write_lines(
        path,
        (
            " ".join([key_of_query[query], *(key_of[name] for name in names)]) + "\n"
            for query, names in answers.items()
        ),
    )


FORMS: Final[Mapping[str, Callable[[Path, Answers], Path]]] = {
    "hloc": _hloc,
    "kapture": _kapture,
    "colmap": _colmap,
    "msls": _msls,
}
"""Name of a form -> what writes it."""


def _file(source: Path) -> Path:
    if not source.is_dir():
        return source
    for name in (FILE, RERANKED_FILE, FIRST_FILE):
        if (source / name).is_file():
            return source / name
    raise InputError(
        f"the folder {str(source)!r} holds none of {FILE}, {RERANKED_FILE} and {FIRST_FILE}; "
        f"dejavlad evaluate writes them"
    )


def _pair_lines(answers: Answers) -> Iterator[str]:
    return (f"{query} {name}\n" for query, names in answers.items() for name in names)


def _all_names(answers: Answers) -> Iterable[str]:
    return dict.fromkeys([*answers, *(name for names in answers.values() for name in names)])


def _spaced(names: Iterable[str]) -> list[str]:
    return [name for name in names if name.split() != [name]]


def _refuse(names: Sequence[str], why: str, form: str) -> None:
    if names:
        raise InputError(
            f"{len(names)} names {why}, first {names[0]!r}: the {form} form cannot tell them; "
            f"rename these photos, or use --format kapture"
        )


def _keys(names: Iterable[str]) -> dict[str, str]:
    """Name -> its basename without ending; refuses two names of one basename."""
    keys = {name: _ENDING.sub("", name.rsplit("/", 1)[-1]) or name for name in names}
    first: dict[str, str] = {}
    for name, key in keys.items():
        if (other := first.setdefault(key, name)) != name:
            raise InputError(
                f"the msls form keeps basenames only, and {other!r} and {name!r} would both be {key!r}"
            )
    return keys
