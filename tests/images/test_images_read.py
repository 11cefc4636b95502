from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image

from dejavlad.errors import PhotoError
from dejavlad.images import read_image, read_size
from dejavlad.photo import Photo

Pixels = NDArray[np.uint8]


@pytest.fixture
def rgb() -> Pixels:
    return np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def smooth(height: int = 24, width: int = 32) -> Pixels:
    """What lossy formats keep: slow ramps."""
    down, right = np.mgrid[:height, :width]
    return np.stack([4 * down + 60, 4 * right + 40, 2 * (down + right) + 30], axis=2).astype(np.uint8)


def oriented(path: Path, pixels: Pixels, orientation: int) -> Path:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(pixels).save(path, exif=exif)
    return path


UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_rotation(tmp_path: Path, rgb: Pixels, orientation: int, ending: str) -> None:
    path = oriented(tmp_path / f"a.{ending}", rgb, orientation)
    upright = UPRIGHT[orientation](rgb)
    assert np.array_equal(read_image(path), upright)
    assert read_size(path) == upright.shape[:2]
    assert np.array_equal(read_image(path, rotate=False), rgb)
    assert read_size(path, rotate=False) == rgb.shape[:2]


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_jpeg_is_rotated_as_opencv_does(tmp_path: Path, orientation: int) -> None:
    path = oriented(tmp_path / "a.jpg", smooth(), orientation)
    other = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    assert other is not None
    assert np.abs(read_image(path).astype(int) - other[:, :, ::-1]).max() <= 2


