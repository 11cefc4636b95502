"""onnxruntime, on the processor."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dejavlad.errors import CheckpointError, InputError, MissingExtraError


class OnnxruntimeSession:
    """A file of ONNX in onnxruntime; see `dejavlad.export.runtimes.open_session`."""

    def __init__(self, path: Path, precision: str) -> None:
        try:
            program: Any = importlib.import_module("onnxruntime")
        except ImportError:
            raise MissingExtraError("--runtime onnxruntime", "onnx") from None
        if precision == "bf16":
            raise InputError(
                "onnxruntime computes in fp32 on a processor; for bf16 give --runtime openvino or torch"
            )
        program.disable_telemetry_events()  # those that its builds for Windows write
        self.version = str(program.__version__)
        options = program.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            self._session = program.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors share no base of their own
            raise CheckpointError(f"onnxruntime cannot open {str(path)!r}: {_line(error)}") from None
        self._name = self._session.get_inputs()[0].name

    def run(self, images: NDArray[Any]) -> list[NDArray[np.float32]]:
        """All outputs."""
        try:
            return list(self._session.run(None, {self._name: images}))
        except Exception as error:
            shape = "x".join(map(str, images.shape))
            raise InputError(f"onnxruntime cannot compute photos of {shape}: {_line(error)}") from None


def _line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:300]
