"""Requests as bytes, for what no client library would send."""

import json
import socket
import time
from dataclasses import dataclass
from typing import Any


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def send(port: int, data: bytes, *, seconds: float = 30) -> Reply:
    """What comes back until the connection ends; status 0 where nothing does."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        connection.sendall(data)
        return receive(connection)


def receive(connection: socket.socket) -> Reply:
    """The first answer on a connection."""
    content = b""
    while b"\r\n\r\n" not in content:
        try:
            piece = connection.recv(65536)
        except ConnectionResetError:
            piece = b""
        if not piece:
            return Reply(0, {}, content)
        content += piece
    head, _, body = content.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    length = int(headers.get("content-length", 0))
    while len(body) < length:
        piece = connection.recv(65536)
        if not piece:
            break
        body += piece
    return Reply(int(lines[0].split()[1]), headers, body)


def request(
    port: int,
    target: str = "/v1/health",
    *,
    method: str = "GET",
    body: bytes = b"",
    host: str | None = "localhost",
    **headers: str,
) -> Reply:
    """One request with the headers given (underscores become dashes)."""
    lines = [f"{method} {target} HTTP/1.1"]
    if host is not None:
        lines.append(f"Host: {host}")
    if body or method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join([*lines, "Connection: close", "", ""])
    return send(port, head.encode("utf-8") + body)


def until(condition: Any, seconds: float = 10) -> bool:
    """Whether a condition comes true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return bool(condition())
