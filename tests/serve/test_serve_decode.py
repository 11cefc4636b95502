"""What hostile photos do to the processes that decode them, and to nothing else."""

import asyncio
import io
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from dejavlad.serve import decode_child
from dejavlad.serve.decode_check import Checked, DecodeCheck
from dejavlad.serve.limits import Limits
from made_photos import view


def encoded(kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(view(0)).save(file, kind, **options)
    return file.getvalue()


def check(*contents: bytes, limits: Limits | None = None, processes: int = 1) -> list[Checked]:
    async def run() -> list[Checked]:
        checker = DecodeCheck(limits or Limits(), processes)
        try:
            return list(await asyncio.gather(*map(checker, contents)))
        finally:
            await checker.close()
            assert checker.waiting == 0

    return asyncio.run(run())


def test_sizes_are_upright_and_reasons_are_told() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    good, turned, png, broken, none = check(
        encoded("JPEG"), encoded("JPEG", exif=exif), encoded("PNG"), encoded("PNG")[:900], b"hello"
    )
    assert (good.height, good.width) == (96, 128) == (png.height, png.width)
    assert (turned.height, turned.width) == (128, 96)
    assert broken.reason and "cut short" in broken.reason
    assert none.reason and none.reason.startswith("it is no image")


def png_claiming(width: int, height: int) -> bytes:
    """A PNG whose header claims a size and whose pixels are a few bytes that unpack to many."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 16, 6, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0" * 10**6))
        + chunk(b"IEND", b"")
    )


def test_claims_of_too_many_pixels_cost_nothing() -> None:
    started = time.monotonic()
    outcomes = check(*(png_claiming(w, 2**31 // w) for w in (1, 100, 40_000)), encoded("JPEG"))
    assert all(o.reason and "decompression bomb" in o.reason for o in outcomes[:3])
    assert outcomes[3].reason is None and time.monotonic() - started < 20


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited on Linux")
def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dejavlad.serve.decode_check.BASE", 700 << 20)
    monkeypatch.setattr("dejavlad.serve.decode_check.BYTES_A_PIXEL", 0)
    file = io.BytesIO()
    Image.new("RGB", (14_000, 14_000), "red").save(file, "PNG", compress_level=9)
    large, good = check(file.getvalue(), encoded("PNG"), limits=Limits(pixels=200_000_000))
    assert large.reason and good.reason is None  # the process that ran out of memory is followed by another


@pytest.mark.slow
def test_time_is_bounded_and_the_next_photo_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Limits(decode_seconds=0.000001)
    (late,) = check(encoded("PNG"), limits=slow)
    assert late.reason and "takes more than" in late.reason
    (late,) = check(encoded("PNG"), limits=Limits(decode_cpu_seconds=0))
    assert late.reason == "decoding it takes 0 seconds"

    async def run() -> list[Checked]:
        checker = DecodeCheck(Limits(), 1)
        first = await checker(encoded("PNG"))
        (child,) = checker._all
        child.process.kill()  # as a decoder that breaks down does
        await child.process.wait()
        second = await checker(encoded("PNG"))
        third = await checker(encoded("PNG"))
        await checker.close()
        return [first, second, third]

    first, second, third = asyncio.run(run())
    assert first.reason is None and third.reason is None
    assert second.reason == "it is damaged: decoding it broke down"


@pytest.mark.slow
def test_processes_are_replaced_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dejavlad.serve.decode_check.PHOTOS", 2)

    async def run() -> set[int]:
        checker = DecodeCheck(Limits(), 1)
        pids = set()
        for _ in range(6):
            assert (await checker(encoded("PNG"))).reason is None
            pids |= {child.process.pid for child in checker._all}
        await checker.close()
        return pids

    assert len(asyncio.run(run())) == 3


def test_the_child_starts_without_torch() -> None:
    script = (
        "import sys, dejavlad.serve.decode_child; "
        "print([m for m in ('torch', 'starlette') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_what_the_child_says_of_deep_photos() -> None:
    file = io.BytesIO()
    Image.fromarray(np.arange(96 * 128, dtype=np.uint16).reshape(96, 128) * 5).save(file, "PNG")
    assert decode_child.look(file.getvalue()) == {"size": [96, 128]}
    assert "reason" in decode_child.look(file.getvalue()[:200])
