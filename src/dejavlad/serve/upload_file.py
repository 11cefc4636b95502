"""A photo that came over the network as a file that decoders can open, without a copy on the disk.

On Linux it lies in memory alone and is gone with the process, however that ends; elsewhere it is a file in a
private folder that is removed once the answer is given.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def as_file(content: bytes) -> Iterator[Path]:
    """A path under which the bytes can be read within the block."""
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
        number = os.memfd_create("dejavlad-photo")
        try:
            with open(number, "wb", closefd=False) as file:
                file.write(content)
            yield Path(f"/proc/self/fd/{number}")
        finally:
            os.close(number)
        return
    with tempfile.TemporaryDirectory(prefix="dejavlad-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "photo"
        path.write_bytes(content)
        yield path
