"""The programs that run a file of ONNX, by name; each is imported in a file of its own, when it is used."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import InputError, UnknownNameError

TORCH, AUTO = "torch", "auto"
ENGINES: Final = ("mnn", "openvino", "onnxruntime")
"""The faster one first: `AUTO` takes the first that is installed."""
EXTRAS: Final = {"mnn": "mnn", "openvino": "openvino", "onnxruntime": "onnx"}
"""What installs each: ``pip install 'dejavlad[...]'``."""
PRECISIONS: Final = {
    "mnn": ("fp32",),
    "openvino": ("fp32", "bf16", "int8"),
    "onnxruntime": ("fp32", "int8"),
}
"""In which each computes; ``bf16`` where the processor has its products."""
RUNTIMES: Final = (AUTO, TORCH, *ENGINES)
FOLDER: Final = "exports"
"""In the cache folder: networks that were exported, or converted, when they were needed."""


class Session(Protocol):
    """A file of ONNX, ready to compute."""

    version: str
    """Of the program."""

    def run(self, images: NDArray[np.float32] | NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """All outputs, in the file's order, of photos as the file takes them."""


def open_session(runtime: str, path: Path, precision: str) -> Session:
    """A file in one of `ENGINES`, on as many threads as PyTorch takes.

    Raises:
        MissingExtraError: it is not installed.
        CheckpointError: it cannot run this file.
        InputError: it cannot compute in that precision here.
        UnknownNameError: no such program.
    """
    if runtime == "onnxruntime":
        from dejavlad.export.onnxruntime_session import OnnxruntimeSession

        return OnnxruntimeSession(path, precision)
    if runtime == "openvino":
        from dejavlad.export.openvino_session import OpenvinoSession

        return OpenvinoSession(path, precision)
    if runtime == "mnn":
        from dejavlad.export.mnn_session import MnnSession

        return MnnSession(path, precision)
    raise UnknownNameError("runtime", runtime, RUNTIMES)


def installed(runtime: str) -> bool:
    """Whether a program is installed, found without importing it."""
    return importlib.util.find_spec("MNN" if runtime == "mnn" else runtime) is not None


def check_computes(runtime: str, precision: str) -> None:
    """Raises InputError where a program of `ENGINES` does not compute in a precision."""
    if precision not in PRECISIONS[runtime]:
        raise InputError(
            f"{runtime} computes in {' and '.join(PRECISIONS[runtime])} on a processor; for {precision} give "
            "--runtime openvino"
        )


def chosen_runtime(runtime: str, precision: str = "fp32", *, convolutions: bool = True) -> str:
    """The name of a program, with `AUTO` as the fastest that is installed.

    Args:
        runtime: one of `RUNTIMES`.
        precision: in which it is to compute.
        convolutions: whether the network is one of convolutions; of others, MNN is not the fastest.

    Raises:
        UnknownNameError: no such program.
    """
    if runtime not in RUNTIMES:
        raise UnknownNameError("runtime", runtime, RUNTIMES)
    if runtime != AUTO:
        return runtime
    exporting = importlib.util.find_spec("onnx") is not None
    engines = sorted(ENGINES, key=lambda name: name == "mnn" and not convolutions)
    fitting = (name for name in engines if precision in PRECISIONS[name] and installed(name))
    return next(fitting, TORCH) if exporting else TORCH


def check_device(runtime: str, device: str) -> None:
    """Raises InputError where a program is to run on another device than the processor."""
    if runtime != TORCH and device not in ("auto", "cpu"):
        raise InputError(
            f"--runtime {runtime} computes on the processor here; leave --device out, or give --runtime torch"
        )
