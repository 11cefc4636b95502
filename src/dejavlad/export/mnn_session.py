"""MNN, on the processor, in float32: the fastest there for convolutions, by Winograd's products.

MNN runs files of its own kind, so a file of ONNX is converted once, into the cache. MNN's command for this
(``MNN.tools.mnnconvert``) installs a package and tells a web service of each conversion; the converter below
it does neither. It runs in a process of its own, because it writes on standard output.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray

from dejavlad.errors import CheckpointError, InputError, MissingExtraError
from dejavlad.export import onnx_file
from dejavlad.export.certificate import LEAST_COSINE, network_sha256, weights_beside
from dejavlad.export.compare import row_cosines
from dejavlad.export.make import beside
from dejavlad.export.runtimes import FOLDER, check_computes
from dejavlad.files import sha256_of, write_whole
from dejavlad.guarded.fields import DAMAGED
from dejavlad.guarded.json_file import read_json_object, with_checksum, without_checksum
from dejavlad.settings import Settings

CONVERT = "import _tools, sys; _tools.mnnconvert(['mnnconvert', *sys.argv[1:]])"
"""A program; what it is given are the options of MNN's converter."""
LARGEST = 2_000_000_000
"""Bytes of a network in one file of MNN's; the weights of a larger one would lie in a file of their own."""
TRIES = 4
"""Conversions of a network, until one answers as its definition."""
_REDIRECTED = threading.Lock()


class MnnSession:
    """A file of ONNX in MNN; see `dejavlad.export.runtimes.open_session`."""

    def __init__(self, path: Path, precision: str) -> None:
        check_computes("mnn", precision)
        self._program, self.version = _program()
        converted, self._names = _converted(path, self.version)
        self._shapes: set[tuple[int, ...]] = set()
        try:
            self._network = _opened(converted, self._names)
        except Exception as error:  # its errors share no base of their own
            raise CheckpointError(f"MNN cannot open {str(path)!r}: {error}") from None

    def run(self, images: NDArray[Any]) -> list[NDArray[np.float32]]:
        """All outputs."""
        # What is wrong with a shape, MNN prints when it first meets it.
        with nullcontext() if images.shape in self._shapes else _quiet():
            answers = _computed(self._program, self._network, images)
        if len(answers) != len(self._names):
            raise InputError(f"MNN cannot compute photos of {'x'.join(map(str, images.shape))}")
        self._shapes.add(images.shape)
        return answers


def _computed(program: Any, network: Any, images: NDArray[Any]) -> list[NDArray[np.float32]]:
    """The outputs of a network for photos; none where it cannot compute them."""
    tensors = program.expr
    kind = tensors.uint8 if images.dtype == np.uint8 else tensors.float
    given = tensors.const(images, list(images.shape), tensors.NCHW, kind)
    return [np.array(output.read(), np.float32) for output in network.forward([given])]


def _program() -> tuple[Any, str]:
    """MNN, and its version."""
    try:
        with _quiet():
            return importlib.import_module("MNN"), importlib.metadata.version("mnn")
    except ImportError:
        raise MissingExtraError("--runtime mnn", "mnn") from None


def _opened(converted: Path, names: list[str]) -> Any:
    """A file of MNN's, ready to compute."""
    functions = _program()[0].nn
    settings = {"backend": "CPU", "precision": "normal", "numThread": torch.get_num_threads()}
    with _quiet():
        runtime = functions.create_runtime_manager((settings,))
        return functions.load_module_from_file(
            str(converted), [onnx_file.IMAGES], names, runtime_manager=runtime
        )


