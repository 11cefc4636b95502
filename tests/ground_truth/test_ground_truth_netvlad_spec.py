"""Datasets as NetVLAD describes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from dejavlad.errors import InputError
from dejavlad.ground_truth import (
    parse_truth,
    read_netvlad_spec,
)
from dejavlad.photo import (
    Photo,
    PhotoList,
    paths_below,
    write_names,
)


def cells(*names: Any) -> np.ndarray[Any, Any]:
    array = np.empty((len(names), 1), object)
    array[:, 0] = names
    return array


def fields(**changed: Any) -> dict[str, Any]:
    """As MATLAB writes it: whole numbers as small as they go."""
    whole = {
        "whichSet": "test",
        "dbImageFns": cells("000/b.jpg", "000/a.jpg", "001/ä.jpg"),
        "utmDb": np.array([[0.0, 0, 100], [0, 25, 0]]),
        "qImageFns": cells("q 1.jpg", "q2.jpg"),
        "utmQ": np.array([[0, 500], [0, 500]], np.int32),
        "numImages": np.uint16(77),
        "posDistThr": np.uint8(25),
        "posDistSqThr": np.uint16(1),
        "nonTrivPosDistSqThr": np.uint8(100),
    }
    return {name: value for name, value in {**whole, **changed}.items() if value is not None}


def spec(path: Path, **changed: Any) -> Path:
    scipy.io.savemat(path, {"dbStruct": fields(**changed), "other": 1})
    return path


def test_names_and_positions_in_the_files_order(tmp_path: Path) -> None:
    content = read_netvlad_spec(spec(tmp_path / "tiny.mat"))
    assert (content.name, content.part) == ("tiny", "test")
    assert content.database == ("000/b.jpg", "000/a.jpg", "001/ä.jpg")
    assert content.queries == ("q 1.jpg", "q2.jpg")
    assert content.truth.database.tolist() == [[0, 0], [0, 25], [100, 0]]
    assert content.truth.queries.dtype == np.float64 and content.truth.queries.tolist() == [
        [0, 0],
        [500, 500],
    ]
    assert (content.truth.radius, content.truth.radius**2, content.nontrivial) == (25.0, 625.0, 10.0)
    assert content.database_times is None and content.query_times is None
    assert [rows.tolist() for rows in content.truth.right()] == [[0, 1], []]


def test_time_stamps_and_fields_that_may_lack(tmp_path: Path) -> None:
    content = read_netvlad_spec(
        spec(
            tmp_path / "tm.mat",
            dbTimeStamp=np.array([[200912, 200912, 201407]], np.int32),
            qTimeStamp=np.array([[200912, 201407]], np.int32),
            whichSet=None,
            nonTrivPosDistSqThr=None,
        )
    )
    assert content.database_times is not None and content.database_times.tolist() == [200912, 200912, 201407]
    assert content.query_times is not None and content.query_times.dtype == np.float64
    assert (content.part, content.nontrivial) == ("", None)


def test_names_as_rows_of_characters_or_in_cells_of_their_own(tmp_path: Path) -> None:
    """As SciPy writes lists of strings, and what it read before."""
    names = ["000/b.jpg", "000/longer name.jpg", "001/c.jpg"]
    for i, given in enumerate((names, np.array(names), cells(*(cells(name) for name in names)))):
        content = read_netvlad_spec(
            spec(tmp_path / f"{i}.mat", dbImageFns=given, qImageFns=["q.jpg", "r.jpg"])
        )
        assert (content.database, content.queries) == (tuple(names), ("q.jpg", "r.jpg"))


def test_what_may_lack_may_be_empty_and_times_a_column(tmp_path: Path) -> None:
    empty = np.zeros((0, 0))
    content = read_netvlad_spec(
        spec(tmp_path / "empty.mat", nonTrivPosDistSqThr=empty, dbTimeStamp=empty, qTimeStamp=empty)
    )
    assert (content.nontrivial, content.database_times, content.query_times) == (None, None, None)
    content = read_netvlad_spec(
        spec(
            tmp_path / "column.mat",
            qTimeStamp=np.array([[200912], [201407]]),
            posDistThr=None,
            posDistSqThr=49.0,
        )
    )
    assert content.query_times is not None and content.query_times.tolist() == [200912, 201407]
    assert content.truth.radius == 7.0


def test_as_truth_of_lists(tmp_path: Path) -> None:
    path = spec(tmp_path / "tiny.mat")
    content = read_netvlad_spec(path)
    database, queries = (
        PhotoList(Photo(name, Path(name)) for name in part) for part in (content.database, content.queries)
    )
    assert [r.tolist() for r in parse_truth(str(path), database, queries).positives] == [[0, 1], []]
    assert [r.tolist() for r in parse_truth(f"{path}:100", database, queries).positives] == [[0, 1, 2], []]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"utmDb": None}, r"dbStruct has no field utmDb \(it has whichSet, dbImageFns"),
        ({"utmDb": np.zeros((3, 2))}, r"utmDb should be numbers \[2, 3\].*it is float64 \[3, 2\]"),
        ({"utmQ": np.zeros((2, 3))}, r"utmQ should be numbers \[2, 2\]"),
        ({"utmQ": np.array([[0, np.nan], [0, 0]])}, "1 of 2 positions of the queries are not finite"),
        ({"dbImageFns": np.zeros((3, 1))}, "dbImageFns should be a cell array of names"),
        ({"dbImageFns": cells("a", "  ", "c")}, "dbImageFns: entry 2 is no name"),
        ({"qImageFns": np.empty((0, 0), object)}, "qImageFns is empty"),
        ({"posDistThr": -1.0}, "the radius is 0 metres or more"),
        ({"posDistThr": np.array([1.0, 2.0])}, r"posDistThr should be numbers \[1, 1\]"),
        ({"posDistThr": "far"}, "posDistThr should be numbers"),
        ({"nonTrivPosDistSqThr": -4.0}, "nonTrivPosDistSqThr is 0 or more"),
        ({"qTimeStamp": np.zeros((1, 3))}, r"qTimeStamp should be numbers \[1, 2\]"),
    ],
)
def test_bad_fields(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=rf"bad.mat' is no dataset of NetVLAD: {message}"):
        read_netvlad_spec(spec(tmp_path / "bad.mat", **changed))


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no dataset .*none.mat"):
        read_netvlad_spec(tmp_path / "none.mat")
    path = tmp_path / "bad.mat"
    for content in (b"", b"not a mat file", bytes(4000)):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"bad.mat' is no .mat file of version 5 to 7.3"):
            read_netvlad_spec(path)
    scipy.io.savemat(path, {"net": 1, "more": "x"})
    with pytest.raises(InputError, match="should hold one struct called dbStruct; it holds net, more"):
        read_netvlad_spec(path)
    scipy.io.savemat(path, {"dbStruct": 1})
    with pytest.raises(InputError, match="should hold one struct called dbStruct"):
        read_netvlad_spec(path)


def test_damaged_files_are_told(tmp_path: Path) -> None:
    whole = spec(tmp_path / "whole.mat").read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "bad.mat"
    for _ in range(200):
        damaged = bytearray(whole[: rng.integers(130, len(whole))] if rng.random() < 0.3 else whole)
        for at in rng.integers(0, len(damaged), 3):
            damaged[at] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            read_netvlad_spec(path)
        except InputError as error:
            assert "bad.mat" in str(error) and "\n" not in str(error)


def test_version_73(tmp_path: Path) -> None:
    import h5py

    path = tmp_path / "new.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        struct = file.create_group("dbStruct")
        struct.attrs["MATLAB_class"] = np.bytes_("struct")

        def matrix(group: Any, name: str, kind: str, value: np.ndarray[Any, Any]) -> Any:
            made = group.create_dataset(name, data=value)
            made.attrs["MATLAB_class"] = np.bytes_(kind)
            return made

        for field, names in (("dbImageFns", ["b.jpg", "a.jpg"]), ("qImageFns", ["q.jpg"])):
            chars = [[[ord(c)] for c in name] for name in names]
            refs = [
                matrix(file, f"#refs#/{field}{i}", "char", np.array(codes, np.uint16)).ref
                for i, codes in enumerate(chars)
            ]
            cell = struct.create_dataset(field, (1, len(refs)), h5py.ref_dtype)
            cell[0] = refs
            cell.attrs["MATLAB_class"] = np.bytes_("cell")
        matrix(struct, "utmDb", "double", np.array([[0.0, 0], [0, 25]]))  # turned, as MATLAB writes HDF5
        matrix(struct, "utmQ", "double", np.array([[0.0, 1]]))
        matrix(struct, "posDistThr", "double", np.array([[25.0]]))
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + path.read_bytes()[128:])
    content = read_netvlad_spec(path)
    assert (content.database, content.queries) == (("b.jpg", "a.jpg"), ("q.jpg",))
    assert content.truth.database.tolist() == [[0, 0], [0, 25]] and content.truth.queries.tolist() == [[0, 1]]


def test_paths_below_a_folder(tmp_path: Path) -> None:
    names = ("b.jpg", "x/a.jpg")
    assert paths_below(names) == (["b.jpg", "x/a.jpg"], 0)
    assert paths_below(names, prefix="./in\\side/") == (["./in/side/b.jpg", "./in/side/x/a.jpg"], 0)
    (tmp_path / "in" / "x").mkdir(parents=True)
    (tmp_path / "in" / "b.jpg").touch()
    with pytest.raises(InputError, match=r"1 of 2 photos are not in .*: 'in/x/a.jpg'; .*--prefix"):
        paths_below(names, tmp_path, prefix="in")
    (tmp_path / "in" / "x" / "a.png").touch()
    assert paths_below(names, tmp_path, prefix="in") == (["in/b.jpg", "in/x/a.png"], 1)


def test_names_are_written_in_their_order(tmp_path: Path) -> None:
    path = write_names(["b 10.jpg", "a.jpg", "b 2.jpg"], tmp_path / "new" / "list.txt")
    assert path.read_bytes() == b"b 10.jpg\na.jpg\nb 2.jpg\n"
    with pytest.raises(InputError, match="holds a line break"):
        write_names(["a\nb"], path)
    assert path.read_bytes().startswith(b"b 10")
