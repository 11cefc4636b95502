from __future__ import annotations

import os
import struct
import subprocess
import sys
import textwrap
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin

from dejavlad.errors import PhotoError
from dejavlad.images import decode, read_image, read_size
from dejavlad.photo import Photo

NOISE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def encoded(kind: str, **options: Any) -> bytes:
    whole = BytesIO()
    Image.fromarray(NOISE).save(whole, kind, **options)
    return whole.getvalue()


def claims(path: Path, width: int, height: int) -> Path:
    """A PNG whose header claims so many pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(1000))
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, data)]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return path


def reason(path: Path) -> str:
    with pytest.raises(PhotoError) as raised:
        read_image(path)
    assert raised.value.path == str(path)
    assert len(str(raised.value).splitlines()) == 1
    return raised.value.reason


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("GIF", {}),
        ("WEBP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("BMP", {}),
        ("PPM", {}),
        ("JPEG2000", {}),
    ],
)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_truncated(
    tmp_path: Path, kind: str, options: dict[str, Any], share: float, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = encoded(kind, **options)
    (tmp_path / "a").write_bytes(whole[: int(len(whole) * share)])
    assert reason(tmp_path / "a")
    assert capfd.readouterr() == ("", "")


def test_a_jpeg_cut_short_says_so_and_its_size_is_known(tmp_path: Path) -> None:
    whole = encoded("JPEG")
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) // 2])
    assert reason(tmp_path / "a.jpg") == "it is cut short"
    assert read_size(tmp_path / "a.jpg") == (40, 60)


@pytest.mark.parametrize("content", [b"this is text", b"\xff\xd8\xff\xd9", bytes(1000), b"GIF89a"])
def test_fakes(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    assert "no image" in reason(tmp_path / "a.jpg")
    with pytest.raises(PhotoError, match="no image"):
        read_size(tmp_path / "a.jpg")


def test_no_bytes_no_file_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    assert reason(tmp_path / "a.jpg") == "the file is empty"
    assert reason(tmp_path / "none.jpg") == "there is no such file"
    assert reason(tmp_path / "folder.jpg") == "it is a folder"
    assert reason(tmp_path / "a.jpg" / "b.jpg")
    assert reason(Path("a\0b.jpg"))
    assert reason(tmp_path / ("long" * 2000))


def test_a_loop_of_links(tmp_path: Path) -> None:
    try:
        (tmp_path / "a.jpg").symlink_to(tmp_path / "b.jpg")
        (tmp_path / "b.jpg").symlink_to(tmp_path / "a.jpg")
    except OSError:
        pytest.skip("links are not allowed here")
    assert reason(tmp_path / "a.jpg")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    assert "regular" in reason(tmp_path / "a.jpg")


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded("JPEG"))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    assert reason(tmp_path / "a.jpg") == "Permission denied"


@pytest.mark.parametrize(("width", "height"), [(60000, 60000), (13400, 13400), (2**31 - 1, 2**31 - 1)])
def test_decompression_bombs(tmp_path: Path, width: int, height: int) -> None:
    path = claims(tmp_path / "a.png", width, height)
    assert "bomb" in reason(path)
    with pytest.raises(PhotoError, match="bomb"):
        read_size(path)


def test_the_limit_holds_where_pillow_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert "60000x60000" in reason(claims(tmp_path / "a.png", 60000, 60000))


def test_large_photos_are_not_bombs(tmp_path: Path) -> None:
    assert read_size(claims(tmp_path / "a.png", 12000, 12000)) == (12000, 12000)  # where Pillow warns


def test_floating_point_in_several_channels_is_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "f.tif"), np.zeros((3, 4, 3), np.float32))
    assert "floating-point" in reason(tmp_path / "f.tif")


@pytest.mark.parametrize("ending", [".dng", ".NEF", ".raw", ".orf"])
def test_raw_files_of_cameras_are_refused(tmp_path: Path, ending: str) -> None:
    """Most are TIFF files, whose first picture is a small preview."""
    for content in (encoded("TIFF"), b"IIRO" + bytes(100)):
        (tmp_path / f"a{ending}").write_bytes(content)
        assert "raw file" in reason(tmp_path / f"a{ending}")
    (tmp_path / f"a{ending}").write_bytes(encoded("JPEG"))
    assert read_image(tmp_path / f"a{ending}").shape == (40, 60, 3)


def test_dng_is_known_by_its_tag(tmp_path: Path) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[50706] = b"\x01\x04\x00\x00"
    Image.fromarray(NOISE).save(tmp_path / "a.tif", tiffinfo=tags)
    assert "raw file" in reason(tmp_path / "a.tif")


@pytest.mark.parametrize("more", [{"DEJAVLAD_MAX_PIXELS": "2399"}, {}])
def test_the_limit_of_pixels_is_a_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, str]
) -> None:
    (tmp_path / "config.toml").write_text("max_pixels = 2399", encoding="utf-8")
    (tmp_path / "a.png").write_bytes(encoded("PNG"))
    for name, value in (more or {"DEJAVLAD_CONFIG": str(tmp_path / "config.toml")}).items():
        monkeypatch.setenv(name, value)
    assert "--max-pixels 2400" in reason(tmp_path / "a.png")
    monkeypatch.setenv("DEJAVLAD_MAX_PIXELS", "2400")
    assert read_image(tmp_path / "a.png").shape == (40, 60, 3)


def test_a_lifted_limit_lifts_that_of_pillow_and_no_longer_than_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Image.MAX_IMAGE_PIXELS
    path = claims(tmp_path / "a.png", 30000, 20000)
    assert "bomb" in reason(path)
    monkeypatch.setenv("DEJAVLAD_MAX_PIXELS", "600_000_000")
    assert read_size(path) == (20000, 30000)
    assert before == Image.MAX_IMAGE_PIXELS
    monkeypatch.setattr(decode, "free_memory", lambda: 10**9)
    assert "7.2 GB of memory and 1.0 GB are free" in reason(path)


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(
    st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000"]),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6),
)
def test_damaged_files_are_read_or_refused(
    tmp_path: Path, kind: str, early: list[tuple[int, int]], anywhere: list[tuple[int, int]]
) -> None:
    data = bytearray(encoded(kind))
    for place, value in early + anywhere:
        data[place % len(data)] = value
    path = tmp_path / "a"
    path.write_bytes(data)
    try:
        size = read_size(path)
    except PhotoError:
        size = None
    try:
        pixels = read_image(path)
    except PhotoError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert pixels.dtype == np.uint8
        assert pixels.shape == (*(size or ()), 3)


@pytest.mark.slow
def test_c_libraries_say_nothing(tmp_path: Path) -> None:
    """In a process of its own, as some libraries learn only once how much to say."""
    rng = np.random.default_rng(0)
    for name in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits"):
        data = bytearray(encoded("TIFF", compression=name))
        middle = len(data) // 2
        data[middle - 200 : middle + 200] = rng.integers(0, 256, 400, dtype=np.uint8).tobytes()
        (tmp_path / f"{name}.tif").write_bytes(data)
    (tmp_path / "fake.mp4").write_text("no video " * 100, encoding="ascii")
    (tmp_path / "fake2.mp4").write_bytes(b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(500))
    script = """
        import sys
        from pathlib import Path
        from dejavlad.errors import PhotoError
        from dejavlad.images import read_image
        from dejavlad.photo import Photo
        refused = 0
        for path in sorted(Path(sys.argv[1]).iterdir()):
            try:
                read_image(Photo(path.name, path, frame=0 if path.suffix == ".mp4" else None))
            except PhotoError:
                refused += 1
        sys.exit(0 if refused >= 4 else 3)
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if sys.platform != "win32":  # where libtiff cannot be reached
        assert done.stderr == ""
    assert done.stdout == ""
    assert done.returncode == 0


def test_a_video_frame_of_no_video(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("no video", encoding="ascii")
    for path, says in ((tmp_path / "a.mp4", "video"), (tmp_path / "b.mp4", "no such"), (tmp_path, "folder")):
        for reads in (read_image, read_size):
            with pytest.raises(PhotoError, match=says):
                reads(Photo("a", path, frame=0))
