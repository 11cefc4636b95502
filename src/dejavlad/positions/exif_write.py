"""A position written into a JPEG's EXIF; no other byte of the picture changes.

The tags that are there stay where they are: the new table of tags and the GPS part are put behind them, so
that makers' notes and thumbnails, which know their own places, stay whole. (EXIF 2.32, TIFF 6.0.)
"""

from __future__ import annotations

import struct
from typing import Final

from dejavlad.errors import InputError

EXIF_HEAD: Final = b"Exif\0\0"
GPS_POINTER: Final = 0x8825
BYTE, ASCII, LONG, RATIONAL = 1, 2, 4, 5
OURS: Final = (0x0000, 0x0001, 0x0002, 0x0003, 0x0004, 0x001F)
"""GPS tags that are written anew: version, latitude and longitude with their sides, and the error."""
LARGEST: Final = 65533
"""Bytes that a segment of a JPEG has room for."""
ENTRIES: Final = 512
"""Tags of a table, at most."""
STANDALONE: Final = {0x01, *range(0xD0, 0xD8)}

Entry = tuple[int, int, int, bytes]
"""Tag, kind, count, and the four bytes of the value or its offset."""


def with_gps(jpeg: bytes, lat: float, lon: float, uncertainty_m: float | None = None) -> bytes:
    """The same JPEG with another position in its EXIF.

    Args:
        lat: degrees north, -90 to 90.
        lon: degrees east, -180 to 180.
        uncertainty_m: how far off that may be, in metres; None says nothing about it.

    Raises:
        InputError: it is no JPEG, its EXIF is damaged, or there is no room for more in it.
    """
    if not (-90 <= lat <= 90 and -180 <= lon <= 180):
        raise InputError(f"a position is -90 to 90 degrees north, -180 to 180 east; given {lat:g}, {lon:g}")
    start, end, after = _exif_segment(jpeg)
    tiff = jpeg[start + 4 + len(EXIF_HEAD) : end] if end > start else b"II*\0\0\0\0\0"
    segment = EXIF_HEAD + _changed(tiff, lat, lon, uncertainty_m)
    if len(segment) > LARGEST:
        raise InputError("the photo's EXIF is full: there is no room for a position")
    if end <= start:
        start = end = after
    return jpeg[:start] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[end:]


def _exif_segment(jpeg: bytes) -> tuple[int, int, int]:
    """Where the EXIF segment begins and ends (both 0 where there is none), and where one would be put."""
    if jpeg[:2] != b"\xff\xd8":
        raise InputError("it is no JPEG; EXIF is written into JPEG files only")
    at, after = 2, 2
    while at + 4 <= len(jpeg):
        if jpeg[at] != 0xFF:
            break
        marker = jpeg[at + 1]
        if marker == 0xFF:  # filling
            at += 1
            continue
        if marker in STANDALONE:
            at += 2
            continue
        if marker in (0xDA, 0xD9):
            return 0, 0, after
        (length,) = struct.unpack_from(">H", jpeg, at + 2)
        if length < 2 or at + 2 + length > len(jpeg):
            break
        if marker == 0xE1 and jpeg[at + 4 : at + 4 + len(EXIF_HEAD)] == EXIF_HEAD:
            return at, at + 2 + length, after
        at += 2 + length
        if marker == 0xE0 and after == at - 2 - length:
            after = at
    raise InputError("it is a damaged JPEG: its segments do not lead to a picture")


def _changed(tiff: bytes, lat: float, lon: float, uncertainty_m: float | None) -> bytes:
    """The TIFF structure of EXIF with a new GPS part behind it."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 8 or struct.unpack_from(order + "H", tiff, 2)[0] != 42:
        raise InputError("the photo's EXIF is damaged; remove it first")
    (first,) = struct.unpack_from(order + "I", tiff, 4)
    main, following = _table(tiff, first, order) if first else ([], 0)
    old = next((entry for entry in main if entry[0] == GPS_POINTER), None)
    gps: list[Entry] = []
    if old is not None and old[1:3] == (LONG, 1):
        try:
            gps, _ = _table(tiff, struct.unpack(order + "I", old[3])[0], order)
        except InputError:  # a broken part is replaced
            gps = []
    body = bytearray(tiff + b"\0" * (len(tiff) % 2))
    new = [entry for entry in gps if entry[0] not in OURS]
    new += [
        (0x0000, BYTE, 4, bytes((2, 3, 0, 0))),
        (0x0001, ASCII, 2, (b"N" if lat >= 0 else b"S") + b"\0\0\0"),
        (0x0002, RATIONAL, 3, _put(body, order, _degrees(lat))),
        (0x0003, ASCII, 2, (b"E" if lon >= 0 else b"W") + b"\0\0\0"),
        (0x0004, RATIONAL, 3, _put(body, order, _degrees(lon))),
    ]
    if uncertainty_m is not None:
        new.append((0x001F, RATIONAL, 1, _put(body, order, [(round(min(uncertainty_m, 1e7) * 100), 100)])))
    place = struct.pack(order + "I", len(body))
    body += _packed(new, 0, order)
    main = [entry for entry in main if entry[0] != GPS_POINTER] + [(GPS_POINTER, LONG, 1, place)]
    struct.pack_into(order + "I", body, 4, len(body))
    return bytes(body + _packed(main, following, order))


def _table(tiff: bytes, at: int, order: str) -> tuple[list[Entry], int]:
    """The entries of a table of tags, and where the next table lies."""
    if at + 2 > len(tiff):
        raise InputError("the photo's EXIF is damaged; remove it first")
    (count,) = struct.unpack_from(order + "H", tiff, at)
    if count > ENTRIES or at + 2 + 12 * count > len(tiff):
        raise InputError("the photo's EXIF is damaged; remove it first")
    entries = [
        (*struct.unpack_from(order + "HHI", tiff, at + 2 + 12 * i), tiff[at + 10 + 12 * i : at + 14 + 12 * i])
        for i in range(count)
    ]
    end = at + 2 + 12 * count
    return entries, struct.unpack_from(order + "I", tiff, end)[0] if end + 4 <= len(tiff) else 0


def _packed(entries: list[Entry], following: int, order: str) -> bytes:
    lines = [
        struct.pack(order + "HHI", tag, kind, count) + value for tag, kind, count, value in sorted(entries)
    ]
    return struct.pack(order + "H", len(lines)) + b"".join(lines) + struct.pack(order + "I", following)


def _put(body: bytearray, order: str, rationals: list[tuple[int, int]]) -> bytes:
    """Fractions at the end of the body; the offset at which they lie."""
    place = struct.pack(order + "I", len(body))
    for numerator, denominator in rationals:
        body += struct.pack(order + "II", numerator, denominator)
    return place


def _degrees(angle: float) -> list[tuple[int, int]]:
    """Degrees, minutes and seconds to a ten-thousandth, about three millimetres."""
    total = round(abs(angle) * 3600 * 10_000)
    minutes, seconds = divmod(total, 60 * 10_000)
    return [(minutes // 60, 1), (minutes % 60, 1), (seconds, 10_000)]
