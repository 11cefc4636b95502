"""Each small format: what is whole is read, what is hostile is one error, at once and in little memory."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import sys
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from dejavlad.backbones.pickles import check_pickles
from dejavlad.datasets.layouts.plain_pickle import (
    read_object_npy,
    read_pickle,
)
from dejavlad.errors import CheckpointError, InputError, MalformedFileError, StoreError
from dejavlad.ground_truth.truth_npz import read_truth_npz
from dejavlad.guarded.fields import fits
from dejavlad.guarded.json_file import parse_json, read_json_object, with_checksum, without_checksum
from dejavlad.guarded.nesting import DEEPEST
from dejavlad.guarded.npy_file import map_npy, read_npy
from dejavlad.guarded.plain_file import BoundedReader, open_regular, plain_name, read_bytes, read_utf8
from dejavlad.guarded.toml_file import MOST_PARTS, parse_toml, read_toml
from dejavlad.guarded.zip_archive import open_zip, read_npz
from dejavlad.ranking import Ranking

MOST_BYTES, MOST_SECONDS = 200 << 20, 2.0
pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")


@pytest.fixture(autouse=True)
def little_and_at_once():
    tracemalloc.start()
    began = time.process_time()
    yield
    used = time.process_time() - began
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MOST_BYTES and used < MOST_SECONDS


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "[" * 65 + "]" * 65, '{"a":' * 65 + "1" + "}" * 65]
)
def test_json_is_not_too_deep(text: str) -> None:
    with pytest.raises(MalformedFileError, match="nested more than 64 deep"):
        parse_json(text)


def test_json_as_deep_as_may_be() -> None:
    assert parse_json("[" * DEEPEST + "]" * DEEPEST) == json.loads("[" * DEEPEST + "]" * DEEPEST)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"nul", b"\xff\xfe", b"9" * 5000, b'{"a": 1} x', b"[1]", b"null", b'"a"', b"1"]
)
def test_no_object(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(MalformedFileError):
        read_json_object(tmp_path / "a.json")


def test_files_have_a_size(tmp_path: Path) -> None:
    with open(tmp_path / "hole.json", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(MalformedFileError, match=r"1099511627776 bytes; at most 67108864"):
        read_json_object(tmp_path / "hole.json")
    with pytest.raises(MalformedFileError, match="at most"):
        read_toml(tmp_path / "hole.json")


def test_checksums() -> None:
    value = {"a": [1, 2.5, None], "b": {"c": "ä"}}
    sealed = with_checksum(value)
    assert without_checksum(json.loads(json.dumps(sealed))) == value == without_checksum(value)
    for changed in ({**sealed, "a": [1, 2.25, None]}, {**sealed, "d": 1}, {**sealed, "checksum": "0"}):
        with pytest.raises(MalformedFileError, match="was changed since"):
            without_checksum(changed)


@pytest.mark.parametrize(
    "text",
    [
        "a." * 60_000 + "a = 1",
        "x = 1\n['" + "'.'".join("a" * 40_000) + "']",
        "x = {" + " . ".join("a" * 60_000) + " = 1}",
        "x = " + "[" * 100_000,
        "x = " + "{a=" * 60_000,
        "x = " + "9" * 5000,
        "x" * (1 << 21),
        "a" * 60_000 + " = 1\n=",
        "x = '''",
    ],
)
def test_hostile_toml(text: str) -> None:
    with pytest.raises(MalformedFileError):
        parse_toml(text)


def test_long_lists_of_numbers_are_no_keys() -> None:
    numbers = [i / 7 for i in range(500)]
    assert parse_toml(f"x = {numbers}")["x"] == numbers
    key = ".".join("a" * MOST_PARTS)
    assert parse_toml(f"{key} = 'one.two.three'")


HEADERS = {
    "many": "{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,)}",
    "more": "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4611686018427387904)}",
    "negative": "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4)}",
    "empty and wide": "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 1099511627776)}",
    "objects": "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
    "nothing": "{'descr': '|V0', 'fortran_order': False, 'shape': (1099511627776,)}",
    "deep": "{'descr': " + "(" * 5000 + "'<f4'" + ")" * 5000 + ", 'fortran_order': False, 'shape': (1,)}",
    "cut off": "{'descr': '<f4', 'fortran_order': False, 'shape': (",
    "text": "{'descr': '<f4', 'fortran_order': False, 'shape': ('a',)}",
    "truth": "{'descr': '<f4', 'fortran_order': False, 'shape': (True,)}",
    "token": "{'descr': '''<f4, 'fortran_order': False, 'shape': (4,)}",
    "no dict": "3",
    "strange type": "{'descr': '<f4,(2,2)<f8', 'fortran_order': False, 'shape': (1,)}",
}


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("version", [1, 2, 3])
def test_hostile_npy(name: str, version: int, tmp_path: Path) -> None:
    header = HEADERS[name].encode()
    size = struct.pack("<H" if version == 1 else "<I", len(header))
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY" + bytes([version, 0]) + size + header + bytes(16))
    for read in (read_npy, map_npy):
        with pytest.raises(MalformedFileError):
            read(path)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.write(path, "a.npy")
    with pytest.raises(MalformedFileError, match=r"a\.npy: "):
        read_npz(tmp_path / "a.npz")


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.zeros((0, 5), np.float16),
        np.array(7, ">i4"),
        np.arange(6).reshape(2, 3).T,
    ],
)
def test_whole_arrays(array: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", a=array)
    for same in (
        read_npy(tmp_path / "a.npy"),
        map_npy(tmp_path / "a.npy"),
        read_npz(tmp_path / "a.npz")["a"],
    ):
        assert same.dtype == array.dtype and same.shape == array.shape
        np.testing.assert_array_equal(same, array)
    content = (tmp_path / "a.npy").read_bytes()
    for other in (content + b"\0", content[:-1], content[:40], b""):
        (tmp_path / "a.npy").write_bytes(other)
        for read in (read_npy, map_npy):
            with pytest.raises(MalformedFileError):
                read(tmp_path / "a.npy")


def bomb(path: Path, times: int = 3) -> Path:
    """200 MB of zeros in each of some members."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (50_000_000,)}
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in ("indices", "distances", "utmDb", "utmQ", "posDistThr")[:times]:
            with archive.open(f"{name}.npy", "w") as member:
                member.write(header.getvalue())
                for _ in range(200):
                    member.write(bytes(1_000_000))
    return path


