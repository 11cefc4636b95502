import math

import cv2
import numpy as np
import pytest
import torch

from dejavlad.backbones.rootsift import RootSift
from dejavlad.errors import InputError


@pytest.fixture(scope="module")
def photo():
    """uint8 RGB [150, 210, 3]: smooth noise of many sizes, with edges."""
    rng = np.random.default_rng(5)
    grey = np.zeros((150, 210), np.float32)
    for size in (3, 8, 20):
        noise = rng.normal(size=(150 // size + 2, 210 // size + 2)).astype(np.float32)
        grey += cv2.resize(noise, (210, 150), interpolation=cv2.INTER_CUBIC)
    grey[40:90, 60:130] += 2.0
    grey = np.clip((grey - grey.min()) / (grey.max() - grey.min()) * 255, 0, 255)
    return np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)


def prepared(photo):
    return torch.from_numpy(photo).permute(2, 0, 1)[None].float() / 255


def opencv(photo, centres_xy, size):
    """RootSIFT of OpenCV at given points, upright; `size` is the side of a spatial bin in pixels."""
    sigma = size / 3
    octave = math.floor(math.log2(sigma / 1.6) + 1e-9)
    layer = round(3 * (math.log2(sigma / 1.6) - octave))
    points = []
    for x, y in centres_xy:
        point = cv2.KeyPoint(float(x), float(y), 2 * sigma, 0.0, 1.0, 0)
        point.octave = (octave & 255) | (layer << 8)
        points.append(point)
    kept, described = cv2.SIFT_create().compute(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), points)
    assert len(kept) == len(points)
    return np.sqrt(described / described.sum(axis=1, keepdims=True))


@pytest.mark.parametrize(("size", "least"), [(4.8, 0.99), (6.0, 0.99), (8.0, 0.99), (10.0, 0.98)])
def test_equals_opencv_at_the_same_points(photo, size, least):
    backbone = RootSift([size], step=16, smoothing=1 / 3, contrast=0)
    feat = backbone(prepared(photo))[0]
    rows, columns = backbone.grid(150, 210)
    assert feat.shape == (128, rows, columns)
    ys, xs = np.mgrid[:rows, :columns]
    centres = np.stack([xs.ravel(), ys.ravel()], axis=1) * backbone.stride + backbone.offset
    wanted = opencv(photo, centres, size)
    given = feat.flatten(1).T.numpy()
    similarity = (given * wanted).sum(axis=1)
    assert similarity.min() > least
    assert np.corrcoef(given.ravel(), wanted.ravel())[0, 1] > least


def slow_descriptor(grey, x, y, size):
    """SIFT's histograms of the point (x, y), pixel by pixel, without blur; then RootSIFT."""
    bins = np.zeros((4, 4, 8))
    for j in range(grey.shape[0]):
        for i in range(grey.shape[1]):
            up = grey[max(j - 1, 0), i] - grey[min(j + 1, grey.shape[0] - 1), i]
            right = grey[j, min(i + 1, grey.shape[1] - 1)] - grey[j, max(i - 1, 0)]
            turn = math.atan2(up, right) / (2 * math.pi) * 8 % 8
            row, column = (j - y) / size, (i - x) / size
            weight = math.hypot(up, right) * math.exp(-(row**2 + column**2) / 8)
            for r in range(4):
                for c in range(4):
                    near = max(0, 1 - abs(row - (r - 1.5))) * max(0, 1 - abs(column - (c - 1.5)))
                    for o in range(8):
                        away = abs(turn - o)
                        bins[r, c, o] += near * weight * max(0, 1 - min(away, 8 - away))
    flat = bins.ravel()
    flat = np.minimum(flat, 0.2 * np.linalg.norm(flat))
    return np.sqrt(flat / flat.sum())


@pytest.mark.slow
def test_equals_the_definition_pixel_by_pixel(photo):
    crop = np.ascontiguousarray(photo[30:70, 40:84])
    backbone = RootSift([4, 5.5], step=9, smoothing=0, contrast=0)
    feat = backbone(prepared(crop))[0].numpy()
    rows, columns = backbone.grid(40, 44)
    assert (rows, columns) == (2, 2)
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY) / 255.0
    for scale, size in enumerate(backbone.bin_sizes):
        for row in range(rows):
            for column in range(columns):
                x, y = (backbone.offset + backbone.stride * at for at in (column, row))
                wanted = slow_descriptor(grey, x, y, size)
                assert np.allclose(feat[:, scale * rows + row, column], wanted, atol=2e-3)


