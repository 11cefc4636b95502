"""Training runs and results that are served: the pages that exist, those of a run live while it goes on."""

from __future__ import annotations

import html
import re
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

from dejavlad.errors import DejavladError
from dejavlad.guarded.plain_file import read_bytes
from dejavlad.model.run_folder import LOG, is_run
from dejavlad.report.page import policy_hash
from dejavlad.report.training import write_training_page
from dejavlad.serve.page_files import KINDS, ServedFile, served_file
from dejavlad.serve.refusal import Refusal

INDEX: Final = "index.html"
MORE_KINDS: Final = KINDS | {".csv": "text/csv; charset=utf-8", ".webp": "image/webp", ".jpeg": "image/jpeg"}
LARGEST: Final = 64 << 20
"""Bytes of a file that is served."""
BACK: Final = b'<nav aria-label="Other pages"><a href="/">\xe2\x86\x90 All maps, runs and results</a></nav>'
"""Leads from a page to the others."""
BEFORE_BACK: Final = (rb'<div class="bar"><span class="brand">.*?</span>', rb"<body\b[^>]*>")
"""Behind which of these it stands: the first that the page has."""
AGAIN_SECONDS: Final = 5
"""How often a browser asks for a live page."""
ENDED_SECONDS: Final = 1800.0
"""A run that has written nothing for so long is taken to have ended."""


class ReportPage:
    """A training run or results, read-only.

    Args:
        name: what it is called in addresses.
        folder: the run or the results.
        alone: whether nothing else is served, so that its page leads nowhere.
    """

    def __init__(self, name: str, folder: Path, alone: bool = True) -> None:
        self.name, self.folder, self.alone = name, folder, alone
        self.kind: Literal["run", "results"] = "run" if is_run(folder) else "results"
        self._lock = threading.Lock()
        self._made: tuple[tuple[int, int], bytes] | None = None

    def to_dict(self) -> dict[str, str]:
        """For JSON."""
        return {"name": self.name, "kind": self.kind, "address": f"/pages/{self.name}/"}

    def file(self, path: str) -> ServedFile:
        """A file of it; the empty path is its page.

        Raises:
            Refusal: there is none (404).
        """
        if path in ("", INDEX):
            content = self._live() if self.kind == "run" else self._read(self.folder / INDEX)
            if not self.alone:
                place = next(filter(None, (re.search(each, content) for each in BEFORE_BACK)), None)
                at = 0 if place is None else place.end()
                content = content[:at] + BACK + content[at:]
            file = served_file(content, KINDS[".html"], content_security_policy=policy_of(content))
            if self.kind == "run" and self._goes_on():  # by another ETag: the ended run's page is another one
                headers = file.headers | {"refresh": str(AGAIN_SECONDS)}
                return replace(file, etag=f'{file.etag[:-1]}-live"', headers=headers)
            return file
        if "\0" in path:
            raise Refusal(404, "there is no such file")
        inside = self.folder.resolve()
        target = (inside / path).resolve()
        media = MORE_KINDS.get(target.suffix.lower())
        hidden = any(part.startswith(".") for part in Path(path).parts)
        if hidden or media is None or not target.is_relative_to(inside):
            raise Refusal(404, "there is no such file")
        content = self._read(target)
        policy = {"content_security_policy": policy_of(content)} if media == KINDS[".html"] else {}
        return served_file(content, media, **policy)

    def _read(self, path: Path) -> bytes:
        try:
            return read_bytes(path, LARGEST)
        except (OSError, DejavladError):
            raise Refusal(404, "there is no such file") from None

    def _goes_on(self) -> bool:
        try:
            return abs(time.time() - (self.folder / LOG).stat().st_mtime) < ENDED_SECONDS
        except OSError:
            return True

    def _live(self) -> bytes:
        """The page of a run as of now, made anew when the run has written something."""
        with self._lock:
            try:
                status = (self.folder / LOG).stat()
                state = status.st_size, status.st_mtime_ns
            except OSError:
                state = 0, 0
            if self._made is None or self._made[0] != state:
                with tempfile.TemporaryDirectory(prefix="dejavlad-") as folder:
                    path = write_training_page(self.folder, Path(folder) / INDEX)
                    self._made = state, read_bytes(path)
            return self._made[1]


def policy_of(page: bytes) -> str:
    """A content policy for a self-contained page: its own scripts and styles by their hashes, no others.

    Style attributes, which charts and thumbnails have, are allowed by hash too.
    """
    text = page.decode("utf-8", "replace")
    scripts = {
        policy_hash(body) for body in re.findall(r"<script\b[^>]*>(.*?)</script>", text, re.S | re.I) if body
    }
    styles = {policy_hash(body) for body in re.findall(r"<style\b[^>]*>(.*?)</style>", text, re.S | re.I)}
    attributes = {policy_hash(html.unescape(body)) for body in re.findall(r"\sstyle=\"([^\"]*)\"", text)}
    style = " ".join(sorted(styles)) or "'none'"
    attribute = " ".join(["'unsafe-hashes'", *sorted(attributes)]) if attributes else "'none'"
    return (
        f"default-src 'none'; script-src {' '.join(sorted(scripts)) or chr(39) + 'none' + chr(39)}; "
        f"style-src {style}; style-src-elem {style}; style-src-attr {attribute}; img-src 'self' data:; "
        "font-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def is_report(folder: Path) -> bool:
    """Whether a folder holds a run or results."""
    return is_run(folder) or (folder / INDEX).is_file()
