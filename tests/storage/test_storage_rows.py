"""Rows in a raw file: read here and there, from the file that was opened, and only where they are whole."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from dejavlad.errors import StoreError
from dejavlad.storage import MappedRows, RowFile
from dejavlad.storage import rows as row_files


@pytest.mark.parametrize("header", [0, 24])
@pytest.mark.parametrize("few", [0, 1024])
def test_some_rows_are_those_of_the_file_that_was_opened(
    header: int, few: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_files, "FEW", few)
    rows = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32)
    path = tmp_path / "rows.bin"
    path.write_bytes(bytes(header) + rows.tobytes())
    mapped = MappedRows(RowFile(path, 7, "again", header=header), 50, None)
    if os.name == "posix":
        path.rename(tmp_path / "older.bin")
        path.write_bytes(bytes(header + rows.nbytes))
    for chosen in ([], [49], [3, 3, 0, 20]):
        taken = mapped.take(np.array(chosen, np.int64))
        assert taken.dtype == np.float32 and taken.shape == (len(chosen), 7)
        np.testing.assert_array_equal(taken, rows[chosen])


@pytest.mark.skipif(not hasattr(os, "preadv"), reason="needs preadv")
def test_a_file_cut_short_while_it_is_open_is_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.bin"
    path.write_bytes(bytes(400))
    mapped = MappedRows(RowFile(path, 10, "run it again"), 10, None)
    os.truncate(path, 300)
    with pytest.raises(StoreError, match=r"row 9 is cut short.*run it again"):
        mapped.take(np.array([0, 9]))
    number, descriptors = mapped._descriptor, Path("/proc/self/fd")
    assert number is not None
    del mapped
    assert not descriptors.exists() or not (descriptors / str(number)).exists()
