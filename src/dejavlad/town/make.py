"""Make a town on disk.

::

    OUT/town.json                                    what it was made with
    OUT/{train,val,test}/truth.csv                   where each photo truly was taken, and its panorama
    OUT/{train,val,test}/{database,queries}/positions.csv
    OUT/{train,val,test}/{database,queries}/DRIVE/NUMBER_VIEW.jpg

Each photo is made from the seed and its own name alone, so any number of processes gives the same bytes, and
what an interrupted run has left is kept.
"""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import cv2

from dejavlad.errors import InputError, StoreMismatchError
from dejavlad.files import naming
from dejavlad.guarded.json_file import read_json_object
from dejavlad.progress import OnProgress, Progress, silent
from dejavlad.town.drives import VIEWS, Stop, photo, plan_drives, stops_of

VERSION = 1
"""Of what photos look like: a town made by another version is not continued."""

SHARES = {"train": 0.4, "val": 0.2, "test": 0.4}
APART = 5000.0
"""Metres from one part's district to the next."""

FEWEST, SMALLEST = 60, 48


@dataclass(frozen=True)
class Job:
    """One panorama to be taken."""

    folder: str
    seed: int
    stop: Stop
    length: float
    size: tuple[int, int]

    @property
    def files(self) -> list[Path]:
        """The files that its views are written to, one a view."""
        drive = self.stop.drive
        part = "queries" if drive.queries else "database"
        folder = Path(self.folder, drive.part, part, drive.look)
        return [folder / f"{self.stop.number:04d}_{view}.jpg" for view in range(VIEWS)]


def make_town(
    out: str | Path,
    *,
    photos: int = 1000,
    size: tuple[int, int] = (240, 320),
    seed: int = 0,
    workers: int = 0,
    on_progress: OnProgress = silent,
) -> Path:
    """Make a town's photos, as files, in parts that lie kilometres apart.

    Run again after an interruption, it makes what is missing and ends with the same bytes.

    Args:
        out: the folder, made if it is not there.
        photos: how many in all, rounded to whole panoramas of 4.
        size: (height, width) of the photos in pixels.
        seed: another seed, another town; 0 or more.
        workers: processes beside this one; 0 for none. The bytes do not depend on it.
        on_progress: told after every panorama.

    Returns:
        The folder.

    Raises:
        InputError: too few photos, too small ones, or a folder that holds something else.
        StoreMismatchError: there is a town in that folder, made with other settings.
    """
    _check(photos, size, seed, workers)
    out = Path(out)
    panoramas = round(photos / VIEWS)
    made_with = {
        "version": VERSION,
        "photos": panoramas * VIEWS,
        "height": size[0],
        "width": size[1],
        "seed": seed,
    }
    _claim(out, made_with)
    numbers = {part: round(panoramas * share) for part, share in SHARES.items()}
    numbers["train"] += panoramas - sum(numbers.values())
    jobs: list[Job] = []
    for part, number in numbers.items():
        length, drives = plan_drives(seed, part, number)
        stops = [stop for drive in drives for stop in stops_of(seed, drive, length)]
        jobs += [Job(str(out), seed, stop, length, size) for stop in stops]
    for folder in {file.parent for job in jobs for file in job.files}:
        folder.mkdir(parents=True, exist_ok=True)
    _take(jobs, workers, on_progress)
    for part in numbers:
        _write_tables(out, part, [job for job in jobs if job.stop.drive.part == part])
    return out


def _check(photos: int, size: tuple[int, int], seed: int, workers: int) -> None:
    if photos < FEWEST:
        raise InputError(f"a town has {FEWEST} photos or more; given {photos}")
    if len(size) != 2 or min(size) < SMALLEST or max(size) > 4096:
        raise InputError(f"photos are {SMALLEST} to 4096 pixels high and wide; given {size[0]} by {size[-1]}")
    if seed < 0:
        raise InputError(f"a seed is 0 or more; given {seed}")
    if workers < 0:
        raise InputError(f"workers are 0 or more; given {workers}")


