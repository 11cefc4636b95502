"""Patches of photos made in the same pass as their descriptors, and written photo by photo.

Legend: N photos, n photos of one batch, D the descriptor's size.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dejavlad.aggregation.patch_vlad import PatchVLAD
from dejavlad.errors import InputError, PhotoError
from dejavlad.extraction.patches.codec import LEARNT_FROM, learn_codec
from dejavlad.extraction.patches.store import PatchManifest
from dejavlad.extraction.patches.writer import PatchWriter
from dejavlad.extraction.photo_table import PhotoTable, Rows
from dejavlad.model import PatchSetting, PlaceModel, cell_geometry
from dejavlad.patches import PatchSet

SAMPLED = 48
"""Photos whose patches a product quantiser learns from, at most."""


class PatchExtractor:
    """Makes and writes the patches of photos; use as a context.

    Args:
        model: a fitted model whose pooling has clusters.
        dtype: how they are written.

    Raises:
        InputError: the model makes no patches.
        StoreError: see `PatchWriter`.
    """

    def __init__(self, model: Any, patches: PatchSetting, dtype: str, path: Path) -> None:
        if not isinstance(model, PlaceModel):
            raise InputError(f"patches are made by a PlaceModel; given {type(model).__name__}")
        self.model, self.setting, self.layer = model, patches, model.patch_layer(patches)
        geometry, whitening = cell_geometry(model.backbone), self.layer.whitening
        self.manifest = PatchManifest(
            model=model.name,
            fingerprint=model.patch_fingerprint,
            preprocess=model.preprocess.to_dict(),
            precision=model.precision,
            sizes=patches.sizes,
            strides=patches.strides,
            dims=model.aggregation.descriptor_size if whitening is None else len(whitening.weight),
            dtype=dtype,
            stride=geometry.stride,
            offset=geometry.offset,
        )
        self.writer = PatchWriter(path, self.manifest)

    def __enter__(self) -> Self:
        self.writer.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.writer.__exit__(*error)

    def missing(self, table: PhotoTable) -> NDArray[np.bool_]:
        """[N] whose patches are not there, or are of an older file."""
        return self.missing_of(np.arange(len(table)), table)

    def prepare(self, table: PhotoTable, readable: Rows) -> None:
        """Learn how to write patches, where that is learnt: from photos spread over the list.

        Raises:
            InputError: too few patches to learn from.
        """
        if self.writer.codec is not None:
            return
        rows = readable[np.unique(np.linspace(0, len(readable) - 1, SAMPLED).astype(int))]
        rng, sample = np.random.default_rng(0), []
        for row in rows:
            try:
                patch_sets = self.model.encode_patches(
                    table.photos[int(row)],
                    sizes=self.manifest.sizes,
                    strides=self.manifest.strides,
                    dims=self.manifest.dims if self.layer.whitening is not None else None,
                )[0]
            except (PhotoError, InputError):
                continue
            patches_PD = torch.cat([patch_set.descriptors for patch_set in patch_sets]).float().cpu().numpy()
            most = -(-LEARNT_FROM // len(rows))
            drawn = np.sort(rng.permutation(len(patches_PD))[:most])
            sample.append(patches_PD[drawn])
        sample_MD = np.concatenate(sample) if sample else np.empty((0, self.manifest.dims), np.float32)
        self.writer.learn(learn_codec(sample_MD))

    def describe(self, images_NCHW: Tensor, rows: Rows, good: NDArray[np.bool_], table: PhotoTable) -> Tensor:
        """Descriptors [n, D] of a batch; the patches of its good photos are written on the way.

        A photo with too few cells for a patch has a descriptor all the same.
        """
        wanted = good & self.missing_of(rows, table)
        rows_nD, made = patches_of(self.model, self.setting, self.layer, images_NCHW, wanted)
        for slot, patches, why in made:
            row = int(rows[slot])
            self.writer.put(table.keys[row], table.identity(row), patches, why)
        self.writer.commit()
        return rows_nD

    def missing_of(self, rows: Rows, table: PhotoTable) -> NDArray[np.bool_]:
        """[n] which of some rows have no patches yet."""
        return np.array([not self.writer.has(table.keys[row], table.identity(row)) for row in rows.tolist()])


Made = tuple[int, Sequence[PatchSet], str]
"""A photo's place in its batch, its patches, and why it has none."""


def patches_of(
    model: PlaceModel, setting: PatchSetting, layer: PatchVLAD, images_NCHW: Tensor, wanted: NDArray[np.bool_]
) -> tuple[Tensor, list[Made]]:
    """Descriptors [n, D] of a batch, and the patches of those of its photos that are wanted."""
    if model.engine is not None:
        rows_nD, sets = model.describe_with_patches(images_NCHW, setting)
        return rows_nD, [(slot, sets[slot], "") for slot in np.flatnonzero(wanted).tolist()]
    feat_NCHW = model.features(images_NCHW)
    made: list[Made] = []
    for slot in np.flatnonzero(wanted).tolist():
        try:
            made.append((slot, layer(feat_NCHW[slot : slot + 1])[0], ""))
        except InputError as error:
            made.append((slot, [], str(error)))
    return model.pooled(feat_NCHW), made
