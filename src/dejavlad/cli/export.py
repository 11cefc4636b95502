"""`dejavlad export`: a model as a file of ONNX, with the certificate of what it answers; and its check."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import Parameter

from dejavlad.cli.options import ModelOptions, numbers
from dejavlad.cli.terminal import Flag, Output, table
from dejavlad.errors import DejavladError, InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dejavlad.export import Certificate, ExportSetting
    from dejavlad.model import PlaceModel


@Parameter(name="*")
@dataclass(frozen=True)
class ExportOptions:
    """What the file takes and gives, and on which photos it is tried."""

    photos: str | None = None
    "Photos on which the answers are compared (default: made ones; with --int8 some of --calibrate)."
    with_preprocess: Flag = False
    "Take photos as bytes [N, height, width, 3] of the size that the network wants, not prepared."
    patches: Flag = False
    "Also give the patches that re-ranking compares, as further outputs."
    patch_sizes: str = "2,5,8"
    "Their sides, in cells."
    int8: Flag = False
    "Quantise it to int8: several times faster, and not the same answers."
    calibrate: str | None = None
    "With --int8: some dozens of photos like those to be described."
    dataset: str | None = None
    "With --int8: measure what that costs in recall on this dataset; the certificate tells it."
    root: Path | None = None
    "The folder that paths in a list, or a dataset, are relative to."

    def setting(self, resize: str | None) -> ExportSetting:
        """The file's, for photos of the size that ``--resize`` gives.

        Raises:
            InputError: options of int8 that do not go together.
        """
        from dejavlad.export import ExportSetting
        from dejavlad.images.preprocess import parse_resize
        from dejavlad.model import PatchSetting

        if self.int8 != (self.calibrate is not None):
            raise InputError("--int8 and --calibrate PHOTOS go together: give both or neither")
        if self.dataset is not None and not self.int8:
            raise InputError("--dataset tells what --int8 costs; give --int8 --calibrate PHOTOS too")
        size = None if resize is None else parse_resize(resize)
        sides = numbers("--patch-sizes", self.patch_sizes)
        return ExportSetting(
            size if isinstance(size, tuple) else None,
            PatchSetting(sides) if self.patches else None,
            self.with_preprocess,
        )


def export(
    model: str,
    /,
    *,
    out: Path,
    wanted: ExportOptions = ExportOptions(),
    options: ModelOptions = ModelOptions(),
    output: Output = Output(),
) -> None:
    """Write a model as ONNX, for any program that runs it, and certify that it answers the same.

    Examples:

        dejavlad export efficientnet_lite0-gem --out place.onnx
        dejavlad export megaloc --resize 322x322 --with-preprocess --out megaloc.onnx
        dejavlad export mixvpr-128 --int8 --calibrate photos/ --dataset town/test --out small.onnx

    Parameters
    ----------
    model
        A model's name (`dejavlad models`) or folder, with a network in it.
    out
        The file; its certificate lies beside it, as `OUT.json`.
    """
    from dejavlad.zoo.listing import refuse_unknown

    refuse_unknown(model)  # before torch is imported
    from dejavlad.export import export_model

    if options.precision != "fp32" or options.runtime not in ("torch", "auto"):
        raise InputError(
            "an export is in fp32 (or --int8), for every runtime; leave --precision and --runtime out, and "
            "give them where the file is used"
        )
    setting = wanted.setting(options.resize)
    if wanted.dataset is not None:
        from dejavlad.pipelines.recall_cost import measured_dataset, recall_cost

        places = measured_dataset(wanted.dataset, root=wanted.root)
    with output.progress() as on_progress:
        opened = options.load(model, on_progress)
        images = _images(wanted.photos, wanted.root, opened)
        comparing: dict[str, Any] = {"images": images, "on_progress": on_progress}
        if wanted.int8:
            from dejavlad.export.quantise import export_int8

            calibrate = _images(wanted.calibrate, wanted.root, opened)
            certificate = export_int8(opened, out, setting, calibrate=calibrate, **comparing)
        else:
            certificate = export_model(opened, out, setting, **comparing)
        if wanted.dataset is not None:
            from dejavlad.export.certificate import write_certificate

            cost = recall_cost(opened, out, places, on_progress=on_progress)
            certificate = replace(certificate, recall=cost)
            write_certificate(out, certificate)
    summary = {"onnx": str(out), "certificate": str(out) + ".json", **certificate.to_dict()}
    output.answer(summary, _text(out, certificate))


def verify_export(
    model: str,
    path: Path,
    photos: str | None,
    root: Path | None,
    options: ModelOptions,
    output: Output,
) -> None:
    """Compare a file of ONNX with its model anew, on this machine; status 1 where they differ.

    Raises:
        DejavladError: it answers otherwise, or was made of another model.
    """
    from dejavlad.export import read_certificate
    from dejavlad.export.make import certifiable, recertify

    certificate = read_certificate(path)
    runtime = None if options.runtime in ("auto", "torch") else options.runtime
    with output.progress() as on_progress:
        opened = replace(options, runtime="torch", precision="fp32", device="cpu").load(model, on_progress)
        precision = certificate.precision if certificate.precision == "int8" else options.precision
        pairs = ((runtime, precision),) if runtime else certifiable(certificate.precision)
        certificate = recertify(opened, path, certificate, pairs, _images(photos, root, opened))
    output.answer(certificate.to_dict(), _text(path, certificate))
    wrong = [answers for pair in pairs if (answers := certificate.of(*pair)) is not None and not answers.ok]
    if wrong:
        raise DejavladError(
            f"{path.name} does not answer as {certificate.name}: in {wrong[0].runtime} "
            f"({wrong[0].precision}) the least cosine is {wrong[0].cosine_min:.6f}"
        )


def _images(photos: str | None, root: Path | None, model: PlaceModel) -> list[NDArray[np.uint8]]:
    """At most some dozens of the photos, read; none where none are given."""
    from dejavlad.datasets import photos as open_photos
    from dejavlad.export.compare import sample

    if photos is None:
        return []
    return sample(open_photos(photos, root=root), model.preprocess.rotate)


def _text(path: Path, certificate: Certificate) -> str:
    size = "any size" if certificate.size is None else "x".join(map(str, certificate.size)) + " pixels"
    what = "bytes" if certificate.with_preprocess else "prepared photos"
    lines = [
        f"{path}: {certificate.name}, {certificate.dims} dims, {what} of {size}, opset {certificate.opset}, "
        f"IR {certificate.ir_version}, {certificate.network_bytes / 1e6:.1f} MB"
    ]
    if certificate.patches is not None:
        lines.append(f"patches of sizes {certificate.patches['sizes']}, {certificate.patches['dims']} dims")
    rows = [
        (
            f"{answers.runtime} {answers.version}",
            answers.precision,
            f"{answers.cosine_min:.6f}",
            f"{answers.cosine_mean:.6f}",
            f"{answers.difference:.1e}",
            f"{answers.same_first:.0%}",
            "ok" if answers.ok else "DIFFERS",
        )
        for answers in certificate.answers
    ]
    heads = ("runtime", "in", "least cosine", "mean", "difference", "same best", "")
    lines.append(str(table(heads, rows, right=(2, 3, 4, 5))))
    if certificate.recall is not None:
        lines.append(str(certificate.recall))
    return "\n".join(lines)
