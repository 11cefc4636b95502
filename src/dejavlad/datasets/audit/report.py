"""Whether a dataset is whole: its counts, its photos (there, readable, once each), truth and positions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dejavlad.datasets.audit.files import SHOWN, Finding, doubles, files
from dejavlad.datasets.card import Published
from dejavlad.errors import BlankPhotoError, InputError
from dejavlad.ground_truth.place import PlaceDataset
from dejavlad.ground_truth.rules import WithinMetres
from dejavlad.ground_truth.truth import Truth
from dejavlad.photo import Photo, PhotoList
from dejavlad.positions.diagnosis import out_of_place, what_is_wrong
from dejavlad.positions.panorama import tagged_panoramas
from dejavlad.progress import OnProgress, Progress, silent

Read = Callable[[Photo], object]
"""Decodes a photo (`dejavlad.images.read_image`); raises InputError for one that cannot be."""
Stretch = Callable[[Photo], tuple[float, float] | None]
"""The range that a photo of more than 8 bits is stretched from (`dejavlad.images.read_stretch`), if it is."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """Which photos are decoded to see whether they can be, and how."""

    read: Read | None = None
    """Decodes a photo; None: none is decoded."""
    stretch: Stretch | None = None
    """Tells of photos of more than 8 bits; None: these are not looked for."""
    sample: int | None = None
    """So many of each list, evenly spread; None: all of them."""
    workers: int = 2
    """Threads that decode."""
    on_progress: OnProgress = silent
    """Told of each photo that was decoded."""

    def __post_init__(self) -> None:
        if self.sample is not None and self.sample < 1:
            raise InputError(f"1 photo or more of each list is decoded; given {self.sample}")


@dataclass(frozen=True, slots=True)
class Checked:
    """What `check_dataset` and `check_photos` report about a dataset or a list of photos."""

    name: str
    """The name of the dataset, or of the list of photos."""
    lists: dict[str, int]
    """List -> how many photos it names."""
    looked_at: int
    """How many photos were decoded."""
    findings: tuple[Finding, ...]
    """What was noticed: errors first, then remarks."""

    @property
    def whole(self) -> bool:
        """Whether no finding is an error; remarks may remain."""
        return not any(finding.wrong for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data for JSON, with ``whole`` added."""
        return {**asdict(self), "whole": self.whole}

    def __str__(self) -> str:
        counts = ", ".join(f"{count:,} photos in {name}" for name, count in self.lists.items())
        lines = [f"{self.name}: {counts}; {self.looked_at:,} decoded"]
        for finding in self.findings:
            lines.append(f"{'WRONG' if finding.wrong else 'note '}  {finding.what}: {finding.text}")
            if finding.examples:
                lines.append(f"       e.g. {', '.join(map(repr, finding.examples))}")
            if finding.do:
                lines.append(f"       {finding.do}")
        lines.append("whole" if self.whole else "not whole")
        return "\n".join(lines)


def check_dataset(
    dataset: PlaceDataset,
    decoding: Decoding = Decoding(),
    *,
    published: Published | None = None,
    root: str | Path | None = None,
) -> Checked:
    """Look at a dataset's files.

    Args:
        published: what it should hold.
        root: the folder below which misplaced photos are looked for; the lists' own unless given.
    """
    lists = {"database": dataset.database, "queries": dataset.queries}
    more = [*_counts(dataset, published), *_truth(dataset)]
    return _checked(dataset.name, lists, decoding, more, dataset.truth, None if root is None else Path(root))


def check_photos(photos: PhotoList, decoding: Decoding = Decoding()) -> Checked:
    """Look at the files of one list."""
    lists = {photos.name: photos}
    return _checked(photos.name, lists, decoding, list(_places(lists)))


def _checked(
    name: str,
    lists: dict[str, PhotoList],
    decoding: Decoding,
    more: list[Finding],
    truth: Truth | None = None,
    root: Path | None = None,
) -> Checked:
    """What is found in the files of some lists, and `more`; errors first."""
    undecodable, looked_at = _decoded(lists, decoding)
    findings = [*files(lists, root), *undecodable, *_panoramas(lists), *doubles(lists, truth), *more]
    findings.sort(key=lambda finding: not finding.wrong)
    return Checked(name, {key: len(photos) for key, photos in lists.items()}, looked_at, tuple(findings))


def _counts(dataset: PlaceDataset, published: Published | None) -> Iterator[Finding]:
    if published is None:
        return
    right = None if dataset.truth is None else int(dataset.truth.positives.counts.sum())
    counts = {"database": len(dataset.database), "queries": len(dataset.queries), "right answers": right}
    should = {
        "database": published.database,
        "queries": published.queries,
        "right answers": published.positives,
    }
    differ = [
        f"{counts[what]:,} in place of {count:,} {what}"
        for what, count in should.items()
        if count is not None and counts[what] is not None and counts[what] != count
    ]
    if differ:
        text = f"{'; '.join(differ)} ({published.source})"
        do = "use the published lists, or another name for results: published numbers are of other photos"
        yield Finding("counts", text, published.sure, do=do)
    elif any(count is not None for count in should.values()):
        yield Finding("counts", f"as published ({published.source})", False)


