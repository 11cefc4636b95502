""".mat files of both versions become the same plain values; class objects too."""

import struct
import zlib

import numpy as np
import pytest
from make_class_objects import CASES, GOLDEN, made
from matlab import ours, run, write_v5, write_v73

from dejavlad.convert import import_model
from dejavlad.errors import CheckpointError
from dejavlad.matlab import mat5
from dejavlad.matlab.mat_file import read_mat
from dejavlad.matlab.mat_objects import MARK, Objects

RANDOM = np.random.default_rng(3)
VARIABLES = {
    "single": RANDOM.normal(size=(2, 3, 4, 5)).astype(np.float32),
    "double": RANDOM.normal(size=(3, 1)),
    "bytes": RANDOM.integers(0, 256, (2, 7), dtype=np.uint8),
    "number": 25.0,
    "text": "conv5_3 é",
    "nested": {"a": [1.0, "two", [3.0, np.eye(2)]], "b": {"c": np.zeros((0, 0))}},
    "empty_cell": [],
}


def same(ours, theirs):
    if isinstance(theirs, dict):
        return set(ours) == set(theirs) and all(same(ours[key], theirs[key]) for key in theirs)
    if isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(theirs, np.ndarray):
        return ours.shape == theirs.shape and ours.dtype == theirs.dtype and np.array_equal(ours, theirs)
    return type(ours) is type(theirs) and ours == theirs


@pytest.mark.parametrize(
    "write",
    [write_v5, lambda path, variables: write_v5(path, variables, compress=True), write_v73],
    ids=["v5", "compressed", "v7.3"],
)
def test_both_versions_give_the_same_plain_values(tmp_path, write):
    variables = read_mat(write(tmp_path / "a.mat", VARIABLES))
    if isinstance(variables["empty_cell"], np.ndarray):
        assert variables["empty_cell"].size == 0
    assert {key for key in VARIABLES if not same(variables[key], VARIABLES[key])} <= {"empty_cell"}


def test_numbers_stored_small_have_the_type_that_matlab_gave_them(tmp_path):
    """MATLAB writes doubles that are whole as bytes."""

    def element(kind, content):
        return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)

    flags, dims = struct.pack("<II", 6, 0), struct.pack("<ii", 1, 3)
    parts = element(6, flags) + element(5, dims) + element(1, b"abc") + element(2, bytes([1, 25, 255]))
    header = b"MATLAB 5.0 MAT-file".ljust(116) + bytes(8) + b"\x00\x01IM"
    for content in (
        element(14, parts),
        struct.pack("<II", 15, len(z := zlib.compress(element(14, parts)))) + z,
    ):
        (tmp_path / "a.mat").write_bytes(header + content)
        array = read_mat(tmp_path / "a.mat")["abc"]
        assert array.dtype == np.float64 and array.tolist() == [[1.0, 25.0, 255.0]]


def test_struct_arrays_are_lists_of_dicts(tmp_path):
    rows = np.array([[(1.0, "x"), (2.0, "y")]], dtype=[("n", object), ("t", object)])
    values = read_mat(write_v5(tmp_path / "a.mat", {"s": rows}))["s"]
    assert values == [{"n": 1.0, "t": "x"}, {"n": 2.0, "t": "y"}]


@pytest.mark.parametrize(("method", "version"), CASES)
def test_networks_of_class_objects(method, version):
    """Written by mat-io: see make_class_objects."""
    model = import_model(GOLDEN / f"class_objects_{method}_{version.replace('.', '')}.mat")
    rgb = np.random.default_rng(1).integers(0, 256, (40, 52, 3), dtype=np.uint8)
    answer = run(made(method), rgb)
    np.testing.assert_allclose(model.encode(rgb)[0], answer["finalL2"].ravel(), atol=1e-5)
    bare = model.with_whitening(None).encode(rgb)[0]
    np.testing.assert_allclose(bare, ours(answer["postL2"], 5), atol=1e-5)


def table(order="<"):
    """Two objects of a class with defaults: 1 refers to 2, and 2 to 1 (handles may)."""
    names = b"".join(name + b"\0" for name in (b"Layer", b"next", b"size", b"kind", b"vlad"))
    names += bytes(-len(names) % 8)
    regions = [
        [0, 0, 0, 0, 0, 1, 0, 0],
        [0, 0, 1, 4, 0, 5, 0, 0],
        [*[0] * 6, 1, 0, 0, 0, 1, 0, 1, 0, 0, 1, 0, 0],
        [0, 0, 2, 2, 1, 0, 3, 2, 7, 0],
        [0, 0, 0, 0],
    ]
    regions[1] = [0, 0, 2, 2, 1, 1, 4, 0, 5, 0]
    at = 40 + len(names)
    offsets = [at]
    for region in regions:
        at += 4 * len(region)
        offsets.append(at)
    words = [4, 5, *offsets, at, at][:10]
    data = struct.pack(f"{order}10I", *words) + names
    data += b"".join(struct.pack(f"{order}{len(region)}I", *region) for region in regions)
    first, second = (np.array([[MARK], [2], [1], [1], [n], [1]], np.uint32) for n in (1, 2))
    defaults = [[], {"size": 3.0, "name": "default"}]
    return [np.frombuffer(data, np.uint8)[:, None], None, second, first, None, None, defaults], first


@pytest.mark.parametrize("order", "<>")
def test_defaults_names_and_objects_that_refer_to_each_other(order):
    cells, first = table(order)
    made = Objects(cells, order).resolve(first)
    assert (made["__class__"], made["size"], made["name"]) == ("Layer", 7.0, "default")
    assert made["next"]["kind"] == "vlad" and made["next"]["size"] == 3.0
    assert made["next"]["next"] is made


@pytest.mark.parametrize("word", range(60))
def test_damaged_tables_of_objects(word):
    cells, first = table()
    data = cells[0].copy()
    data[4 * word : 4 * word + 4] = 255
    try:
        Objects([data, *cells[1:]]).resolve(first)
    except CheckpointError as error:
        assert "MATLAB" in str(error) or "nested" in str(error)


@pytest.mark.slow
def test_what_is_too_much_for_the_file_is_refused_before_it_is_made(tmp_path):
    packed = zlib.compressobj(9)
    content = packed.compress(struct.pack("<II", 14, 400 << 20) + bytes(400 << 20)) + packed.flush()
    assert len(content) < 1 << 20
    header = b"MATLAB 5.0 MAT-file".ljust(116) + bytes(8) + b"\x00\x01IM"
    (tmp_path / "bomb.mat").write_bytes(header + struct.pack("<II", 15, len(content)) + content)
    with pytest.raises(CheckpointError, match="far more data"):
        read_mat(tmp_path / "bomb.mat")


def test_a_room_is_used_up():
    room = mat5.Room(nbytes=10, values=2)
    room.take(4)
    room.take(4)
    with pytest.raises(CheckpointError, match="far more data"):
        room.take(1)


def test_what_is_no_mat_file(tmp_path):
    (tmp_path / "old.mat").write_bytes(bytes(600))
    with pytest.raises(CheckpointError, match="save"):
        read_mat(tmp_path / "old.mat")
    with pytest.raises(CheckpointError, match="No such file"):
        read_mat(tmp_path / "none.mat")
