"""What files beside a photo tell: XMP, as photo managers write it, and the JSON files of Google Takeout.

==================================================  ======================================================
``IMG_1.jpg.xmp``, ``IMG_1.xmp``                    XMP
``IMG_1.jpg.json``                                  Takeout until 2024
``IMG_1.jpg.supplemental-metadata.json``            Takeout since; cut to 46 characters before ``.json``
``IMG_1.jpg(1).json``, ``IMG_1.jpg.supp...(1)...``  of ``IMG_1(1).jpg``
``IMG_1.jpg.json``                                  also of ``IMG_1-edited.jpg``, where it has none of its own
==================================================  ======================================================

Whatever cannot be read counts as not told.
"""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

from dejavlad.errors import MalformedFileError
from dejavlad.guarded.json_file import parse_json_object
from dejavlad.guarded.plain_file import read_bytes
from dejavlad.positions.coordinates import parse_degrees
from dejavlad.positions.facts import Facts, finite_number, position_of
from dejavlad.positions.moments import parse_moment

MOST_BYTES: Final = 16 << 20
"""Larger files are no sidecars."""
LONGEST: Final = 46
"""Characters of a file's name that Takeout keeps before ``.json``."""
_SUPPLEMENT: Final = ".supplemental-metadata"
_NUMBERED = re.compile(r"(.+)(\(\d+\))(\.[^.]*)?", re.DOTALL)
_EDITED: Final = ("-edited", "-bearbeitet", "-modifié", "-editado", "-modificato", "-bewerkt", "-edytowane")
_EXIF: Final = "http://ns.adobe.com/exif/1.0/"
_PHOTOSHOP: Final = "http://ns.adobe.com/photoshop/1.0/"
_XMP_AXIS = re.compile(r"(\d+),([\d.]+)(?:,([\d.]+))?([NSEW])", re.ASCII | re.IGNORECASE)


class Sidecars:
    """The sidecars of photos; each folder is listed once."""

    def __init__(self) -> None:
        self._files: dict[Path, dict[str, str]] = {}
        self._takeout: dict[Path, dict[str, list[str]]] = {}

    def xmp(self, photo: Path) -> Facts | None:
        """What an XMP file beside a photo tells; None where there is none."""
        files = self._listed(photo.parent)
        for name in (f"{photo.name}.xmp", f"{photo.stem}.xmp"):
            if (file := files.get(name.lower())) is not None:
                return parse_xmp(_bytes(photo.parent / file))
        return None

    def takeout(self, photo: Path) -> Facts | None:
        """What a JSON file of Google Takeout beside a photo tells; None where there is none."""
        self._listed(photo.parent)
        candidates = self._takeout[photo.parent]
        if not candidates:
            return None
        for name, number in _takeout_names(photo.name):
            cut = len(name) > LONGEST
            numbers = (number, *(f"({i})" for i in range(1, 10))) if cut else (number,)
            for file in (
                file for n in numbers for file in candidates.get(f"{name[:LONGEST]}{n}".lower(), [])
            ):
                content = _json(_bytes(photo.parent / file))
                if content is not None and (not cut or _titled(content, name)):
                    return _of_takeout(content)
        return None

    def _listed(self, folder: Path) -> dict[str, str]:
        """Lower case -> name of the files in a folder; those of Takeout by the photo that they are of."""
        if folder not in self._files:
            try:
                names = sorted(entry.name for entry in os.scandir(folder))
            except OSError:
                names = []
            self._files[folder] = {name.lower(): name for name in names if name.lower().endswith(".xmp")}
            of_photo: dict[str, list[str]] = {}
            for name in names:
                if name.lower().endswith(".json"):
                    for key in _photos_of(name[: -len(".json")]):
                        of_photo.setdefault(key.lower(), []).append(name)
            self._takeout[folder] = of_photo
        return self._files[folder]


