"""Named tensors from files of PyTorch, safetensors and NumPy: the one reader of weights, by content.

Nothing is executed. Checkpoints are read by ``torch.load(weights_only=True)``; what they hold beside tensors
(recalls as NumPy numbers, arguments) is replaced by stand-ins that do nothing, and anything else is refused
by name. What wraps the tensors is taken off: the dict of a training run, ``module.`` of parallel training,
``_orig_mod.`` of ``torch.compile``, and a name above all others.
"""

from __future__ import annotations

import contextlib
import pickle
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dejavlad.backbones.pickles import check_pickles
from dejavlad.errors import CheckpointError, MalformedFileError, first_line
from dejavlad.guarded.plain_file import open_regular
from dejavlad.guarded.zip_archive import is_zip, open_zip, read_npz

ZIP = b"PK\x03\x04"
STATES = ("state_dict", "model_state_dict", "model", "extractor")
"""Where checkpoints keep their tensors, beside the optimiser and the rest."""
DEEPEST = 4
"""So many mappings may lie around the tensors."""
WRAPPERS = ("model", "net", "network", "embed_net")
"""Names that a whole network may stand under."""
IGNORED = (
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *("numpy.dtype", "numpy.ndarray", "argparse.Namespace"),
)
"""What old checkpoints hold beside tensors."""
BESIDE = 1 << 20
"""Bytes that may be needed beside the tensors, whatever the size of the file."""
SHRUNK = 64
"""So many times smaller than its arrays a compressed .npz may be; real weights hardly shrink."""
LONE = "tensor"
"""The name of a tensor that a file holds without any."""


@dataclass(frozen=True, slots=True)
class TensorFile:
    """The named tensors of a weight file, and the plain values stored beside them."""

    tensors: dict[str, Tensor]
    """The tensors by name, without prefixes of training wrappers such as ``module.``."""
    extras: dict[str, Any] = field(default_factory=dict)
    """Other entries of the file by name, from which an importer may tell the source."""


def read_tensors(path: Path, *, lone: bool = False) -> TensorFile:
    """The named tensors of a file.

    Args:
        path: the file: PyTorch's (zip or older), .safetensors or .npz, whatever its name.
        lone: whether one tensor without a name will do; it is then called `LONE`.

    Raises:
        CheckpointError: the reason alone, without the path: it is damaged, holds more than weights, or none.
    """
    content = _load(path)
    if lone and isinstance(content, Tensor):
        content = {LONE: content}
    extras: dict[str, Any] = {}
    for _ in range(DEEPEST):  # a hostile one may hold itself
        if not isinstance(content, Mapping) or (inner := _state_in(content)) is None:
            break
        extras |= {str(key): content[key] for key in content if key != inner}
        content = content[inner]
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"it holds no named tensors, but {_kind(content)}")
    has_tensors = any(isinstance(value, Tensor) for value in content.values())
    beside = {str(key): value for key, value in content.items() if has_tensors and _is_plain(value)}
    others = [str(k) for k, v in content.items() if not isinstance(v, Tensor) and str(k) not in beside]
    if others:
        raise CheckpointError(f"it holds no named tensors only, but also {', '.join(others[:4])}")
    tensors = _unwrapped({str(key): value for key, value in content.items() if isinstance(value, Tensor)})
    room = path.stat().st_size * (SHRUNK if _is_npz(path) else 1) + BESIDE
    for key, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise CheckpointError(f"{key} is no plain tensor")
        room -= tensor.numel() * tensor.element_size()
        if room < 0:
            raise CheckpointError("its tensors are larger than the file")
    return TensorFile(tensors, extras | beside)


def _state_in(content: Mapping[Any, Any]) -> Any:
    """The key under which a mapping keeps the network's tensors; None where it keeps them itself.

    Raises:
        CheckpointError: tensors lie under several keys, none of which is of `STATES`.
    """
    known = next((key for key in STATES if isinstance(content.get(key), Mapping)), None)
    if known is not None or any(isinstance(value, Tensor) for value in content.values()):
        return known
    inner = [key for key, value in content.items() if _holds_tensors(value)]
    if len(inner) > 1:
        names = ", ".join(sorted(map(str, inner)))
        raise CheckpointError(f"it holds tensors under {names}; save those of the network alone")
    return inner[0] if inner else None


def _holds_tensors(value: object) -> bool:
    """Whether a value keeps tensors by their names, as a network does; an optimiser numbers its own."""
    level = [value]
    for _ in range(DEEPEST):
        mappings = {id(inner): inner for inner in level if isinstance(inner, Mapping)}  # each looked at once
        level = [inner for m in mappings.values() for key, inner in m.items() if isinstance(key, str)]
        if any(isinstance(inner, Tensor) for inner in level):
            return True
    return False


class _Nothing:
    """Stands in for what is not needed: takes anything, keeps nothing."""

    def __new__(cls, *_: object, **__: object) -> _Nothing:
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


def _is_plain(value: object) -> bool:
    """A number or a word, which tells nothing of the network's weights."""
    return value is None or isinstance(value, bool | int | float | str | _Nothing)


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
        if zipped and _is_npz(path):
            return {key: torch.from_numpy(array) for key, array in read_npz(path).items()}
        if zipped:
            _check_zip(path)
        check_pickles(path)
        with _allowed(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except CheckpointError:
        raise
    except MalformedFileError as error:
        raise CheckpointError(f"it is damaged, or cut short: {error}") from None
    except pickle.UnpicklingError as error:
        raise CheckpointError(_refusal(str(error))) from None
    except Exception as error:  # readers raise anything on damaged files
        raise CheckpointError(f"it is damaged, or cut short: {first_line(error)}") from None


def _is_npz(path: Path) -> bool:
    """Whether it is an archive of NumPy arrays."""
    if not is_zip(path):
        return False
    with open_zip(path) as archive:
        names = list(archive.members)
    return bool(names) and all(name.endswith(".npy") for name in names)


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
        raise CheckpointError(
            "it is a zip archive, but not PyTorch's: it has no data.pkl; unpack it, and give the file in it"
        )
    if grows:
        raise CheckpointError(
            "it is no archive that PyTorch writes: it is compressed, or says too large sizes"
        )


def _unwrapped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without what training puts before names, wherever it stands, and without a name above all others."""
    unwrapped = {
        re.sub(r"(^|\.)((?:module|_orig_mod)\.)+", r"\1", key): tensor for key, tensor in tensors.items()
    }
    for wrapper in WRAPPERS:
        if all(key.startswith(f"{wrapper}.") for key in unwrapped):
            unwrapped = {key.removeprefix(f"{wrapper}."): value for key, value in unwrapped.items()}
    if len(unwrapped) != len(tensors):
        raise CheckpointError("two of its tensors have the same name but for 'module.'")
    return unwrapped


def _refusal(message: str) -> str:
    """Which type was refused, from torch's explanation."""
    named = re.search(r"GLOBAL ([\w.]+)|class ([\w.]+)|type ([\w.]+)", message)
    if named is None:
        return f"it is damaged, or holds more than weights: {first_line(message)}"
    name = next(filter(None, named.groups()))
    return (
        f"it holds {name}, which is not executed; save its weights alone: "
        "torch.save(model.state_dict(), 'weights.pth')"
    )


def _kind(content: object) -> str:
    return f"a {type(content).__name__}" if not isinstance(content, Mapping) else "an empty dict"