def test_shape_scales_and_length(photo):
    backbone = RootSift()
    images = torch.cat([prepared(photo), prepared(photo[:, ::-1].copy())])
    feat = backbone(images)
    rows, columns = backbone.grid(150, 210)
    assert (backbone.channels, backbone.scales, backbone.stride) == (128, 4, 8)
    assert feat.shape == (2, 128, 4 * rows, columns)
    assert feat.dtype == torch.float32
    length = torch.linalg.vector_norm(feat, dim=1)
    assert ((length - 1).abs() < 1e-5).logical_or(length == 0).all()
    assert (length > 0).float().mean() > 0.8
    backbone, feat = RootSift(contrast=0), RootSift(contrast=0)(images)
    for scale, size in enumerate(backbone.bin_sizes):
        alone = RootSift([size], contrast=0)
        shift = (backbone.receptive_field - alone.receptive_field) // 2
        same = alone(images[:, :, shift:, shift:])[:, :, :rows, :columns]
        inner = feat[:, :, scale * rows : (scale + 1) * rows]
        assert torch.allclose(same[:, :, 1:, 1:], inner[:, :, 1:, 1:], atol=0.02)


def test_the_weakest_places_are_left_out(photo):
    images = prepared(photo)
    fractions = [
        float((RootSift([6], contrast=c)(images) != 0).any(dim=1).float().mean()) for c in (0, 0.8, 1.0)
    ]
    assert fractions[0] == 1 > fractions[1] > fractions[2] > 0.05


def test_photos_of_a_batch_do_not_touch_each_other(photo):
    images = torch.cat([prepared(photo), prepared(photo[::-1].copy())])
    backbone = RootSift([4, 8])
    assert torch.allclose(backbone(images)[1:], backbone(images[1:]), atol=1e-6)


@pytest.mark.parametrize("contrast", [0, 0.5, 0.8])
def test_light_and_contrast_change_nothing(photo, contrast):
    images = prepared(photo)
    backbone = RootSift(contrast=contrast)
    assert torch.allclose(backbone(images), backbone(0.5 * images + 0.2), atol=5e-4)


def test_a_shift_by_the_step_shifts_the_grid(photo):
    images = prepared(photo)
    backbone = RootSift([6], contrast=0)
    moved = backbone(images[:, :, 8:, 16:])
    assert torch.allclose(backbone(images)[:, :, 2:, 3:], moved[:, :, 1:, 1:], atol=1e-4)


def test_places_without_contrast_are_zero(photo):
    flat = photo.copy()
    flat[:, 100:] = 128
    backbone = RootSift([4])
    feat = backbone(prepared(flat))
    seen = (feat != 0).any(dim=1)[0]
    centres = backbone.offset + backbone.stride * np.arange(seen.shape[1])
    assert not seen[:, centres > 100 + backbone.receptive_field / 2].any()
    assert seen[:, centres < 80].float().mean() > 0.9
    assert (RootSift()(torch.full((1, 3, 90, 90), 0.5)) == 0).all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 300), (51, 51), (52, 60), (59, 59)])
def test_the_smallest_photos_have_one_cell(height, width):
    backbone = RootSift()
    images = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    feat = backbone(images)
    rows, columns = backbone.grid(height, width)
    assert min(rows, columns) >= 1
    assert feat.shape == (1, 128, 4 * rows, columns)
    assert torch.isfinite(feat).all()


def test_grey_photos_and_nothing_to_save(photo):
    images = prepared(photo)
    backbone = RootSift()
    assert torch.allclose(backbone(images[:, :1]), backbone(images), atol=1e-3)
    assert not backbone.state_dict()


@pytest.mark.parametrize(
    "settings",
    [{"bin_sizes": []}, {"bin_sizes": [1]}, {"bin_sizes": [4, 4]}, {"step": 0}, {"smoothing": -1}],
)
def test_settings_that_cannot_be(settings):
    with pytest.raises(InputError):
        RootSift(**settings)


def test_input_that_is_no_photo():
    with pytest.raises(InputError, match=r"\[3, 5, 5\]"):
        RootSift()(torch.zeros(3, 5, 5))
