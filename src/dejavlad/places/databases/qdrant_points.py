"""A map in Qdrant: on a server, or in a folder by the client's local mode. No other file imports its client.

A photo is a point: its descriptor as the vector (Euclidean distance), its columns (`columns`) as payload,
``location`` for Qdrant's geo filters. Two more collections hold local features (``NAME-features``) and
documents (``NAME-documents``), as payload in base64.

Qdrant counts no commits: a reader sees photos of a change that is under way, each whole. There is no checksum
of a change either, so a writer that is killed leaves what it wrote, and its next run adds the rest. Each
change ends with a new mark among the documents, by which readers see that the map is another one now.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import hashlib
import itertools
import os
import threading
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import DejavladError, MissingExtraError, StoreBusyError, StoreError, first_line
from dejavlad.guarded.fields import DAMAGED
from dejavlad.guarded.json_file import parse_json_object
from dejavlad.places.address import Address
from dejavlad.places.databases.columns import COLUMNS, Columns, filled

AT_ONCE: Final = 256
"""Points of a request."""
PART: Final = 4 << 20
"""Bytes of a document that share a point."""
CHANGE: Final = "change"
"""The document that is another after each change."""
MAKER: Final = "maker"
"""The point that tells whose documents count; never written again."""
TIMEOUT: Final = 60
"""Seconds that a request may take."""

_LOCAL: dict[str, Any] = {}

Floats = NDArray[np.float32]


def import_qdrant() -> tuple[Any, Any]:
    """The client's module and its models.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import qdrant_client
        from qdrant_client import models
    except ImportError:
        raise MissingExtraError("a map in Qdrant", "qdrant") from None
    return qdrant_client, models


