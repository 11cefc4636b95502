"""A whitening of patches, for models whose photos have none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import dejavlad as dv
from dejavlad.aggregation import NetVLAD
from dejavlad.errors import InputError
from dejavlad.fitting import fit, learn_patch_whitening
from dejavlad.images import Preprocess
from dejavlad.model import PatchSetting, PlaceModel, load_folder
from dejavlad.photo import Photo, PhotoList

SIZES = PatchSetting(sizes=(2, 3))


@pytest.fixture(scope="module")
def photos(make_view: Callable[..., NDArray[np.uint8]]) -> PhotoList:
    return PhotoList(Photo(f"{i}", Path(f"{i}"), pixels=make_view(i)) for i in range(8))


class Cells(nn.Module):
    """Cells of 8 x 8 pixels."""

    channels, stride = 12, 8

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 8, stride=8)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.conv(images)


@pytest.fixture(scope="module")
def model(photos: PhotoList) -> PlaceModel:
    torch.manual_seed(0)
    return fit(PlaceModel(Cells(), NetVLAD(12, 4), Preprocess(resize="none")), photos, whiten=False)


@pytest.mark.slow
def test_patches_are_whitened_and_photos_are_not(
    model: PlaceModel, photos: PhotoList, tmp_path: Path
) -> None:
    learnt = learn_patch_whitening(model, photos, SIZES)
    assert learnt.patch_whitening is not None and 16 <= learnt.patch_whitening.dims <= 512
    assert learnt.fingerprint == model.fingerprint != learnt.patch_fingerprint
    np.testing.assert_array_equal(learnt.encode(photos[0]), model.encode(photos[0]))
    (patches,) = learnt.encode_patches(photos[0], sizes=(2, 3))
    (bare,) = model.encode_patches(photos[0], sizes=(2, 3))
    for whitened, plain in zip(patches, bare, strict=True):
        torch.testing.assert_close(
            whitened.descriptors, learnt.patch_whitening(plain.descriptors), atol=1e-5, rtol=0
        )
    dv.save_model(learnt, tmp_path / "model")
    again = load_folder(tmp_path / "model", backbone=learnt.backbone)
    assert again.patch_fingerprint == learnt.patch_fingerprint and again.fingerprint == learnt.fingerprint
    torch.testing.assert_close(
        again.encode_patches(photos[0], sizes=(2, 3))[0][0].descriptors, patches[0].descriptors
    )


def test_the_same_photos_teach_the_same(model: PlaceModel, photos: PhotoList) -> None:
    a, b = (learn_patch_whitening(model, photos, SIZES).patch_fingerprint for _ in range(2))
    assert a == b
    fewer = learn_patch_whitening(model, photos, PatchSetting((2, 3), dims=20))
    assert fewer.patch_whitening is not None and fewer.patch_whitening.dims == 20


def test_photos_that_teach_nothing(model: PlaceModel, photos: PhotoList) -> None:
    blank = PhotoList([Photo("blank", Path("blank"), pixels=np.full((96, 128, 3), 90, np.uint8))])
    assert learn_patch_whitening(model, blank, SIZES) is model
    tiny = Photo("tiny", Path("tiny"), pixels=np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(InputError, match=r"no patches to learn from: .*no patch of 9x9"):
        learn_patch_whitening(model, PhotoList([tiny]), PatchSetting((9,)))
    learnt = learn_patch_whitening(model, PhotoList([tiny, *photos]), PatchSetting((5,)))
    assert learnt.patch_whitening is not None
