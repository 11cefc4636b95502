"""OpenVINO, on the processor, with a network compiled for each size of batch and photo.

``bf16`` is a hint: OpenVINO computes in bfloat16 where the processor has products of it, and is not asked
where it has not. What is not quantised of a file in int8 is computed so too.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dejavlad.errors import CheckpointError, InputError, MissingExtraError
from dejavlad.export.private_import import import_privately

KEPT = 6
"""Compiled networks that are kept, the last ones used."""


def has_bf16() -> bool:
    """Whether OpenVINO is installed and this processor has products of bfloat16."""
    try:
        core = import_privately("openvino").Core()
    except ImportError:
        return False
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenvinoSession:
    """A file of ONNX in OpenVINO; see `dejavlad.export.runtimes.open_session`."""

    def __init__(self, path: Path, precision: str) -> None:
        try:
            program: Any = import_privately("openvino")
        except ImportError:
            raise MissingExtraError("--runtime openvino", "openvino") from None
        self.version = str(program.__version__).partition("-")[0]
        self._program = program
        self._core = program.Core()
        half = precision != "fp32" and has_bf16()
        if precision == "bf16" and not half:
            raise InputError("this processor has no bf16 for OpenVINO; leave --precision out")
        self._settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "bf16" if half else "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        self._path = path
        try:
            self._core.read_model(str(path))
        except Exception as error:  # its errors share no base of their own
            raise CheckpointError(f"OpenVINO cannot open {str(path)!r}: {_line(error)}") from None
        self._compiled: OrderedDict[tuple[int, ...], Any] = OrderedDict()

    def run(self, images: NDArray[Any]) -> list[NDArray[np.float32]]:
        """All outputs."""
        try:
            request = self._of_shape(images.shape)
            made = request.infer({0: images}, share_inputs=True)
            return [np.array(made[output], np.float32) for output in request.model_outputs]
        except Exception as error:
            shape = "x".join(map(str, images.shape))
            raise InputError(f"OpenVINO cannot compute photos of {shape}: {_line(error)}") from None

    def _of_shape(self, shape: tuple[int, ...]) -> Any:
        """A request of the network for that very shape: faster than one for any shape."""
        if shape in self._compiled:
            self._compiled.move_to_end(shape)
            return self._compiled[shape]
        model = self._core.read_model(str(self._path))
        model.reshape(list(shape))
        request = self._core.compile_model(model, "CPU", self._settings).create_infer_request()
        self._compiled[shape] = request
        if len(self._compiled) > KEPT:
            self._compiled.popitem(last=False)
        return request


def _line(error: BaseException) -> str:
    return str(error).strip().split("\n")[-1][:300]
