"""A model: photo to descriptor, whole: preprocessing, backbone, aggregation and whitening.

Shapes: N photos, C colours, H x W pixels, D numbers of a descriptor.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dejavlad.aggregation import Aggregation, PatchVLAD
from dejavlad.aggregation.functional import l2_normalize_whole
from dejavlad.backbones.base import check_prepared
from dejavlad.errors import InputError
from dejavlad.images import Preprocess
from dejavlad.model.compatible import check_grid, check_parts
from dejavlad.model.device import check_precision
from dejavlad.model.engine import Engine
from dejavlad.model.fingerprint import hash_of
from dejavlad.model.patching import PatchSetting, cell_geometry
from dejavlad.model.photo_batches import Image, as_photos, prepared_batches
from dejavlad.model.reduced import bf16_copy
from dejavlad.model.spec import CUSTOM, AggregationSpec, BackboneSpec, ModelSpec
from dejavlad.model.whitening import Whitening
from dejavlad.patches import PatchSet


class PlaceModel(nn.Module):
    """Describes photos by unit vectors, alike for photos of one place.

    Weights are held in float32. With precision ``"bf16"`` the backbone computes in bfloat16, on a copy of its
    weights (see `bf16_copy`), and so does an aggregation that is much of the work (`Aggregation.reduces`); a
    backbone without learnt weights, other aggregations and the whitening compute in float32.

    Args:
        backbone: any module that says its ``channels`` and makes [N, channels, H, W] of photos [N, 3, H, W].
        aggregation: made for as many channels.
        preprocess: how a photo becomes what the backbone takes.
        whitening: made for the aggregation's descriptors; None for none.
        patch_whitening: likewise, of patches; None where they are whitened as photos are.
        dims: keep so many of the first dimensions, again at unit length; None keeps all.
        fitted: whether all that is learnt from photos is learnt; default: yes, where nothing is learnt.
        precision: ``"fp32"`` or ``"bf16"``.
        name: what to call it.
        source: how the backbone is made anew when the model is loaded; default: it must be given then.
        provenance: where weights come from, for people.

    Raises:
        InputError: the parts do not fit together.
    """

    def __init__(
        self,
        backbone: nn.Module,
        aggregation: Aggregation,
        preprocess: Preprocess,
        *,
        whitening: Whitening | None = None,
        patch_whitening: Whitening | None = None,
        dims: int | None = None,
        fitted: bool | None = None,
        precision: str = "fp32",
        name: str = "custom",
        source: BackboneSpec | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_parts(backbone, aggregation, whitening, patch_whitening)
        self.backbone = backbone
        self.aggregation = aggregation
        self.whitening = whitening
        self.patch_whitening = patch_whitening
        self.preprocess = preprocess
        self.name = name
        learns = aggregation.needs_fitting or aggregation.needs_training
        self.fitted = not learns if fitted is None else bool(fitted)
        self.source = BackboneSpec(CUSTOM) if source is None else source
        self.provenance = dict(provenance or {})
        self.dims = self._checked(dims)
        self.precision = precision
        self.engine: Engine | None = None
        """What computes descriptors and patches instead of PyTorch; None for PyTorch itself. It changes
        neither weights nor fingerprint, and takes no part where gradients flow."""
        self.together = False
        """Whether photos of a batch may change each other's descriptors, where the model does that at all;
        if not, `extract` describes them one at a time."""

    @property
    def alone(self) -> bool:
        """Whether a descriptor is of its photo alone, and not of those beside it in the batch."""
        return self.aggregation.alone

    @property
    def precision(self) -> str:
        """``"fp32"`` or ``"bf16"``; may be set at any time, and changes neither weights nor fingerprint."""
        return self._precision

    @precision.setter
    def precision(self, precision: str) -> None:
        self._precision = check_precision(precision)
        self._copy: tuple[list[tuple[Tensor, int, torch.device]], nn.Module] | None = None

    @property
    def title(self) -> str:
        """The name, and whether it is batch-dependent, which every result must tell."""
        if self.alone:
            return self.name
        return f"{self.name} (batch-dependent{'' if self.together else ', one photo at a time'})"

    @property
    def device(self) -> torch.device:
        """Where its weights lie and it computes; the processor for a model without weights."""
        tensor = next(itertools.chain(self.parameters(), self.buffers()), None)
        return torch.device("cpu") if tensor is None else tensor.device

    @property
    def descriptor_size(self) -> int:
        """D, the number of dimensions of a descriptor, after whitening and `dims`."""
        if self.dims is not None:
            return self.dims
        return self.aggregation.descriptor_size if self.whitening is None else self.whitening.dims

    @property
    def spec(self) -> ModelSpec:
        """What it is made of; with the weights it is all that is saved."""
        return ModelSpec(
            name=self.name,
            backbone=self.source,
            aggregation=AggregationSpec(self.aggregation.name, self.aggregation.options),
            preprocess=self.preprocess,
            whitening=None if self.whitening is None else self.whitening.dims,
            patch_whitening=None if self.patch_whitening is None else self.patch_whitening.dims,
            dims=self.dims,
            fitted=self.fitted,
            provenance=self.provenance,
        )

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what decides photos' descriptors: the spec without name and provenance, and the weights.

        It depends neither on device nor on precision. It is computed anew each time (about a second for a
        gigabyte of weights). Clusters of a model that is not fitted mean nothing and do not count.
        """
        passed_over = ("patch_whitening.",) if self.fitted else ("patch_whitening.", "aggregation.")
        tensors = {
            key: tensor for key, tensor in self.state_dict().items() if not key.startswith(passed_over)
        }
        return hash_of(json.dumps(self.spec.answer(), sort_keys=True), tensors)

    @property
    def patch_fingerprint(self) -> str:
        """SHA-256 of what decides descriptors of patches: `fingerprint`, unless they have a whitening."""
        if self.patch_whitening is None:
            return self.fingerprint
        return hash_of(self.fingerprint, self.patch_whitening.state_dict())

    def features(self, images_NCHW: Tensor) -> Tensor:
        """The feature map [N, channels, h, w] of prepared photos, in bfloat16 or float32.

        Raises:
            InputError: photos of another shape, or too small for the network.
        """
        check_prepared(images_NCHW)
        images_NCHW = images_NCHW.to(self.device, torch.float32)
        learnt = next(self.backbone.parameters(), None) is not None
        if self._precision == "fp32" or not learnt:
            feat: Tensor = self.backbone(images_NCHW)
            return feat
        learning = torch.is_grad_enabled() or self.backbone.training
        backbone = self.backbone if learning else self._reduced_backbone()
        with torch.autocast(images_NCHW.device.type, dtype=torch.bfloat16):
            feat = backbone(images_NCHW.contiguous(memory_format=torch.channels_last))
        return feat

    def local_features(self, images_NCHW: Tensor) -> Tensor:
        """What clusters are learnt from: float32 [N, L, channels] at L locations (for `fitting`)."""
        return self.aggregation.local_features(self.features(images_NCHW))

    def describe(self, images_NCHW: Tensor) -> Tensor:
        """Descriptors of prepared photos of one size; gradients flow.

        Args:
            images_NCHW: [N, 3, H, W] as `preprocess` makes them, on any device.

        Returns:
            float32 [N, D] of unit length, on the model's device.

        Raises:
            InputError: photos of another shape or too small, or the model is not fitted.
        """
        self.require_fitted()
        if self.engine is not None and not torch.is_grad_enabled():
            return self.engine.describe(self, images_NCHW)
        return self.pooled(self.features(images_NCHW))

    def describe_with_patches(
        self, images_NCHW: Tensor, setting: PatchSetting
    ) -> tuple[Tensor, list[list[PatchSet]]]:
        """Descriptors [N, D] and, of each photo, its patches of each size; no gradient flows.

        Raises:
            InputError: as `describe` and `patch_layer`, or photos with too few cells for a patch.
        """
        if self.engine is not None:
            return self.engine.patches(self, images_NCHW, setting)
        feat_NCHW = self.features(images_NCHW)
        return self.pooled(feat_NCHW), self.patch_layer(setting)(feat_NCHW)

    def pooled(self, feat_NCHW: Tensor) -> Tensor:
        """Descriptors float32 [N, D] of feature maps that `features` made; gradients flow."""
        check_grid(feat_NCHW, self.backbone, self.aggregation, self.name)
        reduces = self.aggregation.reduces and self._precision == "bf16" and not torch.is_grad_enabled()
        with torch.autocast(feat_NCHW.device.type, dtype=torch.bfloat16, enabled=reduces):
            rows_ND: Tensor = self.aggregation(feat_NCHW)
        if self.whitening is not None:
            rows_ND = self.whitening(rows_ND)
        if self.dims is not None:
            rows_ND = l2_normalize_whole(rows_ND[:, : self.dims])
        return rows_ND

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Descriptors float32 [N, D] of prepared photos [N, 3, H, W], the same as `describe`."""
        return self.describe(images_NCHW)

    def encode(
        self, images: Image | Iterable[Image], *, batch_size: int = 8, workers: int = 0
    ) -> NDArray[np.float32]:
        """Descriptors of photos, of mixed sizes, whatever these show.

        What the network makes of a photo that shows nothing (black, fog) resembles everything:
        `dejavlad.extract` and maps leave such photos out.

        Args:
            images: paths, photos, or uint8 RGB arrays [H, W, 3]; or one of them alone.
            batch_size: photos described at once (photos of one size go together).
            workers: threads that decode photos.

        Returns:
            float32 [N, D] of unit length, in the order given; zeros where the network sees nothing.

        Raises:
            PhotoError: a photo cannot be read.
            InputError: an array is no photo, a photo is too small, or the model is not fitted.
        """
        self.require_fitted()
        photos = as_photos(images)
        rows_ND = np.empty((len(photos), self.descriptor_size), np.float32)
        with self.describing():
            for rows, images_NCHW in prepared_batches(
                photos, self.preprocess, batch_size, workers, keep_blank=True
            ):
                rows_ND[rows] = self.describe(images_NCHW).float().cpu().numpy()
        return rows_ND

    def encode_patches(
        self,
        images: Image | Iterable[Image],
        *,
        sizes: Sequence[int] = (2, 5, 8),
        strides: Sequence[int] = (),
        dims: int | None = None,
        batch_size: int = 8,
        workers: int = 0,
        keep_blank: bool = False,
    ) -> list[list[PatchSet]]:
        """Patches of photos, of mixed sizes (Patch-NetVLAD): what `dejavlad.Reranker` compares.

        Args:
            images: as `encode` takes them.
            sizes: sides of the patches, in cells of the feature map.
            strides: for each size, cells from one patch to the next; default: 1 for each.
            dims: the first `dims` whitened dimensions are kept; default: all.
            batch_size: photos described at once.
            workers: threads that decode photos.
            keep_blank: make patches also of photos that show nothing.

        Returns:
            For each photo, its patches of each size, on the model's device.

        Raises:
            PhotoError: a photo cannot be read, or shows nothing (`BlankPhotoError`).
            InputError: as `encode` and `PlaceModel.patch_layer`, or a photo has too few cells for a patch.
        """
        setting = PatchSetting(tuple(sizes), tuple(strides), dims)
        layer = self.patch_layer(setting)
        photos = as_photos(images)
        patches_of_photos: list[list[PatchSet]] = [[] for _ in photos]
        with self.describing():
            for rows, images_NCHW in prepared_batches(
                photos, self.preprocess, batch_size, workers, keep_blank=keep_blank
            ):
                made = (
                    layer(self.features(images_NCHW))
                    if self.engine is None
                    else self.engine.patches(self, images_NCHW, setting)[1]
                )
                for row, patches in zip(rows.tolist(), made, strict=True):
                    patches_of_photos[row] = patches
        return patches_of_photos

    def patch_layer(self, patches: PatchSetting | None = None) -> PatchVLAD:
        """What makes patches of the feature maps, with the clusters and the whitening (patches' own first).

        With precision ``"bf16"`` the products with the whitening are taken in bfloat16.

        Args:
            patches: sizes, strides and dimensions; default: those of `PatchSetting`.

        Raises:
            InputError: the model is not fitted, its pooling has no clusters, its backbone does not say its
                stride, or its whitening keeps fewer dimensions than the patches are to keep.
        """
        self.require_fitted()
        setting = patches or PatchSetting()
        return PatchVLAD(
            self.aggregation,
            setting.whitening_of(self.patch_whitening or self.whitening, self.name),
            cell_geometry(self.backbone),
            setting.sizes,
            setting.strides,
            stacked=int(getattr(self.backbone, "scales", 1)),
            dtype=torch.float32 if self.precision == "fp32" else torch.bfloat16,
        )

    @contextlib.contextmanager
    def describing(self) -> Iterator[None]:
        """Describe as trained, without gradients; the mode that it had comes back afterwards."""
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.train(training)

    def require_fitted(self) -> None:
        """Raises InputError, saying what to do, if the model must learn from photos first."""
        if not self.fitted and self.aggregation.needs_training:
            raise InputError(
                f"the head {self.aggregation.name!r} of model {self.name!r} is a network that must be "
                f"trained first (dejavlad train); published ones are in `dejavlad models`"
            )
        if not self.fitted:
            raise InputError(
                f"model {self.name!r} must learn its clusters from photos first: build a map with it "
                f"(dejavlad map build {self.name} PHOTOS --out MAP), or call "
                f"dejavlad.fitting.fit(model, photos)"
            )

    def with_dims(self, dims: int | None) -> PlaceModel:
        """The same model, keeping the first `dims` dimensions, again at unit length.

        Of whitened descriptors these are the ones that tell most. The parts are shared, not copied.

        Raises:
            InputError: fewer than 1, or more than there are.
        """
        kept = self._checked(dims)
        if kept is None or self.whitening is None:
            return self._with(dims=kept)
        return self._with(whitening=self.whitening.truncated(kept), dims=None)

    def with_preprocess(self, preprocess: Preprocess) -> PlaceModel:
        """The same model with photos prepared otherwise. The parts are shared, not copied."""
        return self._with(preprocess=preprocess)

    def with_aggregation(self, layer: Aggregation) -> PlaceModel:
        """The model with another head, and without whitening, which was made for the old one's descriptors.

        It counts as fitted where the head learns nothing. The backbone is shared, and PyTorch computes.

        Raises:
            InputError: the head is made for other channels or tokens.
        """
        made = self._with(
            aggregation=layer.to(self.device), whitening=None, patch_whitening=None, fitted=None
        )
        made.engine = None
        return made

    def with_clusters(
        self, centres_KD: NDArray[np.floating[Any]], samples_MD: NDArray[np.floating[Any]], **provenance: Any
    ) -> PlaceModel:
        """A fitted model without whitening: clusters set by ``initialise``. The backbone is shared.

        Raises:
            InputError: the aggregation has no clusters, or these do not fit it.
        """
        if not self.aggregation.needs_fitting:
            raise InputError(f"model {self.name!r} has no clusters to learn")
        aggregation = copy.deepcopy(self.aggregation)
        aggregation.initialise(centres_KD, samples_MD)
        return self._with(
            aggregation=aggregation,
            whitening=None,
            patch_whitening=None,
            fitted=True,
            provenance={**self.provenance, **provenance},
        )

    def with_whitening(self, whitening: Whitening | None, **provenance: Any) -> PlaceModel:
        """The model with another whitening, or none. The other parts are shared.

        Where the model keeps ``dims``, the whitening is cut to them.

        Raises:
            InputError: it is made for other descriptors, or keeps fewer dimensions than the model is to keep.
        """
        dims = self.dims
        if whitening is not None:
            if dims is not None and dims > whitening.dims:
                raise InputError(
                    f"{dims} dimensions are asked for, but only {whitening.dims} could be learnt from the "
                    f"photos; give --dims {whitening.dims} or less, or more photos"
                )
            whitening = (whitening if dims is None else whitening.truncated(dims)).to(self.device)
            dims = None
        return self._with(whitening=whitening, dims=dims, provenance={**self.provenance, **provenance})

    def with_patch_whitening(self, whitening: Whitening | None, **provenance: Any) -> PlaceModel:
        """The model with a whitening of patches of their own, or none. The other parts are shared.

        Raises:
            InputError: it is made for other descriptors.
        """
        layer = None if whitening is None else whitening.to(self.device)
        return self._with(patch_whitening=layer, provenance={**self.provenance, **provenance})

    def _reduced_backbone(self) -> nn.Module:
        """The copy that describes in bfloat16, made anew when a weight was changed or moved."""
        tensors = [*self.backbone.parameters(), *self.backbone.buffers()]
        now = [(tensor, 0 if tensor.is_inference() else tensor._version, tensor.device) for tensor in tensors]
        if self._copy is not None and len(now) == len(self._copy[0]):
            pairs = zip(now, self._copy[0], strict=True)
            if all(new[0] is old[0] and new[1:] == old[1:] for new, old in pairs):
                return self._copy[1]
        made = bf16_copy(self.backbone, exact=not self.aggregation.needs_training)
        self._copy = (now, made)
        return made

    def _with(self, **changed: Any) -> PlaceModel:
        parts: dict[str, Any] = {
            "whitening": self.whitening,
            "patch_whitening": self.patch_whitening,
            "dims": self.dims,
            "fitted": self.fitted,
            "precision": self.precision,
            "name": self.name,
            "source": self.source,
            "provenance": self.provenance,
        }
        main = [changed.pop(part, getattr(self, part)) for part in ("backbone", "aggregation", "preprocess")]
        made = PlaceModel(*main, **{**parts, **changed}).train(self.training)
        made.together = self.together
        made.engine = self.engine
        return made

    def _checked(self, dims: int | None) -> int | None:
        if dims is None:
            return None
        size = self.aggregation.descriptor_size if self.whitening is None else self.whitening.dims
        if not 1 <= dims <= size:
            raise InputError(
                f"model {self.name!r} describes photos by {size} numbers; --dims {dims} cannot be kept"
            )
        return int(dims)
