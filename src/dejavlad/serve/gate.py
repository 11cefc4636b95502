"""What is checked of every request before its route: who may ask, from where, and how much at once.

Names are checked because a page of the web may have its own name point to this machine (DNS rebinding), and
origins because a page may send requests to addresses that only this machine reaches.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import json
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final
from urllib.parse import urlsplit

from dejavlad.errors import DejavladError
from dejavlad.serve.limits import Limits
from dejavlad.serve.metrics import Metrics
from dejavlad.serve.options import ServeOptions, tile_origin
from dejavlad.serve.refusal import BUSY_AGAIN, Refusal, refusal_of

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

SESSION: Final = "dejavlad_session"
"""The cookie that stands for the token in browsers."""
SESSIONS: Final = 1024
SESSION_SECONDS: Final = 12 * 3600.0
OPEN_PATHS: Final = ("/v1/health", "/v1/session")
"""What is answered without a token, besides the page's own files."""
SAFE: Final = ("GET", "HEAD")

log = logging.getLogger("dejavlad.serve")


class Gate:
    """Middleware around the routes.

    Args:
        app: the routes.
        options: who may ask.
        metrics: told of each request.
        is_page: whether a path is a file of the page, which everybody may read.
    """

    def __init__(
        self, app: App, options: ServeOptions, metrics: Metrics, is_page: Callable[[str], bool]
    ) -> None:
        self.app, self.options, self.metrics, self.is_page = app, options, metrics, is_page
        self.limits: Limits = options.limits
        self.under_way = 0
        self.sessions: OrderedDict[str, float] = OrderedDict()
        """Session -> when it ends."""
        self._wrong: list[float] = []
        self._headers = security_headers(options.tiles)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.monotonic()
        scope.setdefault("state", {})
        answer = _Answer(send, self._headers, self.limits.send_seconds)
        answer.ends = scope["method"] not in SAFE
        self.under_way += 1
        self.metrics.under_way.set(self.under_way)
        try:
            try:
                if self.under_way > self.limits.requests:
                    raise Refusal(503, f"{self.limits.requests} requests are under way already", BUSY_AGAIN)
                self._check(scope)
                scope["state"]["gate"] = self
                await self.app(scope, receive, answer)
            except Refusal as refusal:
                await _refuse(answer, refusal)
            except DejavladError as error:
                log.warning("%s %s: %s", scope["method"], scope["path"], error)
                await _refuse(answer, refusal_of(error))
            except asyncio.CancelledError:  # by nobody but a service that stops
                await _refuse(answer, Refusal(503, "the service is stopping", BUSY_AGAIN))
            except SlowClient:
                raise
            except Exception:
                log.exception("%s %s failed", scope["method"], scope["path"])
                await _refuse(answer, Refusal(500, "something went wrong here; the service's log says what"))
        except SlowClient:
            log.warning("%s %s: the client does not take its answer", scope["method"], scope["path"])
        finally:
            self.under_way -= 1
            self.metrics.under_way.set(self.under_way)
            route = scope["state"].get("route", "none")
            method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "DELETE") else "other"
            self.metrics.requests.labels(route, method, str(answer.status)).inc()
            self.metrics.seconds.labels(route).observe(time.monotonic() - started)
            if answer.status >= 400:
                self.metrics.refused.labels(str(answer.status)).inc()

    def begin_session(self) -> str:
        """A secret that stands for the token for a while."""
        now = time.monotonic()
        for session in [session for session, end in self.sessions.items() if end < now]:
            del self.sessions[session]
        while len(self.sessions) >= SESSIONS:
            self.sessions.popitem(last=False)
        session = secrets.token_urlsafe(32)
        self.sessions[session] = now + SESSION_SECONDS
        return session

    def require_token(self, headers: dict[str, str], *, session: bool = False) -> None:
        """Refuse (401) a request that shows no token, nor a session where one will do."""
        if not self._is_token(headers) and not (session and self._has_session(headers)):
            raise Refusal(
                401,
                "a token is needed: send the header `Authorization: Bearer TOKEN`",
                {"WWW-Authenticate": 'Bearer realm="dejavlad"'},
            )

    def _is_token(self, headers: dict[str, str]) -> bool:
        """Whether a request shows the token.

        Raises:
            Refusal: too many wrong ones were shown (429).
        """
        token = self.options.token
        kind, _, given = headers.get("authorization", "").partition(" ")
        if token is None or kind.lower() != "bearer":
            return token is None
        if _same(given.strip(), token):
            return True
        now = time.monotonic()
        self._wrong = [at for at in self._wrong if at > now - 60]
        if len(self._wrong) >= self.limits.wrong_tokens:
            raise Refusal(429, "too many wrong tokens; wait a minute", {"Retry-After": "60"})
        self._wrong.append(now)
        return False

    def _check(self, scope: Scope) -> None:
        target = len(scope.get("raw_path") or b"") + len(scope["query_string"])
        if target > self.limits.target:
            raise Refusal(414, f"an address of {target} bytes; {self.limits.target} at most")
        headers = _headers_of(scope)
        host = host_of(headers.get("host", ""))
        if host is None or not self._is_our_name(host):
            raise Refusal(
                421,
                "this service does not go by that name; call it by its address, or start it with --name NAME",
            )
        self._check_origin(headers)
        path, method = scope["path"], scope["method"]
        if path not in OPEN_PATHS and not (method in SAFE and self.is_page(path)):
            self.require_token(headers, session=True)

    def _is_our_name(self, host: str) -> bool:
        if host == "localhost" or host == self.options.host.lower() or host in self.options.names:
            return True
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return False
        return True  # addresses cannot be pointed elsewhere

    def _check_origin(self, headers: dict[str, str]) -> None:
        origin = headers.get("origin")
        if origin is not None:
            parts = urlsplit(origin)
            if parts.scheme not in ("http", "https") or parts.netloc.lower() != headers["host"].lower():
                raise Refusal(403, "pages of other origins may not ask this service")
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and not (
            headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        ):
            raise Refusal(403, "pages of other origins may not ask this service")

    def _has_session(self, headers: dict[str, str]) -> bool:
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(SESSION)
        except CookieError:
            return False
        if morsel is None:
            return False
        now = time.monotonic()
        return any(_same(morsel.value, session) for session, end in list(self.sessions.items()) if end >= now)


