"""A model to a file of ONNX, with the certificate of what it answers."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dejavlad.errors import CheckpointError, DejavladError, InputError, MissingExtraError
from dejavlad.export import onnx_file
from dejavlad.export.certificate import Certificate, certificate_file, embed, write_certificate
from dejavlad.export.compare import MADE, Size, compare
from dejavlad.export.network import ExportedNetwork, check_network, takes_any_size
from dejavlad.export.runtimes import ENGINES, PRECISIONS, installed, open_session
from dejavlad.files import sha256_of
from dejavlad.model import PatchSetting, PlaceModel, cell_geometry
from dejavlad.model.alone import made_photos
from dejavlad.model.device import INT8
from dejavlad.progress import OnProgress, Progress, silent
from dejavlad.storage import discard, one_writer
from dejavlad.storage.folder import LOCK

USUAL = (480, 640)
"""(height, width) of the photos whose prepared size is exported, unless another is told."""
EXPORTING = "exporting"


@dataclass(frozen=True, slots=True)
class ExportSetting:
    """What is exported of a model."""

    size: tuple[int, int] | None = None
    """(height, width) of prepared photos; default: as the model prepares photos of 480x640."""
    patches: PatchSetting | None = None
    """Also these patches."""
    with_preprocess: bool = False
    """Take photos as bytes, of the size that the network wants."""
    runtimes: tuple[tuple[str, str], ...] | None = None
    """(runtime, precision) to be certified for; default: all that this machine has."""
    data_from: int = onnx_file.DATA_FROM
    """Bytes of weights from which they lie in a file of their own."""


def export_model(
    model: PlaceModel,
    out: str | Path,
    setting: ExportSetting = ExportSetting(),
    *,
    images: Sequence[NDArray[np.uint8]] = (),
    on_progress: OnProgress = silent,
) -> Certificate:
    """Write a model as ONNX, compare its answers with the model's own, and certify them.

    Where the network allows, the file takes photos of any size; else of one, and says so.

    Args:
        model: fitted, with a network, on the processor.
        out: the file (``.onnx``); what is there is replaced once the new one is whole and proven.
        setting: what is exported.
        images: photos to compare by, uint8 [H, W, 3], at least 3; default: made ones.
        on_progress: called with reports of `EXPORTING`.

    Returns:
        The certificate, which lies beside the file and at its end too.

    Raises:
        InputError: the model is no network, is not fitted, or cannot be exported.
        MissingExtraError: no runtime is installed, or ``onnx`` is not.
        DejavladError: the file does not answer as the model; nothing is written.
        OSError: it cannot be written.
    """
    out = Path(out)
    check_network(model)
    model.require_fitted()
    if out.suffix != ".onnx":
        raise InputError(f"--out {str(out)!r}: give a file that ends with .onnx")
    if model.device.type != "cpu":
        raise InputError("a model is exported from the processor; load it with device='cpu' (--device cpu)")
    images = list(images) or list(made_photos(MADE))
    if len(images) < 3:
        raise InputError(f"answers are compared on at least 3 photos; given {len(images)}")
    size = setting.size or model.preprocess.output_size(*USUAL)
    why = "no size was tried"
    with beside(out) as folder:
        made = folder / out.name
        for any_size in (True, False) if takes_any_size(model) else (False,):
            on_progress(Progress(EXPORTING, 0, 3))
            bare = _written(model, made, setting, size, any_size=any_size)
            on_progress(Progress(EXPORTING, 1, 3))
            try:
                sizes = tried_sizes(bare.size, size)
                certificate = certify(model, made, bare, images, sizes, setting)
            except InputError as error:
                why = str(error)
                continue
            wrong = [each for each in certificate.answers if each.precision == "fp32" and not each.ok]
            if not wrong:
                embed(made, certificate)
                on_progress(Progress(EXPORTING, 3, 3))
                move(made, out)
                return certificate
            why = f"in {wrong[0].runtime} its least cosine is {wrong[0].cosine_min:.6f}"
    raise DejavladError(f"the exported {model.name} does not answer as the model: {why}; nothing was written")


def _written(
    model: PlaceModel, path: Path, setting: ExportSetting, size: Size, *, any_size: bool
) -> Certificate:
    """The network's file, for photos of any size or of one, and its certificate before it is compared."""
    onnx_file.write_network(
        ExportedNetwork(model, setting.patches, with_preprocess=setting.with_preprocess),
        size,
        path,
        any_size=any_size,
        metadata=_metadata(model, setting),
        data_from=setting.data_from,
    )
    return describe_file(model, path, setting, None if any_size else size)


def certify(
    model: PlaceModel,
    path: Path,
    certificate: Certificate,
    images: Sequence[NDArray[np.uint8]],
    sizes: Sequence[Size],
    setting: ExportSetting,
) -> Certificate:
    """The certificate with answers of each runtime that the setting names, or that is installed.

    Raises:
        MissingExtraError: none is installed.
        InputError: one cannot compute such photos.
        CheckpointError: none can run the file.
    """
    wanted = setting.runtimes or certifiable(certificate.precision)
    why: CheckpointError | None = None
    for runtime, precision in wanted:
        try:
            session = open_session(runtime, path, precision)
        except CheckpointError as error:  # this program cannot run it, so it is not certified for it
            why = error
            continue
        answers = compare(
            model,
            session,
            images,
            sizes,
            runtime=runtime,
            precision=precision,
            as_precision=certificate.precision if certificate.precision == INT8 else None,
            patches=setting.patches,
            with_preprocess=setting.with_preprocess,
        )
        certificate = certificate.with_answers(answers)
    if why is not None and not certificate.answers:
        raise why
    return certificate


