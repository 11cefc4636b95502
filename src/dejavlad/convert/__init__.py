"""The originals' weights as models of ours: MatConvNet, PyTorch, Keras and TensorFlow.

Files are known by their content, and their readers are loaded only when needed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dejavlad.errors import CheckpointError
from dejavlad.guarded.plain_file import open_regular
from dejavlad.matlab.mat_file import HDF5, is_mat5, is_mat73

if TYPE_CHECKING:
    from dejavlad.model.place_model import PlaceModel

__all__ = ["KINDS", "Kind", "import_model"]

HEAD = 1024
"""So many bytes decide what a file is."""
TABLE_MAGIC = bytes.fromhex("57fb808b247547db")
"""The end of a TensorFlow checkpoint's ``.index``."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file that `import_model` reads, and how it is recognised."""

    what: str
    """In a few words."""
    fits: Callable[[Path, bytes], bool]
    """Whether a file, or what lies beside that path, is one; also given the file's first `HEAD` bytes."""
    module: str
    """Beside this file; its ``read(path)`` makes the model."""


def import_model(src: str | Path, *, name: str | None = None) -> PlaceModel:
    """The model that a file of another program holds.

    Args:
        src: the file; of a TensorFlow checkpoint also its prefix or folder.
        name: what to call the model; default: after the file.

    Returns:
        The model, on the processor, in evaluation mode.

    Raises:
        CheckpointError: it is of no known kind, damaged, or holds something else than a network for places.
        MissingExtraError: reading it needs an optional library.
    """
    path = Path(src)
    head = b""
    try:
        if path.is_file():
            with open_regular(path) as file:
                head = file.read(HEAD)
    except OSError as error:
        raise CheckpointError(f"{str(src)!r} cannot be read: {error}") from None
    for kind in KINDS:
        if kind.fits(path, head):
            model: PlaceModel = importlib.import_module(f"{__name__}.{kind.module}").read(path)
            if name is not None:
                model.name = name
            return model.eval()
    known = "; ".join(kind.what for kind in KINDS)
    reason = "is of no kind that can be imported" if path.exists() else "is not there"
    raise CheckpointError(f"{str(src)!r} {reason}; known are: {known}")


def _is_matlab(_: Path, head: bytes) -> bool:
    return is_mat5(head) or is_mat73(head)


def _is_torch(_: Path, head: bytes) -> bool:
    zipped = head.startswith(b"PK\x03\x04")
    pickled = head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    return zipped or pickled or head[8:10] == b'{"' or head.startswith(b"ustar", 257)


def _is_tensorflow(path: Path, _: bytes) -> bool:
    if path.is_dir():
        return any(path.glob("*.index"))
    index = path if path.suffix == ".index" else Path(f"{path}.index")
    if not index.is_file():
        return False
    with open(index, "rb") as file:
        file.seek(max(0, index.stat().st_size - len(TABLE_MAGIC)))
        return file.read() == TABLE_MAGIC


def _is_keras(_: Path, head: bytes) -> bool:
    return head.startswith(HDF5) or head.lstrip().startswith(b"{")


KINDS: tuple[Kind, ...] = (
    Kind("a MatConvNet network (.mat)", _is_matlab, "matconvnet"),
    Kind("a PyTorch checkpoint (.pth, .pth.tar, .pt, .ckpt, .safetensors)", _is_torch, "torch_files"),
    Kind("a Keras network (.h5, or .json beside its .h5)", _is_keras, "keras"),
    Kind("a TensorFlow checkpoint (.index, .data-...)", _is_tensorflow, "tensorflow"),
)
"""Tried in this order."""