class QdrantPoints:
    """A map in a collection of Qdrant (a `dejavlad.places.databases.engine.MapEngine`).

    Args:
        address: the collection.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        module, self._models = import_qdrant()
        host, _, self.name = address.place.rpartition("/")
        with self._translated():
            if address.text.startswith("qdrant://"):
                self._client = module.QdrantClient(
                    url=server_url(host),
                    api_key=os.environ.get("QDRANT_API_KEY") or None,
                    timeout=TIMEOUT,
                    check_compatibility=False,
                )
            else:
                self._client = local_client(module, host)

    def documents(self, names: Sequence[str]) -> dict[str, bytes]:
        """Documents by name, of those that are there; none where there is no map."""
        parts: dict[str, list[tuple[int, bytes]]] = {}
        with self._translated():
            if not self._client.collection_exists(self._documents):
                return {}
            maker = self._maker()
            for name in names:
                for point in self._scroll(self._documents, self._matching("name", [name])):
                    if point.payload.get("maker") in (None, maker):
                        data = base64.b64decode(point.payload["data"])
                        parts.setdefault(name, []).append((int(point.payload["part"]), data))
        return {name: b"".join(data for _, data in sorted(kept)) for name, kept in parts.items()}

    def create(self, documents: Mapping[str, bytes], dims: int) -> bool:
        """Make an empty map. False where another writer was first: its documents count, which say so last."""
        if self.documents(list(documents)):
            return False
        models = self._models
        with self._translated():
            for name, size in ((self.name, dims), (self._features, 1), (self._documents, 1)):
                if not self._client.collection_exists(name):
                    vectors = models.VectorParams(size=size, distance=models.Distance.EUCLID)
                    try:
                        self._client.create_collection(name, vectors_config=vectors)
                    except Exception:
                        if not self._client.collection_exists(name):  # else another writer was first
                            raise
            if self.address.text.startswith("qdrant://"):
                for field, kind in (("key", "keyword"), ("location", "geo"), ("time", "float")):
                    self._client.create_payload_index(self.name, field, field_schema=kind)
        maker = uuid.uuid4().hex
        for name, content in documents.items():
            self.put_document(name, content, maker)
        self._put(self._documents, [(MAKER, {"maker": maker})], None, again=False)
        with self._translated():
            return self._maker() == maker

    def _maker(self) -> str | None:
        """Whose documents count, of all that made the map; None where none has, or of earlier versions."""
        points = self._client.retrieve(self._documents, [point_id(MAKER)], with_payload=True)
        return str(points[0].payload["maker"]) if points else None

    def put_document(self, name: str, content: bytes, maker: str | None = None) -> None:
        """Write a document anew; of one that makes the map, beside those of others."""
        points = [
            (
                f"{maker or ''}{name}/{i}",
                {"name": name, "part": i, "data": base64.b64encode(content[at : at + PART]).decode()}
                | ({"maker": maker} if maker else {}),
            )
            for i, at in enumerate(range(0, max(1, len(content)), PART))
        ]
        self._put(self._documents, points, None, at_once=1)

    def view(self) -> QdrantView:
        """The table as it is now, or as of the address's version."""
        return QdrantView(self)

    def find(self, keys: Sequence[str]) -> Columns:
        """The rows of some keys, as `MapView.columns` gives them."""
        with self._translated():
            points = [
                point
                for i in range(0, len(keys), AT_ONCE)
                for point in self._client.retrieve(
                    self.name, [point_id(key) for key in keys[i : i + AT_ONCE]], with_payload=True
                )
            ]
        return self.columns_of(points)

    def next_row(self) -> int:
        """The next number for a row."""
        return max((int(point.payload["row"]) for point in self.points(["row"])), default=-1) + 1

    def upsert(self, columns: Columns, vectors_MD: Floats) -> None:
        """Write rows, all finite; those of the same keys are replaced. Each point is whole or not there."""
        points = []
        for i, key in enumerate(columns["key"]):
            payload = {name: columns[name][i] for name in COLUMNS if columns[name][i] is not None}
            points.append((key, with_location(payload)))
        self._put(self.name, points, vectors_MD)
        self._changed()

    def correct(self, facts: Mapping[str, Mapping[str, Any]]) -> None:
        """Key -> columns to write anew, of rows that are still there."""
        with self._translated():
            for key, values in facts.items():
                known = {name: value for name, value in values.items() if value is not None}
                gone = [name for name, value in values.items() if value is None]
                if "lat" not in known:
                    gone.append("location")
                self._client.set_payload(self.name, with_location(known), points=[point_id(key)], wait=True)
                if gone:
                    self._client.delete_payload(self.name, gone, points=[point_id(key)], wait=True)
        self._changed()

    def delete(self, keys: Sequence[str]) -> None:
        """Take rows out by key; one commit."""
        self._delete(self.name, keys)
        self._changed()

    def change(self) -> int:
        """Another after each change, also where someone else adds or removes points."""
        mark = self.documents([CHANGE]).get(CHANGE, b"")
        with self._translated():
            count = int(self._client.count(self.name, exact=True).count)
        return int.from_bytes(hashlib.sha256(b"%s/%d" % (mark, count)).digest()[:8], "big") >> 1

    def feature_marks(self) -> dict[str, int]:
        """Key -> checksum of the vector that local features belong to, of all that are kept."""
        with self._translated():
            return {
                point.payload["key"]: int(point.payload["mark"])
                for point in self._scroll(self._features, None, ["key", "mark"])
            }

    def features(self, keys: Sequence[str]) -> dict[str, tuple[int, bytes]]:
        """Key -> mark and record."""
        with self._translated():
            points = self._client.retrieve(self._features, [point_id(key) for key in keys], with_payload=True)
        return {
            point.payload["key"]: (int(point.payload["mark"]), base64.b64decode(point.payload["record"]))
            for point in points
        }

    def put_features(self, records: Mapping[str, tuple[int, bytes]]) -> None:
        """Write local features; those of the same keys are replaced."""
        points = [
            (key, {"key": key, "mark": mark, "record": base64.b64encode(record).decode()})
            for key, (mark, record) in records.items()
        ]
        self._put(self._features, points, None, at_once=32)

    def drop_features(self, keys: Sequence[str]) -> None:
        """Forget local features."""
        self._delete(self._features, keys)

    def size(self) -> int:
        """Bytes that it takes, as far as is known: the descriptors alone, as Qdrant does not tell."""
        with self._translated():
            count = int(self._client.count(self.name, exact=True).count)
            info = self._client.get_collection(self.name)
        return 4 * count * int(info.config.params.vectors.size)

    def versions(self) -> list[tuple[int, float]]:
        """No version: Qdrant keeps none that could be opened."""
        return []

    def points(self, payload: list[str] | bool, *, vectors: bool = False) -> Iterator[Any]:
        """All points of the map."""
        with self._translated():
            yield from self._scroll(self.name, None, payload, vectors)

    def retrieve(self, ids: Sequence[int]) -> Iterator[Any]:
        """Points with their vectors."""
        for first in range(0, len(ids), AT_ONCE):
            batch = list(ids[first : first + AT_ONCE])
            with self._translated():
                yield from self._client.retrieve(self.name, batch, with_payload=False, with_vectors=True)

    def columns_of(self, points: Sequence[Any]) -> Columns:
        """The columns of points."""
        columns: Columns = {"id": np.array([point.id for point in points], np.uint64)}
        for name in COLUMNS:
            columns[name] = filled(name, [point.payload.get(name) for point in points])
        if any(not isinstance(key, str) for key in columns["key"]):
            raise StoreError(f"{self.address} was changed by someone else: a point has no key; build it anew")
        return columns

    def _changed(self) -> None:
        self.put_document(CHANGE, uuid.uuid4().bytes)

    @property
    def _features(self) -> str:
        return f"{self.name}-features"

    @property
    def _documents(self) -> str:
        return f"{self.name}-documents"

    def _put(
        self,
        collection: str,
        points: Sequence[tuple[str, dict[str, Any]]],
        vectors_MD: Floats | None,
        *,
        at_once: int = AT_ONCE,
        again: bool = True,
    ) -> None:
        """Write points; those that are there are replaced, or (not `again`) stay."""
        models = self._models
        options = {} if again else {"update_mode": models.UpdateMode.INSERT_ONLY}
        with self._translated():
            for first in range(0, len(points), at_once):
                batch = points[first : first + at_once]
                rows = [[1.0]] * len(batch)
                if vectors_MD is not None:
                    rows = vectors_MD[first : first + at_once].tolist()
                structs = [
                    models.PointStruct(id=point_id(key), vector=row, payload=payload)
                    for (key, payload), row in zip(batch, rows, strict=True)
                ]
                self._client.upsert(collection, structs, wait=True, **options)

    def _delete(self, collection: str, keys: Sequence[str]) -> None:
        with self._translated():
            for first in range(0, len(keys), AT_ONCE):
                ids = [point_id(key) for key in keys[first : first + AT_ONCE]]
                self._client.delete(collection, self._models.PointIdsList(points=ids), wait=True)

    def _matching(self, field: str, values: Sequence[str]) -> Any:
        models = self._models
        match = models.MatchAny(any=list(values))
        return models.Filter(must=[models.FieldCondition(key=field, match=match)])

    def _scroll(
        self, collection: str, wanted: Any, payload: list[str] | bool = True, vectors: bool = False
    ) -> Iterator[Any]:
        offset = None
        while True:
            points, offset = self._client.scroll(
                collection,
                scroll_filter=wanted,
                limit=AT_ONCE,
                offset=offset,
                with_payload=payload,
                with_vectors=vectors,
            )
            yield from points
            if offset is None:
                return

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """The client's errors in one line each."""
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="(?s).*[Ll]ocal.*", category=UserWarning)
                warnings.filterwarnings("ignore", message=".*insecure connection", category=UserWarning)
                yield
        except (DejavladError, GeneratorExit, MemoryError):
            raise
        except Exception as error:  # httpx's, the client's own, or pydantic's
            text = reason_of(error)
            if "already accessed" in str(error):
                raise StoreBusyError(self.address.text) from error
            if "Connection refused" in text or "Name or service" in text or "timed out" in text:
                raise StoreError(f"cannot reach {self.address}: {text}; is Qdrant running there?") from error
            if "401" in text or "403" in text:
                raise StoreError(
                    f"cannot use {self.address}: access is refused; look at QDRANT_API_KEY"
                ) from error
            raise StoreError(f"cannot use {self.address}: {text}") from error