def parse_xmp(packet: bytes) -> Facts:
    """What an XMP packet tells; nothing where it cannot be read."""
    if not packet or re.search(rb"<!(?:DOCTYPE|ENTITY)", packet, re.IGNORECASE):
        return Facts()
    try:
        root = ElementTree.fromstring(packet.rstrip(b"\0 "))
    except (ElementTree.ParseError, ValueError, LookupError, RecursionError):
        return Facts()
    fields: dict[str, str] = {}
    for element in root.iter():
        for tag, text in ((str(element.tag), element.text), *element.items()):
            space, _, name = tag.lstrip("{").rpartition("}")
            if space in (_EXIF, _PHOTOSHOP) and text and text.strip():
                fields.setdefault(name, text.strip())
    position, zero = position_of(_xmp_axis(fields, "Latitude", "lat"), _xmp_axis(fields, "Longitude", "lon"))
    moment = next(
        (at for name in ("DateTimeOriginal", "DateCreated") if (at := parse_moment(fields.get(name, "")))),
        None,
    )
    dated = moment is not None and moment.dated
    return Facts(
        position=position,
        heading=_rational(fields.get("GPSImgDirection", "")),
        time=moment.time if moment is not None and dated else None,
        zoned=moment.zoned if moment is not None and dated else True,
        zero=zero,
    )


def _xmp_axis(fields: dict[str, str], name: str, axis: str) -> float | None:
    """Degrees as ``55,41.8966N`` or ``55,41,53N``; decimal ones too, which some programs write."""
    text = fields.get(f"GPS{name}", "")
    if match := _XMP_AXIS.fullmatch(text):
        text = " ".join(part for part in match.groups() if part)
    try:
        return parse_degrees(text, axis, side=fields.get(f"GPS{name}Ref", ""))
    except ValueError:
        return None


def _rational(text: str) -> float | None:
    above, slash, below = text.partition("/")
    try:
        value = float(above) / (float(below) if slash else 1.0)
    except (ValueError, ZeroDivisionError):
        return None
    return value % 360 if 0 <= value <= 360 else None


def _takeout_names(photo: str) -> Iterator[tuple[str, str]]:
    """The names under which Takeout may tell of a photo, and the number that it writes after them."""
    yield photo, ""
    stem, dot, ending = photo.rpartition(".")
    if match := _NUMBERED.fullmatch(stem):
        yield f"{match[1]}{dot}{ending}", match[2]
    for word in _EDITED:
        if stem.endswith(word):
            yield from _takeout_names(f"{stem.removesuffix(word)}{dot}{ending}")


def _photos_of(name: str) -> Iterator[str]:
    """The names, cut as Takeout cuts them, of the photos of which a JSON file may tell, and its number."""
    number = ""
    if match := re.fullmatch(r"(.+)(\(\d+\))", name, re.DOTALL):
        name, number = match[1], match[2]
    yield name + number
    for length in range(len(_SUPPLEMENT), 0, -1):
        if name.endswith(_SUPPLEMENT[:length]):
            yield name[: len(name) - length] + number
            break


def _titled(content: dict[str, Any], photo: str) -> bool:
    """Whether a JSON file is of this photo, by its title, where the file's own name is cut."""
    title = content.get("title")
    return not isinstance(title, str) or title.lower().startswith(photo.rpartition(".")[0].lower())


def _of_takeout(content: dict[str, Any]) -> Facts:
    """What a JSON file tells; Takeout writes 0,0 for every photo without a position."""
    position = None
    for name in ("geoData", "geoDataExif"):
        place = content.get(name)
        if isinstance(place, dict) and position is None:
            position, _ = position_of(_number(place.get("latitude")), _number(place.get("longitude")))
    taken = content.get("photoTakenTime")
    time = _number(taken.get("timestamp")) if isinstance(taken, dict) else None
    return Facts(position=position, time=time)


def _number(value: Any) -> float | None:
    number = None if isinstance(value, bool) else finite_number(value)
    return number if number is not None and abs(number) < 1e15 else None


def _json(data: bytes) -> dict[str, Any] | None:
    try:
        return parse_json_object(data.removeprefix(codecs.BOM_UTF8))
    except MalformedFileError:
        return None


def _bytes(path: Path) -> bytes:
    """A file's bytes; none where it is too large, no file, or cannot be read."""
    try:
        return read_bytes(path, MOST_BYTES)
    except (OSError, MalformedFileError):
        return b""
