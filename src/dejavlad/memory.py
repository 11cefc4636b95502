"""How much memory is free, so that what cannot fit is refused before it is tried."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress


def free_memory() -> int | None:
    """Bytes that programs can take without pushing others out; None where the system does not tell."""
    if sys.platform == "win32":
        return _of_windows()
    with suppress(OSError, ValueError, IndexError), open("/proc/meminfo", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    with suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")  # macOS counts caches as taken
    return None


class _Status(ctypes.Structure):
    """MEMORYSTATUSEX of Windows."""

    _fields_ = (
        ("length", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        ("total", ctypes.c_uint64),
        ("available", ctypes.c_uint64),
        *((f"other_{i}", ctypes.c_uint64) for i in range(5)),
    )


def _of_windows() -> int | None:
    status = _Status(length=ctypes.sizeof(_Status))
    with suppress(AttributeError, OSError):
        if getattr(ctypes, "windll").kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):  # noqa: B009
            return int(status.available)
    return None
