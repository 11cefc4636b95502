"""Processes that begin with PyTorch loaded: forked from one that loads it once, and that does nothing else.

Loading it takes two seconds of the processor; tests that kill processes would pay that dozens of times. The
process that forks has one thread and no open files of tests, so that what it forks is as good as new. Where
the system cannot fork (Windows), each process is a Python of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import types
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

LOADED = ("torch", "dejavlad.training", "dejavlad.places", "dejavlad.cli", "dejavlad.serve.server")
"""What the process that forks has imported; a module whose libraries are not installed is passed over."""
HERE = Path(__file__).parent
ENDED = struct.Struct("<id")
"""Return code and seconds of the processor, of a process that has ended."""


class WarmProcess:
    """What tests need of `subprocess.Popen`, for a process that runs `code` with `words` as its arguments."""

    def __init__(self, pid: int, ended: socket.socket, *streams: IO[str] | None) -> None:
        self.pid, (self.stdout, self.stderr) = pid, streams
        self.returncode: int | None = None
        self._ended = ended

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._ended.settimeout(timeout)
            try:
                answer = self._ended.recv(ENDED.size, socket.MSG_WAITALL)
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0) from None
            self.returncode, seconds = ENDED.unpack(answer)
            _Server.seconds += seconds
            self._ended.close()
        return self.returncode

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def __enter__(self) -> WarmProcess:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in filter(None, (self.stdout, self.stderr)):
            stream.close()
        self.wait()


Process = WarmProcess | subprocess.Popen[str]
"""What `start` gives."""


class _Server:
    """The process that forks, as the tests see it."""

    seconds = 0.0
    """Of the processor, of all processes that ended."""
    running: _Server | None = None

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, __file__, str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])

    def start(self, job: dict[str, Any], stdout: bool, stderr: bool) -> WarmProcess:
        mine, theirs = socket.socketpair()
        ends, streams = [theirs.detach()], []
        for number, wanted in ((1, stdout), (2, stderr)):
            reader, writer = os.pipe() if wanted else (None, os.dup(number))
            ends.append(writer)
            streams.append(None if reader is None else os.fdopen(reader, encoding="utf-8"))
        socket.send_fds(self._control, [json.dumps(job).encode() + b"\n"], ends)
        for end in ends:
            os.close(end)
        (pid,) = struct.unpack("<i", mine.recv(4, socket.MSG_WAITALL))
        return WarmProcess(pid, mine, *streams)

    def close(self) -> None:
        self._control.close()
        self._process.wait()


def start(
    code: str, *words: str | Path, stdout: bool = False, stderr: bool = False, loaded: tuple[str, ...] = ()
) -> Process:
    """Run `code` in a process of its own, in this folder and environment; pipes for what is wanted.

    It can import what lies beside this file. What is `loaded` is imported before it is forked, once for all.
    """
    if not hasattr(os, "fork"):
        pipes = {name: subprocess.PIPE for name, wanted in (("stdout", stdout), ("stderr", stderr)) if wanted}
        command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(HERE)!r})\n{code}"]
        return subprocess.Popen([*command, *map(str, words)], text=True, **pipes)
    if _Server.running is None:
        _Server.running = _Server()
    job = {"code": code, "words": [*map(str, words)], "folder": str(Path.cwd()), "variables": {**os.environ}}
    job["loaded"] = loaded
    return _Server.running.start(job, stdout, stderr)


def seconds() -> float:
    """Of the processor, of all processes of `start` that ended: this process did not wait for them itself."""
    return _Server.seconds


def close() -> None:
    """End the process that forks, so that its time counts as ours."""
    if _Server.running is not None:
        _Server.running.close()
        _Server.running = None


def _serve(control: socket.socket) -> None:
    """Fork as asked until nobody can ask; report each process that ends."""
    _load(LOADED)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    children: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([control, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            _report_ends(children)
        if control not in ready:
            continue
        message, ends, _, _ = socket.recv_fds(control, 1 << 20, 3)
        while message and not message.endswith(b"\n"):
            message += control.recv(1 << 20)
        if not message:
            return
        job = json.loads(message)
        _load(job["loaded"])
        ending = socket.socket(fileno=ends[0])
        if (pid := os.fork()) == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for mine in (control, ending, *children.values()):
                mine.close()
            os.close(woken)
            os.close(wake)
            _run(job, ends[1:])
        children[pid] = ending
        ending.sendall(struct.pack("<i", pid))
        for end in ends[1:]:
            os.close(end)


def _load(names: Iterable[str]) -> None:
    for name in names:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.freeze()  # what is forked leaves the memory of what was loaded alone


def _report_ends(children: dict[int, socket.socket]) -> None:
    for pid in [*children]:
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        if ended:
            seconds = usage.ru_utime + usage.ru_stime
            with children.pop(pid) as ending, contextlib.suppress(OSError):
                ending.sendall(ENDED.pack(os.waitstatus_to_exitcode(status), seconds))


def _run(job: dict[str, Any], streams: list[int]) -> None:
    """What `python -c` does, but for taking apart all that was loaded: a quarter of a second."""
    for number, stream in enumerate(streams, 1):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(job["variables"])
    os.chdir(job["folder"])
    sys.argv = ["-c", *job["words"]]
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    code: object = 1
    try:
        exec(compile(job["code"], "<string>", "exec"), main.__dict__)
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    if not isinstance(code, int | None):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
