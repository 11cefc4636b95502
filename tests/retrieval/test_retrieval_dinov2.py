"""The training-free DINOv2 model the whole way: its vocabulary from the map's photos, places, patches."""

import numpy as np
import pytest
import torch

from dejavlad.model import (
    PatchSetting,
    load_folder,
)
from dejavlad.places import PlaceMap
from dejavlad.zoo import load_model


@pytest.fixture(scope="module")
def bare():
    return load_model("dinov2-vits14-vlad", weights="random:1", device="cpu", resize="longest:126")


@pytest.mark.slow
def test_a_map_learns_its_vocabulary_and_locates(bare, street, tmp_path):
    assert not bare.fitted and bare.preprocess.multiple == 14
    town = PlaceMap.build(bare, sorted((street / "database").iterdir()), tmp_path / "map", batch_size=6)
    assert town.model.fitted and town.model.descriptor_size == 32 * 384
    again = PlaceMap.open(tmp_path / "map", device="cpu")
    answers = again.locate(sorted((street / "queries").iterdir())[:4], k=1)
    names = [answer.matches[0].name for answer in answers]
    assert sum(name.endswith(f"{i:02d}.png") for i, name in enumerate(names)) >= 3
    kept = load_folder(tmp_path / "map" / "model")
    assert kept.fingerprint == town.model.fingerprint
    assert kept.spec.backbone.cut == "blocks.9.value" and kept.aggregation.cosine


def test_patches_are_vlads_of_their_own_cells(bare, make_view):
    photo = make_view(3)
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(32, 384)).astype(np.float32)
    model = bare.with_clusters(centres, centres)
    layer = model.patch_layer(PatchSetting((2,)))
    prepared = torch.from_numpy(model.preprocess(photo))[None]
    with torch.inference_mode():
        feat = model.features(prepared)
        patches = layer(feat)[0][0]
        expected = model.aggregation(feat[:, :, 1:3, 2:4])[0]
    rows, columns = feat.shape[2:]
    assert len(patches.descriptors) == (rows - 1) * (columns - 1)
    descriptor = patches.descriptors[1 * (columns - 1) + 2]
    torch.testing.assert_close(descriptor.float(), expected, atol=1e-5, rtol=1e-4)