def _converted(path: Path, version: str) -> tuple[Path, list[str]]:
    """A file of ONNX as MNN's, and the names of its outputs, from the cache.

    Both are made where they are not there, or were damaged.

    Raises:
        CheckpointError: MNN cannot convert it.
        OSError: the cache cannot be written.
    """
    folder = Settings.load().cache_dir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    data = weights_beside(path)
    name = network_sha256(path)[:20] + (f"-{sha256_of(data)[:20]}" if data is not None else "")
    made = folder / f"{name}-mnn-{version}.mnn"
    beside = made.with_suffix(".json")
    with FileLock(folder / f"{made.name}.lock"):
        names = _outputs(made, beside)
        if names is None:
            if path.stat().st_size + (0 if data is None else data.stat().st_size) > LARGEST:
                raise CheckpointError(
                    f"MNN cannot convert {str(path)!r}: it has more than 2 GB; give --runtime openvino"
                )
            images, expected = onnx_file.example(path)
            names = list(expected)
            if not any(_convert(path, made, images, expected) for _ in range(TRIES)):
                raise CheckpointError(
                    f"MNN converts {str(path)!r} to another network; give another --runtime"
                )
            fields = {"sha256": sha256_of(made), "outputs": names}
            write_whole(beside, json.dumps(with_checksum(fields)))
    return made, names


def _outputs(made: Path, beside: Path) -> list[str] | None:
    """The names of outputs of a file that was converted before; None where it lacks or is damaged."""
    if not (made.is_file() and beside.is_file()):
        return None
    try:
        fields = without_checksum(read_json_object(beside))
        return list(map(str, fields["outputs"])) if fields["sha256"] == sha256_of(made) else None
    except DAMAGED:
        return None


def _convert(path: Path, made: Path, images: NDArray[Any], expected: Mapping[str, NDArray[Any]]) -> bool:
    """Make MNN's file of a network, whole or not at all; whether it answers as `expected`.

    The converter sometimes makes another network, more often on a busy machine (seen of one transformer).
    """
    refused = f"MNN cannot convert {str(path)!r}: "
    if not sys.executable:
        raise CheckpointError(refused + "no Python is known that could (sys.executable is empty)")
    with beside(made) as folder:
        fresh = folder / made.name
        options = ["-f", "ONNX", "--modelFile", str(path.absolute()), "--MNNModel", str(fresh)]
        done = subprocess.run(
            [sys.executable, "-P", "-c", CONVERT, *options, "--bizCode", "dejavlad"],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode != 0 or not fresh.is_file():
            lines = (done.stdout + done.stderr).strip().splitlines() or ["it says nothing"]
            why = next((line for line in lines if "failed" in line or "ERROR" in line), lines[-1])
            raise CheckpointError(refused + why)
        if fresh.with_name(f"{fresh.name}.weight").exists():
            raise CheckpointError(refused + "its weights do not fit into one file")
        try:
            network = _opened(fresh, list(expected))
        except Exception:  # the converter says nothing of what it could not write
            raise CheckpointError(refused + "the file that it made is not whole; is the disk full?") from None
        if not _same(_computed(_program()[0], network, images), list(expected.values())):
            return False
        os.replace(fresh, made)
        return True


def _same(answers: list[NDArray[np.float32]], expected: list[NDArray[Any]]) -> bool:
    """Whether outputs are those of the definition, to rounding."""
    if [rows.shape for rows in answers] != [rows.shape for rows in expected]:
        return False
    return all(
        row_cosines(*pair).min() >= LEAST_COSINE["fp32"] for pair in zip(answers, expected, strict=True)
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Standard output without what MNN writes there: on import it tells of the processor."""
    with _REDIRECTED:  # of two at once, the second would take the first's nowhere for standard output
        with suppress(AttributeError, ValueError, OSError):  # it is None, closed or broken
            sys.stdout.flush()
        try:
            usual = os.dup(1)
        except OSError:  # there is no standard output
            usual = None
        if usual is None:
            yield
            return
        with open(os.devnull, "wb") as nowhere:
            _flush()
            os.dup2(nowhere.fileno(), 1)
            try:
                yield
            finally:
                _flush()
                os.dup2(usual, 1)
                os.close(usual)


def _flush() -> None:
    """Write out what C's library keeps of standard output."""
    (ctypes.cdll.ucrtbase if sys.platform == "win32" else ctypes.CDLL(None)).fflush(None)
