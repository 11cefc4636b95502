"""Augmentation: what it does to photos, that it follows from seeds, and what training makes of it."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from dejavlad.errors import MissingExtraError
from dejavlad.images import PREPROCESSING
from dejavlad.training import TrainConfig, train
from dejavlad.training.context import RunContext
from dejavlad.training.data.augment import Augment
from dejavlad.training.data.jitter import (
    AS_IT_IS,
    View,
    draw_view,
)
from dejavlad.training.data.photo_pool import PhotoPool
from dejavlad.training.losses.ranking_loss import make_loss
from dejavlad.training.sampling.mining import Mined
from dejavlad.training.steps.network import Network
from dejavlad.training.steps.tuple_step import Step

ALL = TrainConfig(augment_crop=0.6, augment_rotate=20.0, augment_flip=0.5, augment_colour=0.4)


def prepared(make_view, preprocess):
    photos = [preprocess(make_view(place, 0, 40, 56)) for place in range(3)]
    return torch.from_numpy(np.stack(photos))


def test_it_follows_from_seeds_alone(make_view):
    preprocess = PREPROCESSING["torchvision"]
    images, augment = prepared(make_view, preprocess), Augment(ALL, preprocess)
    state = torch.random.get_rng_state()
    first = augment(images, [[1, 2], [1, 3], [1, 4]])
    assert torch.equal(torch.random.get_rng_state(), state)
    assert first.shape == images.shape and first.dtype == torch.float32
    torch.manual_seed(9)
    assert torch.equal(augment(images[1:2], [[1, 3]]), first[1:2])  # whatever else is in the batch
    assert not torch.allclose(augment(images[1:2], [[1, 5]]), first[1:2], atol=0.1)
    same = augment(images[:1].expand(2, -1, -1, -1), [[1], [2]])
    assert not torch.allclose(same[0], same[1], atol=0.1)


@pytest.mark.parametrize("name", PREPROCESSING)
def test_photos_stay_in_the_range_of_photos(make_view, name):
    preprocess = PREPROCESSING[name]
    images = prepared(make_view, preprocess)
    flipped = Augment(TrainConfig(augment_flip=1.0), preprocess)(images, [[0]] * 3)
    torch.testing.assert_close(flipped, images.flip(3), atol=1e-4, rtol=1e-5)
    black, white = (
        torch.from_numpy(preprocess(np.full((2, 2, 3), v, np.uint8)))[:, :1, :1] for v in (0, 255)
    )
    changed = Augment(ALL, preprocess)(images, [[i] for i in range(3)])
    assert ((changed >= black - 1e-3) & (changed <= white + 1e-3)).all()


def test_a_change_of_hue_leaves_grey_photos_as_they_are(make_view):
    preprocess = PREPROCESSING["torchvision"]
    colours = torch.from_numpy(preprocess(make_view(0, 0, 40, 56)))[None]
    grey = torch.from_numpy(preprocess(np.repeat(make_view(0, 0, 40, 56)[:, :, :1], 3, axis=2)))[None]
    hue = Augment(TrainConfig(augment_hue=0.5), preprocess)
    torch.testing.assert_close(hue(grey, [[3]]), grey, atol=1e-3, rtol=0)
    turned = [hue(colours, [[seed]]) for seed in range(6)]
    slight = [Augment(TrainConfig(augment_hue=0.01), preprocess)(colours, [[seed]]) for seed in range(6)]
    most, least = (max(float((one - colours).abs().max()) for one in sample) for sample in (turned, slight))
    assert most > 0.5 and least < most / 4


def test_colours_change_alike_whatever_the_order_of_channels(make_view):
    config = TrainConfig(augment_colour=0.8)
    changed_photos = []
    for name in ("plain", "caffe"):
        preprocess = PREPROCESSING[name]
        images = prepared(make_view, preprocess)
        changed = Augment(config, preprocess)(images, [[7], [8], [9]])
        assert not torch.allclose(changed, images, atol=0.02)
        if name == "caffe":
            changed = (changed + torch.tensor(preprocess.mean).view(1, 3, 1, 1)).flip(1) / 255
        changed_photos.append(changed)
    torch.testing.assert_close(changed_photos[0], changed_photos[1], atol=1e-4, rtol=1e-4)


def test_crops_are_no_smaller_than_told(make_view):
    """A photo whose value is its row shows how much of its height is left."""
    ramp = torch.linspace(0, 1, 64).view(1, 1, 64, 1).expand(1, 3, 64, 64)
    for least in (0.25, 0.81):
        augment = Augment(TrainConfig(augment_crop=least), PREPROCESSING["plain"])
        spans = [float(x.max() - x.min()) for x in (augment(ramp, [[seed]]) for seed in range(40))]
        assert min(spans) < least**0.5 + 0.15
        assert min(spans) > (least * 3 / 4) ** 0.5 - 0.05


def test_a_photo_that_two_queries_share_is_changed_for_each(make_town, make_model):
    town, model = make_town(4), make_model()
    config = replace(ALL, margin=2.0)
    network = Network(model, config)
    step = Step(make_loss(config), network, PhotoPool(town, model.preprocess), None, RunContext(config))
    tuples = [
        (Mined(query, 3 * query, np.array([9])), draw_view(config, (40, 56), 1, 1, query)) for query in (0, 1)
    ]
    assert [view for _, view in tuples] == [View(draw=0), View(draw=1)]
    (part,) = step._sub_batches(tuples, [43, 1, 1])
    assert len(part.photos) == 6
    shared = [part.features[i] for i, (number, _) in enumerate(part.photos) if number == 4 + 9]
    assert len(shared) == 2 and not torch.allclose(*shared, atol=0.1)
    assert draw_view(TrainConfig(), (40, 56), 1, 1, 0) == AS_IT_IS


def test_kept_maps_serve_mining_only_and_say_so(make_town, make_model, config, tmp_path):
    config = replace(config, train_from="conv3", augment_colour=0.5, epochs=1)
    run = train(config, make_model(), make_town(4), None, tmp_path / "run")
    (kept,) = (one for one in run.records if one["kind"] == "frozen maps")
    assert (kept["kept"], kept["serves"]) == (True, "mining only")
    plain = train(replace(config, augment_colour=0.0), make_model(), make_town(4), None, tmp_path / "plain")
    assert plain.losses != run.losses


def test_without_kornia_it_is_told_what_to_install(make_town, make_model, config, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "kornia", None)
    monkeypatch.delitem(sys.modules, "kornia.augmentation", raising=False)
    with pytest.raises(MissingExtraError, match=r"pip install 'dejavlad\[augment\]'"):
        train(replace(config, augment_flip=0.5), make_model(), make_town(4), None, tmp_path / "run")
    assert not (tmp_path / "run").exists()