class QdrantView:
    """The collection as it is at each reading (a `dejavlad.places.databases.engine.MapView`)."""

    made = ""

    def __init__(self, points: QdrantPoints) -> None:
        self._points = points

    @property
    def version(self) -> int:
        """Another after each change; counts commits where the database does."""
        return self._points.change()

    def columns(self) -> Columns:
        """All rows but their vectors and what follows from other columns, and ``id`` (uint64 [M])."""
        return self._points.columns_of(list(self._points.points(True)))

    def vectors(self, ids: NDArray[np.uint64] | None = None) -> Iterator[tuple[NDArray[np.uint64], Floats]]:
        """Parts of all rows, or of those of these ids, in any order: ids [n], vectors float32 [n, D]."""
        if ids is None:
            points: Iterator[Any] = self._points.points(False, vectors=True)
        else:
            points = self._points.retrieve(ids.tolist())
        while batch := list(itertools.islice(points, AT_ONCE)):
            rows = np.array([point.vector for point in batch], np.float32)
            yield np.array([point.id for point in batch], np.uint64), rows


def reason_of(error: Exception) -> str:
    """Why a request failed, in one line: the server's own words where it gave some."""
    text = first_line(error)
    body = getattr(error, "content", None)  # of what the client calls an unexpected response
    if isinstance(body, bytes):
        with contextlib.suppress(*DAMAGED):
            words = parse_json_object(body)["status"]["error"]
            return f"{text}: {first_line(words)}" if isinstance(words, str) else text
    return text


def server_url(host: str) -> str:
    """Where a server answers: ``qdrant://HOST[:PORT]``, by HTTPS where ``QDRANT_HTTPS`` is 1."""
    name = host.removeprefix("qdrant://")
    scheme = "https" if os.environ.get("QDRANT_HTTPS") == "1" else "http"
    return f"{scheme}://{name}" + ("" if ":" in name else ":6333")


def local_client(module: Any, folder: str) -> Any:
    """The client of a folder, which has one in a process."""
    if folder not in _LOCAL:
        _LOCAL[folder] = _OneAtATime(module.QdrantClient(path=folder, force_disable_check_same_thread=True))
    return _LOCAL[folder]


class _OneAtATime:
    """The client of a folder, which threads take turns to use."""

    def __init__(self, client: Any) -> None:
        self._client, self._lock = client, threading.RLock()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*args: Any, **options: Any) -> Any:
            with self._lock:
                return method(*args, **options)

        return call


def close_local() -> None:
    """Let go of all folders, so that another process may open them."""
    while _LOCAL:
        _LOCAL.popitem()[1].close()


atexit.register(close_local)


def point_id(key: str) -> int:
    """The number of a key's point: 63 bits of its hash."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1


def with_location(payload: dict[str, Any]) -> dict[str, Any]:
    """The payload, with what Qdrant's geo filters look at."""
    if payload.get("lat") is None:
        return payload
    return {**payload, "location": {"lat": payload["lat"], "lon": payload["lon"]}}
