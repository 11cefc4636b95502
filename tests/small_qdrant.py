"""A stand-in for a Qdrant server, on loopback: what maps ask, answered by the client's local mode.

So addresses, requests as the client writes them, numbers of 64 bits and access keys are tested; the server's
own engine is not.
"""

from __future__ import annotations

import json
import re
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydantic import TypeAdapter


class SmallQdrant(ThreadingHTTPServer):
    """Collections in memory; with a `key`, requests without it are answered with 401."""

    daemon_threads = True

    def __init__(self) -> None:
        from qdrant_client import QdrantClient

        super().__init__(("127.0.0.1", 0), Handler)
        self.client = QdrantClient(":memory:", force_disable_check_same_thread=True)
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

    def answer(self, status: int, result: Any) -> None:
        body = json.dumps({"result": result, "status": "ok", "time": 0.0}).encode()
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
            self.answer(200, result_of(self.server, f"{self.command} {match[2] or ''}", match[1], content))

    do_GET = do_PUT = do_POST = do_DELETE = handle_one


def result_of(server: SmallQdrant, what: str, name: str, content: dict[str, Any]) -> Any:
    """What one request does."""
    from qdrant_client import models

    client = server.client

    def parsed(kind: Any, value: Any) -> Any:
        return None if value is None else TypeAdapter(kind).validate_python(value)

    def plain(points: Any) -> Any:
        return [json.loads(point.model_dump_json()) for point in points]

    if what == "GET /exists":
        return {"exists": client.collection_exists(name)}
    if what == "PUT ":
        return client.create_collection(name, vectors_config=parsed(models.VectorParams, content["vectors"]))
    if what == "GET ":
        return json.loads(client.get_collection(name).model_dump_json())
    if what == "PUT /index":
        server.indexed.append((content["field_name"], content["field_schema"]))
        return {"operation_id": 1, "status": "completed"}
    if what == "PUT /points":
        client.upsert(name, parsed(list[models.PointStruct], content["points"]))
    elif what == "POST /points/delete":
        client.delete(name, parsed(models.PointIdsList, content))
    elif what == "POST /points/payload":
        client.set_payload(name, content["payload"], points=content["points"])
    elif what == "POST /points/payload/delete":
        client.delete_payload(name, content["keys"], points=content["points"])
    elif what == "POST /points/count":
        return {"count": client.count(name).count}
    elif what == "POST /points":
        sample = client.retrieve(
            name, content["ids"], content.get("with_payload"), content.get("with_vector", False)
        )
        return plain(sample)
    elif what == "POST /points/scroll":
        points, offset = client.scroll(
            name,
            parsed(models.Filter, content.get("filter")),
            limit=content["limit"],
            offset=content.get("offset"),
            with_payload=content.get("with_payload", True),
            with_vectors=content.get("with_vector", False),
        )
        return {"points": plain(points), "next_page_offset": offset}
    elif what == "POST /points/query":
        wanted = parsed(models.Filter, content.get("filter"))
        query = content["query"]["nearest"]
        answer = client.query_points(name, query, query_filter=wanted, limit=content["limit"])
        return {"points": plain(answer.points)}
    else:
        raise AssertionError(what)
    return {"operation_id": 1, "status": "completed"}


@contextmanager
def small_qdrant() -> Iterator[SmallQdrant]:
    """A server, running."""
    with SmallQdrant() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
            server.client.close()
