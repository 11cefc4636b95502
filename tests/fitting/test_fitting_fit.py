import sys

import numpy as np
import pytest
import torch
from torch import nn

from dejavlad.aggregation import VLAD, GeM, NetVLAD
from dejavlad.errors import InputError
from dejavlad.extraction import describe
from dejavlad.fitting import fit, initialise, learn_whitening, learn_whitening_if_sound, sample_features
from dejavlad.images import PREPROCESSING
from dejavlad.model import PlaceModel
from dejavlad.numerics import nearest
from dejavlad.photo import Photo, PhotoList

CHANNELS = 12


class Patches(nn.Module):
    """A tiny backbone: patches of 8 x 8 pixels through a fixed random matrix; blank patches are zero."""

    channels, stride, receptive_field, offset, scales = CHANNELS, 8, 8, 3.5, 1

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, CHANNELS, 8, stride=8, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.randn(CHANNELS, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
            self.conv.weight -= self.conv.weight.mean(dim=(1, 2, 3), keepdim=True)

    def forward(self, images):
        return self.conv(images - images.mean(dim=(1, 2, 3), keepdim=True))


def model(aggregation=None, **settings):
    aggregation = NetVLAD(CHANNELS, 8) if aggregation is None else aggregation
    return PlaceModel(Patches(), aggregation, PREPROCESSING["plain"], **settings)


def places(n, seed=0, side=48):
    """n photos of n different noisy places."""
    rng = np.random.default_rng(seed)
    return PhotoList.from_arrays([rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(n)])


def frames(n, seed=0, side=48):
    """n photos of one walk: a window that moves over a mix of three wide pictures."""
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 256, (3, side, side, 3)).astype(np.float64)
    shares = rng.dirichlet(np.ones(3), size=n)
    return PhotoList.from_arrays([np.tensordot(s, pictures, 1).astype(np.uint8) for s in shares])


def same(a, b):
    state, other = a.state_dict(), b.state_dict()
    return state.keys() == other.keys() and all(torch.equal(state[key], other[key]) for key in state)


@pytest.mark.parametrize("aggregation", [NetVLAD, VLAD])
def test_fit_makes_a_model_that_describes(aggregation):
    photos = places(12)
    base = model(aggregation(CHANNELS, 8))
    fitted = fit(base, photos)
    assert fitted.fitted and not base.fitted
    rows, failed = describe(fitted, photos)
    assert not failed
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    centres = fitted.aggregation.centroids.detach().numpy()
    samples = sample_features(base, photos).features
    labels, _ = nearest(samples, centres)
    means = np.stack([samples[labels == k].mean(axis=0) for k in range(8)])
    assert np.allclose(means, centres, atol=0.05)
    assert fitted.provenance["clusters"] == {"from": "arrays", "photos": 12, "features": 432, "seed": 0}


def test_the_same_bits_for_any_workers_and_batches():
    photos = places(9)
    fitted = fit(model(), photos, workers=0, whiten=5)
    assert same(fitted, fit(model(), photos, workers=3, whiten=5))
    assert not same(fitted, fit(model(), photos, seed=1, whiten=5))
    samples = [sample_features(model(), photos, batch_size=b).features for b in (1, 4)]
    assert np.allclose(*samples, atol=1e-5)


def test_fewer_features_of_each_photo_where_there_are_many():
    photos = places(10)
    samples = sample_features(model(), photos, features=40, per_photo=8)
    assert samples.photos == 5
    assert samples.features.shape == (40, CHANNELS)
    assert np.allclose(np.linalg.norm(samples.features, axis=1), 1, atol=1e-5)
    all_of_them = sample_features(model(), photos).features
    assert len(all_of_them) == 10 * 36
    known = {row.tobytes() for row in all_of_them}
    assert all(row.tobytes() in known for row in samples.features)


def test_photos_drawn_are_not_just_the_first():
    photos = places(40)
    first = sample_features(model(), photos.take(range(5)), features=10, per_photo=2).features
    drawn = sample_features(model(), photos, features=10, per_photo=2).features
    assert not np.isin(drawn[:, 0], first[:, 0]).all()


def test_blank_places_are_not_drawn():
    images = [photo.pixels.copy() for photo in places(3)]
    images.append(np.full((48, 48, 3), 90, np.uint8))
    images[0][:, :24] = int(images[0][:, 24:].mean())
    failures = []
    samples = sample_features(model(), PhotoList.from_arrays(images), on_failed=failures.append)
    assert (samples.features != 0).any(axis=1).all()
    assert samples.photos == 3
    assert failures == [{"3": "shows nothing: it is of one colour, or a smooth gradient"}]


def test_one_photo_is_enough():
    photos = places(1)
    fitted = fit(model(), photos)
    assert fitted.whitening is None
    assert fitted.encode([photos[0].pixels]).shape == (1, 8 * CHANNELS)


