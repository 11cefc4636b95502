"""Every ending that counts as a photo is read, as Pillow shows it."""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, features

from dejavlad import decoders
from dejavlad.datasets import photos
from dejavlad.decoders import ENDINGS
from dejavlad.errors import PhotoError
from dejavlad.images import read_image, read_size

Pixels = NDArray[np.uint8]

KINDS = {
    **dict.fromkeys((".jfif", ".jpe", ".jpeg", ".jpg"), "JPEG"),
    **dict.fromkeys((".j2c", ".j2k", ".jp2", ".jpc", ".jpf", ".jpx"), "JPEG2000"),
    **dict.fromkeys((".pbm", ".pfm", ".pgm", ".pnm", ".ppm"), "PPM"),
    **dict.fromkeys((".heic", ".heif", ".hif"), "HEIF"),
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    **dict.fromkeys((".apng", ".png"), "PNG"),
    ".avif": "AVIF",
    ".bmp": "BMP",
    ".dib": "DIB",
    ".gif": "GIF",
    ".mpo": "MPO",
    ".webp": "WEBP",
}
MODES = {".pbm": "1", ".pfm": "F", ".pgm": "L"}


def smooth(height: int = 48, width: int = 64) -> Pixels:
    down, right = np.mgrid[:height, :width]
    return np.stack([2 * down + 60, 2 * right + 40, down + right + 30], axis=2).astype(np.uint8)


def write(path: Path, image: Image.Image, **options: Any) -> Path:
    kind = KINDS[path.suffix.lower()]
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    buffer = BytesIO()
    image.convert(MODES.get(path.suffix.lower(), image.mode)).save(buffer, kind, **options)
    path.write_bytes(buffer.getvalue())
    return path


def test_all_endings_are_tried() -> None:
    assert set(KINDS) == set(ENDINGS)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_folder_takes_what_is_read(tmp_path: Path, ending: str) -> None:
    for name in (f"a{ending}", f"b{ending.upper()}"):
        write(tmp_path / name, Image.fromarray(smooth()))
    listed = photos(tmp_path)
    assert [photo.name for photo in listed] == [f"a{ending}", f"b{ending.upper()}"]
    wanted = Image.fromarray(smooth())
    if ending in MODES:
        wanted = wanted.convert("L" if ending == ".pfm" else MODES[ending])
    for photo in listed:
        pixels = read_image(photo)
        assert read_size(photo) == pixels.shape[:2] == (48, 64)
        if ending == ".pfm":  # a range of its own
            grey = np.asarray(wanted, np.float64)
            wanted = Image.fromarray(np.round(255 * (grey - grey.min()) / np.ptp(grey)).astype(np.uint8))
        wanted_rgb = np.asarray(wanted.convert("RGB"), int)
        assert np.abs(pixels - wanted_rgb).max() <= (40 if ending == ".gif" else 12)
    assert len(photos(tmp_path / f"a{ending}")) == 1


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_heic_comes_upright(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored = Image.fromarray(smooth())
    stored.info["exif"] = exif.tobytes()  # of which pillow-heif makes the turn that HEIC has for itself
    heic = write(tmp_path / "a.heic", stored, quality=95)
    jpeg = write(tmp_path / "a.jpg", Image.fromarray(smooth()), exif=exif, quality=95)
    wanted = read_image(jpeg)
    assert read_size(heic) == wanted.shape[:2]
    assert np.abs(read_image(heic).astype(int) - wanted).max() <= 12


def test_heic_without_its_extra_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.heic", Image.fromarray(smooth()))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    decoders._has_heif.cache_clear()
    try:
        with pytest.raises(PhotoError, match=r"pip install 'dejavlad\[heic\]'"):
            read_image(path)
        assert photos(tmp_path).keys == ["a.heic"]
    finally:
        decoders._has_heif.cache_clear()


def test_a_damaged_heic(tmp_path: Path) -> None:
    path = write(tmp_path / "a.heic", Image.fromarray(smooth()))
    whole = path.read_bytes()
    for size in (20, 200, len(whole) - 40):
        path.write_bytes(whole[:size])
        with pytest.raises(PhotoError):
            read_image(path)


def test_the_first_picture_of_an_mpo(tmp_path: Path) -> None:
    first, second = Image.fromarray(smooth()), Image.new("RGB", (64, 48), "red")
    path = write(tmp_path / "a.mpo", first, save_all=True, append_images=[second], quality=95)
    assert np.abs(read_image(path).astype(int) - smooth()).max() <= 12


def test_colour_profiles_are_not_applied(tmp_path: Path) -> None:
    """As all published networks saw their photos; Pillow's own conversion to RGB is the oracle."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for name in ("a.jpg", "a.png", "a.tif", "a.webp"):
        path = write(tmp_path / name, Image.fromarray(smooth()), icc_profile=profile)
        with Image.open(path) as image:
            assert image.info["icc_profile"] == profile
            assert np.array_equal(read_image(path), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("ending", [".jpg", ".tif"])
@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "L"])
def test_other_colours_are_as_pillow_shows_them(tmp_path: Path, ending: str, mode: str) -> None:
    path = write(tmp_path / f"a{ending}", Image.fromarray(smooth()).convert(mode))
    with Image.open(path) as image:
        assert np.array_equal(read_image(path), np.asarray(image.convert("RGB")))


def test_inverted_cmyk_of_photoshop(tmp_path: Path) -> None:
    """With Adobe's marker, 255 means no ink: white stays white."""
    path = write(tmp_path / "a.jpg", Image.new("CMYK", (16, 16), (0, 0, 0, 0)))
    assert (read_image(path) >= 250).all()


@pytest.mark.parametrize("ending", [".gif", ".png", ".webp", ".tif", ".avif"])
def test_palettes_alpha_and_animations(tmp_path: Path, ending: str) -> None:
    """Of an animation the first picture, over black where it is transparent."""
    first = Image.fromarray(smooth()).convert("RGBA")
    first.putalpha(Image.fromarray(np.where(np.arange(64) < 20, 0, 255).astype(np.uint8)[None].repeat(48, 0)))
    second = Image.new("RGBA", (64, 48), (255, 0, 0, 255))
    pictures = [first, second]
    if ending == ".gif":
        pictures = [picture.quantize(64) for picture in pictures]
    path = write(tmp_path / f"a{ending}", pictures[0], save_all=True, append_images=pictures[1:])
    with Image.open(path) as image:
        clear = image.convert("RGBA")
    wanted = Image.alpha_composite(Image.new("RGBA", clear.size, "black"), clear).convert("RGB")
    pixels = read_image(path)
    assert np.array_equal(pixels, np.asarray(wanted))
    assert pixels[:, 30:].any() and (ending == ".gif" or not pixels[:, :12].any())
