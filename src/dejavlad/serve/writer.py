"""Photos added to and removed from maps: one change after the other, in a thread of its own.

A change is one transaction of the map. Whatever ends this process while photos are described, the map is the
old one, and the photos' files lie in ``MAP/photos``, where the same upload takes them up again.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import queue
import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from dejavlad.errors import DejavladError, MalformedFileError, StoreBusyError, UnknownNameError
from dejavlad.files import write_whole
from dejavlad.geo import Position
from dejavlad.guarded.plain_file import read_bytes
from dejavlad.photo import Photo, PhotoList
from dejavlad.places import PlaceMap
from dejavlad.positions import with_positions
from dejavlad.progress import Progress
from dejavlad.serve.limits import Limits
from dejavlad.serve.photo_id import photo_id
from dejavlad.serve.refusal import BUSY_AGAIN, Refusal, refusal_of
from dejavlad.serve.served_map import ServedMap
from dejavlad.serve.uploads import Upload
from dejavlad.storage import one_writer
from dejavlad.storage.photo_blocks import POSITION

FOLDER: Final = "photos"
"""Where in a map's folder photos lie that were added over HTTP."""
ADDED: Final = "added"
"""What their names begin with."""
LONGEST: Final = 180
"""Bytes of a name, so that what is put before and behind it still makes a name (255)."""
REMEMBERED: Final = 256
"""Changes whose outcome is kept."""

log = logging.getLogger("dejavlad.serve")


class Stopped(Exception):
    """The service stops."""


