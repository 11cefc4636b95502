"""Pickles of plain values: as pickle reads them, and nothing is executed."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dejavlad.datasets.layouts.plain_pickle import (
    plain_value,
    read_object_npy,
    read_pickle,
)
from dejavlad.errors import InputError

DATA = Path(__file__).parents[3] / "shared" / "data"

leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary(max_size=300)
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner).map(tuple),
        st.dictionaries(st.one_of(st.text(), st.integers()), inner),
    ),
    max_leaves=25,
)


@pytest.mark.slow
@given(values, st.integers(0, 5))
def test_as_pickle_reads_them(value: Any, protocol: int) -> None:
    assert plain_value(io.BytesIO(pickle.dumps(value, protocol))) == value


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.int64).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array([1.5, 2], ">f4"),
        np.zeros((0, 3), np.uint8),
        np.array([True, False]),
        np.array(7),
    ],
)
def test_arrays(array: Any, protocol: int) -> None:
    again = plain_value(io.BytesIO(pickle.dumps([array, array, array.reshape(-1)[:1].tolist()], protocol)))
    assert again[0].dtype == array.dtype and np.array_equal(again[0], array) and again[1] is again[0]
    scalar = plain_value(io.BytesIO(pickle.dumps({"a": np.float64(0.1), "b": np.int32(-3)}, protocol)))
    assert scalar == {"a": 0.1, "b": -3}


def test_arrays_of_lists(tmp_path: Path) -> None:
    array = np.empty((3, 2), object)
    for i in range(3):
        array[i] = [i, [i, i + 1]]
    np.save(tmp_path / "t.npy", array, allow_pickle=True)
    again = read_object_npy(tmp_path / "t.npy")
    assert again.shape == (3, 2) and again.tolist() == array.tolist()
    np.save(tmp_path / "n.npy", np.arange(4))
    assert read_object_npy(tmp_path / "n.npy").tolist() == [0, 1, 2, 3]


class Evil:
    def __init__(self, *what: Any) -> None:
        self.what = what

    def __reduce__(self) -> Any:
        return self.what


def test_nothing_is_executed(tmp_path: Path) -> None:
    trace = tmp_path / "was here"
    path = tmp_path / "evil.pkl"
    for evil in (
        Evil(os.mkdir, (str(trace),)),
        Evil(eval, ("1",)),
        Evil(getattr, ("a", "b")),
        Evil(np.ndarray.fill, (1, 2)),
    ):
        path.write_bytes(pickle.dumps([evil], 2))
        with pytest.raises(InputError, match=r"it asks for .*, which is no plain value"):
            read_pickle(path)
    path.write_bytes(pickle.dumps(np.dtype("M8[s]"), 2))
    with pytest.raises(InputError, match="not of numbers or objects"):
        read_pickle(path)
    assert not trace.exists()
    np.save(tmp_path / "evil.npy", np.array([Evil(os.mkdir, (str(trace),))], object), allow_pickle=True)
    with pytest.raises(InputError, match=r"cannot be read as an array: it asks for .*mkdir"):
        read_object_npy(tmp_path / "evil.npy")
    assert not trace.exists()


@pytest.mark.parametrize(
    "steps",
    [
        b"",
        b"\x80\x02",
        b"\x80\x02.",
        b"\x80\x02]r\xff\xff\xff\xff.",  # remembered at four thousand million: no room is made for that
        b"\x80\x02" + b"]q\x00" + b"(h\x00h\x00t0" + b"Q.",
        b"\x80\x02K\x01K\x02a.",
        b"\x80\x02h\x05.",
        b"\x80\x02(K\x01",
        b"\x80\x02}(K\x00u.",
        b"\x80\x02cnumpy\nndarray\n.",
        b"\x80\x02X\xff\xff\xff\x7fabc.",
        b"c\n.",
        b"\x80\x02K\x01K\x01R.",
        b"\x80\x02}(K\x01\x85K\x01u.",
    ],
)
def test_damaged(tmp_path: Path, steps: bytes) -> None:
    path = tmp_path / "bad.pkl"
    path.write_bytes(steps)
    if b"r\xff" in steps:
        assert read_pickle(path) == []
        return
    with pytest.raises(InputError, match="is no pickle of plain values"):
        read_pickle(path)


@settings(deadline=None)  # other processes share the machine
@given(st.data())
def test_any_damage_is_told(data: st.DataObject) -> None:
    whole = bytearray(pickle.dumps([np.arange(3), {"a": [1, (2.0, "x")]}, np.array([[1], None], object)], 2))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    with contextlib.suppress(ValueError):
        plain_value(io.BytesIO(bytes(whole[:cut] if data.draw(st.booleans()) else whole)))


def test_a_damaged_escape_warns_of_nothing() -> None:
    with pytest.raises(ValueError, match="no plain value"):
        plain_value(io.BytesIO(b"cnumpy\\umath\narray\n."))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_pickle(tmp_path / "none.pkl")
    with pytest.raises(InputError, match="cannot be read"):
        read_object_npy(tmp_path / "none.npy")
    for content in (b"", b"text", b"\x93NUMPY\x01\x00v\x00{"):
        (tmp_path / "bad.npy").write_bytes(content)
        with pytest.raises(InputError, match="cannot be read as an array"):
            read_object_npy(tmp_path / "bad.npy")


@pytest.mark.skipif(not DATA.is_dir(), reason="the published files are not beside the project")
def test_published_files() -> None:
    truth = read_object_npy(DATA / "corridor" / "ground_truth_new.npy")
    assert truth.shape == (111, 2) and truth[1].tolist() == [1, [0, 1, 2, 3]]
    for name, images in (("roxford5k", 4993), ("rparis6k", 6322)):
        content = read_pickle(DATA / "truth" / f"gnd_{name}.pkl")
        assert len(content["imlist"]) == images and len(content["gnd"]) == len(content["qimlist"]) == 70
        assert set(content["gnd"][0]) == {"bbx", "easy", "hard", "junk"}
