"""What is wrong with the files of a dataset's lists: missing, misplaced, not listed, there twice."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dejavlad.decoders import ENDINGS
from dejavlad.files import sha256_of
from dejavlad.ground_truth.truth import Truth
from dejavlad.names import same_form
from dejavlad.photo import Photo, PhotoList
from dejavlad.photo.search import passed_over_text

SHOWN = 5
"""How many examples a finding names."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or worth knowing."""

    what: str
    """counts, missing, misplaced, unlisted, links, folders, passed over, unreadable, blank, levels,
    panoramas, duplicates, twins, same file, truth or positions.
    """
    text: str
    """The finding in words, without the name of the list."""
    wrong: bool
    """Whether it is to be mended; else it is only worth knowing."""
    examples: tuple[str, ...] = ()
    """The first of the photos that it is about."""
    do: str = ""
    """What to do about it."""


def files(lists: dict[str, PhotoList], root: Path | None) -> list[Finding]:
    """Photos that are missing or misplaced (looked for below the root), and such as no list names."""
    findings: list[Finding] = []
    listed = {os.path.normcase(photo.path) for photos in lists.values() for photo in photos}
    for name, photos in lists.items():
        findings += _passed_over(name, photos)
        missing = [photo for photo in photos if photo.pixels is None and not photo.path.is_file()]
        unlisted = _unlisted(photos, listed)
        if missing:
            findings += _missing(name, photos, missing, root or photos.root, listed)
        if unlisted:
            text = f"{len(unlisted):,} photos lie among those of {name} that its list does not name"
            findings.append(Finding("unlisted", text, False, tuple(unlisted[:SHOWN])))
    return findings


def _passed_over(name: str, photos: PhotoList) -> Iterator[Finding]:
    """Links to nothing and folders that cannot be read, which are wrong; and what else was passed over."""
    passed = photos.passed_over
    if passed is None:
        return
    if passed.nowhere:
        text = f"{len(passed.nowhere):,} links among the photos of {name} lead to nothing"
        do = "mount or restore what they point to, or take them away"
        yield Finding("links", text, True, passed.nowhere[:SHOWN], do)
    if passed.unreadable:
        text = f"{len(passed.unreadable):,} folders among the photos of {name} cannot be read"
        do = "give yourself the right to read them, if they hold photos"
        yield Finding("folders", text, False, passed.unreadable[:SHOWN], do)
    if others := passed_over_text(replace(passed, nowhere=(), unreadable=())):
        yield Finding("passed over", f"of {name}: {others}", False)


def _missing(
    name: str, photos: PhotoList, missing: list[Photo], root: Path, listed: set[str]
) -> Iterator[Finding]:
    """Those that lie elsewhere or under another ending, and those that do not."""
    beside = {photo.key: other for photo in missing if (other := _other_ending(photo.path))}
    absent = [photo for photo in missing if photo.key not in beside]
    elsewhere = _elsewhere(absent, root, listed) if absent else {}
    for lying, text, do in (
        (
            beside,
            "lie there under another ending",
            "list them as they are, or put them there in the form that the list names",
        ),
        (
            elsewhere,
            "lie in another folder",
            "give the folder that holds them all with --root, or move them there",
        ),
    ):
        if lying:
            examples = tuple(f"{key} -> {path}" for key, path in list(lying.items())[:SHOWN])
            yield Finding("misplaced", f"{len(lying):,} of {name} {text}", True, examples, do)
    gone = [photo.key for photo in absent if photo.key not in elsewhere]
    if gone:
        where = f"{str(photos.root)!r}"
        all_gone = len(gone) == len(photos)
        how_many = f"all {len(gone):,}" if all_gone else f"{len(gone):,} of {len(photos):,}"
        text = f"{how_many} photos of {name}, sought in {where}"
        do = (
            "give their folder with --root, or fetch them; to score a ranking the lists are enough"
            if all_gone
            else "unpack or fetch the dataset again; where the publisher gives checksums, compare them"
        )
        yield Finding("missing", text, True, tuple(gone[:SHOWN]), do)


def _other_ending(path: Path) -> str | None:
    for ending in ENDINGS:
        for other in (ending, ending.upper()):
            if (candidate := path.with_suffix(other)).is_file():
                return str(candidate)
    return None