@pytest.mark.slow
def test_bombs_are_refused_by_what_they_say(tmp_path: Path) -> None:
    path = bomb(tmp_path / "bomb.npz")
    assert path.stat().st_size < 4 << 20
    for read, error in ((Ranking.load, StoreError), (read_truth_npz, InputError)):
        with pytest.raises(error, match="says that it unpacks to 600000"):
            read(path)


def test_archives(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("a", bytes(100))
        with pytest.raises(MalformedFileError, match="unusual"), open_zip(path):
            pass
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"content")
    with open_zip(path) as archive:
        assert archive.stored and archive.unpacked == 7 and archive.read("a") == b"content"
        with pytest.raises(MalformedFileError, match="holds no 'b'"):
            archive.read("b")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"content", b"c0ntent"))
    with open_zip(path) as archive, pytest.raises(MalformedFileError, match="CRC"):
        archive.read("a")
    for cut in range(0, len(content), 7):
        path.write_bytes(content[:cut])
        with pytest.raises(MalformedFileError), open_zip(path):
            pass


@pytest.mark.parametrize(
    "claim",
    [
        b"\x8e" + struct.pack("<Q", 2**62),
        b"\x8d" + struct.pack("<Q", 2**62),
        b"B" + struct.pack("<I", 2**32 - 1),
        b"\x8b" + struct.pack("<i", 2**31 - 1),
        b"\x95" + struct.pack("<Q", 2**62),
        b"\x96" + struct.pack("<Q", 2**62),
        b"r\xff\xff\xff\x7f",
        b"T\xff\xff\xff\x7f",
    ],
)
def test_pickles_that_claim(claim: bytes, tmp_path: Path) -> None:
    content = b"\x80\x04N" + claim + b"abc."
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(InputError):
        read_pickle(tmp_path / "a.pkl")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    (tmp_path / "a.npy").write_bytes(header.getvalue() + content)
    with pytest.raises(InputError):
        read_object_npy(tmp_path / "a.npy")
    with pytest.raises(ValueError):
        check_pickles(tmp_path / "a.pkl")


def test_bounded_readers(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one\ntwo\nthree")
    with open(tmp_path / "a", "rb") as file:
        stream = BoundedReader(file, 10)
        assert (stream.readline(), stream.read(2), stream.tell()) == (b"one\n", b"tw", 6)
        assert stream.read(sys.maxsize) == b"o\nth" and stream.read(5) == stream.readline() == b""


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../a", "a/b", "a\\b", "C:a", "/etc/passwd", "a\0b", None, 3]
)
def test_names_that_lead_elsewhere(name: object) -> None:
    with pytest.raises(MalformedFileError, match="does not lie beside it"):
        plain_name(name)
    assert plain_name("rows-1.npy") == "rows-1.npy"


