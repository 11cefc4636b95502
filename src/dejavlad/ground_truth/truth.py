"""What counts as a right answer: for each query the database photos of its place, and those to leave out.

Legend: Q queries, N database photos.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dejavlad.errors import InputError
from dejavlad.geo import Position, Positions
from dejavlad.ground_truth.frames import FORM, FrameRule, frames_of
from dejavlad.ground_truth.netvlad_spec import is_spec, read_netvlad_spec
from dejavlad.ground_truth.row_sets import RowSets, starts_of
from dejavlad.ground_truth.rules import (
    Refinement,
    SameName,
    TruthRule,
    WithinFrames,
    WithinMetres,
    described,
    parsed,
)
from dejavlad.ground_truth.truth_npz import TruthPositions, read_truth_npz
from dejavlad.names import Names, same_form
from dejavlad.photo import Photo, PhotoList
from dejavlad.positions.diagnosis import at_zero, what_is_wrong

FORMS = (
    "frames:2, same-name or positions:25, each with ,leave-one-out where photos are sought among themselves "
    "(frames:2@rows: by rows of the lists, not numbers in names; frames:2+105: queries' numbers 105 more); "
    "or a truth file (.npz of Patch-NetVLAD, .mat of NetVLAD), as FILE.npz or, within 10 m, FILE.npz:10"
)

log = logging.getLogger("dejavlad")

_LEAVE_ONE_OUT = re.compile(r"\s*,\s*leave-one-out\Z")
TRUTH_FILE = re.compile(r"(.+\.(?:npz|mat))(?::(.*))?", re.IGNORECASE | re.DOTALL)
"""A file, and a radius after it; a drive letter's colon stands before the ending."""


class Truth:
    """The right answers of Q queries.

    Args:
        positives: for each query the database rows that are right, in any order.
        n_database: N.
        rule: what counts as right: a typed rule, or a description as results hold it (`rules`).
        ignored: for each query rows that are neither right nor wrong: they are taken out of a ranking before
            counting (and out of the positives).
        groups: whole numbers [N], a database row's group: rows that share one, as the cut-outs of a panorama
            do, count as one answer, the best ranked of them; -1 for a row that stands alone.
        refinements: what was done to the right answers of the rule, in order; of one name the last counts.

    Raises:
        InputError: a row is outside of the database, `ignored` is of another number of queries, or `groups`
            are not N whole numbers of -1 or more.
    """

    def __init__(
        self,
        positives: RowSets | Sequence[ArrayLike],
        n_database: int,
        rule: TruthRule | Mapping[str, Any],
        ignored: RowSets | Sequence[ArrayLike] | None = None,
        groups: ArrayLike | None = None,
        refinements: Sequence[Refinement] = (),
    ) -> None:
        right = positives if isinstance(positives, RowSets) else RowSets.of(positives, n_database)
        out = ignored if ignored is None or isinstance(ignored, RowSets) else RowSets.of(ignored, n_database)
        if out is not None and len(out) != len(right):
            raise InputError(f"{len(right)} queries have positives but {len(out)} have ignored rows")
        self.positives = right if out is None else right.minus(out)
        """Right rows of each query."""
        self.ignored = out
        """Rows of each query that do not count; None where there are none."""
        self.n_database = n_database
        """The number of database photos, N."""
        self.groups = None if groups is None else _groups(groups, n_database)
        """int64 [N], rows of one group count as one answer, -1 stands alone; None where all of them do."""
        given: tuple[Refinement, ...] = ()
        if isinstance(rule, Mapping):
            rule, given = parsed(rule)
        self.rule: TruthRule = rule
        """What counts as right, as a typed rule."""
        by_name = {refinement.name: refinement for refinement in (*given, *refinements)}
        if self.groups is not None:
            by_name["groups"] = Refinement("groups", len(np.unique(self.groups[self.groups >= 0])))
        self.refinements = tuple(by_name.values())
        """What was done to the right answers of the rule, each name once, in order."""

    @property
    def description(self) -> dict[str, Any]:
        """The rule and its refinements as plain data: part of the protocol of results."""
        return described(self.rule, self.refinements)

    @property
    def measure(self) -> str | None:
        """The figure that is published besides recall (`evaluation.average_precision`); None for none."""
        value = self.description.get("measure")
        return None if value is None else str(value)

    @property
    def n_queries(self) -> int:
        """The number of queries, Q."""
        return len(self.positives)

    @property
    def answerable(self) -> NDArray[np.bool_]:
        """bool [Q]: whether a query has any right answer."""
        return np.asarray(self.positives.counts > 0)

    @property
    def n_without_truth(self) -> int:
        """How many queries have no right answer in the database."""
        return int((~self.answerable).sum())

    @cached_property
    def hash(self) -> str:
        """Of what is right and what is left out, not of how it was found; 64 hex digits."""
        digest = hashlib.sha256()
        for sets in (self.positives, self.ignored):
            digest.update(f"{self.n_queries} {self.n_database} {sets is not None};".encode())
            if sets is not None:
                digest.update(sets.starts.astype("<i8").tobytes())
                for rows in sets.blocks:
                    digest.update(rows.astype("<i8").tobytes())
        if self.groups is not None:
            digest.update(b"groups;" + _first_rows(self.groups).astype("<i8").tobytes())
        return digest.hexdigest()

    def grouped(self, groups: ArrayLike | None) -> Truth:
        """The same right answers with other groups of database rows, or (None) with none."""
        others = [refinement for refinement in self.refinements if refinement.name != "groups"]
        return Truth(self.positives, self.n_database, self.rule, self.ignored, groups, others)

    def refined(
        self,
        name: str,
        value: float | int | bool | str,
        *,
        positives: RowSets | None = None,
        ignored: RowSets | None = None,
    ) -> Truth:
        """The same after one more refinement.

        Args:
            name: a key of `rules.REFINEMENTS`.
            positives: the right rows of each query, where these change.
            ignored: the rows of each query that do not count, where these change.
        """
        return Truth(
            self.positives if positives is None else positives,
            self.n_database,
            self.rule,
            self.ignored if ignored is None else ignored,
            self.groups,
            (*self.refinements, Refinement(name, value)),
        )

    def without(self, rows: RowSets, name: str, value: int | bool) -> Truth:
        """The same with further rows left out of the rankings, which the refinement `name` describes."""
        if self.ignored is not None:
            sets = [np.union1d(a, b) for a, b in zip(rows, self.ignored, strict=True)]
            rows = RowSets.of(sets, self.n_database)
        return self.refined(name, value, ignored=rows)

    def __repr__(self) -> str:
        return (
            f"Truth({self.description}, {self.n_queries} queries, {self.n_without_truth} without a right "
            f"answer, database of {self.n_database})"
        )


