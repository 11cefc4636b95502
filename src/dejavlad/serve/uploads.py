"""Bodies of requests as photos and fields, bounded in bytes, parts, names and time before they are parsed."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
import unicodedata
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from email.message import Message
from typing import Any, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser
from starlette.requests import ClientDisconnect, Request

from dejavlad.serve.limits import Limits
from dejavlad.serve.refusal import BUSY_AGAIN, Refusal

PHOTOS_FIELDS: Final = ("photos", "photo")
"""Names of multipart fields with files that are photos; the first one is so without a file's name too."""
FORM: Final = "multipart/form-data"
LONGEST_FIELD: Final = 4096
"""Bytes of a field that is no photo."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A photo that came with a request."""

    name: str
    """As its sender calls it, without folders; empty where it does not."""
    content: bytes
    """The file."""


@dataclass(frozen=True, slots=True)
class Body:
    """What a request brought."""

    photos: list[Upload]
    """In order."""
    fields: list[tuple[str, str]]
    """Names and texts of the other fields of a form."""


class MemoryBudget:
    """How many bytes of bodies are in memory at once.

    Args:
        most: so many.
    """

    def __init__(self, most: int) -> None:
        self.most, self.used = most, 0

    def take(self, count: int) -> None:
        """Count bytes in.

        Raises:
            Refusal: there would be too many (503).
        """
        if self.used + count > self.most:
            raise Refusal(503, "the service is busy with other photos; send them again", BUSY_AGAIN)
        self.used += count

    def give_back(self, count: int) -> None:
        """Count bytes out."""
        self.used -= count


@contextlib.asynccontextmanager
async def read_body(request: Request, limits: Limits, budget: MemoryBudget) -> AsyncIterator[Body]:
    """The photos and fields of a request, which are in memory within the block.

    Raises:
        Refusal: the body is too large (413), too slow (408), malformed (400), of a kind that is not taken
            (415), or there is no room for it (503).
    """
    taken = 0

    def take(count: int) -> None:
        nonlocal taken
        budget.take(count)
        taken += count

    try:
        content = await _content(request, limits, take)
        kind = Message()
        kind["content-type"] = request.headers.get("content-type", "application/octet-stream")
        media = kind.get_content_type()
        if media == FORM:
            take(len(content))  # its parts are copies
            boundary = kind.get_param("boundary")
            body = parse_form(content, boundary if isinstance(boundary, str) else "", limits)
        elif media.startswith("image/") or media == "application/octet-stream":
            body = Body([Upload("", content)] if content else [], [])
        else:
            raise Refusal(
                415, f"a body of {media!r}: send a photo as image/*, application/octet-stream, or {FORM}"
            )
        _check(body, limits)
        del content
        yield body
    finally:
        budget.give_back(taken)


async def _content(request: Request, limits: Limits, take: Callable[[int], None]) -> bytes:
    """The body, piece by piece, as long as it keeps within the limits."""
    claimed = request.headers.get("content-length")
    if claimed is not None and int(claimed) > limits.body:
        raise Refusal(413, f"a body of {int(claimed):,} bytes; {limits.body:,} at most")
    pieces: list[bytes] = []
    started, count = time.monotonic(), 0
    stream = request.stream().__aiter__()
    while True:
        spent = time.monotonic() - started
        left = limits.idle_seconds + count / limits.least_rate - spent
        try:
            piece = await asyncio.wait_for(anext(stream), max(0.01, min(limits.idle_seconds, left)))
        except StopAsyncIteration:
            return b"".join(pieces)
        except TimeoutError:
            raise Refusal(408, f"the body came too slowly: {count:,} bytes in {spent:.0f} seconds") from None
        except ClientDisconnect:
            raise Refusal(400, "the connection was closed before the body ended") from None
        count += len(piece)
        if count > limits.body:
            raise Refusal(413, f"a body of more than {limits.body:,} bytes")
        take(len(piece))
        pieces.append(piece)


def parse_form(content: bytes, boundary: str, limits: Limits) -> Body:
    """The photos and fields of a multipart body.

    Raises:
        Refusal: it is malformed (400), or has too many parts (413).
    """
    if not re.fullmatch(r"[ -~]{1,70}", boundary):
        raise Refusal(400, f"{FORM} needs a boundary of 1 to 70 characters")
    form = _Form(limits)
    try:
        parser = MultipartParser(boundary, form.callbacks())
        parser.write(content)
        parser.finalize()
    except FormParserError:
        raise Refusal(400, f"the body is no whole {FORM}") from None
    if not form.ended:
        raise Refusal(400, f"the {FORM} body is cut short")
    return Body(form.photos, form.fields)


class _Form:
    """Collects the parts of a form while it is parsed."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.photos: list[Upload] = []
        self.fields: list[tuple[str, str]] = []
        self.ended = False
        self._parts = 0
        self._field, self._value = bytearray(), bytearray()
        self._headers: dict[str, str] = {}
        self._pieces: list[bytes] = []

    def callbacks(self) -> Any:
        """What the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._field.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header,
            "on_part_data": lambda data, start, end: self._pieces.append(data[start:end]),
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > self.limits.parts:
            raise Refusal(413, f"a body of more than {self.limits.parts} parts")
        self._headers, self._pieces = {}, []
        self._field, self._value = bytearray(), bytearray()

    def _header(self) -> None:
        self._headers[self._field.decode("latin-1").lower()] = self._value.decode("utf-8", "replace")
        self._field, self._value = bytearray(), bytearray()

    def _end(self) -> None:
        message = Message()
        message["content-disposition"] = self._headers.get("content-disposition", "")
        field = message.get_param("name", header="content-disposition")
        if message.get_content_disposition() != "form-data" or not isinstance(field, str):
            raise Refusal(400, "a part of the body has no name")
        content, filename, name = b"".join(self._pieces), message.get_filename(), field.removesuffix("[]")
        if name == PHOTOS_FIELDS[0] or (name in PHOTOS_FIELDS and filename is not None):
            self.photos.append(Upload(clean_name(filename, self.limits) if filename else "", content))
        elif filename is not None:
            raise Refusal(400, f"a file in field {field[:40]!r}; send photos in field {PHOTOS_FIELDS[0]!r}")
        elif len(content) > LONGEST_FIELD:
            raise Refusal(413, f"field {field[:40]!r} has more than {LONGEST_FIELD} bytes")
        else:
            self.fields.append((field[:64], content.decode("utf-8", "replace")))

    def _finish(self) -> None:
        self.ended = True


def clean_name(given: str, limits: Limits) -> str:
    """A photo's name as its sender gives it: the last part of it, of characters that can be shown.

    Raises:
        Refusal: it is too long, or nothing of it is left (400).
    """
    last = re.split(r"[/\\]", given)[-1]
    name = "".join(c for c in unicodedata.normalize("NFC", last) if c.isprintable()).strip()
    if name.strip(".") == "":
        raise Refusal(400, f"a photo needs a name; given {given[:40]!r}")
    if len(name.encode("utf-8", "replace")) > limits.name:
        raise Refusal(400, f"a photo's name has at most {limits.name} bytes; {name[:40]!r}... has more")
    return name


def _check(body: Body, limits: Limits) -> None:
    if len(body.photos) > limits.photos:
        raise Refusal(413, f"{len(body.photos)} photos in one request; send {limits.photos} at most")
    for upload in body.photos:
        if len(upload.content) > limits.photo:
            raise Refusal(
                413, f"photo {upload.name!r} has {len(upload.content):,} bytes; {limits.photo:,} at most"
            )
