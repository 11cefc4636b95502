import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dejavlad.errors import InputError
from dejavlad.geo import latlon
from dejavlad.positions.exif import read_exif
from dejavlad.positions.exif_write import with_gps
from made_photos import view


def jpeg(exif: Image.Exif | bytes | None = None, **options: object) -> bytes:
    file = io.BytesIO()
    extra = {} if exif is None else {"exif": exif}
    Image.fromarray(view(1)).save(file, "JPEG", quality=90, **extra, **options)
    return file.getvalue()


def full_exif(order: str) -> bytes:
    """EXIF with tags of many kinds, a maker's note, a GPS part and a thumbnail, in one byte order."""
    exif = Image.Exif()
    exif.endian = order
    exif[0x010E], exif[0x0112], exif[0x011A] = "a street", 6, 72.0
    exif.get_ifd(0x8769).update({0x9003: "2024:05:06 07:08:09", 0x927C: bytes(range(200)), 0x829A: 0.01})
    exif.get_ifd(0x8825).update(
        {
            1: "S",
            2: (1.0, 2.0, 3.0),
            3: "W",
            4: (4.0, 5.0, 6.0),
            7: (7.0, 8.0, 9.0),
            17: 123.5,
            29: "2024:05:06",
        }
    )
    return exif.tobytes()


def scan(content: bytes) -> bytes:
    """All of a JPEG but its EXIF: the segments and the picture."""
    rest, at = content[:2], 2
    while content[at + 1] != 0xDA:
        length = 2 + struct.unpack(">H", content[at + 2 : at + 4])[0]
        if not (content[at + 1] == 0xE1 and content[at + 4 : at + 10] == b"Exif\0\0"):
            rest += content[at : at + length]
        at += length
    return rest + content[at:]


def tags(content: bytes) -> dict[int, object]:
    with Image.open(io.BytesIO(content)) as image:
        exif = image.getexif()
    every = {**dict(exif), **exif.get_ifd(0x8769)}
    every |= {(0x8825, tag): value for tag, value in exif.get_ifd(0x8825).items()}
    for pointer in (0x8769, 0x8825):
        every.pop(pointer, None)
    return every


@pytest.mark.parametrize(
    "position", [(48.25, 11.75), (-33.8688197, 151.2092955), (0.0, -0.0000001), (90, -180)]
)
@pytest.mark.parametrize("before", ["none", "<", ">", "jfif"])
def test_the_position_is_there_and_nothing_else_changed(
    position: tuple[float, float], before: str, tmp_path: Path
) -> None:
    content = jpeg(full_exif(before)) if before in "<>" else jpeg(None)
    changed = with_gps(content, *position, 12.5)
    path = tmp_path / "a.jpg"
    path.write_bytes(changed)
    with Image.open(path) as image, Image.open(io.BytesIO(content)) as original:
        gps = image.getexif().get_ifd(0x8825)
        assert np.array_equal(np.asarray(image), np.asarray(original))
    lat, lon = (float(d + m / 60 + s / 3600) for d, m, s in (gps[2], gps[4]))
    assert lat * (1 if gps[1] == "N" else -1) == pytest.approx(position[0], abs=5e-8)
    assert lon * (1 if gps[3] == "E" else -1) == pytest.approx(position[1], abs=5e-8)
    assert gps[31] == 12.5
    if abs(position[0]) < 84 and any(position):
        assert latlon(read_exif(path).position) == pytest.approx(position, abs=1e-7)
    assert scan(changed) == scan(content)
    ours = {(0x8825, tag) for tag in (0, 1, 2, 3, 4, 31)}
    assert {k: v for k, v in tags(changed).items() if k not in ours} == {
        k: v for k, v in tags(content).items() if k not in ours
    }


def test_again_and_again_only_the_position_changes(tmp_path: Path) -> None:
    content = jpeg(full_exif("<"))
    for i in range(5):
        content = with_gps(content, 10 + i, 20 + i)
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    assert latlon(read_exif(path).position) == pytest.approx((14, 24), abs=1e-7)
    assert tags(content)[(0x8825, 17)] == 123.5 and tags(content)[0x927C] == bytes(range(200))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no JPEG"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "no JPEG"),
        (b"\xff\xd8", "damaged JPEG"),
        (b"\xff\xd8\xff\xe1\xff\xff", "damaged JPEG"),
        (b"\xff\xd8\xff\xe1\0\x01abc", "damaged JPEG"),
    ],
)
def test_what_is_no_jpeg_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        with_gps(content, 1, 2)


def test_exif_that_is_full_is_refused() -> None:
    exif = Image.Exif()
    exif[0x010E] = "x" * 65_400
    with pytest.raises(InputError, match="full"):
        with_gps(jpeg(exif), 1, 2)
    with pytest.raises(InputError, match="-90 to 90"):
        with_gps(jpeg(), 91, 0)


def test_damaged_exif_is_refused_or_read_by_others(tmp_path: Path) -> None:
    """Any byte of the EXIF may be wrong: an error, or a JPEG that tells the position, if EXIF at all."""
    content = jpeg(full_exif(">"))
    at, random = content.index(b"Exif\0\0"), np.random.default_rng(0)
    path = tmp_path / "a.jpg"
    readable = 0
    for _ in range(300):
        damaged = bytearray(content)
        for place in random.integers(at + 6, at + 200, 3):
            damaged[place] = random.integers(256)
        try:
            changed = with_gps(bytes(damaged), 48.25, 11.75)
        except InputError:
            continue
        path.write_bytes(changed)
        if (position := read_exif(path).position) is not None:
            assert latlon(position) == pytest.approx((48.25, 11.75), abs=1e-7)
            readable += 1
    assert readable > 100
