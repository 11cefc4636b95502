"""NNCF's quantiser, of OpenVINO's makers: scales for each channel, and biases corrected afterwards.

Its files are the fastest in OpenVINO; onnxruntime runs them, but no faster than in float32.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from dejavlad.errors import InputError
from dejavlad.export import onnx_file
from dejavlad.export.private_import import import_privately

EXACT = [".*aggregation.*", ".*whitening.*"]
"""Parts that are not quantised, by the names of their nodes."""


class NncfQuantiser:
    """Quantise by NNCF (a `dejavlad.export.quantise.Quantiser`)."""

    def __init__(self) -> None:
        self.program: Any = import_privately("nncf")
        self.name = f"nncf {self.program.__version__}"

    def __call__(self, source: Path, made: Path, photos: Sequence[NDArray[Any]], share: float) -> None:
        """Calibrate on prepared photos, each [1, ...], and write."""
        program = self.program
        program.set_log_level(logging.CRITICAL)
        network = onnx_file.read(source)
        first = onnx_file.first_convolutions(network, photos[0].shape, share)
        transformer = any(node.op_type == "Softmax" for node in network.graph.node if "backbone" in node.name)
        dataset = program.Dataset(list(photos), lambda photo: {onnx_file.IMAGES: photo})
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # its bars of progress
                quantised = program.quantize(
                    network,
                    dataset,
                    subset_size=len(photos),
                    preset=program.QuantizationPreset.MIXED,
                    advanced_parameters=program.AdvancedQuantizationParameters(
                        overflow_fix="disable"  # it halves the range of the first layers' weights
                    ),
                    model_type=program.ModelType.TRANSFORMER if transformer else None,
                    ignored_scope=program.IgnoredScope(names=first, patterns=EXACT, validate=False),
                )
        except Exception as error:  # its errors share no base of their own
            raise InputError(f"nncf cannot quantise this network: {error}") from None
        onnx_file.rewrite(quantised, made)