def test_photos_that_show_less_than_there_are_clusters():
    photos = places(2, side=16)
    fitted = fit(model(NetVLAD(CHANNELS, 64, version=2), name="small"), photos)
    assert fitted.aggregation.clusters == 8
    assert fitted.aggregation.version == 2
    assert fitted.name == "small"
    assert np.isfinite(fitted.encode([p.pixels for p in photos])).all()


def test_photos_that_cannot_be_read_are_passed_over(tmp_path):
    good = places(6)
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no photo")
    mixed = PhotoList([Photo("bad.jpg", bad), *good])
    fitted = fit(model(), mixed, whiten=3)
    assert fitted.provenance["clusters"]["photos"] == 6
    assert fitted.provenance["components"]["photos"] == 6
    with pytest.raises(InputError, match=r"bad\.jpg"):
        fit(model(), PhotoList([Photo("bad.jpg", bad)]))


def test_nothing_to_learn_from():
    with pytest.raises(InputError, match="no photos"):
        fit(model(), PhotoList([]))
    with pytest.raises(InputError, match="blank"):
        fit(model(), PhotoList.from_arrays([np.zeros((48, 48, 3), np.uint8)] * 3))
    with pytest.raises(InputError, match="no clusters"):
        initialise(model(GeM(CHANNELS)), places(2))


def test_weights_that_are_not_finite():
    broken = model()
    with torch.no_grad():
        broken.backbone.conv.weight[0] = torch.nan
    with pytest.raises(InputError, match="finite"):
        fit(broken, places(3))


@pytest.mark.parametrize("wanted", [True, 0, -4])
def test_dimensions_that_make_no_sense(wanted):
    with pytest.raises(InputError, match="whiten must be"):
        fit(model(), places(3), whiten=wanted)


def test_whitening_of_asked_dimensions():
    photos = places(20)
    fitted = fit(model(), photos, whiten=6)
    plain = fit(model(), photos, whiten=False)
    assert fitted.descriptor_size == 6
    assert plain.whitening is None
    rows, _ = describe(fitted, photos)
    full, _ = describe(plain, photos)
    centred = full - full.mean(axis=0)
    _, singular, directions = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
    variances = singular**2 / 19
    added = np.sqrt(variances[0] * variances.sum() / 20)
    expected = centred @ (directions[:6] / np.sqrt(variances[:6] + added)[:, None]).T
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.allclose(np.abs(rows), np.abs(expected), atol=1e-3)
    with pytest.raises(InputError, match="valid: 1 to 19"):
        fit(model(), photos, whiten=20)


@pytest.mark.parametrize("n", [1, 3, 25])
def test_no_whitening_where_the_photos_tell_too_little(monkeypatch, n):
    monkeypatch.setattr(sys.modules["dejavlad.fitting.fit"], "WORTH_TRYING", 1)
    assert fit(model(), places(n)).whitening is None


def test_whitening_where_photos_share_what_they_show(monkeypatch):
    assert fit(model(), frames(40)).whitening is None  # too few to describe them twice
    monkeypatch.setattr(sys.modules["dejavlad.fitting.fit"], "WORTH_TRYING", 40)
    fitted = fit(model(), frames(40))
    assert fitted.whitening is not None
    assert fitted.descriptor_size <= 39
    assert fitted.provenance["components"]["whitened"] is True


def test_a_model_that_keeps_some_dimensions_is_whitened_to_them():
    fitted = fit(model(dims=4), places(12))
    assert fitted.descriptor_size == 4
    assert fitted.whitening.dims == 4
    rows, _ = describe(fitted, places(12))
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_models_that_are_fitted_keep_their_clusters():
    fitted = fit(model(), places(12), whiten=False)
    again = fit(fitted, places(12, seed=1), whiten=3)
    assert torch.equal(again.aggregation.centroids, fitted.aggregation.centroids)
    assert again.descriptor_size == 3
    assert fit(again, places(9)) is again
    other = learn_whitening(again, places(12, seed=2), 5, whiten=False)
    assert other.descriptor_size == 5


def test_pooling_can_be_whitened():
    photos = places(30)
    assert learn_whitening(model(GeM(CHANNELS)), photos, 4).descriptor_size == 4
    assert learn_whitening_if_sound(model(GeM(CHANNELS)), photos).descriptor_size == CHANNELS


def test_progress_is_told_and_the_model_stays_as_it_was():
    reports = []
    base = model().train()
    fit(base, places(10), on_progress=reports.append, whiten=4)
    assert base.training
    for what in ("sampling features", "learning clusters", "describing photos", "learning the whitening"):
        steps = [step for step in reports if step.what == what]
        assert steps and steps[-1].done == steps[-1].total


def test_many_photos_are_not_all_described(monkeypatch):
    monkeypatch.setattr("dejavlad.fitting.whiten.PHOTOS", 7)
    fitted = fit(model(), places(15), whiten=3)
    assert fitted.provenance["components"]["photos"] == 7