def _claim(out: Path, made_with: dict[str, int]) -> None:
    """Write the settings before any photo, or compare them with those that are there."""
    path = out / "town.json"
    if path.is_file():
        try:
            existing = read_json_object(path)
        except (OSError, ValueError) as error:
            raise InputError(f"{str(path)!r} is not the settings of a town: {error}") from error
        if existing != made_with:
            changed: dict[str, tuple[object, object]] = {
                key: (existing.get(key), now) for key, now in made_with.items() if existing.get(key) != now
            }
            raise StoreMismatchError(path, changed or {"settings": (existing, made_with)})
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{str(out)!r} is there and is no town; give a new or an empty folder")
    out.mkdir(parents=True, exist_ok=True)
    _write(path, (json.dumps(made_with, indent=1) + "\n").encode())


def _take(jobs: list[Job], workers: int, on_progress: OnProgress) -> None:
    """Take the panoramas that are missing, neighbours together, so that what they show is painted once."""
    missing = [job for job in jobs if not all(file.is_file() for file in job.files)]
    total, done = len(jobs) * VIEWS, (len(jobs) - len(missing)) * VIEWS
    already = done
    on_progress(Progress("making the town", done, total, already))
    missing.sort(key=lambda job: (job.stop.drive.part, job.stop.drive.stops[job.stop.number] // 50))
    batches = [missing[start : start + 8] for start in range(0, len(missing), 8)]
    for finished in _work(batches, workers):
        done += finished * VIEWS
        on_progress(Progress("making the town", done, total, already))


def _work(batches: list[list[Job]], workers: int) -> Iterator[int]:
    """Numbers of panoramas, as they are finished."""
    if workers == 0 or len(batches) < 2:
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)
        try:
            for batch in batches:
                for job in batch:
                    yield _panorama([job])
        finally:
            cv2.setNumThreads(threads)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        min(workers, len(batches)), mp_context=context, initializer=cv2.setNumThreads, initargs=(1,)
    ) as pool:
        waiting = {pool.submit(_panorama, batch) for batch in batches}
        try:
            while waiting:
                ready, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in ready:
                    yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _panorama(batch: list[Job]) -> int:
    for job in batch:
        for view, file in enumerate(job.files):
            if file.is_file():
                continue
            image, quality = photo(job.seed, job.stop, view, job.length, job.size)
            good, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
            if not good:
                raise InputError(f"a photo of {job.size[0]} by {job.size[1]} pixels could not be encoded")
            _write(file, data.tobytes())
    return len(batch)


def _write(path: Path, data: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    with naming(path):
        partial.write_bytes(data)
        os.replace(partial, path)


def _write_tables(out: Path, part: str, jobs: list[Job]) -> None:
    east, north = 10_000.0 + APART * list(SHARES).index(part), 20_000.0
    truth: list[tuple[object, ...]] = []
    noted: dict[str, list[tuple[object, ...]]] = {"database": [], "queries": []}
    for job in jobs:
        stop = job.stop
        folder = "queries" if stop.drive.queries else "database"
        group = f"{folder}/{stop.drive.look}/{stop.number:04d}"
        for file, heading in zip(job.files, stop.headings, strict=True):
            name, turned = f"{stop.drive.look}/{file.name}", f"{heading:.1f}"
            x, y = (f"{a + b:.2f}" for a, b in zip(stop.noted, (east, north), strict=True))
            noted[folder].append((name, x, y, turned, stop.time))
            true = f"{stop.east + east:.3f}", f"{stop.north + north:.3f}"
            truth.append((f"{folder}/{name}", *true, turned, group))
    for folder, rows in noted.items():
        _table(out / part / folder / "positions.csv", "name,east,north,heading,time", rows)
    _table(out / part / "truth.csv", "name,east,north,heading,panorama", truth)


def _table(path: Path, head: str, rows: list[tuple[object, ...]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head.split(","))
    writer.writerows(rows)
    _write(path, text.getvalue().encode())
