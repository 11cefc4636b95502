"""Whether a photo decodes, found out in a process of its own, within limits of memory and time.

What passes is decoded again where it is used, from the same bytes by the same library, so that answers are
those of the command line to the last bit.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from dataclasses import dataclass
from typing import Any, Final

from dejavlad.guarded.json_file import parse_json_object
from dejavlad.serve.limits import MB, Limits
from dejavlad.serve.refusal import BUSY_AGAIN, Refusal

BYTES_A_PIXEL: Final = 24
"""Memory that decoding takes, at most: colours of 16 bits, turned, and brought to 8."""
BASE: Final = 1536 * MB
"""Address space of the process before any photo."""
PHOTOS: Final = 5000
"""A process is replaced by a fresh one after so many photos."""


log = logging.getLogger("dejavlad.serve")


@dataclass(frozen=True, slots=True)
class Checked:
    """What decoding a photo came to."""

    height: int = 0
    """Upright, in pixels; 0 where it cannot be decoded."""
    width: int = 0
    """Likewise."""
    reason: str | None = None
    """Why it cannot be decoded."""


class DecodeCheck:
    """A few processes that decode photos to find out whether they can be.

    Args:
        limits: of pixels and seconds.
        processes: how many, at most; each is started when first needed.
    """

    def __init__(self, limits: Limits, processes: int) -> None:
        self.limits = limits
        self._free: asyncio.Queue[_Child | None] = asyncio.Queue()
        for _ in range(processes):
            self._free.put_nowait(None)
        self._all: set[_Child] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self.waiting = 0
        """Photos that are being decoded or wait for it."""

    async def __call__(self, content: bytes) -> Checked:
        """How decoding a photo goes."""
        self.waiting += 1
        try:
            child, whole = await self._free.get(), False
            try:
                child = child or await self._started()
                checked, seconds = await asyncio.wait_for(child.look(content), self.limits.decode_seconds)
                whole = child.looked < PHOTOS
                if seconds > self.limits.decode_cpu_seconds:
                    return Checked(reason=f"decoding it takes {seconds:.0f} seconds")
                return checked
            except TimeoutError:
                return Checked(reason=f"decoding it takes more than {self.limits.decode_seconds:g} seconds")
            except (OSError, EOFError, asyncio.IncompleteReadError, ValueError):
                return Checked(reason="it is damaged: decoding it broke down")
            finally:
                if not whole:
                    self._end(child)
                self._free.put_nowait(child if whole else None)
        finally:
            self.waiting -= 1

    async def _started(self) -> _Child:
        try:
            return await self._start()
        except (OSError, EOFError, TimeoutError, ValueError):
            log.exception("no process to decode with can be started")
            raise Refusal(503, "photos cannot be decoded now; try again", BUSY_AGAIN) from None

    async def close(self) -> None:
        """End all of the processes."""
        for child in list(self._all):
            self._end(child)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*self._ending), 1)

    async def warm(self) -> None:
        """Start one process ahead of the first photo."""
        child = await self._free.get()
        with contextlib.suppress(OSError, EOFError, TimeoutError, ValueError):
            child = child or await self._start()
        self._free.put_nowait(child)

    async def _start(self) -> _Child:
        memory = (BASE + BYTES_A_PIXEL * self.limits.pixels) // MB
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "dejavlad.serve.decode_child", str(memory), str(self.limits.pixels)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, **threads},
            start_new_session=True,
        )
        child = _Child(process)
        self._all.add(child)
        try:
            await asyncio.wait_for(child.ready(), 60)
        except BaseException:
            self._end(child)
            raise
        return child

    def _end(self, child: _Child | None) -> None:
        if child is not None:
            self._all.discard(child)
            ending = asyncio.get_running_loop().create_task(child.end())
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)


class _Child:
    """One of the processes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process, self.looked = process, 0

    async def ready(self) -> None:
        """Wait until it has loaded the decoders."""
        await self._line()

    async def look(self, content: bytes) -> tuple[Checked, float]:
        """Have it decode one photo: what that comes to, and how many seconds of the processor it takes."""
        writer = self.process.stdin
        assert writer is not None
        writer.write(len(content).to_bytes(8, "big"))
        writer.write(content)
        await writer.drain()
        answer = await self._line()
        self.looked += 1
        seconds = float(answer["seconds"])
        if "reason" in answer:
            return Checked(reason=str(answer["reason"])), seconds
        height, width = answer["size"]
        return Checked(int(height), int(width)), seconds

    async def end(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError, OSError):
            self.process.kill()
        await self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()
            with contextlib.suppress(OSError):
                await self.process.stdin.wait_closed()
        if self.process.stdout is not None:
            with contextlib.suppress(OSError, RuntimeError):
                await self.process.stdout.read()

    async def _line(self) -> dict[str, Any]:
        reader = self.process.stdout
        assert reader is not None
        line = await reader.readline()
        if not line:
            raise EOFError
        return parse_json_object(line)
