"""The files of the page: what lies in ``serve/page`` and nothing else, read when the service starts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dejavlad.guarded.plain_file import read_bytes

KINDS: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".ico": "image/x-icon",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
}
"""Ending -> media type; files of other endings are not served."""
FOLDER: Final = Path(__file__).parent / "page"
INDEX: Final = "index.html"


@dataclass(frozen=True, slots=True)
class ServedFile:
    """A file to send."""

    content: bytes
    media: str
    etag: str
    """What tells it from others."""
    headers: dict[str, str]


def served_file(content: bytes, media: str, **headers: str) -> ServedFile:
    """A file, of which browsers ask each time whether it is still the same, unless headers say otherwise."""
    etag = f'"{hashlib.sha256(content).hexdigest()[:24]}"'
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ServedFile(content, media, etag, {"cache-control": "no-cache", **named})


def page_files() -> dict[str, ServedFile]:
    """Path in addresses (``/js/main.js``; ``/`` for the index) -> file."""
    files = {}
    for path in sorted(FOLDER.rglob("*")):
        kind = KINDS.get(path.suffix.lower())
        if kind is None or not path.is_file():
            continue
        files["/" + path.relative_to(FOLDER).as_posix()] = served_file(read_bytes(path), kind)
    if f"/{INDEX}" in files:
        files["/"] = files[f"/{INDEX}"]
    return files
