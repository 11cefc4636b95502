"""Raw descriptor files, as NetVLAD's ``serialAllFeats`` writes them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dejavlad.cli import main
from dejavlad.errors import InputError, StoreError
from dejavlad.extraction import DescriptorStore, is_bin, read_bin, write_bin
from dejavlad.extraction.bin_file import matlab_order


def rows(n: int = 20, dims: int = 24, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(n, dims)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def test_raw_little_endian_rows_photo_by_photo(tmp_path: Path) -> None:
    path = write_bin(DescriptorStore.from_arrays(rows()), tmp_path / "new" / "feats.bin")
    assert path.read_bytes() == rows().astype("<f4").tobytes()
    assert [p.name for p in path.parent.iterdir()] == ["feats.bin"]


@pytest.mark.parametrize(("n", "dims"), [(1, 8), (2, 3), (20, 24), (300, 4096), (7, 16384)])
def test_dimensions_are_found_out(n: int, dims: int, tmp_path: Path) -> None:
    path = write_bin(DescriptorStore.from_arrays(rows(n, dims)), tmp_path / "feats.bin")
    np.testing.assert_array_equal(read_bin(path).rows, rows(n, dims))


def test_dimensions_told(tmp_path: Path) -> None:
    path = write_bin(DescriptorStore.from_arrays(3 * rows(6, 8)), tmp_path / "feats.bin")
    with pytest.raises(StoreError, match=r"not hold rows of unit length.*feats\.bin:4096"):
        read_bin(path)
    assert is_bin(f"{path}:8") and read_bin(f"{path}:8").rows.shape == (6, 8)
    assert read_bin(f"{path}:16").rows.shape == (3, 16)
    with pytest.raises(StoreError, match="48 numbers, which are no rows of 7"):
        read_bin(f"{path}:7")


def test_what_is_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there are no descriptors"):
        read_bin(tmp_path / "none.bin")
    for content in (b"", b"12345"):
        (tmp_path / "bad.bin").write_bytes(content)
        with pytest.raises(StoreError, match="no float32 descriptors"):
            read_bin(tmp_path / "bad.bin")
    assert not is_bin("feats.npy") and not is_bin("feats.bin:x") and is_bin("C:/feats.bin")


def test_matlab_order() -> None:
    ours = np.arange(12, dtype=np.float32).reshape(1, 12)  # K=3, D=4: entry k*4 + d
    matlab = matlab_order(ours, 3)
    assert matlab[0].tolist() == [k * 4 + d for d in range(4) for k in range(3)]


def test_clusters_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="24 numbers are not of 5 clusters"):
        write_bin(DescriptorStore.from_arrays(rows()), tmp_path / "feats.bin", clusters=5)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_extract_writes_and_evaluate_reads_them(
    street: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = ("squeezenet1_1-netvlad", "--weights", "random:0", "--resize", "64x64")
    assert main(["extract", *model, str(street / "database"), "--out", str(tmp_path / "db")]) == 0
    kept = str(tmp_path / "db.model")
    for part in ("database", "queries"):
        words = ["extract", kept, str(street / part), "--out", str(tmp_path / f"{part}.desc")]
        assert main([*words, "--bin", str(tmp_path / f"{part}.bin")]) == 0
    store = DescriptorStore.open(tmp_path / "database.desc")
    np.testing.assert_array_equal(read_bin(tmp_path / "database.bin").rows, store.rows)
    words = ["extract", kept, str(street / "database"), "--out", str(tmp_path / "database.desc")]
    assert main([*words, "--bin", str(tmp_path / "m.bin"), "--order", "matlab"]) == 0
    np.testing.assert_array_equal(read_bin(tmp_path / "m.bin").rows, matlab_order(store.float32(), 64))
    assert main([*words, "--order", "matlab"]) == 1
    assert "--bin" in capfd.readouterr().err
    options = ["--database", str(tmp_path / "database.bin"), "--queries", f"{tmp_path / 'queries.bin'}:24576"]
    assert main(["evaluate", *options, "--truth", "frames:0", "--out", str(tmp_path / "out"), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["n_queries"] == 12
