"""Exports in int8: static quantisation after training, with ranges calibrated on photos.

Weights get a scale for each channel, activations one range each, from the photos. The backbone alone is
quantised, but for its first convolution: what is rounded there, all layers after it carry on. Where
descriptors are then not near enough, some after it are left as they are too. Assignments to clusters and the
whitening are sharp and cheap. What is not quantised is computed by OpenVINO in bfloat16, where the processor
has its products.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from dejavlad.errors import InputError, MissingExtraError
from dejavlad.export import onnx_file
from dejavlad.export.certificate import Certificate, embed
from dejavlad.export.compare import Size
from dejavlad.export.make import ExportSetting, beside, certify, describe_file, export_model, move
from dejavlad.export.network import as_bytes
from dejavlad.export.runtimes import installed
from dejavlad.model import PlaceModel
from dejavlad.model.device import INT8
from dejavlad.progress import OnProgress, Progress, silent

QUANTISING = "calibrating and quantising"
PHOTOS = 64
"""Photos that ranges are calibrated on, at most."""
LEAST = 8
"""Photos that ranges are calibrated on, at least."""
SHARES = (0.0, 0.05)
"""Shares of the convolutions' multiplications that are left as they are after the first, by turns."""
NEAR = 0.998
"""Mean cosine to the model's descriptors with which no further share is tried."""


def export_int8(
    model: PlaceModel,
    out: str | Path,
    setting: ExportSetting = ExportSetting(),
    *,
    calibrate: Sequence[NDArray[np.uint8]],
    images: Sequence[NDArray[np.uint8]] = (),
    on_progress: OnProgress = silent,
) -> Certificate:
    """Write a model as a quantised ONNX file, with the certificate of what that changes.

    Args:
        model: as `export_model` takes it.
        out: the file.
        setting: what is exported.
        calibrate: photos like those that will be described, uint8 [H, W, 3]; some dozens.
        images: photos to compare by; default: some of `calibrate`.
        on_progress: called with reports.

    Returns:
        The certificate; its answers say how near the quantised network is, and its fingerprint is that of
        the model, of which the quantised file counts as another one.

    Raises:
        InputError: too few photos, or as `export_model`.
        MissingExtraError: no quantiser is installed.
    """
    out = Path(out)
    if len(calibrate) < LEAST:
        raise InputError(
            f"int8 is calibrated on at least {LEAST} photos like those to be described; "
            f"given {len(calibrate)}"
        )
    images = list(images) or list(calibrate[:: len(calibrate) // LEAST][:LEAST])
    onnx_file.check_installed()
    program = quantiser()
    with beside(out) as folder:
        exact = folder / "float.onnx"
        plain = replace(setting, runtimes=(("onnxruntime", "fp32"),))
        before = export_model(model, exact, plain, images=images, on_progress=on_progress)
        on_progress(Progress(QUANTISING, 0, 1))
        size = before.size or setting.size or model.preprocess.output_size(*calibrate[0].shape[:2])
        photos = _prepared(model, calibrate, size, setting)

        def certified(network: Path, first: int) -> Certificate:
            calibrated = {"photos": len(photos), "by": program.name, "rest": "bf16", "first": first}
            bare = describe_file(model, network, setting, before.size, precision=INT8)
            return certify(model, network, replace(bare, calibrated=calibrated), images, [size], setting)

        made, certificate = _nearest(program, exact, out.name, photos, certified)
        embed(made, certificate)
        on_progress(Progress(QUANTISING, 1, 1))
        move(made, out)
    return certificate


def _nearest(
    program: Quantiser,
    exact: Path,
    name: str,
    photos: Sequence[NDArray[Any]],
    certified: Callable[[Path, int], Certificate],
) -> tuple[Path, Certificate]:
    """A network quantised with the first of `SHARES` that is near enough, else the nearest; and its proof."""
    outline, first, nearest = onnx_file.read_outline(exact), None, -math.inf
    for share in SHARES:
        tried, first = first, onnx_file.first_convolutions(outline, photos[0].shape, share)
        if first == tried:
            break
        network = exact.parent / str(share) / name
        network.parent.mkdir()
        program(exact, network, photos, share)
        certificate = certified(network, len(first))
        near = min(answers.cosine_mean for answers in certificate.answers)
        if near > nearest:
            made, proven, nearest = network, certificate, near
        if nearest >= NEAR:
            break
    return made, proven


class Quantiser(Protocol):
    """Makes a quantised file of a file."""

    @property
    def name(self) -> str:
        """The program and its version."""

    def __call__(self, source: Path, made: Path, photos: Sequence[NDArray[Any]], share: float) -> None:
        """Calibrate on prepared photos, each [1, ...], and write; `share` as of `first_convolutions`.

        Raises:
            InputError: it cannot quantise this network.
        """


def quantiser() -> Quantiser:
    """NNCF where it is installed, whose descriptors are nearer, else onnxruntime's own.

    Raises:
        MissingExtraError: neither is installed.
    """
    if installed("nncf"):
        from dejavlad.export.nncf_quantiser import NncfQuantiser

        return NncfQuantiser()
    if installed("onnxruntime"):
        from dejavlad.export.onnxruntime_quantiser import OnnxruntimeQuantiser

        return OnnxruntimeQuantiser()
    raise MissingExtraError("quantising to int8", "int8")


def _prepared(
    model: PlaceModel, images: Sequence[NDArray[np.uint8]], size: Size, setting: ExportSetting
) -> list[NDArray[Any]]:
    rows = np.unique(np.linspace(0, len(images) - 1, min(len(images), PHOTOS)).astype(int))
    prepare = replace(model.preprocess, resize=f"{size[0]}x{size[1]}", multiple=1)
    prepared = [torch.from_numpy(prepare(images[row]))[None] for row in rows]
    if setting.with_preprocess:
        prepared = [as_bytes(image, model.preprocess) for image in prepared]
    return [np.ascontiguousarray(image.numpy()) for image in prepared]
