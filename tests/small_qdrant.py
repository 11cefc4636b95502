"""A stand-in for a Qdrant server, on loopback: the client's local mode, or the engine, answers what maps ask.

So addresses, requests as the client writes them, numbers of 64 bits and access keys are tested, and with the
engine (``qdrant-edge-py``) what the server's own code makes of points, filters and pages. The server's HTTP,
its cluster and its optimisers in the background are not.
"""

from __future__ import annotations

import json
import re
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter


class SmallQdrant(ThreadingHTTPServer):
    """Collections; with a `key`, requests without it are answered with 401."""

    daemon_threads = True

    def __init__(self, engine: Path | None) -> None:
        from qdrant_client import QdrantClient

        super().__init__(("127.0.0.1", 0), Handler)
        self.client = QdrantClient(":memory:", force_disable_check_same_thread=True)
        self.points = LocalPoints(self.client) if engine is None else EnginePoints(engine)
        self.lock = threading.Lock()
        self.key: str | None = None
        self.indexed: list[tuple[str, str]] = []
        self.requests: list[str] = []

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: SmallQdrant

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, result: Any, said: Any = "ok") -> None:
        body = json.dumps({"result": result, "status": said, "time": 0.0}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle_one(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        content = json.loads(self.rfile.read(length)) if length else {}
        path = urllib.parse.urlsplit(self.path).path
        self.server.requests.append(f"{self.command} {path}")
        if self.server.key is not None and self.headers.get("api-key") != self.server.key:
            self.answer(401, None)
            return
        match = re.fullmatch(r"/collections/([\w.-]+)(/.*)?", path)
        assert match is not None, path
        with self.server.lock:
            try:
                result = result_of(self.server, f"{self.command} {match[2] or ''}", match[1], content)
            except AssertionError:
                raise
            except Exception as error:  # as the server refuses what its engine does
                self.answer(400, None, {"error": f"Wrong input: {error}"})
            else:
                self.answer(200, result)

    do_GET = do_PUT = do_POST = do_DELETE = handle_one


def result_of(server: SmallQdrant, what: str, name: str, content: dict[str, Any]) -> Any:
    """What one request does; collections as such are always the local mode's."""
    from qdrant_client import models

    client, points = server.client, server.points
    if what == "GET /exists":
        return {"exists": client.collection_exists(name)}
    if what == "PUT ":
        points.create(name, content["vectors"])
        vectors = TypeAdapter(models.VectorParams).validate_python(content["vectors"])
        return client.create_collection(name, vectors_config=vectors)
    if what == "GET ":
        return json.loads(client.get_collection(name).model_dump_json())
    if what == "PUT /index":
        server.indexed.append((content["field_name"], content["field_schema"]))
        points.index(name, *server.indexed[-1])
    elif what == "PUT /points":
        points.upsert(name, content["points"], content.get("update_mode"))
    elif what == "POST /points/delete":
        points.delete(name, content["points"])
    elif what == "POST /points/payload":
        points.set_payload(name, content["payload"], content["points"])
    elif what == "POST /points/payload/delete":
        points.delete_payload(name, content["keys"], content["points"])
    elif what == "POST /points/count":
        return {"count": points.count(name)}
    elif what == "POST /points":
        return points.retrieve(
            name, content["ids"], content.get("with_payload", True), content.get("with_vector", False)
        )
    elif what == "POST /points/scroll":
        rows, offset = points.scroll(
            name,
            content.get("filter"),
            content["limit"],
            content.get("offset"),
            content.get("with_payload", True),
            content.get("with_vector", False),
        )
        return {"points": rows, "next_page_offset": offset}
    elif what == "POST /points/query":
        query = content["query"]["nearest"]
        return {"points": points.query(name, query, content.get("filter"), content["limit"])}
    else:
        raise AssertionError(what)
    return {"operation_id": 1, "status": "completed"}


class LocalPoints:
    """Points in the client's local mode."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def create(self, name: str, vectors: dict[str, Any]) -> None:
        pass

    def index(self, name: str, field: str, kind: str) -> None:
        pass

    def upsert(self, name: str, points: list[Any], mode: str | None) -> None:
        from qdrant_client import models

        update_mode = None if mode is None else models.UpdateMode(mode)
        structs = TypeAdapter(list[models.PointStruct]).validate_python(points)
        self._client.upsert(name, structs, update_mode=update_mode)

    def delete(self, name: str, ids: list[int]) -> None:
        from qdrant_client import models

        self._client.delete(name, models.PointIdsList(points=ids))

    def set_payload(self, name: str, payload: dict[str, Any], ids: list[int]) -> None:
        self._client.set_payload(name, payload, points=ids)

    def delete_payload(self, name: str, keys: list[str], ids: list[int]) -> None:
        self._client.delete_payload(name, keys, points=ids)

    def count(self, name: str) -> int:
        return int(self._client.count(name).count)

    def retrieve(self, name: str, ids: list[int], payload: Any, vector: Any) -> Any:
        return self._plain(self._client.retrieve(name, ids, payload, vector))

    def scroll(
        self, name: str, wanted: Any, limit: int, offset: Any, payload: Any, vector: Any
    ) -> tuple[Any, Any]:
        points, after = self._client.scroll(
            name,
            self._filter(wanted),
            limit=limit,
            offset=offset,
            with_payload=payload,
            with_vectors=vector,
        )
        return self._plain(points), after

    def query(self, name: str, query: list[float], wanted: Any, limit: int) -> Any:
        answer = self._client.query_points(name, query, query_filter=self._filter(wanted), limit=limit)
        return self._plain(answer.points)

    def _filter(self, wanted: Any) -> Any:
        from qdrant_client import models

        return None if wanted is None else TypeAdapter(models.Filter).validate_python(wanted)

    def _plain(self, points: Any) -> Any:
        return [json.loads(point.model_dump_json()) for point in points]


class EnginePoints:
    """Points in Qdrant's own engine, as its server has it, within this process and in a folder."""

    def __init__(self, folder: Path) -> None:
        import qdrant_edge

        self._edge, self._folder, self._shards = qdrant_edge, folder, dict[str, Any]()

    def create(self, name: str, vectors: dict[str, Any]) -> None:
        edge, folder = self._edge, self._folder / name
        folder.mkdir(parents=True)
        distance = getattr(edge.Distance, vectors["distance"])
        config = edge.EdgeConfig(vectors=edge.EdgeVectorParams(vectors["size"], distance))
        self._shards[name] = edge.EdgeShard.create(str(folder), config)

    def index(self, name: str, field: str, kind: str) -> None:
        schema = getattr(self._edge.PayloadSchemaType, kind.capitalize())
        self._update(name, "create_field_index", field, schema)

    def upsert(self, name: str, points: list[Any], mode: str | None) -> None:
        made = [self._edge.Point(point["id"], point["vector"], point["payload"]) for point in points]
        modes = self._edge.UpdateMode
        self._update(
            name, "upsert_points", made, None, modes.InsertOnly if mode == "insert_only" else modes.Upsert
        )

    def delete(self, name: str, ids: list[int]) -> None:
        self._update(name, "delete_points", ids)

    def set_payload(self, name: str, payload: dict[str, Any], ids: list[int]) -> None:
        self._update(name, "set_payload", ids, payload)

    def delete_payload(self, name: str, keys: list[str], ids: list[int]) -> None:
        self._update(name, "delete_payload", ids, keys)

    def count(self, name: str) -> int:
        return int(self._shards[name].count(self._edge.CountRequest()))

    def retrieve(self, name: str, ids: list[int], payload: Any, vector: Any) -> Any:
        return self._plain(self._shards[name].retrieve(ids, payload, vector))

    def scroll(
        self, name: str, wanted: Any, limit: int, offset: Any, payload: Any, vector: Any
    ) -> tuple[Any, Any]:
        request = self._edge.ScrollRequest(
            offset=offset, limit=limit, filter=self._filter(wanted), with_payload=payload, with_vector=vector
        )
        points, after = self._shards[name].scroll(request)
        return self._plain(points), after

    def query(self, name: str, query: list[float], wanted: Any, limit: int) -> Any:
        nearest = self._edge.Query.Nearest(query)
        request = self._edge.QueryRequest(
            limit=limit, query=nearest, filter=self._filter(wanted), with_payload=True
        )
        points = self._shards[name].query(request)
        scores = [{"version": point.version, "score": point.score} for point in points]
        return [line | score for line, score in zip(self._plain(points), scores, strict=True)]

    def close(self) -> None:
        """Write all to disk."""
        for shard in self._shards.values():
            shard.close()

    def _update(self, name: str, operation: str, *values: Any) -> None:
        self._shards[name].update(getattr(self._edge.UpdateOperation, operation)(*values))

    def _filter(self, wanted: Any) -> Any:
        """What maps, and the documentation, filter by."""
        edge = self._edge
        if wanted is None:
            return None
        conditions = []
        for condition in wanted["must"]:
            options: dict[str, Any] = {}
            if condition.get("match"):
                options["match"] = edge.MatchAny(condition["match"]["any"])
            if condition.get("range"):
                options["range"] = edge.RangeFloat(**condition["range"])
            if circle := condition.get("geo_radius"):
                centre = edge.GeoPoint(lon=circle["center"]["lon"], lat=circle["center"]["lat"])
                options["geo_radius"] = edge.GeoRadius(centre, circle["radius"])
            conditions.append(edge.FieldCondition(condition["key"], **options))
        return edge.Filter(must=conditions)

    def _plain(self, points: Any) -> Any:
        return [{"id": point.id, "payload": point.payload, "vector": point.vector} for point in points]


@contextmanager
def small_qdrant(engine: Path | None = None) -> Iterator[SmallQdrant]:
    """A server, running; with Qdrant's own engine where it is given a folder."""
    with SmallQdrant(engine) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
            server.client.close()
            if isinstance(server.points, EnginePoints):
                server.points.close()