@dataclass(slots=True)
class Job:
    """A change of a map, under way or done."""

    map: str
    """The map's name."""
    total: int
    """Photos that are to be added."""
    id: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    state: str = "queued"
    """``queued``, ``running``, ``done`` or ``failed``."""
    what: str = ""
    """What is being done."""
    done: int = 0
    """Of `total`, or of the steps of `what`."""
    steps: int = 0
    """How many steps `what` has."""
    added: list[dict[str, str]] = field(default_factory=list)
    """Name and id of each photo that is in the map now."""
    failed: dict[str, str] = field(default_factory=dict)
    """Name -> reason, of photos that could not be added."""
    refusal: Refusal | None = None
    """Why the whole change failed."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        fields = {name: getattr(self, name) for name in ("id", "map", "state", "what", "done", "steps")}
        fields |= {"total": self.total, "added": self.added, "failed": self.failed}
        return fields | (self.refusal.to_dict() if self.refusal else {"error": None})


class MapWriter:
    """The thread that changes maps.

    Args:
        limits: of changes that wait.
        batch_size: photos described together.
    """

    def __init__(self, limits: Limits, batch_size: int) -> None:
        self.limits, self.batch_size = limits, batch_size
        self.jobs: dict[str, Job] = {}
        self._queue: queue.Queue[tuple[Job, Callable[[Job], None]] | None] = queue.Queue()
        self._stopping = threading.Event()
        self._busy = threading.Lock()
        self._storing = threading.Lock()  # two uploads of one name must not take the same file
        self._thread = threading.Thread(target=self._run, name="dejavlad-writer", daemon=True)
        self._thread.start()

    def add(self, served: ServedMap, uploads: Sequence[Upload], position: Position | None) -> Job:
        """Have photos added; returns once their files are on the disk.

        Args:
            served: the map.
            uploads: the photos, each decoded once without fault.
            position: where all of them were taken; None takes what each file tells.

        Raises:
            Refusal: too many changes wait (429), another process is changing the map (409), or the files
                cannot be written (507).
        """
        if self._stopping.is_set():
            raise Refusal(503, "the service is stopping", BUSY_AGAIN)
        if self._queue.qsize() >= self.limits.jobs:
            raise Refusal(429, f"{self._queue.qsize()} changes wait already; try again", BUSY_AGAIN)
        if not self._is_running():
            check_free(served)
        try:
            with self._storing:
                stored = [store(served.folder / FOLDER, upload) for upload in uploads]
        except OSError as error:
            log.error("photos cannot be stored: %s", error)
            raise Refusal(507, f"the photos cannot be stored: {error.strerror or error}") from None
        job = Job(served.name, len(uploads))
        while len(self.jobs) >= REMEMBERED:
            self.jobs.pop(next(iter(self.jobs)))
        self.jobs[job.id] = job
        names = {photo.key: upload.name for photo, upload in zip(stored, uploads, strict=True)}
        self._queue.put((job, lambda job: self._add(job, served, stored, names, position)))
        return job

    def remove(self, served: ServedMap, key: str) -> None:
        """Take a photo out of a map; its file goes too where it came over HTTP.

        Raises:
            Refusal: no such photo (404), or the map is being changed (409).
        """
        if not self._busy.acquire(blocking=False):
            raise Refusal(409, "photos are being added; remove this one afterwards", BUSY_AGAIN)
        try:
            place_map = served.writer()
            row = place_map.places_of([key]).get(key)
            if row is None:
                raise Refusal(404, f"the map has no photo {key[:80]!r}")
            path = place_map.snapshot.photo(row).path
            place_map.remove([key])
        except UnknownNameError:
            raise Refusal(404, f"the map has no photo {key[:80]!r}") from None
        except DejavladError as error:
            raise refusal_of(error) from None
        finally:
            self._busy.release()
        if is_ours(served.folder, path):
            with contextlib.suppress(OSError):
                path.unlink()

    def stop(self, seconds: float) -> bool:
        """Give up what is under way, which leaves the maps as they are; whether that was in time."""
        self._stopping.set()
        self._queue.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _is_running(self) -> bool:
        return self._busy.locked() or not self._queue.empty()

    def _run(self) -> None:
        while (entry := self._queue.get()) is not None:
            job, change = entry
            with self._busy:
                job.state = "running"
                try:
                    change(job)
                    job.state = "done"
                except Stopped:
                    job.refusal = Refusal(503, "the service stopped before the photos were added")
                except DejavladError as error:
                    job.refusal = refusal_of(error)
                    if job.refusal.status >= 500:
                        log.error("adding photos failed: %s", error)
                except Refusal as refusal:
                    job.refusal = refusal
                except Exception:
                    log.exception("adding photos failed")
                    job.refusal = Refusal(500, "adding the photos failed; the service's log says why")
                if job.refusal is not None:
                    job.state = "failed"

    def _add(
        self,
        job: Job,
        served: ServedMap,
        stored: Sequence[Photo],
        names: dict[str, str],
        position: Position | None,
    ) -> None:
        def progress(report: Progress) -> None:
            job.what, job.done, job.steps = report.what, report.done, report.total
            if self._stopping.is_set():
                raise Stopped

        if self._stopping.is_set():
            raise Stopped
        place_map = served.writer()
        photos = PhotoList({photo.key: photo for photo in stored}.values(), root=served.folder / FOLDER)
        in_plane = is_in_plane(place_map)
        if position is not None and in_plane:
            raise Refusal(400, "this map's positions are metres of a plane; add photos without lat and lon")
        photos = PhotoList([replace(photo, position=position) for photo in photos], root=photos.root)
        if position is None:
            photos = with_positions(photos, "exif")
            if in_plane:  # degrees and metres of a plane cannot be compared
                photos = PhotoList([replace(photo, position=None) for photo in photos], root=photos.root)
        try:
            place_map.add(photos, batch_size=self.batch_size, on_progress=progress)
        finally:
            self._sort_out(job, served.writer(), photos, names)

    def _sort_out(self, job: Job, place_map: PlaceMap, photos: PhotoList, names: dict[str, str]) -> None:
        """Say what became of each photo; files of those that failed are removed."""
        rows = place_map.places_of(photos.keys)
        for photo in photos:
            if photo.key in rows:
                job.added.append({"name": names[photo.key], "photo": photo.key, "id": photo_id(photo.key)})
            elif photo.key in place_map.failed:
                job.failed[names[photo.key]] = place_map.failed[photo.key]
                with contextlib.suppress(OSError):
                    photo.path.unlink()


def check_free(served: ServedMap) -> None:
    """Raises a Refusal (409) where another process is changing the map."""
    try:
        with one_writer(served.folder):
            pass
    except StoreBusyError as error:
        raise refusal_of(error) from None


def is_in_plane(place_map: PlaceMap) -> bool:
    """Whether positions of the map are metres of a plane rather than of a zone of the earth."""
    numbers = place_map.snapshot.numbers
    known = (numbers["known"] & POSITION) > 0
    return bool((numbers["zone"][known] == b"").any())


def store(folder: Path, upload: Upload) -> Photo:
    """A photo's file, written whole or not at all; another photo of the same name keeps its own.

    For one thread of one process at a time: what a service that was killed left half-written goes first.

    Returns:
        The photo, named below `folder`.
    """
    digest = hashlib.sha256(upload.content).hexdigest()
    (folder / ADDED).mkdir(parents=True, exist_ok=True)
    for left in (folder / ADDED).glob("*.partial"):
        with contextlib.suppress(OSError):
            left.unlink()
    plain = Path(safe_name(upload.name))
    for name in (plain.name, f"{plain.stem}-{digest[:10]}{plain.suffix}"):
        path = folder / ADDED / name
        if not path.exists():
            write_whole(path, upload.content)
            break
        if _holds(path, upload.content):
            break
    else:
        raise OSError(f"{path.name!r} is another photo already")
    return Photo(f"{ADDED}/{path.name}", path)


def _holds(path: Path, content: bytes) -> bool:
    try:
        return read_bytes(path, len(content)) == content
    except MalformedFileError:  # larger, or no regular file
        return False


def safe_name(name: str) -> str:
    """A file name of any system, of the name that a sender gives."""
    kept = "".join(c if c.isalnum() or c in "._- ()" else "_" for c in name).strip(" .")
    stem, dot, ending = kept.rpartition(".")
    stem, ending = (stem, ending) if dot and len(ending) <= 5 else (kept, "jpg")
    reserved = stem.split(".")[0].upper() in {"CON", "PRN", "AUX", "NUL", *(f"COM{i}" for i in range(10))}
    stem = stem[:120].encode("utf-8", "replace")[:LONGEST].decode("utf-8", "ignore")
    return f"{'_' if reserved or not stem else ''}{stem}.{ending}"


def is_ours(folder: Path, path: Path) -> bool:
    """Whether a photo's file was stored by `store`."""
    ours = (folder / FOLDER / ADDED).resolve()
    return path.resolve().parent == ours
