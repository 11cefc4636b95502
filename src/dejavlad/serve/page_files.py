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
class PageFile:
    """One file of the page."""

    content: bytes
    media: str
    etag: str


def page_files(folder: Path = FOLDER) -> dict[str, PageFile]:
    """Path in addresses (``/js/main.js``; ``/`` for the index) -> file."""
    files = {}
    for path in sorted(folder.rglob("*")):
        kind = KINDS.get(path.suffix.lower())
        if kind is None or not path.is_file():
            continue
        content = read_bytes(path)
        etag = f'"{hashlib.sha256(content).hexdigest()[:24]}"'
        files["/" + path.relative_to(folder).as_posix()] = PageFile(content, kind, etag)
    if f"/{INDEX}" in files:
        files["/"] = files[f"/{INDEX}"]
    return files
