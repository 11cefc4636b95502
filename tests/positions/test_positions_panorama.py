"""Views of panoramas, against a sphere of colours that is known in every direction."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image

from dejavlad.errors import InputError, PhotoError
from dejavlad.extraction.photo_table import PhotoTable
from dejavlad.images import Preprocess, load_batches, plan_batches, read, read_image, read_size
from dejavlad.images.panorama import Panoramas
from dejavlad.photo import (
    Photo,
    PhotoList,
)
from dejavlad.photo.photo import View
from dejavlad.positions.panorama import (
    Views,
    cut_panoramas,
    tagged_panoramas,
)

W = 720
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" '
    b'GPano:ProjectionType="equirectangular" GPano:PoseHeadingDegrees="100.0"/></rdf:RDF></x:xmpmeta>'
)


def colour(direction_3: NDArray[np.float64]) -> NDArray[np.float64]:
    """[..., 3] unit vectors (right, up, ahead) to smooth colours, 0 to 255."""
    return 127.5 + 120 * direction_3


def sphere(width: int = W) -> NDArray[np.uint8]:
    """The panorama of it, 2:1, ahead in the middle."""
    latitude = np.pi * (0.5 - (np.arange(width // 2) + 0.5) / (width // 2))[:, None]
    longitude = 2 * np.pi * ((np.arange(width) + 0.5) / width - 0.5)[None, :]
    right, up, ahead = (
        np.cos(latitude) * np.sin(longitude),
        np.sin(latitude) + 0 * longitude,
        np.cos(latitude) * np.cos(longitude),
    )
    return np.round(colour(np.stack([right, up, ahead], axis=2))).astype(np.uint8)


def expected(view: View, height: int, width: int) -> NDArray[np.float64]:
    """What a camera sees: pixel by pixel, its ray turned by the yaw."""
    focal = width / 2 / np.tan(np.radians(view.fov / 2))
    x, y = np.meshgrid(np.arange(width) + 0.5 - width / 2, np.arange(height) + 0.5 - height / 2)
    ray = np.stack([x / focal, -y / focal, np.ones_like(x)], axis=2)
    ray /= np.linalg.norm(ray, axis=2, keepdims=True)
    turn = np.radians(view.yaw)
    right = ray[..., 0] * np.cos(turn) + ray[..., 2] * np.sin(turn)
    ahead = ray[..., 2] * np.cos(turn) - ray[..., 0] * np.sin(turn)
    return colour(np.stack([right, ray[..., 1], ahead], axis=2))


@pytest.fixture
def panorama(tmp_path: Path) -> Path:
    Image.fromarray(sphere()).save(tmp_path / "p.png")
    return tmp_path / "p.png"


@pytest.mark.parametrize("yaw", [0, 45, 90, 179.5, 180, 270, 359.9])
@pytest.mark.parametrize("fov", [30, 60, 90, 140])
def test_a_view_is_what_a_camera_sees(panorama: Path, yaw: float, fov: float) -> None:
    photo = Photo("p.png", panorama, view=View(yaw, fov))
    pixels = read_image(photo)
    height, width = read_size(photo)
    assert pixels.shape == (height, width, 3)
    assert abs(height - width * 3 / 4) <= 1
    assert abs(width - W / np.pi * np.tan(np.radians(fov / 2))) <= 1  # the panorama's own resolution
    assert np.abs(pixels - expected(View(yaw, fov), height, width)).max() <= 2


def test_crops_arrays_and_frames_of_it(panorama: Path) -> None:
    view = View(90, 60)
    whole = read_image(Photo("p.png", panorama, view=view))
    array = Photo("a", Path("a"), pixels=sphere(), view=view)
    assert np.array_equal(read_image(array), whole) and read_size(array) == whole.shape[:2]
    cropped = Photo("p.png", panorama, view=view, crop=(2, 3, 9, 8))
    assert np.array_equal(read_image(cropped), whole[3:8, 2:9]) and read_size(cropped) == (5, 7)
    assert cropped.key == "p.png#view=90,60#crop=2,3,9,8"


def test_other_photos_are_no_panoramas(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    for reads in (read_image, read_size):
        with pytest.raises(PhotoError, match="two to one"):
            reads(Photo("a", tmp_path / "a.png", view=View(0, 90)))
    with pytest.raises(PhotoError, match="no such file"):
        read_image(Photo("a", tmp_path / "b.png", view=View(0, 90)))
    for yaw, fov in ((-1, 90), (360, 90), (0, 0), (0, 151), (float("nan"), 90)):
        with pytest.raises(InputError, match="view"):
            View(yaw, fov)


@pytest.mark.parametrize("workers", [0, 3])
def test_a_panorama_is_decoded_once_for_all_its_views(
    panorama: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[Path] = []
    inner = read.decode

    def counted(path: Path, *more: object) -> object:
        decoded.append(path)
        return inner(path, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(read, "decode", counted)
    monkeypatch.setattr(read, "_panoramas", Panoramas())
    photos = list(Views(8).of(Photo("p.png", panorama)))
    plan = plan_batches([read_size(photo) for photo in photos], 4)
    images = [
        im for batch in load_batches(photos, plan, Preprocess(), workers=workers) for im in batch.images
    ]
    assert decoded == [panorama]
    wanted = [read_image(photo) / np.float32(255) for photo in photos]
    assert np.allclose(images, [view.transpose(2, 0, 1) for view in wanted])


def test_a_failed_decoding_is_told_to_all_and_tried_again() -> None:
    panoramas, gate = Panoramas(), threading.Event()

    def fails() -> NDArray[np.uint8]:
        gate.wait(10)
        raise PhotoError("a", "no")

    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(panoramas.get, "a", fails) for _ in range(3)]
        gate.set()
        assert all(isinstance(future.exception(), PhotoError) for future in waiting)
    assert panoramas.get("a", lambda: sphere(8)).shape == (4, 8, 3)


def test_cutting_a_list(tmp_path: Path, panorama: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(b"no image")
    listed = PhotoList(
        [
            Photo("a.jpg", tmp_path / "a.jpg"),
            Photo("p.png", panorama, heading=350.0, time=5.0),
            Photo("b.jpg", tmp_path / "b.jpg"),
        ],
        root=tmp_path,
        name="street",
    )
    cut, count = cut_panoramas(listed, Views(4))
    assert count == 1
    assert cut.keys == ["a.jpg", *(f"p.png#view={yaw},90" for yaw in (0, 90, 180, 270)), "b.jpg"]
    views = list(cut)[1:5]
    assert [photo.heading for photo in views] == [350, 80, 170, 260]
    assert {(photo.group, photo.time) for photo in views} == {("p.png", 5.0)}
    assert (cut.name, cut.root) == ("street", tmp_path)
    assert Views.used_in(cut) == Views(4, 90.0) and Views.used_in(listed) is None
    again, count = cut_panoramas(cut, Views(4))
    assert (again.keys, count) == (cut.keys, 0)
    table = PhotoTable.look(cut, lambda photo: (1, 1))
    assert list(PhotoTable.from_dict(table.to_dict()).photos) == list(cut)


def test_the_heading_comes_from_xmp_or_exif(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSImgDirection] = 40.0
    image = Image.fromarray(sphere(80))
    image.save(tmp_path / "both.jpg", xmp=XMP, exif=exif)
    image.save(tmp_path / "exif.jpg", exif=exif)
    image.save(tmp_path / "none.jpg")
    headings = {
        name: [photo.heading for photo in Views(2).of(Photo(name, tmp_path / name))]
        for name in ("both.jpg", "exif.jpg", "none.jpg")
    }
    assert headings == {"both.jpg": [100, 280], "exif.jpg": [40, 220], "none.jpg": [None, None]}
    listed = PhotoList([Photo(name, tmp_path / name) for name in headings])
    assert tagged_panoramas(listed) == ["both.jpg"]


def test_as_the_command_writes_it() -> None:
    assert [Views.parse(text).degrees for text in ("1", "4", "8", "9", "12", "36", "12:75", "6:62.5")] == [
        *(90, 90, 90, 80, 60, 60, 75, 62.5)
    ]
    for text in ("0", "361", "-1", "12:", "12:0", "12:151", "many", ""):
        with pytest.raises(InputError):
            Views.parse(text)


def test_strips_around_the_horizon_are_cut_as_the_whole_is() -> None:
    """SF-XL's panoramas are 6.5 times as wide as high: the middle of the whole."""
    whole = sphere(728)
    strip = whole[182 - 56 : 182 + 56]
    for yaw in (0.0, 200.0):
        view = View(yaw, 55.4)
        cut = [read_image(Photo("p", Path("p"), pixels=pixels, view=view)) for pixels in (whole, strip)]
        assert np.abs(cut[0].astype(int) - cut[1]).max() <= 1
    with pytest.raises(PhotoError, match="a view of 120 degrees is higher than this panorama of 728x112"):
        read_image(Photo("p", Path("p"), pixels=strip, view=View(0.0, 120.0)))
    with pytest.raises(PhotoError, match="not two to one"):
        read_image(Photo("p", Path("p"), pixels=whole[:, :400], view=View(0.0, 60.0)))
