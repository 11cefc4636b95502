"""PyTorch checkpoints and safetensors files: named tensors, read without executing anything.

Checkpoints are read by ``torch.load(weights_only=True)``. What old ones hold beside tensors (recalls as NumPy
numbers, arguments) is replaced by stand-ins that do nothing; anything else is refused by name. Which network
the tensors are is told by `torch_layouts`.
"""

from __future__ import annotations

import contextlib
import pickle
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dejavlad.backbones.pickles import check_pickles
from dejavlad.errors import CheckpointError, InputError
from dejavlad.guarded.plain_file import open_regular
from dejavlad.guarded.zip_archive import open_zip
from dejavlad.model.importers.torch_layouts import build
from dejavlad.model.place_model import PlaceModel

ZIP = b"PK\x03\x04"
STATES = ("state_dict", "model_state_dict", "model")
"""Where checkpoints keep their tensors, beside the optimiser and the rest."""
WRAPPERS = ("model", "net", "network", "embed_net")
"""Names that a whole network may stand under."""
IGNORED = (
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *("numpy.dtype", "numpy.ndarray", "argparse.Namespace"),
)
"""What old checkpoints hold beside tensors."""
BESIDE = 1 << 20
"""Bytes that may be needed beside the tensors, whatever the size of the file."""


def read(path: Path) -> PlaceModel:
    """The model that a checkpoint holds: Patch-NetVLAD's, Nanne's, OpenIBL's, VG-benchmark's or lyakaap's.

    Raises:
        CheckpointError: the file is damaged, holds more than weights, or holds no such network.
    """
    try:
        held = _load(path)
        tensors, told = _tensors(held, path.stat().st_size)
        return build(tensors, told, path)
    except (CheckpointError, InputError) as error:
        raise CheckpointError(f"{str(path)!r} cannot be imported: {error}") from None


class _Nothing:
    """Stands in for what is not needed: takes anything, keeps nothing."""

    def __new__(cls, *_: object, **__: object) -> _Nothing:
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


def _stand_ins() -> list[Any]:
    """A class that does nothing for each of `IGNORED`, of that name."""
    parted = (name.rpartition(".") for name in IGNORED)
    return [type(name, (_Nothing,), {"__module__": module}) for module, _, name in parted]


@contextlib.contextmanager
def _allowed() -> Iterator[None]:
    """`IGNORED` may stand in a checkpoint; what was allowed before is allowed again afterwards."""
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(_stand_ins())
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def _load(path: Path) -> object:
    try:
        with open_regular(path) as file:
            head = file.read(512)
        if head[8:10] == b'{"':
            from safetensors.torch import load_file

            return load_file(path)
        if head.startswith(b"ustar", 257):
            raise CheckpointError("it was saved by PyTorch before 0.2; load and save it with one up to 1.12")
        zipped = head.startswith(ZIP)
        if zipped:
            _check_zip(path)
        check_pickles(path)
        with _allowed(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError(_refusal(str(error))) from None
    except Exception as error:  # readers raise anything on damaged files
        raise CheckpointError(f"it is damaged: {_line(error)}") from None


def _check_zip(path: Path) -> None:
    """PyTorch stores without compression, so that nothing grows when it is read."""
    with open_zip(path) as archive:
        names = {name.rpartition("/")[2] for name in archive.members}
        grows = not archive.stored or archive.unpacked > archive.size
    if "constants.pkl" in names:
        raise CheckpointError(
            "it is a TorchScript program, which is not executed; save its weights alone: "
            "torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth')"
        )
    if "data.pkl" not in names:
        raise CheckpointError("it is a zip archive, but not PyTorch's: it has no data.pkl")
    if grows:
        raise CheckpointError(
            "it is no archive that PyTorch writes: it is compressed, or says too large sizes"
        )


def _tensors(held: object, size: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(named tensors, other things that tell where they are from)."""
    told: dict[str, Any] = {}
    for _ in STATES:  # a hostile one may hold itself
        if not isinstance(held, Mapping):
            break
        inner = next((key for key in STATES if isinstance(held.get(key), Mapping)), None)
        if inner is None:
            break
        told |= {str(key): held[key] for key in held if key != inner}
        held = held[inner]
    if not isinstance(held, Mapping) or not held:
        raise CheckpointError(f"it holds no named tensors, but {_kind(held)}")
    others = [str(key) for key, value in held.items() if not isinstance(value, Tensor)]
    if others:
        raise CheckpointError(f"it holds no named tensors only, but also {', '.join(others[:4])}")
    tensors = _unwrapped({str(key): value for key, value in held.items()})
    room = size + BESIDE
    for key, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise CheckpointError(f"{key} is no plain tensor")
        room -= tensor.numel() * tensor.element_size()
        if room < 0:
            raise CheckpointError("its tensors are larger than the file")
    return tensors, told


def _unwrapped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without ``module.`` of parallel training, wherever it stands, and without a name above all others."""
    found = {re.sub(r"(^|\.)(module\.)+", r"\1", key): value for key, value in tensors.items()}
    for wrapper in WRAPPERS:
        if all(key.startswith(f"{wrapper}.") for key in found):
            found = {key.removeprefix(f"{wrapper}."): value for key, value in found.items()}
    if len(found) != len(tensors):
        raise CheckpointError("two of its tensors have the same name but for 'module.'")
    return found


def _refusal(message: str) -> str:
    """Which type was refused, from torch's explanation."""
    named = re.search(r"GLOBAL ([\w.]+)|class ([\w.]+)|type ([\w.]+)", message)
    if named is None:
        return f"it is damaged, or holds more than weights: {message.strip().splitlines()[0][:200]}"
    name = next(filter(None, named.groups()))
    return (
        f"it holds {name}, which is not executed; save its weights alone: "
        "torch.save(model.state_dict(), 'weights.pth')"
    )


def _kind(held: object) -> str:
    return f"a {type(held).__name__}" if not isinstance(held, Mapping) else "an empty dict"


def _line(error: Exception) -> str:
    text = str(error).strip().split("\n")[0]
    return text[:200] or type(error).__name__