def truth_frames(n_database: int, n_queries: int, tolerance: int, *, every: int = 1) -> Truth:
    """Right is a database photo whose index is within `tolerance` of the query's, or of `every` times that.

    Raises:
        InputError: the tolerance is negative, or `every` is not 1 or more.
    """
    if tolerance < 0:
        raise InputError(f"frames are right within 0 or more; given {tolerance}")
    if every < 1:
        raise InputError(f"queries are every 1st frame or rarer; given {every}")
    queries = np.arange(n_queries) * every
    low = np.clip(queries - tolerance, 0, n_database)
    high = np.clip(queries + tolerance + 1, 0, n_database)
    starts = starts_of(high - low)
    rows = np.arange(starts[-1]) + np.repeat(low - starts[:-1], high - low)
    return Truth(RowSets(starts, rows, n_database), n_database, WithinFrames(int(tolerance), int(every)))


def truth_frames_of(database: PhotoList, queries: PhotoList, rule: FrameRule) -> Truth:
    """Right is a database photo whose frame number is within the rule's tolerance of the query's.

    Numbers are those in the photos' names (or of video frames), or their rows: see `frames_of`. The
    description tells of numbers only where they make other photos right than rows would.

    Raises:
        InputError: which frames are the same is not known (what `frames_of` refuses).
    """
    frames = frames_of(database, queries, rule)
    by_rows = truth_frames(len(database), len(queries), rule.tolerance)
    if all(
        np.array_equal(numbered, np.arange(len(numbered))) for numbered in (frames.database, frames.queries)
    ):
        return by_rows
    order = np.argsort(frames.database, kind="stable")
    numbers = frames.database[order]
    low = np.searchsorted(numbers, frames.queries - rule.tolerance, "left")
    high = np.searchsorted(numbers, frames.queries + rule.tolerance, "right")
    positives = RowSets.of([order[a:b] for a, b in zip(low, high, strict=True)], len(database))
    if positives == by_rows.positives:
        return by_rows
    by_numbers = WithinFrames(rule.tolerance, by_names=frames.by_name, shift=rule.shift)
    return Truth(positives, len(database), by_numbers)


