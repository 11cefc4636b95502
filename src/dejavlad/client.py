"""The service's HTTP interface (`dejavlad serve`) from Python, by the standard library alone.

::

    from dejavlad.client import Client

    client = Client("http://localhost:8000")
    (answer,) = client.locate(["where.jpg"], k=3)
    answer["known"], answer["confidence"], answer["position"]

What comes back are the documents of ``docs/http.md``, as typed dictionaries. A client keeps one connection:
use one client a thread.
"""

from __future__ import annotations

import http.client
import secrets
import select
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, NotRequired, Self, TypedDict, cast
from urllib.parse import quote, urlencode, urlsplit

from dejavlad.errors import DejavladError, InputError, MalformedFileError
from dejavlad.guarded.json_file import parse_json_object
from dejavlad.guarded.plain_file import read_bytes

Image = str | Path | bytes
"""A photo: a file, or the content of one."""
MOST_BYTES: Final = 512 << 20
"""Bytes of an answer, at most."""


class ServiceError(DejavladError):
    """The service refused, or cannot be reached.

    Args:
        status: of HTTP; 0 where it cannot be reached.
        reason: one line.
        retry_after: seconds after which it may do, where it says so.
    """

    def __init__(self, status: int, reason: str, retry_after: float | None = None) -> None:
        self.status, self.reason, self.retry_after = status, reason, retry_after
        super().__init__(f"the service answers {status}: {reason}" if status else reason)


class Position(TypedDict):
    """Where a photo was taken, in metres; in degrees too where the zone is known."""

    east: float
    north: float
    zone: str | None
    lat: NotRequired[float]
    lon: NotRequired[float]


class Match(TypedDict):
    """A photo of the map that looks like the query."""

    id: str
    name: str
    score: float
    distance: float
    inliers: int | None
    position: Position | None
    image: str


class Answer(TypedDict):
    """Where one photo was taken."""

    name: str
    map: str
    known: bool
    confidence: float
    reason: str
    position: Position | None
    uncertainty_m: float | None
    matches: list[Match]
    failed: str | None
    blank: bool
    searched: NotRequired[dict[str, Any]]
    """With a filter: how many photos of the map could be answers, and of how many that is not known."""


class Description(TypedDict):
    """The descriptor of one photo."""

    name: str
    descriptor: list[float] | None
    failed: str | None


class Pair(TypedDict):
    """What two photos have in common."""

    query: str
    candidate: str
    same_place: bool
    confidence: float
    score: float
    reason: str
    inliers: int
    tried: int
    points: list[int]
    features: str
    sizes: list[list[int]]
    pairs: list[list[float]]
    model: dict[str, Any]
    blank: dict[str, str]


class MapFields(TypedDict):
    """A map of the service."""

    name: str
    photos: int
    with_position: int
    model: str
    fingerprint: str
    dims: int
    bbox: list[float] | None
    degrees: bool
    change: int
    writable: bool


class MapPhoto(TypedDict):
    """A photo of a map."""

    id: str
    name: str
    position: Position | None
    heading: float | None
    time: float | None
    group: str | None
    tags: list[str]
    image: str


class Job(TypedDict):
    """A change of a map, under way or done."""

    id: str
    map: str
    state: Literal["queued", "running", "done", "failed"]
    what: str
    done: int
    steps: int
    total: int
    added: list[dict[str, str]]
    failed: dict[str, str]
    error: dict[str, Any] | None
    address: NotRequired[str]
    """Where to ask how it goes; of the answer to `Client.add`."""