def _truth(dataset: PlaceDataset) -> Iterator[Finding]:
    truth = dataset.truth
    yield from _places({"database": dataset.database, "queries": dataset.queries})
    if truth is None:
        yield Finding("truth", "not known: give --truth when you evaluate", False)
        return
    if truth.n_queries and not truth.answerable.any():
        radius = truth.rule.radius_m if isinstance(truth.rule, WithinMetres) else 25.0
        why = what_is_wrong(dataset.database.positions, dataset.queries.positions, radius)
        yield Finding("truth", "no query has a right answer" + (f"; {why}" if why else ""), True)
    elif truth.n_without_truth:
        yield Finding(
            "truth",
            f"{truth.n_without_truth:,} of {truth.n_queries:,} queries have no right answer",
            False,
            tuple(dataset.queries[int(row)].key for row in np.flatnonzero(~truth.answerable)[:SHOWN]),
        )


def _places(lists: dict[str, PhotoList]) -> Iterator[Finding]:
    for name, photos in lists.items():
        for note in photos.notes:
            yield Finding("positions", note, False)
        positions = photos.positions
        lacking = [photo.key for photo, at in zip(photos, positions, strict=True) if at is None]
        if lacking and len(lacking) < len(photos):
            text = f"{len(lacking):,} of {len(photos):,} photos of {name} have none"
            yield Finding("positions", text, False, tuple(lacking[:SHOWN]))
        if far := out_of_place(positions):
            yield Finding(
                "positions",
                f"{len(far)} of {name} are over 1,000 km from the others",
                True,
                tuple(photos[row].key for row in far[:SHOWN]),
                "are their latitude and longitude swapped, or is their zone wrong?",
            )


def _panoramas(lists: dict[str, PhotoList]) -> Iterator[Finding]:
    for name, photos in lists.items():
        if panoramas := tagged_panoramas(photos):
            yield Finding(
                "panoramas",
                f"{name} holds equirectangular panoramas of 360 degrees",
                False,
                tuple(panoramas[:SHOWN]),
                "cut them into views with --panorama 12, which photos match better",
            )


def _stretched(ranges: dict[str, dict[str, tuple[float, float]]], looked_at: Counter[str]) -> list[Finding]:
    findings = []
    for name, levels in ranges.items():
        low, high = min(low for low, _ in levels.values()), max(high for _, high in levels.values())
        text = (
            f"{len(levels):,} of {looked_at[name]:,} photos of {name} have more than 8 bits and use few of "
            f"their levels, {low:,.6g} to {high:,.6g} in all: each is stretched from its own lowest to its "
            f"own highest number"
        )
        do = f"to read all alike, make the map with --levels LOW,HIGH ({low:g},{high:g} holds all of these)"
        findings.append(Finding("levels", text, False, tuple(list(levels)[:SHOWN]), do))
    return findings


def _decoded(lists: dict[str, PhotoList], decoding: Decoding) -> tuple[list[Finding], int]:
    """What decoding photos shows, and how many were decoded."""
    read, stretch = decoding.read, decoding.stretch
    if read is None:
        return [], 0
    chosen = [(name, photo) for name, photos in lists.items() for photo in _spread(photos, decoding.sample)]
    chosen = [(name, photo) for name, photo in chosen if photo.pixels is not None or photo.path.is_file()]

    def look(item: tuple[str, Photo]) -> InputError | tuple[float, float] | None:
        """Why it cannot be used; else the range that it is stretched from, if it is."""
        try:
            read(item[1])
            return None if stretch is None else stretch(item[1])
        except InputError as error:
            return error

    ranges: dict[str, dict[str, tuple[float, float]]] = {}
    broken: dict[str, list[str]] = {}
    empty: dict[str, list[str]] = {}
    with ThreadPoolExecutor(max(1, decoding.workers)) as pool:
        for done, ((name, photo), seen) in enumerate(zip(chosen, pool.map(look, chosen), strict=True), 1):
            if isinstance(seen, BlankPhotoError):
                empty.setdefault(name, []).append(f"{photo.key}: {seen.reason}")
            elif isinstance(seen, InputError):
                broken.setdefault(name, []).append(str(seen))
            elif seen is not None:
                ranges.setdefault(name, {})[photo.key] = seen
            decoding.on_progress(Progress("decoding photos", done, len(chosen)))
    do = "fetch these again: a photo that is cut short is a download that broke off"
    findings = [
        Finding("unreadable", f"{len(why):,} of {name}", True, tuple(why[:SHOWN]), do)
        for name, why in broken.items()
    ]
    findings += [
        Finding(
            "blank",
            f"{len(why):,} of {name} show nothing: they are left out of maps and rankings",
            False,
            tuple(why[:SHOWN]),
        )
        for name, why in empty.items()
    ]
    return findings + _stretched(ranges, Counter(name for name, _ in chosen)), len(chosen)


def _spread(photos: PhotoList, sample: int | None) -> list[Photo]:
    if sample is None or sample >= len(photos):
        return list(photos)
    return [photos[int(row)] for row in np.linspace(0, len(photos) - 1, sample).round()]
