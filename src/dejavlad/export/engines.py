"""Engines of models: one file of ONNX, or files made of a model when they are needed, and kept.

Shapes: N photos, D numbers of a descriptor, P patches of one size.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from dejavlad.aggregation import patch_centres
from dejavlad.aggregation.functional import l2_normalize_whole
from dejavlad.backbones.base import Geometry, check_prepared
from dejavlad.errors import CheckpointError, DejavladError, InputError, MissingExtraError, StoreError
from dejavlad.export.certificate import Certificate, read_certificate, write_certificate
from dejavlad.export.make import ExportSetting, certify, export_model, tried_sizes
from dejavlad.export.network import as_bytes, check_network, takes_any_size
from dejavlad.export.onnx_file import check_installed, empty_layer, read_outline
from dejavlad.export.runtimes import EXTRAS, FOLDER, Session, check_computes, installed, open_session
from dejavlad.model import PatchSetting, PlaceModel
from dejavlad.model.alone import made_photos
from dejavlad.patches import PatchSet
from dejavlad.settings import Settings

Size = tuple[int, int]
SMALL = 128
"""Pixels of a photo's side below which it may be too small for a network."""


class FileEngine:
    """A file of ONNX in one of the runtimes, with what its certificate proves.

    Args:
        path: the file.
        certificate: its own.
        runtime: one of `dejavlad.export.runtimes.ENGINES`.
        precision: in which the runtime computes.

    Raises:
        InputError: that runtime does not compute so, or is not certified.
    """

    def __init__(self, path: Path, certificate: Certificate, runtime: str, precision: str) -> None:
        self.path, self.certificate, self.runtime, self.precision = path, certificate, runtime, precision
        check_computes(runtime, precision)
        answers = certificate.of(runtime, precision)
        if answers is None or not answers.ok:
            why = "says nothing of" if answers is None else f"has a cosine of {answers.cosine_min:.5f} for"
            proven = [f"{entry.runtime} in {entry.precision}" for entry in certificate.answers if entry.ok]
            raise InputError(
                f"{str(path)!r}: its certificate {why} {runtime} in {precision}; proven: "
                f"{', '.join(proven) or 'nothing'}. Compare here: dejavlad verify MODEL {path.name} "
                f"--runtime {runtime} --precision {precision}"
            )
        self._session: Session | None = None
        self._outline: Any = None
        self._small: set[tuple[int, ...]] = set()

    def describe(self, model: PlaceModel, images_NCHW: Tensor) -> Tensor:
        """Descriptors float32 [N, D]; the first of them, where the model keeps fewer than the file gives."""
        return self._kept(model, self._run(model, images_NCHW)[0])

    def patches(
        self, model: PlaceModel, images_NCHW: Tensor, setting: PatchSetting
    ) -> tuple[Tensor, list[list[PatchSet]]]:
        """Descriptors [N, D], and of each photo its patches of each size."""
        check_patches(self.certificate, setting, self.path.name)
        height, width = images_NCHW.shape[2:]
        cells_at_most = -(-min(height, width) // (self.certificate.stride or 1))
        if (largest := max(setting.sizes)) > cells_at_most:
            raise InputError(
                f"photos of {height}x{width} pixels are too small for patches of {largest}x{largest} cells; "
                "give larger ones, or --resize"
            )
        rows_ND, *by_size, cells_2 = self._run(model, images_NCHW)
        cells = [int(side) for side in cells_2]
        geometry = Geometry(stride=self.certificate.stride, offset=self.certificate.offset)
        photos: list[list[PatchSet]] = [[] for _ in images_NCHW]
        for patches_NPd, size, stride in zip(by_size, setting.sizes, setting.strides, strict=True):
            grid = ((cells[0] - size) // stride + 1, (cells[1] - size) // stride + 1)
            centres_P2 = patch_centres(grid, size, stride, geometry)
            step = float(geometry.stride * stride)
            for photo, patches_Pd in zip(photos, patches_NPd, strict=True):
                photo.append(PatchSet(patches_Pd, centres_P2, grid, size, step))
        return self._kept(model, rows_ND), photos

    def _run(self, model: PlaceModel, images_NCHW: Tensor) -> list[Tensor]:
        certificate = self.certificate
        size = (int(images_NCHW.shape[2]), int(images_NCHW.shape[3]))
        if certificate.size is not None and size != certificate.size:
            wanted = "x".join(map(str, certificate.size))
            raise InputError(
                f"{self.path.name} takes photos of {wanted} pixels only; these are {size[0]}x{size[1]}: give "
                f"--resize {wanted}, or export another file with --resize"
            )
        if self._session is None:
            # Earlier files were certified, and maps made, with all that is not quantised in float32.
            older = self.precision == "int8" and "rest" not in (self.certificate.calibrated or {})
            precision = "fp32" if older else self.precision
            self._session = open_session(self.runtime, self.path, precision)
        images = images_NCHW.detach().cpu().float()
        if certificate.with_preprocess:
            images = as_bytes(images, model.preprocess)
        largest = max(certificate.patches["sizes"]) if certificate.patches else 0
        if certificate.size is None and min(size) < max(SMALL, 2 * largest * certificate.stride):
            self._check_small((1 if not certificate.alone else len(images), *images.shape[1:]))
        run = self._session.run
        if certificate.alone:
            return [torch.from_numpy(made) for made in run(np.ascontiguousarray(images.numpy()))]
        if model.together and len(images) > 1:
            raise InputError(
                f"{self.runtime} describes photos of {model.name} one at a time; leave --batch-dependent out "
                "or give --runtime torch"
            )
        each = [run(np.ascontiguousarray(image[None].numpy())) for image in images]
        return [torch.from_numpy(np.concatenate(made)) for made in zip(*each, strict=True)]

    def _check_small(self, shape: tuple[int, ...]) -> None:
        """Raises InputError for photos that leave nothing for a layer: some runtimes end the process then."""
        if shape in self._small:
            return
        at = 1 if self.certificate.with_preprocess else 2
        if self._outline is None:
            self._outline = read_outline(self.path)
        if (layer := empty_layer(self._outline, shape, at)) is not None:
            raise InputError(
                f"photos of {shape[at]}x{shape[at + 1]} pixels are too small for {layer} of "
                f"{self.path.name}; give larger ones, or --resize"
            )
        self._small.add(shape)

    def _kept(self, model: PlaceModel, rows_ND: Tensor) -> Tensor:
        if rows_ND.shape[1] == model.descriptor_size:
            return rows_ND
        return l2_normalize_whole(rows_ND[:, : model.descriptor_size])


class CachedEngine:
    """A model's own network, exported into the cache once, by its fingerprint, and checked there.

    A network for one size of photos is exported for each size that comes.

    Args:
        runtime: one of `dejavlad.export.runtimes.ENGINES`.
        strict: refuse where its answers differ; else PyTorch takes over.
        folder: the cache; default: as configured.
    """

    def __init__(self, runtime: str, *, strict: bool = True, folder: Path | None = None) -> None:
        self.runtime, self.strict = runtime, strict
        self._folder = folder
        self._fingerprints: WeakKeyDictionary[PlaceModel, tuple[object, str]] = WeakKeyDictionary()
        self._files: dict[tuple[str, str], FileEngine | None] = {}

    def describe(self, model: PlaceModel, images_NCHW: Tensor) -> Tensor:
        """Descriptors float32 [N, D]."""
        engine = self._engine(model, images_NCHW, None)
        if engine is None:
            return model.pooled(model.features(images_NCHW))
        return engine.describe(model, images_NCHW)

    def patches(
        self, model: PlaceModel, images_NCHW: Tensor, setting: PatchSetting
    ) -> tuple[Tensor, list[list[PatchSet]]]:
        """Descriptors [N, D], and of each photo its patches of each size."""
        engine = self._engine(model, images_NCHW, setting)
        if engine is None:
            feat_NCHW = model.features(images_NCHW)
            return model.pooled(feat_NCHW), model.patch_layer(setting)(feat_NCHW)
        return engine.patches(model, images_NCHW, setting)

    def _engine(
        self, model: PlaceModel, images_NCHW: Tensor, patches: PatchSetting | None
    ) -> FileEngine | None:
        check_prepared(images_NCHW)
        size = (int(images_NCHW.shape[2]), int(images_NCHW.shape[3]))
        name = self._fingerprint(model, patches is not None)[:20]
        if patches is not None:
            pairs = zip(patches.sizes, patches.strides, strict=True)
            name += "-patches-" + "-".join(f"{side}.{step}" for side, step in pairs)
            name += f"-{patches.dims}" if patches.dims else ""
        if not takes_any_size(model):
            name += f"-{size[0]}x{size[1]}"
        key = (name, model.precision)
        if key not in self._files:
            self._files[key] = self._open(model, name, size, patches)
        engine = self._files[key]
        if engine is not None and engine.certificate.size not in (None, size):
            sized = (f"{name}-{size[0]}x{size[1]}", model.precision)
            if sized not in self._files:
                self._files[sized] = self._open(model, sized[0], size, patches)
            engine = self._files[sized]
        return engine

    def _open(
        self, model: PlaceModel, name: str, size: Size, patches: PatchSetting | None
    ) -> FileEngine | None:
        check_network(model)
        _check_fits(model, size)
        folder = self._folder or Settings.load().cache_dir / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.onnx"
        pair = (self.runtime, model.precision)
        with FileLock(folder / f"{name}.lock"):
            plain = _plain(model)
            certificate = self._known(path, plain, patches is not None)
            first = (self.runtime, "fp32")
            setting = ExportSetting(size, patches, runtimes=(first, pair) if pair != first else (pair,))
            try:
                if certificate is None:
                    certificate = export_model(plain, path, setting)
                if certificate.of(*pair) is None:
                    further = replace(setting, runtimes=(pair,))
                    sizes = tried_sizes(certificate.size, size)
                    certificate = certify(plain, path, certificate, list(made_photos(8)), sizes, further)
                    write_certificate(path, certificate)
            except DejavladError:
                if self.strict:
                    raise
                return None  # the export does not answer as the model: PyTorch does
        answers = certificate.of(*pair)
        if not self.strict and (answers is None or not answers.ok):
            return None
        return FileEngine(path, certificate, *pair)

    @staticmethod
    def _known(path: Path, model: PlaceModel, patches: bool) -> Certificate | None:
        """The certificate of what the cache has; None where it must be made (again)."""
        if not path.exists():
            return None
        try:
            certificate = read_certificate(path)
        except (CheckpointError, StoreError):
            return None
        same = certificate.patch_fingerprint == model.patch_fingerprint if patches else True
        tried = [side for answers in certificate.answers for size in answers.sizes for side in size]
        rounds = certificate.size is not None or any(side % 2 for side in tried)  # older ones may not
        return certificate if same and rounds and certificate.fingerprint == model.fingerprint else None

    def _fingerprint(self, model: PlaceModel, patches: bool) -> str:
        """That of the network, computed anew only where a weight was changed."""
        tensors = [*model.parameters(), *model.buffers()]
        now: object = (
            patches,
            json.dumps(model.spec.answer(), sort_keys=True),
            [(id(tensor), 0 if tensor.is_inference() else tensor._version) for tensor in tensors],
        )
        known = self._fingerprints.get(model)
        if known is None or known[0] != now:
            plain = _plain(model)
            known = (now, plain.patch_fingerprint if patches else plain.fingerprint)
            self._fingerprints[model] = known
        return known[1]


def check_patches(certificate: Certificate, setting: PatchSetting, name: str) -> None:
    """Raises InputError where a file does not make these patches."""
    made = certificate.patches
    if made is None:
        raise InputError(
            f"{name} was exported without patches; export it again with --patches, or leave patches out"
        )
    same = list(setting.sizes) == made["sizes"] and list(setting.strides) == made["strides"]
    if not same or setting.dims not in (None, made["dims"]):
        raise InputError(
            f"{name} makes patches of sizes {made['sizes']}, strides {made['strides']} and {made['dims']} "
            f"dimensions only; export another file for sizes {list(setting.sizes)}, strides "
            f"{list(setting.strides)}"
        )


def attach(model: PlaceModel, runtime: str, *, strict: bool = True) -> PlaceModel:
    """Let a model be computed by another runtime, exported into the cache on first use.

    Raises:
        InputError: the model is no network.
        MissingExtraError: that runtime, or ``onnx``, is not installed.
    """
    check_network(model)
    check_installed()
    if not installed(runtime):
        raise MissingExtraError(f"--runtime {runtime}", EXTRAS[runtime])
    check_computes(runtime, model.precision)
    model.engine = CachedEngine(runtime, strict=strict)
    return model


def _plain(model: PlaceModel) -> PlaceModel:
    """The model with photos as they are, in PyTorch: what decides its network alone."""
    values = replace(
        model.preprocess, resize="none", multiple=1, multiple_by="resize", reduce=False, levels="photo"
    )
    plain = model.with_preprocess(values)
    plain.engine = None
    plain.precision = "fp32"
    return plain.eval()


def _check_fits(model: PlaceModel, size: Size) -> None:
    """Raises InputError, as PyTorch does, for photos that are too small or of a wrong shape."""
    with torch.no_grad():
        plain = _plain(model)
        plain.pooled(plain.features(torch.zeros(1, 3, *size)))
