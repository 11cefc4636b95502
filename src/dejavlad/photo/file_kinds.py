"""What a file is that was taken for a text: told by its first bytes, and what to do with it instead."""

from __future__ import annotations

import codecs
from typing import Final

HEAD: Final = 512
"""Bytes that are enough to tell."""

_PHOTO = "a list is a text file with one path a line: give the photo itself, or the folder that it is in"
_STARTS: Final[tuple[tuple[bytes, str, str], ...]] = (
    (b"\x1f\x8b", "an archive packed by gzip", "unpack it, and give the folder"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it, and give the folder"),
    (b"Rar!", "a RAR archive", "unpack it, and give the folder"),
    (b"BZh", "a file packed by bzip2", "unpack it, and give the folder"),
    (b"\xfd7zXZ\0", "a file packed by xz", "unpack it, and give the folder"),
    (b"\x28\xb5\x2f\xfd", "a file packed by zstd", "unpack it, and give the folder"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", "write what it holds as text, or name a `.mat` file .mat"),
    (b"MATLAB 5.0", "a MATLAB file", "name it .mat, if it is a dataset's spec"),
    (b"MATLAB 7.3", "a MATLAB file", "name it .mat, if it is a dataset's spec"),
    (b"\x93NUMPY", "an array of NumPy", "name it .npy, if it holds descriptors or a ranking"),
    (b"SQLite format 3\0", "an SQLite database (as COLMAP's)", "export the names of its images as text"),
    (b"%PDF", "a PDF document", "save its table as text (CSV, UTF-8)"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document", "save it as text (CSV, UTF-8)"),
    (b"\xff\xd8\xff", "a JPEG photo", _PHOTO),
    (b"\x89PNG\r\n\x1a\n", "a PNG picture", _PHOTO),
    (b"GIF8", "a GIF picture", _PHOTO),
    (b"II*\0", "a TIFF picture", _PHOTO),
    (b"MM\0*", "a TIFF picture", _PHOTO),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture", _PHOTO),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture", _PHOTO),
    (b"OggS", "a video or sound", "name it by what it is, as .mp4"),
    (b"\x1aE\xdf\xa3", "a Matroska video", "name it .mkv or .webm"),
    (b"\x7fELF", "a program", "give a text file"),
    (b"\x80\x02", "a pickle of Python", "write what it holds as text"),
    (b"\x80\x03", "a pickle of Python", "write what it holds as text"),
    (b"\x80\x04", "a pickle of Python", "write what it holds as text"),
    (b"\x80\x05", "a pickle of Python", "write what it holds as text"),
)
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def binary_kind(head: bytes) -> tuple[str, str] | None:
    """What a file is, and what to do with it; None where its first bytes tell nothing.

    Args:
        head: its first `HEAD` bytes.
    """
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        if b"[Content_Types].xml" in head or b"mimetype" in head[:64]:
            return "an Office document (.xlsx, .docx or .ods)", "save it as text (CSV, UTF-8)"
        if b".npy" in head[:128]:
            return "arrays of NumPy", "name it .npz, if it is a truth file or a ranking"
        return "a zip archive", "unpack it, and give the folder"
    if head[4:8] == b"ftyp":
        if head[8:12] in _HEIF:
            return "a HEIC photo", _PHOTO
        if head[8:12] in (b"avif", b"avis"):
            return "an AVIF picture", _PHOTO
        return "a video (.mp4 or .mov)", "name it .mp4"
    if head[:4] == b"RIFF":
        return ("a WebP picture", _PHOTO) if head[8:12] == b"WEBP" else ("a video (.avi)", "name it .avi")
    if head[257:262] == b"ustar":
        return "a tar archive", "unpack it, and give the folder"
    for start, what, do in _STARTS:
        if head.startswith(start):
            return what, do
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)) or _every_other_zero(head):
        return "a text in UTF-16 or UTF-32 without its mark", "save it as UTF-8"
    return None


def _every_other_zero(head: bytes) -> bool:
    pairs = head[: len(head) // 2 * 2]
    if len(pairs) < 8:
        return False
    zeros = [side.count(0) * 4 >= len(side) * 3 for side in (pairs[::2], pairs[1::2])]
    return zeros[0] != zeros[1]