def _elsewhere(absent: list[Photo], root: Path, listed: set[str]) -> dict[str, str]:
    """Key -> where else below the root a photo of that name lies that no list names; if there is one such."""
    wanted: dict[str, list[str]] = {}
    for photo in absent:
        wanted.setdefault(same_form(photo.path.name), []).append(photo.key)
    places: dict[str, list[str]] = {}
    for folder, _, files in os.walk(root):
        for file in files:
            if (name := same_form(file)) in wanted and os.path.normcase(Path(folder, file)) not in listed:
                places.setdefault(name, []).append(str(Path(folder, file)))
    return {
        keys[0]: places[file][0]
        for file, keys in wanted.items()
        if len(keys) == 1 == len(places.get(file, ()))
    }


def _unlisted(photos: PhotoList, listed: set[str]) -> list[str]:
    """Photos in the folders of a list that no list names."""
    folders = {photo.path.parent for photo in photos if photo.pixels is None and photo.frame is None}
    findings = []
    for folder in sorted(folders):
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            continue
        findings += [
            entry.path
            for entry in entries
            if entry.name.lower().endswith(ENDINGS)
            and Path(entry.path).is_file()  # no link to nothing
            and not entry.name.startswith(".")
            and os.path.normcase(entry.path) not in listed
        ]
    return findings


def doubles(lists: dict[str, PhotoList], truth: Truth | None = None) -> Iterator[Finding]:
    """Photos of which the bytes are the same, in one list or in both; not those that the truth leaves out."""
    files = {
        name: {photo.key: str(photo.path) for photo in photos if photo.pixels is None and photo.frame is None}
        for name, photos in lists.items()
    }
    digests = _digests({path for paths_of in files.values() for path in paths_of.values()})
    marks = {
        name: {key: digests.get(path) for key, path in paths_of.items()} for name, paths_of in files.items()
    }
    for name, paths_of in marks.items():
        first: dict[str, str] = {}
        twice = []
        for key, mark in paths_of.items():
            earlier = key if mark is None else first.setdefault(mark, key)
            if files[name][earlier] != files[name][key]:
                twice.append(f"{earlier} = {key}")
        if twice:
            text = f"{len(twice):,} photos of {name} are there twice, byte for byte"
            yield Finding("duplicates", text, False, tuple(twice[:SHOWN]))
    if len(lists) < 2:
        return
    of_database = {mark: key for key, mark in marks["database"].items() if mark is not None}
    own = set(files["database"].values())
    out = _left_out(lists["database"], lists["queries"], truth)
    same = [key for key, path in files["queries"].items() if path in own and key not in out]
    twins = [
        f"{key} = {of_database[mark]}"
        for key, mark in marks["queries"].items()
        if mark in of_database and files["queries"][key] not in own and mark is not None
    ]
    if same:
        text = f"{len(same):,} queries are photos of the database"
        do = "take a query's own photo, or its time, out of its ranking: by a protocol, or ,leave-one-out"
        yield Finding("same file", text, False, tuple(same[:SHOWN]), do)
    if twins:
        text = f"{len(twins):,} queries are there in the database too, byte for byte"
        do = "recall counts these as found by sight: take them out of one of the lists"
        yield Finding("twins", text, False, tuple(twins[:SHOWN]), do)


def _left_out(database: PhotoList, queries: PhotoList, truth: Truth | None) -> set[str]:
    """Queries whose own photo the truth leaves out of their rankings."""
    if truth is None or truth.ignored is None:
        return set()
    rows = {str(photo.path): row for row, photo in enumerate(database)}
    own = np.array([[rows.get(str(photo.path), -1)] for photo in queries], np.int64).reshape(-1, 1)
    return {queries[i].key for i in np.flatnonzero(truth.ignored.contains(own)[:, 0]).tolist()}


def _digests(paths: set[str]) -> dict[str, str]:
    """Path -> digest of its bytes, of those files of which another has as many bytes."""
    sizes: dict[str, int] = {}
    for path in sorted(paths):
        with suppress(OSError):
            sizes[path] = Path(path).stat().st_size
    shared = {size for size, count in Counter(sizes.values()).items() if size and count > 1}
    digests: dict[str, str] = {}
    for path, size in sizes.items():
        if size in shared:
            with suppress(OSError):
                digests[path] = sha256_of(path)
    return digests