@pytest.mark.parametrize("ending", ["png", "bmp", "ppm", "tif", "webp"])
def test_lossless_formats(tmp_path: Path, rgb: Pixels, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    Image.fromarray(rgb).save(path, lossless=True)
    read = read_image(path)
    assert np.array_equal(read, rgb)
    assert read.dtype == np.uint8
    assert read.flags.c_contiguous
    assert read.flags.writeable
    assert read_size(str(path)) == (20, 30)


@pytest.mark.parametrize(
    ("ending", "options"),
    [("jpg", {"quality": 95}), ("webp", {"quality": 95}), ("jp2", {}), ("tif", {"compression": "jpeg"})],
)
def test_lossy_formats(tmp_path: Path, ending: str, options: dict[str, Any]) -> None:
    path = tmp_path / f"a.{ending}"
    Image.fromarray(smooth()).save(path, **options)
    assert np.abs(read_image(path).astype(int) - smooth()).max() <= 12


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits"])
def test_compressed_tiff(tmp_path: Path, rgb: Pixels, compression: str) -> None:
    Image.fromarray(rgb).save(tmp_path / "a.tif", compression=compression)
    assert np.array_equal(read_image(tmp_path / "a.tif"), rgb)


@pytest.mark.parametrize("ending", ["png", "jpg", "pgm", "gif", "tif", "bmp"])
def test_grey_becomes_three_equal_channels(tmp_path: Path, ending: str) -> None:
    grey = smooth()[:, :, 0]
    path = tmp_path / f"a.{ending}"
    Image.fromarray(grey).save(path)
    read = read_image(path)
    assert read.shape == (24, 32, 3)
    assert (read == read[:, :, :1]).all()
    assert np.abs(read[:, :, 0].astype(int) - grey).max() <= (2 if ending == "jpg" else 0)


@pytest.mark.parametrize("ending", ["png", "pbm", "tif"])
def test_one_bit(tmp_path: Path, ending: str) -> None:
    bits = np.random.default_rng(0).random((9, 11)) > 0.5
    Image.fromarray(bits).save(tmp_path / f"a.{ending}")
    assert np.array_equal(read_image(tmp_path / f"a.{ending}")[:, :, 1], bits * np.uint8(255))


@pytest.mark.parametrize("ending", ["png", "tif", "pgm"])
def test_sixteen_bits_of_grey_keep_the_upper_eight(tmp_path: Path, ending: str) -> None:
    deep = np.arange(0, 65536, 128, dtype=np.uint16).reshape(16, 32)
    (tmp_path / f"a.{ending}").write_bytes(cv2.imencode(f".{ending}", deep)[1].tobytes())
    read = read_image(tmp_path / f"a.{ending}")
    assert np.array_equal(read, np.repeat((deep >> 8).astype(np.uint8)[:, :, None], 3, axis=2))


@pytest.mark.parametrize("order", [b"II", b"MM"])
def test_sixteen_bits_of_either_byte_order(tmp_path: Path, order: bytes) -> None:
    deep = np.arange(0, 65536, 128, dtype=np.uint16).reshape(16, 32)
    mode, kind = ("I;16", "<u2") if order == b"II" else ("I;16B", ">u2")
    Image.frombytes(mode, (32, 16), deep.astype(kind).tobytes()).save(tmp_path / "a.tif")
    assert (tmp_path / "a.tif").read_bytes()[:2] == order
    assert np.array_equal(read_image(tmp_path / "a.tif")[:, :, 0], deep >> 8)


def test_sixteen_bits_of_colour(tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (8, 9, 3), dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(cv2.imencode(".png", deep)[1].tobytes())
    assert np.array_equal(read_image(tmp_path / "a.png"), (deep >> 8)[:, :, ::-1])


@pytest.mark.parametrize("ending", ["png", "webp", "tif"])
def test_alpha_is_laid_over_black(tmp_path: Path, rgb: Pixels, ending: str) -> None:
    alpha = np.full((20, 30, 1), 255, np.uint8)
    alpha[:10], alpha[10:, :15] = 0, 128
    path = tmp_path / f"a.{ending}"
    Image.fromarray(np.concatenate([rgb, alpha], axis=2)).save(path, lossless=True, exact=True)
    read = read_image(path)
    assert not read[:10].any()
    assert np.array_equal(read[10:, 15:], rgb[10:, 15:])
    assert np.abs(read[10:, :15] - rgb[10:, :15] * (128 / 255)).max() <= 1


def test_transparency_of_grey_palette_and_gif(tmp_path: Path) -> None:
    la = Image.merge("LA", [Image.new("L", (2, 1), 200), Image.fromarray(np.array([[255, 0]], np.uint8))])
    la.save(tmp_path / "la.png")
    assert read_image(tmp_path / "la.png")[0].tolist() == [[200] * 3, [0] * 3]
    palette = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    for name, transparency in (("p.png", b"\xff\x00\xff"), ("one.png", 1), ("p.gif", 1)):
        palette.save(tmp_path / name, transparency=transparency)
        assert read_image(tmp_path / name)[0].tolist() == [[255, 0, 0], [0, 0, 0], [0, 0, 255]]


@pytest.mark.parametrize("ending", ["png", "gif", "tif", "bmp"])
def test_palette(tmp_path: Path, ending: str) -> None:
    palette = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    colours = np.random.default_rng(0).integers(0, 256, (256, 3), dtype=np.uint8)
    palette.putpalette(colours.ravel().tolist())
    palette.save(tmp_path / f"a.{ending}")
    assert np.array_equal(read_image(tmp_path / f"a.{ending}").reshape(-1, 3), colours[:12])


@pytest.mark.parametrize("ending", ["jpg", "tif"])
def test_cmyk(tmp_path: Path, ending: str) -> None:
    Image.fromarray(smooth()).convert("CMYK").save(tmp_path / f"a.{ending}")
    assert np.abs(read_image(tmp_path / f"a.{ending}").astype(int) - smooth()).max() <= 12


def test_the_first_picture_of_an_animation(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (5, 4), colour) for colour in ("red", "blue")]
    for ending in ("gif", "webp", "png", "tif"):
        pictures[0].save(tmp_path / f"a.{ending}", save_all=True, append_images=pictures[1:], lossless=True)
        assert (read_image(tmp_path / f"a.{ending}") == [255, 0, 0]).all()


@pytest.mark.parametrize("ending", ["jpg", "png", "gif", "webp", "tif", "bmp"])
def test_one_pixel(tmp_path: Path, ending: str) -> None:
    Image.new("RGB", (1, 1), (255, 255, 255)).save(tmp_path / f"a.{ending}")
    assert read_image(tmp_path / f"a.{ending}").tolist() == [[[255, 255, 255]]]
    assert read_size(tmp_path / f"a.{ending}") == (1, 1)


@pytest.mark.parametrize(
    "name", ["a b.png", "it's.png", "ä ö ß.png", "東京 駅.png", "фото.png", "😀.png", "%20#1?.png", "-n.png"]
)
def test_names(tmp_path: Path, rgb: Pixels, name: str) -> None:
    folder = tmp_path / "ein Ordner – 場所"
    folder.mkdir()
    Image.fromarray(rgb).save(folder / name)
    assert np.array_equal(read_image(folder / name), rgb)


@pytest.mark.parametrize("name", ["two\nlines.png", 'a "b".png', "a\\b.png", "tab\t.png"])
def test_names_that_not_every_system_allows(tmp_path: Path, rgb: Pixels, name: str) -> None:
    try:
        (tmp_path / name).touch()
    except OSError:
        pytest.skip("this system does not allow such a name")
    with pytest.raises(PhotoError) as raised:
        read_image(tmp_path / name)
    assert "\n" not in str(raised.value)
    Image.fromarray(rgb).save(tmp_path / name)
    assert np.array_equal(read_image(tmp_path / name), rgb)


def test_the_ending_does_not_matter(tmp_path: Path, rgb: Pixels) -> None:
    whole = BytesIO()
    Image.fromarray(rgb).save(whole, "PNG")
    for name in ("photo", "photo.jpg", "photo.JPEG.txt"):
        (tmp_path / name).write_bytes(whole.getvalue())
        assert np.array_equal(read_image(tmp_path / name), rgb)


def test_a_crop_is_of_the_upright_photo(tmp_path: Path, rgb: Pixels) -> None:
    path = oriented(tmp_path / "a.png", rgb, 6)
    photo = Photo("a.png", path, crop=(2, 5, 12, 25))
    assert np.array_equal(read_image(photo), np.rot90(rgb, -1)[5:25, 2:12])
    assert read_image(photo).flags.c_contiguous
    assert read_size(photo) == (20, 10)
    with pytest.raises(PhotoError, match="crop"):
        read_image(photo, rotate=False)


@pytest.mark.parametrize("crop", [(0, 0, 31, 20), (0, 0, 30, 21), (-1, 0, 3, 3), (5, 5, 5, 9), (9, 5, 5, 9)])
def test_a_crop_outside(tmp_path: Path, rgb: Pixels, crop: tuple[int, int, int, int]) -> None:
    Image.fromarray(rgb).save(tmp_path / "a.png")
    photo = Photo("a.png", tmp_path / "a.png", crop=crop)
    for read in (read_image, read_size):
        with pytest.raises(PhotoError, match="crop"):
            read(photo)


def test_arrays(rgb: Pixels) -> None:
    photo = Photo("a", Path("a"), pixels=rgb)
    assert np.array_equal(read_image(photo), rgb)
    assert read_size(photo) == (20, 30)
    cut = Photo("a", Path("a"), pixels=rgb, crop=(1, 2, 3, 9))
    assert np.array_equal(read_image(cut), rgb[2:9, 1:3])


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 5), np.uint8),
        np.zeros((4, 5, 4), np.uint8),
        np.zeros((4, 5, 3), np.float32),
        np.zeros((0, 5, 3), np.uint8),
        [[1, 2, 3]],
    ],
)
def test_arrays_of_another_kind(array: Any) -> None:
    photo = Photo("mine", Path("mine"), pixels=array)
    for read in (read_image, read_size):
        with pytest.raises(PhotoError, match="uint8 RGB"):
            read(photo)
