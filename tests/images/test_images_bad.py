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

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from dejavlad.errors import PhotoError
from dejavlad.images import read_image, read_size
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


def test_floating_point_and_deep_pixels(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((3, 4), np.float32)).save(tmp_path / "f.tif")
    assert "floating-point" in reason(tmp_path / "f.tif")
    Image.fromarray(np.full((3, 4), 2**20, np.int32)).save(tmp_path / "i.tif")
    assert "16 bits" in reason(tmp_path / "i.tif")


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
        read = read_image(path)
    except PhotoError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert read.dtype == np.uint8
        assert read.shape == (*(size or ()), 3)


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
        for read in (read_image, read_size):
            with pytest.raises(PhotoError, match=says):
                read(Photo("a", path, frame=0))