@pipes
def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for read in (
        open_regular,
        read_bytes,
        read_utf8,
        read_json_object,
        read_toml,
        read_npy,
        map_npy,
        read_npz,
    ):
        with pytest.raises(MalformedFileError, match="not a regular file"):
            read(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("value", "kind", "good"),
    [
        (3, int, True),
        (True, int, False),
        (2**63, int, False),
        (3.0, int, False),
        (3, float, True),
        (float("inf"), float, False),
        (10**400, float, False),
        (None, str | None, True),
        ([1, 2], tuple[int, ...], True),
        ([1, "2"], tuple[int, ...], False),
        ([1, 2, 3], tuple[int, int], False),
        ({"a": "b"}, dict[str, str], True),
        ({"a": 1}, dict[str, str], False),
        ([[1], []], list[list[int]], True),
    ],
)
def test_what_fits(value: object, kind: object, good: bool) -> None:
    assert fits(value, kind) == good


# HDF5


h5py = pytest.importorskip("h5py")


def read_v73(path: Path) -> object:
    from dejavlad.matlab.mat_file import read_mat

    return read_mat(path)


def v73(path: Path) -> h5py.File:
    """A file as MATLAB writes it, open for more."""
    file = h5py.File(path, "w", userblock_size=512)
    array = file.create_dataset("a", data=np.ones((2, 2)))
    array.attrs["MATLAB_class"] = np.bytes_("double")
    return file


def close_v73(file: h5py.File, path: Path) -> None:
    file.close()
    with open(path, "r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")


def outside(kind: str, file: h5py.File, secret: Path) -> None:
    if kind == "external link":
        file["b"] = h5py.ExternalLink(str(secret), "/secret")
    elif kind == "external link in a group":
        file.create_group("g").attrs["MATLAB_class"] = np.bytes_("struct")
        file["g/b"] = h5py.ExternalLink(str(secret), "/secret")
    elif kind == "soft link":
        file["b"] = h5py.SoftLink("/a")
    elif kind == "soft link through an external one":
        file["#out"] = h5py.ExternalLink(str(secret), "/")
        file["b"] = h5py.SoftLink("/#out/secret")
    elif kind == "raw values":
        data = file.create_dataset("b", (8,), "u1", external=[(str(secret), 0, 8)])
        data.attrs["MATLAB_class"] = np.bytes_("uint8")
    else:
        layout = h5py.VirtualLayout((4,), "f8")
        layout[:] = h5py.VirtualSource(str(secret), "secret", (4,))
        file.create_virtual_dataset("b", layout).attrs["MATLAB_class"] = np.bytes_("double")


OUTSIDE = [
    "external link",
    "external link in a group",
    "soft link",
    "soft link through an external one",
    "raw values",
    "virtual",
]


@pytest.mark.parametrize("kind", OUTSIDE)
@pytest.mark.parametrize("pipe", [False, pytest.param(True, marks=pipes)])
def test_hdf5_stays_in_its_file(kind: str, pipe: bool, tmp_path: Path) -> None:
    secret = tmp_path / "secret.h5"
    if pipe:
        os.mkfifo(secret)
    else:
        with h5py.File(secret, "w") as file:
            file["secret"] = np.arange(4.0)
    path = tmp_path / "a.mat"
    file = v73(path)
    outside(kind, file, secret)
    close_v73(file, path)
    with pytest.raises(CheckpointError, match=r"another file|is a link"):
        read_v73(path)


def test_hdf5_that_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    close_v73(v73(path), path)
    np.testing.assert_array_equal(read_v73(path)["a"], np.ones((2, 2)))


@pytest.mark.parametrize("kind", OUTSIDE)
def test_keras_stays_in_its_file(kind: str, tmp_path: Path) -> None:
    from dejavlad.convert.keras import _read_h5

    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["secret"] = np.arange(4.0)
    with h5py.File(tmp_path / "net.h5", "w") as file:
        file["layer/kernel:0"] = np.ones((2, 2), np.float32)
        outside(kind, file, tmp_path / "secret.h5")
    with pytest.raises((CheckpointError, MalformedFileError), match=r"another file|is a link|no weights"):
        _read_h5(tmp_path / "net.h5")


@pipes
@pytest.mark.parametrize("name", ["net.h5", "net.mat", "net.pth", "net.json", "net.safetensors", "net.npz"])
def test_nothing_waits_for_a_pipe(name: str, tmp_path: Path) -> None:
    from dejavlad.backbones.weights import read_weights
    from dejavlad.convert import import_model
    from dejavlad.convert.keras import read as read_keras

    os.mkfifo(tmp_path / name)
    for read in (import_model, read_weights, read_v73, read_keras):
        with pytest.raises(CheckpointError):
            read(tmp_path / name)


def test_nothing_of_a_pickle_is_executed(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "executed"),)

    (tmp_path / "a.pkl").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InputError, match="mkdir"):
        read_pickle(tmp_path / "a.pkl")
    assert not (tmp_path / "executed").exists()
