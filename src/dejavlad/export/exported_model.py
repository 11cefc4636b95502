"""A file of ONNX with its certificate as a model: the same `encode`, stores and maps."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dejavlad.aggregation import Aggregation
from dejavlad.backbones.base import check_prepared
from dejavlad.errors import CheckpointError, InputError
from dejavlad.export.certificate import Certificate, certificate_file, read_certificate, weights_beside
from dejavlad.export.engines import FileEngine, check_patches
from dejavlad.export.runtimes import AUTO, ENGINES, PRECISIONS, installed
from dejavlad.files import write_whole
from dejavlad.guarded.fields import DAMAGED
from dejavlad.guarded.json_file import read_json_object, with_checksum, without_checksum
from dejavlad.images import Preprocess
from dejavlad.model import PatchSetting, PlaceModel
from dejavlad.model.device import INT8, check_precision

NETWORK = "network.onnx"
"""The file's name in a model folder, as maps keep it."""


class NoBackbone(nn.Module):
    """Stands for the network that lies in the file."""

    def __init__(self, certificate: Certificate) -> None:
        super().__init__()
        self.channels = certificate.dims
        self.leading = 0
        if certificate.stride:
            self.stride, self.offset = certificate.stride, certificate.offset


class NoAggregation(Aggregation):
    """Stands for what the file does after its network."""

    name = "exported"

    def __init__(self, certificate: Certificate) -> None:
        super().__init__(certificate.dims)
        self._alone = certificate.alone

    @property
    def alone(self) -> bool:
        """As the certificate tells."""
        return self._alone


@dataclass(frozen=True)
class ExportedPatches:
    """What writes patches down needs to know of how an exported network makes them."""

    whitening: Any
    """Has ``weight`` [d, ...]."""


class ExportedModel(PlaceModel):
    """A certified file of ONNX. It describes; it cannot be trained, fitted or whitened."""

    engine: FileEngine

    def __init__(self, path: Path, certificate: Certificate, engine: FileEngine) -> None:
        self._certificate = certificate
        super().__init__(
            NoBackbone(certificate),
            NoAggregation(certificate),
            Preprocess.from_dict(certificate.preprocess),
            fitted=True,
            name=certificate.name,
            provenance={"exported": path.name},
        )
        self.path, self.certificate = path, certificate
        self.engine = engine

    @property
    def precision(self) -> str:
        """In which the runtime computes; ``int8`` for a quantised file."""
        return INT8 if self._certificate.precision == INT8 else self._precision

    @precision.setter
    def precision(self, precision: str) -> None:
        chosen = computing(self._certificate, precision)
        self._precision = "fp32" if chosen == INT8 else chosen
        self._copy = None
        if hasattr(self, "path"):
            self.engine = FileEngine(self.path, self.certificate, self.engine.runtime, chosen)

    @property
    def fingerprint(self) -> str:
        """That of the model that it was made of, where the certificate proves that its answers are the same.

        Another size of photos, fewer dimensions, or a quantised network is another model.
        """
        return self._as_source(self.certificate.fingerprint)

    @property
    def patch_fingerprint(self) -> str:
        """Likewise, of patches."""
        return self._as_source(self.certificate.patch_fingerprint)

    @property
    def device(self) -> torch.device:
        """The processor."""
        return torch.device("cpu")

    def features(self, images_NCHW: Tensor) -> Tensor:
        """Refused: the file gives descriptors.

        Raises:
            InputError: always.
        """
        raise InputError(
            f"{self.path.name} gives descriptors, not feature maps; for training, fitting and layers "
            f"take the model that it was exported from ({self.name})"
        )

    def describe(self, images_NCHW: Tensor) -> Tensor:
        """Descriptors [N, D]; no gradient flows."""
        check_prepared(images_NCHW)
        return self.engine.describe(self, images_NCHW)

    def patch_layer(self, patches: PatchSetting | None = None) -> Any:
        """What is known of its patches; `describe_with_patches` makes them."""
        setting = patches or PatchSetting()
        check_patches(self.certificate, setting, self.path.name)
        assert self.certificate.patches is not None
        return ExportedPatches(nn.Linear(1, int(self.certificate.patches["dims"]), device="meta"))

    def with_whitening(self, *_: Any, **__: Any) -> PlaceModel:
        """Refused.

        Raises:
            InputError: always.
        """
        raise InputError(f"{self.path.name} cannot learn a whitening: whiten the model, then export that")

    with_patch_whitening = with_clusters = with_whitening

    def save_export(self, folder: Path) -> Path:
        """Write the file, its certificate and a ``spec.json`` as a model folder, for maps.

        Raises:
            InputError: something else is there.
        """
        if folder.exists() and any(folder.iterdir()) and not (folder / NETWORK).exists():
            raise InputError(f"{str(folder)!r} is there and is no exported model; give another place")
        made = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        shutil.copyfile(self.path, made / NETWORK)
        if (data := weights_beside(self.path)) is not None:  # the network names it, so it keeps its name
            shutil.copyfile(data, made / data.name)
        fields = {
            "exported": NETWORK,
            "runtime": self.engine.runtime,
            "preprocess": self.preprocess.to_dict(),
            "dims": self.dims,
            "fingerprint": self.fingerprint,
        }
        if certificate_file(self.path).exists():
            shutil.copyfile(certificate_file(self.path), certificate_file(made / NETWORK))
        write_whole(made / "spec.json", json.dumps(with_checksum(fields), indent=2) + "\n")
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
        return folder

    def _as_source(self, fingerprint: str) -> str:
        chosen: dict[str, Any] = {"preprocess": self.preprocess.to_dict(), "dims": self.dims}
        plain = {"preprocess": Preprocess.from_dict(self.certificate.preprocess).to_dict(), "dims": None}
        if self.certificate.precision == INT8:
            chosen["network"] = self.certificate.network_sha256
        if chosen == plain:
            return fingerprint
        return hashlib.sha256((fingerprint + json.dumps(chosen, sort_keys=True)).encode()).hexdigest()

    def _with(self, **changed: Any) -> PlaceModel:
        made = ExportedModel(self.path, self.certificate, self.engine)
        made.preprocess = changed.pop("preprocess", self.preprocess)
        made.dims = changed.pop("dims", self.dims)
        made._precision = self._precision
        made.together = self.together
        if changed.pop("whitening", None) is not None or set(changed) - {"whitening"}:
            raise InputError(f"{self.path.name} is an exported network, of which parts cannot be changed")
        return made