def truth_same_name(database: PhotoList, queries: PhotoList) -> Truth:
    """Right are database photos of the query's name, its ending left out.

    Names are relative to each list's root; where none agrees, to the folder that holds all photos of a list.
    They are compared as `dejavlad.names` does, whatever their Unicode form.

    Raises:
        InputError: not one name agrees.
    """
    for common in (False, True):
        rows_of: dict[str, list[int]] = {}
        for row, name in enumerate(_stems(database, common)):
            rows_of.setdefault(name, []).append(row)
        rows = list(rows_of.values())
        matches = Names(rows_of).match(_stems(queries, common), what="names of queries")
        positives = [[] if at is None else rows[at] for at in matches]
        if any(positives):
            return Truth(positives, len(database), SameName())
    raise InputError(
        f"no photo of {queries.name} has the name of one of {database.name}; "
        f"e.g. {_first(queries)} and {_first(database)}"
    )


def truth_positions(
    database: PhotoList | Sequence[Position | None],
    queries: PhotoList | Sequence[Position | None],
    radius: float,
) -> Truth:
    """Right are database photos taken at most `radius` metres from the query, across UTM zones.

    Photos without a position are right for no query, and queries without one have no right answer; the
    description says how many there are of each. Where no query has one, a warning says so, and why if a known
    mistake explains it.

    Raises:
        InputError: the radius is negative or not finite, or one list has no position at all.
    """
    database_positions, query_positions = _positions(database), _positions(queries)
    for name, positions in (("database", database_positions), ("queries", query_positions)):
        if len(positions) and not positions.known.any():
            raise InputError(
                f"truth by positions: none of the {len(positions)} photos of the {name} has a position; "
                f"give them with --positions (exif, utm-names or a CSV file)"
            )
    sets = RowSets.of(database_positions.within(query_positions, radius), len(database_positions))
    if len(database_positions) and len(query_positions) and not sets.counts.any():
        here, where = (
            photos.positions if isinstance(photos, PhotoList) else photos for photos in (database, queries)
        )
        why = what_is_wrong(here, where, radius)
        reason = f"; {why}" if why else ""
        log.warning("no query has a photo of the database within %g m%s", radius, reason)
    unknown = [int((~positions.known).sum()) for positions in (database_positions, query_positions)]
    return Truth(sets, len(database_positions), WithinMetres(float(radius), unknown[0], unknown[1]))


def truth_file(
    path: str | Path, database: PhotoList, queries: PhotoList, radius: float | None = None
) -> Truth:
    """Right is what a truth file of Patch-NetVLAD (.npz) or a spec of NetVLAD (.mat) tells.

    Its rows go in the order of the lists. Of a spec the positions and the radius count, not the time stamps.

    Args:
        radius: metres (inclusive) instead of the file's own.

    Raises:
        InputError: the file cannot be used, it is of other numbers of photos, or the radius is none.
    """
    file_truth = read_netvlad_spec(path).truth if is_spec(path) else read_truth_npz(path)
    counted, given = (len(file_truth.database), len(file_truth.queries)), (len(database), len(queries))
    if counted != given:
        turned = " (are the two lists swapped?)" if counted == given[::-1] else ""
        raise InputError(
            f"{str(path)!r} is of {counted[0]} database photos and {counted[1]} queries, the lists hold "
            f"{given[0]} and {given[1]}{turned}; its rows go in the order of the lists"
        )
    if radius is not None:
        file_truth = TruthPositions(file_truth.database, file_truth.queries, radius)
    if (tolerance := file_truth.tolerance) is not None:
        return truth_frames(len(database), len(queries), tolerance)
    database_positions, query_positions = (
        [Position(east, north) for east, north in rows.tolist()]
        for rows in (file_truth.database, file_truth.queries)
    )
    return truth_positions(database_positions, query_positions, file_truth.radius)


def groups_of(photos: PhotoList) -> NDArray[np.int64]:
    """int64 [N], the groups that photos tell (`Photo.group`: a panorama, a place, a drive); -1 for none."""
    numbers: dict[str, int] = {}
    groups = (
        -1 if photo.group is None else numbers.setdefault(photo.group, len(numbers)) for photo in photos
    )
    return np.fromiter(groups, np.int64, len(photos))


