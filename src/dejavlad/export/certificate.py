"""What proves that a file of ONNX answers as the model that it was made of.

The certificate lies beside the file (``FILE.onnx.json``) and, as it was when the file was made, at the very
end of the file as metadata: the last field of a protobuf file may be added by writing on. It tells the
SHA-256 of the bytes before it, so neither another file nor another certificate passes.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from dejavlad.errors import CheckpointError, MalformedFileError
from dejavlad.export.cost import RecallCost
from dejavlad.export.onnx_file import data_file
from dejavlad.files import sha256_of, write_whole
from dejavlad.guarded.fields import DAMAGED, checked_fields
from dejavlad.guarded.json_file import parse_json_object, read_json_object, with_checksum, without_checksum
from dejavlad.guarded.plain_file import check_regular, open_regular, plain_name
from dejavlad.images import Preprocess

FORMAT = 1
KEY = b"dejavlad.certificate"
_LOCATION = re.compile(rb"\n(?:\x08|\x88\x80*\x00)location.?", re.DOTALL)
"""The key under which a tensor names the file that its values lie in (``TensorProto.external_data``)."""
TAIL = 16 << 20
"""Bytes of a file's end that are searched for its certificate."""
LEAST_COSINE: Mapping[str, float] = {"fp32": 0.99999, "bf16": 0.999, "int8": 0.9}
"""Precision -> the least cosine between a photo's two descriptors with which they count as the same; with
that of int8 they count as usable, but never as the same."""


@dataclass(frozen=True, slots=True)
class Answers:
    """A runtime's answers beside dejavlad's own, number by number."""

    runtime: str
    """One of `dejavlad.export.runtimes.ENGINES`."""
    version: str
    """Of that program."""
    precision: str
    """In which it computed."""
    photos: int
    """That were compared."""
    sizes: tuple[tuple[int, int], ...]
    """(height, width) of the prepared photos that were tried."""
    batches: tuple[int, ...]
    """Numbers of photos that were tried together."""
    cosine_min: float
    """The least cosine between the two descriptors of a photo, over patches too."""
    cosine_mean: float
    """Their mean."""
    difference: float
    """The greatest difference of two numbers of descriptors."""
    same_first: float
    """Share of the photos whose most similar other photo is the same one."""
    same_order: float
    """Share of all pairs of other photos that both rank in the same order."""
    ok: bool
    """Whether `cosine_min` is at least that of `LEAST_COSINE`."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a file of ONNX is, what it was made of, and how near its answers are."""

    name: str
    """The model's."""
    fingerprint: str
    """Of the model, for `patches` too."""
    patch_fingerprint: str
    """Of the model with its whitening of patches; the same where they have none of their own."""
    dims: int
    """D, numbers in a descriptor."""
    preprocess: dict[str, Any]
    """How photos are prepared, as `Preprocess.to_dict` tells it."""
    with_preprocess: bool
    """Whether it takes bytes [N, H, W, 3]."""
    precision: str
    """``fp32``, or ``int8`` for a quantised file."""
    size: tuple[int, int] | None
    """The only (height, width) that it takes; None where it takes any."""
    patches: dict[str, Any] | None
    """``sizes``, ``strides`` and ``dims`` of its patches."""
    stride: int
    """Pixels from one cell of the feature map to the next; 0 where the backbone does not tell."""
    offset: float
    """Centre of its first cell, in pixels."""
    alone: bool
    """Whether a descriptor is of its photo alone."""
    opset: int
    """Of ONNX."""
    ir_version: int
    """Of ONNX."""
    made_with: dict[str, str]
    """Versions of dejavlad, torch and onnx."""
    network_bytes: int
    """Bytes of the file before the certificate in it."""
    network_sha256: str
    """Of these."""
    data_sha256: str | None = None
    """Of the weights' own file, of a large network."""
    calibrated: dict[str, Any] | None = None
    """On how many photos int8 was calibrated, by what, and how many first convolutions are not quantised."""
    recall: RecallCost | None = None
    """What int8 costs in recall, where it was measured; in the file beside, not in the one within."""
    answers: tuple[Answers, ...] = field(default=())
    """By runtime and precision."""

    def of(self, runtime: str, precision: str) -> Answers | None:
        """What was compared with that runtime in that precision."""
        fitting = [
            entry for entry in self.answers if (entry.runtime, entry.precision) == (runtime, precision)
        ]
        return fitting[-1] if fitting else None

    def with_answers(self, answers: Answers) -> Certificate:
        """The certificate with these instead of older ones of the same runtime and precision."""
        kept = [
            entry
            for entry in self.answers
            if (entry.runtime, entry.precision) != (answers.runtime, answers.precision)
        ]
        return replace(self, answers=(*kept, answers))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Certificate:
        """What `to_dict` made.

        Raises:
            CheckpointError: it is no certificate, or one of another format.
        """
        given = dict(fields)
        if given.pop("format", None) != FORMAT:
            raise CheckpointError(f"it is no certificate of format {FORMAT}")
        try:
            Preprocess.from_dict(given["preprocess"])
            answers = [
                Answers(
                    **{
                        **entry,
                        "sizes": tuple(tuple(map(int, size)) for size in entry["sizes"]),
                        "batches": tuple(map(int, entry["batches"])),
                    }
                )
                for entry in given.pop("answers")
            ]
            size = given.pop("size")
            recall = given.pop("recall", None)
            made = cls(
                **given,
                recall=None if recall is None else RecallCost.from_dict(recall),
                size=None if size is None else (int(size[0]), int(size[1])),
                answers=tuple(map(checked_fields, answers)),
            )
            if not 1 <= made.dims <= 1 << 24:
                raise ValueError(f"descriptors of {made.dims} numbers cannot be")
            if made.precision not in LEAST_COSINE:
                raise ValueError(f"precision {made.precision!r} is unknown")
            return checked_fields(made)
        except DAMAGED as error:
            raise CheckpointError(f"it is no certificate: {error}") from None


