from __future__ import annotations

import struct
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from dejavlad.decoders import open_image
from dejavlad.errors import PhotoError


def large(path: Path) -> Path:
    """A PNG whose header claims 144 megapixels: enough for a warning of Pillow."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 12000, 12000, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"")
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, data)
        )
    )
    return path


def test_warnings_are_quiet_inside_and_as_before_outside(tmp_path: Path) -> None:
    path = large(tmp_path / "a.png")
    before = list(warnings.filters)
    with open_image(path) as image:
        assert image.size == (12000, 12000)
    assert list(warnings.filters) == before
    with pytest.raises(Image.DecompressionBombWarning):
        Image.open(path)


def test_warnings_are_quiet_in_threads_under_other_filters(tmp_path: Path) -> None:
    path = large(tmp_path / "a.png")
    before = list(warnings.filters)
    inside, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with open_image(path):
            inside.set()
            leave.wait(30)

    thread = threading.Thread(target=stay)
    thread.start()
    assert inside.wait(30)
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        def size(_: int) -> tuple[int, int]:
            with open_image(path) as image:
                return image.size

        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(size, range(50))) == {(12000, 12000)}
    leave.set()
    thread.join(30)
    assert list(warnings.filters) == before


def test_other_warnings_are_heard(tmp_path: Path) -> None:
    with open_image(large(tmp_path / "a.png")), pytest.raises(UserWarning, match="mine"):
        warnings.warn("mine", stacklevel=1)


def test_what_is_raised_inside_is_a_reason(tmp_path: Path) -> None:
    path = large(tmp_path / "a.png")
    with pytest.raises(PhotoError, match=r"damaged \(one two\)"), open_image(path):
        raise ValueError("one\n  two")
    with pytest.raises(PhotoError, match="memory"), open_image(path):
        raise MemoryError
    with pytest.raises(KeyboardInterrupt), open_image(path):
        raise KeyboardInterrupt


@pytest.mark.parametrize("text", ["%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "%PDF-1.4\n"])
def test_no_other_program_is_started(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_text(text, encoding="ascii")
    with pytest.raises(PhotoError, match="no image"), open_image(path):
        pass
