"""Tensors as a safetensors file, written whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from dejavlad.files import naming


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors on the processor; the file takes the place of what is there once it is on the disk.

    Safetensors itself writes beside the file, under a name drawn at random, and for its owner's eyes alone:
    so it is let write in a folder, which the next time clears away if this one was killed.

    Raises:
        OSError: it cannot be written; what was there is left.
    """
    aside = path.with_name(f".{path.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    made = aside / path.name
    try:
        with naming(path):
            save_file(dict(tensors), made, metadata=metadata)
            made.chmod(aside.stat().st_mode & 0o666)
            with open(made, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(made, path)
    except SafetensorError as error:
        if "os error 28" in str(error):  # of Rust's standard library: ENOSPC
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from None
        raise OSError(f"{str(path)!r} cannot be written: {error}") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