def certificate_file(path: Path) -> Path:
    """Where the certificate of a file lies."""
    return path.with_name(path.name + ".json")


def embed(path: Path, certificate: Certificate) -> None:
    """Write a certificate at the end of its file, which has none yet, and beside it."""
    text = json.dumps(with_checksum(certificate.to_dict())).encode()
    with open(path, "ab") as file:
        file.write(_metadata(KEY, text))
    write_certificate(path, certificate)


def write_certificate(path: Path, certificate: Certificate) -> None:
    """Write a certificate beside its file."""
    text = json.dumps(with_checksum(certificate.to_dict()), indent=1) + "\n"
    write_whole(certificate_file(path), text)


def read_certificate(path: Path) -> Certificate:
    """The certificate of a file, which it fits to the byte: the one beside it, else the one within.

    Raises:
        CheckpointError: there is none, it is damaged, or it is not of this file.
    """
    advice = "make it again: dejavlad export MODEL --out FILE.onnx"
    beside = certificate_file(path)
    try:
        check_regular(path)
        embedded = _embedded(path)
        if beside.exists():
            fields = read_json_object(beside)
        elif embedded is not None:
            fields = parse_json_object(embedded)
        else:
            raise CheckpointError(
                f"{str(path)!r} has no certificate ({beside.name}), so nothing proves its answers; {advice}"
            )
        certificate = Certificate.from_dict(without_checksum(fields))
        if certificate.network_sha256 != _sha256_of_first(path, certificate.network_bytes):
            raise CheckpointError("it is of another file, or the file was changed since")
        data = weights_beside(path)
        if certificate.data_sha256 is None:
            if data is not None:
                raise CheckpointError(
                    f"it takes weights from another file ({data.name}), of which it says nothing"
                )
        elif data is None or not data.is_file() or sha256_of(data) != certificate.data_sha256:
            name = data_file(path).name if data is None else data.name
            raise CheckpointError(f"the weights beside it ({name}) are missing or were changed")
        return certificate
    except CheckpointError as error:
        if str(error).startswith(repr(str(path))):
            raise
        raise CheckpointError(f"the certificate of {str(path)!r} does not fit: {error}; {advice}") from None
    except DAMAGED as error:
        raise CheckpointError(f"the certificate of {str(path)!r} cannot be read: {error}; {advice}") from None


def network_sha256(path: Path) -> str:
    """SHA-256 of a file without the certificate at its end."""
    embedded = _embedded(path)
    length = 0 if embedded is None else len(_metadata(KEY, embedded))
    return _sha256_of_first(path, path.stat().st_size - length)


def weights_beside(path: Path) -> Path | None:
    """The file from which a network of ONNX takes weights; None where it holds all of them itself.

    A network may name any file of the machine there, whose bytes would then be its weights.

    Raises:
        MalformedFileError: it names one that does not lie beside it, or several.
        OSError: it cannot be read.
    """
    names: set[bytes] = set()
    with open_regular(path) as file:
        if not file.seek(0, 2):
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for entry in _LOCATION.finditer(content):
                length = content[entry.end()] if entry.end() < len(content) else 0
                plain = entry[0] == b"\n\x08location\x12" and length < 128
                names.add(content[entry.end() + 1 : entry.end() + 1 + length] if plain else b"")
    if not names:
        return None
    if len(names) > 1:
        raise MalformedFileError(f"it takes weights from {len(names)} files")
    return path.with_name(plain_name(names.pop().decode("utf-8", "replace")))


def _sha256_of_first(path: Path, count: int) -> str:
    """SHA-256 of a file's first bytes; nothing but a certificate may follow them."""
    digest, left = hashlib.sha256(), count
    with open_regular(path) as file:
        while left > 0 and (part := file.read(min(left, 1 << 20))):
            digest.update(part)
            left -= len(part)
        tail = file.read(TAIL)
    if tail and _text_of(tail) is None:
        return "there are further bytes"
    return digest.hexdigest()


def _metadata(key: bytes, text: bytes) -> bytes:
    """An entry of ``ModelProto.metadata_props`` (field 14), as protobuf writes it."""
    entry = b"\x0a" + _varint(len(key)) + key + b"\x12" + _varint(len(text)) + text
    return b"\x72" + _varint(len(entry)) + entry


def _embedded(path: Path) -> bytes | None:
    """The certificate at a file's end."""
    with open_regular(path) as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - TAIL))
        tail = file.read()
    at = tail.rfind(KEY)
    for before in range(3, 16):  # two tags and two lengths of at most 5 bytes each
        if at >= before and (text := _text_of(tail[at - before :])) is not None:
            return text
    return None


def _text_of(entry: bytes) -> bytes | None:
    """The text of an entry of metadata that `_metadata` wrote; None where these bytes are another thing."""
    at = entry.find(KEY) + len(KEY)
    length, shift, end = 0, 0, at + 1
    for end in range(at + 1, min(at + 11, len(entry))):
        length |= (entry[end] & 0x7F) << shift
        shift += 7
        if not entry[end] & 0x80:
            break
    text = entry[end + 1 :]
    return text if len(text) == length and _metadata(KEY, text) == entry else None


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*made, value])
