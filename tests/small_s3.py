"""A small S3 server for tests, in memory on loopback: what object stores' clients need, and no more.

It has conditional puts (``If-None-Match: *``), by which LanceDB's commits are safe.
"""

from __future__ import annotations

import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xml.etree import ElementTree
from xml.sax.saxutils import escape


class SmallS3(ThreadingHTTPServer):
    """Buckets of objects; `refused` answers everything with 403, and what `before` returns False for."""

    daemon_threads = True

    def __init__(self, *buckets: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.buckets: dict[str, dict[str, bytes]] = {name: {} for name in buckets}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.refused = False
        self.lock = threading.Lock()
        self.conditional = 0
        self.conflicts = 0
        self.before: Callable[[], bool] = lambda: True
        """Called before each request."""
        self.log: list[str] = []

    def puts_of(self, part: str) -> bool:
        """Whether the latest request writes an object of such a name."""
        return bool(self.log) and self.log[-1].startswith("PUT") and part in self.log[-1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: SmallS3

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", "Sun, 29 Nov 2026 00:00:00 GMT")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def error(self, status: int, code: str) -> None:
        self.answer(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())

    def handle_one(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else b""
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        bucket, _, key = urllib.parse.unquote(url.path).lstrip("/").partition("/")
        self.server.log.append(f"{self.command} {urllib.parse.unquote(self.path)}")
        if not self.server.before() or self.server.refused:
            self.error(403, "AccessDenied")
            return
        with self.server.lock:
            if bucket not in self.server.buckets:
                self.error(404, "NoSuchBucket")
                return
            getattr(self, f"on_{self.command.lower()}")(self.server.buckets[bucket], key, query, body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_one

    def on_get(self, objects: dict[str, bytes], key: str, query: dict[str, str], _: bytes) -> None:
        if not key:
            self.list(objects, query)
            return
        if key not in objects:
            self.error(404, "NoSuchKey")
            return
        data, wanted = objects[key], self.headers.get("Range")
        tag = f'"{len(data)}-{hash(data)}"'
        if wanted is None:
            self.answer(200, data, ETag=tag)
            return
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        start = int(first) if first else max(0, len(data) - int(last))
        end = min(int(last), len(data) - 1) if first and last else len(data) - 1
        if start >= len(data):
            self.error(416, "InvalidRange")
            return
        whole = f"bytes {start}-{end}/{len(data)}"
        self.answer(206, data[start : end + 1], ETag=tag, Content_Range=whole)

    def on_head(self, objects: dict[str, bytes], key: str, query: dict[str, str], _: bytes) -> None:
        if key not in objects:
            self.answer(404)
        else:
            data = objects[key]
            self.answer(200, ETag=f'"{len(data)}-{hash(data)}"', Content_Length=str(len(data)))

    def on_put(self, objects: dict[str, bytes], key: str, query: dict[str, str], body: bytes) -> None:
        if "uploadId" in query:
            self.server.uploads[query["uploadId"]][int(query["partNumber"])] = body
            self.answer(200, ETag=f'"{query["partNumber"]}"')
            return
        self.server.conditional += self.headers.get("If-None-Match") == "*"
        if self.headers.get("If-None-Match") == "*" and key in objects:
            self.server.conflicts += 1
            self.error(412, "PreconditionFailed")
            return
        if source := self.headers.get("x-amz-copy-source"):
            body = objects[urllib.parse.unquote(source).lstrip("/").partition("/")[2]]
        objects[key] = body
        self.answer(200, ETag=f'"{len(body)}-{hash(body)}"')

    def on_post(self, objects: dict[str, bytes], key: str, query: dict[str, str], body: bytes) -> None:
        if "uploads" in query:
            number = str(len(self.server.uploads) + 1)
            self.server.uploads[number] = {}
            root = "InitiateMultipartUploadResult"
            xml = f"<{root}><UploadId>{number}</UploadId></{root}>"
            self.answer(200, xml.encode())
        elif "uploadId" in query:
            parts = self.server.uploads.pop(query["uploadId"])
            objects[key] = b"".join(parts[i] for i in sorted(parts))
            xml = '<CompleteMultipartUploadResult><ETag>"x"</ETag></CompleteMultipartUploadResult>'
            self.answer(200, xml.encode())
        else:
            gone = [n.text or "" for n in ElementTree.fromstring(body).iter() if n.tag.endswith("Key")]
            for name in gone:
                objects.pop(name, None)
            lines = "".join(f"<Deleted><Key>{escape(name)}</Key></Deleted>" for name in gone)
            self.answer(200, f"<DeleteResult>{lines}</DeleteResult>".encode())

    def on_delete(self, objects: dict[str, bytes], key: str, query: dict[str, str], _: bytes) -> None:
        objects.pop(key, None)
        self.answer(204)

    def list(self, objects: dict[str, bytes], query: dict[str, str]) -> None:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("start-after", "")
        keys, folders = [], set()
        for key in sorted(objects):
            if not key.startswith(prefix) or key <= after:
                continue
            head, mark, _ = key[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
            if mark:
                folders.add(prefix + head + mark)
            else:
                keys.append(key)
        lines = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-11-29T00:00:00.000Z</LastModified>"
            f"<ETag>x</ETag><Size>{len(objects[key])}</Size></Contents>"
            for key in keys
        )
        lines += "".join(
            f"<CommonPrefixes><Prefix>{escape(f)}</Prefix></CommonPrefixes>" for f in sorted(folders)
        )
        xml = f"<ListBucketResult><IsTruncated>false</IsTruncated>{lines}</ListBucketResult>"
        self.answer(200, xml.encode())


@contextmanager
def small_s3(*buckets: str) -> Iterator[SmallS3]:
    """A server with these buckets."""
    with SmallS3(*buckets) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
