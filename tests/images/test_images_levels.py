"""Photos of more than 8 bits: the grey levels that they were made of come back."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dejavlad.errors import InputError
from dejavlad.images import Preprocess, load_batches, parse_levels, read_image, read_stretch
from dejavlad.photo import Photo

NEAR = 2
"""Of 255: what is lost where the thousandth at either end is taken for outliers."""


@pytest.fixture(scope="module")
def grey() -> NDArray[np.uint16]:
    """[60, 80] smooth, from 0 to 255."""
    soft = cv2.GaussianBlur(np.random.default_rng(0).random((60, 80)), (0, 0), 5)
    return np.round(255 * (soft - soft.min()) / np.ptp(soft)).astype(np.uint16)


@pytest.fixture(scope="module")
def colours(grey: NDArray[np.uint16]) -> NDArray[np.uint16]:
    return np.stack([grey, grey[::-1], grey[:, ::-1]], axis=2)


def write(path: Path, values: NDArray[Any]) -> Path:
    """Blue first, as OpenCV has it."""
    assert cv2.imwrite(str(path), values)
    return path


def apart(path: Path, wanted: NDArray[Any], **how: Any) -> int:
    """The largest difference from what is wanted."""
    pixels = read_image(path, **how).astype(int)
    return int(np.abs(pixels - (wanted if wanted.ndim == 3 else wanted[:, :, None])).max())


@pytest.mark.parametrize("ending", ["png", "tif", "pgm", "jp2"])
@pytest.mark.parametrize("low, gain", [(7000, 4), (0, 16), (60000, 8), (300, 1)])
def test_small_ranges_are_stretched(
    tmp_path: Path, grey: NDArray[np.uint16], ending: str, low: int, gain: int
) -> None:
    """14-bit thermal, 12 bits in 16, an offset of another camera, 8 bits with an offset."""
    path = write(tmp_path / f"a.{ending}", low + gain * grey)
    assert apart(path, grey) <= NEAR + (2 if ending == "jp2" and gain == 1 else 0)
    stretch = read_stretch(path)
    assert (
        stretch is not None
        and abs(stretch[0] - low) <= 2 * gain
        and abs(stretch[1] - low - 255 * gain) <= 9 * gain
    )


@pytest.mark.parametrize("ending", ["png", "tif", "pgm"])
def test_eight_bits_in_sixteen_and_the_whole_range_stay_as_they_are(
    tmp_path: Path, grey: NDArray[np.uint16], ending: str
) -> None:
    assert apart(write(tmp_path / f"a.{ending}", grey), grey) == 0
    assert apart(write(tmp_path / f"b.{ending}", 257 * grey), grey) == 0
    assert read_stretch(tmp_path / f"b.{ending}") is None
    dark = 40 + grey // 4
    assert apart(write(tmp_path / f"c.{ending}", dark), dark) == 0


@pytest.mark.parametrize("ending", ["png", "tif", "ppm", "jp2"])
def test_colours_keep_their_balance(tmp_path: Path, colours: NDArray[np.uint16], ending: str) -> None:
    tinted = colours // np.array([1, 2, 4], np.uint16)
    path = write(tmp_path / f"a.{ending}", 7000 + 4 * tinted)
    assert apart(path, tinted[:, :, ::-1]) <= 6 * NEAR
    assert read_stretch(path) is not None


def test_alpha_is_not_stretched(tmp_path: Path, colours: NDArray[np.uint16]) -> None:
    alpha = np.full((60, 80, 1), 65535, np.uint16)
    alpha[:10] = 0
    path = write(tmp_path / "a.png", np.concatenate([7000 + 4 * colours, alpha], axis=2))
    assert not read_image(path)[:10].any()
    assert np.abs(read_image(path)[10:].astype(int) - colours[10:, :, ::-1]).max() <= NEAR


def sixteen_bit_tiff(path: Path, rgb: NDArray[np.uint16], orientation: int) -> Path:
    """By hand, as Pillow writes no colours of 16 bits and OpenCV no orientation."""
    height, width = rgb.shape[:2]
    pixels = rgb.astype("<u2").tobytes()
    tags = [
        *((256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, 8), (259, 3, 1, 1), (262, 3, 1, 2)),
        *((273, 4, 1, 14), (274, 3, 1, orientation), (277, 3, 1, 3), (278, 4, 1, height)),
        *((279, 4, 1, len(pixels)), (284, 3, 1, 1)),
    ]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    head = struct.pack("<2sHI", b"II", 42, 14 + len(pixels)) + struct.pack("<3H", 16, 16, 16)
    path.write_bytes(head + pixels + directory)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("rotate", [True, False])
def test_deep_colours_are_turned_as_shallow_ones(
    tmp_path: Path, colours: NDArray[np.uint16], orientation: int, rotate: bool
) -> None:
    deep = sixteen_bit_tiff(tmp_path / "deep.tif", 7000 + 4 * colours, orientation)
    shallow = tmp_path / "shallow.tif"
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(colours.astype(np.uint8)).save(shallow, exif=exif)
    assert apart(deep, read_image(shallow, rotate=rotate), rotate=rotate) <= NEAR


@pytest.mark.parametrize(
    "low, gain, kind",
    [(0, 1 / 255, "float32"), (20, 0.05, "float32"), (-3000, 7, "int32"), (10**6, 9, "int32")],
)
def test_floating_point_and_wide_numbers(
    tmp_path: Path, grey: NDArray[np.uint16], low: float, gain: float, kind: str
) -> None:
    """0 to 1, degrees Celsius, signed numbers, more than 16 bits."""
    Image.fromarray((low + gain * grey.astype(np.float64)).astype(kind)).save(tmp_path / "a.tif")
    assert apart(tmp_path / "a.tif", grey) <= NEAR


def test_what_was_not_measured_does_not_count(tmp_path: Path, grey: NDArray[np.uint16]) -> None:
    """The black border of an undistorted photo, dead pixels, holes in a depth map."""
    deep = 7000 + 4 * grey
    deep[:, :3], deep[10, 40], deep[11, 40] = 0, 65535, 1
    pixels = read_image(write(tmp_path / "a.png", deep))
    assert not pixels[:, :3].any() and pixels[10, 40, 0] == 255 and pixels[11, 40, 0] == 0
    inner = grey[:, 3:].astype(float)
    wanted = 255 * (inner - inner.min()) / np.ptp(inner)
    assert np.abs(pixels[12:, 3:, 0] - wanted[12:]).max() <= 3 * NEAR
    holes = (20 + 0.05 * grey).astype(np.float32)
    holes[0, :3] = np.nan, np.inf, -np.inf
    Image.fromarray(holes).save(tmp_path / "a.tif")
    pixels = read_image(tmp_path / "a.tif")
    assert pixels[0, :3, 0].tolist() == [0, 255, 0]
    assert np.abs(pixels[1:, :, 0].astype(int) - grey[1:]).max() <= NEAR


@pytest.mark.parametrize("kind", ["uint16", "int32", "float32"])
@pytest.mark.parametrize("number", [0, 7000, 60000])
def test_a_flat_photo_stays_flat(tmp_path: Path, kind: str, number: int) -> None:
    Image.fromarray(np.full((5, 6), number, kind)).save(tmp_path / "a.tif")
    assert len(np.unique(read_image(tmp_path / "a.tif"))) == 1
    Image.fromarray(np.full((5, 6), np.nan, np.float32)).save(tmp_path / "n.tif")
    assert not read_image(tmp_path / "n.tif").any()


def test_noise_is_not_blown_up(tmp_path: Path) -> None:
    noise = 7000 + np.random.default_rng(0).integers(0, 4, (50, 60), dtype=np.uint16)
    assert np.ptp(read_image(write(tmp_path / "a.png", noise))) == 3


def test_levels_are_a_choice(tmp_path: Path, grey: NDArray[np.uint16]) -> None:
    deep = 7000 + 4 * grey
    path = write(tmp_path / "a.png", deep)
    assert apart(path, deep >> 8, levels="upper") == 0
    wider = np.round((deep - 6000.0) * 255 / 4000)
    assert apart(path, wider, levels=(6000.0, 10000.0)) <= 1
    assert apart(path, np.round(np.clip((deep - 7500.0) * 0.51, 0, 255)), levels=(7500.0, 8000.0)) <= 1


def test_preparing_takes_the_chosen_levels(tmp_path: Path, grey: NDArray[np.uint16]) -> None:
    photo = Photo("a", write(tmp_path / "a.png", 7000 + 4 * grey))
    for levels in ("photo", "upper", (6000.0, 9000.0)):
        how = Preprocess(scale="0-255", levels=levels)  # type: ignore[arg-type]
        (batch,) = load_batches([photo], [np.array([0])], how)
        wanted = read_image(photo, levels=levels)  # type: ignore[arg-type]
        assert np.array_equal(batch.images[0], wanted.transpose(2, 0, 1))


def test_other_photos_do_not_matter(tmp_path: Path, grey: NDArray[np.uint16]) -> None:
    """Alone or in a batch with one of another range."""
    photos = [
        Photo(f"{i}", write(tmp_path / f"{i}.png", low + 4 * grey)) for i, low in enumerate((7000, 9000))
    ]
    alone = [next(load_batches([photo], [np.array([0])], Preprocess())).images[0] for photo in photos]
    (batch,) = load_batches(photos, [np.array([0, 1])], Preprocess(), workers=2)
    assert np.array_equal(batch.images, alone) and np.abs(alone[0] - alone[1]).max() == 0


def test_as_data() -> None:
    assert parse_levels("photo") == "photo" and parse_levels("7000,8100") == (7000.0, 8100.0)
    plain = Preprocess().to_dict()
    assert "levels" not in plain and "reduce" not in plain  # fingerprints of older models stay
    for levels in ("photo", "upper", (7000.0, 8100.0)):
        for reduce in (False, True):
            how = Preprocess(levels=levels, reduce=reduce)  # type: ignore[arg-type]
            assert Preprocess.from_dict(how.to_dict()) == how
    for text in ("lower", "5", "8,7", "1,2,3", "a,b", "nan,1", ""):
        with pytest.raises(InputError, match="LOW,HIGH"):
            parse_levels(text)