class Client:
    """A service.

    Args:
        address: as ``http://localhost:8000``.
        token: the secret, where the service wants one.
        timeout: seconds without any answer after which a call gives up.

    Raises:
        InputError: the address is none, or a photo cannot be read.
        ServiceError: of each call: the service refuses, or cannot be reached.
    """

    def __init__(
        self, address: str = "http://localhost:8000", *, token: str | None = None, timeout: float = 130.0
    ) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
            raise InputError(f"address {address!r}: give http://HOST:PORT")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, parts.port, timeout=timeout)
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self.address = address.rstrip("/")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def locate(
        self,
        photos: Sequence[Image],
        *,
        map: str | None = None,
        k: int = 5,
        verify: str = "auto",
        **filters: str,
    ) -> list[Answer]:
        """Where were photos taken? One answer for each, in order.

        Args:
            photos: files, or contents of files.
            map: the map's name; may be left out where the service has one.
            k: places to tell, at most.
            verify: by which local features answers are verified.
            filters: ``near``, ``after``, ``before``, ``heading``, as the command writes them.
        """
        options = {"map": map, "k": k, "verify": verify, **filters}
        return cast("list[Answer]", self._post("/v1/locate", photos, options)["answers"])

    def describe(self, photos: Sequence[Image], *, map: str | None = None) -> list[Description]:
        """Descriptors of photos."""
        return cast("list[Description]", self._post("/v1/describe", photos, {"map": map})["descriptors"])

    def match(
        self,
        query: Image,
        candidate: Image | None = None,
        *,
        map: str | None = None,
        photo: str | None = None,
        verify: str = "auto",
    ) -> Pair:
        """What two photos have in common: of two files, or of a file and the photo of a map.

        Args:
            query: a photo.
            candidate: another; None where `photo` is given.
            map: the map of `photo`.
            photo: the id of a photo of the map.
            verify: by which local features.
        """
        photos = [query] if candidate is None else [query, candidate]
        return cast("Pair", self._post("/v1/match", photos, {"map": map, "photo": photo, "verify": verify}))

    def with_position(
        self, photo: Image, lat: float, lon: float, *, uncertainty_m: float | None = None
    ) -> bytes:
        """A copy of a JPEG with that position in its EXIF."""
        options = {"lat": lat, "lon": lon, "uncertainty_m": uncertainty_m}
        return self._send("POST", "/v1/exif", options, *_form([photo]))

    def maps(self) -> list[MapFields]:
        """The maps of the service."""
        return cast("list[MapFields]", self._get("/v1/maps")["maps"])

    def map(self, name: str) -> MapFields:
        """One map."""
        return cast("MapFields", self._get(f"/v1/maps/{quote(name, safe='')}"))

    def photos(
        self, map: str, *, bbox: tuple[float, float, float, float] | None = None, at_once: int = 200
    ) -> Iterator[MapPhoto]:
        """The photos of a map, in the order in which they came.

        Args:
            map: its name.
            bbox: west, south, east, north; None for all.
            at_once: photos of a request.
        """
        box = None if bbox is None else ",".join(map_(repr, bbox))
        cursor: str | None = None
        while True:
            options = {"limit": at_once, "bbox": box, "cursor": cursor}
            page = self._get(f"/v1/maps/{quote(map, safe='')}/photos", options)
            yield from cast("list[MapPhoto]", page["photos"])
            cursor = page["cursor"]
            if cursor is None:
                return

    def image(self, map: str, photo: str, *, size: int = 640) -> bytes:
        """A small JPEG of a photo of a map."""
        return self._send("GET", f"{_photo_path(map, photo)}/image", {"size": size})

    def add(
        self, map: str, photos: Sequence[Image], *, lat: float | None = None, lon: float | None = None
    ) -> Job:
        """Have photos added to a map; returns at once (see `job`, `wait`).

        Args:
            map: its name.
            photos: files, or contents of files.
            lat: where all of them were taken; None takes what each file tells.
            lon: likewise.
        """
        return cast(
            "Job", self._post(f"/v1/maps/{quote(map, safe='')}/photos", photos, {"lat": lat, "lon": lon})
        )

    def job(self, job: str) -> Job:
        """How a change goes."""
        return cast("Job", self._get(f"/v1/jobs/{quote(job, safe='')}"))

    def wait(self, job: Job, *, seconds: float = 3600.0) -> Job:
        """Wait until a change is done.

        Raises:
            ServiceError: it failed, or takes longer.
        """
        until = time.monotonic() + seconds
        while job["state"] in ("queued", "running"):
            if time.monotonic() > until:
                raise ServiceError(0, f"job {job['id']} takes more than {seconds:g} seconds")
            time.sleep(0.2)
            job = self.job(job["id"])
        if job["error"] is not None:
            raise ServiceError(job["error"]["status"], job["error"]["reason"])
        return job

    def remove(self, map: str, photo: str) -> int:
        """Take a photo out of a map, by its id; returns how many are left."""
        return int(_object(self._send("DELETE", _photo_path(map, photo)))["photos"])

    def _get(self, path: str, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return _object(self._send("GET", path, options))

    def _post(self, path: str, photos: Sequence[Image], options: Mapping[str, Any]) -> dict[str, Any]:
        return _object(self._send("POST", path, options, *_form(photos)))

    def _send(
        self,
        method: str,
        path: str,
        options: Mapping[str, Any] | None = None,
        body: bytes | None = None,
        kind: str | None = None,
    ) -> bytes:
        given = {name: value for name, value in (options or {}).items() if value is not None}
        target = f"{path}?{urlencode(given)}" if given else path
        headers = self._headers | ({} if kind is None else {"Content-Type": kind})
        self._drop_ended()
        try:
            self._connection.request(method, target, body, headers)
            response = self._connection.getresponse()
            content = response.read(MOST_BYTES)
        except TimeoutError:
            self._connection.close()
            raise ServiceError(0, f"{self.address} does not answer in time") from None
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise ServiceError(0, f"{self.address} cannot be reached: {error}") from None
        if response.length:  # bytes that were announced and did not come, or come no more
            self._connection.close()
            raise ServiceError(0, f"the answer of {self.address} broke off, or is too large")
        if response.status < 400:
            return content
        wait = response.headers.get("Retry-After", "")
        raise ServiceError(response.status, _reason(content), float(wait) if wait.isdecimal() else None)

    def _drop_ended(self) -> None:
        """Begin anew where the service has ended the connection meanwhile."""
        sock = self._connection.sock
        if sock is not None and select.select([sock], [], [], 0)[0]:
            self._connection.close()


map_ = map
"""The built-in, whose name methods take for a map of places."""


def _photo_path(map: str, photo: str) -> str:
    return f"/v1/maps/{quote(map, safe='')}/photos/{quote(photo, safe='')}"


def _form(photos: Sequence[Image]) -> tuple[bytes, str]:
    """A multipart body of photos, and its media type."""
    boundary = secrets.token_hex(24)
    pieces = []
    for number, photo in enumerate(photos):
        content = photo if isinstance(photo, bytes) else _content(Path(photo))
        name = f"{number}.jpg" if isinstance(photo, bytes) else Path(photo).name
        shown = name.replace("\\", "_").replace('"', "_").replace("\r", "_").replace("\n", "_")
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="photos"; filename="{shown}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        pieces += [head.encode("utf-8", "replace"), content, b"\r\n"]
    pieces.append(f"--{boundary}--\r\n".encode("ascii"))
    return b"".join(pieces), f"multipart/form-data; boundary={boundary}"


def _content(path: Path) -> bytes:
    try:
        return read_bytes(path)
    except (OSError, MalformedFileError) as error:
        raise InputError(f"the photo {str(path)!r} cannot be read: {error}") from error


def _object(content: bytes) -> dict[str, Any]:
    try:
        return parse_json_object(content)
    except MalformedFileError as error:
        raise ServiceError(0, f"what answers is no dejavlad service: {error}") from None


def _reason(content: bytes) -> str:
    try:
        return str(parse_json_object(content)["error"]["reason"])
    except (ValueError, KeyError, TypeError):
        return content[:200].decode("utf-8", "replace").strip() or "no reason given"