def recertify(
    model: PlaceModel,
    path: Path,
    certificate: Certificate,
    pairs: tuple[tuple[str, str], ...],
    images: Sequence[NDArray[np.uint8]] = (),
) -> Certificate:
    """Compare a file with its model again, here, and write the certificate beside it anew.

    Args:
        model: that it was made of.
        path: the file.
        certificate: as `read_certificate` found it to fit.
        pairs: (runtime, precision) to compare.
        images: photos to compare by; default: made ones.

    Raises:
        DejavladError: it was made of another model.
    """
    patches = certificate.patches
    setting = None
    if patches is not None:
        cut = patches["dims"] if patches["dims"] != _patch_dims(model) else None
        setting = PatchSetting(tuple(patches["sizes"]), tuple(patches["strides"]), cut)
    ours = model.patch_fingerprint if patches is not None else model.fingerprint
    theirs = certificate.patch_fingerprint if patches is not None else certificate.fingerprint
    if ours != theirs:
        raise DejavladError(
            f"{path.name} was exported from another model ({certificate.name}, {theirs[:12]}) than this "
            f"{model.name} ({ours[:12]}), or with another --resize or --dims; give these too"
        )
    images = list(images) or list(made_photos(MADE))
    tried = [answers.sizes[0] for answers in certificate.answers]
    size = tried[0] if tried else model.preprocess.output_size(*USUAL)
    sizes = tried_sizes(certificate.size, size)
    wanted = ExportSetting(None, setting, certificate.with_preprocess, pairs)
    certificate = certify(model, path, certificate, images, sizes, wanted)
    write_certificate(path, certificate)
    return certificate


def tried_sizes(only: Size | None, size: Size) -> list[Size]:
    """Sizes to compare a network at: the only one that it takes, or `size` and another of other proportions.

    Where one is even, the other is odd: layers that halve it round.
    """
    return [only] if only is not None else [size, (size[0] + 33, max(size[1] - 31, 65))]


def certifiable(precision: str = "fp32") -> tuple[tuple[str, str], ...]:
    """(runtime, precision) of all that is installed and that this processor has.

    Raises:
        MissingExtraError: none is installed.
    """
    fitting = [runtime for runtime in ENGINES[::-1] if precision in PRECISIONS[runtime]]
    pairs = [(runtime, precision) for runtime in fitting if installed(runtime)]
    if not pairs:
        raise MissingExtraError("certifying an export", "onnx")
    if precision == "fp32" and installed("openvino"):
        from dejavlad.export.openvino_session import has_bf16

        pairs += [("openvino", "bf16")] if has_bf16() else []
    return tuple(pairs)


def describe_file(
    model: PlaceModel,
    path: Path,
    setting: ExportSetting,
    size: Size | None,
    *,
    precision: str = "fp32",
) -> Certificate:
    """The certificate of a file before anything is compared."""
    opset, ir_version = onnx_file.versions(path)
    data = onnx_file.data_file(path)
    patches = setting.patches
    try:
        geometry = cell_geometry(model.backbone)
        stride, offset = geometry.stride, float(geometry.offset)
    except InputError:
        stride, offset = 0, 0.0
    return Certificate(
        name=model.name,
        fingerprint=model.fingerprint,
        patch_fingerprint=model.patch_fingerprint,
        dims=model.descriptor_size,
        preprocess=json.loads(json.dumps(model.preprocess.to_dict())),
        with_preprocess=setting.with_preprocess,
        precision=precision,
        size=size,
        patches=None
        if patches is None
        else {
            "sizes": list(patches.sizes),
            "strides": list(patches.strides),
            "dims": patches.dims or _patch_dims(model),
        },
        stride=stride,
        offset=offset,
        alone=model.alone,
        opset=opset,
        ir_version=ir_version,
        made_with={name: importlib.metadata.version(name) for name in ("torch", "onnx")},
        network_bytes=path.stat().st_size,
        network_sha256=sha256_of(path),
        data_sha256=sha256_of(data) if data.exists() else None,
    )


def _patch_dims(model: PlaceModel) -> int:
    """Dimensions of a patch's descriptor where none are left out."""
    whitening = model.patch_whitening or model.whitening
    return model.aggregation.descriptor_size if whitening is None else whitening.dims


def move(made: Path, out: Path) -> None:
    """A whole export to its place: at no moment lies a certificate beside a file that it does not fit."""
    certificate_file(out).unlink(missing_ok=True)
    data = onnx_file.data_file(made)
    large = data.exists()
    if large:
        os.replace(data, onnx_file.data_file(out))
    os.replace(made, out)
    if not large:
        onnx_file.data_file(out).unlink(missing_ok=True)
    os.replace(certificate_file(made), certificate_file(out))


@contextmanager
def beside(out: Path) -> Iterator[Path]:
    """A folder beside a file, in which it is made before it takes its place.

    What a run that was killed left in it goes first.

    Raises:
        StoreBusyError: another process makes the same file.
    """
    folder = out.with_name(f".{out.name}.partial")
    folder.mkdir(parents=True, exist_ok=True)
    with one_writer(folder):
        for left in folder.iterdir():
            if left.is_dir():
                discard(left)
            elif left.name != LOCK:
                left.unlink()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)  # the lock, which Windows removes only once it is free


def _metadata(model: PlaceModel, setting: ExportSetting) -> dict[str, str]:
    """For programs that run the file without dejavlad."""
    return {
        "dejavlad.model": model.name,
        "dejavlad.preprocess": json.dumps(model.preprocess.to_dict()),
        "dejavlad.preprocess.text": str(model.preprocess),
        "dejavlad.with_preprocess": str(setting.with_preprocess).lower(),
        "dejavlad.fingerprint": model.fingerprint,
    }
