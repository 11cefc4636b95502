"""Files from the web: resumed where they broke off, verified, and there whole or not at all.

``PATH.partial`` grows while a file is fetched; beside it ``PATH.partial.tag`` keeps the server's mark of the
version, so that the rest of another version is never glued to it. ``PATH.sha256`` keeps the checksum of what
was found right. Where a publisher gives none, the first download sets it and later ones must match it.
"""

from __future__ import annotations

import http.client
import os
import re
import time
import urllib.error
import urllib.request
from email.message import Message
from pathlib import Path

import filelock

from dejavlad.errors import DownloadError
from dejavlad.files import naming, sha256_of
from dejavlad.guarded.plain_file import read_utf8
from dejavlad.progress import OnProgress, Progress, silent

TRIES = 4
PAUSE = 0.5
"""Seconds before the second try; twice as many before each further one."""
TIMEOUT = 30.0
"""Seconds without a byte after which a try is given up."""
CHUNK = 1 << 20
HOPELESS = (400, 401, 403, 404, 410, 451)
"""Answers that trying again does not change."""


class _BrokenOff(Exception):
    """A try that failed for a reason that may pass."""


def fetch(
    url: str,
    path: Path,
    *,
    sha256: str | None = None,
    size: int | None = None,
    offline: bool = False,
    on_progress: OnProgress = silent,
) -> Path:
    """The file at `path`, fetched from `url` unless it is there.

    A file that somebody put there is verified once; one that was verified before is taken as it is.

    Args:
        url: http or https.
        path: where it shall lie; its folder is made.
        sha256: what it must hash to, 64 hex digits or the first 8 or more of them.
        size: about how many bytes it has, for messages and for progress where the server does not tell.
        offline: do not fetch.
        on_progress: told of bytes.

    Returns:
        `path`.

    Raises:
        DownloadError: offline, not to be had, not what was promised, or nowhere to put; says which file to
            put where.
    """
    path = path.absolute()
    expected = sha256.lower() if sha256 else _recorded(path)
    by_hand = f"fetch {url}{_told_size(size)} by other means and put it at {path}"
    if path.is_file():
        return _as_it_is(path, expected, by_hand)
    if offline:
        raise DownloadError(f"{path.name} is not here, and downloads are switched off (offline): {by_hand}")
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.with_name(path.name + ".lock")):
            if path.is_file():  # another process was faster
                return path
            _fetch_patiently(url, partial, size, on_progress, by_hand)
            checksum = sha256_of(partial)
            if expected is not None and not checksum.startswith(expected):
                _start_over(partial)
                raise DownloadError(
                    f"{url} is not the file that it should be (its sha256 is {checksum}, expected "
                    f"{expected}) and was deleted: try again, or {by_hand}"
                )
            os.replace(partial, path)
            _tag_path(partial).unlink(missing_ok=True)
            _remember(path, checksum)
    except OSError as error:
        raise DownloadError(
            f"{str(path.parent)!r} cannot be written to: {error.strerror or error}"
        ) from error
    return path


def _fetch_patiently(
    url: str, partial: Path, size: int | None, on_progress: OnProgress, by_hand: str
) -> None:
    for attempt in range(1, TRIES + 1):
        try:
            return _fetch_rest(url, partial, size, on_progress)
        except _BrokenOff as error:
            answer = error.__cause__
            permanent = isinstance(answer, urllib.error.HTTPError) and answer.code in HOPELESS
            if permanent or attempt == TRIES:
                raise DownloadError(f"{url} could not be fetched ({error}): {by_hand}") from answer
            time.sleep(PAUSE * 2 ** (attempt - 1))


def _fetch_rest(url: str, partial: Path, size: int | None, on_progress: OnProgress) -> None:
    """Fetch what is missing of `partial`, from the start where the server has another version by now."""
    size_here = partial.stat().st_size if partial.exists() else 0
    tag_path = _tag_path(partial)
    tag = read_utf8(tag_path, 1 << 16) if tag_path.exists() else ""
    request = urllib.request.Request(url, headers={"User-Agent": "dejavlad"})
    if size_here and tag:
        request.add_header("Range", f"bytes={size_here}-")
        request.add_header("If-Range", tag)
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # nothing lies past what is here
            if error.headers.get("Content-Range", "").strip() == f"bytes */{size_here}":
                return
            _start_over(partial)
        raise _BrokenOff(f"the server answered {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenOff(_reason(error)) from error
    with answer:
        new_tag = _tag(answer.headers)
        resumed = answer.status == 206
        if resumed and (new_tag not in (tag, "") or _first_byte(answer.headers) != size_here):
            _start_over(partial)
            raise _BrokenOff("the file changed on the server")
        if not resumed:
            size_here = 0
            _start_over(partial)  # first, so that old bytes never stand beside the new version's mark
            tag_path.write_text(new_tag, encoding="utf-8")
        length = answer.headers.get("Content-Length")
        total = size_here + int(length) if length is not None else None
        what, n_before = f"downloading {partial.name.removesuffix('.partial')}", size_here
        with naming(partial), open(partial, "ab") as file:
            while chunk := _read(answer):
                file.write(chunk)
                size_here += len(chunk)
                on_progress(Progress(what, size_here, max(total or size or 0, size_here), n_before))
    if total is not None and size_here < total:
        raise _BrokenOff(f"the connection broke off after {size_here} of {total} bytes")


def _read(answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenOff(_reason(error)) from error


def _as_it_is(path: Path, expected: str | None, by_hand: str) -> Path:
    if expected is None or (_recorded(path) or "").startswith(expected):
        return path
    checksum = sha256_of(path)
    if not checksum.startswith(expected):
        raise DownloadError(
            f"{path} is damaged or another file (its sha256 is {checksum}, expected {expected}): "
            f"delete it, and {by_hand}"
        )
    _remember(path, checksum)
    return path


def _recorded(path: Path) -> str | None:
    try:
        return read_utf8(_record(path), 1 << 16).split()[0]
    except (OSError, ValueError, IndexError):
        return None


def _remember(path: Path, checksum: str) -> None:
    """Note the checksum in the form that ``sha256sum --check`` reads, where that is allowed."""
    try:
        _record(path).write_text(f"{checksum}  {path.name}\n", encoding="utf-8")
    except OSError:
        return


def _start_over(partial: Path) -> None:
    partial.unlink(missing_ok=True)
    _tag_path(partial).unlink(missing_ok=True)


def _record(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _tag_path(partial: Path) -> Path:
    return partial.with_name(partial.name + ".tag")


def _tag(headers: Message) -> str:
    """What names this version of the file in ``If-Range``; weak entity tags do not."""
    entity: str = headers.get("ETag", "")
    return entity if entity and not entity.startswith("W/") else headers.get("Last-Modified", "")


def _first_byte(headers: Message) -> int | None:
    match = re.match(r"bytes (\d+)-", headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _told_size(size: int | None) -> str:
    return f" (about {size / 1e6:.0f} MB)" if size else ""


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "the server stopped answering"
    if isinstance(error, urllib.error.URLError):
        return f"no connection: {error.reason}"
    return str(error) or type(error).__name__
