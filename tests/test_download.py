"""Downloads from a local server that can break off, hang, change its file and ignore ranges."""

import errno
import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dejavlad import download
from dejavlad.download import fetch
from dejavlad.errors import DownloadError

CONTENT = bytes(range(256)) * 400
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """One file at ``/file``, and a list of what to do wrong, one entry a request."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.tag = CONTENT, '"first"'
        self.ranges = self.lengths = self.checks_tag = True
        self.mishaps = []
        self.requests = []
        self.sent = 0
        self.going_down = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/file"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        wanted = self.headers.get("Range")
        server.requests.append((self.path, wanted))
        mishap = server.mishaps.pop(0) if server.mishaps else None
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/file")
            self.end_headers()
            return
        if isinstance(mishap, int):
            self.send_error(mishap)
            return
        if mishap == "hang":
            server.going_down.wait(10)
            return
        start, status = 0, 200
        if wanted and server.ranges and (not server.checks_tag or self.headers["If-Range"] == server.tag):
            start, status = int(wanted.removeprefix("bytes=").removesuffix("-")), 206
            if start >= len(server.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(server.content)}")
                self.end_headers()
                return
        body = server.content[start:]
        self.send_response(status)
        if server.tag:
            self.send_header("ETag", server.tag)
        if server.lengths:
            self.send_header("Content-Length", str(len(body)))
        if status == 206:
            whole = len(server.content)
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        self.end_headers()
        if mishap == "break off":
            body = body[: len(body) // 2]
        server.sent += len(body)
        self.wfile.write(body)
        if mishap == "hang later":
            server.going_down.wait(10)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "PAUSE", 0.0)
    monkeypatch.setattr(download, "CHUNK", 10_000)
    monkeypatch.setenv("no_proxy", "*")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.going_down.set()
        server.shutdown()
        thread.join()


def left(path):
    """What lies in the folder besides the file, its record and the lock."""
    keep = {path.name, f"{path.name}.sha256", f"{path.name}.lock"}
    return {entry.name for entry in path.parent.iterdir()} - keep


def test_whole_file_in_a_new_folder(server, tmp_path):
    path = tmp_path / "models" / "file.pth"
    reports = []
    assert fetch(server.url, path, sha256=SHA256[:8], on_progress=reports.append) == path
    assert path.read_bytes() == CONTENT
    assert not left(path)
    done = [report.done for report in reports]
    assert done == sorted(done) and len(done) > 5
    assert {report.what for report in reports} == {"downloading file.pth"}
    assert (reports[-1].done, reports[-1].total) == (len(CONTENT), len(CONTENT))
    fetch(server.url, path, sha256=SHA256[:8])
    assert len(server.requests) == 1


def test_redirects_are_followed(server, tmp_path):
    fetch(server.url.replace("/file", "/moved"), tmp_path / "f", sha256=SHA256)
    assert (tmp_path / "f").read_bytes() == CONTENT


@pytest.mark.parametrize("mishaps", [["break off"], ["break off"] * 3, [503, "break off"], [500, 429]])
def test_broken_off_downloads_go_on(server, tmp_path, mishaps):
    server.mishaps = list(mishaps)
    fetch(server.url, tmp_path / "f", sha256=SHA256)
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert server.sent == len(CONTENT)  # no byte twice


def test_tries_are_bounded_and_the_next_run_goes_on(server, tmp_path):
    server.mishaps = ["break off"] * 4
    with pytest.raises(DownloadError, match="broke off after") as caught:
        fetch(server.url, tmp_path / "f", sha256=SHA256)
    assert str(tmp_path / "f") in str(caught.value) and server.url in str(caught.value)
    assert len(server.requests) == 4
    assert not (tmp_path / "f").exists()
    reports = []
    fetch(server.url, tmp_path / "f", sha256=SHA256, on_progress=reports.append)
    assert server.sent == len(CONTENT)
    assert 0 < reports[0].resumed < reports[0].done <= reports[-1].total == len(CONTENT)
    assert not left(tmp_path / "f")


def test_an_interrupted_run_is_resumed(server, tmp_path):
    def interrupt(report):
        if report.done >= 30_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(server.url, tmp_path / "f", sha256=SHA256, on_progress=interrupt)
    assert (tmp_path / "f.partial").stat().st_size == 30_000
    fetch(server.url, tmp_path / "f", sha256=SHA256)
    assert server.requests[-1][1] == "bytes=30000-"
    assert (tmp_path / "f").read_bytes() == CONTENT


def half_done(server, tmp_path):
    server.mishaps = ["break off", 404]
    with pytest.raises(DownloadError):
        fetch(server.url, tmp_path / "f")
    assert (tmp_path / "f.partial").stat().st_size == len(CONTENT) // 2


@pytest.mark.parametrize("checks_tag", [True, False])
def test_a_changed_file_is_not_glued_together(server, tmp_path, checks_tag):
    half_done(server, tmp_path)
    server.content, server.tag, server.checks_tag = CONTENT[::-1], '"second"', checks_tag
    assert fetch(server.url, tmp_path / "f").read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("tag", ["", 'W/"weak"'])
def test_without_a_firm_mark_of_the_version_it_starts_over(server, tmp_path, tag):
    server.tag = tag
    half_done(server, tmp_path)
    server.content = CONTENT[::-1]
    assert fetch(server.url, tmp_path / "f").read_bytes() == CONTENT[::-1]
    assert all(span is None for _, span in server.requests)


def test_server_without_ranges(server, tmp_path):
    server.ranges = False
    half_done(server, tmp_path)
    assert fetch(server.url, tmp_path / "f").read_bytes() == CONTENT


def test_server_that_does_not_tell_the_length(server, tmp_path):
    server.lengths = False
    reports = []
    fetch(server.url, tmp_path / "f", sha256=SHA256, size=200_000, on_progress=reports.append)
    assert (reports[0].total, reports[-1].done) == (200_000, len(CONTENT))


def test_killed_between_the_last_byte_and_the_name(server, tmp_path):
    half_done(server, tmp_path)
    (tmp_path / "f.partial").write_bytes(CONTENT)
    server.sent = 0
    fetch(server.url, tmp_path / "f", sha256=SHA256)
    assert server.sent == 0
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_a_partial_longer_than_the_file_starts_over(server, tmp_path):
    half_done(server, tmp_path)
    (tmp_path / "f.partial").write_bytes(CONTENT + b"more")
    assert fetch(server.url, tmp_path / "f").read_bytes() == CONTENT


def test_wrong_checksum_leaves_nothing(server, tmp_path):
    with pytest.raises(DownloadError, match="expected 00000000") as caught:
        fetch(server.url, tmp_path / "f", sha256="0" * 8)
    assert SHA256 in str(caught.value)
    assert not (tmp_path / "f").exists() and not left(tmp_path / "f")


def test_a_corrupted_partial_is_found_out_and_then_fetched_anew(server, tmp_path):
    half_done(server, tmp_path)
    (tmp_path / "f.partial").write_bytes(b"x" * 1000)
    with pytest.raises(DownloadError, match="try again"):
        fetch(server.url, tmp_path / "f", sha256=SHA256)
    assert fetch(server.url, tmp_path / "f", sha256=SHA256).read_bytes() == CONTENT


def test_first_checksum_is_kept_where_none_is_published(server, tmp_path):
    fetch(server.url, tmp_path / "f")
    assert (tmp_path / "f.sha256").read_text(encoding="utf-8") == f"{SHA256}  f\n"
    (tmp_path / "f").unlink()
    fetch(server.url, tmp_path / "f")
    (tmp_path / "f").unlink()
    server.content = b"something else"
    with pytest.raises(DownloadError, match=f"expected {SHA256}"):
        fetch(server.url, tmp_path / "f")


def test_a_file_put_there_by_hand_is_verified_once(server, tmp_path):
    path = tmp_path / "f"
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(DownloadError, match="damaged or another file"):
        fetch(server.url, path, sha256=SHA256[:8], offline=True)
    path.write_bytes(CONTENT)
    assert fetch(server.url, path, sha256=SHA256[:8].upper(), offline=True) == path
    path.write_bytes(b"changed after it was verified")
    assert fetch(server.url, path, sha256=SHA256[:8], offline=True) == path
    with pytest.raises(DownloadError, match="expected 00000000"):
        fetch(server.url, path, sha256="0" * 8, offline=True)
    assert not server.requests


def test_offline_says_which_file_to_put_where(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DownloadError, match="offline") as caught:
        fetch(server.url, download.Path("models") / "f.pth", offline=True, size=5_300_000)
    for part in (server.url, str(tmp_path / "models" / "f.pth"), "about 5 MB"):
        assert part in str(caught.value)
    assert not server.requests and not list(tmp_path.iterdir())


@pytest.mark.parametrize("code", [403, 404, 410])
def test_hopeless_answers_are_not_asked_for_again(server, tmp_path, code):
    server.mishaps = [code] * 4
    with pytest.raises(DownloadError, match=f"answered {code}"):
        fetch(server.url, tmp_path / "f")
    assert len(server.requests) == 1


@pytest.mark.parametrize("mishap", ["hang", "hang later"])
def test_a_server_that_hangs_is_given_up(server, tmp_path, monkeypatch, mishap):
    monkeypatch.setattr(download, "TRIES", 2)
    monkeypatch.setattr(download, "TIMEOUT", 0.1)
    server.mishaps, server.lengths = [mishap] * 2, False
    with pytest.raises(DownloadError, match="stopped answering"):
        fetch(server.url, tmp_path / "f")


def test_nobody_listens(server, tmp_path):
    with pytest.raises(DownloadError, match="no connection"):
        fetch("http://127.0.0.1:1/file", tmp_path / "f")


def test_two_at_once_fetch_once(server, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(fetch, server.url, tmp_path / "f", sha256=SHA256) for _ in range(4)]
        assert {job.result().read_bytes() for job in jobs} == {CONTENT}
    assert len(server.requests) == 1


def test_nowhere_to_put_it(server, tmp_path, monkeypatch):
    (tmp_path / "models").write_bytes(b"a file where a folder should be")
    with pytest.raises(DownloadError, match=r"models' cannot be written to"):
        fetch(server.url, tmp_path / "models" / "f")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(download.os, "replace", full)
    with pytest.raises(DownloadError, match="No space left"):
        fetch(server.url, tmp_path / "f")
