"""Photos that show nothing are told by their pixels; whatever shows something, however dark, is not."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dejavlad.errors import BlankPhotoError, PhotoError
from dejavlad.images import Preprocess, load_batches, measure_content, read_content, read_image
from dejavlad.photo import Photo

DATA = Path("/work/shared/data")
H, W = 540, 960
Y, X = np.mgrid[:H, :W]
Pixels = NDArray[np.uint8]


def u8(values: NDArray[np.floating]) -> Pixels:
    grey = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2) if grey.ndim == 2 else grey


def noisy(level: float, sigma: float, height: int = H, width: int = W) -> Pixels:
    return u8(np.random.default_rng(0).normal(level, sigma, (height, width, 3)))


def jpeg(pixels: Pixels, quality: int = 75) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file).convert("RGB"))


def framed(height: int, width: int) -> Pixels:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[0] = pixels[-1] = pixels[:, 0] = pixels[:, -1] = 255
    return pixels


def hot() -> Pixels:
    """A lens cap with hot pixels."""
    pixels, random = noisy(2, 2), np.random.default_rng(1)
    pixels[random.integers(0, H, 200), random.integers(0, W, 200)] = 255
    return pixels


NOTHING = {
    "black": np.zeros((H, W, 3), np.uint8),
    "white": np.full((H, W, 3), 255, np.uint8),
    "red": np.full((H, W, 3), (200, 10, 10), np.uint8),
    "black, of 16 pixels": np.zeros((16, 16, 3), np.uint8),
    "black, long": np.zeros((16, 3000, 3), np.uint8),
    "lens cap": noisy(2, 2),
    "lens cap, high sensitivity": noisy(8, 8),
    "lens cap, JPEG": jpeg(noisy(5, 5)),
    "lens cap, small JPEG": jpeg(noisy(3, 3, 120, 160)),
    "lens cap, hot pixels": hot(),
    "fog": noisy(200, 3),
    "fog, poor JPEG": jpeg(noisy(200, 5), 30),
    "fog that brightens": u8(180 + 40 * Y / H),
    "fog that brightens, poor JPEG": jpeg(u8(180 + 40 * Y / H), 30),
    "sky, from black to white": u8(255 * X / W),
    "vignetting": u8(120 * (1 - 0.5 * ((X - W / 2) ** 2 + (Y - H / 2) ** 2) / (W / 2) ** 2)),
    "a line around black": framed(H, W),
    "a line around black, small": framed(48, 64),
}


def lamps() -> Pixels:
    """Five lamps in the night, and noise."""
    random, light = np.random.default_rng(0), np.zeros((H, W))
    for _ in range(5):
        y, x = random.integers(50, H - 50), random.integers(50, W - 50)
        light += 255 * np.exp(-((Y - y) ** 2 + (X - x) ** 2) / 18)
    return u8(light[..., None] + random.normal(0, 1.5, (H, W, 3)))


def stamped() -> Pixels:
    image = Image.new("RGB", (W, H))
    ImageDraw.Draw(image).text((700, 510), "2024-05-06 12:33:10", fill=(255, 255, 0), font_size=20)
    return np.array(image)


@pytest.mark.parametrize("name", NOTHING)
def test_what_shows_nothing(name: str) -> None:
    content = measure_content(NOTHING[name])
    assert not content.shows_anything, content
    photo = Photo("a", Path("a"), pixels=NOTHING[name])
    with pytest.raises(BlankPhotoError, match="photo 'a' shows nothing: it is ") as raised:
        read_content(photo)
    assert raised.value.reason.startswith("shows nothing: it is ") and isinstance(raised.value, PhotoError)


def test_what_it_is_said_to_be() -> None:
    reasons = {name: measure_content(NOTHING[name]).reason for name in NOTHING}
    assert reasons["black"] == reasons["lens cap"] == reasons["a line around black"] == "it is black"
    assert reasons["white"] == "it is white"
    assert reasons["red"] == reasons["fog"] == "it is of one colour, or a smooth gradient"


@pytest.mark.parametrize(
    "pixels",
    [
        lamps(),
        stamped(),  # it is there to be seen
        np.random.default_rng(0).integers(0, 256, (H, W, 3), dtype=np.uint8),  # of which tests make photos
        np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8),
        np.zeros((8, 8, 3), np.uint8),  # too small to be judged
        np.zeros((1, 1, 3), np.uint8),
    ],
    ids=["lamps", "date stamp", "noise", "small noise", "tiny", "a pixel"],
)
def test_what_shows_something(pixels: Pixels) -> None:
    assert measure_content(pixels).shows_anything
    np.testing.assert_array_equal(read_content(Photo("a", Path("a"), pixels=pixels)), pixels)


def dimmed(pixels: Pixels, exposure: float) -> Pixels:
    noise = np.random.default_rng(2).normal(0, 1.5, pixels.shape)
    return np.clip(np.rint(pixels * exposure + noise), 0, 255).astype(np.uint8)


CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "as it is": lambda pixels: pixels,
    "a twentieth of the light": lambda pixels: dimmed(pixels, 0.05),
    "a twentieth of the light, JPEG": lambda pixels: jpeg(dimmed(pixels, 0.05)),
    "gamma of 5": lambda pixels: np.rint(255 * (pixels / 255.0) ** 5).astype(np.uint8),
    "haze": lambda pixels: np.rint(200 + 0.05 * (pixels.astype(float) - 128)).astype(np.uint8),
    "five grey levels": lambda pixels: np.rint(27 + pixels / 64.0).astype(np.uint8),
    "a twentieth of the light, small": lambda pixels: dimmed(
        cv2.resize(pixels, (64, 48), interpolation=cv2.INTER_AREA), 0.05
    ),
}
WALLS = {"19.jpg", "18.jpg", "46.jpg"}
"""Of loop_rtabmap: bare walls, which show nothing any more when they are darkened."""


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_no_photo_of_a_place_is_lost(change: str, make_view: Callable[..., Pixels]) -> None:
    for place in range(12):
        wide = cv2.resize(make_view(place), (640, 480), interpolation=cv2.INTER_CUBIC)
        assert measure_content(CHANGES[change](wide)).shows_anything
    snow = np.full((480, 640, 3), 250, np.uint8)  # a street in snow: a few posts and a house
    for x in (40, 200, 460, 600):
        snow[160:400, x : x + 8] = 120
    snow[120:280, 300:420] = 170
    assert measure_content(CHANGES[change](snow)).shows_anything


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="the photos of /work/shared/data are not here")
@pytest.mark.parametrize("change", CHANGES)
def test_no_real_photo_is_lost(change: str) -> None:
    folders = (
        *("gardens_point/day_left", "gardens_point/day_right", "corridor/ref", "toy/database"),
        *("photos_lund", "photos_arezzo", "loop_rtabmap"),
    )
    for folder in folders:
        paths = [
            p for p in sorted((DATA / folder).rglob("*")) if p.suffix.lower() in (".jpg", ".jpeg", ".png")
        ]
        assert paths
        for path in paths[:: max(1, len(paths) // 2)]:
            pixels = read_image(path)[:: 2 if folder.startswith("photos") else 1]
            pixels = pixels[:, :: 2 if folder.startswith("photos") else 1]
            if change != "as it is" and folder == "loop_rtabmap" and path.name in WALLS:
                continue
            content = measure_content(CHANGES[change](np.ascontiguousarray(pixels)))
            assert content.shows_anything, (path, content)


def test_files_of_every_kind_that_show_nothing(tmp_path: Path) -> None:
    Image.new("RGBA", (60, 40), (255, 0, 0, 0)).save(tmp_path / "transparent.png")
    Image.fromarray(np.full((40, 60), 30000, np.uint16)).save(tmp_path / "sixteen.tif")
    Image.new("L", (60, 40), 255).save(tmp_path / "white.jpg")
    Image.new("P", (60, 40), 3).save(tmp_path / "palette.gif")
    Image.new("CMYK", (60, 40)).save(tmp_path / "cmyk.jpg")
    for name in ("transparent.png", "sixteen.tif", "white.jpg", "palette.gif", "cmyk.jpg"):
        assert read_image(tmp_path / name).shape == (40, 60, 3)
        with pytest.raises(BlankPhotoError, match="shows nothing"):
            read_content(tmp_path / name)


def test_the_part_that_is_shown_counts(make_view: Callable[..., Pixels]) -> None:
    pixels = np.concatenate([make_view(0), np.zeros((96, 128, 3), np.uint8)], axis=1)
    whole, left, right = (
        Photo(name, Path(name), pixels=pixels, crop=crop)
        for name, crop in (("whole", None), ("left", (0, 0, 128, 96)), ("right", (128, 0, 256, 96)))
    )
    assert read_content(whole).shape == (96, 256, 3) and read_content(left).shape == (96, 128, 3)
    with pytest.raises(BlankPhotoError, match="photo 'right' shows nothing: it is black"):
        read_content(right)


def test_a_batch_goes_on_without_them(make_view: Callable[..., Pixels]) -> None:
    images = [make_view(0), NOTHING["white"][:96, :128], make_view(1)]
    photos = [Photo(str(i), Path(str(i)), pixels=pixels) for i, pixels in enumerate(images)]
    plan = [np.arange(3)]
    (batch,) = load_batches(photos, plan, Preprocess())
    assert {row: error.reason for row, error in batch.failed.items()} == {1: "shows nothing: it is white"}
    assert not batch.images[1].any() and batch.images[[0, 2]].any(axis=(1, 2, 3)).all()
    (kept,) = load_batches(photos, plan, Preprocess(), keep_blank=True)
    assert not kept.failed and (kept.images[1] == 1).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (2, 3000), (3, 20_000), (20_000, 7)])
def test_stripes_are_too_small_to_be_judged(shape: tuple[int, int]) -> None:
    for rgb in (
        np.zeros((*shape, 3), np.uint8),
        np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8),
    ):
        assert measure_content(rgb).shows_anything