def is_export(src: Path) -> bool:
    """Whether that is a file of ONNX, or a model folder that holds one."""
    return src.suffix.lower() == ".onnx" or (src / NETWORK).is_file()


def open_export(src: Path, *, runtime: str = AUTO, precision: str = "fp32") -> ExportedModel:
    """A certified file, or the model folder that a map keeps of one.

    Args:
        src: the file or folder.
        runtime: in which it runs; ``auto`` and ``torch`` (which cannot) take the fastest that is certified.
        precision: ``fp32``, ``bf16`` or, of a quantised file, ``int8``.

    Raises:
        CheckpointError: there is no file, or no certificate that fits it to the byte.
        MissingExtraError: no runtime is installed.
        InputError: it is not certified for that runtime and precision, or int8 is chosen for of another file.
    """
    path = src / NETWORK if src.is_dir() else src
    if not path.is_file():
        raise CheckpointError(f"there is no file {str(path)!r}")
    certificate = read_certificate(path)
    chosen = computing(certificate, precision)
    engine = FileEngine(path, certificate, _runtime(certificate, runtime, chosen), chosen)
    model = ExportedModel(path, certificate, engine)
    model.precision = precision
    if src.is_dir():
        model = _as_kept(model, src)
    return model


def computing(certificate: Certificate, precision: str) -> str:
    """The precision that counts: a quantised file is in int8, whatever is chosen for.

    Raises:
        InputError: int8 is chosen for of a file that was not calibrated.
        UnknownNameError: no such precision.
    """
    return INT8 if certificate.precision == INT8 else check_precision(precision)


def _runtime(certificate: Certificate, runtime: str, precision: str) -> str:
    if runtime in ENGINES:
        return runtime
    fitting = [name for name in ENGINES if precision in PRECISIONS[name] and installed(name)]
    for name in fitting:
        answers = certificate.of(name, precision)
        if answers is not None and answers.ok:
            return name
    return fitting[0] if fitting else ENGINES[-1]


def _as_kept(model: ExportedModel, folder: Path) -> ExportedModel:
    try:
        fields = without_checksum(read_json_object(folder / "spec.json"))
        preprocess, dims = Preprocess.from_dict(fields["preprocess"]), fields["dims"]
        made = model._with(preprocess=preprocess, dims=None if dims is None else int(dims))
    except DAMAGED as error:
        raise CheckpointError(f"{str(folder / 'spec.json')!r} cannot be read: {error}") from None
    assert isinstance(made, ExportedModel)
    if "fingerprint" in fields and fields["fingerprint"] != made.fingerprint:
        raise CheckpointError(f"{str(folder / 'spec.json')!r} tells of another network than lies beside it")
    return made