def leave_one_out(truth: Truth, database: PhotoList, queries: PhotoList) -> Truth:
    """The same, with each query's own photo (same file, frame, view and crop) left out of its ranking."""
    rows_of: dict[tuple[str, object], list[int]] = {}
    for row, photo in enumerate(database):
        rows_of.setdefault(_identity(photo), []).append(row)
    own = RowSets.of([rows_of.get(_identity(photo), []) for photo in queries], truth.n_database)
    return truth.without(own, "leave_one_out", True)


def parse_truth(text: str, database: PhotoList, queries: PhotoList) -> Truth:
    """Truth as the command writes it.

    Args:
        text: ``frames:N`` (``frames:N@rows``, ``frames:N+SHIFT``), ``same-name``, ``positions:METRES``,
            ``FILE.npz`` or ``FILE.mat`` (either with ``:METRES`` after it, instead of the file's radius);
            ``,leave-one-out`` after it takes each query's own photo out of its ranking.

    Raises:
        InputError: another text, or what `truth_frames_of`, `truth_same_name`, `truth_positions` and
            `truth_file` refuse.
    """
    kind, option = _LEAVE_ONE_OUT.subn("", text.strip())
    if kind.startswith("frames:") and FORM.fullmatch(rule := kind.removeprefix("frames:")):
        truth = truth_frames_of(database, queries, FrameRule.parse(rule))
    elif kind == "same-name":
        truth = truth_same_name(database, queries)
    elif kind.startswith("positions:"):
        truth = truth_positions(database, queries, metres_in(kind.removeprefix("positions:"), text))
    elif match := TRUTH_FILE.fullmatch(kind):
        radius = None if match[2] is None else metres_in(match[2], text)
        truth = truth_file(match[1], database, queries, radius)
    else:
        raise InputError(f"truth {text!r}: valid are {FORMS}")
    return leave_one_out(truth, database, queries) if option else truth


def metres_in(text: str, whole: str) -> float:
    """The distance that a part of a truth's text tells, as ``25`` or ``25m``.

    Raises:
        InputError: it tells none; `whole` is named.
    """
    try:
        radius = float(text.removesuffix("m"))
    except ValueError:
        radius = math.nan
    if not (math.isfinite(radius) and radius >= 0):
        raise InputError(f"truth {whole!r}: {text!r} is not a distance in metres; e.g. positions:25")
    return radius


def _groups(given: ArrayLike, n_database: int) -> NDArray[np.int64]:
    groups = np.asarray(given)
    if groups.shape != (n_database,) or (groups.dtype.kind not in "iu" and n_database):
        raise InputError(
            f"groups are one whole number for each of {n_database} database photos; given {groups.dtype} "
            f"{list(groups.shape)}"
        )
    groups = groups.astype(np.int64)
    if groups.min(initial=-1) < -1:
        raise InputError(f"a group is 0 or more, or -1 for none; given {groups.min()}")
    return groups


def _first_rows(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """[N] the first row of each row's group; -1 stays: the same whatever numbers the groups have."""
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    return np.where(groups < 0, -1, first[inverse])


def _positions(photos: PhotoList | Sequence[Position | None]) -> Positions:
    """Where photos were taken; 0,0, which means none, is not known (`diagnosis.at_zero`)."""
    positions = photos.positions if isinstance(photos, PhotoList) else photos
    zeros = at_zero(positions)
    return Positions.from_list([None if i in zeros else at for i, at in enumerate(positions)])


def _stems(photos: PhotoList, common: bool) -> list[str]:
    names = [same_form(photo.name) for photo in photos]
    folders = [name.rpartition("/")[0] for name in names]
    cut = 0
    if common and folders and all(folders):
        levels = zip(*(folder.split("/") for folder in folders), strict=False)
        shared = takewhile(lambda parts: len(set(parts)) == 1, levels)
        cut = sum(len(parts[0]) + 1 for parts in shared)
    stems = []
    for photo, name in zip(photos, names, strict=True):
        folder, slash, base = name[cut:].rpartition("/")
        stem = base.rpartition(".")[0] or base
        part = replace(photo, view=None).key.removeprefix(photo.name)  # all views of a panorama have its name
        stems.append(folder + slash + stem + part)
    return stems


def _identity(photo: Photo) -> tuple[str, object]:
    pixels = id(photo.pixels) if photo.pixels is not None else 0
    path = photo.name if pixels else os.path.realpath(photo.path)
    return (f"{pixels}:{path}", photo.part)


def _first(photos: PhotoList) -> str:
    return repr(photos[0].key) if len(photos) else "(no photos)"
