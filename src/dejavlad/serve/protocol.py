"""Connections of the server, bounded: heads that do not come, clients that do not read, and too many of them.

uvicorn itself waits for ever for the head of a request, and closes a connection while its client still sends,
which takes the answer away from that client. Here a connection that is closed takes in, and forgets, what
still comes for a moment, so that a refusal is read.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

from dejavlad.serve.limits import Limits

LINGER_SECONDS: Final = 1.0
"""How long what still comes is taken in after an answer that ended the connection."""
LINGER_BYTES: Final = 8 << 20
"""How much of it."""


def bounded_protocol(limits: Limits) -> type[H11Protocol]:
    """The class of connections for uvicorn."""
    return type("BoundedProtocol", (_BoundedProtocol,), {"limits": limits})


class _BoundedProtocol(H11Protocol):
    """One connection."""

    limits: Limits
    _deadline: asyncio.TimerHandle | None = None
    _lingering: _Lingering | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if len(self.connections) >= self.limits.connections:
            transport.abort()
            self.transport = transport
            return
        self._lingering = _Lingering(transport, self.loop)
        super().connection_made(self._lingering)  # type: ignore[arg-type]
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._set_deadline(None)
        if self._lingering is None:
            return
        self._lingering.forget()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._lingering is None:
            return
        if self._lingering.is_closing():
            self._lingering.forgotten(len(data))
            return
        if self._waits_for_head() and self._deadline is None:
            self._await_head()
        super().data_received(data)

    def handle_events(self) -> None:
        super().handle_events()
        if not self._waits_for_head():
            self._set_deadline(None)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        body_goes_on = str(self.conn.their_state) == "SEND_BODY"
        if body_goes_on and self._lingering is not None and not self._lingering.is_closing():
            self._unset_keepalive_if_required()
            self._lingering.close()

    def _waits_for_head(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _await_head(self) -> None:
        self._set_deadline(self.limits.head_seconds)

    def _set_deadline(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self._give_up)

    def _give_up(self) -> None:
        if self._waits_for_head() and self._lingering is not None:
            self._lingering.abort()


class _Lingering:
    """A transport whose `close` ends our side, and the whole of it a moment later.

    Args:
        transport: what it stands for.
        loop: where the moment passes.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._closing = False
        self._left = LINGER_BYTES
        self._end: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """End our side once all is sent."""
        if self._closing:
            return
        self._closing = True
        if self._transport.is_closing():
            return
        self._transport.resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._end = self._loop.call_later(LINGER_SECONDS, self.abort)

    def abort(self) -> None:
        """End it at once."""
        self._closing = True
        self.forget()
        self._transport.abort()

    def forgotten(self, count: int) -> None:
        """So many bytes came after the end."""
        self._left -= count
        if self._left < 0:
            self.abort()

    def forget(self) -> None:
        """It has ended by itself."""
        if self._end is not None:
            self._end.cancel()

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self._closing or self._transport.is_closing()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