class SlowClient(Exception):
    """A client does not take what is sent to it."""


class _Answer:
    """Sends an answer with our headers; remembers its status."""

    def __init__(self, send: Send, headers: list[tuple[bytes, bytes]], seconds: float) -> None:
        self.send, self.headers, self.seconds = send, headers, seconds
        self.status = 0
        """0 before the answer begins."""
        self.ends = False
        """Whether a refusal ends the connection: of a request whose body may still be coming."""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            given = list(message.get("headers", []))
            names = {name.lower() for name, _ in given}
            message["headers"] = given + [line for line in self.headers if line[0] not in names]
        try:
            await asyncio.wait_for(self.send(message), self.seconds)
        except TimeoutError:
            raise SlowClient from None


async def _refuse(answer: _Answer, refusal: Refusal) -> None:
    if answer.status:  # it has begun already, and cannot be taken back
        raise SlowClient
    content = json.dumps(refusal.to_dict()).encode("ascii")
    headers = {"content-type": "application/json", "content-length": str(len(content)), **refusal.headers}
    headers |= {"connection": "close"} if answer.ends else {}
    encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await answer({"type": "http.response.start", "status": refusal.status, "headers": encoded})
    await answer({"type": "http.response.body", "body": content})


def security_headers(tiles: str | None) -> list[tuple[bytes, bytes]]:
    """Headers of every answer: the page takes scripts, styles and pictures from here alone, and tiles."""
    pictures = "'self'" if tiles is None else f"'self' {tile_origin(tiles)}"
    policy = (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src {pictures}; "
        "connect-src 'self'; font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    headers = {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "x-frame-options": "DENY",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "permissions-policy": "geolocation=(self), camera=(self), microphone=()",
        "cache-control": "no-store",
    }
    return [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]


def host_of(header: str) -> str | None:
    """The name or address in a Host header, without port and brackets; None where it is none."""
    try:
        parts = urlsplit(f"//{header}")
        _ = parts.port
    except ValueError:
        return None
    if parts.path or parts.query or parts.fragment or parts.username is not None or not parts.hostname:
        return None
    return parts.hostname.lower().rstrip(".")


def _headers_of(scope: Scope) -> dict[str, str]:
    """Headers by name in small letters.

    Raises:
        Refusal: a header that must stand alone is given twice (400).
    """
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        key = name.decode("latin-1").lower()
        if key in headers and key in ("host", "origin", "authorization", "content-type", "content-length"):
            raise Refusal(400, f"the header {key!r} is given twice")
        headers[key] = value.decode("latin-1")
    return headers


def _same(given: str, secret: str) -> bool:
    """Whether two secrets are one, in a time that tells nothing of where they differ or how long they are."""
    digests = (hashlib.sha256(text.encode("utf-8", "replace")).digest() for text in (given, secret))
    return hmac.compare_digest(*digests)
