"""Files from the web: resumed where they broke off, verified, and there whole or not at all.

``PATH.partial`` grows while a file is fetched; beside it ``PATH.partial.tag`` keeps the server's mark of the
version, so that the rest of another version is never glued to it. Where a publisher gives no checksum, that
of the first download is kept in ``PATH.sha256``, and later downloads must match it.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from pathlib import Path

import filelock

from dejavlad.errors import DownloadError
from dejavlad.progress import OnProgress, Progress, silent

TRIES = 4
PAUSE = 0.5
"""Seconds before the second try; twice as many before each further one."""
TIMEOUT = 30.0
"""Seconds without a byte after which a try is given up."""
CHUNK = 1 << 20
GONE = (400, 401, 403, 404, 410)
"""Answers that trying again does not change."""


def fetch(
    url: str,
    path: Path,
    *,
    sha256: str | None = None,
    offline: bool = False,
    on_progress: OnProgress = silent,
    timeout: float = TIMEOUT,
) -> Path:
    """The file at `path`, fetched from `url` unless it is there.

    Args:
        url: http or https.
        path: where it shall lie; its folder is made.
        sha256: what it must hash to, 64 hex digits or the first 8 or more of them.
        offline: do not fetch.
        on_progress: told of bytes.
        timeout: seconds without a byte after which a try is given up.

    Raises:
        DownloadError: offline, not to be had, or not what was promised; says which file to put where.
    """
    if path.exists():
        return path
    by_hand = f"fetch {url} by other means and put it at {path}"
    if offline:
        raise DownloadError(f"{path.name} is not here, and downloads are switched off (offline): {by_hand}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(path.with_name(path.name + ".lock")):
        if path.exists():  # another process was faster
            return path
        partial = path.with_name(path.name + ".partial")
        for attempt in range(TRIES):
            try:
                _fetch_rest(url, partial, on_progress, timeout, path.name)
                break
            except (OSError, http.client.HTTPException) as error:
                final = isinstance(error, urllib.error.HTTPError) and error.code in GONE
                if final or attempt == TRIES - 1:
                    raise DownloadError(f"{url} could not be fetched ({_told(error)}): {by_hand}") from error
                time.sleep(PAUSE * 2**attempt)
        _verify(partial, path, url, sha256)
        os.replace(partial, path)
        _tag_path(partial).unlink(missing_ok=True)
    return path


def _fetch_rest(url: str, partial: Path, on_progress: OnProgress, timeout: float, name: str) -> None:
    """Fetch what is missing of `partial`, from the start where the server has another version by now."""
    have = partial.stat().st_size if partial.exists() else 0
    tag_path = _tag_path(partial)
    tag = tag_path.read_text(encoding="utf-8") if tag_path.exists() else ""
    request = urllib.request.Request(url, headers={"User-Agent": "dejavlad"})
    if have and tag:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", tag)
    try:
        answer = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing lies past what is there: complete, or another version
            _start_over(partial)
        raise
    with answer:
        resumed = answer.status == 206
        if not resumed:
            have = 0
            tag_path.write_text(
                answer.headers.get("ETag") or answer.headers.get("Last-Modified") or "", encoding="utf-8"
            )
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length is not None else 0
        with open(partial, "ab" if resumed else "wb") as file:
            found = have
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                have += len(chunk)
                on_progress(Progress(f"downloading {name}", have, max(total, have), found))
        if total and have < total:
            raise OSError(f"the connection broke off after {have} of {total} bytes")


def _verify(partial: Path, path: Path, url: str, sha256: str | None) -> None:
    with open(partial, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    kept = path.with_name(path.name + ".sha256")
    promised = sha256.lower() if sha256 else None
    if promised is None and kept.exists():
        promised = kept.read_text(encoding="utf-8").split()[0]
    if promised is not None and not found.startswith(promised):
        _start_over(partial)
        raise DownloadError(
            f"{url} is not the file that it should be: its sha256 is {found}, expected {promised}; "
            f"it was deleted, try again"
        )
    if sha256 is None:
        kept.write_text(f"{found}  {path.name}\n", encoding="utf-8")


def _start_over(partial: Path) -> None:
    partial.unlink(missing_ok=True)
    _tag_path(partial).unlink(missing_ok=True)


def _tag_path(partial: Path) -> Path:
    return partial.with_name(partial.name + ".tag")


def _told(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return f"no connection: {error.reason}"
    return str(error) or type(error).__name__
