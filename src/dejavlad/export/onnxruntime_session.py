"""onnxruntime, on the processor."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dejavlad.errors import CheckpointError, InputError, MissingExtraError, first_line
from dejavlad.export.runtimes import check_computes


class OnnxruntimeSession:
    """A file of ONNX in onnxruntime; see `dejavlad.export.runtimes.open_session`."""

    def __init__(self, path: Path, precision: str) -> None:
        check_computes("onnxruntime", precision)
        try:
            program: Any = importlib.import_module("onnxruntime")
        except ImportError:
            raise MissingExtraError("--runtime onnxruntime", "onnx") from None
        program.disable_telemetry_events()  # those that its builds for Windows write
        self.version = str(program.__version__)
        options = program.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            self._session = program.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors share no base of their own
            raise CheckpointError(f"onnxruntime cannot open {str(path)!r}: {first_line(error)}") from None
        self._name = self._session.get_inputs()[0].name

    def run(self, images: NDArray[Any]) -> list[NDArray[np.float32]]:
        """All outputs."""
        try:
            return list(self._session.run(None, {self._name: images}))
        except Exception as error:
            shape = "x".join(map(str, images.shape))
            raise InputError(f"onnxruntime cannot compute photos of {shape}: {first_line(error)}") from None
