"""JPEG decoded at a half, a quarter or an eighth: which scale, which pixels, and what a photo becomes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image

from dejavlad.images import Preprocess, load_batches, plan_batches, read_image, read_reduced, read_size
from dejavlad.photo import Photo
from dejavlad.photo.photo import View

H, W = 600, 801


def photo_like(height: int = H, width: int = W) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Soft shapes with some grain, as photos have."""
    rng = np.random.default_rng(0)
    soft = cv2.resize(rng.random((12, 16, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
    fine = cv2.resize(rng.random((60, 80)), (width, height), interpolation=cv2.INTER_CUBIC)[..., None]
    grain = rng.normal(0, 0.01, (height, width, 1))
    return np.clip(255 * (0.1 + 0.5 * soft + 0.3 * fine + grain), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def jpeg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "a.jpg"
    Image.fromarray(photo_like()).save(path, quality=92)
    return path


@pytest.mark.parametrize(
    ("wanted", "came"),
    [
        ((300, 400), (300, 401)),
        ((150, 200), (150, 201)),
        ((75, 100), (75, 101)),
        ((10, 13), (75, 101)),
        ((301, 400), (600, 801)),
        ((300, 401), (600, 801)),
        ((299, 100), (300, 401)),
        ((900, 900), (600, 801)),
    ],
)
def test_never_less_than_wanted(jpeg: Path, wanted: tuple[int, int], came: tuple[int, int]) -> None:
    pixels, size = read_reduced(jpeg, lambda height, width: wanted)
    assert (pixels.shape[:2], size) == (came, (H, W))


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_pixels_are_the_means_of_squares(jpeg: Path, scale: int) -> None:
    """Nearly: libjpeg leaves out the high frequencies of each block."""
    pixels, _ = read_reduced(jpeg, lambda height, width: (height // scale, width // scale))
    whole = read_image(jpeg)[:, : W // scale * scale].astype(float)
    means = whole.reshape(H // scale, scale, W // scale, scale, 3).mean(axis=(1, 3))
    apart = np.abs(pixels[:, : W // scale] - means)
    assert apart.mean() < 1.5


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("rotate", [True, False])
@pytest.mark.parametrize("resize", ["longest:200", "200x60", "60x200", "none", "longest:97"])
def test_a_prepared_photo_is_made_of_these_means(
    tmp_path: Path, orientation: int, rotate: bool, resize: str
) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(photo_like(320, 480)).save(tmp_path / "a.jpg", quality=92, exif=exif)
    photo = Photo("a.jpg", tmp_path / "a.jpg")
    how = Preprocess(resize=resize, rotate=rotate, reduce=True, scale="0-255")
    whole = read_image(photo, rotate=rotate)
    height, width = whole.shape[:2]
    size = how.output_size(height, width)
    (batch,) = load_batches([photo], plan_batches([size], 1), how, sizes=[size])
    assert not batch.failed and batch.images.shape[2:] == size
    scale = max(n for n in (1, 2, 4, 8) if height // n >= size[0] and width // n >= size[1])
    means = whole.reshape(height // scale, scale, width // scale, scale, 3).mean(axis=(1, 3))
    wanted = how(np.round(means).astype(np.uint8), (height, width))
    assert np.abs(batch.images[0] - wanted).mean() < (1.5 if scale > 1 else 0.01)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_of_all_colours(tmp_path: Path, mode: str) -> None:
    Image.fromarray(photo_like()).convert(mode).save(tmp_path / "a.jpg", quality=92)
    pixels, _ = read_reduced(tmp_path / "a.jpg", lambda height, width: (100, 100))
    assert pixels.shape == (150, 201, 3)
    whole = np.asarray(Image.fromarray(read_image(tmp_path / "a.jpg")).resize((201, 150)))
    assert np.abs(pixels.astype(int) - whole).mean() < 4


def test_other_formats_crops_and_views_are_decoded_whole(tmp_path: Path, jpeg: Path) -> None:
    Image.fromarray(photo_like(400, 800)).save(tmp_path / "p.jpg")
    Image.fromarray(photo_like(40, 80)).save(tmp_path / "a.png")
    for photo in (
        Photo("a", tmp_path / "a.png"),
        Photo("a", jpeg, crop=(10, 20, 500, 400)),
        Photo("a", tmp_path / "p.jpg", view=View(10, 90)),
    ):
        pixels, size = read_reduced(photo, lambda height, width: (5, 5))
        assert size == pixels.shape[:2] == read_size(photo)
        assert np.array_equal(pixels, read_image(photo))


def test_it_is_off_unless_a_model_says_so(jpeg: Path) -> None:
    photo = Photo("a", jpeg)
    how = Preprocess(resize="75x100")
    (batch,) = load_batches([photo], [np.array([0])], how)
    assert np.array_equal(batch.images[0], how(read_image(photo)))
    reduced = Preprocess(resize="75x100", reduce=True)
    (other,) = load_batches([photo], [np.array([0])], reduced)
    assert not np.array_equal(batch.images[0], other.images[0])
    assert how.to_dict() != reduced.to_dict()
