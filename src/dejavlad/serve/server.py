"""The process of a service: its socket, its signals and its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final

import uvicorn

from dejavlad.errors import InputError
from dejavlad.places.map_folder.state import is_map
from dejavlad.serve.app import build_app
from dejavlad.serve.options import ServeOptions, is_loopback
from dejavlad.serve.protocol import bounded_protocol
from dejavlad.serve.report_pages import ReportPage, is_report
from dejavlad.serve.served_map import Models, ServedMap, map_names
from dejavlad.serve.service import Service

BODY_SECONDS: Final = 0.7
"""For bodies to come in after SIGTERM; the rest of the time is for answers."""
END_SECONDS: Final = 0.3
"""For requests that are given up to say so."""

log = logging.getLogger("dejavlad.serve")


def build_service(sources: Sequence[str], options: ServeOptions) -> Service:
    """Open maps, training runs and results.

    Args:
        sources: folders of any of them, or addresses of maps.
        options: how they are served.

    Raises:
        InputError: nothing is given, or something twice.
        StoreError: something is neither a map, nor a run, nor results; or a map is damaged.
    """
    options.check_sources(sources)
    reports = [source for source in sources if not is_map(Path(source)) and is_report(Path(source))]
    maps = [source for source in sources if source not in reports]
    models = Models()
    served = [
        ServedMap(name, source, models, options.device, options.precision)
        for name, source in zip(map_names(maps), maps, strict=True)
    ]
    pages = [
        ReportPage(name, Path(source), alone=len(sources) == 1)
        for name, source in zip(map_names(reports), reports, strict=True)
    ]
    return Service(served, pages, options)


def serve(
    sources: Sequence[str],
    options: ServeOptions,
    *,
    on_start: Callable[[Service, str], None] = lambda service, address: None,
) -> None:
    """Serve until the process is told to end (SIGTERM, SIGINT); answers requests that are under way first.

    Args:
        sources: maps, training runs and results.
        options: how.
        on_start: called with the service and its address once it answers.

    Raises:
        InputError, StoreError: see `build_service`; or the address is taken.
    """
    service = build_service(sources, options)
    listener = listen(options)
    address = address_of(listener, options)
    server = _Server(config_of(service, options), lambda: on_start(service, address), service.end_arriving)
    try:
        server.run(sockets=[listener])
    finally:
        listener.close()
        if not service.close():  # a thread is in the middle of a long computation
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)


class RunningServer:
    """A service in a thread of this process, for programs that need one for a while.

    Args:
        service: opened already.
        options: how it is served.

    Raises:
        InputError: the address is taken.
    """

    def __init__(self, service: Service, options: ServeOptions) -> None:
        self.service, self._listener = service, listen(options)
        self.address = address_of(self._listener, options)
        started = threading.Event()
        self._server = _Server(config_of(service, options), started.set, service.end_arriving)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._listener],), name="dejavlad-server", daemon=True
        )
        self._thread.start()
        started.wait(60)

    def stop(self) -> bool:
        """End it; whether all of its threads did."""
        self._server.should_exit = True
        self._thread.join(10)
        self._listener.close()
        return self.service.close() and not self._thread.is_alive()


def config_of(service: Service, options: ServeOptions) -> uvicorn.Config:
    """How uvicorn runs a service."""
    limits = options.limits
    return uvicorn.Config(
        build_app(service),
        http=bounded_protocol(limits),
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=limits.stop_seconds,  # type: ignore[arg-type]  # a part of one will do
        h11_max_incomplete_event_size=limits.headers,
        backlog=256,
    )


def listen(options: ServeOptions) -> socket.socket:
    """The socket, bound before anything says that it is.

    Raises:
        InputError: the address is taken, or is not of this machine.
    """
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    # Named in full: asyncio sends small answers at once only where it knows the protocol.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if os.name == "posix":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((options.host, options.port))
    except OSError as error:
        listener.close()
        raise InputError(
            f"cannot listen on {options.host}:{options.port}: {error.strerror or error}; give another --port"
        ) from None
    return listener


def address_of(listener: socket.socket, options: ServeOptions) -> str:
    """What to type into a browser."""
    port = listener.getsockname()[1]
    host = "127.0.0.1" if options.host in ("0.0.0.0", "::") else options.host
    host = f"[{host}]" if ":" in host else host
    return f"http://{'localhost' if is_loopback(options.host) and host == '127.0.0.1' else host}:{port}/"


def _is_news(record: logging.LogRecord) -> bool:
    """Not that requests are given up: each of their clients is told, and the user wanted the end."""
    return "graceful shutdown exceeded" not in str(record.msg)


class _Server(uvicorn.Server):
    """uvicorn, which tells when it answers, and ends with status 0 when it is told to."""

    def __init__(
        self, config: uvicorn.Config, on_start: Callable[[], None], end_arriving: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self.on_start, self.end_arriving = on_start, end_arriving

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().call_later(BODY_SECONDS, self.end_arriving)
        logging.getLogger("uvicorn.error").addFilter(_is_news)
        try:
            await super().shutdown(sockets)
        finally:
            logging.getLogger("uvicorn.error").removeFilter(_is_news)
        for _ in range(2):  # those that were given up say so; the second time they wait for nothing
            if tasks := set(self.server_state.tasks):
                await asyncio.wait(tasks, timeout=END_SECONDS)
                for task in self.server_state.tasks:
                    task.cancel()
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()
        await asyncio.sleep(0)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        def end(number: int, frame: FrameType | None) -> None:
            self.handle_exit(number, frame)

        before: dict[signal.Signals, Any] = {}
        with contextlib.suppress(ValueError):  # only the main thread hears signals
            for number in (signal.SIGINT, signal.SIGTERM):
                before[number] = signal.signal(number, end)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
